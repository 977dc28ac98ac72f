//! What is asked about all leases at every event, kept beside them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Doubt, Held, NEVER, State};
use crate::ids::{Digest, LeaseId, SessionId, TaskId, UserName, VersionNo};
use crate::time::Time;

/// What is asked about all leases at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub deadlines: BTreeSet<(Time, LeaseId)>,
    /// Those that train, by when their updates are expected; the end of time where nobody knows.
    pub training: BTreeSet<(Time, LeaseId)>,
    /// Those of them that count among the updates that a round wants.
    pub awaited: BTreeSet<(Time, LeaseId)>,
    /// Those that no round closes over, by the version that they train from.
    pub protected_from: BTreeSet<(VersionNo, Time, LeaseId)>,
    /// Those whose workers are away and expected back, in the same way.
    pub returning_from: BTreeSet<(VersionNo, Time, LeaseId)>,
    pub uploads: BTreeMap<(SessionId, Digest), LeaseId>,
    /// For each user, how many leases go on without their workers, of those that have not delivered before.
    pub left: BTreeMap<UserName, usize>,
    /// For each session, how many updates are on their way or being checked.
    pub judged: BTreeMap<SessionId, usize>,
    pub checking: usize,
    /// How many of these count.
    pub checking_awaited: usize,
    /// Those that no round closes over, by the version that they trained from.
    pub checking_from: BTreeMap<VersionNo, usize>,
    /// Tokens of leases that train or are judged.
    pub tokens: u64,
    /// For each task, how many leases train, are judged, or were accepted.
    pub served: BTreeMap<TaskId, usize>,
}

impl Index {
    pub fn insert(&mut self, Held { row, state, doubt, proven, .. }: &Held) {
        let (counts, protected) = (*doubt == Doubt::None, *doubt != Doubt::Lost);
        if let Some(deadline) = state.deadline() {
            self.deadlines.insert((deadline, row.lease));
        }
        match state {
            State::Running { session: Some(_), expected, .. } => {
                let at = expected.unwrap_or(NEVER);
                self.training.insert((at, row.lease));
                if counts {
                    self.awaited.insert((at, row.lease));
                }
                if protected {
                    self.protected_from.insert((row.version, at, row.lease));
                }
            }
            State::Running { session: None, expected: Some(at), .. } => {
                self.returning_from.insert((row.version, *at, row.lease));
            }
            State::Receiving { session, update, .. } => {
                self.uploads.insert((*session, update.blob), row.lease);
                *self.judged.entry(*session).or_default() += 1;
            }
            State::Checking { session, .. } => {
                self.checking += 1;
                self.checking_awaited += usize::from(counts);
                *self.judged.entry(*session).or_default() += 1;
                if protected {
                    *self.checking_from.entry(row.version).or_default() += 1;
                }
            }
            _ => {}
        }
        if !proven && matches!(state, State::Running { session: None, .. }) {
            *self.left.entry(row.user.clone()).or_default() += 1;
        }
        if state.is_training() || state.is_judged() {
            self.tokens += row.tokens;
        }
        if state.serves() {
            *self.served.entry(row.task).or_default() += 1;
        }
    }

    pub fn remove(&mut self, Held { row, state, doubt, proven, .. }: &Held) {
        if let Some(deadline) = state.deadline() {
            self.deadlines.remove(&(deadline, row.lease));
        }
        match state {
            State::Running { session: Some(_), expected, .. } => {
                let at = expected.unwrap_or(NEVER);
                self.training.remove(&(at, row.lease));
                self.awaited.remove(&(at, row.lease));
                self.protected_from.remove(&(row.version, at, row.lease));
            }
            State::Running { session: None, expected: Some(at), .. } => {
                self.returning_from.remove(&(row.version, *at, row.lease));
            }
            State::Receiving { session, update, .. } => {
                self.uploads.remove(&(*session, update.blob));
                count_down(&mut self.judged, *session);
            }
            State::Checking { session, .. } => {
                self.checking -= 1;
                self.checking_awaited -= usize::from(*doubt == Doubt::None);
                count_down(&mut self.judged, *session);
                if *doubt != Doubt::Lost {
                    count_down(&mut self.checking_from, row.version);
                }
            }
            _ => {}
        }
        if !proven && matches!(state, State::Running { session: None, .. }) {
            count_down(&mut self.left, row.user.clone());
        }
        if state.is_training() || state.is_judged() {
            self.tokens -= row.tokens;
        }
        if state.serves() {
            count_down(&mut self.served, row.task);
        }
    }
}

/// One less of these.
fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

pub(super) fn from(
    index: &BTreeSet<(VersionNo, Time, LeaseId)>,
    version: VersionNo,
) -> impl DoubleEndedIterator<Item = Time> {
    let range = (version, Time(0), LeaseId(0))..=(version, NEVER, LeaseId(u64::MAX));
    index.range(range).map(|(_, at, _)| *at)
}
