//! What the threads of a team are at together: a list of pieces, and what each has come to.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::cpu::attention::Attention;
use crate::cpu::decode::Decoder;
use crate::cpu::kept::Kept;
use crate::cpu::product::{Blocks, LANES, Panels};
use crate::cpu::wide;

/// Looks in a row at whether something has changed: a microsecond of them or some.
pub(super) const LOOKS: u32 = 30;

/// Rows of a stream that follow each other.
#[derive(Default)]
pub(in crate::cpu) struct Span {
    /// Tokens before the first of them.
    pub position: usize,
    /// How many.
    pub rows: usize,
    /// Of one layer.
    pub kept: Kept,
}

/// A thread's own, kept from one job to the next.
#[derive(Default)]
pub(super) struct Room {
    pub blocks: Blocks,
    pub attention: Attention,
}

/// What all threads of a team are at. Only what they have done of it changes.
#[derive(Default)]
pub(super) struct Job {
    pub task: Task,
    /// What a product, or attention, is made of.
    rows: Vec<f32>,
    /// Whose rows these are, where it matters; each a piece.
    pub spans: Vec<Mutex<Span>>,
    /// Where each piece ends: panels of a product, rows of attention.
    pub ends: Vec<usize>,
    /// Of each thread: the next piece of its share that nobody has taken, and where the share ends.
    shares: Vec<(AtomicUsize, usize)>,
    /// Of each piece, once a helper has taken it.
    pub done: Vec<Piece>,
}

#[derive(Default)]
pub(super) enum Task {
    #[default]
    Nothing,
    Multiply(Arc<Panels>),
    Attend(Arc<Decoder>, usize),
}

#[derive(Default)]
pub(super) struct Piece {
    done: AtomicBool,
    /// Locked by the helper that does it until it is done.
    pub out: Mutex<Vec<f32>>,
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// Into pieces that end there.
    pub fn divide(&mut self, rows: &[f32], ends: impl Iterator<Item = usize>, threads: usize) {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.ends.clear();
        self.ends.extend(ends);
        let pieces = self.ends.len();
        self.shares.clear();
        self.shares.extend(
            (0..threads)
                .map(|at| (AtomicUsize::new((pieces * at).div_ceil(threads)), (pieces * (at + 1)).div_ceil(threads))),
        );
        self.done.resize_with(pieces.max(self.done.len()), Piece::default);
        self.done.iter_mut().for_each(|piece| *piece.done.get_mut() = false);
    }

    /// Takes pieces for a thread as long as there are any: of its own share, then of the others'.
    pub fn pieces(&self, thread: usize) -> impl Iterator<Item = usize> {
        let shares = self.shares[thread..].iter().chain(&self.shares[..thread]);
        shares.flat_map(|(next, end)| {
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|piece| piece < end))
        })
    }

    fn range(&self, piece: usize) -> Range<usize> {
        let first = if piece == 0 { 0 } else { self.ends[piece - 1] };
        first..self.ends[piece]
    }

    /// What a thread does before its first piece.
    pub fn lay_out(&self, room: &mut Room) {
        if let Task::Multiply(matrix) = &self.task {
            wide::lay_out(&self.rows, matrix.inputs(), &mut room.blocks);
        }
    }

    /// Does a piece, unless it is done already, and puts it where it belongs among all. Whether it did.
    pub fn put(&self, piece: usize, room: &mut Room, out: &mut [f32]) -> bool {
        let range = self.range(piece);
        match &self.task {
            Task::Nothing => true,
            Task::Multiply(matrix) => {
                wide::multiply(matrix.part(range), &room.blocks, out);
                true
            }
            Task::Attend(decoder, layer) => {
                let width = decoder.shape().width as usize;
                let out = &mut out[range.start * width..range.end * width];
                self.attend(piece, (decoder, *layer), room, out)
            }
        }
    }

    /// Does a piece for the thread that draws.
    pub fn help(&self, piece: usize, room: &mut Room) {
        let range = self.range(piece);
        let own = &self.done[piece];
        let mut out = lock(&own.out);
        // What lies there is written over: it is not worth being cleared.
        let fit = |out: &mut Vec<f32>, numbers: usize| out.resize(numbers.max(out.len()), 0.0);
        match &self.task {
            Task::Nothing => {}
            Task::Multiply(matrix) => {
                let part = matrix.part(range).apart();
                let numbers = room.blocks.rows() * part.outputs();
                fit(&mut out, numbers);
                wide::multiply(part, &room.blocks, &mut out[..numbers]);
                drop(out);
                own.done.store(true, Ordering::Release);
            }
            Task::Attend(decoder, layer) => {
                let numbers = range.len() * decoder.shape().width as usize;
                fit(&mut out, numbers);
                self.attend(piece, (decoder, *layer), room, &mut out[..numbers]);
            }
        }
    }

    /// A span's attention, unless it is done already. Whether it did it.
    fn attend(&self, piece: usize, of: (&Decoder, usize), room: &mut Room, out: &mut [f32]) -> bool {
        let mut span = lock(&self.spans[piece]);
        let Range { start, end } = self.range(piece);
        let own = &self.done[piece].done;
        let missing = !own.load(Ordering::Acquire);
        if missing {
            let row = self.rows.len() / self.ends[self.ends.len() - 1];
            let Span { position, kept, .. } = &mut *span;
            room.attention.attend(of, *position, &self.rows[start * row..end * row], kept, out);
            own.store(true, Ordering::Release);
        }
        missing
    }

    /// Puts where it belongs what a helper has done.
    pub fn fetch(&self, piece: usize, out: &mut [f32]) {
        let range = self.range(piece);
        let done = lock(&self.done[piece].out);
        match &self.task {
            Task::Nothing => {}
            Task::Multiply(matrix) => {
                let (first, width) = (range.start * LANES, matrix.part(range).outputs());
                for (out, done) in out.chunks_exact_mut(matrix.outputs()).zip(done.chunks_exact(width)) {
                    out[first..first + width].copy_from_slice(done);
                }
            }
            Task::Attend(decoder, _) => {
                let width = decoder.shape().width as usize;
                let out = &mut out[range.start * width..range.end * width];
                out.copy_from_slice(&done[..out.len()]);
            }
        }
    }
}

impl Piece {
    /// Whether a helper is done with it by then.
    pub fn by(&self, until: Instant) -> bool {
        loop {
            for _ in 0..LOOKS {
                if self.done.load(Ordering::Acquire) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if Instant::now() > until {
                return false;
            }
        }
    }
}
