//! The outer step on every core: each makes a slice of the next version, straight from the updates' bytes.
//!
//! Which core makes what changes no bit: numbers are independent of each other, and for each the updates are added in
//! their order. Nothing is decoded as a whole, so that a round of many updates takes no more memory than their bytes.

use std::sync::Arc;

use hydra_core::codec::{self, Codec, Reader};
use hydra_core::ids::Digest;
use hydra_core::merge::{self, OuterRule, OuterState};

/// A slice shorter than this is not worth a thread.
const LEAST: usize = 64 * Codec::BLOCK;

/// An update of the round, checked when it came: its share, how it is encoded, and its bytes.
pub type Update = (f32, Codec, Arc<[u8]>);

/// [`merge::outer_step`] on all cores: the next version's weights, and the bytes that lead to it.
pub fn step(
    weights: &[f32],
    state: &mut OuterState,
    updates: &[Update],
    rule: OuterRule,
    codec: Codec,
) -> (Vec<f32>, Vec<u8>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    slices(weights, state, updates, (rule, codec), cores)
}

/// [`merge::weights_digest`] on all cores.
pub fn digest(weights: &[f32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update_rayon(&codec::le_bytes(weights));
    Digest(*hasher.finalize().as_bytes())
}

fn slices(
    old: &[f32],
    state: &mut OuterState,
    updates: &[Update],
    (rule, codec): (OuterRule, Codec),
    count: usize,
) -> (Vec<f32>, Vec<u8>) {
    merge::check_shares(&updates.iter().map(|(share, _, _)| *share).collect::<Vec<_>>());
    // Memory that each core fills is new to it alone.
    let mut weights = vec![0.0; old.len()];
    let length = old.len().div_ceil(count.max(1)).max(LEAST).next_multiple_of(Codec::BLOCK);
    let pieces = weights.chunks_mut(length).zip(old.chunks(length));
    let states = state.momentum.chunks_mut(length).zip(state.residual.chunks_mut(length));
    let parts = pieces.zip(states);
    let bytes = std::thread::scope(|scope| {
        let start = |(index, (piece, carried)): (usize, (_, _))| {
            let (weights, old): (&mut [f32], &[f32]) = piece;
            let mut readers: Vec<_> =
                updates.iter().map(|(share, codec, bytes)| (*share, Reader::new(*codec, bytes))).collect();
            scope.spawn(move || {
                weights.copy_from_slice(old);
                for (_, reader) in &mut readers {
                    reader.skip(index * length);
                }
                merge::outer_slice(weights, carried, rule, codec, |step, _| {
                    for (share, reader) in &mut readers {
                        reader.add(*share, step);
                    }
                })
            })
        };
        let running: Vec<_> = parts.enumerate().map(start).collect();
        let joined = running.into_iter().map(|thread| thread.join().expect("accepted updates were checked before"));
        joined.collect::<Vec<_>>().concat()
    });
    (weights, bytes)
}

#[cfg(test)]
mod tests {
    use hydra_core::merge::Input;
    use hydra_core::rng::Rng;

    use super::*;

    #[test]
    fn the_number_of_cores_changes_nothing() {
        let n = 3 * LEAST + 777;
        let normal = |seed| {
            let mut rng = Rng::new(seed);
            (0..n).map(|_| 0.01 * rng.normal() as f32).collect::<Vec<_>>()
        };
        let mixed = [(0.5, Codec::Int4), (0.25, Codec::Sparse64), (0.25, Codec::F32)];
        let updates: Vec<Update> = mixed
            .iter()
            .zip(1..)
            .map(|((share, codec), seed)| (*share, *codec, codec.encode(&normal(seed)).into()))
            .collect();
        let decoded: Vec<_> = updates.iter().map(|(_, codec, bytes)| codec.decode(bytes, n).unwrap()).collect();
        let inputs: Vec<_> =
            updates.iter().zip(&decoded).map(|((share, _, _), delta)| Input { share: *share, delta }).collect();
        for codec in [Codec::Int4, Codec::Sparse256] {
            let (mut weights, mut state) = (normal(8), OuterState::new(n));
            let whole = merge::outer_step(&mut weights, &mut state, &inputs, OuterRule::DILOCO, codec);
            for count in [1, 2, 3] {
                let mut other = OuterState::new(n);
                let (again, bytes) = slices(&normal(8), &mut other, &updates, (OuterRule::DILOCO, codec), count);
                assert!(bytes == whole && again == weights && other == state, "{codec:?} on {count}");
            }
            assert_eq!(digest(&weights), merge::weights_digest(&weights));
        }
    }
}
