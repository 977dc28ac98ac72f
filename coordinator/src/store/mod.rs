//! What a run keeps on disk: the SQLite database of users, tasks, versions and money; the weights of versions; the
//! bytes of accepted updates.
//!
//! Invariants: one coordinator a folder ([`files::RunLock`]); one thread writes the database, and what it reported
//! as saved survives a power cut; an update's row is written after its bytes, a version's when it can be made again from
//! files; a damaged, foreign or newer file is named, never overwritten. Readers open the database read-only and disturb nobody.
//!
//! Layout of a run's folder: `hydra.db` (with `-wal` and `-shm` beside it), `lock`, `versions/`, `updates/`, `merging.json`. The
//! tables are described in `schema/0001.sql` and `docs/ledger.md`.

pub mod error;
pub mod files;
pub mod load;
pub mod read;
pub mod schema;
pub mod seal;
pub mod updates;
pub mod verify;
pub mod versions;
pub mod writer;

mod rows;

#[cfg(test)]
mod tests;

use std::path::Path;

use ed25519_dalek::SigningKey;
use hydra_core::hub::public_key;
use hydra_core::hub::rows::Row;
use hydra_core::ids::PublicKey;
use hydra_core::ledger::Head;
use hydra_core::proto::PROTOCOL;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

pub use self::error::{FileError, StoreError, Trouble};
pub use self::files::{RunLock, write_whole};
pub use self::load::{Loaded, Repairs};
pub use self::read::Reader;
use self::seal::Seal;
pub use self::updates::UpdateFiles;
pub use self::versions::{Checkpoint, VersionFiles};
pub use self::writer::{Saved, Writer};

/// What is written into the run's folder itself by way of a temporary file, by any part of the coordinator.
const WRITTEN: [&str; 6] =
    ["average.safetensors", "begun.json", "merging.json", "run.toml", "samples.jsonl", "tokenizer.json"];

/// Who opens a run, and when.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The coordinator's key, which signs the ledger's head; a run stays with the key that began it.
    pub key: SigningKey,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
}

/// A run's database, open for writing, before its writer's thread starts. Holds the folder's lock.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    seal: Seal,
    boot: u64,
    opened_ms: u64,
    // Last, so that the database is closed before the folder is free for another.
    lock: RunLock,
}

impl Store {
    /// Whether `run_dir` has a database, or one that cannot be looked at. An empty file is none.
    pub fn exists(run_dir: &Path) -> bool {
        match std::fs::metadata(run_dir.join(schema::FILE)) {
            Ok(metadata) => metadata.len() > 0,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Opens the database in `run_dir`, making both where absent, and counts this start.
    pub fn open(run_dir: &Path, opening: &Opening) -> Result<Self, StoreError> {
        std::fs::create_dir_all(run_dir).map_err(|error| FileError::io("prepare", run_dir, &error))?;
        let lock = RunLock::take(run_dir)?;
        // With the lock: another coordinator's half-written files are its own.
        files::prepare_folder(run_dir, |name| WRITTEN.contains(&name))?;
        let mut connection = schema::open_writable(&run_dir.join(schema::FILE))?;
        let given = public_key(&opening.key);
        let stored = found(&mut connection, opening).map_err(StoreError::sql("open the ledger"))?;
        if stored.key != given {
            return Err(StoreError::OtherKey { stored: stored.key, given });
        }
        let seal = Seal::new(opening.key.clone(), stored.run);
        Ok(Self { connection, seal, boot: stored.boot, opened_ms: opening.at_ms, lock })
    }

    /// How often this run was started, this time included.
    #[cfg(test)]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Whether the run has weights, or had some.
    pub fn has_version(&self) -> Result<bool, StoreError> {
        let any = self.connection.query_row("SELECT EXISTS (SELECT 1 FROM versions)", [], |row| row.get(0));
        any.map_err(StoreError::sql("read the ledger"))
    }

    /// Writes rows at once, all or none: for the first version, before the thread starts.
    pub fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        rows::write(&mut self.connection, &self.seal, rows)
    }
}

struct Stored {
    key: PublicKey,
    run: [u8; 16],
    boot: u64,
}

/// Writes down where the run comes from on its first start, and counts this start.
fn found(connection: &mut Connection, opening: &Opening) -> rusqlite::Result<Stored> {
    let given = public_key(&opening.key);
    let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let meta = "SELECT value FROM meta WHERE key = ?1";
    let key = begin.query_row(meta, ["server_key"], |row| row.get(0)).optional()?.map(PublicKey);
    let run = if key.is_some() {
        begin.query_row(meta, ["run"], |row| row.get(0))?
    } else {
        let run = begin.query_row("SELECT randomblob(16)", [], |row| row.get::<_, [u8; 16]>(0))?;
        begin.execute(
            "INSERT INTO meta (key, value)
             VALUES ('server_key', ?1), ('run', ?2), ('created_ms', ?3), ('protocol', ?4), ('boot', 0)",
            params![given.0, run, opening.at_ms as i64, PROTOCOL],
        )?;
        Seal::new(opening.key.clone(), run).begin(&begin, &Head::default())?;
        run
    };
    let key = key.unwrap_or(given);
    if key != given {
        return Ok(Stored { key, run, boot: 0 });
    }
    let boot = begin.query_row("UPDATE meta SET value = value + 1 WHERE key = 'boot' RETURNING value", [], |row| {
        row.get::<_, i64>(0)
    });
    let boot = boot? as u64;
    begin.commit()?;
    Ok(Stored { key, run, boot })
}
