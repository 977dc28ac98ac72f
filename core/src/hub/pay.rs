//! What becomes of an update that was judged: its payment, or why there is none.

use super::leases::{Held, State};
use super::trust::Refusal;
use super::{Event, Hub};
use crate::credits::Credits;
use crate::ids::{LeaseId, SessionId, TaskId, TransferId};
use crate::proto::{self, ServerMsg, Unpaid, UnpaidCode};
use crate::time::Time;

impl Hub {
    /// Whether one more update can be paid: credits are whole numbers with an end.
    pub(super) fn can_pay(&self) -> bool {
        self.book.can_issue(self.rules.reward)
    }

    /// The payment is durable: say so.
    pub(super) fn on_paid(&mut self, lease: LeaseId, amount: Credits) {
        let Some(State::Paying { session }) = self.leases.set(lease, State::Paid(amount)) else { return };
        if let Some(Held { row, .. }) = self.leases.get(lease) {
            let (task, worker, user) = (row.task, row.worker, row.user.clone());
            self.record_mut(&user, worker).counts.paid(amount);
            self.note(Event::Accepted { task, worker, user, amount });
        }
        self.tell_paid(session, lease, amount);
    }

    /// The session may be gone, and its number is never reused: the worker asks again when it is back.
    pub(super) fn tell_paid(&mut self, session: SessionId, lease: LeaseId, amount: Credits) {
        if let Some(Held { row, .. }) = self.leases.get(lease) {
            let balance = self.balance(&row.user);
            let credited = proto::Credited { lease, task: row.task, amount, balance };
            self.send_open(session, ServerMsg::Credited(credited));
        }
    }

    /// Ends a lease, if it is this worker's and not over, and says why there is no pay.
    pub(super) fn unpaid(&mut self, now: Time, session: SessionId, lease: LeaseId, code: UnpaidCode, text: &str) {
        let theirs = code != UnpaidCode::NotYourLease;
        let held = self.leases.get(lease).filter(|_| theirs);
        // One that was refused, or ended for want of an update, was counted and punished then: a worker that comes back
        // sends again what it has heard nothing about.
        let counted = held.is_some_and(|held| match held.state {
            State::Ended(code) => !matches!(code, UnpaidCode::Cancelled | UnpaidCode::Finished),
            _ => false,
        });
        let task = held.map_or(TaskId(0), |held| held.row.task);
        let mut whose = held.map(|held| (held.row.worker, held.row.user.clone()));
        if held.is_some_and(|held| !held.state.is_over()) {
            self.end_lease(now, lease, code);
        }
        let peer = self.sessions.get(&session).and_then(|s| s.peer());
        if let Some(peer) = peer {
            whose = whose.or_else(|| Some((peer.seat.as_ref()?.worker, peer.user.clone())));
            let unpaid = Unpaid { lease, task, code, text: text.to_owned() };
            // Where no row speaks of it there is none to wait for.
            if matches!(code, UnpaidCode::UnknownLease | UnpaidCode::NotYourLease) {
                self.send(session, ServerMsg::Unpaid(unpaid));
            } else {
                self.refuse_once_durable(now, session, unpaid);
            }
        }
        let whose = whose.filter(|_| !counted);
        if let Some((worker, user)) = &whose {
            self.record_mut(user, *worker).counts.refused(code);
            if is_worthless(code) {
                self.strike(now, user, *worker);
            }
        }
        self.place(now, session);
        if let Some((worker, user)) = whose {
            self.note(Event::Rejected { task, worker, user, reason: code });
        }
    }
}

/// There are no credits left to pay with.
pub(super) fn spent() -> Refusal {
    (UnpaidCode::Finished, "the run has issued all the credits that there can be, and ends".to_owned())
}

/// Whether work refused for this reason was no work.
fn is_worthless(code: UnpaidCode) -> bool {
    match code {
        UnpaidCode::UnknownLease
        | UnpaidCode::Stale
        | UnpaidCode::Expired
        | UnpaidCode::Cancelled
        | UnpaidCode::Finished => false,
        UnpaidCode::NotYourLease
        | UnpaidCode::WrongVersion
        | UnpaidCode::WrongCodec
        | UnpaidCode::WrongSize
        | UnpaidCode::WrongWork
        | UnpaidCode::Corrupt
        | UnpaidCode::NotFinite
        | UnpaidCode::Norm
        | UnpaidCode::Copied
        | UnpaidCode::Useless => true,
    }
}

/// One reward a lease, however often it is asked for.
pub fn reward_id(lease: LeaseId) -> TransferId {
    TransferId::derive("reward", &[&lease.0.to_le_bytes()])
}
