//! An audit of the ledger's rows that shares nothing with the book but the row itself: it follows each account as a
//! signed sum, and each hold from its opening to its end.

use std::collections::BTreeMap;

use super::{Account, Head, Kind, Transfer};
use crate::credits::Credits;
use crate::ids::TransferId;

/// The first thing found wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transfer {seq}: {why}")]
pub struct Fault {
    /// The row.
    pub seq: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What the rows add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Net credits of every account, in micro-credits: credited minus debited. Issuance is negative.
    pub net: BTreeMap<String, i128>,
    /// Holds that were never resolved, with their amounts.
    pub open: BTreeMap<TransferId, Credits>,
    /// The chain's end.
    pub head: Head,
}

/// Reads the rows in order; feed every one, then [`Auditor::finish`].
#[derive(Debug, Default)]
pub struct Auditor {
    summary: Summary,
    ids: std::collections::BTreeSet<TransferId>,
    /// Of the holds that are open.
    owners: BTreeMap<TransferId, Account>,
}

impl Auditor {
    /// Checks one row against all before it.
    pub fn row(&mut self, row: &Transfer) -> Result<(), Fault> {
        let fault = |why: String| Err(Fault { seq: row.seq, why });
        if row.seq != self.summary.head.seq + 1 {
            return fault(format!("follows row {}: a row is missing or out of place", self.summary.head.seq));
        }
        if row.prev != self.summary.head.hash {
            return fault("does not name the digest of the row before it".into());
        }
        if row.digest() != row.hash {
            return fault("its content does not match its digest".into());
        }
        if !self.ids.insert(row.id) {
            return fault(format!("repeats the id {}", row.id));
        }
        if row.amount.0 == 0 || row.amount > Credits::MAX {
            return fault(format!("moves the impossible amount {}", row.amount));
        }
        self.holds(row).or_else(fault)?;
        for (account, sign) in [(&row.debit, -1), (&row.credit, 1)] {
            let net = self.summary.net.entry(account.to_string()).or_default();
            *net += sign * i128::from(row.amount.0);
            if *net < 0 && *account != Account::Issuance {
                return fault(format!("leaves {account} below zero"));
            }
        }
        self.summary.head = Head { seq: row.seq, hash: row.hash };
        Ok(())
    }

    fn holds(&mut self, row: &Transfer) -> Result<(), String> {
        let resolves = |auditor: &mut Self, to: Option<&Account>| {
            let Some(hold) = row.hold else { return Err("resolves no hold".to_owned()) };
            let owner = auditor.owners.remove(&hold);
            match auditor.summary.open.remove(&hold) {
                None => Err(format!("resolves the hold {hold}, which is not open")),
                Some(amount) if amount != row.amount => Err("differs from its hold's amount".into()),
                Some(_) if to.is_some_and(|to| Some(to) != owner.as_ref()) => {
                    Err("returns a hold to a stranger".into())
                }
                Some(_) => Ok(()),
            }
        };
        match (row.kind, &row.debit, &row.credit) {
            (Kind::Reward, Account::Issuance, Account::User(_)) if row.hold.is_none() => Ok(()),
            (Kind::Hold, Account::User(_), Account::Holds) if row.hold.is_none() => {
                self.summary.open.insert(row.id, row.amount);
                self.owners.insert(row.id, row.debit.clone());
                Ok(())
            }
            (Kind::Post, Account::Holds, Account::Revenue) => resolves(self, None),
            (Kind::Void, Account::Holds, to @ Account::User(_)) => resolves(self, Some(to)),
            (kind, debit, credit) => Err(format!("a {} cannot go from {debit} to {credit}", kind.as_str())),
        }
    }

    /// The sums, after the last row.
    pub fn finish(self) -> Result<Summary, Fault> {
        let held = self.summary.net.get("holds").copied().unwrap_or_default();
        let open: i128 = self.summary.open.values().map(|amount| i128::from(amount.0)).sum();
        let total: i128 = self.summary.net.values().sum();
        let seq = self.summary.head.seq;
        if held != open {
            return Err(Fault { seq, why: format!("the holds account has {held}, the open holds {open}") });
        }
        if total != 0 {
            return Err(Fault { seq, why: format!("debits and credits differ by {total}") });
        }
        Ok(self.summary)
    }
}
