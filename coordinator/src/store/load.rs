//! What a restart needs, read back and checked: the book from the transfers, the newest version whose weights are
//! whole, and the leases and updates that still matter.
//!
//! Where the newest weights are damaged or gone, the run goes on from the newest whole version before them. The rows
//! of the versions above it stay, marked superseded; their updates wait to be merged again as far as their bytes
//! exist. Money is untouched by this: what was paid stays paid. All of it is one transaction.

use std::collections::BTreeSet;

use hydra_core::credits::Credits;
use hydra_core::hub::rows::{Accepted, ApiKey, Lease, Recovered, Version};
use hydra_core::hub::{Asked, MergeInput, reward_id};
use hydra_core::ids::{Digest, LeaseId, PublicKey, TaskId, UserName, VersionNo};
use hydra_core::ledger::Book;
use hydra_core::ledger::audit::Fault;
use hydra_core::limits;
use hydra_core::proto::UnpaidCode;
use rusqlite::{Connection, OptionalExtension as _, Params, TransactionBehavior, params};

use super::error::{FileError, StoreError};
use super::seal::Sealed;
use super::{Store, rows, verify};

/// Current versions that [`Loaded::history`] lists at most.
const HISTORY: usize = 64;

/// Makes a version's weights again from the version before, whose weights are whole, and all that it merged; says
/// whether it could.
pub type Remake<'a> = dyn FnMut(&Version, &Version, &[MergeInput]) -> Result<bool, FileError> + 'a;

/// A run, read back.
#[derive(Debug)]
pub struct Loaded {
    /// What the hub needs; absent for a run that has no version yet (write one with [`Store::write`], load again).
    pub recovered: Option<Recovered>,
    /// The newest current versions, newest first: which updates went into those whose weights are still kept.
    pub history: Vec<Version>,
    /// What had to be changed to go on; empty after any stop, however hard, on a disk that keeps what was synced.
    pub repairs: Repairs,
}

/// What a damaged disk cost; for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Versions given up because their weights are damaged or gone, with the reason, newest first.
    pub superseded: Vec<(VersionNo, String)>,
    /// Versions whose weights were damaged and that were made again, with the reason, oldest first.
    pub remade: Vec<(VersionNo, String)>,
    /// Updates that those had merged and that wait to be merged again.
    pub reopened: Vec<LeaseId>,
    /// Updates that were paid and will never be merged: their bytes, or the weights that they belong to, are gone.
    pub lost: Vec<LeaseId>,
    /// Leases of given-up versions that were ended.
    pub ended: Vec<LeaseId>,
}

impl Repairs {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Reads the run back. `check` says whether a version's weights are whole on disk ([`FileError::Missing`] and
    /// [`FileError::Damaged`] make it go back one version; any other trouble, such as a lack of permission, is not the
    /// weights' fault and ends the load). From the newest whole version on, `remake` makes those after it again, as
    /// far as it can. `has_update` says whether an accepted update's bytes are on disk.
    pub fn load(
        &mut self,
        check: &mut dyn FnMut(&Version) -> Result<(), FileError>,
        remake: &mut Remake<'_>,
        has_update: &mut dyn FnMut(LeaseId, &Digest) -> Result<bool, FileError>,
    ) -> Result<Loaded, StoreError> {
        let (boot, at_ms) = (self.boot, self.opened_ms);
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let within = begun.map_err(reading)?;
        let (book, asked) = replay(&within)?;
        if verify::sealed(&within, &book.head())? == Sealed::NotYet {
            self.seal.begin(&within, &book.head()).map_err(reading)?;
        }
        let mut repairs = Repairs::default();
        let Some((newest, evaluated)) = newest_whole(&within, check, remake, &mut repairs)? else {
            within.commit().map_err(reading)?;
            return Ok(Loaded { recovered: None, history: Vec::new(), repairs });
        };
        if !repairs.superseded.is_empty() {
            supersede(&within, newest.version, at_ms, &mut repairs).map_err(reading)?;
        }
        let mut unmerged = unmerged(&within, newest.version, has_update, &mut repairs)?;
        let mut settled = settled(&within, newest.version, &unmerged).map_err(reading)?;
        add_pay(&within, unmerged.iter_mut().chain(&mut settled)).map_err(reading)?;
        let recovered = Recovered {
            boot,
            users: users(&within).map_err(reading)?,
            api_keys: api_keys(&within).map_err(reading)?,
            book,
            asked,
            evaluated,
            open: open(&within, newest.version).map_err(reading)?,
            settled,
            unmerged,
            last_task: last_task(&within).map_err(reading)?,
            newest,
        };
        let history = rows::current_versions(&within, 0, HISTORY).map_err(reading)?;
        within.commit().map_err(reading)?;
        let history = history.into_iter().map(|(version, _)| version).collect();
        Ok(Loaded { recovered: Some(recovered), history, repairs })
    }
}

fn reading(error: rusqlite::Error) -> StoreError {
    StoreError::sql("read the ledger")(error)
}

/// The book, with every transfer checked by the auditor as well and the sums of both compared; and what was asked, as
/// the same rows say.
fn replay(from: &Connection) -> Result<(Book, Asked), StoreError> {
    let (mut book, mut asked) = (Book::default(), Asked::default());
    let summary = verify::audit(from, &mut |row| {
        asked.take(row);
        book.replay(row).map_err(|error| Fault { seq: row.seq, why: error.to_string() })
    })?;
    let net = |name: String| summary.net.get(&name).copied().unwrap_or_default();
    let sums_agree = book.balances().iter().all(|(user, sum)| net(format!("user:{user}")) == i128::from(sum.0));
    if !sums_agree || book.head() != summary.head {
        let why = "the book and the audit disagree".to_owned();
        return Err(StoreError::BrokenLedger { seq: summary.head.seq, why });
    }
    Ok((book, asked))
}

fn newest_whole(
    from: &Connection,
    check: &mut dyn FnMut(&Version) -> Result<(), FileError>,
    remake: &mut Remake<'_>,
    repairs: &mut Repairs,
) -> Result<Option<(Version, rows::Evaluated)>, StoreError> {
    // Newest first.
    let mut bad: Vec<Bad> = Vec::new();
    loop {
        let next = rows::current_versions(from, bad.len(), HISTORY).map_err(reading)?;
        if next.is_empty() {
            break;
        }
        for found in next {
            match check(&found.0) {
                Ok(()) => {
                    let newest = go_forward(from, found, &mut bad, (remake, repairs))?;
                    let given_up = bad.into_iter().map(|((version, _), why)| (version.version, why.to_string()));
                    repairs.superseded.extend(given_up);
                    return Ok(Some(newest));
                }
                Err(error @ FileError::Io { .. }) => return Err(error.into()),
                Err(error) => bad.push((found, error)),
            }
        }
    }
    match bad.into_iter().next() {
        None => Ok(None),
        Some(((newest, _), why)) => Err(StoreError::NoGoodVersion { newest: newest.version, why: why.to_string() }),
    }
}

/// A version without whole weights, and what is wrong with them.
type Bad = ((Version, rows::Evaluated), FileError);

/// Makes one version after the other again, from a whole one on, and takes it from the bad ones.
fn go_forward(
    from: &Connection,
    whole: (Version, rows::Evaluated),
    bad: &mut Vec<Bad>,
    (remake, repairs): (&mut Remake<'_>, &mut Repairs),
) -> Result<(Version, rows::Evaluated), StoreError> {
    let mut newest = whole;
    while let Some(((version, _), _)) = bad.last() {
        let inputs = rows::merge_inputs(from, version).map_err(reading)?;
        let known = inputs.len() == version.inputs.len() && !inputs.is_empty();
        if !known || !remake(version, &newest.0, &inputs)? {
            break;
        }
        let (found, why) = bad.pop().expect("there is a last one");
        if matches!(why, FileError::Damaged { .. }) {
            repairs.remade.push((found.0.version, why.to_string()));
        }
        newest = found;
    }
    Ok(newest)
}

/// Marks the versions above `good`, frees the updates that they merged, and ends the leases that trained from them:
/// another version will bear the same number.
fn supersede(within: &Connection, good: VersionNo, at_ms: u64, repairs: &mut Repairs) -> rusqlite::Result<()> {
    let good = good.0 as i64;
    repairs.reopened = leases(within, "UPDATE tasks SET merged = NULL WHERE merged > ?1 RETURNING lease", [good])?;
    repairs.ended = leases(
        within,
        "UPDATE tasks SET state = 'ended', code = ?2, done_ms = ?3
         WHERE version > ?1 AND state = 'leased' RETURNING lease",
        params![good, rows::name_of(&UnpaidCode::Expired), at_ms as i64],
    )?;
    within.execute("UPDATE versions SET state = 'superseded' WHERE state = 'current' AND version > ?1", [good])?;
    Ok(())
}

fn leases(within: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Vec<LeaseId>> {
    let mut found: Vec<_> = within
        .prepare(sql)?
        .query_map(values, |row| rows::whole(row, 0).map(LeaseId))?
        .collect::<rusqlite::Result<_>>()?;
    found.sort_unstable();
    Ok(found)
}

/// Accepted updates that wait for their version, oldest first; those that cannot be merged are written off.
fn unmerged(
    within: &Connection,
    newest: VersionNo,
    has_update: &mut dyn FnMut(LeaseId, &Digest) -> Result<bool, FileError>,
    repairs: &mut Repairs,
) -> Result<Vec<(Lease, Accepted)>, StoreError> {
    let sql = format!(
        "SELECT {} FROM tasks WHERE state = 'accepted' AND merged IS NULL AND lost = 0 ORDER BY done_ms, lease",
        rows::LEASE_ACCEPTED
    );
    let waiting = collect(within, &sql, [], rows::lease_accepted).map_err(reading)?;
    let mut whole = Vec::with_capacity(waiting.len());
    for (lease, accepted) in waiting {
        // An update from weights that are gone says nothing about those that will bear their number.
        if lease.version <= newest && has_update(lease.lease, &accepted.blob)? {
            whole.push((lease, accepted));
            continue;
        }
        within.execute("UPDATE tasks SET lost = 1 WHERE lease = ?1", [lease.lease.0 as i64]).map_err(reading)?;
        repairs.lost.push(lease.lease);
    }
    repairs.reopened.retain(|lease| !repairs.lost.contains(lease));
    Ok(whole)
}

fn collect<T>(
    from: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    from.prepare(sql)?.query_map(values, read)?.collect()
}

fn users(from: &Connection) -> rusqlite::Result<Vec<(UserName, PublicKey)>> {
    collect(from, "SELECT name, key FROM users ORDER BY name", [], |row| {
        Ok((rows::parsed(row, 0)?, PublicKey(row.get(1)?)))
    })
}

fn api_keys(from: &Connection) -> rusqlite::Result<Vec<ApiKey>> {
    collect(from, "SELECT digest, user, at_ms FROM api_keys ORDER BY digest", [], |row| {
        Ok(ApiKey { digest: Digest(row.get(0)?), user: rows::parsed(row, 1)?, at_ms: rows::whole(row, 2)? })
    })
}

/// The oldest version whose leases may still be answered: two beyond the staleness limit, so that what is refused as
/// stale is refused as that, not as unknown.
fn horizon(newest: VersionNo) -> i64 {
    newest.0.saturating_sub(limits::STALENESS + 2) as i64
}

/// With the plus SQLite finds the few tasks by their versions; without it, it would walk through all in the order of
/// leases and have nothing to sort.
fn open_sql() -> String {
    format!("SELECT {} FROM tasks WHERE version >= ?1 AND state = 'leased' ORDER BY +lease", rows::LEASE)
}

fn open(from: &Connection, newest: VersionNo) -> rusqlite::Result<Vec<Lease>> {
    collect(from, &open_sql(), [horizon(newest)], rows::lease)
}

fn settled_sql() -> String {
    format!(
        "SELECT {} FROM tasks WHERE state = 'accepted' AND (version >= ?1 OR lease IN
             (SELECT lease FROM tasks WHERE state = 'accepted' ORDER BY lease DESC LIMIT ?2)) ORDER BY +lease",
        rows::LEASE_ACCEPTED
    )
}

fn settled(
    from: &Connection,
    newest: VersionNo,
    unmerged: &[(Lease, Accepted)],
) -> rusqlite::Result<Vec<(Lease, Accepted)>> {
    let mut settled = collect(from, &settled_sql(), [horizon(newest), limits::PAID as i64], rows::lease_accepted)?;
    let waiting: BTreeSet<_> = unmerged.iter().map(|(lease, _)| lease.lease).collect();
    settled.retain(|(lease, _)| !waiting.contains(&lease.lease));
    Ok(settled)
}

/// What each was paid: an earlier start may have paid another reward than this one does, or none.
fn add_pay<'a>(from: &Connection, accepted: impl Iterator<Item = &'a mut (Lease, Accepted)>) -> rusqlite::Result<()> {
    let mut amount = from.prepare("SELECT amount FROM transfers WHERE id = ?1")?;
    for (lease, accepted) in accepted {
        let paid = amount.query_row([reward_id(lease.lease).0], |row| rows::whole(row, 0)).optional()?;
        accepted.paid = Credits(paid.unwrap_or_default());
    }
    Ok(())
}

fn last_task(from: &Connection) -> rusqlite::Result<TaskId> {
    let last = from.query_row("SELECT max(task) FROM tasks", [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(TaskId(last.unwrap_or_default() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn a_start_does_not_walk_through_all_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let connection = schema::open_writable(&dir.path().join(schema::FILE)).unwrap();
        for (sql, values) in [(open_sql(), &[1][..]), (settled_sql(), &[1, 2])] {
            let plan =
                collect(&connection, &format!("EXPLAIN QUERY PLAN {sql}"), rusqlite::params_from_iter(values), |row| {
                    Ok((row.get::<_, i64>(1)?, row.get::<_, String>(3)?))
                })
                .unwrap();
            // The outermost steps; the newest leases of all are found from the end.
            let walks = plan.iter().any(|(parent, step)| *parent == 0 && step.starts_with("SCAN"));
            assert!(!walks && plan.iter().any(|(_, step)| step.contains("tasks_by_version")), "{plan:?}");
        }
    }
}
