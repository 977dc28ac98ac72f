//! A model at rest: weights on a device, for evaluation. Answers are drawn by `cpu/decode.rs`.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use hydra_core::model::Shape;
use tch::Tensor;

use crate::graph::{Graph, indexes};
use crate::trainer::check_tokens;
use crate::{Device, EngineError, Result};

/// Tokens that an evaluation takes through the network at once.
const PIECE_TOKENS: usize = 2048;
/// So far from 1 a factor on the logits may be advised at most: further off, the step is not to be trusted.
const SCALE_STEP: f64 = 0.2;

/// Weights loaded on a device. Not for several threads at once: give each its own [`Model::share`].
pub struct Model {
    pub(crate) shape: Shape,
    pub(crate) device: Device,
    pub(crate) graph: Graph,
}

/// How well a model predicts a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Sum over the scored tokens of −ln p(token).
    pub nats_sum: f64,
    /// Sum over them of the entropy of what is guessed, in nats: what a model loses that is as sure as it is right.
    pub entropy_sum: f64,
    /// Sum over them of the variance of ln p in what is guessed.
    pub spread_sum: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Where in the text the scored tokens lie, in order, for counting their bytes.
    pub scored: Vec<Range<usize>>,
}

impl Evaluation {
    /// Mean loss in nats a token.
    pub fn loss(&self) -> f64 {
        self.nats_sum / self.tokens.max(1) as f64
    }

    /// The factor on all logits with which the loss would be about the least: below 1 where the model is too sure of
    /// itself. A step of Newton's from the factor 1, so it wants a second look where it is far from that.
    pub fn best_scale(&self) -> f64 {
        let step = (self.nats_sum - self.entropy_sum) / self.spread_sum;
        // A model that knows nothing guesses evenly, and no factor changes that.
        if step.is_finite() { 1.0 - step.clamp(-SCALE_STEP, SCALE_STEP) } else { 1.0 }
    }

    /// Bits per byte, given how many bytes the scored tokens spell.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.nats_sum / (std::f64::consts::LN_2 * bytes.max(1) as f64)
    }
}

impl Model {
    /// Copies flat weights to the device.
    pub fn load(shape: Shape, weights: &[f32], device: Device) -> Result<Self> {
        shape.check().map_err(|e| EngineError::input(e.to_string()))?;
        if weights.len() != shape.params() {
            let text = format!("{} weights where the model has {}", weights.len(), shape.params());
            return Err(EngineError::input(text));
        }
        let flat = Tensor::f_from_slice(weights)?.f_to_device(device.torch)?;
        Ok(Self { shape, device, graph: Graph::new(shape, &flat, false)? })
    }

    /// The same weights, not copied, for another thread.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { shape: self.shape, device: self.device, graph: self.graph.share() }
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Scores `tokens` in windows of the model's context that do not overlap, the last one shorter; if there are more
    /// than `most`, only so many, spread evenly. The first token of a window is given, not scored.
    pub fn evaluate(&self, tokens: &[u16], most: usize) -> Result<Evaluation> {
        self.evaluate_until(tokens, most, &AtomicBool::new(false))
    }

    /// The same, given up soon after `stop` is set: [`EngineError::Stopped`].
    pub fn evaluate_until(&self, tokens: &[u16], most: usize, stop: &AtomicBool) -> Result<Evaluation> {
        check_tokens(tokens, self.shape.vocab)?;
        if tokens.len() < 2 {
            return Err(EngineError::input("a text of fewer than two tokens cannot be scored"));
        }
        let context = self.shape.context as usize;
        let windows = spread(tokens.len(), context, most.max(1));
        let pieces = pieces(&windows, (PIECE_TOKENS / context).max(1));
        let threads = self.device.threads().min(pieces.len());
        let sums = std::thread::scope(|scope| {
            let start = |index: usize| {
                // Pieces are dealt out in turn; sums are taken in the pieces' order.
                let (model, pieces) = (self.share(), &pieces);
                scope.spawn(move || {
                    tch::set_num_threads(1);
                    let own = pieces.iter().enumerate().skip(index).step_by(threads);
                    let mut scores = Vec::new();
                    for (at, piece) in own {
                        if stop.load(Ordering::Relaxed) {
                            return Err(EngineError::Stopped);
                        }
                        scores.push((at, model.score(tokens, piece)?));
                    }
                    Ok(scores)
                })
            };
            let running: Vec<_> = (0..threads).map(start).collect();
            let mut sums = vec![[0.0; 3]; pieces.len()];
            for thread in running {
                let scores = thread.join().map_err(|_| EngineError::Libtorch("a scoring thread ended".into()))??;
                for (at, sum) in scores {
                    sums[at] = sum;
                }
            }
            Ok::<_, EngineError>(sums)
        })?;
        let scored: Vec<_> = windows.iter().map(|w| w.start + 1..w.end).collect();
        let count = scored.iter().map(|w| w.len() as u64).sum();
        let [nats_sum, entropy_sum, spread_sum] = [0, 1, 2].map(|at| sums.iter().map(|sum| sum[at]).sum());
        Ok(Evaluation { nats_sum, entropy_sum, spread_sum, tokens: count, scored })
    }

    /// Mean loss, in nats a token, of `length` tokens each after one of `starts`, which is given, not scored. At most
    /// the model's context.
    pub fn losses(&self, tokens: &[u16], starts: &[usize], length: usize) -> Result<Vec<f64>> {
        check_tokens(tokens, self.shape.vocab)?;
        if length == 0 || length > self.shape.context as usize {
            return Err(EngineError::input("a window is empty or longer than the model's context"));
        }
        if starts.iter().any(|start| start.checked_add(length).is_none_or(|last| last >= tokens.len())) {
            return Err(EngineError::input("a window reaches beyond the end of its text"));
        }
        tch::set_num_threads(self.device.threads() as i32);
        let mut losses = Vec::with_capacity(starts.len());
        for part in starts.chunks((PIECE_TOKENS / length).max(1)) {
            let windows: Vec<_> = part.iter().map(|&start| start..start + length + 1).collect();
            losses.extend(self.nats(tokens, &windows)?.into_iter().map(|nats| nats / length as f64));
        }
        Ok(losses)
    }

    /// Sums over windows of one length of nats, entropy, and variance of ln p.
    fn score(&self, tokens: &[u16], windows: &[Range<usize>]) -> Result<[f64; 3]> {
        let _guard = tch::no_grad_guard();
        let (stream, targets) = self.read(tokens, windows)?;
        let mut sums = [0.0; 3];
        self.graph.sureness(&stream, &targets)?.f_to_device(tch::Device::Cpu)?.f_copy_data(&mut sums, 3)?;
        Ok(sums)
    }

    /// Sums of nats, one each of windows of one length.
    fn nats(&self, tokens: &[u16], windows: &[Range<usize>]) -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let (stream, targets) = self.read(tokens, windows)?;
        let scored = windows.first().map_or(0, ExactSizeIterator::len) as i64 - 1;
        let sum = |window| {
            let start = window as i64 * scored;
            let (sum, _) =
                self.graph.loss(&stream.f_narrow(0, start, scored)?, &targets.f_narrow(0, start, scored)?, None)?;
            Ok(sum.f_double_value(&[0])?)
        };
        (0..windows.len()).map(sum).collect()
    }

    /// The normed stream of windows of one length, a row a token, and the token that comes after each.
    fn read(&self, tokens: &[u16], windows: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        let length = windows.first().map_or(0, ExactSizeIterator::len);
        let rows = indexes(windows.iter().map(|w| &tokens[w.clone()]), length, self.device.torch)?;
        let scored = length as i64 - 1;
        let targets = rows.f_narrow(1, 1, scored)?.f_reshape([-1])?;
        Ok((self.graph.stream(&rows.f_narrow(1, 0, scored)?)?, targets))
    }

    /// Logits after each of `tokens`, at most a context of them: `[tokens, vocab]`, row after row.
    pub fn logits(&self, tokens: &[u16]) -> Result<Vec<f32>> {
        check_tokens(tokens, self.shape.vocab)?;
        if tokens.is_empty() || tokens.len() > self.shape.context as usize {
            return Err(EngineError::input("logits want from one token to a context of them"));
        }
        let _guard = tch::no_grad_guard();
        let row = indexes(std::iter::once(tokens), tokens.len(), self.device.torch)?;
        let logits = self.graph.logits(&self.graph.stream(&row)?)?.f_to_device(tch::Device::Cpu)?;
        let mut numbers = vec![0.0; tokens.len() * self.shape.vocab as usize];
        let length = numbers.len();
        logits.f_contiguous()?.f_copy_data(&mut numbers, length)?;
        Ok(numbers)
    }
}

/// At most `most` windows of `context + 1` tokens (given and scored ones) over a text, each beginning at the last
/// one's final token.
fn spread(tokens: usize, context: usize, most: usize) -> Vec<Range<usize>> {
    let all = (tokens - 1).div_ceil(context);
    let window = |index: usize| {
        let start = index * context;
        start..(start + context + 1).min(tokens)
    };
    if all <= most { (0..all).map(window).collect() } else { (0..most).map(|i| window(i * all / most)).collect() }
}

/// Runs of at most `size` windows of one length.
fn pieces(windows: &[Range<usize>], size: usize) -> Vec<&[Range<usize>]> {
    windows.chunk_by(|a, b| a.len() == b.len()).flat_map(|run| run.chunks(size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_score_every_token_but_the_first_once() {
        let mut seen = [0; 30];
        for window in spread(30, 8, 100) {
            seen[window.start + 1..window.end].iter_mut().for_each(|n| *n += 1);
        }
        assert_eq!(seen[0], 0);
        assert!(seen[1..].iter().all(|&n| n == 1));
    }

    #[test]
    fn fewer_windows_are_spread_evenly() {
        assert_eq!(spread(8 * 10 + 1, 8, 5), [0..9, 16..25, 32..41, 48..57, 64..73]);
        assert_eq!(spread(9 + 8, 8, 5), [0..9, 8..17]);
        assert_eq!(spread(2, 8, 5).first(), Some(&(0..2)));
    }
}
