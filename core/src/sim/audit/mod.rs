//! What must hold, worked out from the durable rows and from what was sent; shares no code with the hub and its book.
//!
//! The first breach is kept in [`Audit::breach`]; the run ends with it.

mod promises;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::credits::Credits;
use crate::hub::Row;
use crate::hub::rows::{Accepted, Lease, Version};
use crate::ids::{Digest, LeaseId, PublicKey, QueryId, SessionId, UserName, VersionNo, WorkerId};
use crate::ledger::audit::Auditor;
use crate::ledger::{Account, Kind, Transfer};
use crate::limits;

/// Where a query's money is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Money {
    Held,
    Posted,
    Void,
}

#[derive(Debug)]
struct Seen {
    user: UserName,
    worker: Option<WorkerId>,
    key: PublicKey,
    /// The lease that it trains, as far as the messages tell.
    lease: Option<LeaseId>,
}

/// The auditor.
#[derive(Debug, Default)]
pub struct Audit {
    pub breach: Option<String>,
    ledger: Auditor,
    reward: Credits,
    price: Credits,
    users: BTreeMap<UserName, PublicKey>,
    balances: BTreeMap<UserName, i128>,
    /// What the rows add up to of which the coordinator knows that they are durable.
    known: BTreeMap<UserName, i128>,
    unknown: VecDeque<(u64, UserName, i128)>,
    leases: BTreeMap<LeaseId, Lease>,
    ended: BTreeSet<LeaseId>,
    accepted: BTreeMap<LeaseId, Accepted>,
    rewarded: BTreeSet<LeaseId>,
    merged: BTreeMap<LeaseId, VersionNo>,
    versions: Vec<Version>,
    /// By user and memo: a hold's memo names its query.
    queries: BTreeMap<(UserName, String), (crate::ids::TransferId, Money)>,
    sessions: BTreeMap<SessionId, Seen>,
    pushed: BTreeMap<LeaseId, VersionNo>,
    answers: BTreeMap<(WorkerId, LeaseId), bool>,
    ends: BTreeSet<(UserName, QueryId)>,
}

/// What the merged inputs of a version are hashed to.
pub fn merged_digest<'a>(inputs: impl Iterator<Item = (LeaseId, f32, &'a Digest)>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for (lease, weight, blob) in inputs {
        hasher.update(&lease.0.to_le_bytes());
        hasher.update(&weight.to_bits().to_le_bytes());
        hasher.update(&blob.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The weights that a delta makes of the weights before.
pub fn next_weights(before: &Digest, delta: &Digest) -> Digest {
    Digest::of(&[before.0, delta.0].concat())
}

impl Audit {
    pub fn new(reward: Credits, price: Credits) -> Self {
        Self { reward, price, ..Self::default() }
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        if self.breach.is_none() {
            self.breach = Some(why.into());
        }
    }

    pub fn expect(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fail(why());
        }
    }

    /// These rows were handed to the disk.
    pub fn ordered(&mut self, seq: u64, rows: &[Row]) {
        for row in rows {
            let Row::Transfer(transfer) = row else { continue };
            for (account, sign) in [(&transfer.debit, -1), (&transfer.credit, 1)] {
                if let Account::User(name) = account {
                    self.unknown.push_back((seq, name.clone(), sign * i128::from(transfer.amount.0)));
                }
            }
        }
    }

    /// The coordinator was told that rows are durable.
    pub fn reported(&mut self, upto: u64) {
        while let Some((_, name, amount)) = self.unknown.pop_front_if(|(seq, ..)| *seq <= upto) {
            *self.known.entry(name).or_default() += amount;
        }
    }

    /// These rows became durable together.
    pub fn durable(&mut self, rows: &[Row]) {
        let mut paid = Vec::new();
        for row in rows {
            match row {
                Row::User { name, key, .. } => {
                    let new = self.users.insert(name.clone(), *key).is_none();
                    self.expect(new, || format!("the name {name} was claimed twice"));
                }
                Row::Lease(lease) => {
                    let new = self.leases.insert(lease.lease, lease.clone()).is_none();
                    self.expect(new, || format!("lease {} was given out twice", lease.lease));
                }
                Row::Ended { lease, .. } => {
                    let live = self.leases.contains_key(lease) && !self.accepted.contains_key(lease);
                    let live = self.ended.insert(*lease) && live;
                    self.expect(live, || format!("lease {lease} ended, but was not open"));
                }
                Row::Accepted(accepted) => {
                    let lease = accepted.lease;
                    let live = self.leases.contains_key(&lease) && !self.ended.contains(&lease);
                    let live = self.accepted.insert(lease, accepted.clone()).is_none() && live;
                    self.expect(live, || format!("lease {lease} was accepted, but was not open"));
                    paid.push(lease);
                }
                Row::Version(version) => self.version(version),
                Row::Evaluated { version, .. } => {
                    let known = (version.0 as usize) < self.versions.len();
                    self.expect(known, || format!("version {version} was measured before it was durable"));
                }
                Row::Transfer(transfer) => self.transfer(transfer, &mut paid),
                Row::ApiKey(_) | Row::ApiKeyRevoked { .. } => {}
            }
        }
        if self.reward > Credits::ZERO {
            self.expect(paid.is_empty(), || format!("leases {paid:?} were accepted without pay"));
        }
    }

    fn version(&mut self, version: &Version) {
        let number = version.version;
        let Some(last) = self.versions.last() else {
            self.expect(number == VersionNo(0), || "the first version is not 0".to_owned());
            return self.versions.push(version.clone());
        };
        let mut why = (number.0 != last.version.0 + 1).then(|| format!("follows {}", last.version));
        let (mut tokens, before) = (last.tokens, last.digest);
        let tasks = last.tasks + version.inputs.len() as u64;
        let mut inputs = Vec::new();
        for (lease, weight) in &version.inputs {
            match (self.leases.get(lease), self.accepted.get(lease)) {
                (Some(row), Some(accepted)) => {
                    tokens += row.tokens;
                    inputs.push((*lease, *weight, &accepted.blob));
                    if row.version.0 + limits::STALENESS < last.version.0 {
                        // Accepted in time, merged in a later round: allowed once, by the round that was merging.
                        let rounds = last.version.0 - row.version.0 - limits::STALENESS;
                        why = why.or((rounds > 1).then(|| format!("merges the stale lease {lease}")));
                    }
                }
                _ => why = Some(format!("merges lease {lease}, which was not accepted")),
            }
            if let Some(earlier) = self.merged.insert(*lease, number) {
                why = Some(format!("merges lease {lease} again, after version {earlier}"));
            }
        }
        let digest = next_weights(&before, &merged_digest(inputs.into_iter()));
        if version.digest != digest {
            why = Some("has other weights than its inputs give".to_owned());
        }
        if (version.tokens, version.tasks) != (tokens, tasks) || version.inputs.is_empty() {
            why = Some(format!("counts {} tokens and {} tasks wrongly", version.tokens, version.tasks));
        }
        if let Some(why) = why {
            self.fail(format!("version {number} {why}"));
        }
        self.versions.push(version.clone());
    }

    fn transfer(&mut self, transfer: &Transfer, paid: &mut Vec<LeaseId>) {
        if let Err(fault) = self.ledger.row(transfer) {
            return self.fail(fault.to_string());
        }
        for (account, sign) in [(&transfer.debit, -1), (&transfer.credit, 1)] {
            if let Account::User(name) = account {
                *self.balances.entry(name.clone()).or_default() += sign * i128::from(transfer.amount.0);
                let known = self.users.contains_key(name);
                self.expect(known, || format!("credits move for {name}, whose name is not durable"));
            }
        }
        match (transfer.kind, &transfer.debit, &transfer.credit) {
            (Kind::Reward, _, Account::User(user)) => {
                // A reward stands beside the acceptance that it is for.
                let lease = (!paid.is_empty()).then(|| paid.remove(0));
                let right = lease.is_some_and(|lease| {
                    self.rewarded.insert(lease) && self.leases.get(&lease).is_some_and(|row| row.user == *user)
                });
                let right = right && transfer.amount == self.reward;
                self.expect(right, || format!("transfer {} pays {user} for {lease:?}", transfer.seq));
            }
            (Kind::Hold, Account::User(user), _) => {
                let right = transfer.amount == self.price;
                let key = (user.clone(), transfer.memo.clone());
                let new = self.queries.insert(key, (transfer.id, Money::Held)).is_none();
                self.expect(new && right, || format!("{} of {user} is held twice", transfer.memo));
            }
            _ => {
                let to = if transfer.kind == Kind::Post { Money::Posted } else { Money::Void };
                let held = self.queries.values_mut().find(|(id, _)| Some(*id) == transfer.hold);
                let was = held.map(|(_, money)| std::mem::replace(money, to));
                self.expect(was == Some(Money::Held), || format!("a hold ends as {to:?} that was {was:?}"));
            }
        }
    }

    /// The coordinator began anew: no session is left.
    pub fn restarted(&mut self) {
        self.sessions.clear();
        self.unknown.clear();
        self.known = self.balances.clone();
    }

    /// Everything is over, and nothing is left to be done. `merged`: whether the run merges all before it ends.
    pub fn finish(&mut self, merged: bool) {
        self.finish_early(merged);
        if let Err(fault) = std::mem::take(&mut self.ledger).finish() {
            self.fail(fault.to_string());
        }
    }

    /// The coordinator has stopped by itself: it owes nobody anything.
    pub fn finish_early(&mut self, merged: bool) {
        let open = self.queries.values().filter(|(_, money)| *money == Money::Held).count();
        self.expect(open == 0, || format!("{open} holds were never resolved"));
        let waiting: Vec<_> = self.accepted.keys().filter(|lease| !self.merged.contains_key(lease)).collect();
        if merged && !waiting.is_empty() {
            let text = format!("the accepted updates of leases {waiting:?} were never merged");
            self.fail(text);
        }
    }

    /// The digest of the weights from which a lease is to be trained.
    pub fn task_base(&self, lease: LeaseId) -> Option<Digest> {
        self.versions.get(self.pushed.get(&lease)?.0 as usize).map(|version| version.digest)
    }

    /// Whether two leases are known, and not of one user.
    pub fn are_of_two_users(&self, one: LeaseId, other: LeaseId) -> bool {
        let user = |lease| self.leases.get(&lease).map(|row| &row.user);
        user(one).zip(user(other)).is_some_and(|(one, other)| one != other)
    }

    pub fn last_pushed(&self) -> u64 {
        self.pushed.last_key_value().map_or(0, |(lease, _)| lease.0)
    }

    /// Updates accepted, versions, durably.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.len() as u64, self.versions.len() as u64)
    }
}
