//! What becomes of a version: its bytes for the workers, the learner's and the evaluator's part.

use super::tell::cut;
use super::{Driver, Duration, Fact, SendError, ServerMsg, SessionId, VersionNo, learner};
use crate::screen::{Msg, Point};
use crate::serve::eval::Score;
use crate::serve::served::{Delta, Source};

impl Driver {
    /// Gives the newest version to the average, and has it measured unless the last measurement is too fresh. One that is
    /// made while the run stops is the last.
    pub(super) fn measure(&mut self) {
        let now = self.clock.now();
        let fresh = |every: Duration| self.measured.is_some_and(|at| now.since(at) < every);
        let due = self.hub.is_stopping() || !self.measure_every.is_some_and(fresh);
        if due {
            self.measured = Some(now);
        }
        self.unmeasured.extend(self.evaluator.put(Source::from(&*self.newest), due));
    }

    /// Tells the hub, with the traffic since the last score, and the screen.
    pub(super) fn on_scored(&mut self, score: Score, source: Source) {
        let averaged = source.averaged;
        self.scored = Some(score);
        self.averaged = Some(source).filter(|_| averaged);
        let (down, up) = (self.traffic.bytes_up(), self.traffic.bytes_down());
        let (bytes_up, bytes_down) = (up - self.counted.0, down - self.counted.1);
        self.counted = (up, down);
        let Score { version, loss, bits_per_byte } = score;
        self.handle(Fact::Evaluated { version, averaged, loss, bits_per_byte, bytes_up, bytes_down });
        self.answer_from_best();
        if let Some(watch) = &self.watch {
            watch.tell(Msg::Scored(Point { version, loss, bits_per_byte, updates: None }));
        }
    }

    /// Sends the bytes of announced versions: after all messages, since the sessions that send megabytes take the cores
    /// from the driver, and a task needs no bytes to be pushed.
    pub(super) fn send_deltas(&mut self) {
        for (session, blob, bytes) in std::mem::take(&mut self.deltas) {
            self.with(session, |outbox| outbox.send_blob(blob, bytes));
        }
    }

    /// Gives a new version to the learner and the evaluator: after the orders that came with it, since a core that one
    /// of them wakes up on is not there for the tasks that go out.
    pub(super) fn pass_on(&mut self) {
        if let Some((version, merged)) = self.published.take() {
            self.to_learner(learner::Command::Published { version, merged });
            self.measure();
        }
    }

    pub(super) fn send_version(&mut self, session: SessionId, version: VersionNo, base: Option<VersionNo>) {
        let Some(served) = self.versions.get(version).cloned() else {
            tracing::error!(%version, "a version is not at hand");
            return;
        };
        let Some((announcement, delta)) = served.announce(base) else {
            tracing::error!(%version, "a version's delta is not at hand");
            return;
        };
        self.send(session, &ServerMsg::Version(announcement));
        if let Some(Delta { blob, bytes, .. }) = delta {
            self.deltas.push((session, blob, bytes));
        } else if let Some(outbox) = self.sessions.get(&session).cloned() {
            // All weights as bytes are many; the announcement may travel while they are made.
            let wholes = self.wholes.clone();
            tokio::task::spawn_blocking(move || {
                let bytes = served.snapshot();
                if outbox.send_blob(served.digest, bytes.clone()) == Err(SendError::Full) {
                    return cut(session, &outbox);
                }
                let mut wholes = wholes.lock().expect("nobody panics with it");
                for (slow, outbox) in wholes.add(&bytes, (session, outbox), |(_, outbox)| outbox.is_sending()) {
                    cut(slow, &outbox);
                }
            });
        }
    }
}
