//! Reading the transfers from the first to the last, past the auditor that shares no code with the book.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use hydra_core::ids::PublicKey;
use hydra_core::ledger::audit::{Auditor, Fault, Summary};
use hydra_core::ledger::{Head, Transfer};
use rusqlite::Connection;
use serde::Serialize;

use super::error::{FileError, StoreError};
use super::seal::{self, Sealed};
use super::{rows, schema};

/// What is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A row does not follow from those before it: the first such row.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The table of balances differs from what the transfers add up to.
    #[error("the table of accounts gives {name} {table} micro-credits, its transfers {transfers}")]
    Account {
        /// Which account.
        name: String,
        /// In the table.
        table: i128,
        /// By the transfers.
        transfers: i128,
    },
    /// The transfers are sound, but SQLite finds damage elsewhere in the file.
    #[error("the transfers are sound, but the database is damaged: {0}")]
    File(String),
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<VerifyError> for StoreError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Fault(Fault { seq, why }) => Self::BrokenLedger { seq, why },
            VerifyError::Store(error) => error,
            other => Self::BrokenLedger { seq: 0, why: other.to_string() },
        }
    }
}

/// A sound ledger in numbers; amounts in micro-credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The chain's end, with the number of rows.
    pub head: Head,
    /// Whether the coordinator signed that end.
    pub sealed: Sealed,
    /// The coordinator's key, as the database names it.
    pub key: PublicKey,
    /// Net credits of every account.
    pub net: BTreeMap<String, i128>,
    /// Holds that wait for their end.
    pub open_holds: usize,
    /// How many transfers there are of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// Checks a ledger from its first transfer to its last: in a run's folder (a running coordinator is no obstacle) or
/// in a copy of the file.
pub fn verify(run_or_file: &Path) -> Result<Verified, VerifyError> {
    let connection = schema::open_readable(run_or_file)?;
    let snapshot = connection.unchecked_transaction().map_err(reading)?;
    let mut kinds = BTreeMap::new();
    let summary = audit(&snapshot, &mut |row| {
        *kinds.entry(row.kind.as_str()).or_default() += 1;
        Ok(())
    })?;
    // The row by row check comes first, since it says more.
    let sealed = sealed(&snapshot, &summary.head)?;
    let key = "SELECT value FROM meta WHERE key = 'server_key'";
    let key = snapshot.query_row(key, [], |row| row.get(0)).map(PublicKey).map_err(reading)?;
    let whole: String = snapshot.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(reading)?;
    if whole != "ok" {
        return Err(VerifyError::File(whole));
    }
    Ok(Verified { head: summary.head, sealed, key, net: summary.net, open_holds: summary.open.len(), kinds })
}

/// Whether the coordinator signed the end that the transfers were found to have.
pub(super) fn sealed(from: &Connection, head: &Head) -> Result<Sealed, VerifyError> {
    seal::check(from, head).map_err(reading)?.map_err(|(seq, why)| Fault { seq, why }.into())
}

fn reading(error: rusqlite::Error) -> StoreError {
    StoreError::sql("read the ledger")(error)
}

/// Takes every transfer past the auditor and `each`, then compares the sums with the table of accounts. Memory grows
/// with the number of transfers by their ids alone.
pub(super) fn audit(
    from: &Connection,
    each: &mut dyn FnMut(&Transfer) -> Result<(), Fault>,
) -> Result<Summary, VerifyError> {
    let mut auditor = Auditor::default();
    scan(from, 0, ALL, &mut |row| {
        auditor.row(&row)?;
        each(&row).map_err(VerifyError::from)
    })?;
    let summary = auditor.finish()?;
    compare_accounts(from, &summary)?;
    Ok(summary)
}

/// As many transfers as SQLite knows how to limit.
const ALL: i64 = -1;
/// Transfers that are read at a time where somebody may be slow to take them.
const PAGE: i64 = if cfg!(test) { 3 } else { 1000 };

/// The transfers after `after`, at most `limit` of them.
fn scan(
    from: &Connection,
    after: u64,
    limit: i64,
    each: &mut dyn FnMut(Transfer) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let sql = format!("SELECT {} FROM transfers WHERE seq > ?1 ORDER BY seq LIMIT ?2", rows::TRANSFER);
    let mut statement = from.prepare(&sql).map_err(reading)?;
    let mut found = statement.query((after as i64, limit)).map_err(reading)?;
    while let Some(row) = found.next().map_err(reading)? {
        let seq = rows::whole(row, 0).map_err(reading)?;
        let unreadable = |error: rusqlite::Error| Fault { seq, why: format!("it cannot be read: {error}") };
        each(rows::transfer(row).map_err(unreadable)?)?;
    }
    Ok(())
}

fn compare_accounts(from: &Connection, summary: &Summary) -> Result<(), VerifyError> {
    let mut table = BTreeMap::new();
    let mut statement = from.prepare("SELECT name, debits, credits FROM accounts").map_err(reading)?;
    let mut found = statement.query([]).map_err(reading)?;
    while let Some(row) = found.next().map_err(reading)? {
        let read =
            || Ok((row.get::<_, String>(0)?, i128::from(row.get::<_, i64>(2)?) - i128::from(row.get::<_, i64>(1)?)));
        let (name, net) = read().map_err(reading)?;
        table.insert(name, net);
    }
    for name in table.keys().chain(summary.net.keys()) {
        let of = |sums: &BTreeMap<String, i128>| sums.get(name).copied().unwrap_or_default();
        let (table, transfers) = (of(&table), of(&summary.net));
        if table != transfers {
            return Err(VerifyError::Account { name: name.clone(), table, transfers });
        }
    }
    Ok(())
}

/// A transfer as a line of JSON: bytes in hex, the amount in micro-credits, so that the chain can be recomputed.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    id: String,
    kind: &'static str,
    debit: String,
    credit: String,
    amount: u64,
    hold: Option<String>,
    memo: &'a str,
    at_ms: u64,
    prev: String,
    hash: String,
}

/// Writes every transfer as a line of JSON, without checking any, and returns how many there were.
///
/// None is held while it is written: a pager that stays open must not keep SQLite from folding its log.
pub fn export_transfers(run_or_file: &Path, out: &mut dyn Write) -> Result<u64, VerifyError> {
    let connection = schema::open_readable(run_or_file)?;
    let newest = connection.query_row("SELECT coalesce(max(seq), 0) FROM transfers", [], |row| rows::whole(row, 0));
    let newest = newest.map_err(reading)?;
    let (mut last, mut count) = (0, 0);
    while last < newest {
        let mut page = Vec::new();
        scan(&connection, last, PAGE, &mut |row| {
            page.push(row);
            Ok(())
        })?;
        page.retain(|row| row.seq <= newest);
        let Some(row) = page.last() else { break };
        last = row.seq;
        count += page.len() as u64;
        page.iter().try_for_each(|row| write_line(out, row))?;
    }
    Ok(count)
}

fn write_line(out: &mut dyn Write, row: &Transfer) -> Result<(), VerifyError> {
    let line = Line {
        seq: row.seq,
        id: row.id.to_string(),
        kind: row.kind.as_str(),
        debit: row.debit.to_string(),
        credit: row.credit.to_string(),
        amount: row.amount.0,
        hold: row.hold.map(|hold| hold.to_string()),
        memo: &row.memo,
        at_ms: row.at_ms,
        prev: row.prev.to_string(),
        hash: row.hash.to_string(),
    };
    let written = serde_json::to_writer(&mut *out, &line).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
    written.map_err(|error| StoreError::from(FileError::io("write", "the export".as_ref(), &error)).into())
}
