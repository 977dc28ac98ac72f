//! Which exit code and next step belong to which failure of the coordinator's parts.

use std::io;

use hydra_shell::exit::{Exit, Failure};

use crate::data::{DataError, ReadError};
use crate::store::{FileError, StoreError, Trouble};

/// A failure of the store as the user sees it.
pub fn store(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::NewerThanProgram { .. } => Exit::NewerDatabase,
        StoreError::Unfit(_) => Exit::Bug,
        _ => Exit::RunFolder,
    };
    let failure = Failure::new(exit, error.to_string());
    match error.trouble() {
        Trouble::DiskFull => failure.hint("make room on the disk and start again; nothing acknowledged is lost"),
        Trouble::ReadOnly | Trouble::Denied => failure.hint("choose a folder that you may write to (--run DIR)"),
        _ => failure,
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
