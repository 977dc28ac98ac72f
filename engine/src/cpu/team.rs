//! Threads that take a part of each product, and of attention, while tokens are drawn.
//!
//! One core reads weights slower than the machine's memory gives them: for few rows that is what a product costs, and
//! for many rows each weight should be read once for all of them, by one core. The products of a token follow each
//! other within microseconds, so a helper looks for the next one for a moment before it sleeps. Nobody waits for a
//! helper that has not begun: its part is taken back. What a helper does is the same to the bit (`product.rs` says
//! why; streams attend each on its own).

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, yield_now};
use std::time::{Duration, Instant};

use super::attention::{Attention, Row};
use super::decode::Decoder;
use super::kept::Kept;
use super::product::{LANES, Panels, Room};
use super::wide;

/// How long a helper looks for another part before it sleeps; the longest time between two parts of a token.
const AWAKE: Duration = Duration::from_micros(200);

/// The fewest multiply-adds that are worth sharing: some microseconds of them.
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
    /// Locked by whose turn it is; waited for at most while a helper that was told to end ends.
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    task: Task,
    input: Vec<f32>,
    room: Room,
    rows: Vec<Row>,
    /// Which of all rows these are.
    place: Range<usize>,
    kept: Vec<Kept>,
    attention: Attention,
    out: Vec<f32>,
}

#[derive(Default)]
enum Task {
    #[default]
    Nothing,
    /// Some panels of a matrix with rows.
    Multiply { matrix: Arc<Panels>, panels: Range<usize> },
    /// Some streams' attention.
    Attend { decoder: Arc<Decoder>, layer: usize },
}

impl Team {
    /// So many threads more than the one that draws.
    pub fn new(helpers: usize) -> std::io::Result<Self> {
        (0..helpers).map(|_| Helper::start()).collect::<std::io::Result<_>>().map(|helpers| Self { helpers })
    }

    /// `out = rows · matrix'`.
    pub(super) fn multiply(&mut self, matrix: &Arc<Panels>, rows: &[f32], room: &mut Room, out: &mut [f32]) {
        let panels = matrix.panels();
        let parts = self.helpers.len() + 1;
        if parts == 1 || panels < parts || panels * LANES * rows.len() < SHARED {
            return wide::multiply(matrix.whole(), rows, room, out);
        }
        let part = |at: usize| panels * at / parts..panels * (at + 1) / parts;
        for (at, helper) in self.helpers.iter().enumerate() {
            helper.ask(|work| {
                work.task = Task::Multiply { matrix: matrix.clone(), panels: part(at + 1) };
                work.input.clear();
                work.input.extend_from_slice(rows);
            });
        }
        let outputs = matrix.outputs();
        wide::multiply(matrix.part(part(0)), rows, room, out);
        for (at, helper) in self.helpers.iter().enumerate() {
            let first = part(at + 1).start * LANES;
            let work = helper.wait();
            let width = matrix.part(part(at + 1)).outputs();
            for (out, done) in out.chunks_exact_mut(outputs).zip(work.out.chunks_exact(width)) {
                out[first..first + width].copy_from_slice(done);
            }
        }
    }

    /// [`Attention::attend`] of all rows in a layer. A stream's rows follow each other and are one thread's.
    pub(super) fn attend(
        &mut self,
        (decoder, layer): (&Arc<Decoder>, usize),
        rows: &[Row],
        qkv: &[f32],
        kept: &mut [Kept],
        own: &mut Attention,
        out: &mut [f32],
    ) {
        let width = decoder.shape().width as usize;
        let cost = |row: &Row| 2 * width * (row.position + 1);
        let all: usize = rows.iter().map(cost).sum();
        let mut left = rows.len();
        let mut asked = 0;
        // From the end on, each helper has streams until it has its share; the first stream stays here.
        let share = all / (self.helpers.len() + 1);
        for helper in self.helpers.iter().filter(|_| all >= SHARED) {
            let end = left;
            let mut has = 0;
            while has < share && left > 0 && rows[left - 1].stream > 0 {
                let stream = rows[left - 1].stream;
                let first = rows[..left].partition_point(|row| row.stream < stream);
                has += rows[first..left].iter().map(cost).sum::<usize>();
                left = first;
            }
            if left == end {
                break;
            }
            asked += 1;
            helper.ask(|work| {
                work.task = Task::Attend { decoder: decoder.clone(), layer };
                work.input.clear();
                work.input.extend_from_slice(&qkv[left * 3 * width..end * 3 * width]);
                work.rows.clear();
                work.rows.extend_from_slice(&rows[left..end]);
                work.place = left..end;
                let streams = rows[left].stream..=rows[end - 1].stream;
                work.kept.clear();
                work.kept.extend(kept[streams].iter_mut().map(std::mem::take));
            });
        }
        own.attend((decoder, layer), &rows[..left], &qkv[..left * 3 * width], kept, &mut out[..left * width]);
        for helper in &self.helpers[..asked] {
            let mut work = helper.wait();
            out[work.place.start * width..work.place.end * width].copy_from_slice(&work.out);
            let first = rows[work.place.start].stream;
            kept[first..].iter_mut().zip(work.kept.drain(..)).for_each(|(kept, used)| *kept = used);
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

    /// Something to do for a helper that has nothing, or has ended.
    fn ask(&self, fill: impl FnOnce(&mut Work)) {
        fill(&mut self.shared.work());
        if self.shared.change(IDLE, ASKED) {
            self.wake();
        }
    }

    /// What was asked for, once it is done; done here where the helper has not begun.
    fn wait(&self) -> MutexGuard<'_, Work> {
        let mut looks = 0;
        if !self.shared.change(ASKED, IDLE) {
            while self.shared.state.load(Ordering::Acquire) == TAKEN {
                looks += 1;
                if looks < PATIENCE { std::hint::spin_loop() } else { yield_now() }
            }
        }
        let done = self.shared.change(DONE, IDLE);
        let mut work = self.shared.work();
        if !done {
            work.run();
        }
        // Weights that nobody answers with any more are let go of.
        work.task = Task::Nothing;
        work
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
                    self.work().run();
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
    fn run(&mut self) {
        match &self.task {
            Task::Nothing => {}
            Task::Multiply { matrix, panels } => {
                let part = matrix.part(panels.clone()).apart();
                self.out.resize(self.input.len() / matrix.inputs() * part.outputs(), 0.0);
                wide::multiply(part, &self.input, &mut self.room, &mut self.out);
            }
            Task::Attend { decoder, layer } => {
                self.out.resize(self.input.len() / 3, 0.0);
                let (kept, out) = (&mut self.kept, &mut self.out);
                self.attention.attend((decoder, *layer), &self.rows, &self.input, kept, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
