//! Files that are either whole or absent, and the lock that keeps a second coordinator out of a run's folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{FileError, StoreError};

const BUFFER: usize = 256 * 1024;
const TEMPORARY: &str = ".tmp";

/// Writes `folder/name` by way of a temporary file beside it; on return its bytes and its name are on disk. On an
/// error, whatever had the name before is untouched.
pub fn write_whole(
    folder: &Path,
    name: &str,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<PathBuf, FileError> {
    try_write_whole(folder, name, content).map_err(|error| FileError::io("write", &folder.join(name), &error))
}

/// [`write_whole`] with the system's own error.
pub fn try_write_whole(
    folder: &Path,
    name: &str,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}{TEMPORARY}"));
    let written = write_synced(&temporary, content).and_then(|()| fs::rename(&temporary, &path));
    written.and_then(|()| sync_folder(folder)).inspect_err(|_| {
        // What remains of it would only take room that is perhaps what lacks; failing to remove it changes nothing.
        fs::remove_file(&temporary).ok();
    })?;
    Ok(path)
}

fn write_synced(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, File::create(path)?);
    content(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Makes a folder's entries durable. Windows cannot open folders and has no need to.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder's entries durable. Windows cannot open folders and has no need to.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes sure that `folder` exists and holds no half-written file of an earlier start. `is_ours` knows the names of the
/// files that are written there: whatever else lies in it is somebody's.
pub fn prepare_folder(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    let failed = |error: io::Error| FileError::io("prepare", folder, &error);
    fs::create_dir_all(folder).map_err(failed)?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(TEMPORARY));
        if of.is_some_and(&is_ours) && entry.file_type().map_err(failed)?.is_file() {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes a file; one that is absent already is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Holds a run's folder for one coordinator. The system ends the hold with the process, however that dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the hold, or says that another has it.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let failed = |error: &io::Error| FileError::io("lock", &path, error);
        let options = File::options().create(true).truncate(false).write(true).open(&path);
        let file = options.map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed(&error).into()),
        }
    }
}
