//! Tasks: generating work, handing it to free workers, and what becomes of it when they stop.

use std::time::Duration;

use super::bench::Place;
use super::leases::{Held, State};
use super::{Hub, Order, Row, rows};
use crate::ids::{Digest, LeaseId, SessionId, TaskId, VersionNo, WorkerId};
use crate::limits;
use crate::proto::{self, Error, ErrorCode, ServerMsg, Unpaid, UnpaidCode};
use crate::time::Time;

/// No lease lives longer, whatever its progress.
pub(super) const LEASE_MAX: Duration = Duration::from_hours(6);
/// While more than this waits for the disk, no task is handed out.
pub(super) const BACKLOG: usize = 4096;
/// While more updates than this wait to be checked, no task is handed out.
pub(super) const CHECKS: usize = 64;
/// A worker whose leases keep ending too early gets longer ones, up to so many doublings.
const LATE_DOUBLINGS: u32 = 10;

/// A generated task that nobody has yet.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub task: TaskId,
    pub shard: u32,
    pub seed: u64,
    pub since: Time,
    /// Who had it last, if somebody had.
    pub from: Option<WorkerId>,
}

impl Hub {
    pub(super) fn on_ready(&mut self, now: Time, id: SessionId, ready: &proto::Ready) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        if !ready.device.is_empty() {
            seat.tally.trains_on(&ready.device);
        }
        if seat.accepting != ready.accepting {
            seat.accepting = ready.accepting;
            self.place(now, id);
            self.dispatch(now);
        }
    }

    pub(super) fn on_fetch(&mut self, now: Time, id: SessionId, shard: Digest) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        seat.fetches += 1;
        if seat.fetches > limits::FETCHES_PER_LEASE {
            self.refuse(id, ErrorCode::Flood, "more shards were asked for than a task needs");
            return self.on_left(now, id, "asked for too many shards");
        }
        match self.rules.shards.iter().position(|s| s.digest == shard) {
            Some(place) => self.out.push_back(Order::SendShard { session: id, shard: place as u32 }),
            None => {
                let text = format!("this run has no shard {shard}");
                self.send(id, ServerMsg::Error(Error { code: ErrorCode::UnknownShard, text, fatal: false }));
            }
        }
    }

    pub(super) fn on_progress(&mut self, now: Time, id: SessionId, progress: proto::Progress) {
        let Some(Held { row, state, .. }) = self.leases.get(progress.lease) else { return };
        let State::Running { session: Some(session), deadline, step, .. } = *state else { return };
        let speed = f64::from(progress.tokens_per_s);
        let version = row.version;
        // Only a further step counts, so that a lease cannot be kept by words alone.
        if session != id || progress.step <= step || progress.step > row.steps || !speed.is_finite() || speed <= 0.0 {
            return;
        }
        let done = u128::from(progress.step) * u128::from(row.tokens) / u128::from(row.steps.max(1));
        let left = row.tokens.saturating_sub(done as u64) as f64 / speed;
        let left = Duration::from_secs_f64(left.min(LEASE_MAX.as_secs_f64()));
        // Visible progress extends a lease that was cut too short, as far as its age allows.
        let deadline = deadline.max(now.after(left.mul_f64(1.5)).min(self.too_old_at(now, row)));
        let expected = Some(now.after(left));
        let state = State::Running { session: Some(id), deadline, expected, step: progress.step };
        self.leases.set(progress.lease, state);
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.tally.progressed(&progress);
        }
        self.arrived(id, version);
    }

    /// When a lease is as old as any may get.
    pub(super) fn too_old_at(&self, now: Time, row: &rows::Lease) -> Time {
        let age = Duration::from_millis(self.wall_ms(now).saturating_sub(row.at_ms));
        now.after(LEASE_MAX.saturating_sub(age))
    }

    /// A worker has this version: it trains from it.
    pub(super) fn arrived(&mut self, id: SessionId, version: VersionNo) {
        if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
            seat.got = seat.got.max(version);
        }
    }

    pub(super) fn on_release(&mut self, now: Time, id: SessionId, release: &proto::Release) {
        let runs = |held: &Held| matches!(held.state, State::Running { session: Some(s), .. } if s == id);
        if self.leases.get(release.lease).is_some_and(runs) {
            self.hand_back(now, release.lease);
            self.place(now, id);
            self.consider_round(now);
            self.dispatch(now);
        }
    }

    pub(super) fn hand_back(&mut self, now: Time, lease: LeaseId) {
        self.end_lease(now, lease, UnpaidCode::Cancelled);
        self.strike_holder(now, lease);
    }

    /// Puts a task back in front of all others, unless somebody else has it or has done it, or it is all over.
    pub(super) fn requeue(&mut self, now: Time, lease: LeaseId) {
        if let (None, Some(Held { row, .. })) = (self.stopping, self.leases.get(lease))
            && self.leases.served(row.task) == 0
        {
            let (task, shard, seed, from) = (row.task, row.shard, row.seed, Some(row.worker));
            self.queue.push_front(Spec { task, shard, seed, since: now, from });
        }
    }

    /// A worker that was away has its task again: the copy in the queue is not needed. Whether there was one.
    pub(super) fn unqueue(&mut self, task: TaskId) -> bool {
        let before = self.queue.len();
        self.queue.retain(|spec| spec.task != task);
        self.queue.len() < before
    }

    /// Takes the newest task from the queue if the run's end would come before it, and nobody has begun it: the last ones
    /// at work would be called off for it, unpaid.
    pub(super) fn drop_needless(&mut self) {
        let last = self.queue.pop_back_if(|spec| spec.from.is_none());
        if let Some(last) = last
            && !self.budget_spent()
        {
            self.queue.push_back(last);
        }
    }

    /// Ends a lease that will not be paid. Its task is done again by somebody else, unless it is all over.
    pub(super) fn end_lease(&mut self, now: Time, lease: LeaseId, code: UnpaidCode) {
        let at_ms = self.wall_ms(now);
        let Some(before) = self.leases.set(lease, State::Ended(code)) else { return };
        // The task of a worker that is away was queued again when it left.
        if !matches!(before, State::Running { session: None, .. }) {
            self.requeue(now, lease);
        }
        if let State::Running { session: Some(id), .. } = before
            && let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut())
            && seat.lease == Some(lease)
        {
            seat.lease = None;
        }
        self.persist(vec![Row::Ended { lease, code, at_ms }]);
    }

    /// Why tasks end when all ends.
    pub(super) fn stop_code(&self) -> UnpaidCode {
        if self.stopping.is_some_and(|stopping| !stopping.retry) { UnpaidCode::Finished } else { UnpaidCode::Cancelled }
    }

    /// Tells every training worker to stop: the run needs no more work.
    pub(super) fn revoke_training(&mut self, now: Time) {
        let code = self.stop_code();
        for lease in self.leases.all_training() {
            self.revoke(now, lease, code, "the run is complete");
        }
    }

    /// Ends a lease and tells its worker, if it is there, to stop.
    fn revoke(&mut self, now: Time, lease: LeaseId, code: UnpaidCode, text: &str) {
        let Some(Held { row, state: State::Running { session, .. }, .. }) = self.leases.get(lease) else { return };
        let (session, task) = (*session, row.task);
        self.end_lease(now, lease, code);
        if let Some(session) = session {
            self.send(session, ServerMsg::Revoked(Unpaid { lease, task, code, text: text.to_owned() }));
            self.place(now, session);
        }
    }

    pub(super) fn expire_leases(&mut self, now: Time) {
        while let Some((_, lease)) = self.leases.deadline().filter(|(due, _)| *due <= now) {
            match self.leases.get(lease).map(|held| &held.state) {
                Some(State::Receiving { session, since, update, .. }) => {
                    let (session, blob, bytes, took) = (*session, update.blob, update.bytes, now.since(*since));
                    self.measure_late(session, bytes, took);
                    self.strike_holder(now, lease);
                    self.out.push_back(Order::Discard { session, blob });
                    self.unpaid(now, session, lease, UnpaidCode::Expired, "the update's bytes did not come in time");
                }
                Some(State::Running { session: Some(id), .. }) if self.is_quiet(*id) => {
                    let id = *id;
                    self.set_aside(now, id, lease);
                }
                Some(State::Running { session: None, .. }) if self.is_needless(lease) => {
                    self.end_lease(now, lease, UnpaidCode::Cancelled);
                }
                Some(State::Running { .. }) => {
                    self.strike_holder(now, lease);
                    let text = "the lease ended before the update came; the task goes to another worker";
                    self.revoke(now, lease, UnpaidCode::Expired, text);
                    self.count_expired(lease);
                }
                _ => unreachable!("only leases that run or are received have deadlines"),
            }
        }
    }

    /// A lease that ended without an update is a task that was not paid.
    fn count_expired(&mut self, lease: LeaseId) {
        let Some(Held { row, .. }) = self.leases.get(lease) else { return };
        let (task, worker, user, reason) = (row.task, row.worker, row.user.clone(), UnpaidCode::Expired);
        self.record_mut(&user, worker).counts.refused(reason);
        self.note(super::Event::Rejected { task, worker, user, reason });
    }

    /// Nothing came of a lease: its worker gets the next one a little later, and for longer.
    fn strike_holder(&mut self, now: Time, lease: LeaseId) {
        let Some(Held { row, state, .. }) = self.leases.get(lease) else { return };
        let (user, worker, late) = (row.user.clone(), row.worker, matches!(state, State::Running { .. }));
        self.strike(now, &user, worker);
        if late {
            let record = self.record_mut(&user, worker);
            record.late = record.late.saturating_add(1);
        }
    }

    /// Generates what is due and hands tasks to free workers, the longest free first.
    pub(super) fn dispatch(&mut self, now: Time) {
        if self.stopping.is_some() || self.is_behind() {
            return;
        }
        while let Some(id) = self.bench.next() {
            self.generate(now, 1);
            let Some(spec) = self.next_spec(id).or_else(|| self.overdue(now)) else { break };
            self.lease(now, id, &spec);
        }
        self.generate(now, self.rules.queue);
    }

    /// The task that is next for a worker: rather not one that it had before, if there is another. What it did of that
    /// may still come, and it would do it twice.
    fn next_spec(&mut self, id: SessionId) -> Option<Spec> {
        let worker = self.sessions.get(&id).and_then(|s| s.seat()).map(|seat| seat.worker);
        let other = self.queue.iter().position(|spec| spec.from != worker);
        self.queue.remove(other.unwrap_or(0))
    }

    /// Tops the queue up to `wanted`, within the rate and the run's bounds.
    fn generate(&mut self, now: Time, wanted: usize) {
        while self.queue.len() < wanted && !self.paused && now >= self.next_generation && !self.budget_spent() {
            self.next_task += 1;
            let shard = self.pick_shard();
            self.queue.push_back(Spec {
                task: TaskId(self.next_task),
                shard,
                seed: self.rng.next_u64(),
                since: now,
                from: None,
            });
            if let Some(every) = self.rules.every {
                self.next_generation = now.after(every);
            }
        }
    }

    /// A shard drawn in proportion to its tokens.
    fn pick_shard(&mut self) -> u32 {
        let total: u64 = self.rules.shards.iter().map(|shard| shard.tokens).sum();
        let mut at = self.rng.below(total);
        let place = self.rules.shards.iter().position(|shard| {
            let here = at < shard.tokens;
            at = at.saturating_sub(shard.tokens);
            here
        });
        place.unwrap_or(0) as u32
    }

    /// Workers at work, with the one that is about to be and with those that a version has just set free. Of whoever is
    /// doubted nothing is expected, which must not make the rate run ahead.
    fn working(&self) -> u64 {
        self.team.max(self.leases.awaited() + 1) as u64
    }

    fn lease(&mut self, now: Time, id: SessionId, spec: &Spec) {
        let at_ms = self.wall_ms(now);
        let codec = self.choose_codec(id);
        let working = self.working();
        let tokens = self.rules.task_tokens();
        let session = self.sessions.get_mut(&id).expect("who is on the bench has a session");
        let user = session.peer().expect("and has been let in").user.clone();
        let seat = session.seat_mut().expect("and is a worker");
        self.next_lease += 1;
        let lease = LeaseId(self.next_lease);
        let free = if let Place::Idle(since) = seat.place { since } else { now };
        seat.lease = Some(lease);
        // The version that it waited for has not come.
        let until = seat.hold_until.take().map_or(now, |until| until.min(now));
        seat.charge_wait(until, true);
        seat.fetches = 0;
        let worker = seat.worker;
        let doubt = seat.record.doubt(now);
        let proven = seat.record.leads();
        let failed = seat.record.late > 0 || seat.record.strikes > 0;
        let expected = seat.record.expects(tokens);
        let span = expected.map_or(self.rules.lease_first, |e| e.mul_f64(self.rules.lease_factor));
        let span =
            span.max(self.rules.lease_min).saturating_mul(1 << seat.record.late.min(LATE_DOUBLINGS)).min(LEASE_MAX);
        self.place(now, id);
        self.send_newest(id);
        let row = rows::Lease {
            lease,
            task: spec.task,
            user,
            worker,
            version: self.newest.version,
            shard: spec.shard,
            seed: spec.seed,
            steps: self.rules.steps,
            tokens,
            codec,
            at_ms,
        };
        let done = self.accepted_tokens;
        let shard = &self.rules.shards[spec.shard as usize];
        let task = proto::Task {
            lease,
            task: spec.task,
            version: row.version,
            shard: shard.digest,
            shard_tokens: shard.tokens,
            steps: row.steps,
            batch: self.rules.recipe.batch,
            context: self.rules.shape.context,
            seed: row.window_seed(),
            lr_start: self.rules.schedule.rate(done),
            lr_end: self.rules.schedule.rate(done + tokens * working),
            codec: row.codec,
            deadline_ms: span.as_millis() as u64,
            preview: shard.preview.clone(),
        };
        let rate = f32::midpoint(task.lr_start, task.lr_end);
        self.out.push_back(Order::Push { session: id, worker, task, ready: spec.since.max(free) });
        // Who failed before and says nothing is not waited for longer than a first lease; see `rounds`.
        let unheard = if failed { Some(self.rules.lease_first) } else { self.expected_of_newcomers() };
        let expected = expected.or(unheard).map(|e| now.after(e));
        let state = State::Running { session: Some(id), deadline: now.after(span), expected, step: 0 };
        self.leases.insert(row.clone(), state, doubt, proven, Some(rate));
        self.persist(vec![Row::Lease(row)]);
    }

    pub(super) fn task_deadline(&self) -> Option<(Time, &'static str)> {
        let lease = self.leases.deadline().map(|(due, _)| (due, "a lease ends"));
        let free = usize::from(self.bench.next().is_some());
        let rate = self
            .rules
            .every
            .filter(|_| !self.paused && self.stopping.is_none() && !self.is_behind())
            .filter(|_| self.queue.len() < self.rules.queue.max(free) && !self.budget_spent())
            .map(|_| (self.next_generation, "a task may be generated"));
        [lease, self.bench.deadline(), rate, self.copy_deadline()].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Whether nobody will get another task of this run.
    pub(super) fn all_tasks_taken(&self) -> bool {
        self.queue.is_empty() && self.budget_spent()
    }

    /// Whether the tasks at hand are all that the run may still do.
    pub(super) fn budget_spent(&self) -> bool {
        let stop = &self.rules.stop;
        let tasks = self.accepted_tasks + (self.queue.len() + self.leases.working()) as u64;
        let queued = self.queue.len() as u64 * self.rules.task_tokens();
        stop.after_tokens.is_some_and(|limit| self.accepted_tokens + self.leases.tokens() + queued >= limit)
            || stop.after_tasks.is_some_and(|limit| tasks >= limit)
    }
}
