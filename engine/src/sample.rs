//! Choosing the next token from its logits: pure, and the same for the same seed.

use std::ops::Range;

use hydra_core::rng::Rng;

use crate::cpu::{group_tops, highest};

/// Logits that are looked at together: as many as fill the processor's registers.
const CHUNK: usize = 16;

/// How to choose tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The longest answer, in tokens.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; 1 the model's own distribution; more is wilder.
    pub temperature: f32,
    /// Only so many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// The same seed, model and prompt give the same answer.
    pub seed: u64,
    /// Tokens that may be chosen, such as those that the tokenizer uses.
    pub allowed: Range<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { max_new_tokens: 128, temperature: 0.8, top_k: 50, top_p: 0.95, seed: 0, allowed: 0..u32::MAX }
    }
}

/// Draws tokens one after the other.
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: Rng,
    /// Kept between draws to spare allocations, as is the next.
    candidates: Vec<(f32, u16)>,
    tops: Vec<f32>,
}

impl Sampler {
    pub fn new(sampling: Sampling) -> Self {
        let rng = Rng::new(sampling.seed);
        Self { sampling, rng, candidates: Vec::new(), tops: Vec::new() }
    }

    /// A token for these logits; `None` if none is allowed. Equal logits: the lower number first.
    pub fn draw(&mut self, logits: &[f32]) -> Option<u16> {
        let Sampling { temperature, top_k, top_p, ref allowed, .. } = self.sampling;
        let last = (allowed.end as usize).min(logits.len()).min(1 << 16);
        let first = (allowed.start as usize).min(last);
        let greedy = temperature <= 0.0 || temperature.is_nan() || top_k == 1;
        if greedy {
            // What most of the time goes into here is looking at the whole vocabulary.
            let logits = &logits[first..last];
            let best = highest(logits);
            return logits.iter().position(|logit| *logit >= best).map(|index| (first + index) as u16);
        }
        let least = self.least(&logits[first..last], top_k);
        let candidates = &mut self.candidates;
        candidates.clear();
        for (chunk, place) in logits[first..last].chunks(CHUNK).zip((first..).step_by(CHUNK)) {
            // Most chunks hold none; counted, so that the compiler compares many at once. NaN is none.
            if chunk.iter().filter(|logit| **logit >= least).count() > 0 {
                let tokens = chunk.iter().zip(place..).filter(|(logit, _)| **logit >= least);
                candidates.extend(tokens.map(|(&logit, token)| (logit, token as u16)));
            }
        }
        let likelier = |a: &(f32, u16), b: &(f32, u16)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let best = *candidates.iter().min_by(|a, b| likelier(a, b))?;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        // A fixed order makes the draw a function of the logits alone.
        candidates.sort_unstable_by(likelier);
        for candidate in candidates.iter_mut() {
            candidate.0 = ((candidate.0 - best.0) / temperature).exp();
        }
        let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
        let reach = if top_p > 0.0 && top_p < 1.0 { f64::from(top_p) * total } else { total };
        let mut within = 0.0;
        let count = candidates.iter().position(|c| {
            within += f64::from(c.0);
            within >= reach
        });
        let nucleus = &candidates[..count.map_or(candidates.len(), |last| last + 1)];
        let mut left = self.rng.unit() * within;
        let chosen = nucleus.iter().find(|c| {
            left -= f64::from(c.0);
            left < 0.0
        });
        Some(chosen.or(nucleus.last())?.1)
    }

    /// A bound that the `count` likeliest of these are not below, close to the last of them; negative infinity where all
    /// are wanted.
    ///
    /// As many groups have a top that is not below it, so as many logits are not. Looking through the vocabulary for
    /// tops costs a tenth of putting it in order.
    fn least(&mut self, logits: &[f32], count: usize) -> f32 {
        // Few groups hold two of the likeliest then, and there is not much to put in order among the tops either.
        let groups = count.saturating_mul(4);
        if count == 0 || groups > logits.len() {
            return f32::NEG_INFINITY;
        }
        group_tops(logits, logits.len() / groups, &mut self.tops);
        // There are at least as many as groups were wanted.
        *self.tops.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], count: usize) -> Vec<u16> {
        let mut sampler = Sampler::new(sampling);
        (0..count).map(|_| sampler.draw(logits).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_likeliest_allowed_token() {
        let logits = [0.0, 3.0, 2.0, 9.0];
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(draws(greedy.clone(), &logits, 1), [3]);
        assert_eq!(draws(Sampling { allowed: 0..3, ..greedy.clone() }, &logits, 1), [1]);
        assert_eq!(draws(Sampling { allowed: 2..3, ..greedy.clone() }, &logits, 1), [2]);
        assert_eq!(Sampler::new(Sampling { allowed: 4..9, ..greedy }).draw(&logits), None);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0, 2f32.ln(), 4f32.ln(), f32::NEG_INFINITY];
        let plain = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 5, ..Sampling::default() };
        let drawn = draws(plain, &logits, 70_000);
        let share = |token| drawn.iter().filter(|&&t| t == token).count() as f64 / drawn.len() as f64;
        for (token, expected) in [(0, 1.0 / 7.0), (1, 2.0 / 7.0), (2, 4.0 / 7.0), (3, 0.0)] {
            assert!((share(token) - expected).abs() < 0.01, "{token}: {}", share(token));
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.0, 2f32.ln(), 4f32.ln()];
        let base = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, ..Sampling::default() };
        assert!(draws(Sampling { top_k: 2, ..base.clone() }, &logits, 500).iter().all(|&t| t > 0));
        assert!(draws(Sampling { top_p: 0.5, ..base.clone() }, &logits, 500).iter().all(|&t| t == 2));
        let wider = draws(Sampling { top_p: 0.6, ..base }, &logits, 500);
        assert!(wider.contains(&1) && !wider.contains(&0));
    }

    #[test]
    fn the_likeliest_are_found_wherever_they_are() {
        let mut rng = Rng::new(3);
        for size in [1, 15, 16, 17, 200, 255, 1_000, 2_279, 10_000] {
            // Whole numbers, so that many are equal; some are none or endless.
            let number = |_| match rng.below(40) {
                0..4 => f32::NAN,
                4 => f32::NEG_INFINITY,
                5 if size % 2 == 0 => f32::INFINITY,
                6 => -0.0,
                _ => (rng.normal() * 3.0).round() as f32,
            };
            let equal: Vec<f32> = (0..size).map(number).collect();
            let spread = equal.iter().enumerate().map(|(at, logit)| logit + (at as f32).sin()).collect();
            for logits in [equal, spread, vec![f32::NAN; size]] {
                for (top_k, first, last) in [2, 3, 50, 300, 3_000, 20_000]
                    .into_iter()
                    .flat_map(|top_k| [(top_k, 0, size), (top_k, size / 3, size - size / 5)])
                {
                    let allowed = first as u32..last as u32;
                    let mut sampler = Sampler::new(Sampling { top_k, top_p: 1.0, allowed, ..Sampling::default() });
                    let drawn = sampler.draw(&logits);
                    let mut expected: Vec<usize> = (first..last).filter(|&at| !logits[at].is_nan()).collect();
                    expected.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
                    expected.truncate(top_k);
                    let found: Vec<usize> = sampler.candidates.iter().map(|(_, token)| usize::from(*token)).collect();
                    assert_eq!(found, expected, "{top_k} of {first}..{last}");
                    assert_eq!(drawn.is_none(), expected.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let with = |seed| draws(Sampling { seed, ..Sampling::default() }, &logits, 40);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn broken_logits_never_panic() {
        for logits in [&[][..], &[f32::NAN; 4], &[f32::INFINITY; 4], &[f32::NEG_INFINITY; 4]] {
            let _ = Sampler::new(Sampling::default()).draw(logits);
        }
    }
}
