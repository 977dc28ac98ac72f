//! Read-only questions for the subcommands, answered while a coordinator runs or from a copy of the database.
//!
//! Every answer comes from one snapshot. Nothing here writes, or takes the run's lock.

use std::path::Path;

use hydra_core::credits::Credits;
use hydra_core::hub::rows::Version;
use hydra_core::ids::{Digest, PublicKey, UserName, VersionNo};
use hydra_core::ledger::Transfer;
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::{Serialize, Serializer};

use super::error::StoreError;
use super::{rows, schema};

/// Versions that [`Reader::current_versions`] gives at most.
const NEWEST: usize = 64;

/// A run's database, open for reading.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserReport {
    /// The name.
    pub user: UserName,
    /// The key that owns it.
    #[serde(serialize_with = "text")]
    pub key: PublicKey,
    /// HYD free to spend.
    #[serde(serialize_with = "hyd")]
    pub balance: Credits,
    /// HYD held for running queries.
    #[serde(serialize_with = "hyd")]
    pub held: Credits,
    /// Accepted tasks.
    pub tasks: u64,
    /// Wall-clock milliseconds when the name was claimed.
    pub since_ms: u64,
}

/// A run in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// The run's own id, in hex.
    pub run: String,
    /// The coordinator's key.
    #[serde(serialize_with = "text")]
    pub key: PublicKey,
    /// Wall-clock milliseconds of the first start.
    pub created_ms: u64,
    /// Starts so far.
    pub boots: u64,
    /// The newest version; absent before the first.
    pub version: Option<VersionNo>,
    /// Accepted tasks.
    pub tasks: u64,
    /// Accepted tasks that no version has merged yet.
    pub waiting: u64,
    /// Tokens trained in all merged updates.
    pub tokens: u64,
    /// Claimed names.
    pub users: u64,
    /// The newest version that was evaluated.
    pub evaluated: Option<VersionNo>,
    /// Its held-out loss, nats a token.
    pub val_loss: Option<f64>,
    /// The same in bits a byte.
    pub val_bits_per_byte: Option<f64>,
    /// HYD ever issued.
    #[serde(serialize_with = "hyd")]
    pub issued: Credits,
    /// HYD held for running queries.
    #[serde(serialize_with = "hyd")]
    pub held: Credits,
    /// HYD that answers have earned.
    #[serde(serialize_with = "hyd")]
    pub revenue: Credits,
    /// Rows of the ledger.
    pub transfers: u64,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionReport {
    /// Its number.
    pub version: VersionNo,
    /// The digest of its weights.
    #[serde(serialize_with = "text")]
    pub digest: Digest,
    /// Tokens trained so far.
    pub tokens: u64,
    /// Tasks merged so far.
    pub tasks: u64,
    /// Updates merged into this version.
    pub updates: u64,
    /// Held-out loss, nats a token.
    pub val_loss: Option<f64>,
    /// The same in bits a byte.
    pub val_bits_per_byte: Option<f64>,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
    /// Whether its weights were lost and another version bears its number, or will.
    pub superseded: bool,
}

const USERS: &str = "
    WITH open AS (
        SELECT debit, sum(amount) AS amount FROM transfers AS holds
        WHERE kind = 'hold' AND NOT EXISTS (SELECT 1 FROM transfers AS ends WHERE ends.hold = holds.id)
        GROUP BY debit
    )
    SELECT users.name, users.key, coalesce(accounts.credits - accounts.debits, 0), coalesce(open.amount, 0),
           (SELECT count(*) FROM tasks WHERE tasks.user = users.name AND tasks.state = 'accepted'),
           users.at_ms
    FROM users
    LEFT JOIN accounts ON accounts.name = 'user:' || users.name
    LEFT JOIN open ON open.debit = 'user:' || users.name";

impl Reader {
    /// Opens the database of a run's folder, or a copy of the file.
    pub fn open(run_or_file: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_readable(run_or_file)? })
    }

    /// Every user, by name.
    pub fn users(&self) -> Result<Vec<UserReport>, StoreError> {
        self.read(|from| from.prepare(&format!("{USERS} ORDER BY users.name"))?.query_map([], user)?.collect())
    }

    /// One user; nothing for a name that nobody claimed.
    pub fn user(&self, name: &UserName) -> Result<Option<UserReport>, StoreError> {
        let sql = format!("{USERS} WHERE users.name = ?1");
        self.read(|from| from.query_row(&sql, [name.as_str()], user).optional())
    }

    /// The run in numbers.
    pub fn status(&self) -> Result<StatusReport, StoreError> {
        self.read(status)
    }

    /// Every version, newest first, superseded ones among them.
    pub fn versions(&self) -> Result<Vec<VersionReport>, StoreError> {
        let sql = "SELECT version, digest, tokens, tasks, (SELECT count(*) FROM merged WHERE merged.id = versions.id),
                          val_loss, val_bits_per_byte, at_ms, state = 'superseded'
                   FROM versions ORDER BY version DESC, id DESC";
        self.read(|from| from.prepare(sql)?.query_map([], version)?.collect())
    }

    /// The version with the lowest held-out loss of those that count and were measured, and that loss; of two with the
    /// same, the newer.
    pub fn best_version(&self) -> Result<Option<(VersionNo, f64)>, StoreError> {
        let sql = "SELECT version, val_loss FROM versions WHERE state != 'superseded' AND val_loss IS NOT NULL
                   ORDER BY val_loss, version DESC LIMIT 1";
        let best = |row: &rusqlite::Row<'_>| Ok((VersionNo(rows::whole(row, 0)?), row.get(1)?));
        self.read(|from| from.query_row(sql, [], best).optional())
    }

    /// The newest versions that count, newest first: those whose weights may still be on disk.
    pub fn current_versions(&self) -> Result<Vec<Version>, StoreError> {
        let found = self.read(|from| rows::current_versions(from, 0, NEWEST))?;
        Ok(found.into_iter().map(|(version, _)| version).collect())
    }

    /// The newest transfers, the newest first, each with the memo of the hold that it ends.
    pub fn newest_transfers(&self, count: usize) -> Result<Vec<(Transfer, Option<String>)>, StoreError> {
        let sql = format!(
            "SELECT {}, (SELECT memo FROM transfers AS held WHERE held.id = ends.hold)
             FROM transfers AS ends ORDER BY seq DESC LIMIT ?1",
            rows::TRANSFER
        );
        let read = |row: &rusqlite::Row<'_>| Ok((rows::transfer(row)?, row.get(11)?));
        self.read(|from| from.prepare(&sql)?.query_map([count as i64], read)?.collect())
    }

    fn read<T>(&self, ask: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let answer = self.connection.unchecked_transaction().and_then(|snapshot| ask(&snapshot));
        answer.map_err(StoreError::sql("read the ledger"))
    }
}

fn user(row: &rusqlite::Row<'_>) -> rusqlite::Result<UserReport> {
    Ok(UserReport {
        user: rows::parsed(row, 0)?,
        key: PublicKey(row.get(1)?),
        balance: Credits(rows::whole(row, 2)?),
        held: Credits(rows::whole(row, 3)?),
        tasks: rows::whole(row, 4)?,
        since_ms: rows::whole(row, 5)?,
    })
}

fn version(row: &rusqlite::Row<'_>) -> rusqlite::Result<VersionReport> {
    Ok(VersionReport {
        version: VersionNo(rows::whole(row, 0)?),
        digest: Digest(row.get(1)?),
        tokens: rows::whole(row, 2)?,
        tasks: rows::whole(row, 3)?,
        updates: rows::whole(row, 4)?,
        val_loss: row.get(5)?,
        val_bits_per_byte: row.get(6)?,
        at_ms: rows::whole(row, 7)?,
        superseded: row.get(8)?,
    })
}

fn status(from: &Transaction<'_>) -> rusqlite::Result<StatusReport> {
    let count = |sql: &str| from.query_row(sql, [], |row| rows::whole(row, 0));
    let meta = |key: &str| from.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| rows::whole(row, 0));
    let bytes = "SELECT value FROM meta WHERE key = ?1";
    let sum = |account: &str| {
        let sql = "SELECT debits, credits FROM accounts WHERE name = ?1";
        let found = from.query_row(sql, [account], |row| Ok((rows::whole(row, 0)?, rows::whole(row, 1)?)));
        found.optional().map(Option::unwrap_or_default)
    };
    let newest = "SELECT version, tokens FROM versions WHERE state = 'current' ORDER BY version DESC LIMIT 1";
    let newest = from.query_row(newest, [], |row| Ok((rows::whole(row, 0)?, rows::whole(row, 1)?))).optional()?;
    let evaluated = "SELECT version, val_loss, val_bits_per_byte FROM versions
                     WHERE state = 'current' AND val_loss IS NOT NULL ORDER BY version DESC LIMIT 1";
    let evaluated =
        from.query_row(evaluated, [], |row| Ok((rows::whole(row, 0)?, row.get(1)?, row.get(2)?))).optional()?;
    let (held_out, held_in) = sum("holds")?;
    Ok(StatusReport {
        run: Hex(from.query_row(bytes, ["run"], |row| row.get(0))?).to_string(),
        key: PublicKey(from.query_row(bytes, ["server_key"], |row| row.get(0))?),
        created_ms: meta("created_ms")?,
        boots: meta("boot")?,
        version: newest.map(|(version, _)| VersionNo(version)),
        tokens: newest.map_or(0, |(_, tokens)| tokens),
        tasks: count("SELECT count(*) FROM tasks WHERE state = 'accepted'")?,
        waiting: count("SELECT count(*) FROM tasks WHERE state = 'accepted' AND merged IS NULL AND lost = 0")?,
        users: count("SELECT count(*) FROM users")?,
        evaluated: evaluated.map(|(version, ..)| VersionNo(version)),
        val_loss: evaluated.and_then(|(_, loss, _)| loss),
        val_bits_per_byte: evaluated.and_then(|(.., bits)| bits),
        issued: Credits(sum("issuance")?.0),
        held: Credits(held_in.saturating_sub(held_out)),
        revenue: Credits(sum("revenue")?.1),
        transfers: count("SELECT coalesce(max(seq), 0) FROM transfers")?,
    })
}

struct Hex([u8; 16]);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn hyd<S: Serializer>(amount: &Credits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(amount.as_hyd())
}
