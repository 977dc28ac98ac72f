//! Which queries were asked before: the newest of each user for which credits were held. One that is sent again is known
//! again, also after a restart, since the holds' rows name their queries.
//!
//! The bound is each user's own, so that nobody can make the coordinator forget what somebody else asked; and to be
//! remembered costs credits, so that names which earned nothing take no memory. What is free is known while it runs.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{QueryId, UserName};
use crate::ledger::{Account, Kind, Transfer};

/// Queries of one user that are remembered.
const REMEMBERED: usize = 256;
/// Before the query's id in the memo of its hold.
const MEMO: &str = "query ";

/// The queries that users paid for, or tried to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked(BTreeMap<UserName, VecDeque<QueryId>>);

impl Asked {
    /// Takes a row of the ledger, in the ledger's order; only holds of queries say something.
    pub fn take(&mut self, transfer: &Transfer) {
        if let (Kind::Hold, Account::User(user)) = (transfer.kind, &transfer.debit)
            && let Some(query) = named(&transfer.memo)
        {
            self.note(user, query);
        }
    }

    /// A user asks this, and credits are held for it.
    pub(super) fn note(&mut self, user: &UserName, query: QueryId) {
        let mine = self.0.entry(user.clone()).or_default();
        if mine.len() == REMEMBERED {
            mine.pop_front();
        }
        mine.push_back(query);
    }

    pub(super) fn knows(&self, user: &UserName, query: QueryId) -> bool {
        self.0.get(user).is_some_and(|mine| mine.contains(&query))
    }
}

/// What the hold of a query says that it is for.
pub(super) fn memo(query: QueryId) -> String {
    format!("{MEMO}{query}")
}

/// The query that a hold's memo names.
fn named(memo: &str) -> Option<QueryId> {
    let hex = memo.strip_prefix(MEMO)?.as_bytes();
    let mut id = [0; 16];
    if hex.len() != 2 * id.len() {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(QueryId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_names_its_query_and_other_texts_none() {
        let query = QueryId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 253, 254, 255]);
        assert_eq!(named(&memo(query)), Some(query));
        for other in ["", "task 12", "query ", "query 00", "query é0000000000000000000000000000000"] {
            assert_eq!(named(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_flood_pushes_out_the_floods_own_alone() {
        let (alice, mallory): (UserName, UserName) =
            ("alice".parse().expect("a name"), "mallory".parse().expect("a name"));
        let mut asked = Asked::default();
        asked.note(&alice, QueryId([1; 16]));
        for n in 0..REMEMBERED as u64 + 10 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            asked.note(&mallory, QueryId(id));
        }
        assert!(asked.knows(&alice, QueryId([1; 16])) && !asked.knows(&mallory, QueryId([1; 16])));
        assert!(!asked.knows(&mallory, QueryId([0; 16])), "the oldest of many");
        assert!(asked.0.values().all(|mine| mine.len() <= REMEMBERED));
    }
}
