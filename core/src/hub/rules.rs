//! What an operator decides about a run: sizes, schedule, prices, rounds, and when to stop.

use std::time::Duration;

use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{Digest, VersionNo};
use crate::merge::OuterRule;
use crate::model::{Recipe, Shape};
use crate::schedule::Schedule;

/// Everything that the hub is told to follow; fixed for a run of the program.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The model's sizes.
    pub shape: Shape,
    /// How workers train.
    pub recipe: Recipe,
    /// Learning rate over the run's tokens.
    pub schedule: Schedule,
    /// Paid for an accepted task.
    pub reward: Credits,
    /// Charged for a complete answer; may be zero.
    pub price: Credits,
    /// Optimiser steps in a task.
    pub steps: u32,
    /// How updates are encoded.
    pub codec: Codec,
    /// Whether a worker behind a slow link is given a codec with fewer bytes.
    pub sparser: bool,
    /// The run's shards.
    pub shards: Vec<Shard>,
    /// Tasks kept generated ahead of demand.
    pub queue: usize,
    /// At least this long between two generated tasks; nothing: as fast as workers take them.
    pub every: Option<Duration>,
    /// Lease of a worker without history.
    pub lease_first: Duration,
    /// Shortest lease.
    pub lease_min: Duration,
    /// A lease is this many times the expected duration.
    pub lease_factor: f64,
    /// A round may close once this share of the working workers' updates is in.
    pub quorum: f64,
    /// After the quorum, wait for updates expected within this share of a typical task's duration.
    pub grace: f64,
    /// A round with any update closes after this at the latest.
    pub round_deadline: Duration,
    /// The outer step of rounds with several updates.
    pub outer: OuterRule,
    /// Windows of a known worker's task on which its update is measured, twice as many of another's; 0: none are.
    pub checked_windows: u32,
    /// When to stop by itself.
    pub stop: Stop,
    /// Sampling where a query leaves it open.
    pub sampling: Sampling,
    /// Seeds the tasks.
    pub seed: u64,
    /// Wall-clock milliseconds since 1970 at [`Time`] zero.
    pub epoch_ms: u64,
}

impl Rules {
    /// Tokens in a task.
    pub fn task_tokens(&self) -> u64 {
        u64::from(self.steps) * u64::from(self.recipe.batch) * u64::from(self.shape.context)
    }
}

/// A piece of the training text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its tokens.
    pub tokens: u64,
    /// Its first words.
    pub preview: String,
}

/// When to stop by itself; whichever comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stop {
    /// Accepted tasks.
    pub after_tasks: Option<u64>,
    /// Trained tokens.
    pub after_tokens: Option<u64>,
    /// Versions.
    pub after_rounds: Option<u64>,
    /// Held-out nats a token.
    pub at_loss: Option<f64>,
}

impl Stop {
    /// Which of its ends a run has reached, in the word that its `stopped` event has for it.
    pub fn reached(&self, tasks: u64, tokens: u64, version: VersionNo, loss: Option<f64>) -> Option<&'static str> {
        let at = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        if at(self.after_tasks, tasks) {
            Some("tasks")
        } else if at(self.after_tokens, tokens) {
            Some("tokens")
        } else if at(self.after_rounds, version.0) {
            Some("rounds")
        } else if self.at_loss.is_some_and(|limit| loss.is_some_and(|loss| loss <= limit)) {
            Some("loss")
        } else {
            None
        }
    }
}

/// How an answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// At most this many tokens.
    pub max_new_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// 0: all.
    pub top_k: u32,
    /// 1: all.
    pub top_p: f32,
    /// Repeats an answer.
    pub seed: u64,
}
