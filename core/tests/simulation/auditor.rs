//! Looks at what is promised to peers and at what is durable, and knows nothing of how the hub works.

use std::collections::{BTreeMap, BTreeSet};

use hydra_core::credits::Credits;
use hydra_core::hub::rows::Row;
use hydra_core::ids::LeaseId;
use hydra_core::ledger::audit::Auditor as Ledger;
use hydra_core::proto::ServerMsg;

#[derive(Default)]
pub struct Auditor {
    ledger: Ledger,
    read: usize,
    users: BTreeSet<String>,
    versions: BTreeSet<u64>,
    accepted: BTreeSet<LeaseId>,
    merged: BTreeSet<LeaseId>,
    rewards: usize,
    balances: BTreeMap<String, i128>,
    holds: i128,
}

impl Auditor {
    /// Reads what has become durable since the last look.
    pub fn read(&mut self, rows: &[Row]) -> Result<(), String> {
        for row in &rows[self.read..] {
            match row {
                Row::User { name, .. } => {
                    if !self.users.insert(name.to_string()) {
                        return Err(format!("the name {name} was claimed twice"));
                    }
                }
                Row::Accepted(row) => {
                    if !self.accepted.insert(row.lease) {
                        return Err(format!("lease {} was accepted twice", row.lease));
                    }
                }
                Row::Version(version) => {
                    if !self.versions.insert(version.version.0) {
                        return Err(format!("version {} was made twice", version.version));
                    }
                    for (lease, _) in &version.inputs {
                        if !self.accepted.contains(lease) || !self.merged.insert(*lease) {
                            return Err(format!("lease {lease} was merged unaccepted or twice"));
                        }
                    }
                }
                Row::Transfer(transfer) => {
                    self.ledger.row(transfer).map_err(|fault| fault.to_string())?;
                    self.rewards += usize::from(transfer.kind.as_str() == "reward");
                    let amount = i128::from(transfer.amount.0);
                    *self.balances.entry(transfer.debit.to_string()).or_default() -= amount;
                    *self.balances.entry(transfer.credit.to_string()).or_default() += amount;
                    self.holds = self.balances.get("holds").copied().unwrap_or_default();
                }
                Row::Lease(_) | Row::Ended { .. } | Row::Evaluated { .. } => {}
            }
        }
        self.read = rows.len();
        if self.rewards != self.accepted.len() {
            return Err(format!("{} rewards for {} accepted updates", self.rewards, self.accepted.len()));
        }
        Ok(())
    }

    /// Checks a message against what is durable in the moment in which it is sent.
    pub fn promise(&self, user: Option<&str>, message: &ServerMsg) -> Result<(), String> {
        match message {
            ServerMsg::Welcome(_) if user.is_none_or(|user| !self.users.contains(user)) => {
                Err(format!("{user:?} was welcomed before the name was durable"))
            }
            ServerMsg::Credited(credited) if !self.accepted.contains(&credited.lease) => {
                Err(format!("lease {} was credited before it was durable", credited.lease))
            }
            ServerMsg::Credited(credited) if credited.amount != Credits::hyd(1) => Err("an odd reward".to_owned()),
            ServerMsg::Version(version) if !self.versions.contains(&version.version.0) => {
                Err(format!("version {} was sent before it was durable", version.version))
            }
            _ => Ok(()),
        }
    }

    /// After healing: nothing is open.
    pub fn finish(&self) -> Result<(), String> {
        if self.holds != 0 {
            return Err(format!("{} micro-credits are still held", self.holds));
        }
        if let Some(lease) = self.accepted.difference(&self.merged).next() {
            return Err(format!("the accepted lease {lease} was never merged"));
        }
        Ok(())
    }
}
