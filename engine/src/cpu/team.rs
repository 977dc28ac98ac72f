//! Threads that take a part of each product while few tokens are drawn.
//!
//! One core reads weights slower than the machine's memory gives them: for few rows that is what a product costs. The
//! products of a token follow each other within microseconds, so a helper looks for the next one for a moment before
//! it sleeps. Nobody waits for a helper that has not begun: its part is taken back. What a helper does is the same to
//! the bit (`product.rs` says why).

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, yield_now};
use std::time::{Duration, Instant};

use super::product::{LANES, Panels, Room};
use super::wide;

/// How long a helper looks for another part before it sleeps; the longest time between two products of an answer.
const AWAKE: Duration = Duration::from_micros(200);

/// The fewest multiply-adds of a product that are worth sharing: some microseconds of them.
const SHARED: usize = 1 << 15;

/// Looks in a row at whose turn it is: a microsecond of them or some.
const LOOKS: u32 = 30;

/// Looks at a helper that is at work before another thread may have the core.
const PATIENCE: u32 = 10_000;

/// A helper waits for a part.
const IDLE: u8 = 0;
/// A part waits for its helper.
const ASKED: u8 = 1;
/// The helper is at it.
const TAKEN: u8 = 2;
/// The part is done.
const DONE: u8 = 3;
/// The thread has ended, or is to.
const CLOSED: u8 = 4;

/// Threads that help; none by default.
#[derive(Default)]
pub struct Team {
    helpers: Vec<Helper>,
}

struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Whose turn it is.
    state: AtomicU8,
    /// Locked by whose turn it is; never waited for.
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    matrix: Option<Arc<Panels>>,
    panels: Range<usize>,
    rows: Vec<f32>,
    room: Room,
    out: Vec<f32>,
}

impl Team {
    /// So many threads more than the one that draws.
    pub fn new(helpers: usize) -> std::io::Result<Self> {
        (0..helpers).map(|_| Helper::start()).collect::<std::io::Result<_>>().map(|helpers| Self { helpers })
    }

    /// `out = rows · matrix'`.
    pub(super) fn multiply(&mut self, matrix: &Arc<Panels>, rows: &[f32], room: &mut Room, out: &mut [f32]) {
        let (panels, count) = (matrix.panels(), rows.len() / matrix.inputs());
        let parts = self.helpers.len() + 1;
        if parts == 1 || panels < parts || panels * LANES * rows.len() < SHARED {
            return wide::multiply(matrix.whole(), rows, room, out);
        }
        let part = |at: usize| panels * at / parts..panels * (at + 1) / parts;
        for (at, helper) in self.helpers.iter().enumerate() {
            helper.ask(matrix, part(at + 1), rows);
        }
        let outputs = matrix.outputs();
        wide::multiply(matrix.part(part(0)), rows, room, out);
        for (at, helper) in self.helpers.iter().enumerate() {
            let part = part(at + 1);
            let first = part.start * LANES;
            if let Some(work) = helper.wait() {
                let width = work.out.len() / count;
                for (out, done) in out.chunks_exact_mut(outputs).zip(work.out.chunks_exact(width)) {
                    out[first..first + width].copy_from_slice(done);
                }
            } else {
                wide::multiply(matrix.part(part), rows, room, out);
            }
            // Weights that nobody answers with any more are let go of.
            helper.shared.work().matrix = None;
        }
    }
}

impl Helper {
    fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("answers-help".to_owned()).spawn(move || own.help())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn ask(&self, matrix: &Arc<Panels>, panels: Range<usize>, rows: &[f32]) {
        if self.shared.state.load(Ordering::Acquire) != IDLE {
            return;
        }
        let mut work = self.shared.work();
        work.matrix = Some(matrix.clone());
        work.panels = panels;
        work.rows.clear();
        work.rows.extend_from_slice(rows);
        drop(work);
        if self.shared.change(IDLE, ASKED) {
            self.wake();
        }
    }

    /// What was asked for, once it is done; nothing where the helper has not begun.
    fn wait(&self) -> Option<MutexGuard<'_, Work>> {
        if self.shared.change(ASKED, IDLE) {
            return None;
        }
        let mut looks = 0;
        while self.shared.state.load(Ordering::Acquire) == TAKEN {
            looks += 1;
            if looks < PATIENCE { std::hint::spin_loop() } else { yield_now() }
        }
        self.shared.change(DONE, IDLE).then(|| self.shared.work())
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.state.store(CLOSED, Ordering::Release);
        self.wake();
        // One that failed has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was so.
    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A helper's life.
    fn help(&self) {
        /// Nobody waits for a thread that has failed.
        struct Closes<'a>(&'a Shared);
        impl Drop for Closes<'_> {
            fn drop(&mut self) {
                self.0.state.store(CLOSED, Ordering::Release);
            }
        }
        let _closes = Closes(self);
        let mut idle = Instant::now();
        loop {
            match self.state.load(Ordering::Acquire) {
                ASKED if self.change(ASKED, TAKEN) => {
                    self.work().multiply();
                    self.change(TAKEN, DONE);
                    idle = Instant::now();
                }
                CLOSED => return,
                _ if idle.elapsed() < AWAKE => {
                    // Only looks, so that the other thread keeps what it writes to.
                    let nothing = || self.state.load(Ordering::Acquire) == IDLE;
                    (0..LOOKS).take_while(|_| nothing()).for_each(|_| std::hint::spin_loop());
                }
                _ => {
                    // Returns at once if something was asked since.
                    std::thread::park();
                    idle = Instant::now();
                }
            }
        }
    }
}

impl Work {
    fn multiply(&mut self) {
        let Some(matrix) = &self.matrix else { return };
        let part = matrix.part(self.panels.clone()).apart();
        self.out.resize(self.rows.len() / matrix.inputs() * part.outputs(), 0.0);
        wide::multiply(part, &self.rows, &mut self.room, &mut self.out);
    }
}

#[cfg(test)]
mod tests;
