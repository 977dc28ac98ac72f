//! The bytes of accepted updates, kept until the version that merged them can no longer be lost.
//!
//! `updates/<lease>-<digest>.bin`: the name says what the content must be. A file is durable before its acceptance
//! goes into the database, so an update that was paid can be merged after any stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hydra_core::ids::{Digest, LeaseId};

use super::error::FileError;
use super::files;

/// The folder of the updates of one run.
#[derive(Debug, Clone)]
pub struct UpdateFiles {
    folder: PathBuf,
}

impl UpdateFiles {
    /// The folder in `run_dir`, made where absent and cleared of half-written files. Needs the run's lock.
    pub fn open(run_dir: &Path) -> Result<Self, FileError> {
        let folder = run_dir.join("updates");
        files::prepare_folder(&folder, |name| parse(name).is_some())?;
        Ok(Self { folder })
    }

    fn path(&self, lease: LeaseId, digest: &Digest) -> PathBuf {
        self.folder.join(file_name(lease, digest))
    }

    /// Keeps an update; on return it is durable. `digest` is that of the bytes.
    pub fn put(&self, lease: LeaseId, digest: &Digest, bytes: &[u8]) -> Result<(), FileError> {
        files::write_whole(&self.folder, &file_name(lease, digest), |out| out.write_all(bytes)).map(|_| ())
    }

    /// An update's bytes, checked against their digest.
    pub fn get(&self, lease: LeaseId, digest: &Digest) -> Result<Vec<u8>, FileError> {
        let path = self.path(lease, digest);
        let bytes = fs::read(&path).map_err(|error| FileError::io("read", &path, &error))?;
        if Digest::of(&bytes) != *digest {
            return Err(FileError::Damaged { path, why: "its content does not match its digest" });
        }
        Ok(bytes)
    }

    /// Whether an update's bytes are there and whole; what [`super::Store::load`] asks.
    pub fn has(&self, lease: LeaseId, digest: &Digest) -> Result<bool, FileError> {
        match self.get(lease, digest) {
            Ok(_) => Ok(true),
            Err(error @ FileError::Io { .. }) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Drops an update; one that is absent already is fine.
    pub fn remove(&self, lease: LeaseId, digest: &Digest) -> Result<(), FileError> {
        files::remove(&self.path(lease, digest))
    }

    /// Drops every update whose lease is not in `keep`, and returns those that stay. What goes was never accepted, or
    /// merged long ago. At a start, keep what waits and what the versions that are still on disk had merged.
    pub fn sweep(&self, keep: &BTreeSet<LeaseId>) -> Result<BTreeMap<LeaseId, Digest>, FileError> {
        let failed = |error: io::Error| FileError::io("read", &self.folder, &error);
        let mut stay = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some((lease, digest)) = name.to_str().and_then(parse) else { continue };
            if !keep.contains(&lease) {
                files::remove(&entry.path())?;
            } else if let Ok(digest) = blake3::Hash::from_hex(digest) {
                stay.insert(lease, Digest(*digest.as_bytes()));
            }
        }
        Ok(stay)
    }
}

/// The lease and what stands for the digest in an update's name.
fn parse(name: &str) -> Option<(LeaseId, &str)> {
    let (lease, digest) = name.strip_suffix(".bin")?.split_once('-')?;
    Some((LeaseId(lease.parse().ok()?), digest))
}

fn file_name(lease: LeaseId, digest: &Digest) -> String {
    format!("{lease}-{digest}.bin")
}
