//! How fast messages may come: a bucket that fills with time and from which every message takes one.

use hydra_core::limits::BURST_SECONDS;
use tokio::time::Instant;

/// An allowance of messages. Whoever stays below `per_second` never meets it; a burst may use up what was saved.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    per_second: u32,
    /// Messages that may come at this moment.
    left: f64,
    /// As of when.
    at: Option<Instant>,
}

impl Pace {
    /// So many messages a second, with [`BURST_SECONDS`] of them at the beginning and after a pause.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, left: f64::from(per_second) * f64::from(BURST_SECONDS), at: None }
    }

    /// Takes a message; false if it came too soon.
    pub fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(self.per_second);
        if let Some(before) = self.at.replace(now) {
            let saved = now.duration_since(before).as_secs_f64() * rate;
            self.left = (self.left + saved).min(rate * f64::from(BURST_SECONDS));
        }
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }

    /// The rate, for people.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bursts_are_allowed_and_floods_are_not() {
        let start = Instant::now();
        let mut pace = Pace::new(5);
        let burst = 5 * BURST_SECONDS;
        assert!((0..burst).all(|_| pace.take(start)));
        assert!(!pace.take(start));
        let later = start + Duration::from_secs(1);
        assert!((0..5).all(|_| pace.take(later)));
        assert!(!pace.take(later));
        // What is saved has an end.
        let much_later = start + Duration::from_hours(9);
        assert!((0..burst).all(|_| pace.take(much_later)));
        assert!(!pace.take(much_later));
    }

    #[test]
    fn the_rate_itself_never_meets_it() {
        let start = Instant::now();
        let mut pace = Pace::new(10);
        assert!((0..100_000).all(|n| pace.take(start + Duration::from_millis(100 * n))));
    }
}
