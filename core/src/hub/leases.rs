//! Leases and where they stand, with what is asked about them at every event kept at hand: deadlines, who trains and
//! until when, and which uploads are under way. Every change of a state goes through [`Leases::set`], which keeps all
//! of it true.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rows;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, SessionId, TaskId, UserName, VersionNo, WorkerId};
use crate::limits::PAID;
use crate::proto::{self, UnpaidCode};
use crate::time::Time;

mod index;

use index::{Index, from};

/// When an update is expected of which nothing is known.
pub(super) const NEVER: Time = Time(u64::MAX);

/// How many leases that are over without payment are remembered.
const UNPAID: usize = 256;

/// A lease and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub row: rows::Lease,
    pub state: State,
    pub doubt: Doubt,
    /// Whether its worker has delivered before, so that leaving it behind is not held against the user.
    pub proven: bool,
    /// When its time was up at first, before anything was reported; see `copies`.
    pub first: Time,
    /// The learning rate of its steps, on average; unknown if it was leased before a restart.
    pub rate: Option<f32>,
}

/// How far a lease is waited for, after its worker's last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Its update counts among those that a round wants.
    None,
    /// The last one was worth nothing: it is not counted. But no round closes over it, or a slow worker that failed once
    /// would be too late for ever, and so never be right again.
    Some,
    /// So were those before: nobody waits for it at all.
    Lost,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    /// A worker trains it. Without a session the worker is away; its task is with somebody else, but the update is
    /// still welcome, and after a restart of the coordinator expected until the worker should have connected again.
    Running { session: Option<SessionId>, deadline: Time, expected: Option<Time>, step: u32 },
    /// The update was announced at `since`, and its bytes must be here at the deadline.
    Receiving { session: SessionId, since: Time, deadline: Time, update: Box<proto::Update> },
    /// Its bytes came at `begun` and are being checked.
    Checking { session: SessionId, since: Time, begun: Time, update: Box<proto::Update> },
    /// Accepted; the payment is on its way to the disk.
    Paying { session: SessionId },
    /// Accepted and paid, so much.
    Paid(Credits),
    /// Over without payment.
    Ended(UnpaidCode),
}

impl State {
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::Running { deadline, .. } | Self::Receiving { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Whether a connected worker trains it.
    fn is_training(&self) -> bool {
        matches!(self, Self::Running { session: Some(_), .. })
    }

    fn is_judged(&self) -> bool {
        matches!(self, Self::Receiving { .. } | Self::Checking { .. })
    }

    /// Whether it makes another lease of its task needless.
    fn serves(&self) -> bool {
        self.is_training() || self.is_judged() || matches!(self, Self::Paying { .. } | Self::Paid(_))
    }

    /// Whether nothing will come of it any more.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Paying { .. } | Self::Paid(_) | Self::Ended(_))
    }
}

/// All leases that still matter.
#[derive(Debug, Default)]
pub(super) struct Leases {
    all: BTreeMap<LeaseId, Held>,
    index: Index,
}

impl Leases {
    pub fn get(&self, lease: LeaseId) -> Option<&Held> {
        self.all.get(&lease)
    }

    pub fn insert(&mut self, row: rows::Lease, state: State, doubt: Doubt, proven: bool, rate: Option<f32>) {
        let first = state.deadline().unwrap_or(NEVER);
        let held = Held { row, state, doubt, proven, first, rate };
        self.index.insert(&held);
        self.all.insert(held.row.lease, held);
    }

    /// Gives a lease another state; returns the one before.
    pub fn set(&mut self, lease: LeaseId, state: State) -> Option<State> {
        let held = self.all.get_mut(&lease)?;
        self.index.remove(held);
        let before = std::mem::replace(&mut held.state, state);
        // Who comes back with a task has its time anew.
        if let (State::Running { session: None, .. }, State::Running { session: Some(_), deadline, .. }) =
            (&before, &held.state)
        {
            held.first = *deadline;
        }
        self.index.insert(held);
        Some(before)
    }

    /// Its worker has failed meanwhile.
    pub fn doubt(&mut self, lease: LeaseId, doubt: Doubt) {
        if let Some(held) = self.all.get_mut(&lease) {
            self.index.remove(held);
            held.doubt = doubt;
            self.index.insert(held);
        }
    }

    /// How many leases of a task train, are judged, or were accepted lately.
    pub fn served(&self, task: TaskId) -> usize {
        self.index.served.get(&task).copied().unwrap_or(0)
    }

    /// Leases that train, by when their updates are expected.
    pub fn training_by_time(&self) -> impl Iterator<Item = (Time, LeaseId)> {
        self.index.training.iter().copied()
    }

    /// The lease whose deadline is next.
    pub fn deadline(&self) -> Option<(Time, LeaseId)> {
        self.index.deadlines.first().copied()
    }

    /// How many connected workers train.
    pub fn training(&self) -> usize {
        self.index.training.len()
    }

    /// How many of them count among the updates that a round wants.
    pub fn awaited(&self) -> usize {
        self.index.awaited.len()
    }

    /// When updates that are worth waiting for are expected, the next first; the end of time where nobody knows.
    pub fn expected(&self) -> impl DoubleEndedIterator<Item = Time> {
        self.index.awaited.iter().map(|(at, _)| *at)
    }

    /// Which leases train, in no meaningful order.
    pub fn all_training(&self) -> Vec<LeaseId> {
        self.index.training.iter().map(|(_, lease)| *lease).collect()
    }

    /// When those from `version` are expected that no round closes over.
    pub fn expected_from(&self, version: VersionNo) -> impl DoubleEndedIterator<Item = Time> {
        from(&self.index.protected_from, version)
    }

    /// By when workers that are away are expected back with updates from `version`, the next first.
    pub fn returning_from(&self, version: VersionNo) -> impl DoubleEndedIterator<Item = Time> {
        from(&self.index.returning_from, version)
    }

    /// Updates announced but not judged yet.
    pub fn judging(&self) -> usize {
        self.index.uploads.len() + self.index.checking
    }

    /// Updates whose bytes are here and are being checked.
    pub fn checking(&self) -> usize {
        self.index.checking
    }

    /// How many of them are worth waiting for.
    pub fn checking_awaited(&self) -> usize {
        self.index.checking_awaited
    }

    /// Whether one of them was trained from `version` that no round closes over.
    pub fn checks_from(&self, version: VersionNo) -> bool {
        self.index.checking_from.contains_key(&version)
    }

    /// Since when updates are on their way that are worth waiting for.
    pub fn uploading(&self) -> impl Iterator<Item = Time> {
        self.index.uploads.values().filter_map(|lease| match &self.all[lease] {
            Held { state: State::Receiving { since, .. }, doubt: Doubt::None, .. } => Some(*since),
            _ => None,
        })
    }

    /// Updates from `version` on their way that no round closes over: through which session, how many bytes, since when.
    pub fn uploads_from(&self, version: VersionNo) -> impl Iterator<Item = (SessionId, u64, Time)> {
        self.index.uploads.values().filter_map(move |lease| match &self.all[lease] {
            Held { row, state: State::Receiving { session, since, update, .. }, doubt, .. }
                if row.version == version && *doubt != Doubt::Lost =>
            {
                Some((*session, update.bytes, *since))
            }
            _ => None,
        })
    }

    /// How many updates of a session are on their way or being checked.
    pub fn judged(&self, session: SessionId) -> usize {
        self.index.judged.get(&session).copied().unwrap_or(0)
    }

    /// By when updates from `version` that are on their way should be here, each within `patience`; the end of time of
    /// those that are being checked, which is over when it is over.
    pub fn judged_from(&self, version: VersionNo, patience: Duration) -> impl Iterator<Item = Time> {
        self.all.values().filter(move |held| held.row.version == version).filter_map(move |held| match held.state {
            State::Receiving { since, .. } => Some(since.after(patience)),
            State::Checking { .. } => Some(NEVER),
            _ => None,
        })
    }

    /// Updates announced but not judged yet of which something should come.
    pub fn arriving(&self) -> usize {
        self.uploading().count() + self.index.checking_awaited
    }

    /// The lease whose update this is, on its way.
    pub fn upload(&self, session: SessionId, blob: Digest) -> Option<LeaseId> {
        self.index.uploads.get(&(session, blob)).copied()
    }

    /// Leases that a worker had when it left and that have not ended.
    pub fn away(&self, user: &UserName, worker: WorkerId) -> Vec<LeaseId> {
        let theirs = |held: &&Held| {
            let away = matches!(held.state, State::Running { session: None, .. });
            away && held.row.worker == worker && held.row.user == *user
        };
        self.all.values().filter(theirs).map(|held| held.row.lease).collect()
    }

    /// How many leases go on without their workers, of all of a user's that have never delivered.
    pub fn left_by(&self, user: &UserName) -> usize {
        self.index.left.get(user).copied().unwrap_or(0)
    }

    /// Leases whose updates come through this session.
    pub fn uploads_of(&self, session: SessionId) -> Vec<LeaseId> {
        let range = (session, Digest([0; 32]))..=(session, Digest([255; 32]));
        self.index.uploads.range(range).map(|(_, lease)| *lease).collect()
    }

    /// Workers that train or have an update under way.
    pub fn working(&self) -> usize {
        self.training() + self.judging()
    }

    /// Tokens of the leases that [`Leases::working`] counts.
    pub fn tokens(&self) -> u64 {
        self.index.tokens
    }

    /// Forgets leases that are over and older than `oldest`. The newest [`PAID`] of the paid ones stay, and the newest
    /// [`UNPAID`] of the others, so that a worker that was away long can be told.
    pub fn forget(&mut self, oldest: VersionNo) {
        let newest = |count, is: fn(&State) -> bool| {
            let those = self.all.values().rev().filter(|held| is(&held.state));
            those.take(count).last().map_or(LeaseId(0), |held| held.row.lease)
        };
        let paid = newest(PAID, |state| matches!(state, State::Paid(_)));
        let unpaid = newest(UNPAID, |state| matches!(state, State::Ended(_)));
        let kept = |held: &Held| match held.state {
            State::Paying { .. } => true,
            State::Paid(_) if held.row.lease >= paid => true,
            State::Ended(_) if held.row.lease >= unpaid => true,
            _ => held.row.version >= oldest || !held.state.is_over(),
        };
        for (_, held) in self.all.extract_if(.., |_, held| !kept(held)).collect::<Vec<_>>() {
            self.index.remove(&held);
        }
    }

    /// Every lease; for the self-check.
    #[cfg(any(test, feature = "sim"))]
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.all.values()
    }

    /// Whether everything at hand is what it comes to when worked out afresh; for the self-check.
    #[cfg(any(test, feature = "sim"))]
    pub fn is_sound(&self) -> bool {
        let mut fresh = Index::default();
        self.all.values().for_each(|held| fresh.insert(held));
        fresh == self.index
    }
}
