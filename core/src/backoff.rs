//! How long to wait before connecting again: doubling waits with jitter, so that a restarted coordinator is found
//! within seconds by one worker and not trampled by a thousand.

use std::time::Duration;

use crate::rng::Rng;

/// The wait after the first failure, before jitter.
pub const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
pub const LONGEST: Duration = Duration::from_secs(15);
/// A session that lasted this long was a good one: the waits begin anew. Short enough that a coordinator which is killed
/// every few seconds is found again at once, long enough not to trample one that dies of its clients.
pub const LIVED: Duration = Duration::from_secs(2);

/// The waits of one client.
#[derive(Debug, Clone)]
pub struct Backoff {
    rng: Rng,
    failures: u32,
}

impl Backoff {
    /// Waits whose jitter is drawn from `seed`; give every process its own.
    pub const fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), failures: 0 }
    }

    /// The wait before the next attempt: between half and all of [`FIRST`] doubled for each failure, at most
    /// [`LONGEST`].
    pub fn wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(LONGEST).mul_f64(0.5 + self.rng.unit() / 2.0)
    }

    /// Tells how long a session lasted. One that is cut at once (a full or crashing coordinator) resets nothing.
    pub fn ended(&mut self, lasted: Duration) {
        if lasted >= LIVED {
            self.failures = 0;
        }
    }

    /// Something was achieved in the session: the waits begin anew, however soon it ends.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(1);
        for attempt in 0..200 {
            let whole = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
            let wait = backoff.wait();
            assert!(whole / 2 <= wait && wait <= whole, "attempt {attempt}: {wait:?} of {whole:?}");
        }
    }

    #[test]
    fn only_a_session_that_lived_resets() {
        let mut backoff = Backoff::new(1);
        for _ in 0..5 {
            backoff.wait();
        }
        backoff.ended(LIVED.mul_f64(0.99));
        assert!(backoff.wait() > FIRST);
        backoff.ended(LIVED);
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn a_short_session_that_achieved_something_resets() {
        let mut backoff = Backoff::new(1);
        for _ in 0..5 {
            backoff.wait();
        }
        backoff.succeeded();
        backoff.ended(Duration::ZERO);
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..4).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
