//! Workers that owe a sign of life: a laptop that sleeps, a program that was suspended, a link that is dead and has not
//! broken yet.
//!
//! Until the connection is given up, or something comes, such a worker is given no further task. A lease whose time is
//! up meanwhile does not end: it goes on as that of a worker that left, so that work that was only held up is paid.

use super::Hub;
use super::leases::State;
use crate::ids::{LeaseId, SessionId};
use crate::time::Time;

impl Hub {
    pub(super) fn on_quiet(&mut self, now: Time, id: SessionId) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        seat.quiet = true;
        self.place(now, id);
        self.consider_round(now);
        self.dispatch(now);
    }

    pub(super) fn on_woke(&mut self, now: Time, id: SessionId) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        seat.quiet = false;
        if let Some(lease) = seat.aside.take() {
            self.resume(now, id, lease);
        }
        self.place(now, id);
        self.consider_round(now);
        self.dispatch(now);
    }

    pub(super) fn is_quiet(&self, id: SessionId) -> bool {
        self.sessions.get(&id).and_then(|s| s.seat()).is_some_and(|seat| seat.quiet)
    }

    /// The time of a quiet worker's lease is up.
    pub(super) fn set_aside(&mut self, now: Time, lease: LeaseId) {
        let Some(State::Running { session: Some(id), .. }) = self.leases.get(lease).map(|held| &held.state) else {
            return;
        };
        let id = *id;
        self.go_without(now, lease);
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.lease = None;
            seat.aside = Some(lease);
        }
        self.place(now, id);
    }

    /// Whether nobody misses the update of a lease whose worker left: the worker is here again and trains something
    /// else, so that this one never reached it or is lost.
    pub(super) fn is_needless(&self, lease: LeaseId) -> bool {
        self.leases.get(lease).is_some_and(|held| self.seats.contains_key(&(held.row.user.clone(), held.row.worker)))
    }
}
