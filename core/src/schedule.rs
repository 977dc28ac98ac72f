//! The inner learning rate as a function of the tokens that the whole run has trained on.
//!
//! Driven by the coordinator's count, because a run has no length known to a worker. A task carries the rates of its
//! first and last step, linear between. So the decay is a line too: tasks reproduce it exactly, it takes only exactly
//! rounded operations, and falling in a line loses nothing against a cosine (arXiv 2502.15938 finds it better).

use serde::{Deserialize, Serialize};

/// Warm-up, then constant, or falling in a line to the end of a run whose length is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// Tokens until it is reached.
    pub warmup_tokens: u64,
    /// Tokens at which the run ends; absent: the rate stays at its peak.
    pub horizon: Option<u64>,
    /// The rate at the horizon and beyond, as a part of the peak.
    pub final_ratio: f32,
}

impl Schedule {
    /// Where the warm-up begins, as a part of the peak: above zero, so that a worker's first step trains.
    pub const START: f32 = 0.05;

    /// The rate after `tokens_done` tokens of the run. A horizon within the warm-up cuts it off.
    pub fn rate(&self, tokens_done: u64) -> f32 {
        let (peak, start, end) = (f64::from(self.peak), f64::from(Self::START), f64::from(self.final_ratio));
        // Part of the way from `from` to `to`, which are whole tokens with `from` ≤ `tokens_done` < `to`.
        let way = |from: u64, to: u64| (tokens_done - from) as f64 / (to - from) as f64;
        let ratio = match self.horizon {
            Some(horizon) if tokens_done >= horizon => end,
            _ if tokens_done < self.warmup_tokens => start + (1.0 - start) * way(0, self.warmup_tokens),
            Some(horizon) => 1.0 + (end - 1.0) * way(self.warmup_tokens, horizon),
            None => 1.0,
        };
        (peak * ratio) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Schedule = Schedule { peak: 3e-3, warmup_tokens: 1_000, horizon: None, final_ratio: 0.1 };
    const CLOSED: Schedule = Schedule { horizon: Some(5_000), ..OPEN };

    #[track_caller]
    fn near(rate: f32, expected: f32) {
        assert!((rate - expected).abs() <= 1e-6 * expected, "{rate} instead of {expected}");
    }

    #[test]
    fn the_first_step_trains() {
        near(OPEN.rate(0), 0.05 * 3e-3);
        near(CLOSED.rate(0), 0.05 * 3e-3);
    }

    #[test]
    fn warm_up_is_a_line() {
        near(OPEN.rate(500), 0.525 * 3e-3);
        near(OPEN.rate(1_000), 3e-3);
        assert!((0..1_000).all(|t| OPEN.rate(t) < OPEN.rate(t + 1)));
    }

    #[test]
    fn without_a_horizon_it_stays() {
        near(OPEN.rate(u64::MAX), 3e-3);
    }

    #[test]
    fn with_one_it_falls_in_a_line_and_stops_there() {
        near(CLOSED.rate(1_000), 3e-3);
        near(CLOSED.rate(3_000), 0.55 * 3e-3);
        near(CLOSED.rate(5_000), 0.1 * 3e-3);
        near(CLOSED.rate(u64::MAX), 0.1 * 3e-3);
        assert!((1_000..5_000).all(|t| CLOSED.rate(t) > CLOSED.rate(t + 1)));
    }

    #[test]
    fn odd_lengths_are_harmless() {
        near(Schedule { warmup_tokens: 0, ..OPEN }.rate(0), 3e-3);
        near(Schedule { warmup_tokens: 0, horizon: Some(0), ..OPEN }.rate(0), 3e-4);
        // A horizon within the warm-up cuts it off.
        let cut = Schedule { horizon: Some(500), ..OPEN };
        near(cut.rate(499), OPEN.rate(499));
        near(cut.rate(500), 3e-4);
        near(Schedule { horizon: Some(1_000), ..OPEN }.rate(1_000), 3e-4);
        assert!(Schedule { warmup_tokens: u64::MAX, ..OPEN }.rate(0) > 0.0);
    }
}
