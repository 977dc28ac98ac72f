//! What a connection costs, counted as it happens and read by screens at any moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A ping that is not back after this is worth a word.
const OWED: Duration = Duration::from_secs(3);

/// How long the last ping of one session took to come back, and whether one has not come back yet.
#[derive(Debug)]
pub struct RoundTrip {
    /// Where its times begin.
    start: Instant,
    /// Microseconds, at least 1; 0 while unknown.
    micros: AtomicU64,
    /// When the ping went out that has not come back, in microseconds, at least 1; 0 if there is none.
    asked: AtomicU64,
    /// When the other end last showed that it is there, in microseconds.
    heard: AtomicU64,
}

impl Default for RoundTrip {
    fn default() -> Self {
        let unknown = AtomicU64::default;
        Self { start: Instant::now(), micros: unknown(), asked: unknown(), heard: unknown() }
    }
}

fn at_least_1(micros: Duration) -> u64 {
    (micros.as_micros() as u64).max(1)
}

impl RoundTrip {
    /// The time, once a ping has come back.
    pub fn get(&self) -> Option<Duration> {
        Some(self.micros.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    /// How long nothing has come, where a ping has been without an answer for some seconds.
    pub fn silent(&self) -> Option<Duration> {
        let asked = Some(self.asked.load(Ordering::Relaxed)).filter(|asked| *asked > 0)?;
        let since = |micros| self.start.elapsed().saturating_sub(Duration::from_micros(micros));
        (since(asked) >= OWED).then(|| since(self.heard.load(Ordering::Relaxed)))
    }

    /// A ping goes out; one that did not come back before counts on.
    pub(super) fn ask(&self) {
        let now = at_least_1(self.start.elapsed());
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
        self.heard.store(self.start.elapsed().as_micros() as u64, Ordering::Relaxed);
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

    /// How long nothing has come, where an answer is owed; of one session, as several would answer for each other.
    pub fn silent(&self) -> Option<Duration> {
        self.round_trip.silent()
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

    #[tokio::test(start_paused = true)]
    async fn a_new_session_knows_no_round_trip() {
        let stats = LinkStats::default();
        stats.begun();
        tokio::time::advance(Duration::from_secs(10)).await;
        stats.asked();
        stats.ponged(Duration::from_millis(1403));
        stats.sent(7);
        assert_eq!((stats.round_trip(), stats.silent()), (Some(Duration::from_millis(1403)), None));
        tokio::time::advance(OWED).await;
        let silent = stats.silent().expect("a ping is owed an answer");
        assert_eq!(silent.as_secs(), 13, "nothing has come since the beginning");
        stats.begun();
        assert_eq!((stats.round_trip(), stats.silent(), stats.bytes_up()), (None, None, 7));
    }
}
