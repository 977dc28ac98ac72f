//! Which exit code and next step belong to which failure of the coordinator's parts.

use std::io;

use hydra_shell::exit::{Exit, Failure};

use crate::data::{DataError, ReadError};
use crate::store::{FileError, StoreError, Trouble};

/// A failure of the store as the user sees it.
pub fn store(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::NewerThanProgram { .. } => Exit::NewerDatabase,
        error if error.trouble() == Trouble::Bug => Exit::Bug,
        _ => Exit::RunFolder,
    };
    let failure = Failure::new(exit, error.to_string());
    match error.trouble() {
        Trouble::DiskFull => failure.hint("make room on the disk and start again; nothing acknowledged is lost"),
        Trouble::ReadOnly | Trouble::Denied => failure.hint("choose a folder that you may write to (--run DIR)"),
        _ => failure,
    }
}

/// The same, of a command that only reads: it may be another user's folder, or one on a disk that takes no writes, and
/// SQLite writes beside a database that was not closed even to read it.
pub fn reading(error: &StoreError) -> Failure {
    match error.trouble() {
        Trouble::ReadOnly | Trouble::Denied | Trouble::Io => {
            let failure = Failure::new(Exit::RunFolder, error.to_string());
            failure.hint("run this as the coordinator's user, or on a copy of the run's folder that you may write to")
        }
        _ => store(error),
    }
}

/// A failure of a file in the run's folder.
pub fn file(error: FileError) -> Failure {
    store(&StoreError::File(error))
}

/// A failure to read or prepare text.
pub fn data(error: &DataError) -> Failure {
    match error {
        DataError::Read(error) => read(error),
        DataError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            Failure::new(Exit::RunFolder, error.to_string()).hint("make room on the disk and start again")
        }
        DataError::Io { .. } | DataError::Corrupt { .. } | DataError::Exists { .. } | DataError::Missing { .. } => {
            Failure::new(Exit::RunFolder, error.to_string())
        }
        DataError::Newer { .. } => Failure::new(Exit::NewerDatabase, error.to_string()),
        _ => Failure::new(Exit::Data, error.to_string()),
    }
}

/// A failure to read text.
pub fn read(error: &ReadError) -> Failure {
    Failure::new(Exit::Data, error.to_string())
}
