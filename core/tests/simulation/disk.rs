//! The coordinator's disk: rows and files that survive a crash, and what a restart reads back from them.

use std::collections::{BTreeMap, BTreeSet};

use hydra_core::hub::rows::{Accepted, Lease, Recovered, Row, Version};
use hydra_core::ids::{Digest, LeaseId, TaskId, VersionNo};
use hydra_core::ledger::Book;
use hydra_core::limits::STALENESS;

use super::world::Bugs;

#[derive(Default)]
pub struct Disk {
    /// Durable rows, in order.
    pub rows: Vec<Row>,
    /// Durable updates.
    pub updates: BTreeSet<(LeaseId, Digest)>,
    /// Durable weights by version, as their digest; overwritten when a version is made again.
    pub weights: BTreeMap<VersionNo, Digest>,
}

impl Disk {
    /// What the store would give the hub.
    pub fn recover(&self, boot: u64, bugs: Bugs) -> Recovered {
        let mut book = Book::default();
        let mut users = Vec::new();
        let mut leases: BTreeMap<LeaseId, Lease> = BTreeMap::new();
        let mut accepted: Vec<Accepted> = Vec::new();
        let mut ended = BTreeSet::new();
        let mut merged = BTreeSet::new();
        let mut newest: Option<Version> = None;
        let mut evaluated = None;
        for row in &self.rows {
            match row.clone() {
                Row::User { name, key, .. } => users.push((name, key)),
                Row::Lease(lease) => drop(leases.insert(lease.lease, lease)),
                Row::Ended { lease, .. } => drop(ended.insert(lease)),
                Row::Accepted(row) => accepted.push(row),
                Row::Version(row) => {
                    merged.extend(row.inputs.iter().map(|(lease, _)| *lease));
                    newest = Some(row);
                }
                Row::Evaluated { loss, bits_per_byte, .. } => evaluated = Some((loss, bits_per_byte)),
                Row::Transfer(row) => book.replay(&row).unwrap(),
            }
        }
        let newest = newest.unwrap();
        assert_eq!(self.weights.get(&newest.version), Some(&newest.digest), "a version's row without its weights");
        let oldest = VersionNo(newest.version.0.saturating_sub(STALENESS + 2));
        let done: BTreeSet<_> = accepted.iter().map(|row| row.lease).collect();
        let open = leases
            .values()
            .filter(|l| l.version >= oldest && !ended.contains(&l.lease))
            .filter(|l| !done.contains(&l.lease) || bugs.forget_settled && merged.contains(&l.lease))
            .cloned()
            .collect();
        let mut unmerged: Vec<_> = accepted
            .iter()
            .filter(|row| !merged.contains(&row.lease))
            .map(|row| {
                assert!(self.updates.contains(&(row.lease, row.blob)), "an accepted update without its bytes");
                (leases[&row.lease].clone(), row.clone())
            })
            .collect();
        if bugs.lose_accepted {
            unmerged.pop();
        }
        let settled = leases
            .values()
            .filter(|l| l.version >= oldest && done.contains(&l.lease) && merged.contains(&l.lease))
            .filter(|_| !bugs.forget_settled)
            .cloned()
            .collect();
        let last_task = leases.values().map(|l| l.task).max().unwrap_or(TaskId(0));
        Recovered { boot, users, book, newest, evaluated, open, unmerged, settled, last_task }
    }
}
