//! Money: a double-entry ledger of immutable transfers, chained by digests from the first row on.
//!
//! Every transfer debits one account and credits another, so the sum of all debits equals the sum of all credits at
//! every moment. Credits enter from `issuance` (a reward), wait in `holds` while a query runs, and end in `revenue`
//! (the answer was complete) or back with the user (it was not). [`Book`] is the live state and makes transfers;
//! [`audit`] recomputes everything from the rows alone and shares no code with it. Storage is not here.

pub mod audit;
mod book;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::book::{Book, BookError, Hold};
use crate::credits::Credits;
use crate::ids::{Digest, TransferId, UserName};

/// One side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// Where new credits come from; only ever debited.
    Issuance,
    /// What answered queries have paid.
    Revenue,
    /// Credits set aside for running queries.
    Holds,
    /// A user's own.
    User(UserName),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuance => f.write_str("issuance"),
            Self::Revenue => f.write_str("revenue"),
            Self::Holds => f.write_str("holds"),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

/// Why a text names no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no account is called {0:?}")]
pub struct AccountError(String);

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        match text {
            "issuance" => Ok(Self::Issuance),
            "revenue" => Ok(Self::Revenue),
            "holds" => Ok(Self::Holds),
            _ => text
                .strip_prefix("user:")
                .and_then(|name| name.parse().ok())
                .map(Self::User)
                .ok_or_else(|| AccountError(text.to_owned())),
        }
    }
}

/// What a transfer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// issuance → user: an accepted task.
    Reward,
    /// user → holds: a query began.
    Hold,
    /// holds → revenue: its answer was complete.
    Post,
    /// holds → user: it was not.
    Void,
}

impl Kind {
    /// Its name in the database and in the chain.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Hold => "hold",
            Self::Post => "post",
            Self::Void => "void",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Reward, Self::Hold, Self::Post, Self::Void].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// One immutable row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its place in the chain, from 1 without gaps.
    pub seq: u64,
    /// Derived from what it is for; unique.
    pub id: TransferId,
    /// What it is for.
    pub kind: Kind,
    /// The account that gives.
    pub debit: Account,
    /// The account that gets.
    pub credit: Account,
    /// How much; never zero.
    pub amount: Credits,
    /// The hold that a post or void resolves.
    pub hold: Option<TransferId>,
    /// What it was for, for people: `task 12`, `query 3f…`.
    pub memo: String,
    /// Wall-clock milliseconds since 1970 when it was made.
    pub at_ms: u64,
    /// The digest of the row before; zeros for the first.
    pub prev: Digest,
    /// The digest of this row.
    pub hash: Digest,
}

impl Transfer {
    /// The digest of the row's content and of the row before it.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("hydra ledger transfer v1");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&self.prev.0);
        field(&self.seq.to_le_bytes());
        field(&self.id.0);
        field(self.kind.as_str().as_bytes());
        field(self.debit.to_string().as_bytes());
        field(self.credit.to_string().as_bytes());
        field(&self.amount.0.to_le_bytes());
        field(self.hold.as_ref().map_or(&[][..], |id| &id.0[..]));
        field(self.memo.as_bytes());
        field(&self.at_ms.to_le_bytes());
        Digest(*hasher.finalize().as_bytes())
    }
}

/// The end of the chain: how many rows, and the digest of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last row's number; 0 for an empty ledger.
    pub seq: u64,
    /// Its digest; zeros for an empty ledger.
    pub hash: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: Digest([0; 32]) }
    }
}
