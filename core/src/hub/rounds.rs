//! Rounds: when accepted updates become the next version, and which workers wait for it.
//!
//! A round closes when as many updates are in as the quorum asks of the workers at work, and nobody else is expected
//! within the grace; a fast worker's second update counts like another worker's first, so a slow one never stops the
//! run. A slow worker is protected in turn: the round stays open while closing it would make the update of a worker
//! that is expected in time too old to be taken. Who was silent before is expected when a first lease ends, and a
//! newcomer after some typical tasks unless it reports a step, so that silence does not hold the run up again and again.
//! The last round of a run waits for all who are at work. An operator who wants a version now closes the round without
//! all that, but makes nobody's work too old either. What must be in memory to be merged closes it whoever waits: a gibibyte
//! once the quorum is in, eight without.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::leases::NEVER;
use super::{Action, Hub, MergeInput, Order, Row, rows};
use crate::backoff::LONGEST;
use crate::codec::Codec;
use crate::ids::{Digest, LeaseId, SessionId, UserName, VersionNo, WorkerId};
use crate::limits;
use crate::merge::{Claim, OuterRule, shares, staleness_weight};
use crate::time::Time;

/// A round waits this long, or the grace if that is longer, for updates that have been announced.
const UPLOAD: Duration = Duration::from_secs(5);
/// After a failed merge (a full disk), until the next try.
const RETRY: Duration = Duration::from_secs(5);
/// After a start, until a round that has updates may close without the workers that trained at the last one's end:
/// they need a second or so to connect again.
const REUNION: Duration = Duration::from_secs(3);
/// After a start, until the updates of workers that trained at the last one's end may become too old: after a long absence
/// of the coordinator they try to connect so rarely.
pub(super) const RETURN: Duration = LONGEST.saturating_add(Duration::from_secs(1));
/// Blobs remembered to recognise copies.
const MEMORY: usize = 512;
/// Bytes of updates that a round takes in, about: they lie in memory while they are merged, and the many that a fast card
/// makes while a slow machine is waited for would be more than any machine has.
const ROOM: u64 = 1 << 30;
/// The same while there are fewer than the quorum.
const FLEET: u64 = 8 * ROOM;

/// An accepted update that waits to be merged.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub lease: LeaseId,
    pub blob: Digest,
    pub codec: Codec,
    pub version: VersionNo,
    pub tokens: u64,
    user: UserName,
    norm: f64,
}

impl Entry {
    pub fn new(row: &rows::Lease, accepted: &rows::Accepted) -> Self {
        let (lease, codec, version, tokens) = (row.lease, row.codec, row.version, row.tokens);
        Self { lease, blob: accepted.blob, codec, version, tokens, user: row.user.clone(), norm: accepted.norm }
    }

    /// What it says for itself when a round closes over `newest`.
    fn claim(&self, newest: VersionNo) -> Claim<&UserName> {
        let staleness = newest.0.saturating_sub(self.version.0);
        Claim { party: &self.user, weight: self.tokens as f32 * staleness_weight(staleness), norm: self.norm }
    }
}

/// The round that is open.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub accepted: Vec<Entry>,
    /// A merge is under way; `accepted` holds what came after it began.
    pub merging: bool,
    /// What is being merged, with its shares.
    pub merged: Vec<(Entry, f32)>,
    pub opened: Time,
    /// When the first update that waits was considered; the round's deadline counts from here.
    pub first: Option<Time>,
    /// Nothing is merged before: the last merge failed, or workers of the last start are awaited.
    not_before: Option<Time>,
    /// Those workers of the last start that are not back yet.
    missing: BTreeSet<(UserName, WorkerId)>,
    /// The last merge failed: the next try waits for nobody.
    failed: bool,
    /// The operator wants the version now.
    pub asked: bool,
    /// When to look again although nothing happens.
    pub look_at: Option<Time>,
    /// Since when there are enough updates.
    pub enough: Option<Time>,
    /// Recently submitted blobs.
    pub blobs: BTreeSet<Digest>,
    order: VecDeque<Digest>,
}

impl Round {
    pub fn begin(now: Time) -> Self {
        Self { opened: now, ..Self::default() }
    }

    /// Goes on with the round that a kill interrupted: its workers are given the time to come back, so that it ends
    /// as it would have ended.
    pub fn await_workers(&mut self, now: Time, missing: BTreeSet<(UserName, WorkerId)>) {
        self.not_before = Some(now.after(REUNION));
        self.missing = missing;
    }

    /// A worker is here; with the last one that was missing nobody is given time any more.
    pub fn is_back(&mut self, user: &UserName, worker: WorkerId) {
        if self.missing.remove(&(user.clone(), worker)) && self.missing.is_empty() && !self.failed {
            self.not_before = None;
        }
    }

    /// Whether they still have time for it.
    pub fn awaits_workers(&self, now: Time) -> bool {
        !self.failed && self.not_before.is_some_and(|until| until > now)
    }

    pub fn take(&mut self, entry: Entry) {
        self.remember(entry.blob);
        self.accepted.push(entry);
    }

    /// These bytes were accepted: they are not taken again.
    pub fn remember(&mut self, blob: Digest) {
        self.blobs.insert(blob);
        self.order.push_back(blob);
        if self.order.len() > MEMORY
            && let Some(old) = self.order.pop_front()
        {
            self.blobs.remove(&old);
        }
    }
}

impl Hub {
    /// Closes the round if it is time.
    pub(super) fn consider_round(&mut self, now: Time) {
        self.round.look_at = None;
        if self.round.merging || self.round.accepted.is_empty() || self.stopping.is_some_and(|s| !s.merge) {
            return;
        }
        if let Some(until) = self.round.not_before.filter(|until| *until > now) {
            self.round.look_at = Some(until);
            return;
        }
        if self.round.failed || self.round_is_full() {
            return self.close_round(now);
        }
        let hurry = self.round.first.get_or_insert(now).after(self.rules.round_deadline);
        let until = if self.round.asked { self.spares(now, hurry) } else { self.wait_for(now, hurry) };
        match until.map(|until| until.min(hurry)) {
            Some(until) if until > now => self.round.look_at = Some(until),
            _ => self.close_round(now),
        }
    }

    /// Whether as many updates are in as the workers at work make a version of.
    fn has_quorum(&self) -> bool {
        self.round.accepted.len() >= self.needed(self.leases.awaited() + self.bench.held())
    }

    /// Whether there are more bytes in the round than should lie in memory. In a large fleet, versions of a part of its
    /// updates each would make the rest too old.
    fn round_is_full(&self) -> bool {
        let params = self.rules.shape.params();
        let bytes = self.round.accepted.iter().map(|entry| entry.codec.max_len(params) as u64).sum::<u64>();
        bytes >= if self.has_quorum() { ROOM } else { FLEET }
    }

    /// Until when the open round should wait for more updates, if nothing happens before; nothing: close it.
    fn wait_for(&mut self, now: Time, hurry: Time) -> Option<Time> {
        let grace = self.grace();
        // Bytes that do not come, like a worker that is late, are waited for only so long.
        let patience = grace.max(UPLOAD);
        let uploads = self.leases.uploading().map(|since| since.after(patience)).filter(|until| *until > now).max();
        let (training, checking) = (self.leases.awaited(), self.leases.checking_awaited());
        let protected = self.protected(now, hurry);
        let stale = self.newest.version.0.checked_sub(limits::STALENESS).map(VersionNo);
        // A slow link takes its time, and a check may wait for room on the disk, which is not the worker's fault.
        let slowest = stale.and_then(|stale| self.arrives(stale)).filter(|until| *until > now);
        let checked = stale.is_some_and(|stale| self.leases.checks_from(stale)).then_some(hurry);
        if training + checking == 0 && protected.is_none() {
            return uploads.max(slowest).max(checked);
        }
        if !self.has_quorum() {
            self.round.enough = None;
            return Some(hurry);
        }
        if let Some(at) = protected {
            self.round.enough = None;
            return Some(at.after(grace));
        }
        if let Some(until) = slowest.or(checked) {
            self.round.enough = None;
            return Some(until);
        }
        let enough = *self.round.enough.get_or_insert(now);
        let arriving = (checking > 0 || uploads.is_some()).then(|| enough.after(patience));
        let near = self.leases.expected().take_while(|at| *at <= now.after(grace)).last();
        let near = near.map(|at| at.after(grace).min(enough.after(2 * grace)));
        let until = arriving.max(near).filter(|until| *until > now);
        // Nobody would train from the version: the last round of a run is made by all who are still at work, and not
        // by one after the other.
        if until.is_none() && training > 0 && self.nobody_goes_on() {
            self.round.enough = None;
            return Some(hurry);
        }
        until
    }

    /// Whether no worker that is believed would take another task.
    fn nobody_goes_on(&self) -> bool {
        let goes_on = |id: &SessionId| {
            let seat = self.sessions.get(id).and_then(|session| session.seat());
            seat.is_some_and(|seat| seat.accepting && seat.record.strikes == 0)
        };
        self.all_tasks_taken() || !self.seats.values().any(goes_on)
    }

    /// When the last of those is expected that the next version would make too old, among those who may come in time;
    /// [`NEVER`] if nobody knows. What is older already is lost anyhow.
    pub(super) fn protected(&self, now: Time, hurry: Time) -> Option<Time> {
        let stale = self.newest.version.0.checked_sub(limits::STALENESS).map(VersionNo)?;
        self.leases.expected_from(stale).rfind(|at| self.in_time(*at, now, hurry)).max(self.returning(now, hurry))
    }

    /// The same of those alone who trained before a restart and are not back yet.
    fn returning(&self, now: Time, hurry: Time) -> Option<Time> {
        let stale = self.newest.version.0.checked_sub(limits::STALENESS).map(VersionNo)?;
        let away = self.leases.returning_from(stale).rfind(|at| self.in_time(*at, now, hurry));
        away.filter(|_| self.stopping.is_none())
    }

    /// By when the updates from `version` should be here that are on their way: in twice the time that their workers'
    /// links need for them, where that is known. Others have the time that all have.
    fn arrives(&self, version: VersionNo) -> Option<Time> {
        let until = |(session, bytes, since): (SessionId, u64, Time)| {
            let link = self.sessions.get(&session).and_then(|s| s.seat()).and_then(|seat| seat.record.link)?;
            Some(since.after(Duration::from_secs_f64((2.0 * bytes as f64 / link).min(1e6))))
        };
        self.leases.uploads_from(version).filter_map(until).max()
    }

    fn in_time(&self, at: Time, now: Time, hurry: Time) -> bool {
        at == NEVER || (at.after(self.grace()) > now && at <= hurry)
    }

    /// Whether the open round, which could close otherwise, gives workers of before a restart time to come back.
    pub(super) fn awaits_others(&self, now: Time) -> bool {
        let Round { asked, look_at, first, .. } = &self.round;
        let could = *asked || self.has_quorum();
        let hurry = first.unwrap_or(now).after(self.rules.round_deadline);
        self.round.awaits_workers(now) || (could && look_at.is_some() && self.returning(now, hurry).is_some())
    }

    /// How long an update that is expected may be waited for.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs_f64(self.rules.grace * self.records.typical.unwrap_or(0.0))
    }

    /// Updates that close a round among `workers` at work.
    pub(super) fn needed(&self, workers: usize) -> usize {
        ((workers as f64 * self.rules.quorum).ceil() as usize).max(1)
    }

    /// The operator does not want to wait for more updates. Nobody's work is lost for that: the round stays open as long
    /// as closing it would make a task in hand too old.
    pub(super) fn close_round_now(&mut self, now: Time) {
        if !self.round.merging && !self.round.accepted.is_empty() && self.stopping.is_none() {
            self.round.not_before = None;
            self.round.asked = true;
            self.consider_round(now);
        }
    }

    /// Until when closing the round would make an update too old that is expected or on its way.
    fn spares(&mut self, now: Time, hurry: Time) -> Option<Time> {
        self.round.enough = None;
        let stale = self.newest.version.0.checked_sub(limits::STALENESS).map(VersionNo)?;
        let coming = self.leases.judged_from(stale, UPLOAD).filter(|until| *until > now).max();
        let grace = self.grace();
        self.protected(now, hurry).map(|at| at.after(grace)).max(coming)
    }

    fn close_round(&mut self, now: Time) {
        self.charge_waits(now);
        let newest = self.newest.version;
        let mut inputs = std::mem::take(&mut self.round.accepted);
        // One order, whatever the order of arrival: the sum must come out the same when it is made again.
        inputs.sort_by_key(|entry| entry.lease);
        let fresh = |entry: &Entry| entry.version == newest;
        let rule = match inputs.as_slice() {
            // A single fresh update is simply continued training: no momentum, the whole step.
            [only] if fresh(only) => OuterRule::MEAN,
            _ => self.rules.outer,
        };
        let claims: Vec<_> = inputs.iter().map(|entry| entry.claim(newest)).collect();
        let shares = shares(&claims);
        let order = |(entry, share): (&Entry, &f32)| MergeInput {
            lease: entry.lease,
            blob: entry.blob,
            codec: entry.codec,
            share: *share,
        };
        let orders = inputs.iter().zip(&shares).map(order).collect();
        self.round.merged = inputs.into_iter().zip(shares).collect();
        self.round.merging = true;
        self.round.first = None;
        self.round.not_before = None;
        self.round.failed = false;
        self.round.asked = false;
        self.round.enough = None;
        self.out.push_back(Order::Merge { version: VersionNo(newest.0 + 1), inputs: orders, rule });
    }

    pub(super) fn on_merge_failed(&mut self, now: Time, version: VersionNo) {
        if !self.round.merging || version.0 != self.newest.version.0 + 1 {
            return;
        }
        self.round.merging = false;
        let mut entries: Vec<_> = std::mem::take(&mut self.round.merged).into_iter().map(|(entry, _)| entry).collect();
        entries.append(&mut self.round.accepted);
        self.round.accepted = entries;
        self.round.not_before = Some(now.after(RETRY));
        self.round.failed = true;
        self.consider_round(now);
    }

    pub(super) fn on_merged(&mut self, now: Time, version: VersionNo, digest: Digest) {
        if !self.round.merging || version.0 != self.newest.version.0 + 1 {
            return;
        }
        let entries = &self.round.merged;
        let row = rows::Version {
            version,
            digest,
            tokens: self.newest.tokens + entries.iter().map(|(entry, _)| entry.tokens).sum::<u64>(),
            tasks: self.newest.tasks + entries.len() as u64,
            inputs: entries.iter().map(|(entry, share)| (entry.lease, *share)).collect(),
            at_ms: self.wall_ms(now),
        };
        let opened = self.round.opened;
        self.persist(vec![Row::Version(row.clone())]);
        self.once_durable(now, Action::Publish { version: row, opened });
    }

    /// Looks whether the run has reached one of its ends.
    pub(super) fn check_stop(&mut self, now: Time) {
        let loss = self.evaluated.map(|(loss, _)| loss);
        let (tasks, tokens, version) = (self.accepted_tasks, self.accepted_tokens, self.newest.version);
        let reached = self.rules.stop.reached(tasks, tokens, version, loss);
        let Some(reason) = reached.or_else(|| (!self.can_pay()).then_some("credits")) else { return };
        self.stop(now, reason, false);
    }

    pub(super) fn round_deadline(&self) -> Option<(Time, &'static str)> {
        self.round.look_at.map(|at| (at, "a round may close"))
    }
}
