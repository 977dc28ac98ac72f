//! Bit-identity of coordinator and workers, the rules of the step, digests.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests; and bits are meant where numbers are compared")]

use super::*;
use crate::codec::Reader;
use crate::rng::Rng;

const ALL: [Codec; 3] = [Codec::F32, Codec::Bf16, Codec::Int4];
const N: usize = 2 * PART + 77;

fn normal(n: usize, scale: f64, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| (rng.normal() * scale) as f32).collect()
}

fn inputs<'a>(deltas: &'a [Vec<f32>], weights: &[f32]) -> Vec<Input<'a>> {
    let total: f32 = weights.iter().sum();
    deltas.iter().zip(weights).map(|(delta, weight)| Input { share: weight / total, delta }).collect()
}

#[test]
fn coordinator_and_workers_hold_the_same_bits() {
    for codec in ALL {
        let mut coordinator = normal(N, 0.05, 1);
        let mut worker = coordinator.clone();
        let mut state = OuterState::new(N);
        for round in 0..25 {
            let deltas: Vec<_> = (0..=round % 4).map(|i| normal(N, 0.01, 100 * round + i)).collect();
            let rule = if deltas.len() == 1 { OuterRule::MEAN } else { OuterRule::DILOCO };
            let inputs = inputs(&deltas, &[1.0, staleness_weight(1), 1.0, staleness_weight(2)]);
            let bytes = outer_step(&mut coordinator, &mut state, &inputs, rule, codec);
            assert_eq!(bytes.len(), codec.max_len(N));
            apply(&mut worker, codec, &bytes).unwrap();
            assert_eq!(weights_digest(&coordinator), weights_digest(&worker), "{codec:?}, round {round}");
        }
    }
}

#[test]
fn slices_of_encoded_updates_give_the_bits_of_the_whole() {
    let n = 2 * Codec::BLOCK + 4321;
    let shares = [0.5, 0.3, 0.2];
    for codec in Codec::ALL {
        let encoded: Vec<_> = (0..3).map(|seed| codec.encode(&normal(n, 0.01, seed))).collect();
        let deltas: Vec<_> = encoded.iter().map(|bytes| codec.decode(bytes, n).unwrap()).collect();
        let start = || (normal(n, 0.05, 9), OuterState { momentum: normal(n, 0.01, 7), residual: normal(n, 1e-3, 8) });
        let (mut weights, mut state) = start();
        let round: Vec<_> = shares.iter().zip(&deltas).map(|(share, delta)| Input { share: *share, delta }).collect();
        let bytes = outer_step(&mut weights, &mut state, &round, OuterRule::DILOCO, codec);

        let (mut again, mut other) = start();
        let mut sliced = Vec::new();
        for from in [0, Codec::BLOCK] {
            let to = if from == 0 { Codec::BLOCK } else { n };
            let mut readers: Vec<_> = encoded.iter().map(|bytes| Reader::new(codec, bytes)).collect();
            for reader in &mut readers {
                reader.skip(from);
            }
            let carried = (&mut other.momentum[from..to], &mut other.residual[from..to]);
            sliced.extend(outer_slice(&mut again[from..to], carried, OuterRule::DILOCO, codec, |step, _| {
                shares.iter().zip(&mut readers).for_each(|(share, reader)| reader.add(*share, step));
            }));
        }
        assert!(bytes == sliced && weights == again && state == other, "{codec:?}");
    }
}

#[test]
fn the_same_inputs_give_the_same_version_again() {
    let deltas = [normal(N, 0.01, 1), normal(N, 0.01, 2)];
    let run = || {
        let (mut weights, mut state) = (normal(N, 0.05, 3), OuterState::new(N));
        for _ in 0..3 {
            outer_step(&mut weights, &mut state, &inputs(&deltas, &[1.0, 0.5]), OuterRule::DILOCO, Codec::Int4);
        }
        (weights_digest(&weights), state)
    };
    assert_eq!(run(), run());
}

#[test]
fn one_update_alone_becomes_the_weights() {
    for (codec, tolerance) in [(Codec::F32, 1e-8), (Codec::Bf16, 5e-5), (Codec::Int4, 4e-3)] {
        let base = normal(N, 0.05, 1);
        let trained = normal(N, 0.05, 1).iter().zip(normal(N, 0.003, 2)).map(|(w, d)| w + d).collect::<Vec<_>>();
        let delta: Vec<f32> = base.iter().zip(&trained).map(|(b, t)| b - t).collect();
        let (mut weights, mut state) = (base, OuterState::new(N));
        outer_step(&mut weights, &mut state, &[Input { share: 1.0, delta: &delta }], OuterRule::MEAN, codec);
        let worst = weights.iter().zip(&trained).map(|(w, t)| (w - t).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{codec:?} {worst}");
        // The rest is owed, not lost.
        let owed = weights.iter().zip(&state.residual).zip(&trained).map(|((w, r), t)| (w + r - t).abs());
        assert!(owed.fold(0.0, f32::max) < 1e-7, "{codec:?}");
        assert_eq!(state.momentum, delta);
    }
}

#[test]
fn it_is_the_nesterov_step_of_diloco() {
    let (mut weights, mut state) = (vec![1.0; 3], OuterState::new(3));
    let rule = OuterRule { lr: 0.5, momentum: 0.5 };
    let (first, second) = (vec![1.0, 0.0, -2.0], vec![3.0, 0.0, -2.0]);
    // Weights 1 and 3: mean = (1 + 3·3) / 4 = 2.5 and so on; powers of two keep it exact.
    let round = [Input { share: 0.25, delta: &first }, Input { share: 0.75, delta: &second }];
    outer_step(&mut weights, &mut state, &round, rule, Codec::F32);
    assert_eq!(state.momentum, [2.5, 0.0, -2.0]);
    assert_eq!(weights, [1.0 - 0.5 * (2.5 + 1.25), 1.0, 1.0 + 0.5 * 3.0]);
    outer_step(&mut weights, &mut state, &round, rule, Codec::F32);
    assert_eq!(state.momentum, [3.75, 0.0, -3.0]);
    assert_eq!(weights, [-0.875 - 0.5 * (2.5 + 1.875), 1.0, 2.5 + 0.5 * 3.5]);
}

#[test]
fn a_round_of_one_forgets_the_speed() {
    let delta = vec![0.5; 4];
    let round = [Input { share: 1.0, delta: &delta }];
    let mut state = OuterState { momentum: vec![100.0; 4], residual: vec![0.0; 4] };
    let mut weights = vec![0.0; 4];
    outer_step(&mut weights, &mut state, &round, OuterRule::MEAN, Codec::F32);
    assert_eq!((weights, state.momentum), (vec![-0.5; 4], delta));
}

#[test]
fn four_bits_follow_the_uncompressed_run() {
    let run = |codec| {
        let (mut weights, mut state) = (normal(N, 0.05, 1), OuterState::new(N));
        for round in 0..40 {
            let deltas = [normal(N, 0.01, 2 * round), normal(N, 0.01, 2 * round + 1)];
            let rule = OuterRule { lr: 0.7, momentum: 0.0 };
            outer_step(&mut weights, &mut state, &inputs(&deltas, &[1.0, 1.0]), rule, codec);
        }
        weights
    };
    let (exact, coarse) = (run(Codec::F32), run(Codec::Int4));
    let difference: Vec<f32> = exact.iter().zip(&coarse).map(|(a, b)| a - b).collect();
    let moved: Vec<f32> = exact.iter().zip(normal(N, 0.05, 1)).map(|(a, b)| a - b).collect();
    // One round's noise is 11 % of one round's step; with feedback it does not add up over 40 rounds.
    assert!(norm(&difference) < 0.03 * norm(&moved), "{} {}", norm(&difference), norm(&moved));
}

#[test]
fn numbers_beyond_reason_move_nothing_and_break_nothing() {
    let delta = vec![1e38, -1e38, 0.25];
    for codec in ALL {
        let (mut weights, mut state) = (vec![1.0; 3], OuterState::new(3));
        state.momentum = vec![f32::INFINITY, f32::NAN, 0.0];
        let bytes =
            outer_step(&mut weights, &mut state, &[Input { share: 1.0, delta: &delta }], OuterRule::DILOCO, codec);
        assert!(codec.check(&bytes, 3).is_ok());
        assert_eq!(weights[..2], [1.0, 1.0]);
        assert!(weights[2] < 1.0);
        assert!(state.momentum.iter().chain(&state.residual).all(|x| x.is_finite()));
    }
}

#[test]
#[should_panic(expected = "another model")]
fn an_update_of_another_length_is_a_bug() {
    let round = [Input { share: 1.0, delta: &[1.0] }];
    outer_step(&mut [0.0; 2], &mut OuterState::new(2), &round, OuterRule::MEAN, Codec::F32);
}

#[test]
#[should_panic(expected = "positive sum")]
fn a_round_without_updates_is_a_bug() {
    outer_step(&mut [0.0; 2], &mut OuterState::new(2), &[], OuterRule::MEAN, Codec::F32);
}

#[test]
fn refused_bytes_leave_the_weights() {
    let mut weights = vec![1.0; 2];
    assert!(apply(&mut weights, Codec::F32, &weights_to_bytes(&[1.0, f32::NAN])).is_err());
    assert!(apply(&mut weights, Codec::Bf16, &[0; 5]).is_err());
    assert_eq!(weights, [1.0, 1.0]);
}

#[test]
fn late_updates_weigh_less() {
    assert_eq!(staleness_weight(0), 1.0);
    assert_eq!(staleness_weight(3), 0.5);
    assert!((staleness_weight(1) - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-7);
}

#[test]
fn norms_are_euclidean() {
    assert_eq!(norm(&[]), 0.0);
    assert_eq!(norm(&[3.0, -4.0]), 5.0);
    assert_eq!(norm(&[2.0; 25]), 10.0);
    assert!(norm(&[f32::NAN]).is_nan());
    assert!(norm(&[f32::MAX; 20]).is_finite());
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    for n in [0, 1, PART, N] {
        let weights = normal(n, 1.0, 9);
        let bytes = weights_to_bytes(&weights);
        assert_eq!(weights_digest(&weights), Digest::of(&bytes));
        assert_eq!(Codec::F32.decode(&bytes, n), Ok(weights));
    }
}
