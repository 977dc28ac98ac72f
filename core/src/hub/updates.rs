//! Updates: the checks before an update is taken, cheapest first, and the payment after it.

use std::time::Duration;

use super::tasks::{Held, State};
use super::{Action, Event, Hub, Order, Row, rounds, rows};
use crate::ids::{Digest, LeaseId, SessionId, TaskId, TransferId};
use crate::ledger::Transfer;
use crate::limits;
use crate::proto::{self, ServerMsg, Unpaid, UnpaidCode};
use crate::time::Time;

/// An announced update must be here after this, or the lease has ended.
const UPLOAD: Duration = Duration::from_mins(2);
/// AdamW moves a number by about its learning rate a step, and all steps of a task in one direction at the most; error
/// feedback may add what earlier codings left over. So the norm of an honest update is below this many times
/// √parameters × Σ rates.
const NORM_MOST: f64 = 4.0;
/// And above this many times the same: an update far below has hardly been trained.
const NORM_LEAST: f64 = 1e-4;

impl Hub {
    pub(super) fn on_update(&mut self, now: Time, id: SessionId, update: proto::Update) {
        let lease = update.lease;
        let Some(peer) = self.sessions.get(&id).and_then(|s| s.peer()).cloned() else { return };
        let Some(seat) = peer.seat else { return };
        // Whatever becomes of the update, the worker itself is done with it.
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.accepting = update.more;
            if seat.lease == Some(lease) {
                seat.lease = None;
            }
        }
        let verdict = match self.leases.get(&lease) {
            None => Err((UnpaidCode::UnknownLease, "this coordinator knows no such lease; it may be from long ago")),
            Some(held) if held.row.user != peer.user || held.row.worker != seat.worker => {
                Err((UnpaidCode::NotYourLease, "this lease belongs to another worker"))
            }
            Some(held) => match &held.state {
                State::Accepted { told: true } => return self.tell_again(now, id, lease),
                // On its way to an answer already. A second copy of the bytes, if it comes, is dropped when it is whole.
                State::Accepted { told: false } | State::Checking { .. } => return,
                State::Receiving { session, .. } if *session == id => return,
                State::Ended(UnpaidCode::Expired) => {
                    Err((UnpaidCode::Expired, "the lease ended before the update came"))
                }
                State::Ended(code) => Err((*code, "this lease has already ended")),
                State::Running { .. } | State::Receiving { .. } => self.judge(&held.row, &update),
            },
        };
        match verdict {
            Ok(()) => {
                let deadline = now.after(UPLOAD);
                if let Some(held) = self.leases.get_mut(&lease) {
                    let (task, away) = (held.row.task, matches!(held.state, State::Running { session: None, .. }));
                    held.state = State::Receiving { session: id, update: Box::new(update), deadline };
                    if away {
                        self.unqueue(task);
                    }
                }
                self.hold_for_version(now, id);
            }
            Err((code, text)) => {
                self.out.push_back(Order::Discard { session: id, blob: update.blob });
                self.unpaid(now, id, lease, code, text);
            }
        }
        self.became_free(now, id);
        self.consider_round(now);
        self.dispatch(now);
    }

    /// What can be judged from the announcement alone.
    fn judge(&self, row: &rows::Lease, update: &proto::Update) -> Result<(), (UnpaidCode, &'static str)> {
        let fail = |code, text| Err((code, text));
        if self.newest.version.0 > row.version.0 + limits::STALENESS {
            return fail(UnpaidCode::Stale, "the model has moved on too far since this task's version");
        }
        if update.version != row.version {
            return fail(UnpaidCode::WrongVersion, "the update names another version than its task");
        }
        if update.codec != row.codec {
            return fail(UnpaidCode::WrongCodec, "the update is encoded differently than its task asked for");
        }
        if update.bytes != row.codec.encoded_len(self.rules.shape.params()) as u64 {
            return fail(UnpaidCode::WrongSize, "the update's size does not fit the model");
        }
        if update.steps != row.steps || update.tokens != row.tokens {
            return fail(UnpaidCode::WrongWork, "the update's steps or tokens differ from its task's");
        }
        if !update.loss_first.is_finite() || !update.loss_last.is_finite() {
            return fail(UnpaidCode::NotFinite, "the update's loss is not a number");
        }
        if self.round.blobs.contains(&update.blob) {
            return fail(UnpaidCode::Copied, "the same bytes were already submitted");
        }
        Ok(())
    }

    pub(super) fn on_received(&mut self, now: Time, id: SessionId, blob: Digest, intact: bool) {
        let awaited = self.leases.iter_mut().find_map(|(lease, held)| match &held.state {
            State::Receiving { session, update, .. } if *session == id && update.blob == blob => Some((*lease, held)),
            _ => None,
        });
        let Some((lease, held)) = awaited else {
            return self.out.push_back(Order::Discard { session: id, blob });
        };
        if !intact {
            self.out.push_back(Order::Discard { session: id, blob });
            self.unpaid(now, id, lease, UnpaidCode::Corrupt, "the bytes do not match their digest");
            self.consider_round(now);
            return self.dispatch(now);
        }
        if let State::Receiving { session, update, .. } = held.state.clone() {
            held.state = State::Checking { session, update };
        }
        // Known from here on, so that the same bytes cannot be paid twice while the first copy is being checked.
        self.round.blobs.insert(blob);
        let codec = held.row.codec;
        self.out.push_back(Order::Check { lease, session: id, blob, codec });
    }

    pub(super) fn on_checked(&mut self, now: Time, lease: LeaseId, verdict: Result<f64, (UnpaidCode, String)>) {
        let Some(Held { row, state: State::Checking { session, update } }) = self.leases.get(&lease).cloned() else {
            return;
        };
        let verdict = verdict.and_then(|norm| match self.norm_is_odd(&row, norm) {
            Some(text) => Err((UnpaidCode::Norm, text)),
            // A slow check may outlive the version's welcome.
            None if self.newest.version.0 > row.version.0 + limits::STALENESS => {
                Err((UnpaidCode::Stale, "the model moved on while the update was checked".to_owned()))
            }
            None => Ok(norm),
        });
        match verdict {
            Ok(norm) => self.accept(now, session, &row, &update, norm),
            Err((code, text)) => self.unpaid(now, session, lease, code, &text),
        }
        self.consider_round(now);
        self.dispatch(now);
    }

    /// Bounds that follow from the task alone, so that no other worker can shift them.
    fn norm_is_odd(&self, row: &rows::Lease, norm: f64) -> Option<String> {
        if norm <= 0.0 {
            return Some("the update changes nothing".to_owned());
        }
        let params = self.rules.shape.params() as f64;
        let reach = params.sqrt() * f64::from(self.rules.schedule.peak) * f64::from(row.steps);
        let odd = norm > NORM_MOST * reach || norm < NORM_LEAST * reach;
        odd.then(|| format!("the update's norm is {norm:.3e}, where honest training gives about {:.1e}", 0.3 * reach))
    }

    fn accept(&mut self, now: Time, session: SessionId, row: &rows::Lease, update: &proto::Update, norm: f64) {
        let at_ms = self.wall_ms(now);
        let accepted = rows::Accepted {
            lease: row.lease,
            blob: update.blob,
            bytes: update.bytes,
            norm,
            loss_first: update.loss_first,
            loss_last: update.loss_last,
            train_ms: update.train_ms,
            at_ms,
        };
        self.accepted_tasks += 1;
        self.accepted_tokens += row.tokens;
        self.round.take(rounds::Entry::new(row, &accepted));
        self.learn_speed(now, session, row, update);
        let mut rows = vec![Row::Accepted(accepted)];
        let memo = format!("task {}", row.task);
        let paid = self.book.reward(reward_id(row.lease), &row.user, self.rules.reward, memo, at_ms);
        // A reward of zero is the operator's wish; anything else here would be a bug in the books.
        let transfer = match paid {
            Ok(transfer) => Some(transfer),
            Err(_) if self.rules.reward.0 == 0 => None,
            Err(error) => panic!("an accepted task must be payable: {error}"),
        };
        rows.extend(transfer.clone().map(Row::Transfer));
        if let Some(held) = self.leases.get_mut(&row.lease) {
            held.state = State::Accepted { told: false };
        }
        self.persist(rows, Some(Action::Credit { lease: row.lease, session, transfer }));
        self.check_stop(now);
    }

    fn learn_speed(&mut self, now: Time, session: SessionId, row: &rows::Lease, update: &proto::Update) {
        // Believed as far as it can be true.
        let elapsed_ms = self.wall_ms(now).saturating_sub(row.at_ms);
        let seconds = (update.train_ms.min(elapsed_ms) as f64 / 1000.0).max(0.001);
        let speed = row.tokens as f64 / seconds;
        if let Some(seat) = self.sessions.get_mut(&session).and_then(|s| s.seat_mut()) {
            seat.speed = Some(seat.speed.map_or(speed, |old| 0.5 * old + 0.5 * speed));
        }
        self.typical = Some(self.typical.map_or(seconds, |old| 0.7 * old + 0.3 * seconds));
    }

    /// The payment is durable: say so.
    pub(super) fn on_paid(&mut self, now: Time, lease: LeaseId, session: SessionId, transfer: Option<&Transfer>) {
        let Some(held) = self.leases.get_mut(&lease) else { return };
        held.state = State::Accepted { told: true };
        let (task, worker, user) = (held.row.task, held.row.worker, held.row.user.clone());
        let amount = transfer.map_or_else(Default::default, |t| t.amount);
        self.note(Event::Accepted { task, worker, user, amount });
        self.tell_again(now, session, lease);
    }

    fn tell_again(&mut self, now: Time, session: SessionId, lease: LeaseId) {
        let Some(held) = self.leases.get(&lease) else { return };
        let (task, user) = (held.row.task, held.row.user.clone());
        let message = proto::Credited { lease, task, amount: self.rules.reward, balance: self.book.balance(&user) };
        // The session may be gone and its number is never reused; the worker asks again when it is back.
        if self.sessions.contains_key(&session) {
            self.send(session, ServerMsg::Credited(message));
        }
        self.became_free(now, session);
    }

    fn unpaid(&mut self, now: Time, session: SessionId, lease: LeaseId, code: UnpaidCode, text: &str) {
        let mut task = TaskId(0);
        // Whoever names somebody else's lease does not end it.
        if let Some(held) = self.leases.get(&lease).filter(|_| code != UnpaidCode::NotYourLease) {
            task = held.row.task;
            if !matches!(held.state, State::Ended(_) | State::Accepted { .. }) {
                self.end_lease(now, lease, code);
            }
        }
        // The worker may have left while its update was checked; then there is nobody to tell.
        let Some(peer) = self.sessions.get(&session).and_then(|s| s.peer()).cloned() else { return };
        self.send(session, ServerMsg::Unpaid(Unpaid { lease, task, code, text: text.to_owned() }));
        if let Some(seat) = peer.seat {
            self.note(Event::Rejected { task, worker: seat.worker, user: peer.user, reason: code });
        }
    }
}

/// One reward a lease, however often it is asked for.
pub fn reward_id(lease: LeaseId) -> TransferId {
    TransferId::derive("reward", &[&lease.0.to_le_bytes()])
}
