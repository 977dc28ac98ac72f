//! What is known of a worker: what its updates gained, as parts of what is usual, gathered over several.

use super::usual::Usual;
use super::{CLEAR, LEAST, MOST};
use crate::hub::findings::Gain;

/// How much a new sample moves a worker's average.
const PACE: f64 = 0.4;
/// A worker whose updates gain less than this part of what is usual on one half of their windows leaves out steps.
const HALF: f64 = 0.65;
/// A worker whose updates gain less than this part of what is usual, as seen over several, does something else than
/// its tasks.
const WHOLE: f64 = 0.75;
/// Whoever gains this part on average again does them again.
const BACK: f64 = 0.85;
/// Of the halves: a difference of a factor of two shows soon.
const OF_HALVES: Belief = Belief { weight: 16.0, memory: 0.8 };
/// Of all windows: less is missing, and nobody is to be refused for a bad beginning.
const OF_WHOLE: Belief = Belief { weight: 40.0, memory: 0.85 };
/// Honest updates of one version differ by so much (a part of the usual) however many windows are looked at.
const SPREAD: f64 = 0.15;

/// What is known of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Record {
    /// The moving average of its gains, as parts of what is usual.
    pub gain: f64,
    pub samples: u32,
    /// The same, but what could not be compared with others of its version and codec does not take it below [`LEAST`].
    compared: Option<f64>,
    /// Of the windows of each half.
    halves: [Evidence; 2],
    /// Of all of them, each update's between nothing and the usual: luck must not outweigh what is missing, and what is
    /// worse than nothing shows by itself.
    whole: Evidence,
}

/// How evidence is gathered.
struct Belief {
    /// What is believed of everybody before anything is seen, as the weight of having been right.
    weight: f64,
    /// How much of what was seen before an update still counts after it.
    memory: f64,
}

/// What was seen of a worker's gains on some of its windows, as parts of what is usual: each by how surely it is known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Evidence {
    sum: f64,
    weight: f64,
}

impl Evidence {
    fn note(&mut self, belief: &Belief, score: f64, error: f64) {
        let weight = 1.0 / (error.powi(2) + SPREAD.powi(2));
        self.fade(belief);
        self.sum += weight * score;
        self.weight += weight;
    }

    /// What was seen before counts less.
    fn fade(&mut self, belief: &Belief) {
        self.sum *= belief.memory;
        self.weight *= belief.memory;
    }

    /// What to believe: right until it is seen otherwise.
    fn mean(&self, belief: &Belief) -> f64 {
        (self.sum + belief.weight) / (self.weight + belief.weight)
    }
}

impl Record {
    /// What is wrong with its updates, as seen over several.
    pub fn fault(&self) -> Option<String> {
        if self.halves.iter().any(|half| half.mean(&OF_HALVES) < HALF) {
            return Some("the updates help on one half of their tasks' windows only".to_owned());
        }
        let gains = self.whole.mean(&OF_WHOLE);
        // Its last updates say more of what it does now.
        (gains < WHOLE && self.gain < BACK)
            .then(|| format!("the updates gain only {gains:.2} of what is usual, as seen over several"))
    }

    /// What could not be seen counts for the worker.
    pub fn fade(&mut self) {
        self.halves.iter_mut().for_each(|half| half.fade(&OF_HALVES));
        self.whole.fade(&OF_WHOLE);
    }

    /// Notes how much was gained, as far as others of the version say what is usual.
    pub fn note(&mut self, gain: &Gain, usual: &Usual) {
        let own = gain.own().mean;
        if own.is_finite() && usual.own > CLEAR * usual.error {
            self.whole.note(&OF_WHOLE, (own / usual.own).clamp(0.0, 1.0), usual.error / usual.own);
        }
        for ((evidence, half), usual) in self.halves.iter_mut().zip(&gain.halves).zip(&usual.halves) {
            // Where the usual gain cannot be told from nothing there is nothing to compare with.
            if half.mean.is_finite() && usual.mean > CLEAR * usual.error {
                let score = (half.mean / usual.mean).clamp(-MOST, MOST);
                evidence.note(&OF_HALVES, score, usual.error / usual.mean);
            }
        }
    }

    /// The moving average with a new score.
    pub fn move_average(&mut self, score: f64) {
        let pace = if self.samples == 0 { 1.0 } else { PACE };
        self.gain += pace * (score - self.gain);
        self.samples = self.samples.saturating_add(1);
    }

    /// The same, where what others of earlier versions gained, up to twelve times as much, makes nobody useless by itself.
    pub fn move_compared(&mut self, score: f64, fresh: bool) -> f64 {
        let before = self.compared;
        let score = if fresh || score > LEAST { score } else { before.unwrap_or(LEAST).min(LEAST) };
        let average = before.map_or(score, |before| before + PACE * (score - before));
        self.compared = Some(average);
        average
    }
}
