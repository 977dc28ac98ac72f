//! Shards on disk, under their digests: text travels once.
//!
//! A file is complete from the moment it has its name, is checked against its digest whenever it is read, and the
//! oldest go when there are too many. Several workers may share the folder. A cache that cannot be written costs time
//! and nothing else, so its troubles are warnings. Everything here may wait for the disk: not for async threads.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hydra_core::ids::Digest;
use hydra_core::limits::SHARD_TOKENS;
use hydra_shell::keys;

/// The variable that moves the cache folder.
pub const CACHE_DIR: &str = "HYDRA_CACHE_DIR";
/// What all shards together may take on disk.
pub const LIMIT: u64 = 2 << 30;
/// The largest shard.
pub const SHARD_BYTES: u64 = 2 * SHARD_TOKENS as u64;
/// What a program that died in mid-write left is removed after this.
const DRAFT_AGE: Duration = Duration::from_hours(1);
pub const DRAFT: &str = ".draft-";

/// See the module's page.
#[derive(Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
    limit: u64,
}

impl Cache {
    /// The user's own.
    pub fn find() -> Self {
        let folder = folder("shards");
        if folder.is_none() {
            tracing::warn!("there is no folder to keep shards in; name one with {CACHE_DIR}=FOLDER");
        }
        Self { folder, limit: LIMIT }
    }

    /// A cache in a folder of the caller's choice, with so many bytes at most.
    #[cfg(test)]
    pub fn at(folder: &Path, limit: u64) -> Self {
        Self { folder: Some(folder.to_owned()), limit }
    }

    /// A shard's bytes, if they are here and whole.
    pub fn get(&self, shard: &Digest) -> Option<Vec<u8>> {
        let path = self.folder.as_ref()?.join(shard.to_string());
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a kept shard cannot be read");
                return None;
            }
        };
        if Digest::of(&bytes) == *shard {
            return Some(bytes);
        }
        tracing::warn!(path = %path.display(), "a kept shard is damaged and is fetched again");
        let _ = fs::remove_file(&path);
        None
    }

    /// Keeps a shard if it can.
    pub fn put(&self, shard: &Digest, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if bytes.len() as u64 > SHARD_BYTES.min(self.limit) || Digest::of(bytes) != *shard {
            return;
        }
        if let Err(error) = write(folder, &shard.to_string(), bytes).and_then(|()| self.prune(folder)) {
            tracing::warn!(folder = %folder.display(), %error, "a shard is not kept on disk");
        }
    }

    /// Removes the files that were used longest ago until the rest fits.
    fn prune(&self, folder: &Path) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // Another worker may have removed it meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name().into_string().unwrap_or_default();
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_shard = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
            if is_shard && metadata.is_file() {
                kept.push((used, metadata.len(), entry.path()));
            } else if is_old_draft(&name, used) {
                let _ = fs::remove_file(entry.path());
            }
        }
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in kept {
            if total <= self.limit {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= size,
            }
        }
        Ok(())
    }
}

/// Whether a file was left by a program that died in mid-write.
pub fn is_old_draft(name: &str, modified: SystemTime) -> bool {
    name.starts_with(DRAFT) && modified.elapsed().is_ok_and(|age| age > DRAFT_AGE)
}

/// A folder in the user's cache, if there is one: `HYDRA_CACHE_DIR`, or the system's place for such things.
pub fn folder(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(CACHE_DIR).filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || directories::ProjectDirs::from("", "", "hydra").map(|dirs| dirs.cache_dir().to_owned());
    named.or_else(usual).map(|folder| folder.join(name))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    (&file).take(SHARD_BYTES + 1).read_to_end(&mut bytes)?;
    // Used again: among the last to go. On a folder that is only readable this fails, and nothing is lost.
    let _ = file.set_modified(SystemTime::now());
    Ok(bytes)
}

/// Writes a file that is whole from the moment it has its name.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let random = keys::random().map_err(io::Error::other)?;
    let draft = folder.join(format!("{DRAFT}{:016x}", u64::from_le_bytes(random)));
    let written = File::create_new(&draft)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&draft, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(byte: u8) -> (Digest, Vec<u8>) {
        let bytes = vec![byte; 100];
        (Digest::of(&bytes), bytes)
    }

    /// Makes a file look as if it was last used so many seconds ago.
    fn age(folder: &Path, name: &str, seconds: u64) {
        let file = File::options().write(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(&dir.path().join("new"), LIMIT);
        let (digest, bytes) = shard(1);
        assert_eq!(cache.get(&digest), None);
        cache.put(&digest, &bytes);
        assert_eq!(cache.get(&digest), Some(bytes));
        assert_eq!(names(&dir.path().join("new")), [digest.to_string()]);
    }

    #[test]
    fn damage_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path(), LIMIT);
        let (digest, bytes) = shard(1);
        cache.put(&digest, b"something else");
        assert!(names(dir.path()).is_empty());
        for damage in [&bytes[1..], b"", &vec![1; SHARD_BYTES as usize + 9]] {
            fs::write(dir.path().join(digest.to_string()), damage).unwrap();
            assert_eq!(cache.get(&digest), None);
            assert!(names(dir.path()).is_empty());
        }
    }

    #[test]
    fn the_longest_unused_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path(), 250);
        let shards = [1, 2, 3].map(shard);
        for ((digest, bytes), seconds) in shards[..2].iter().zip([50, 20]) {
            cache.put(digest, bytes);
            age(dir.path(), &digest.to_string(), seconds);
        }
        // The first is used again.
        assert!(cache.get(&shards[0].0).is_some());
        for (name, seconds) in [("note", 9_000), (".draft-1", 9_000), (".draft-2", 9)] {
            fs::write(dir.path().join(name), "x").unwrap();
            age(dir.path(), name, seconds);
        }
        cache.put(&shards[2].0, &shards[2].1);
        let mut expected = [shards[0].0.to_string(), shards[2].0.to_string(), ".draft-2".into(), "note".into()];
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_folder_that_cannot_be_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        for cache in [Cache::at(&dir.path().join("file/below"), LIMIT), Cache { folder: None, limit: LIMIT }] {
            let (digest, bytes) = shard(1);
            cache.put(&digest, &bytes);
            assert_eq!(cache.get(&digest), None);
        }
    }
}
