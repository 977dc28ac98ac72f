//! Files that are either whole or absent, whatever happens while they are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes `folder/name` by way of a temporary file beside it; on return the bytes and the name are on disk.
pub fn write_atomic(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, folder.join(name))?;
    sync_folder(folder)
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
