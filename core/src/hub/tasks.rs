//! Tasks and leases: generating work, handing it to free workers, and what becomes of a lease.

use std::time::Duration;

use super::session::Seat;
use super::{Action, Hub, Order, Row, rows};
use crate::ids::{Digest, LeaseId, SessionId, TaskId};
use crate::proto::{self, Error, ErrorCode, ServerMsg, Unpaid, UnpaidCode};
use crate::rng::Rng;
use crate::time::Time;

/// No lease lives longer, whatever its progress.
const LEASE_MAX: Duration = Duration::from_hours(6);
/// While this much waits for the disk, no task is handed out: work must not pile up unpaid.
const BACKLOG: usize = 4096;

/// A generated task that nobody has yet.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub task: TaskId,
    pub shard: u32,
    pub seed: u64,
    pub since: Time,
}

/// A lease and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub row: rows::Lease,
    pub state: State,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    /// A worker trains it. Without a session the worker is away; its task is with somebody else, but the update is
    /// still welcome.
    Running { session: Option<SessionId>, deadline: Time, expected: Option<Time> },
    /// The update is announced and its bytes are coming.
    Receiving { session: SessionId, update: Box<proto::Update>, deadline: Time },
    /// Its bytes are being checked.
    Checking { session: SessionId, update: Box<proto::Update> },
    /// Accepted and paid, or about to be as soon as the row is durable.
    Accepted { told: bool },
    /// Over without payment.
    Ended(UnpaidCode),
}

impl Hub {
    pub(super) fn on_ready(&mut self, now: Time, id: SessionId, ready: proto::Ready) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        if seat.accepting != ready.accepting {
            seat.accepting = ready.accepting;
            self.became_free(now, id);
            self.dispatch(now);
        }
    }

    pub(super) fn on_fetch(&mut self, id: SessionId, shard: Digest) {
        match self.rules.shards.iter().position(|s| s.digest == shard) {
            Some(place) => self.out.push_back(Order::SendShard { session: id, shard: place as u32 }),
            None => {
                let text = format!("this run has no shard {shard}");
                self.send(id, ServerMsg::Error(Error { code: ErrorCode::UnknownShard, text, fatal: false }));
            }
        }
    }

    pub(super) fn on_progress(&mut self, now: Time, id: SessionId, progress: proto::Progress) {
        let Some(Held { row, state }) = self.leases.get_mut(&progress.lease) else { return };
        if let State::Running { session: Some(session), deadline, expected } = state
            && *session == id
            && progress.tokens_per_s.is_finite()
            && progress.tokens_per_s > 0.0
        {
            let done = u64::from(progress.step) * row.tokens / u64::from(row.steps.max(1));
            let left = row.tokens.saturating_sub(done) as f64 / f64::from(progress.tokens_per_s);
            let left = Duration::from_secs_f64(left.min(LEASE_MAX.as_secs_f64()));
            *expected = Some(now.after(left));
            // Visible progress extends a lease that was cut too short, as far as its age allows.
            let age_ms = (self.rules.epoch_ms + now.0 / 1000).saturating_sub(row.at_ms);
            if Duration::from_millis(age_ms) < LEASE_MAX {
                *deadline = (*deadline).max(now.after(left.mul_f64(1.5)));
            }
        }
    }

    pub(super) fn on_release(&mut self, now: Time, id: SessionId, release: &proto::Release) {
        let runs = |held: &Held| matches!(held.state, State::Running { session: Some(s), .. } if s == id);
        if self.leases.get(&release.lease).is_some_and(runs) {
            self.end_lease(now, release.lease, UnpaidCode::Cancelled);
            self.became_free(now, id);
            self.consider_round(now);
            self.dispatch(now);
        }
    }

    /// A session ended: its lease goes on without it, its task goes to somebody else at once.
    pub(super) fn abandon(&mut self, now: Time, id: SessionId, lease: Option<LeaseId>) {
        self.idle.retain(|(_, session)| *session != id);
        let mine: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, held)| matches!(&held.state, State::Receiving { session, .. } if *session == id))
            .map(|(id, _)| *id)
            .chain(lease)
            .collect();
        for lease in mine {
            let deadline = now.after(self.rules.lease_first);
            let Some(held) = self.leases.get_mut(&lease) else { continue };
            if !matches!(held.state, State::Running { session: Some(_), .. } | State::Receiving { .. }) {
                continue;
            }
            held.state = State::Running { session: None, deadline, expected: None };
            let (task, shard, seed) = (held.row.task, held.row.shard, held.row.seed);
            if self.stopping.is_none() {
                self.queue.push_front(Spec { task, shard, seed, since: now });
            }
        }
    }

    /// A worker came back with a lease in hand: it goes on with it, and the copy in the queue is not needed. If the
    /// lease is over, the worker is told, so that it does not keep a place for it.
    pub(super) fn resume(&mut self, now: Time, id: SessionId, lease: LeaseId) {
        let Some(peer) = self.sessions.get(&id).and_then(|s| s.peer()).cloned() else { return };
        let until = now.after(self.rules.lease_first);
        let worker = peer.seat.as_ref().map(|seat| seat.worker);
        match self.leases.get_mut(&lease) {
            Some(Held { row, state: State::Running { session, deadline, .. } })
                if row.user == peer.user && Some(row.worker) == worker =>
            {
                *session = Some(id);
                *deadline = (*deadline).max(until);
                let task = row.task;
                self.unqueue(task);
                if let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) {
                    seat.lease = Some(lease);
                }
            }
            Some(Held { row, state: State::Ended(code) }) if row.user == peer.user => {
                let (task, code) = (row.task, *code);
                self.revoke(id, lease, task, code, "this lease has ended while the worker was away");
            }
            _ => {
                let text = "this coordinator knows no such lease of this worker";
                self.revoke(id, lease, TaskId(0), UnpaidCode::UnknownLease, text);
            }
        }
    }

    /// A worker that was away has its task again: the copy in the queue is not needed. If somebody else has it by
    /// then, both do it, each with windows of its own, and both are paid.
    pub(super) fn unqueue(&mut self, task: TaskId) {
        self.queue.retain(|spec| spec.task != task);
    }

    /// Ends a lease that will not be paid. Its task is done again by somebody else, unless it is all over.
    pub(super) fn end_lease(&mut self, now: Time, lease: LeaseId, code: UnpaidCode) {
        let at_ms = self.wall_ms(now);
        let Some(held) = self.leases.get_mut(&lease) else { return };
        // A worker that is away: its task was queued again when it left.
        let away = matches!(held.state, State::Running { session: None, .. });
        held.state = State::Ended(code);
        let (task, shard, seed) = (held.row.task, held.row.shard, held.row.seed);
        for session in self.sessions.values_mut() {
            if let Some(seat) = session.seat_mut().filter(|seat| seat.lease == Some(lease)) {
                seat.lease = None;
            }
        }
        if !away && self.stopping.is_none() {
            self.queue.push_front(Spec { task, shard, seed, since: now });
        }
        self.persist(vec![Row::Ended { lease, code, at_ms }], None::<Action>);
    }

    /// Tells every training worker to stop.
    pub(super) fn revoke_running(&mut self, now: Time, code: UnpaidCode) {
        let running: Vec<_> = self
            .leases
            .iter()
            .filter_map(|(id, held)| match held.state {
                State::Running { session: Some(session), .. } => Some((*id, session, held.row.task)),
                _ => None,
            })
            .collect();
        for (lease, session, task) in running {
            self.end_lease(now, lease, code);
            self.revoke(session, lease, task, code, "the coordinator is stopping");
        }
    }

    pub(super) fn expire_leases(&mut self, now: Time) {
        for (_, id) in &self.idle {
            if let Some(seat) = self.sessions.get_mut(id).and_then(|s| s.seat_mut()) {
                seat.hold_until = seat.hold_until.filter(|until| *until > now);
            }
        }
        let due: Vec<_> = self
            .leases
            .iter()
            .filter_map(|(id, held)| match held.state {
                State::Running { session, deadline, .. } if deadline <= now => Some((*id, session, held.row.task)),
                State::Receiving { session, deadline, .. } if deadline <= now => {
                    Some((*id, Some(session), held.row.task))
                }
                _ => None,
            })
            .collect();
        for (lease, session, task) in due {
            self.end_lease(now, lease, UnpaidCode::Expired);
            if let Some(session) = session {
                let text = "the lease ended before the update came; the task goes to another worker";
                self.revoke(session, lease, task, UnpaidCode::Expired, text);
                self.became_free(now, session);
            }
        }
    }

    pub(super) fn revoke(&mut self, session: SessionId, lease: LeaseId, task: TaskId, code: UnpaidCode, text: &str) {
        self.send(session, ServerMsg::Revoked(Unpaid { lease, task, code, text: text.to_owned() }));
    }

    /// Puts a worker among the idle ones if it is one, and takes it out if it is not.
    pub(super) fn became_free(&mut self, now: Time, id: SessionId) {
        let Some(seat) = self.sessions.get_mut(&id).and_then(|s| s.seat_mut()) else { return };
        self.idle.remove(&(seat.free_since, id));
        if seat.accepting && seat.lease.is_none() {
            seat.free_since = now;
            self.idle.insert((now, id));
        }
    }

    /// Generates what is due and hands tasks to free workers, the longest free first.
    pub(super) fn dispatch(&mut self, now: Time) {
        if self.stopping.is_some() || self.waiting.len() > BACKLOG {
            return;
        }
        let idle: Vec<_> = self.idle.iter().map(|(_, id)| *id).collect();
        for id in idle {
            self.generate(now, 1);
            if self.queue.is_empty() {
                break;
            }
            let held = |seat: &Seat| seat.hold_until.is_some_and(|until| until > now);
            if self.sessions.get(&id).and_then(|s| s.seat()).is_none_or(held) {
                continue;
            }
            if let Some(spec) = self.queue.pop_front() {
                self.lease(now, id, spec);
            }
        }
        self.generate(now, self.wanted());
    }

    /// Tasks that should be waiting: the queue's length, and at least one for whoever is free but held back.
    fn wanted(&self) -> usize {
        self.rules.queue.max(usize::from(!self.idle.is_empty()))
    }

    /// Tops the queue up to `wanted`, within the rate and the run's bounds.
    fn generate(&mut self, now: Time, wanted: usize) {
        if self.queue.len() >= wanted || self.paused || now < self.next_generation {
            return;
        }
        let most = wanted.min(self.queue.len().saturating_add(self.room()));
        while self.queue.len() < most && now >= self.next_generation {
            self.next_task += 1;
            let shard = self.pick_shard();
            self.queue.push_back(Spec { task: TaskId(self.next_task), shard, seed: self.rng.next_u64(), since: now });
            if let Some(every) = self.rules.every {
                self.next_generation = now.after(every);
            }
        }
    }

    /// How many tasks may still be generated: what the run's bounds leave over those that are done, queued or at work.
    fn room(&self) -> usize {
        let stop = &self.rules.stop;
        if stop.after_tokens.is_none() && stop.after_tasks.is_none() {
            return usize::MAX;
        }
        let tokens = self.rules.task_tokens().max(1);
        let under_way = (self.queue.len() + self.working()) as u64;
        let left = |limit: u64, done: u64| limit.saturating_sub(done).saturating_sub(under_way);
        let by_tokens = stop
            .after_tokens
            .map_or(u64::MAX, |limit| left(limit.saturating_sub(self.accepted_tokens).div_ceil(tokens), 0));
        let by_tasks = stop.after_tasks.map_or(u64::MAX, |limit| left(limit, self.accepted_tasks));
        usize::try_from(by_tokens.min(by_tasks)).unwrap_or(usize::MAX)
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

    fn lease(&mut self, now: Time, id: SessionId, spec: Spec) {
        let at_ms = self.wall_ms(now);
        let working = self.working().max(1) as u64;
        let tokens = self.rules.task_tokens();
        let Some((user, seat)) = self.sessions.get_mut(&id).and_then(|s| match &mut s.stage {
            super::session::Stage::Open(peer) => peer.seat.as_mut().map(|seat| (peer.user.clone(), seat)),
            _ => None,
        }) else {
            self.queue.push_front(spec);
            return;
        };
        self.next_lease += 1;
        let lease = LeaseId(self.next_lease);
        let ready =
            spec.since.max(seat.free_since).max(self.newest_at).max(seat.hold_until.unwrap_or_default()).min(now);
        self.idle.remove(&(seat.free_since, id));
        seat.lease = Some(lease);
        seat.hold_until = None;
        let worker = seat.worker;
        let expected = seat.speed.map(|speed| Duration::from_secs_f64((tokens as f64 / speed).min(1e6)));
        let span = expected.map_or(self.rules.lease_first, |e| e.mul_f64(self.rules.lease_factor));
        let span = span.max(self.rules.lease_min).min(LEASE_MAX);
        // Every lease of a task draws windows of its own, so that two updates of one task are both worth something.
        let seed = Rng::new(spec.seed ^ lease.0).next_u64() >> 1;
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
            codec: self.rules.codec,
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
            seed,
            lr_start: self.rules.schedule.rate(done),
            lr_end: self.rules.schedule.rate(done + tokens * working),
            codec: row.codec,
            deadline_ms: span.as_millis() as u64,
            preview: shard.preview.clone(),
        };
        self.out.push_back(Order::Push { session: id, worker, task, ready });
        let state =
            State::Running { session: Some(id), deadline: now.after(span), expected: expected.map(|e| now.after(e)) };
        self.leases.insert(lease, Held { row: row.clone(), state });
        self.persist(vec![Row::Lease(row)], None);
    }

    /// Workers that train now or have an update under way.
    pub(super) fn working(&self) -> usize {
        self.leases
            .values()
            .filter(|held| match held.state {
                State::Running { session, .. } => session.is_some(),
                State::Receiving { .. } | State::Checking { .. } => true,
                _ => false,
            })
            .count()
    }

    /// Updates announced but not judged yet.
    pub(super) fn checking(&self) -> usize {
        let pending = |held: &&Held| matches!(held.state, State::Receiving { .. } | State::Checking { .. });
        self.leases.values().filter(pending).count()
    }

    pub(super) fn task_deadline(&self) -> Option<(Time, &'static str)> {
        let leases = self.leases.values().filter_map(|held| match held.state {
            State::Running { deadline, .. } | State::Receiving { deadline, .. } => Some((deadline, "a lease ends")),
            _ => None,
        });
        let holds = self.idle.iter().filter_map(|(_, id)| {
            let until = self.sessions.get(id)?.seat()?.hold_until?;
            Some((until, "a worker has waited long enough for the next version"))
        });
        let rate = self
            .rules
            .every
            .filter(|_| !self.paused && self.stopping.is_none() && self.waiting.len() <= BACKLOG)
            .filter(|_| self.queue.len() < self.wanted())
            .filter(|_| self.room() > 0)
            .map(|_| (self.next_generation, "a task may be generated"));
        leases.chain(holds).chain(rate).min_by_key(|(due, _)| *due)
    }

    /// Forgets leases that can no longer matter: settled or ended, and older than any update that would be taken.
    pub(super) fn forget_leases(&mut self) {
        let oldest = self.newest.version.0.saturating_sub(crate::limits::STALENESS + 2);
        self.leases.retain(|_, held| {
            held.row.version.0 >= oldest
                || matches!(held.state, State::Receiving { .. } | State::Checking { .. })
                || matches!(held.state, State::Running { .. })
                || matches!(held.state, State::Accepted { told: false })
        });
    }
}
