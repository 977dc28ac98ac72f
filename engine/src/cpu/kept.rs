//! The keys and values that an answer keeps of each layer, and one token's attention to them.
//!
//! Keys lie as the matrices of `product.rs` do: sixteen tokens beside each other, number after number, so that sixteen
//! scores are made at once and nothing is summed across registers. Sums run in a fixed order, whoever else is drawn.
#![allow(clippy::inline_always)]

use super::product::LANES;
use super::wide::{self, Registers};

/// Chains of sums that run beside each other, for a processor that begins a sum before the last one is done.
const CHAINS: usize = 4;

/// Turned keys and values of the tokens read so far.
#[derive(Default)]
pub(crate) struct Kept {
    tokens: usize,
    /// `[tokens / 16, width, 16]`; what fills the last block up counts for nothing.
    keys: Vec<f32>,
    /// `[tokens, width]`.
    values: Vec<f32>,
}

impl Kept {
    /// With room for so many tokens of `width` numbers.
    pub fn with_room(tokens: usize, width: usize) -> Self {
        let room = |tokens: usize| Vec::with_capacity(tokens * width);
        Self { tokens: 0, keys: room(tokens.next_multiple_of(LANES)), values: room(tokens) }
    }

    /// The token behind the first `tokens`, in place of what was kept of it and of later ones.
    pub fn put(&mut self, tokens: usize, key: &[f32], value: &[f32]) {
        debug_assert!(tokens <= self.tokens, "tokens follow each other");
        self.tokens = tokens;
        self.values.truncate(tokens * value.len());
        let (block, lane) = (self.tokens / LANES * LANES * key.len(), self.tokens % LANES);
        if lane == 0 {
            self.keys.resize(block + LANES * key.len(), 0.0);
        }
        for (lanes, number) in self.keys[block..].chunks_exact_mut(LANES).zip(key) {
            lanes[lane] = *number;
        }
        self.values.extend_from_slice(value);
        self.tokens += 1;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.tokens = 0;
        self.keys.clear();
        self.values.clear();
    }
}

/// Attention of the newest token, by heads of `size` numbers: `out` from its turned `query`, both as wide as a key.
/// `scores` is room.
#[inline(always)]
pub(super) fn attend<R: Registers>(size: usize, query: &[f32], kept: &Kept, scores: &mut Vec<f32>, out: &mut [f32]) {
    let width = query.len();
    let scale = 1.0 / (size as f32).sqrt();
    scores.resize(kept.tokens.next_multiple_of(LANES), 0.0);
    for (head, (query, out)) in query.chunks_exact(size).zip(out.chunks_exact_mut(size)).enumerate() {
        for (scores, block) in scores.chunks_exact_mut(LANES).zip(kept.keys.chunks_exact(LANES * width)) {
            let sums = score::<R>(query, &block[head * size * LANES..][..size * LANES]);
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = sum * scale;
            }
        }
        let scores = &mut scores[..kept.tokens];
        let share = 1.0 / wide::exp_all(scores);
        let mut first = head * size;
        let (wide, rest) = out.as_chunks_mut::<{ CHAINS * LANES }>();
        let put = |out: &mut [f32], sums: &[f32]| out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * share);
        for out in wide {
            put(out, mix::<CHAINS, R>(scores, &kept.values[first..], width).as_flattened());
            first += CHAINS * LANES;
        }
        let (whole, rest) = rest.as_chunks_mut::<LANES>();
        for out in whole {
            put(out, mix::<1, R>(scores, &kept.values[first..], width).as_flattened());
            first += LANES;
        }
        if !rest.is_empty() {
            let out = rest;
            put(out, &mix_few::<R>(scores, &kept.values[first..], width, out.len()));
        }
    }
}

/// Products of one head's `query` with the keys of sixteen tokens.
#[inline(always)]
fn score<R: Registers>(query: &[f32], keys: &[f32]) -> [f32; LANES] {
    let mut chains = [R::zero(); CHAINS];
    let (keys, _) = keys.as_chunks::<LANES>();
    let ((fours, rest), (keys, rest_keys)) = (query.as_chunks::<CHAINS>(), keys.as_chunks::<CHAINS>());
    for (query, keys) in fours.iter().zip(keys) {
        for ((chain, query), key) in chains.iter_mut().zip(query).zip(keys) {
            *chain = R::add_scaled(*chain, *query, key);
        }
    }
    for (query, key) in rest.iter().zip(rest_keys) {
        chains[0] = R::add_scaled(chains[0], *query, key);
    }
    let [mut a, b, c, d] = chains.map(R::numbers);
    for i in 0..LANES {
        a[i] = (a[i] + b[i]) + (c[i] + d[i]);
    }
    a
}

/// `Σ score · value` over the tokens, for the first numbers of `values`' rows.
#[inline(always)]
fn mix<const WIDE: usize, R: Registers>(scores: &[f32], values: &[f32], width: usize) -> [[f32; LANES]; WIDE] {
    let mut sums = [R::zero(); WIDE];
    for (score, row) in scores.iter().zip(values.chunks(width)) {
        let (values, _) = row.as_chunks::<LANES>();
        let values: &[[f32; LANES]; WIDE] = values.first_chunk().expect("a row holds them");
        for (sums, values) in sums.iter_mut().zip(values) {
            *sums = R::add_scaled(*sums, *score, values);
        }
    }
    sums.map(R::numbers)
}

/// The same for fewer numbers than a register holds.
#[inline(always)]
fn mix_few<R: Registers>(scores: &[f32], values: &[f32], width: usize, count: usize) -> [f32; LANES] {
    let mut sums = R::zero();
    for (score, row) in scores.iter().zip(values.chunks(width)) {
        let mut values = [0.0; LANES];
        values[..count].copy_from_slice(&row[..count]);
        sums = R::add_scaled(sums, *score, &values);
    }
    R::numbers(sums)
}
