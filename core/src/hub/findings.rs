//! What the shell finds out about an update's numbers: measurements alone. What follows from them is for
//! [`super::trust`] to say.

use crate::ids::{LeaseId, VersionNo};

/// What [`super::Order::Check`] asks about an update beyond its form: how much it helps on the windows that its task
/// prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The task's shard, by its place in [`super::Rules::shards`].
    pub shard: u32,
    /// The seed from which the task's windows follow.
    pub seed: u64,
    /// The task's steps.
    pub steps: u32,
    /// Windows a step.
    pub batch: u32,
    /// How many of the windows to score; 0: none, and no [`Gain`] is wanted.
    pub windows: u32,
}

/// The numbers of an update that could be decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findings {
    /// Its Euclidean norm.
    pub norm: f64,
    /// What its direction is most like among what is remembered; nothing if there is nothing to compare with.
    pub twin: Option<Twin>,
    /// What it does to the loss, if that was asked for and could be measured.
    pub gain: Option<Gain>,
}

impl Findings {
    /// Of an update of which only the norm is known.
    pub const fn of_norm(norm: f64) -> Self {
        Self { norm, twin: None, gain: None }
    }
}

/// Another direction, and how like it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Twin {
    /// Where that direction came from.
    pub of: Source,
    /// The absolute cosine of the angle between the two: 1 for a copy, however scaled or turned round.
    pub cosine: f64,
}

/// Where a remembered direction came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An update.
    Update(LeaseId),
    /// The step to a version, as it was broadcast.
    Step(VersionNo),
}

/// How many nats a token less the model needs with a part ([`Gain::SHARE`]) of the update than without it, window by
/// window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// On windows that the task trains on: of its first half, and of its second.
    pub halves: [Sample; 2],
    /// On held-out text.
    pub held_out: Sample,
}

impl Gain {
    /// On all windows of the task that were looked at.
    pub fn own(&self) -> Sample {
        let [first, second] = self.halves;
        let (a, b) = (f64::from(first.count), f64::from(second.count));
        let count = a + b;
        let mean = if count > 0.0 { (a * first.mean + b * second.mean) / count } else { 0.0 };
        let squares = |sample: Sample| (f64::from(sample.count) - 1.0).max(0.0) * sample.deviation.powi(2);
        let between = if count > 0.0 { a * b / count * (first.mean - second.mean).powi(2) } else { 0.0 };
        let variance = (squares(first) + squares(second) + between) / (count - 1.0).max(1.0);
        Sample { count: first.count + second.count, mean, deviation: variance.sqrt() }
    }
}

/// A sample of paired differences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// How many.
    pub count: u32,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}
