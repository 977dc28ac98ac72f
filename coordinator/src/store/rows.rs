//! The hub's rows as SQL, in both directions.
//!
//! A row that contradicts what is stored (an acceptance of a lease that has ended, a version that merges an update
//! twice) is a mistake in the program and refused as a whole with its transaction.

use hydra_core::credits::Credits;
use hydra_core::hub::MergeInput;
use hydra_core::hub::rows::{Accepted, ApiKey, Lease, Row, Version};
use hydra_core::ids::{Digest, LeaseId, TaskId, TransferId, VersionNo, WorkerId};
use hydra_core::ledger::{Head, Transfer};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::seal::Seal;

const WRITING: &str = "write to the ledger";

/// Writes `rows` in one durable transaction, with the signature of the head that the ledger has after it.
pub fn write<'a>(
    connection: &mut Connection,
    seal: &Seal,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::sql(WRITING))?;
    let mut head = None;
    for row in rows {
        put(&transaction, row)?;
        if let Row::Transfer(Transfer { seq, hash, .. }) = row {
            head = Some(Head { seq: *seq, hash: *hash });
        }
    }
    if let Some(head) = head {
        seal.put(&transaction, &head).map_err(StoreError::sql(WRITING))?;
    }
    transaction.commit().map_err(StoreError::sql(WRITING))
}

fn put(to: &Connection, row: &Row) -> Result<(), StoreError> {
    // How many rows must change; the rest is a contradiction.
    let changed = match row {
        Row::User { name, key, at_ms } => execute(
            to,
            "INSERT INTO users (name, key, at_ms) VALUES (?1, ?2, ?3)",
            params![name.as_str(), key.0, *at_ms as i64],
        ),
        Row::Lease(lease) => put_lease(to, lease),
        Row::Ended { lease, code, at_ms } => execute(
            to,
            "UPDATE tasks SET state = 'ended', code = ?2, done_ms = ?3 WHERE lease = ?1 AND state = 'leased'",
            params![lease.0 as i64, name_of(code), *at_ms as i64],
        ),
        Row::Accepted(accepted) => put_accepted(to, accepted),
        Row::Version(version) => return put_version(to, version),
        Row::Evaluated { version, loss, bits_per_byte } => execute(
            to,
            "UPDATE versions SET val_loss = ?2, val_bits_per_byte = ?3 WHERE version = ?1 AND state = 'current'",
            params![version.0 as i64, loss, bits_per_byte],
        ),
        Row::Transfer(transfer) => put_transfer(to, transfer),
        Row::ApiKey(ApiKey { digest, user, at_ms }) => execute(
            to,
            "INSERT INTO api_keys (digest, user, at_ms) VALUES (?1, ?2, ?3)",
            params![digest.0, user.as_str(), *at_ms as i64],
        ),
        Row::ApiKeyRevoked { digest } => execute(to, "DELETE FROM api_keys WHERE digest = ?1", params![digest.0]),
    };
    match changed {
        Ok(1) => Ok(()),
        Ok(_) => Err(StoreError::Unfit(format!("{row:?}"))),
        Err(error) => Err(StoreError::sql(WRITING)(error)),
    }
}

fn execute(to: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<usize> {
    to.prepare_cached(sql)?.execute(values)
}

fn put_lease(to: &Connection, lease: &Lease) -> rusqlite::Result<usize> {
    execute(
        to,
        "INSERT INTO tasks (lease, task, user, worker, version, shard, seed, steps, tokens, codec, leased_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            lease.lease.0 as i64,
            lease.task.0 as i64,
            lease.user.as_str(),
            lease.worker.0,
            lease.version.0 as i64,
            lease.shard,
            lease.seed as i64,
            lease.steps,
            lease.tokens as i64,
            name_of(&lease.codec),
            lease.at_ms as i64,
        ],
    )
}

fn put_accepted(to: &Connection, accepted: &Accepted) -> rusqlite::Result<usize> {
    execute(
        to,
        "UPDATE tasks SET state = 'accepted', blob = ?2, bytes = ?3, norm = ?4, loss_first = ?5, loss_last = ?6,
                          train_ms = ?7, done_ms = ?8
         WHERE lease = ?1 AND state = 'leased'",
        params![
            accepted.lease.0 as i64,
            accepted.blob.0,
            accepted.bytes as i64,
            accepted.norm,
            accepted.loss_first,
            accepted.loss_last,
            accepted.train_ms as i64,
            accepted.at_ms as i64,
        ],
    )
}

fn put_version(to: &Connection, version: &Version) -> Result<(), StoreError> {
    let failed = |error| StoreError::sql(WRITING)(error);
    execute(
        to,
        "INSERT INTO versions (version, digest, tokens, tasks, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            version.version.0 as i64,
            version.digest.0,
            version.tokens as i64,
            version.tasks as i64,
            version.at_ms as i64
        ],
    )
    .map_err(failed)?;
    let id = to.last_insert_rowid();
    for (position, (lease, weight)) in version.inputs.iter().enumerate() {
        execute(
            to,
            "INSERT INTO merged (id, position, lease, weight) VALUES (?1, ?2, ?3, ?4)",
            params![id, position as i64, lease.0 as i64, weight],
        )
        .map_err(failed)?;
        let changed = execute(
            to,
            "UPDATE tasks SET merged = ?2 WHERE lease = ?1 AND state = 'accepted' AND merged IS NULL AND lost = 0",
            params![lease.0 as i64, version.version.0 as i64],
        )
        .map_err(failed)?;
        if changed != 1 {
            let text = format!("version {} merges the update of lease {lease}, which does not wait", version.version);
            return Err(StoreError::Unfit(text));
        }
    }
    Ok(())
}

fn put_transfer(to: &Connection, transfer: &Transfer) -> rusqlite::Result<usize> {
    execute(
        to,
        "INSERT INTO transfers (seq, id, kind, debit, credit, amount, hold, memo, at_ms, prev, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            transfer.seq as i64,
            transfer.id.0,
            transfer.kind.as_str(),
            transfer.debit.to_string(),
            transfer.credit.to_string(),
            transfer.amount.0 as i64,
            transfer.hold.map(|hold| hold.0),
            transfer.memo,
            transfer.at_ms as i64,
            transfer.prev.0,
            transfer.hash.0,
        ],
    )
}

/// A code or codec by the name that the protocol gives it.
pub fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => unreachable!("codes and codecs are plain data"),
    }
}

fn from_name<T: DeserializeOwned>(name: String) -> Option<T> {
    let structured = name.starts_with('{').then(|| serde_json::from_str(&name).ok()).flatten();
    structured.or_else(|| serde_json::from_value(serde_json::Value::String(name)).ok())
}

/// The columns that [`lease`] reads, from column 0.
pub const LEASE: &str = "lease, task, user, worker, version, shard, seed, steps, tokens, codec, leased_ms";
/// The columns that [`lease_accepted`] reads.
pub const LEASE_ACCEPTED: &str = "lease, task, user, worker, version, shard, seed, steps, tokens, codec, leased_ms,
    blob, bytes, norm, loss_first, loss_last, train_ms, done_ms";
/// The columns that [`transfer`] reads.
pub const TRANSFER: &str = "seq, id, kind, debit, credit, amount, hold, memo, at_ms, prev, hash";

type FromRow<T> = rusqlite::Result<T>;

/// A whole number, by its bits.
pub fn whole(row: &rusqlite::Row<'_>, column: usize) -> FromRow<u64> {
    row.get::<_, i64>(column).map(|bits| bits as u64)
}

/// A text that names something.
pub fn parsed<T: std::str::FromStr>(row: &rusqlite::Row<'_>, column: usize) -> FromRow<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| misfit(column, Type::Text))
}

fn misfit(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(FromSqlError::InvalidType))
}

/// Reads a lease.
pub fn lease(row: &rusqlite::Row<'_>) -> FromRow<Lease> {
    Ok(Lease {
        lease: LeaseId(whole(row, 0)?),
        task: TaskId(whole(row, 1)?),
        user: parsed(row, 2)?,
        worker: WorkerId(row.get(3)?),
        version: VersionNo(whole(row, 4)?),
        shard: row.get(5)?,
        seed: whole(row, 6)?,
        steps: row.get(7)?,
        tokens: whole(row, 8)?,
        codec: from_name(row.get(9)?).ok_or_else(|| misfit(9, Type::Text))?,
        at_ms: whole(row, 10)?,
    })
}

/// Reads an accepted lease with its update.
pub fn lease_accepted(row: &rusqlite::Row<'_>) -> FromRow<(Lease, Accepted)> {
    let lease = lease(row)?;
    let accepted = Accepted {
        lease: lease.lease,
        blob: Digest(row.get(11)?),
        bytes: whole(row, 12)?,
        norm: row.get::<_, Option<f64>>(13)?.unwrap_or(f64::NAN),
        loss_first: row.get::<_, Option<f32>>(14)?.unwrap_or(f32::NAN),
        loss_last: row.get::<_, Option<f32>>(15)?.unwrap_or(f32::NAN),
        train_ms: whole(row, 16)?,
        at_ms: whole(row, 17)?,
        // Told by the transfer; see `load`.
        paid: Credits::ZERO,
    };
    Ok((lease, accepted))
}

/// Reads a transfer, with whatever is in the row: whether it fits is the book's and the auditor's to say.
pub fn transfer(row: &rusqlite::Row<'_>) -> FromRow<Transfer> {
    Ok(Transfer {
        seq: whole(row, 0)?,
        id: TransferId(row.get(1)?),
        kind: parsed(row, 2)?,
        debit: parsed(row, 3)?,
        credit: parsed(row, 4)?,
        amount: Credits(whole(row, 5)?),
        hold: row.get::<_, Option<[u8; 16]>>(6)?.map(TransferId),
        memo: row.get(7)?,
        at_ms: whole(row, 8)?,
        prev: Digest(row.get(9)?),
        hash: Digest(row.get(10)?),
    })
}

/// An evaluation, if there was one: loss and bits a byte.
pub type Evaluated = Option<(f64, f64)>;

/// The current versions, newest first: `limit` of them after the first `skip`, each with its evaluation.
pub fn current_versions(from: &Connection, skip: usize, limit: usize) -> FromRow<Vec<(Version, Evaluated)>> {
    let mut inputs = from.prepare_cached("SELECT lease, weight FROM merged WHERE id = ?1 ORDER BY position")?;
    let mut versions = from.prepare_cached(
        "SELECT id, version, digest, tokens, tasks, at_ms, val_loss, val_bits_per_byte
         FROM versions WHERE state = 'current' ORDER BY version DESC LIMIT ?1 OFFSET ?2",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let of: i64 = row.get(0)?;
        let inputs = inputs.query_map([of], |row| Ok((LeaseId(whole(row, 0)?), row.get(1)?)))?;
        let version = Version {
            version: VersionNo(whole(row, 1)?),
            digest: Digest(row.get(2)?),
            tokens: whole(row, 3)?,
            tasks: whole(row, 4)?,
            inputs: inputs.collect::<rusqlite::Result<_>>()?,
            at_ms: whole(row, 5)?,
        };
        Ok((version, row.get::<_, Option<f64>>(6)?.zip(row.get::<_, Option<f64>>(7)?)))
    };
    versions.query_map([limit as i64, skip as i64], read)?.collect()
}

/// What a version merged, in order: as far as the leases are known, which is all of them in a sound database.
pub fn merge_inputs(from: &Connection, version: &Version) -> FromRow<Vec<MergeInput>> {
    let mut known = from.prepare_cached("SELECT blob, codec FROM tasks WHERE lease = ?1 AND blob IS NOT NULL")?;
    let mut inputs = Vec::with_capacity(version.inputs.len());
    for &(lease, share) in &version.inputs {
        let read = |row: &rusqlite::Row<'_>| {
            let codec = from_name(row.get(1)?).ok_or_else(|| misfit(1, Type::Text))?;
            Ok(MergeInput { lease, share, blob: Digest(row.get(0)?), codec })
        };
        inputs.extend(known.query_row([lease.0 as i64], read).optional()?);
    }
    Ok(inputs)
}
