//! Patience: which workers wait for the version about to come instead of training from an old one, and how long.

use std::time::Duration;

use super::Hub;
use super::leases::NEVER;
use super::session::Seat;
use crate::ids::SessionId;
use crate::time::Time;

/// Share of its working time that a worker may spend waiting for versions, saved up to [`PATIENCE_MAX`] tasks.
const PATIENCE: f64 = 0.06;
/// What it saves up with each task at least, in seconds: tasks may be shorter than a merge.
const PATIENCE_LEAST: f64 = 0.025;
/// What a worker may wait at once, in tasks of its own: enough to fall into step with another once.
const PATIENCE_MAX: f64 = 0.5;
/// Waiting this long is allowed to whoever is not deep in debt: it covers a merge on a busy machine.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// How often waiting in vain counts.
const VAIN: f64 = 8.0;
/// How much longer than usual the last check before a version may take for those who wait for it, and how long at
/// most, in typical tasks.
const CHECKS: f64 = 2.0;
const CHECKS_MOST: f64 = 0.5;

impl Seat {
    /// What it waits for is being merged (that time is nobody's fault), or it has waited in `vain`, which counts more
    /// often: where versions come at times that nobody can tell, little is to be waited.
    pub fn charge_wait(&mut self, now: Time, vain: bool) {
        if let Some((since, patience)) = self.waits_since.take().zip(self.record.patience.as_mut()) {
            *patience -= now.since(since).as_secs_f64() * if vain { VAIN } else { 1.0 };
        }
    }
}

impl Hub {
    /// A worker has delivered: if the next version is close, let it wait for that instead of training an old one.
    pub(super) fn hold_for_version(&mut self, now: Time, id: SessionId) {
        let works = self.sessions.get(&id).and_then(|s| s.seat()).is_none_or(|seat| seat.lease.is_some());
        // At the end of a run there is nothing to wait for.
        if works || self.all_tasks_taken() {
            return;
        }
        let typical = self.records.typical.unwrap_or(0.0);
        let tokens = self.rules.task_tokens();
        let close = self.expected_close(now);
        let checks = self.check_seconds;
        // Whom the round waits for may be late by as much as it waits.
        let late = self.grace().max(PATIENCE_MIN);
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        // Beside slow workers a typical task takes much longer than a fast one's own.
        let own = seat.record.expects(tokens).map_or(typical, |own| own.as_secs_f64());
        let max = (PATIENCE_MAX * own).max(PATIENCE_MIN.as_secs_f64());
        let patience = seat.record.patience.get_or_insert(max);
        *patience = (*patience + (PATIENCE * own).max(PATIENCE_LEAST)).min(max);
        // Whoever has waited in vain too often does not wait at all until that is made up for.
        let allowed = if *patience < -max { 0.0 } else { patience.max(PATIENCE_MIN.as_secs_f64()) };
        let Some(close) = close else { return };
        let wait = close.since(now).as_secs_f64();
        if wait <= allowed {
            // A little longer than expected: predictions are rough and the merge takes a moment itself. The look at the
            // updates that close the round comes on top: whoever does not wait for it trains on old weights again and
            // again.
            let checks = (CHECKS * checks).min(CHECKS_MOST * typical);
            seat.hold_until = Some(close.after(Duration::from_secs_f64(0.25 * wait + checks)).after(late));
        }
    }

    /// The round is closed: nobody waits for others any more.
    pub(super) fn charge_waits(&mut self, now: Time) {
        for id in self.bench.all_held() {
            if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
                seat.charge_wait(now, false);
            }
        }
    }

    /// When the open round should close, as far as anybody can tell.
    fn expected_close(&self, now: Time) -> Option<Time> {
        if self.round.merging {
            return Some(now);
        }
        let hurry = self.round.first.unwrap_or(now).after(self.rules.round_deadline);
        // The round stays open for a slow worker, and a fast one does not stand still for it.
        let protected = self.protected(now, hurry);
        if protected == Some(NEVER) {
            return None;
        }
        let done = self.round.accepted.len() + self.leases.arriving();
        let workers = self.leases.awaited() + self.bench.held() + 1;
        let close = match self.needed(workers).saturating_sub(done) {
            0 => now,
            more => {
                let enough = self.leases.expected().nth(more - 1).filter(|at| *at < NEVER)?.max(now);
                // It stays open for those who are close behind.
                let last = self.leases.expected().take_while(|at| *at <= enough.after(self.grace())).last();
                last.map_or(enough, |last| last.max(enough))
            }
        };
        Some(protected.map_or(close, |protected| protected.max(close)))
    }
}
