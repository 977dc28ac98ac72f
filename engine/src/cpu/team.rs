//! Threads that take pieces of each product, and of attention, while tokens are drawn.
//!
//! One core reads weights slower than the machine's memory gives them: for few rows that is what a product costs, and
//! for many rows each weight should be read once for all of them, by one core. So a product is a list of pieces. Every
//! thread begins with a share that is the same each time, which its own cache may still hold, and then takes what others
//! have not begun. Nobody waits for a thread that has lost its core over a product: a piece that is late is done again
//! by the thread that draws. Whoever does it, a piece is the same to the bit (`product.rs` says why; streams attend each
//! on its own).
//!
//! The products of a token follow each other within microseconds, so a helper looks for the next one for a moment before
//! it sleeps.

mod job;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::decode::Decoder;
use super::product::{LANES, Panels};
use super::wide;
pub(super) use job::Span;
use job::{Job, LOOKS, Room, Task, lock};

/// How long a helper looks for another job before it sleeps; the longest time between two of a token.
const AWAKE: Duration = Duration::from_micros(200);

/// The fewest multiply-adds that are worth sharing: some microseconds of them.
const SHARED: usize = 1 << 15;

/// Pieces of a thread's share: the more there are, the more evenly they end, and the more often a thread asks for one.
const PIECES: usize = 4;

/// The most weights of a piece, unless a tile has more: some microseconds of reading them.
const WEIGHTS: usize = 1 << 15;

/// How many times as long as for one of its own the drawing thread waits for others' pieces before it does them again.
const PATIENCE: u32 = 2;

/// As long as this at least.
const SHORTEST: Duration = Duration::from_micros(20);

/// A helper has nothing to begin.
const IDLE: u8 = 0;
/// So it sleeps.
const ASLEEP: u8 = 1;
/// A job waits for its helper.
const ASKED: u8 = 2;
/// The thread has ended, or is to.
const CLOSED: u8 = 3;

/// Threads that help; none by default.
#[derive(Default)]
pub struct Team {
    helpers: Vec<Helper>,
    /// The last job, unless a helper still holds it.
    spare: Option<Arc<Job>>,
    /// Pieces of the job at hand that others have taken.
    missing: Vec<bool>,
    room: Room,
    /// Pieces that helpers have done.
    #[cfg(test)]
    fetched: usize,
}

struct Helper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Whose turn it is.
    state: AtomicU8,
    job: Mutex<Option<Arc<Job>>>,
}

impl Team {
    /// So many threads more than the one that draws.
    pub fn new(helpers: usize) -> std::io::Result<Self> {
        let helpers = (1..=helpers).map(Helper::start).collect::<std::io::Result<_>>()?;
        Ok(Self { helpers, ..Self::default() })
    }

    /// `out = rows · matrix'`.
    pub(super) fn multiply(&mut self, matrix: &Arc<Panels>, rows: &[f32], out: &mut [f32]) {
        let (panels, threads) = (matrix.panels(), self.helpers.len() + 1);
        if threads == 1 || panels * LANES * rows.len() < SHARED {
            wide::lay_out(rows, matrix.inputs(), &mut self.room.blocks);
            return wide::multiply(matrix.part(0..panels), &self.room.blocks, out);
        }
        // Panels of a piece: whole tiles of those that few rows go through at once.
        let tile = if rows.len() == matrix.inputs() { 4 } else { 2 };
        let most = WEIGHTS / (LANES * matrix.inputs());
        let most = most.clamp(1, panels.div_ceil(PIECES * threads)).next_multiple_of(tile);
        let mut job = self.spare.take().unwrap_or_default();
        let own = Arc::get_mut(&mut job).expect("nobody holds a spare one");
        own.task = Task::Multiply(matrix.clone());
        own.divide(rows, (1..=panels.div_ceil(most)).map(|piece| panels.min(piece * most)), threads);
        self.run(job, out);
    }

    /// [`Attention::attend`] of all spans in a layer.
    pub(super) fn attend(
        &mut self,
        (decoder, layer): (&Arc<Decoder>, usize),
        qkv: &[f32],
        spans: &mut Vec<Span>,
        out: &mut [f32],
    ) {
        let width = decoder.shape().width as usize;
        let cost: usize = spans.iter().map(|span| 2 * width * span.rows * (span.position + span.rows)).sum();
        let threads = self.helpers.len() + 1;
        if threads == 1 || spans.len() == 1 || cost < SHARED {
            let (mut qkv, mut out) = (qkv, out);
            for Span { position, rows, kept } in spans {
                let own = (qkv.split_off(..*rows * 3 * width), out.split_off_mut(..*rows * width));
                let (Some(qkv), Some(out)) = own else { unreachable!("there is one of each row") };
                self.room.attention.attend((decoder, layer), *position, qkv, kept, out);
            }
            return;
        }
        let mut job = self.spare.take().unwrap_or_default();
        let own = Arc::get_mut(&mut job).expect("nobody holds a spare one");
        own.task = Task::Attend(decoder.clone(), layer);
        let ends = spans.iter().scan(0, |end, span| {
            *end += span.rows;
            Some(*end)
        });
        own.divide(qkv, ends, threads);
        own.spans.extend(spans.drain(..).map(Mutex::new));
        *spans = self.run(job, out);
    }

    /// All of a job, with whoever helps; what it was of, back.
    fn run(&mut self, mut job: Arc<Job>, out: &mut [f32]) -> Vec<Span> {
        self.helpers.iter().for_each(|helper| helper.ask(&job));
        self.missing.clear();
        self.missing.resize(job.ends.len(), true);
        let mut own = 0;
        job.lay_out(&mut self.room);
        let begun = Instant::now();
        for piece in job.pieces(0) {
            job.put(piece, &mut self.room, out);
            (self.missing[piece], own) = (false, own + 1);
        }
        let now = Instant::now();
        let until = now + SHORTEST.max(PATIENCE * (now - begun) / own.max(1));
        for piece in (0..self.missing.len()).filter(|piece| self.missing[*piece]) {
            if job.done[piece].by(until) || !job.put(piece, &mut self.room, out) {
                job.fetch(piece, out);
                #[cfg(test)]
                (self.fetched += 1);
            }
        }
        self.helpers.iter().for_each(Helper::forget);
        let spans = job.spans.iter().map(|span| std::mem::take(&mut *lock(span))).collect();
        // Weights that nobody answers with any more are let go of at once. Who lost its core over them keeps them until
        // it has one.
        for _ in 0..LOOKS {
            if let Some(own) = Arc::get_mut(&mut job) {
                own.task = Task::Nothing;
                own.spans.clear();
                self.spare = Some(job);
                break;
            }
            std::hint::spin_loop();
        }
        spans
    }
}

impl Helper {
    /// The so-manyth thread, which counts from the one that draws.
    fn start(at: usize) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("answers-help".to_owned()).spawn(move || own.help(at))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Help with a job, unless the thread has ended.
    fn ask(&self, job: &Arc<Job>) {
        *lock(&self.shared.job) = Some(job.clone());
        let unless_closed = |state| (state != CLOSED).then_some(ASKED);
        if self.shared.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, unless_closed) == Ok(ASLEEP) {
            self.wake();
        }
    }

    /// A job that has not been begun is over.
    fn forget(&self) {
        self.shared.change(ASKED, IDLE);
        *lock(&self.shared.job) = None;
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
    /// Whether it was so.
    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A helper's life.
    fn help(&self, at: usize) {
        /// Nobody asks a thread that has failed.
        struct Closes<'a>(&'a Shared);
        impl Drop for Closes<'_> {
            fn drop(&mut self) {
                self.0.state.store(CLOSED, Ordering::Release);
            }
        }
        let _closes = Closes(self);
        let mut room = Room::default();
        let mut idle = Instant::now();
        loop {
            match self.state.load(Ordering::Acquire) {
                ASKED if self.change(ASKED, IDLE) => {
                    if let Some(job) = { lock(&self.job).take() } {
                        let mut pieces = job.pieces(at).peekable();
                        if pieces.peek().is_some() {
                            job.lay_out(&mut room);
                        }
                        pieces.for_each(|piece| job.help(piece, &mut room));
                    }
                    idle = Instant::now();
                }
                CLOSED => return,
                IDLE if idle.elapsed() < AWAKE => {
                    // Only looks, so that the other thread keeps what it writes to.
                    let nothing = || self.state.load(Ordering::Acquire) == IDLE;
                    (0..LOOKS).take_while(|_| nothing()).for_each(|_| std::hint::spin_loop());
                }
                ASLEEP => {
                    std::thread::park();
                    idle = Instant::now();
                }
                // Unless something was asked since.
                _ => _ = self.change(IDLE, ASLEEP),
            }
        }
    }
}

#[cfg(test)]
mod tests;
