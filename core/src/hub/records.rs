//! What is known of a worker beyond its session: how fast it is, and how often in a row it failed; and how long a task
//! usually takes.
//!
//! A reconnect clears nothing, and a process that begins anew takes up the failures where the last one of its user
//! left them. Right work forgives them. A restart of the coordinator keeps the speeds, the codecs
//! for slow links and how long a task usually takes, which follow from the rows, and forgives the failures.

use std::time::Duration;

use super::bench::JUDGED;
use super::leases::{Doubt, Held, State};
use super::memory::Memory;
use super::tasks::LEASE_MAX;
use super::{Hub, rows};
use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{LeaseId, UserName, WorkerId};
use crate::proto::UnpaidCode;
use crate::time::Time;

/// After work that was worth nothing, a worker gets no task for this long, doubled each time in a row.
const BAR: Duration = Duration::from_millis(50);
/// The longest bar is this many doublings: about a minute.
const BAR_DOUBLINGS: u32 = 10;
/// After so many failures in a row nobody waits for a worker at all,
const LOST: u32 = 3;
/// until it has not failed for so long: it must be able to show that it is right.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// Bytes a second in which a newcomer gets the weights at the least.
const SLOW_LINK: f64 = 1e6;

/// What became of a worker's updates since the coordinator's start, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub accepted: u64,
    pub refused: u64,
    /// Why the last refused one was.
    pub refusal: Option<UnpaidCode>,
    pub earned: Credits,
}

impl Counts {
    pub fn paid(&mut self, amount: Credits) {
        self.accepted += 1;
        self.earned = self.earned.checked_add(amount).unwrap_or(self.earned);
    }

    pub fn refused(&mut self, code: UnpaidCode) {
        self.refused += 1;
        self.refusal = Some(code);
    }
}

/// One worker's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Record {
    /// Tokens a second from lease to update, smoothed over its own finished tasks; nothing before the first.
    pub speed: Option<f64>,
    /// Leases in a row that ended before their updates came: the next ones are longer.
    pub late: u32,
    /// Gets nothing until then, because its last work was worth nothing.
    pub barred_until: Option<Time>,
    /// How often in a row that was so.
    pub strikes: u32,
    /// Leases since its last accepted update; of a worker that never delivered, nothing.
    pub leases: usize,
    /// Seconds that it may still wait for versions, below zero if it has waited for longer; see `patience`.
    pub patience: Option<f64>,
    /// Bytes a second in which its updates came, smoothed.
    pub link: Option<f64>,
    /// Uploads since then that told nothing about it.
    pub untold: u32,
    /// How its last task's update was to be written; see `codecs`.
    pub codec: Option<Codec>,
    pub counts: Counts,
}

impl Record {
    /// How long a task of so many tokens takes it, as far as its finished ones tell.
    pub fn expects(&self, tokens: u64) -> Option<Duration> {
        self.speed.map(|speed| Duration::from_secs_f64((tokens as f64 / speed).min(1e6)))
    }

    /// How far its next update is waited for.
    pub fn doubt(&self, now: Time) -> Doubt {
        let long_ago = self.barred_until.is_none_or(|until| now.since(until) > FORGOTTEN);
        match self.strikes {
            0 => Doubt::None,
            strikes if strikes < LOST || long_ago => Doubt::Some,
            _ => Doubt::Lost,
        }
    }

    /// It is given a lease: whether that is one of the few that a worker which has delivered may leave behind and come
    /// back without. Each is a row for ever, so more are earned by delivering.
    pub fn leads(&mut self) -> bool {
        self.leases += usize::from(self.speed.is_some());
        (1..=JUDGED + 1).contains(&self.leases)
    }

    /// It delivered `tokens` in so many seconds.
    pub fn delivered(&mut self, tokens: u64, seconds: f64) {
        let speed = tokens as f64 / seconds;
        let speed = self.speed.map_or(speed, |old| 0.5 * old + 0.5 * speed);
        self.speed = Some(speed);
        (self.late, self.strikes, self.barred_until, self.leases) = (0, 0, None, 0);
    }
}

/// Those of workers that are away. Bounded: what a passer-by leaves is not kept for ever.
#[derive(Debug, Default)]
pub(super) struct Records {
    away: Memory<Record>,
    /// Seconds that a task usually takes, of everybody's newest; nothing before the first.
    pub typical: Option<f64>,
}

impl Records {
    /// Speeds from accepted updates, oldest first.
    pub fn from_rows<'a>(rows: impl Iterator<Item = (&'a rows::Lease, &'a rows::Accepted)>) -> Self {
        let mut records = Self::default();
        for (lease, accepted) in rows {
            // A wall clock that was set in between must not make a worker look dead slow, nor a thousand times too fast.
            let most = accepted.train_ms.saturating_mul(2).saturating_add(60_000).min(LEASE_MAX.as_millis() as u64);
            let took = accepted.at_ms.checked_sub(lease.at_ms).filter(|took| *took > 0);
            let millis = took.unwrap_or(accepted.train_ms).min(most).max(1);
            let who = (lease.user.clone(), lease.worker);
            let seconds = millis as f64 / 1000.0;
            let record = records.away.used(&who);
            record.delivered(lease.tokens, seconds);
            record.codec = matches!(lease.codec, Codec::Sparse256 | Codec::Sparse64).then_some(lease.codec);
            records.took(seconds);
        }
        records
    }

    /// Somebody's task took so many seconds.
    pub fn took(&mut self, seconds: f64) {
        self.typical = Some(self.typical.map_or(seconds, |old| 0.7 * old + 0.3 * seconds));
    }

    /// The same of a worker that had a lease when the coordinator ended.
    pub fn leads(&mut self, user: &UserName, worker: WorkerId) -> bool {
        self.away.get_mut(&(user.clone(), worker)).is_some_and(Record::leads)
    }

    /// For a worker that begins a session.
    pub fn take(&mut self, user: &UserName, worker: WorkerId) -> Record {
        if let Some(own) = self.away.remove(&(user.clone(), worker)) {
            return own;
        }
        let failed = self.away.of_user(user).filter(|(_, record)| record.strikes > 0);
        let worst = failed.max_by_key(|(_, record)| record.strikes).map(|(key, _)| key.clone());
        let Some(worst) = worst.and_then(|key| self.away.get_mut(&key)) else { return Record::default() };
        // What it had done stays its own.
        let (barred_until, strikes) = (worst.barred_until.take(), std::mem::take(&mut worst.strikes));
        Record { barred_until, strikes, late: worst.late, ..Record::default() }
    }

    /// Of a worker whose session ended.
    pub fn keep(&mut self, user: &UserName, worker: WorkerId, record: Record) {
        if record != Record::default() {
            *self.away.used(&(user.clone(), worker)) = record;
        }
    }
}

impl Hub {
    /// The record of a worker, wherever it is.
    pub(super) fn record_mut(&mut self, user: &UserName, worker: WorkerId) -> &mut Record {
        let session = self.seats.get(&(user.clone(), worker));
        match session.and_then(|id| self.sessions.get_mut(id)).and_then(|s| s.seat_mut()) {
            Some(seat) => &mut seat.record,
            None => self.records.away.used(&(user.clone(), worker)),
        }
    }

    /// How long a newcomer's first task is waited for before its first step is reported, once others tell how long one
    /// takes; from then on its own speed counts. The weights have to reach it first.
    pub(super) fn expected_of_newcomers(&self) -> Option<Duration> {
        let training = self.rules.lease_factor * self.records.typical?;
        let weights = Codec::F32.max_len(self.rules.shape.params()) as f64 / SLOW_LINK;
        Some(Duration::from_secs_f64((training + weights).min(LEASE_MAX.as_secs_f64())).max(self.rules.lease_min))
    }

    /// A worker's work was worth nothing: it waits a little, longer each time, so that it cannot keep everybody busy.
    pub(super) fn strike(&mut self, now: Time, user: &UserName, worker: WorkerId) {
        let record = self.record_mut(user, worker);
        record.barred_until = Some(now.after(BAR * (1 << record.strikes.min(BAR_DOUBLINGS))));
        record.strikes = record.strikes.saturating_add(1);
        self.judge_anew(now, user, worker);
    }

    /// What is thought of a worker has changed: it was given its next task before that was known.
    pub(super) fn judge_anew(&mut self, now: Time, user: &UserName, worker: WorkerId) {
        let Some(id) = self.seats.get(&(user.clone(), worker)).copied() else { return };
        let Some(seat) = self.sessions.get(&id).and_then(|s| s.seat()) else { return };
        if let Some(held) = seat.lease.and_then(|lease| self.leases.get(lease))
            && !self.is_stale(held.row.version)
        {
            self.leases.doubt(held.row.lease, seat.record.doubt(now));
        }
        self.place(now, id);
    }

    /// Of a worker that never delivered and said nothing until its update was too old nobody expects any more that it may
    /// come at any time: rounds would wait for it again and again.
    pub(super) fn note_silence(&mut self, lease: LeaseId) {
        let Some(Held { row, state: State::Running { step: 0, .. }, .. }) = self.leases.get(lease) else { return };
        let (user, worker) = (row.user.clone(), row.worker);
        let record = self.record_mut(&user, worker);
        if record.speed.is_none() {
            record.late = record.late.saturating_add(1);
        }
    }
}
