//! The workers that could train but do not: free ones, the longest free first, and those that wait for a reason.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Hub;
use crate::ids::SessionId;
use crate::time::Time;

/// A worker with so many updates on their way or being checked gets no further task: their bytes lie in memory. Our own
/// keep no more unanswered.
pub(super) const JUDGED: usize = 4;
/// Whose workers have left more tasks than this behind, without having delivered any, gets none for so long: every lease is
/// a row for ever.
const LEFT: usize = 64;
const LEFT_BAR: Duration = Duration::from_secs(5);

/// Where a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    /// It trains, or wants no task, or owes a sign of life.
    #[default]
    Busy,
    /// Free since then.
    Idle(Time),
    /// It waits for the version about to come, at the latest until then.
    Held(Time),
    /// Its last work was worth nothing: it gets no task until then.
    Barred(Time),
}

/// All workers that are not [`Place::Busy`].
#[derive(Debug, Default)]
pub(super) struct Bench {
    idle: BTreeSet<(Time, SessionId)>,
    held: BTreeSet<(Time, SessionId)>,
    barred: BTreeSet<(Time, SessionId)>,
}

impl Bench {
    fn row(&mut self, place: Place) -> Option<(&mut BTreeSet<(Time, SessionId)>, Time)> {
        match place {
            Place::Busy => None,
            Place::Idle(at) => Some((&mut self.idle, at)),
            Place::Held(at) => Some((&mut self.held, at)),
            Place::Barred(at) => Some((&mut self.barred, at)),
        }
    }

    /// Moves a worker.
    pub fn shift(&mut self, id: SessionId, from: Place, to: Place) {
        if let Some((row, at)) = self.row(from) {
            row.remove(&(at, id));
        }
        if let Some((row, at)) = self.row(to) {
            row.insert((at, id));
        }
    }

    /// The free worker that is next.
    pub fn next(&self) -> Option<SessionId> {
        self.idle.first().map(|(_, id)| *id)
    }

    /// How many wait for the next version.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Those that wait for the next version.
    pub fn all_held(&self) -> Vec<SessionId> {
        self.held.iter().map(|(_, id)| *id).collect()
    }

    /// A worker that has waited long enough.
    pub fn due(&self, now: Time) -> Option<SessionId> {
        [&self.held, &self.barred].into_iter().filter_map(BTreeSet::first).find(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// When [`Bench::due`] gives somebody next.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let held = self.held.first().map(|(at, _)| (*at, "a worker has waited long enough for the next version"));
        let barred = self.barred.first().map(|(at, _)| (*at, "a worker may try again"));
        held.into_iter().chain(barred).min_by_key(|(at, _)| *at)
    }

    /// Everybody, with their places; for the self-check.
    #[cfg(any(test, feature = "sim"))]
    pub fn all(&self) -> Vec<(SessionId, Place)> {
        let list = |row: &BTreeSet<(Time, SessionId)>, place: fn(Time) -> Place| {
            row.iter().map(|(at, id)| (*id, place(*at))).collect::<Vec<_>>()
        };
        [list(&self.idle, Place::Idle), list(&self.held, Place::Held), list(&self.barred, Place::Barred)].concat()
    }
}

impl Hub {
    /// Workers that have waited long enough.
    pub(super) fn expire_places(&mut self, now: Time) {
        while let Some(id) = self.bench.due(now) {
            self.place(now, id);
        }
    }

    /// Puts a worker where it belongs: at work, free, or waiting. To be called after every change of its seat.
    pub(super) fn place(&mut self, now: Time, id: SessionId) {
        let judged = self.leases.judged(id);
        let peer = self.sessions.get(&id).and_then(|s| s.peer());
        let leaves = peer.is_some_and(|peer| self.leases.left_by(&peer.user) > LEFT);
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        let later = |until: Option<Time>| until.filter(|until| *until > now);
        let place = if !seat.accepting || seat.quiet || seat.lease.is_some() || judged >= JUDGED {
            Place::Busy
        } else if let Some(until) = later(seat.record.barred_until) {
            Place::Barred(until)
        } else if leaves {
            match seat.place {
                Place::Barred(until) if until > now => Place::Barred(until),
                _ => Place::Barred(now.after(LEFT_BAR)),
            }
        } else if let Some(until) = later(seat.hold_until) {
            Place::Held(until)
        } else {
            match seat.place {
                Place::Busy => Place::Idle(now),
                Place::Idle(since) => Place::Idle(since),
                Place::Held(until) | Place::Barred(until) => Place::Idle(until.min(now)),
            }
        };
        if matches!(place, Place::Held(_)) {
            seat.waits_since.get_or_insert(now);
        }
        let before = std::mem::replace(&mut seat.place, place);
        if before != place {
            self.bench.shift(id, before, place);
        }
    }
}
