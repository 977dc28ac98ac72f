//! How the run stands, as plain values for a screen: workers, the open round, the ledger.
//!
//! Making a view costs time in proportion to workers and users and changes nothing. What only people want to know
//! (a worker's last loss, the newest transfers) is kept here in [`Tally`] and [`Newest`], and no rule
//! reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::bench::Place;
use super::leases::{Held, State};
use super::records::Counts;
use super::{Hub, session};
use crate::credits::Credits;
use crate::ids::{SessionId, TaskId, TransferId, UserName, VersionNo, WorkerId};
use crate::ledger::{Kind, Transfer};
use crate::proto::{Progress, Role, Status, UnpaidCode};
use crate::time::Time;

/// Transfers that are remembered for a view.
const TRANSFERS: usize = 200;
/// The largest balances that a view has.
const BALANCES: usize = 50;

/// How the run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// When that was.
    pub at: Time,
    /// The run in numbers.
    pub status: Status,
    /// How old the newest version is by the wall clock, whichever start made it.
    pub version_age: Duration,
    /// Tokens that one task trains.
    pub task_tokens: u64,
    /// Open sessions of chats.
    pub chats: usize,
    /// Tasks generated and not handed out.
    pub queued: usize,
    /// How many there should be.
    pub queue: usize,
    /// Answers come from the average of the versions, which was measured last and is better than the newest alone.
    pub averaged: bool,
    /// No tasks are generated, because the operator wants it so.
    pub paused: bool,
    /// No tasks are handed out, because too much waits for the disk or to be checked.
    pub behind: bool,
    /// Why the run is ending, if it is.
    pub stopping: Option<&'static str>,
    /// The open round.
    pub round: RoundView,
    /// The ledger.
    pub ledger: LedgerView,
    /// Every connected worker, by session.
    pub workers: Vec<WorkerView>,
}

/// The open round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundView {
    /// Updates accepted and not merged.
    pub accepted: usize,
    /// Updates that close it, whoever sends them.
    pub needed: usize,
    /// Workers that train.
    pub training: usize,
    /// Updates on their way or being checked.
    pub judging: usize,
    /// A version is being made; `accepted` counts what came after that began.
    pub merging: bool,
    /// When it was opened.
    pub opened: Time,
    /// Since when there are enough updates: its grace.
    pub enough: Option<Time>,
    /// When it closes, or is looked at again, if nothing happens before.
    pub closes: Option<Time>,
    /// Workers that train and are overdue, or have sent no right update since they failed: with enough updates of others
    /// the round closes without theirs.
    pub late: usize,
    /// Whether workers of before the restart are given time to come back.
    pub returning: bool,
    /// The operator wants the version now: the round waits only for those whose tasks it would make too old.
    pub asked: bool,
    /// The coordinator stops: what has come is kept for the next start.
    pub kept: bool,
}

/// The ledger in numbers, as its rows stand on disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LedgerView {
    /// Credits ever issued.
    pub issued: Credits,
    /// Held for running queries.
    pub held: Credits,
    /// How many holds those are.
    pub holds: usize,
    /// What answers have earned.
    pub revenue: Credits,
    /// Transfers ever made.
    pub transfers: u64,
    /// Users with an account: those of some transfer.
    pub users: usize,
    /// The largest balances, the largest first.
    pub top: Vec<(UserName, Credits)>,
    /// The newest transfers since this start, the newest first.
    pub newest: Vec<Arc<TransferView>>,
}

/// A transfer that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Its place in the ledger.
    pub seq: u64,
    /// Its id.
    pub id: TransferId,
    /// The hold that it ends.
    pub hold: Option<TransferId>,
    /// Which sort it is of.
    pub kind: Kind,
    /// From which account.
    pub debit: String,
    /// To which account.
    pub credit: String,
    /// How much.
    pub amount: Credits,
    /// What it is for, in words; of what ends a hold, that hold's words, if that was made since this start.
    pub memo: String,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// Its session.
    pub session: SessionId,
    /// Who earns.
    pub user: UserName,
    /// Which process.
    pub worker: WorkerId,
    /// What it trains on, in its own words.
    pub device: Arc<str>,
    /// What it does.
    pub state: WorkerState,
    /// Training loss of its last reported step.
    pub loss: Option<f32>,
    /// Its speed: of the task in hand as it reports it, else over its finished ones.
    pub tokens_per_s: Option<f64>,
    /// Updates accepted since the coordinator's start, also before this session.
    pub accepted: u64,
    /// Updates refused since then.
    pub refused: u64,
    /// Why the last of these was.
    pub refusal: Option<UnpaidCode>,
    /// Earned since then.
    pub earned: Credits,
    /// When it came.
    pub since: Time,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It trains.
    Training {
        /// Its task.
        task: TaskId,
        /// From which version.
        version: VersionNo,
        /// Steps that it has reported.
        step: u32,
        /// Steps in all.
        steps: u32,
        /// When its lease ends.
        deadline: Time,
    },
    /// Its update is on the way.
    Sending(TaskId),
    /// It is free since then, and there is no task for it.
    Free(Time),
    /// It waits for the version about to come.
    Waiting,
    /// Its last work was worth nothing: it gets no task until then.
    Barred(Time),
    /// It wants no task.
    Resting,
}

/// What a worker's session has told.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    device: Arc<str>,
    since: Time,
    /// Loss and speed of the last reported step.
    last: Option<(f32, f32)>,
}

impl Tally {
    pub fn begin(now: Time, device: &str) -> Self {
        Self { device: device.into(), since: now, last: None }
    }

    pub fn trains_on(&mut self, device: &str) {
        self.device = device.into();
    }

    pub fn progressed(&mut self, progress: &Progress) {
        self.last = Some((progress.loss, progress.tokens_per_s));
    }
}

/// The newest transfers on disk.
#[derive(Debug, Default)]
pub(super) struct Newest {
    views: VecDeque<Arc<TransferView>>,
    /// What open holds are for: what ends one is for the same.
    holds: BTreeMap<TransferId, String>,
}

impl Newest {
    pub fn take(&mut self, transfer: &Transfer) {
        if self.views.len() == TRANSFERS {
            self.views.pop_back();
        }
        if transfer.kind == Kind::Hold {
            self.holds.insert(transfer.id, transfer.memo.clone());
        }
        let held = transfer.hold.and_then(|hold| self.holds.remove(&hold));
        self.views.push_front(Arc::new(TransferView {
            seq: transfer.seq,
            id: transfer.id,
            hold: transfer.hold,
            kind: transfer.kind,
            debit: transfer.debit.to_string(),
            credit: transfer.credit.to_string(),
            amount: transfer.amount,
            memo: held.unwrap_or_else(|| transfer.memo.clone()),
            at_ms: transfer.at_ms,
        }));
    }
}

impl Hub {
    /// How the run stands.
    pub fn view(&self, now: Time) -> View {
        let is_chat = |session: &&session::Session| session.peer().is_some_and(|peer| peer.role == Role::Chat);
        View {
            at: now,
            status: self.status(),
            version_age: Duration::from_millis(self.wall_ms(now).saturating_sub(self.newest.at_ms)),
            task_tokens: self.rules.task_tokens(),
            chats: self.sessions.values().filter(is_chat).count(),
            queued: self.queue.len(),
            queue: self.rules.queue,
            averaged: self.averaged().is_some(),
            paused: self.paused,
            behind: self.is_behind(),
            stopping: self.stopping.map(|stopping| stopping.reason),
            round: self.round_view(now),
            ledger: self.ledger_view(),
            workers: self.sessions.iter().filter_map(|(id, session)| self.worker_view(*id, session)).collect(),
        }
    }

    fn round_view(&self, now: Time) -> RoundView {
        let grace = self.grace();
        let overdue = self.leases.expected().take_while(|at| at.after(grace) <= now).count();
        let accepted = self.round.accepted.len();
        let needed = self.needed(self.leases.awaited() + self.bench.held());
        // Tasks handed out since the round was looked at may ask for more: then it finds so when it is looked at next.
        let enough = self.round.enough.filter(|_| accepted >= needed);
        let closes = self.round.first.filter(|_| enough != self.round.enough);
        RoundView {
            accepted,
            needed,
            late: self.leases.training() + overdue - self.leases.awaited(),
            returning: self.awaits_others(now),
            asked: self.round.asked,
            kept: !self.round.merging && self.stopping.is_some_and(|stopping| !stopping.merge),
            training: self.leases.training(),
            judging: self.leases.judging(),
            merging: self.round.merging,
            opened: self.round.opened,
            enough,
            closes: closes.map(|first| first.after(self.rules.round_deadline)).or(self.round.look_at),
        }
    }

    fn ledger_view(&self) -> LedgerView {
        let (issued, held, revenue) = self.durable.totals();
        let mut top: Vec<_> = self.durable.balances().iter().collect();
        let larger = |a: &(&UserName, &Credits), b: &(&UserName, &Credits)| b.1.cmp(a.1).then(a.0.cmp(b.0));
        if top.len() > BALANCES {
            top.select_nth_unstable_by(BALANCES, larger);
            top.truncate(BALANCES);
        }
        top.sort_by(larger);
        LedgerView {
            issued,
            held,
            holds: self.durable.holds().len(),
            revenue,
            transfers: self.durable.head().seq,
            users: self.durable.balances().len(),
            top: top.into_iter().map(|(user, balance)| (user.clone(), *balance)).collect(),
            newest: self.newest_transfers.views.iter().cloned().collect(),
        }
    }

    fn worker_view(&self, id: SessionId, session: &session::Session) -> Option<WorkerView> {
        let peer = session.peer()?;
        let seat = peer.seat.as_ref()?;
        let Tally { device, since, last } = seat.tally.as_ref().clone();
        let Counts { accepted, refused, refusal, earned } = seat.record.counts;
        let reported = last.map(|(_, speed)| f64::from(speed)).filter(|_| seat.lease.is_some());
        Some(WorkerView {
            session: id,
            user: peer.user.clone(),
            worker: seat.worker,
            device,
            state: self.worker_state(id, seat),
            loss: last.map(|(loss, _)| loss),
            tokens_per_s: reported.or(seat.record.speed),
            accepted,
            refused,
            refusal,
            earned,
            since,
        })
    }

    fn worker_state(&self, id: SessionId, seat: &session::Seat) -> WorkerState {
        if let Some(Held { row, state: State::Running { deadline, step, .. }, .. }) =
            seat.lease.and_then(|lease| self.leases.get(lease))
        {
            let (task, version, steps) = (row.task, row.version, row.steps);
            return WorkerState::Training { task, version, step: *step, steps, deadline: *deadline };
        }
        let sent = self.leases.uploads_of(id).first().and_then(|lease| self.leases.get(*lease));
        if let Some(Held { row, .. }) = sent {
            return WorkerState::Sending(row.task);
        }
        match seat.place {
            Place::Idle(since) => WorkerState::Free(since),
            Place::Held(_) => WorkerState::Waiting,
            Place::Barred(until) => WorkerState::Barred(until),
            Place::Busy => WorkerState::Resting,
        }
    }
}
