//! The one place that reads clocks: monotonic [`Time`] for the machines, wall-clock milliseconds for records.
//!
//! The monotonic clock is tokio's, so that it stands still while a test has paused time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hydra_core::time::Time;
use tokio::time::Instant;

/// A monotonic clock whose zero is the moment of its making. Copies share the zero.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time::default().after(self.zero.elapsed())
    }

    /// The instant of a time of this clock, for `tokio::time::sleep_until`.
    pub fn instant(&self, time: Time) -> Instant {
        // A machine may set a deadline beyond what the system can represent; a century is as good as never.
        let far = Duration::from_hours(100 * 365 * 24);
        self.zero + time.since(Time::default()).min(far)
    }

    /// Sleeps until a time of this clock, without one forever. Cancel safe.
    pub async fn sleep_until(self, until: Option<Time>) {
        match until {
            Some(until) => tokio::time::sleep_until(self.instant(until)).await,
            None => std::future::pending().await,
        }
    }
}

/// Milliseconds since 1970, for records and people; never for measuring, as it may jump. 0 before 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis() as u64)
}

/// The same in microseconds.
pub fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_tokio_and_back() {
        let clock = Clock::start();
        assert_eq!(clock.now(), Time(0));
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now(), Time(1_500_000));
        assert_eq!(clock.instant(clock.now()), Instant::now());
        let _representable = clock.instant(Time(u64::MAX));
        clock.sleep_until(Some(Time(2_000_000))).await;
        assert_eq!(clock.now(), Time(2_000_000));
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, clock.sleep_until(None)).await.is_err(), "never");
    }

    #[test]
    fn the_wall_clock_is_past_2020() {
        assert!(wall_ms() > 1_577_836_800_000);
    }
}
