//! Workers that are away, and those that owe a sign of life: a laptop that sleeps, a program that was suspended, a link
//! that is dead and has not broken yet.
//!
//! The lease of a worker that left goes on without it, and its task goes to somebody else. Until a connection that is
//! quiet is given up, or something comes, its worker is given no further task; a lease whose time is up meanwhile does
//! not end, but goes on as that of a worker that left, so that work that was only held up is paid.

use super::leases::{Held, State};
use super::{Hub, Order};
use crate::ids::{LeaseId, SessionId, TaskId};
use crate::proto::{self, ServerMsg, Unpaid, UnpaidCode};
use crate::time::Time;

impl Hub {
    /// A client says goodbye. One that means to come back, since what it was sent was damaged, say, is as one whose link
    /// broke: its work is sound.
    pub(super) fn on_bye(&mut self, now: Time, id: SessionId, bye: &proto::Bye) {
        if !bye.retry {
            self.give_up(now, id);
        }
        self.on_left(now, id, &bye.text);
        self.out.push_back(Order::Close { session: id });
    }

    /// A worker leaves for good: it does not come back with the task that it trains, nor with one that it had before.
    fn give_up(&mut self, now: Time, id: SessionId) {
        let Some(peer) = self.sessions.get(&id).and_then(|session| session.peer()) else { return };
        let Some(seat) = &peer.seat else { return };
        let in_hand = seat.lease;
        for lease in self.leases.away(&peer.user, seat.worker) {
            self.end_lease(now, lease, UnpaidCode::Cancelled);
        }
        if let Some(lease) = in_hand {
            self.hand_back(now, lease);
        }
    }

    /// A session ended: its lease goes on without it, its task goes to somebody else at once.
    pub(super) fn abandon(&mut self, now: Time, id: SessionId, lease: Option<LeaseId>) {
        let mine: Vec<_> = self.leases.uploads_of(id).into_iter().chain(lease).collect();
        for lease in mine {
            self.go_without(now, lease);
        }
    }

    /// A lease goes on without its worker.
    pub(super) fn go_without(&mut self, now: Time, lease: LeaseId) {
        let Some(Held { row, .. }) = self.leases.get(lease) else { return };
        let deadline = now.after(self.rules.lease_first).min(self.too_old_at(now, row));
        self.leases.set(lease, State::Running { session: None, deadline, expected: None, step: 0 });
        self.requeue(now, lease);
    }

    /// A worker came back with a lease in hand: it goes on with it, and the copy in the queue is not needed. If
    /// somebody else has it by then, both do it, each with windows of its own, and both are paid. A lease that is
    /// over is revoked: the worker should not train for nothing.
    pub(super) fn resume(&mut self, now: Time, id: SessionId, lease: LeaseId) {
        let Some(peer) = self.sessions.get(&id).and_then(|s| s.peer()) else { return };
        let theirs = |held: &&Held| {
            held.row.user == peer.user && peer.seat.as_ref().is_some_and(|seat| seat.worker == held.row.worker)
        };
        let held = self.leases.get(lease).filter(theirs);
        let stale = held.is_some_and(|held| self.is_stale(held.row.version));
        let (task, code) = match held.map(|held| (held.row.task, &held.state)) {
            Some((task, State::Running { session: None, deadline, .. }))
                if !stale && self.stopping.is_none_or(|stopping| stopping.retry) =>
            {
                let most = held.map_or(now, |held| self.too_old_at(now, &held.row));
                let deadline = (*deadline).max(now.after(self.rules.lease_first).min(most));
                // Nobody knows how far it is; that must not keep others waiting for ever.
                let tokens = held.map_or(0, |held| held.row.tokens);
                let whole = peer.seat.as_ref().and_then(|seat| seat.record.expects(tokens));
                let first = self.rules.lease_first;
                let expected = Some(now.after(whole.map_or(first, |whole| whole.min(first))));
                self.leases.set(lease, State::Running { session: Some(id), deadline, expected, step: 0 });
                if !self.unqueue(task) {
                    self.drop_needless();
                }
                if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
                    seat.lease = Some(lease);
                }
                return;
            }
            Some((task, State::Running { .. })) => {
                let code = if stale { UnpaidCode::Stale } else { self.stop_code() };
                self.end_lease(now, lease, code);
                (task, code)
            }
            Some((task, State::Ended(code))) => (task, *code),
            Some((task, _)) => (task, UnpaidCode::Cancelled),
            None => (TaskId(0), UnpaidCode::UnknownLease),
        };
        let text = "the lease ended while the worker was away".to_owned();
        self.send(id, ServerMsg::Revoked(Unpaid { lease, task, code, text }));
    }

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
    pub(super) fn set_aside(&mut self, now: Time, id: SessionId, lease: LeaseId) {
        self.go_without(now, lease);
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.lease = None;
            seat.aside = Some(lease);
        }
        self.place(now, id);
    }

    /// Whether nobody misses the update of a lease whose worker left: the worker is here again without it, so that it
    /// never reached the worker or is lost.
    pub(super) fn is_needless(&self, lease: LeaseId) -> bool {
        self.leases.get(lease).is_some_and(|held| self.seats.contains_key(&(held.row.user.clone(), held.row.worker)))
    }
}
