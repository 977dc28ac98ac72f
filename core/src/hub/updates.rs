//! Updates: the checks before an update is taken, cheapest first. What is paid for it is in `pay`.

use std::time::Duration;

use super::findings::{Source, Twin};
use super::leases::{Held, State};
use super::pay::{reward_id, spent};
use super::tasks::LEASE_MAX;
use super::trust::{Refusal, Task};
use super::{Action, Findings, Hub, Order, Probe, Row, rounds, rows};
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, SessionId, TaskId};
use crate::proto::{self, UnpaidCode};
use crate::time::Time;

/// An announced update must be here after this, for each that the same link carries before it, or the lease has ended.
pub(super) const UPLOAD: Duration = Duration::from_mins(2);
/// AdamW moves a number by about its learning rate a step, and all steps of a task in one direction at the most; error
/// feedback may add what earlier codings left over. So the norm of an honest update is below this many times
/// √parameters × Σ rates.
const NORM_MOST: f64 = 4.0;
/// And above this many times the same: an update far below has hardly been trained.
const NORM_LEAST: f64 = 1e-4;

/// A worker's updates of fewer steps, one after the other, are much the same mean of gradients, AdamW's, with cosines up to
/// 0.98 (measured, of one step each): its own are no copies of each other.
const MANY_STEPS: u32 = 4;
/// But for what was sent again as it was.
const SAME: f64 = 0.995;

/// From so many users on, updates are measured by what they do; see `trust`.
const COMPANY: u32 = 3;

const COPIED: &str = "the same bytes were already submitted";

impl Hub {
    pub(super) fn on_update(&mut self, now: Time, id: SessionId, update: proto::Update) {
        // Whatever becomes of the update, the worker itself is done with it.
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        seat.accepting = update.more;
        if seat.lease == Some(update.lease) {
            seat.lease = None;
        }
        self.announce(now, id, update);
        self.place(now, id);
        self.consider_round(now);
        self.dispatch(now);
    }

    fn announce(&mut self, now: Time, id: SessionId, update: proto::Update) {
        let (lease, version, blob) = (update.lease, update.version, update.blob);
        let Some(peer) = self.sessions.get(&id).and_then(|s| s.peer()) else { return };
        let verdict = match self.leases.get(lease) {
            None => Err((
                UnpaidCode::UnknownLease,
                "this coordinator no longer knows of it: it was paid already, or is from long ago",
            )),
            Some(Held { row, .. })
                if row.user != peer.user || peer.seat.as_ref().is_none_or(|seat| seat.worker != row.worker) =>
            {
                Err((UnpaidCode::NotYourLease, "this lease belongs to another worker"))
            }
            Some(Held { row, state, .. }) => match state {
                State::Running { .. } => self.judge(id, row, &update),
                // `session` is this one: an older session's upload was abandoned with it.
                State::Receiving { update: first, .. } if first.blob == blob => return,
                State::Receiving { .. } => return self.discard(id, blob),
                // The answer goes to where the worker is now.
                State::Checking { since, begun, update: first, .. } => {
                    let (since, begun, update) = (*since, *begun, first.clone());
                    let state = State::Checking { session: id, since, begun, update };
                    self.leases.set(lease, state);
                    return self.discard(id, blob);
                }
                State::Paying { .. } => {
                    self.leases.set(lease, State::Paying { session: id });
                    return self.discard(id, blob);
                }
                State::Paid(amount) => {
                    let amount = *amount;
                    self.out.push_back(Order::Discard { session: id, blob });
                    return self.tell_paid(id, lease, amount);
                }
                State::Ended(UnpaidCode::Expired) => {
                    Err((UnpaidCode::Expired, "the lease ended before the update came"))
                }
                State::Ended(code) => Err((*code, "this lease has already ended")),
            },
        };
        match verdict {
            Ok(task) => {
                // Behind those that the same link still has to carry.
                let ahead = u32::try_from(self.leases.judged(id)).unwrap_or(u32::MAX);
                let deadline = now.after(UPLOAD.saturating_mul(ahead.saturating_add(1)));
                let state = State::Receiving { session: id, since: now, deadline, update: Box::new(update) };
                if let Some(State::Running { session: None, .. }) = self.leases.set(lease, state)
                    && !self.unqueue(task)
                {
                    self.drop_needless();
                }
                self.arrived(id, version);
                self.hold_for_version(now, id);
            }
            Err((code, text)) => {
                self.discard(id, blob);
                if code == UnpaidCode::Stale {
                    self.note_silence(lease);
                }
                self.unpaid(now, id, lease, code, text);
            }
        }
    }

    /// Gives up bytes that were announced in vain, unless the same session owes the same bytes for another lease.
    fn discard(&mut self, session: SessionId, blob: Digest) {
        if self.leases.upload(session, blob).is_none() {
            self.out.push_back(Order::Discard { session, blob });
        }
    }

    /// What can be judged from the announcement alone; gives the task.
    fn judge(
        &self,
        id: SessionId,
        row: &rows::Lease,
        update: &proto::Update,
    ) -> Result<TaskId, (UnpaidCode, &'static str)> {
        let fail = |code, text| Err((code, text));
        if self.is_stale(row.version) {
            return fail(UnpaidCode::Stale, "the model has moved on too far since this task's version");
        }
        if update.version != row.version {
            return fail(UnpaidCode::WrongVersion, "the update names another version than its task");
        }
        if update.codec != row.codec {
            return fail(UnpaidCode::WrongCodec, "the update is encoded differently than its task asked for");
        }
        if !usize::try_from(update.bytes).is_ok_and(|bytes| row.codec.fits(bytes, self.rules.shape.params())) {
            return fail(UnpaidCode::WrongSize, "the update's size does not fit the model");
        }
        if update.steps != row.steps || update.tokens != row.tokens {
            return fail(UnpaidCode::WrongWork, "the update's steps or tokens differ from its task's");
        }
        if !update.loss_first.is_finite() || !update.loss_last.is_finite() {
            return fail(UnpaidCode::NotFinite, "the update's loss is not a number");
        }
        if self.round.blobs.contains(&update.blob) || self.leases.upload(id, update.blob).is_some() {
            return fail(UnpaidCode::Copied, COPIED);
        }
        Ok(row.task)
    }

    /// Whether so many users train that what most of them do means anything. With fewer a look at what an update does
    /// could not tell the one from the other, and would only keep everybody waiting for the next version.
    fn is_company(&self) -> bool {
        let (mut users, mut last) = (0, None);
        for (user, _) in self.seats.keys() {
            // Seats are in the order of users.
            users += u32::from(last.replace(user) != Some(user));
            if users == COMPANY {
                return true;
            }
        }
        false
    }

    pub(super) fn on_received(&mut self, now: Time, id: SessionId, blob: Digest, intact: bool) {
        let awaited = self.leases.upload(id, blob).and_then(|lease| self.leases.get(lease));
        let Some(Held { row, state: State::Receiving { since, update, .. }, .. }) = awaited else {
            return self.out.push_back(Order::Discard { session: id, blob });
        };
        let (lease, codec) = (row.lease, row.codec);
        let (bytes, took) = (update.bytes, now.since(*since));
        let who = (row.user.clone(), row.worker);
        let probe = Probe {
            shard: row.shard,
            seed: row.window_seed(),
            steps: row.steps,
            batch: self.batch_of(row),
            windows: if self.is_company() { self.trust.windows(&who, self.rules.checked_windows) } else { 0 },
        };
        let base = row.version;
        // Known from here on, so that the same bytes cannot be paid twice while the first copy is being checked.
        let wrong = if !intact {
            Some((UnpaidCode::Corrupt, "the bytes do not match their digest"))
        } else if !self.round.blobs.insert(blob) {
            Some((UnpaidCode::Copied, COPIED))
        } else {
            None
        };
        if let Some((code, text)) = wrong {
            self.out.push_back(Order::Discard { session: id, blob });
            self.unpaid(now, id, lease, code, text);
            self.consider_round(now);
            return self.dispatch(now);
        }
        let state = State::Checking { session: id, since: *since, begun: now, update: update.clone() };
        self.leases.set(lease, state);
        self.measure_link(id, bytes, took);
        self.out.push_back(Order::Check { lease, session: id, blob, codec, base, probe });
    }

    pub(super) fn on_checked(&mut self, now: Time, lease: LeaseId, verdict: Result<Findings, (UnpaidCode, String)>) {
        let Some(Held { row, state: State::Checking { session, since, begun, update }, .. }) =
            self.leases.get(lease).cloned()
        else {
            return;
        };
        let took = now.since(begun).as_secs_f64();
        self.check_seconds += if took > self.check_seconds { 0.5 } else { 0.1 } * (took - self.check_seconds);
        let verdict = verdict.and_then(|findings| self.judge_findings(&row, &findings).map(|()| findings.norm));
        let verdict = verdict.and_then(|norm| self.can_pay().then_some(norm).ok_or_else(spent));
        match verdict {
            Ok(norm) => self.accept(now, (session, since), &row, &update, norm),
            Err((code, text)) => {
                self.round.blobs.remove(&update.blob);
                self.out.push_back(Order::Forget { lease, blob: update.blob });
                self.unpaid(now, session, lease, code, &text);
            }
        }
        self.consider_round(now);
        self.dispatch(now);
    }

    /// What can be judged once the numbers were looked at.
    fn judge_findings(&mut self, row: &rows::Lease, findings: &Findings) -> Result<(), Refusal> {
        if !findings.norm.is_finite() {
            return Err((UnpaidCode::NotFinite, "the update's norm is not a number".to_owned()));
        }
        if let Some(text) = self.norm_is_odd(row, findings.norm) {
            // Leases do not say which peak rate they were given at: who trained at that of an earlier start did no wrong.
            return Err(if findings.norm > 0.0 && !self.is_of_this_start(row.lease) {
                (UnpaidCode::Stale, format!("{text} now; the task is of an earlier start of the coordinator"))
            } else {
                (UnpaidCode::Norm, text)
            });
        }
        // A slow check may outlive the version's welcome.
        if self.is_stale(row.version) {
            return Err((UnpaidCode::Stale, "the model moved on while the update was checked".to_owned()));
        }
        let rate = self.leases.get(row.lease).and_then(|held| held.rate);
        let step_tokens = row.tokens / u64::from(row.steps.max(1));
        let task = Task { version: row.version, codec: row.codec, step_tokens, rate };
        self.trust.judge(&(row.user.clone(), row.worker), task, &self.without_own(row, findings))
    }

    /// Leaves out that a task of few steps is like what its user sent before, or like a step that this is in.
    fn without_own(&self, row: &rows::Lease, findings: &Findings) -> Findings {
        let own = |twin: &Twin| match twin.of {
            Source::Update(lease) => self.leases.get(lease).is_none_or(|held| held.row.user == row.user),
            Source::Step(_) => true,
        };
        let told = |twin: &Twin| row.steps >= MANY_STEPS || twin.cosine >= SAME || !own(twin);
        Findings { twin: findings.twin.filter(told), ..*findings }
    }

    /// Windows a step of a lease; an earlier start may have had another recipe.
    fn batch_of(&self, row: &rows::Lease) -> u32 {
        let step = u64::from(row.steps) * u64::from(self.rules.shape.context);
        u32::try_from(row.tokens / step.max(1)).unwrap_or(self.rules.recipe.batch)
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

    /// Takes an update that came at `since`.
    fn accept(
        &mut self,
        now: Time,
        (session, since): (SessionId, Time),
        row: &rows::Lease,
        update: &proto::Update,
        norm: f64,
    ) {
        let (at_ms, amount) = (self.wall_ms(now), self.rules.reward);
        let accepted = rows::Accepted {
            lease: row.lease,
            blob: update.blob,
            bytes: update.bytes,
            norm,
            loss_first: update.loss_first,
            loss_last: update.loss_last,
            train_ms: update.train_ms,
            at_ms,
            paid: amount,
        };
        self.accepted_tasks += 1;
        self.accepted_tokens += row.tokens;
        self.round.take(rounds::Entry::new(row, &accepted));
        self.learn_speed(since, row, update);
        let mut rows = vec![Row::Accepted(accepted)];
        // A reward of zero is the operator's wish, and no transfer.
        if amount > Credits::ZERO {
            let memo = format!("task {}", row.task);
            let paid = self.book.reward(reward_id(row.lease), &row.user, amount, memo, at_ms);
            rows.push(Row::Transfer(
                paid.expect("an accepted lease is paid once, and it was asked before whether it can be"),
            ));
        }
        self.leases.set(row.lease, State::Paying { session });
        // Right work forgives at once, also a bar for what came before it and the doubt about the task in hand.
        self.judge_anew(now, &row.user, row.worker);
        self.persist(rows);
        self.once_durable(now, Action::Credit { lease: row.lease, amount });
        self.check_stop(now);
    }

    fn learn_speed(&mut self, since: Time, row: &rows::Lease, update: &proto::Update) {
        // What was seen here counts, with all that came on top of the training. Wall clocks of two starts may differ:
        // then the worker's word counts, as far as it is possible.
        let had = self.wall_ms(since).saturating_sub(row.at_ms);
        let millis = if self.is_of_this_start(row.lease) {
            had
        } else if had == 0 {
            update.train_ms.min(LEASE_MAX.as_millis() as u64)
        } else {
            update.train_ms.min(had)
        };
        let seconds = (millis as f64 / 1000.0).max(0.001);
        self.record_mut(&row.user, row.worker).delivered(row.tokens, seconds);
        self.records.took(seconds);
    }
}
