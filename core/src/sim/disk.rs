//! The coordinator's disk: rows that were synced, the files of versions and of accepted updates, and what a restart
//! reads back. A reference for what the real store does.

use std::collections::{BTreeMap, BTreeSet};

use super::Bug;
use super::audit::{merged_digest, next_weights};
use super::net::Content;
use crate::hub::rows::{Accepted, Lease, Version};
use crate::hub::{Asked, Recovered, Row};
use crate::ids::{Digest, LeaseId, PublicKey, TaskId, UserName, VersionNo};
use crate::ledger::{Book, Transfer};
use crate::limits;

/// What survives.
#[derive(Debug, Default)]
pub struct Disk {
    boots: u64,
    users: Vec<(UserName, PublicKey)>,
    leases: BTreeMap<LeaseId, Lease>,
    ended: BTreeSet<LeaseId>,
    /// In the order of acceptance.
    accepted: Vec<Accepted>,
    merged: BTreeSet<LeaseId>,
    versions: Vec<Version>,
    evaluated: BTreeMap<VersionNo, (f64, f64)>,
    transfers: Vec<Transfer>,
    /// Files of versions; those of the newest may be missing.
    pub weights: BTreeMap<VersionNo, Digest>,
    /// Files, written before the rows that name them.
    pub updates: BTreeMap<LeaseId, (Digest, Content)>,
}

impl Disk {
    /// Makes rows durable.
    pub fn write(&mut self, rows: &[Row]) {
        for row in rows {
            match row {
                Row::User { name, key, .. } => self.users.push((name.clone(), *key)),
                Row::Lease(lease) => {
                    self.leases.insert(lease.lease, lease.clone());
                }
                Row::Ended { lease, .. } => {
                    self.ended.insert(*lease);
                }
                Row::Accepted(accepted) => self.accepted.push(accepted.clone()),
                Row::Version(version) => {
                    self.merged.extend(version.inputs.iter().map(|(lease, _)| *lease));
                    self.versions.push(version.clone());
                }
                Row::Evaluated { version, loss, bits_per_byte } => {
                    self.evaluated.insert(*version, (*loss, *bits_per_byte));
                }
                Row::Transfer(transfer) => self.transfers.push(transfer.clone()),
                // Chats of the simulation sign for themselves.
                Row::ApiKey(_) | Row::ApiKeyRevoked { .. } => {}
            }
        }
    }

    pub fn is_new(&self) -> bool {
        self.versions.is_empty()
    }

    /// How many updates were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.len() as u64
    }

    /// How often the coordinator was started.
    pub fn boots(&self) -> u64 {
        self.boots
    }

    /// The weights of the versions since the newest that has its file, made again from the updates that they merged.
    fn remake(&mut self) {
        // The file of a version that never got its row may have the number.
        let whole = |version: &Version| self.weights.get(&version.version) == Some(&version.digest);
        let Some(first) = self.versions.iter().rposition(whole) else { return };
        let mut digest = self.versions[first].digest;
        for version in &self.versions[first + 1..] {
            let input = |(lease, share): &(LeaseId, f32)| Some((*lease, *share, &self.updates.get(lease)?.0));
            let Some(inputs) = version.inputs.iter().map(input).collect::<Option<Vec<_>>>() else { return };
            digest = next_weights(&digest, &merged_digest(inputs.into_iter()));
            self.weights.insert(version.version, digest);
        }
    }

    /// Reads everything back for a further start.
    pub fn recover(&mut self, bug: Option<Bug>) -> Result<Recovered, String> {
        self.boots += 1;
        let (mut book, mut asked) = (Book::default(), Asked::default());
        for transfer in &self.transfers {
            book.replay(transfer).map_err(|error| format!("the ledger cannot be read back: {error}"))?;
            asked.take(transfer);
        }
        let newest = self.versions.last().cloned().ok_or("a run without a version")?;
        self.remake();
        if self.weights.get(&newest.version) != Some(&newest.digest) {
            return Err(format!("version {} is in the database, but its weights are not on disk", newest.version));
        }
        let horizon = newest.version.0.saturating_sub(limits::STALENESS + 2);
        let recent = |lease: &&Lease| lease.version.0 >= horizon;
        let paid: BTreeMap<_, _> = self.accepted.iter().map(|accepted| (accepted.lease, accepted)).collect();
        let with_update = |lease: &Lease| (lease.clone(), paid[&lease.lease].clone());
        let mut merged = self.merged.clone();
        if bug == Some(Bug::MergedTwice) {
            merged.retain(|lease| newest.inputs.iter().all(|(input, _)| input != lease));
        }
        let mut unmerged = Vec::new();
        for accepted in self.accepted.iter().filter(|accepted| !merged.contains(&accepted.lease)) {
            if self.updates.get(&accepted.lease).map(|(blob, _)| *blob) != Some(accepted.blob) {
                return Err(format!("the accepted update of lease {} is not on disk", accepted.lease));
            }
            unmerged.push((self.leases[&accepted.lease].clone(), accepted.clone()));
        }
        if bug == Some(Bug::LostUpdate) {
            unmerged.pop();
        }
        let paid_again = bug == Some(Bug::PaidAgain);
        let open = |lease: &&Lease| {
            let paid = paid.contains_key(&lease.lease) && !(paid_again && merged.contains(&lease.lease));
            !paid && !self.ended.contains(&lease.lease)
        };
        let settled = |lease: &&Lease| !paid_again && paid.contains_key(&lease.lease) && merged.contains(&lease.lease);
        Ok(Recovered {
            boot: self.boots,
            users: self.users.clone(),
            api_keys: Vec::new(),
            book,
            asked,
            evaluated: self.evaluated.get(&newest.version).copied(),
            open: self.leases.values().filter(recent).filter(open).cloned().collect(),
            settled: self.leases.values().filter(settled).map(with_update).collect(),
            unmerged,
            last_task: self.leases.values().map(|lease| lease.task).max().unwrap_or(TaskId(0)),
            newest,
        })
    }
}
