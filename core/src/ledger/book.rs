//! The live ledger: balances, open holds and the chain's head; the only place that makes transfers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Account, Head, Kind, Transfer};
use crate::credits::Credits;
use crate::ids::{TransferId, UserName};

/// How many of the newest ids are remembered to recognise a repetition. Older ones are stopped by the callers' own
/// windows (a lease is forgotten long before) and, last, by the database's unique index.
const REMEMBERED: usize = 1 << 16;

/// An open hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose credits.
    pub user: UserName,
    /// How many.
    pub amount: Credits,
}

/// Why a transfer was not made; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The account would go below zero.
    #[error("the balance of {balance} HYD does not cover {amount} HYD")]
    Insufficient {
        /// What is there.
        balance: Credits,
        /// What was asked for.
        amount: Credits,
    },
    /// A transfer with this id exists.
    #[error("transfer {0} was already made")]
    Repeated(TransferId),
    /// No such open hold.
    #[error("there is no open hold {0}")]
    NoHold(TransferId),
    /// The amount is zero or would push an account past [`Credits::MAX`].
    #[error("an amount of {0} HYD cannot be transferred")]
    Amount(Credits),
    /// A row read back does not follow from the rows before it.
    #[error("transfer {seq} does not fit the ledger: {why}")]
    Broken {
        /// Which row.
        seq: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Balances, open holds and the chain's head, always equal to what the transfers so far add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    balances: BTreeMap<UserName, Credits>,
    issued: Credits,
    revenue: Credits,
    held: Credits,
    holds: BTreeMap<TransferId, Hold>,
    recent: VecDeque<TransferId>,
    known: BTreeSet<TransferId>,
    head: Head,
}

impl Book {
    /// Pays a task: issuance → user.
    pub fn reward(
        &mut self,
        id: TransferId,
        user: &UserName,
        amount: Credits,
        memo: String,
        at_ms: u64,
    ) -> Result<Transfer, BookError> {
        self.make(id, Kind::Reward, Account::Issuance, Account::User(user.clone()), amount, None, memo, at_ms)
    }

    /// Sets credits aside for a query: user → holds.
    pub fn hold(
        &mut self,
        id: TransferId,
        user: &UserName,
        amount: Credits,
        memo: String,
        at_ms: u64,
    ) -> Result<Transfer, BookError> {
        self.make(id, Kind::Hold, Account::User(user.clone()), Account::Holds, amount, None, memo, at_ms)
    }

    /// The held credits are earned: holds → revenue.
    pub fn post(&mut self, hold: TransferId, at_ms: u64) -> Result<Transfer, BookError> {
        self.resolve(hold, Kind::Post, at_ms)
    }

    /// The held credits go back: holds → user.
    pub fn void(&mut self, hold: TransferId, at_ms: u64) -> Result<Transfer, BookError> {
        self.resolve(hold, Kind::Void, at_ms)
    }

    fn resolve(&mut self, hold: TransferId, kind: Kind, at_ms: u64) -> Result<Transfer, BookError> {
        let Hold { user, amount } = self.holds.get(&hold).cloned().ok_or(BookError::NoHold(hold))?;
        // One id for both ends, so that a hold can be resolved once only, even across a restart.
        let id = TransferId::derive("resolve", &[&hold.0]);
        let credit = if kind == Kind::Post { Account::Revenue } else { Account::User(user) };
        self.make(id, kind, Account::Holds, credit, amount, Some(hold), String::new(), at_ms)
    }

    #[expect(clippy::too_many_arguments, reason = "these are a transfer's fields; a struct of them is Transfer")]
    fn make(
        &mut self,
        id: TransferId,
        kind: Kind,
        debit: Account,
        credit: Account,
        amount: Credits,
        hold: Option<TransferId>,
        memo: String,
        at_ms: u64,
    ) -> Result<Transfer, BookError> {
        let Head { seq, hash: prev } = self.head;
        let mut transfer =
            Transfer { seq: seq + 1, id, kind, debit, credit, amount, hold, memo, at_ms, prev, hash: prev };
        transfer.hash = transfer.digest();
        self.apply(&transfer)?;
        Ok(transfer)
    }

    /// Takes a row read back from storage; it must continue the chain.
    pub fn replay(&mut self, transfer: &Transfer) -> Result<(), BookError> {
        let broken = |why| BookError::Broken { seq: transfer.seq, why };
        if transfer.seq != self.head.seq + 1 {
            return Err(broken("its number does not follow"));
        }
        if transfer.prev != self.head.hash || transfer.digest() != transfer.hash {
            return Err(broken("its digest does not match"));
        }
        self.apply(transfer)
    }

    /// The one place where balances change: checks everything first, then changes everything.
    fn apply(&mut self, transfer: &Transfer) -> Result<(), BookError> {
        let amount = transfer.amount;
        if self.known.contains(&transfer.id) {
            return Err(BookError::Repeated(transfer.id));
        }
        if amount == Credits::ZERO {
            return Err(BookError::Amount(amount));
        }
        let broken = |why| BookError::Broken { seq: transfer.seq, why };
        let more = |sum: Credits| sum.checked_add(amount).ok_or(BookError::Amount(amount));
        let less = |sum: Credits| sum.checked_sub(amount).ok_or(BookError::Insufficient { balance: sum, amount });
        match (&transfer.kind, &transfer.debit, &transfer.credit, &transfer.hold) {
            (Kind::Reward, Account::Issuance, Account::User(user), None) => {
                let (issued, balance) = (more(self.issued)?, more(self.balance(user))?);
                self.issued = issued;
                self.balances.insert(user.clone(), balance);
            }
            (Kind::Hold, Account::User(user), Account::Holds, None) => {
                let (balance, held) = (less(self.balance(user))?, more(self.held)?);
                self.balances.insert(user.clone(), balance);
                self.held = held;
                self.holds.insert(transfer.id, Hold { user: user.clone(), amount });
            }
            (Kind::Post, Account::Holds, Account::Revenue, Some(hold)) => {
                let open = self.holds.get(hold).ok_or(BookError::NoHold(*hold))?;
                if open.amount != amount {
                    return Err(broken("its amount is not the hold's"));
                }
                let (held, revenue) = (less(self.held)?, more(self.revenue)?);
                self.held = held;
                self.revenue = revenue;
                self.holds.remove(hold);
            }
            (Kind::Void, Account::Holds, Account::User(user), Some(hold)) => {
                let open = self.holds.get(hold).ok_or(BookError::NoHold(*hold))?;
                if open.amount != amount || open.user != *user {
                    return Err(broken("it does not return the hold to its user"));
                }
                let (held, balance) = (less(self.held)?, more(self.balance(user))?);
                self.held = held;
                self.balances.insert(user.clone(), balance);
                self.holds.remove(hold);
            }
            _ => return Err(broken("its accounts do not fit its kind")),
        }
        self.remember(transfer.id);
        self.head = Head { seq: transfer.seq, hash: transfer.hash };
        Ok(())
    }

    fn remember(&mut self, id: TransferId) {
        self.known.insert(id);
        self.recent.push_back(id);
        if self.recent.len() > REMEMBERED
            && let Some(old) = self.recent.pop_front()
        {
            self.known.remove(&old);
        }
    }

    /// Whether so much can still be issued. No account has more than that, so it has room for it, too.
    pub fn can_issue(&self, amount: Credits) -> bool {
        self.issued.checked_add(amount).is_some()
    }

    /// What `user` may spend; zero for somebody unknown.
    pub fn balance(&self, user: &UserName) -> Credits {
        self.balances.get(user).copied().unwrap_or_default()
    }

    /// What running queries hold of `user`'s credits.
    pub fn held_of(&self, user: &UserName) -> Credits {
        Credits(self.holds.values().filter(|hold| hold.user == *user).map(|hold| hold.amount.0).sum())
    }

    /// Every open hold.
    pub fn holds(&self) -> &BTreeMap<TransferId, Hold> {
        &self.holds
    }

    /// Every user's balance.
    pub fn balances(&self) -> &BTreeMap<UserName, Credits> {
        &self.balances
    }

    /// Credits ever issued, held now, and earned by answers. Issued = balances + held + revenue, always.
    pub fn totals(&self) -> (Credits, Credits, Credits) {
        (self.issued, self.held, self.revenue)
    }

    /// The chain's end.
    pub fn head(&self) -> Head {
        self.head
    }
}
