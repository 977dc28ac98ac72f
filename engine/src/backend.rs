//! What training needs from a processor: load weights, make gradients, step the optimiser.
//!
//! Two implementations: `cpu/` by hand over all cores, `torch.rs` with libtorch's autograd on whatever device.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{EngineError, Result};

/// Windows to train on, `context + 1` tokens each.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub context: usize,
    pub tokens: Vec<u16>,
    /// Looked at before every piece, on a CPU before every layer: a whole step may take minutes.
    pub stop: Arc<AtomicBool>,
}

/// Fails once nobody wants the step any more.
pub(crate) fn wanted(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(EngineError::Stopped) } else { Ok(()) }
}

impl Batch {
    pub fn windows(&self) -> usize {
        self.tokens.len() / (self.context + 1)
    }

    pub fn window(&self, index: usize) -> &[u16] {
        &self.tokens[index * (self.context + 1)..][..=self.context]
    }

    /// Predictions in the batch.
    pub fn targets(&self) -> usize {
        self.windows() * self.context
    }
}

/// A trainer's processor. Weights and moments live inside; the caller owns schedule and data.
pub(crate) trait Backend: Send {
    fn load(&mut self, weights: &[f32]) -> Result<()>;
    fn weights(&self) -> Result<Vec<f32>>;
    /// Makes the gradient of the batch's mean loss; returns its sum of nats.
    fn gradient(&mut self, batch: Batch) -> Result<f64>;
    /// Clips and steps; returns the gradient's norm before clipping. If that is not finite, nothing has changed.
    fn update(&mut self, rate: f32) -> Result<f64>;
    /// A task begins: remembers the optimiser's state, to be restored if it does not finish.
    fn keep_optimizer(&mut self) -> Result<()>;
    fn restore_optimizer(&mut self) -> Result<()>;
    fn reset_optimizer(&mut self) -> Result<()>;
}

/// A test's seam: fails a pass over so many windows as libtorch fails when memory runs out.
pub(crate) type Hurdle = Arc<dyn Fn(usize) -> Result<()> + Send + Sync>;

/// How many windows go through the network at once: fewer after memory ran out, and more again from task to task, as
/// what had the memory may have ended since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtOnce {
    pub most: usize,
    /// Whether memory ran out in the task at hand.
    short: bool,
}

impl AtOnce {
    /// As many as are usual.
    pub fn all() -> Self {
        Self { most: usize::MAX, short: false }
    }

    /// A task begins. Twice as many are tried after one for which there was memory, and not after each: a try that fails
    /// costs a pass.
    pub fn begin(&mut self) {
        if !std::mem::take(&mut self.short) {
            self.most = self.most.saturating_mul(2);
        }
    }
}

/// Runs `pass` over `windows` windows, at most `usual` at a time, and sums its results. When memory runs out, `at_once`
/// is halved, and everything is done anew; with one window at a time the error stands. `pass` is told whether it is the
/// first of its try, and then overwrites what an earlier try left.
pub(crate) fn in_pieces(
    windows: usize,
    usual: usize,
    at_once: &mut AtOnce,
    hurdle: Option<&Hurdle>,
    mut pass: impl FnMut(Range<usize>, bool) -> Result<f64>,
) -> Result<f64> {
    loop {
        let size = at_once.most.min(usual).clamp(1, windows.max(1));
        let mut whole = || {
            let starts = (0..windows).step_by(size);
            starts.map(|start| start..(start + size).min(windows)).try_fold(0.0, |sum, piece| {
                hurdle.map_or(Ok(()), |hurdle| hurdle(piece.len()))?;
                let first = piece.start == 0;
                Ok::<_, EngineError>(sum + pass(piece, first)?)
            })
        };
        match whole() {
            Err(error) if error.is_out_of_memory() && size > 1 => {
                *at_once = AtOnce { most: size / 2, short: true };
                tracing::warn!(%error, windows = at_once.most, "out of memory: trying again with fewer windows at once");
            }
            other => return other,
        }
    }
}
