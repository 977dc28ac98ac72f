//! What can go wrong with what is stored, and what each kind of trouble calls for.

use std::io;
use std::path::{Path, PathBuf};

use hydra_core::ids::{PublicKey, VersionNo};
use rusqlite::ErrorCode;

/// The kind of trouble behind a failed read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No room.
    #[error("the disk is full")]
    DiskFull,
    /// The file system or file takes no writes.
    #[error("it cannot be written to: the disk or file is read-only")]
    ReadOnly,
    /// This user may not.
    #[error("permission denied")]
    Denied,
    /// Another program holds the database.
    #[error("another program holds it")]
    Busy,
    /// The device failed, or anything else outside the program.
    #[error("reading or writing failed")]
    Io,
    /// The bytes are not what was written.
    #[error("it is damaged")]
    Damaged,
    /// The program asked for something that the database refuses: a mistake in the program.
    #[error("this is a mistake in the program")]
    Bug,
}

impl Trouble {
    /// Whether the same write may succeed later without a restart.
    pub fn passes(self) -> bool {
        !matches!(self, Self::Damaged | Self::Bug)
    }

    fn of_sql(error: &rusqlite::Error) -> Self {
        use rusqlite::Error as Sql;
        // What was read does not have the form in which it was written.
        if let Sql::FromSqlConversionFailure(..) | Sql::InvalidColumnType(..) | Sql::QueryReturnedNoRows = error {
            return Self::Damaged;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::PermissionDenied) => Self::Denied,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                Self::Busy
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => Self::Io,
            // A length past all bounds was never written.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig) => Self::Damaged,
            _ => Self::Bug,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Io,
        }
    }
}

/// Why a file beside the database could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It is there, and its content is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {trouble} ({detail})", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The kind.
        trouble: Trouble,
        /// The system's words.
        detail: String,
    },
}

impl FileError {
    pub(crate) fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { doing, path, trouble: Trouble::of_io(error), detail: error.to_string() },
        }
    }

    /// The kind.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => Trouble::Damaged,
            Self::Io { trouble, .. } => *trouble,
        }
    }
}

/// Why the store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another coordinator runs on this folder.
    #[error("{} is in use by another coordinator: stop that one, or give this one its own folder (--run DIR)", dir.display())]
    InUse {
        /// The run's folder.
        dir: PathBuf,
    },
    /// A newer program wrote the database; nothing was touched.
    #[error(
        "{} has layout {found}, and this program knows layouts up to {known}: use a newer hydra-coordinator; nothing was changed",
        path.display()
    )]
    NewerThanProgram {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// Not a database of this program; nothing was touched.
    #[error("{} is not a HydraAI ledger: {why}; choose another folder (--run DIR); nothing was changed", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: &'static str,
    },
    /// Nothing to read there.
    #[error("there is no ledger at {}: name the run's folder (--run DIR), or start hydra-coordinator there once", path.display())]
    NoRun {
        /// Where it would be.
        path: PathBuf,
    },
    /// The run was begun under another key of the coordinator.
    #[error("this run belongs to the coordinator key {stored}, not {given}: put that key's file back")]
    OtherKey {
        /// The run's.
        stored: PublicKey,
        /// The one in hand.
        given: PublicKey,
    },
    /// The rows of the ledger do not follow from each other.
    #[error(
        "the ledger is broken at transfer {seq}: {why}; nothing was changed; see `hydra-coordinator ledger verify`, and restore a copy into an empty folder, or remove hydra.db-wal and hydra.db-shm before"
    )]
    BrokenLedger {
        /// The first bad row.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// No version in the database has whole weights on disk; nothing was changed.
    #[error(
        "no version of the model has its weights on disk (newest: {newest}, {why}); nothing was changed; restore the folder `versions` from a copy"
    )]
    NoGoodVersion {
        /// The newest version.
        newest: VersionNo,
        /// What is wrong with it.
        why: String,
    },
    /// A row contradicts what is stored: a mistake in the program.
    #[error("a row does not fit what is stored: {0}; this is a mistake in the program")]
    Unfit(String),
    /// The database refused or failed.
    #[error("cannot {doing}: {trouble} ({detail})")]
    Sql {
        /// The verb and its object.
        doing: &'static str,
        /// The kind.
        trouble: Trouble,
        /// SQLite's words.
        detail: String,
    },
    /// A file beside the database.
    #[error(transparent)]
    File(#[from] FileError),
}

impl StoreError {
    pub(super) fn sql(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| Self::Sql { doing, trouble: Trouble::of_sql(&error), detail: error.to_string() }
    }

    /// The kind, for deciding whether to wait, to stop or to tell the operator.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Sql { trouble, .. } => *trouble,
            Self::File(error) => error.trouble(),
            Self::InUse { .. } => Trouble::Busy,
            Self::Unfit(_) => Trouble::Bug,
            _ => Trouble::Damaged,
        }
    }
}
