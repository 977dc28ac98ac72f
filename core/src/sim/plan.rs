//! What a seed decides before anything happens: the rules of the run, how bad the world is, and who takes part.

use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::Options;
use crate::codec::Codec;
use crate::credits::Credits;
use crate::hub::{Rules, Sampling, Shard, Stop};
use crate::ids::{Digest, UserName};
use crate::merge::OuterRule;
use crate::model::{Recipe, Shape};
use crate::rng::Rng;
use crate::schedule::Schedule;

/// Mean time between faults of a kind, in milliseconds; 0: never.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    pub coordinator_dies: u64,
    pub worker_dies: u64,
    pub user_vanishes: u64,
    pub cut: u64,
    pub stall: u64,
    pub partition: u64,
    pub freeze: u64,
    pub sleep: u64,
    pub villainy: u64,
    pub kick: u64,
    /// One in so many orders of the hub is its last; 0: none.
    pub dies_between_orders: u64,
    /// The same for each client's.
    pub client_dies_between_orders: u64,
    /// In a thousand.
    pub bad_install: u64,
    pub failed_merge: u64,
    pub failed_answer: u64,
    pub failed_training: u64,
}

/// Everything that the seed decides beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rules: Rules,
    pub rates: Rates,
    /// Milliseconds until rows are durable, at most.
    pub fsync_ms: u64,
    /// Milliseconds of a check and of a merge, at most.
    pub learner_ms: u64,
    pub users: Vec<(UserName, SigningKey)>,
}

impl Plan {
    pub fn new(rng: &mut Rng, options: &Options) -> Self {
        let users = (0..4 + rng.below(4))
            .map(|n| {
                let name = format!("user{n}").parse().expect("a plain name");
                (name, SigningKey::from_bytes(&[n as u8 + 1; 32]))
            })
            .collect();
        let rates = if rng.below(8) == 0 { Rates::default() } else { Self::rates(rng) };
        let rules = Self::rules(rng);
        let fsync_ms = 1 + up_to(rng, 50, 3000);
        let learner_ms = 1 + up_to(rng, 100, 600);
        let mut plan = Self { rules, rates, fsync_ms, learner_ms, users };
        if rng.below(3) == 0 {
            let tasks = 1 + rng.below(20 * options.workers() as u64 + 1);
            match rng.below(3) {
                0 => plan.rules.stop.after_tasks = Some(tasks),
                1 => plan.rules.stop.after_tokens = Some(tasks * plan.rules.task_tokens()),
                _ => plan.rules.stop.after_rounds = Some(1 + tasks / 4),
            }
        }
        plan
    }

    fn rates(rng: &mut Rng) -> Rates {
        let mut rate = |often: u64, seldom: u64| match rng.below(3) {
            0 => 0,
            _ => often + rng.below(seldom - often),
        };
        Rates {
            coordinator_dies: rate(8_000, 120_000),
            worker_dies: rate(3_000, 60_000),
            user_vanishes: rate(3_000, 60_000),
            cut: rate(1_000, 40_000),
            stall: rate(2_000, 40_000),
            partition: rate(5_000, 60_000),
            freeze: rate(20_000, 120_000),
            sleep: rate(2_000, 40_000),
            villainy: rate(300, 5_000),
            kick: rate(2_000, 40_000),
            dies_between_orders: rate(300, 5_000),
            client_dies_between_orders: rate(200, 5_000),
            bad_install: rate(1, 40),
            failed_merge: rate(1, 200),
            failed_answer: rate(1, 200),
            failed_training: rate(1, 60),
        }
    }

    fn rules(rng: &mut Rng) -> Rules {
        let ms = |rng: &mut Rng, from: u64, to: u64| Duration::from_millis(from + rng.below(to - from));
        let shards = (0..=rng.below(3))
            .map(|n| Shard { digest: Digest::of(&[n as u8]), tokens: 100 + n * 50, preview: "once upon".to_owned() })
            .collect();
        let lease_min = ms(rng, 2_000, 20_000);
        // A model of which updates are large enough to tell a link's speed.
        let sparser = rng.below(2) == 0;
        let shape = if sparser { Shape::new(2048, 32, 1, 1, 8) } else { Shape::new(16, 8, 1, 1, 8) };
        Rules {
            shape,
            recipe: Recipe { batch: 1, ..Recipe::default() },
            schedule: Schedule { peak: 1e-3, warmup_tokens: 100, horizon: None, final_ratio: 0.1 },
            reward: if rng.below(12) == 0 { Credits::ZERO } else { Credits::hyd(1) },
            price: if rng.below(8) == 0 { Credits::ZERO } else { Credits(500_000) },
            steps: 2 + rng.below(6) as u32,
            codec: Codec::Int4,
            sparser,
            shards,
            queue: rng.below(8) as usize,
            every: (rng.below(4) == 0).then(|| ms(rng, 50, 1_500)),
            lease_first: lease_min + ms(rng, 5_000, 60_000),
            lease_min,
            lease_factor: 2.0 + rng.unit() * 2.0,
            quorum: 0.4 + rng.unit() * 0.6,
            grace: rng.unit() * 0.5,
            round_deadline: ms(rng, 10_000, 90_000),
            outer: OuterRule::DILOCO,
            checked_windows: if rng.below(2) == 0 { 0 } else { 4 },
            stop: Stop::default(),
            sampling: Sampling { max_new_tokens: 16, temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 },
            seed: rng.next_u64(),
            epoch_ms: 0,
        }
    }
}

/// A number below `usual`, or, once in four times, below `seldom`.
fn up_to(rng: &mut Rng, usual: u64, seldom: u64) -> u64 {
    let bound = if rng.below(4) == 0 { seldom } else { usual };
    rng.below(bound)
}
