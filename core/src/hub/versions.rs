//! Versions: what happens once one is made. Workers are sent it, it is measured, and what is too old is forgotten.

use super::leases::Doubt;
use super::{Event, Hub, Order, Row, rows};
use crate::ids::{SessionId, VersionNo};
use crate::limits;
use crate::proto::Held;
use crate::time::Time;

/// Up to so many deltas are sent in place of the whole, which is larger unless they are `bf16` or `f32`.
const DELTAS: u64 = 3;

/// A published version whose evaluation has not come yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unevaluated {
    updates: usize,
    tokens: u64,
    seconds: f64,
}

impl Hub {
    /// The version's row is durable: it is the newest from this instant on.
    pub(super) fn on_durable(&mut self, now: Time, version: rows::Version, opened: Time) {
        let merged = self.round.merged.drain(..).map(|(entry, _)| entry.lease).collect();
        self.round.merging = false;
        self.round.opened = now;
        let seconds = now.since(opened).as_secs_f64();
        let published = Unevaluated { updates: version.inputs.len(), tokens: version.tokens, seconds };
        self.unevaluated.insert(version.version, published);
        self.recent.insert(version.version, version.digest);
        while self.recent.len() > 8 {
            self.recent.pop_first();
        }
        self.newest = version;
        self.out.push_back(Order::Publish { version: self.newest.version, merged });
        self.give_up_stale();
        self.team = self.leases.awaited() + self.bench.held();
        let workers: Vec<_> = self.seats.values().copied().collect();
        for id in workers {
            // Also of one that takes no tasks at the moment: what it would wait for is here.
            if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
                seat.hold_until = None;
                seat.waits_since = None;
            }
            // A worker behind a slow link must not drown in versions that it will never use: it gets the newest with its
            // next task.
            let ahead = self.newest.version.0 - self.sessions.get(&id).and_then(|s| s.seat()).map_or(0, |s| s.got.0);
            if ahead <= DELTAS {
                self.send_newest(id);
            }
        }
        for id in self.bench.all_held() {
            self.place(now, id);
        }
        // What is older cannot be taken any more.
        self.leases.forget(VersionNo(self.newest.version.0.saturating_sub(limits::STALENESS + 2)));
        self.check_stop(now);
        self.consider_round(now);
        self.dispatch(now);
    }

    /// Whoever trains from a version of which no update is taken any more is not waited for, and is none of those by
    /// whom a round's size and the rate go.
    fn give_up_stale(&mut self) {
        for lease in self.leases.all_training() {
            if self.leases.get(lease).is_some_and(|held| self.is_stale(held.row.version)) {
                self.leases.doubt(lease, Doubt::Lost);
            }
        }
    }

    /// Whether an update from this version is too old to be taken.
    pub(super) fn is_stale(&self, version: VersionNo) -> bool {
        self.newest.version.0 > version.0 + limits::STALENESS
    }

    /// Brings a worker up to the newest version: the deltas that it lacks if they are at hand, else all weights.
    pub(super) fn send_newest(&mut self, id: SessionId) {
        let newest = self.newest.version;
        let since = self.deltas_since;
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        let has = seat.has.replace(newest);
        match has {
            Some(has) if has == newest => {}
            Some(has) if has >= since && has < newest && newest.0 - has.0 <= DELTAS => {
                for version in has.0..newest.0 {
                    let (version, base) = (VersionNo(version + 1), Some(VersionNo(version)));
                    self.out.push_back(Order::SendVersion { session: id, version, base });
                }
            }
            _ => self.out.push_back(Order::SendVersion { session: id, version: newest, base: None }),
        }
    }

    /// Whether a worker's claim to hold a version is true, so that it can go on from there.
    pub(super) fn recognises(&self, held: Held) -> bool {
        self.recent.get(&held.version) == Some(&held.digest)
    }

    /// The version that was measured last, if a newer one waits for that.
    pub(super) fn measured_before(&self) -> Option<VersionNo> {
        self.measured.filter(|measured| *measured != self.newest.version)
    }

    /// The version whose average answers, if one does; else the newest version answers.
    pub fn averaged(&self) -> Option<VersionNo> {
        self.measured.filter(|_| self.averaged)
    }

    pub(super) fn on_evaluated(
        &mut self,
        now: Time,
        (version, averaged): (VersionNo, bool),
        score: (f64, f64),
        bytes: (u64, u64),
    ) {
        let (loss, bits_per_byte) = score;
        // The newest version of the last start is measured again, and another average may answer now.
        let newest = self.measured.is_none_or(|measured| measured <= version);
        if newest {
            self.evaluated = Some(score);
            self.measured = Some(version);
            self.averaged = averaged;
        }
        if let Some(published) = self.unevaluated.remove(&version) {
            self.unevaluated.retain(|waiting, _| *waiting > version);
            let Unevaluated { updates, tokens, seconds } = published;
            self.note(Event::Round {
                version,
                averaged,
                updates,
                tokens,
                val_loss: loss,
                val_bits_per_byte: bits_per_byte,
                bytes_up: bytes.0,
                bytes_down: bytes.1,
                seconds,
            });
        }
        if newest && version <= self.newest.version {
            self.persist(vec![Row::Evaluated { version, loss, bits_per_byte }]);
        }
        self.check_stop(now);
    }
}
