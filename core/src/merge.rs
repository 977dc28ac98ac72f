//! The outer step: from updates of a round to the next version of the weights, with the same bits on every machine.
//!
//! A worker sends Δᵢ = θ_v − θᵢ, the weights that it began with less those that it ended with (a *pseudo-gradient*).
//! The coordinator takes their sum g, each times its share ([`shares`]), and one Nesterov step (DiLoCo, arXiv
//! 2311.08105, in the form of PyTorch's SGD):
//!
//! ```text
//! m ← µ m + g          θ ← θ − rate × (g + µ m)
//! ```
//!
//! The step is not applied as such: it is encoded, together with what earlier encodings lacked, and the *decoded*
//! bytes are added, by the function that workers use too ([`apply`]). So all hold bit-identical weights, whatever the
//! codec. All arithmetic is `f32` in the order of the inputs; callers sort them and write the order down.
//!
//! With momentum 0 (a round with one update) the same formula leaves m = g: the speed gathered before is forgotten,
//! and the next round with momentum begins as if g had been the first. Keeping the old m aside instead would let a
//! direction return that is many versions old, at up to 1/(1 − µ) times its size.
//!
//! Not here: which updates join a round, and whether an update is plausible (the hub's and the scorer's work).

use std::ops::Range;

use crate::codec::{self, Codec, CodecError};
use crate::ids::Digest;

mod shares;
#[cfg(test)]
mod tests;

pub use shares::{Claim, shares};

/// How far the outer step goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OuterRule {
    /// The outer rate; 1 with momentum 0 is the plain mean of the trained weights.
    pub lr: f32,
    /// Nesterov's momentum µ, from 0 to below 1.
    pub momentum: f32,
}

impl OuterRule {
    /// The weighted mean of the trained weights, as one update alone deserves.
    pub const MEAN: Self = Self { lr: 1.0, momentum: 0.0 };
    /// The values of DiLoCo (arXiv 2311.08105), for rounds of several updates.
    pub const DILOCO: Self = Self { lr: 0.7, momentum: 0.9 };
}

/// What the coordinator carries from version to version beside the weights; both as long as they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OuterState {
    /// m of the outer step.
    pub momentum: Vec<f32>,
    /// What the broadcasts so far lack (the codec's error feedback).
    pub residual: Vec<f32>,
}

impl OuterState {
    /// The state of version 0 of a model with `params` parameters.
    pub fn new(params: usize) -> Self {
        Self { momentum: vec![0.0; params], residual: vec![0.0; params] }
    }
}

/// One update of a round.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The factor with which it enters the sum; see [`shares`].
    pub share: f32,
    /// The pseudo-gradient: base less trained weights. Finite.
    pub delta: &'a [f32],
}

/// Numbers handled at a time, a multiple of [`Codec::BLOCK`]; with a handful of inputs all of it stays in the cache.
const PART: usize = 4096;

/// A magnitude that no number of a step has unless the model is lost; a larger or undefined one counts as zero, so
/// that what is broadcast can always be decoded. 2^16.
const BEYOND_REASON: f32 = 65_536.0;

/// What rounding may add to the sum of many shares.
const SLACK: f32 = 1e-3;

/// Makes the next version of `weights` and returns the bytes that turn the old version into it.
///
/// Panics if there is no input, if a length differs from that of the weights, or if the shares are negative, or their
/// sum is not positive or above 1: mistakes of the caller, after which no version would be right.
pub fn outer_step(
    weights: &mut [f32],
    state: &mut OuterState,
    inputs: &[Input<'_>],
    rule: OuterRule,
    codec: Codec,
) -> Vec<u8> {
    let n = weights.len();
    assert!(inputs.iter().all(|input| input.delta.len() == n), "an update of another model");
    check_shares(&inputs.iter().map(|input| input.share).collect::<Vec<_>>());
    let state = (state.momentum.as_mut_slice(), state.residual.as_mut_slice());
    outer_slice(weights, state, rule, codec, |step, part| {
        for input in inputs {
            for (sum, value) in step.iter_mut().zip(&input.delta[part.clone()]) {
                *sum += input.share * value;
            }
        }
    })
}

/// Panics unless a round's shares are sound: none negative, their sum positive and at most 1.
pub fn check_shares(shares: &[f32]) {
    let total: f32 = shares.iter().sum();
    let sound = total > 0.0 && total <= 1.0 + SLACK && shares.iter().all(|share| *share >= 0.0);
    assert!(sound, "the inputs of a round need shares with a positive sum, at most 1");
}

/// [`outer_step`] for a slice of the numbers, so that several may be made at once: their bytes, one after the other,
/// are those of the whole if all slices but the last are multiples of [`Codec::BLOCK`] long.
///
/// `add` adds the inputs' numbers, each times its share, the first input first, to zeros that stand for a part of the
/// slice; parts are asked for in order, each a multiple of [`Codec::BLOCK`] long but for the last.
pub fn outer_slice(
    weights: &mut [f32],
    (momentum, residual): (&mut [f32], &mut [f32]),
    rule: OuterRule,
    codec: Codec,
    mut add: impl FnMut(&mut [f32], Range<usize>),
) -> Vec<u8> {
    let n = weights.len();
    assert!(momentum.len() == n && residual.len() == n, "an outer state of another model");
    let mut bytes = Vec::with_capacity(codec.max_len(n));
    let mut step = [0.0; PART];
    for start in (0..n).step_by(PART) {
        let part = start..n.min(start + PART);
        let step = &mut step[..part.len()];
        step.fill(0.0);
        add(step, part.clone());
        nesterov(step, &mut momentum[part.clone()], rule);
        let written = bytes.len();
        codec.encode_onto(&mut bytes, step, &mut residual[part.clone()]);
        apply(&mut weights[part], codec, &bytes[written..]).expect("steps are finite, and so decode");
    }
    bytes
}

/// Turns a version into the next with the bytes of [`outer_step`]; on an error the weights are as before.
pub fn apply(weights: &mut [f32], codec: Codec, bytes: &[u8]) -> Result<(), CodecError> {
    codec.decode_add(bytes, weights)
}

/// Turns a mean pseudo-gradient into what is to be added to the weights.
fn nesterov(step: &mut [f32], momentum: &mut [f32], rule: OuterRule) {
    for (step, momentum) in step.iter_mut().zip(momentum) {
        let gradient = reasonable(*step);
        *momentum = reasonable(rule.momentum * *momentum + gradient);
        *step = reasonable(-(rule.lr * (gradient + rule.momentum * *momentum)));
    }
}

fn reasonable(x: f32) -> f32 {
    if x.abs() < BEYOND_REASON { x } else { 0.0 }
}

/// The weight of an update that began `staleness` versions before the newest: (1 + s)^(−1/2).
pub fn staleness_weight(staleness: u64) -> f32 {
    1.0 / (1.0 + staleness as f32).sqrt()
}

/// The Euclidean norm, in `f64` and with the same bits everywhere.
pub fn norm(values: &[f32]) -> f64 {
    squares(values).sqrt()
}

/// The sum of the squares, likewise.
pub fn squares(values: &[f32]) -> f64 {
    const LANES: usize = 8;
    let (parts, rest) = values.as_chunks::<LANES>();
    // Independent sums: the order of additions is fixed, and they fit vector registers.
    let mut sums = [0.0; LANES];
    for part in parts {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*value) * f64::from(*value);
    }
    sums.iter().sum()
}

/// The digest of a version: BLAKE3 of its weights as little-endian `f32`s.
pub fn weights_digest(weights: &[f32]) -> Digest {
    Digest::of(&codec::le_bytes(weights))
}

/// Weights as the bytes that [`weights_digest`] digests.
pub fn weights_to_bytes(weights: &[f32]) -> Vec<u8> {
    Codec::F32.encode(weights)
}
