//! What a connection costs, counted as it happens and read by screens at any moment.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the last ping of one session took to come back, and whether one has not come back yet.
#[derive(Debug, Default)]
pub struct RoundTrip {
    /// Microseconds, at least 1; 0 while unknown.
    micros: AtomicU64,
    /// When the ping went out that has not come back: microseconds of [`START`], at least 1; 0 if there is none.
    asked: AtomicU64,
}

/// Where times that are kept as numbers begin.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn at_least_1(micros: Duration) -> u64 {
    (micros.as_micros() as u64).max(1)
}

impl RoundTrip {
    /// The time, once a ping has come back.
    pub fn get(&self) -> Option<Duration> {
        Some(self.micros.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    /// How long the last ping has been without an answer.
    pub fn unanswered(&self) -> Option<Duration> {
        let asked = Some(self.asked.load(Ordering::Relaxed)).filter(|asked| *asked > 0)?;
        Some(START.elapsed().saturating_sub(Duration::from_micros(asked)))
    }

    /// A ping goes out; one that did not come back before counts on.
    pub(super) fn ask(&self) {
        let now = at_least_1(START.elapsed());
        // Fails where an older one has not come back.
        self.asked.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    pub(super) fn set(&self, round_trip: Duration) {
        self.micros.store(at_least_1(round_trip), Ordering::Relaxed);
    }

    pub(super) fn forget(&self) {
        self.micros.store(0, Ordering::Relaxed);
        self.heard();
    }

    /// Something came that shows that the other end is there.
    pub(super) fn heard(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }
}

/// Bytes and round-trip time, of one session or of all that share it.
#[derive(Debug, Default)]
pub struct LinkStats {
    up: AtomicU64,
    down: AtomicU64,
    round_trip: RoundTrip,
}

impl LinkStats {
    /// Bytes of messages sent, without the WebSocket's and the network's own.
    pub fn bytes_up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes of messages received.
    pub fn bytes_down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// How long the last ping took to come back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    /// How long the other end has owed an answer; of one session, as several would answer for each other.
    pub fn unanswered(&self) -> Option<Duration> {
        self.round_trip.unanswered()
    }

    pub(super) fn asked(&self) {
        self.round_trip.ask();
    }

    /// Another session begins: what the one before knew of its other end is of no use.
    pub(super) fn begun(&self) {
        self.round_trip.forget();
    }

    /// Something came.
    pub(super) fn heard(&self) {
        self.round_trip.heard();
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn ponged(&self, round_trip: Duration) {
        self.round_trip.set(round_trip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_knows_no_round_trip() {
        let stats = LinkStats::default();
        stats.begun();
        stats.asked();
        stats.ponged(Duration::from_millis(1403));
        stats.sent(7);
        assert_eq!((stats.round_trip(), stats.unanswered().is_some()), (Some(Duration::from_millis(1403)), true));
        stats.begun();
        assert_eq!((stats.round_trip(), stats.unanswered(), stats.bytes_up()), (None, None, 7));
    }
}
