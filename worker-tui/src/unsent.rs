//! What a worker's updates lacked when it ended, kept on disk for whoever trains for the same run here next.
//!
//! A file is named by its run, the version that it is from and the digest of its bytes. It is taken by renaming it, so
//! that of several workers each takes another one and nothing is sent twice. A worker that is killed leaves none. Where
//! a file cannot be kept or read, some training is lost and nothing else, so such troubles are warnings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hydra_core::ids::{Digest, PublicKey, VersionNo};
use hydra_core::merge;

use crate::cache;

/// Files are removed after this.
const AGE: Duration = Duration::from_hours(7 * 24);
/// Newest files that stay: as many as workers are likely to run on a machine.
const FILES: usize = 16;
/// What they may take on disk: eight of a model of a quarter of a billion parameters. The newest stays in any case.
const LIMIT: u64 = 8 << 30;

/// The folder.
#[derive(Debug, Clone)]
pub struct Unsent(Option<PathBuf>);

/// A vector that was left, and the version that its worker had.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    pub version: VersionNo,
    pub residual: Vec<f32>,
}

impl Unsent {
    /// The folder beside the shards.
    pub fn find() -> Self {
        Self(cache::folder("unsent"))
    }

    /// A folder of the caller's choice, or none.
    #[cfg(test)]
    pub fn at(folder: Option<&Path>) -> Self {
        Self(folder.map(Path::to_owned))
    }

    /// Keeps what a worker of `run` leaves.
    pub fn put(&self, run: &PublicKey, left: &Left) {
        let Some(folder) = &self.0 else { return };
        let bytes = merge::weights_to_bytes(&left.residual);
        let name = format!("{run}.{}.{}", left.version, Digest::of(&bytes));
        if let Err(error) = cache::write(folder, &name, &bytes).and_then(|()| prune(folder)) {
            tracing::warn!(folder = %folder.display(), %error, "what the last update lacked is not kept");
        }
    }

    /// Takes the newest that a worker of `run` left, of so many numbers.
    pub fn take(&self, run: &PublicKey, params: usize) -> Option<Left> {
        let folder = self.0.as_ref()?;
        let prefix = format!("{run}.");
        let of_run = |name: &str| {
            let (version, digest) = name.strip_prefix(&prefix)?.split_once('.')?;
            Some((VersionNo(version.parse().ok()?), digest.to_owned(), name.to_owned()))
        };
        let names = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found: Vec<_> = names.filter_map(|name| of_run(&name)).collect();
        found.sort();
        while let Some((version, digest, name)) = found.pop() {
            let taken = folder.join(format!("{}{name}", cache::DRAFT));
            // Renamed it must not look like a draft that somebody left long ago.
            let touched = fs::File::options().append(true).open(folder.join(&name));
            let _ = touched.and_then(|file| file.set_modified(SystemTime::now()));
            // Another worker may have been faster.
            if fs::rename(folder.join(&name), &taken).is_err() {
                continue;
            }
            let bytes = fs::read(&taken);
            let _ = fs::remove_file(&taken);
            match bytes {
                Ok(bytes) if bytes.len() == 4 * params && Digest::of(&bytes).to_string() == digest => {
                    let (numbers, _) = bytes.as_chunks::<4>();
                    let residual: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    return Some(Left { version, residual });
                }
                Ok(_) => tracing::warn!(name, "what an update lacked is damaged and left out"),
                Err(error) => tracing::warn!(name, %error, "what an update lacked cannot be read"),
            }
        }
        None
    }
}

/// Removes what nobody will take any more, or what is too much.
fn prune(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another worker may have taken it meanwhile.
        let Ok(about) = entry.metadata() else { continue };
        let (name, modified) = (entry.file_name().into_string().unwrap_or_default(), about.modified()?);
        if cache::is_old_draft(&name, modified) {
            let _ = fs::remove_file(entry.path());
        } else if !name.starts_with(cache::DRAFT) {
            files.push((modified, about.len(), entry.path()));
        }
    }
    files.sort();
    let (old, mut total) = (SystemTime::now() - AGE, 0);
    for (at, (modified, bytes, path)) in files.into_iter().rev().enumerate() {
        total += bytes;
        if at >= FILES || modified < old || (at > 0 && total > LIMIT) {
            tracing::debug!(path = %path.display(), "what an update lacked is removed: too old, or too much");
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: PublicKey = PublicKey([1; 32]);

    fn left(version: u64, number: f32) -> Left {
        Left { version: VersionNo(version), residual: vec![number; 10] }
    }

    #[test]
    fn each_is_taken_once_by_a_worker_of_its_run_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let unsent = Unsent::at(Some(folder.path()));
        assert_eq!(unsent.take(&RUN, 10), None);
        for one in [left(9, 0.5), left(10, 0.25), left(10, 0.75)] {
            unsent.put(&RUN, &one);
        }
        assert_eq!(unsent.take(&PublicKey([2; 32]), 10), None);
        let taken = [(); 2].map(|()| unsent.take(&RUN, 10).unwrap());
        assert!(taken.contains(&left(10, 0.25)) && taken.contains(&left(10, 0.75)));
        assert_eq!(unsent.take(&RUN, 10), Some(left(9, 0.5)));
        assert_eq!(unsent.take(&RUN, 10), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_does_not_fit_or_is_damaged_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let unsent = Unsent::at(Some(folder.path()));
        unsent.put(&RUN, &left(3, 0.5));
        assert_eq!(unsent.take(&RUN, 11), None);
        unsent.put(&RUN, &left(3, 0.5));
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&path, [0; 40]).unwrap();
        assert_eq!(unsent.take(&RUN, 10), None);
    }

    #[test]
    fn only_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let unsent = Unsent::at(Some(folder.path()));
        for version in 0..20 {
            unsent.put(&RUN, &left(version, 0.5 + version as f32));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES);
        // What another worker is about to write counts for nothing, and what one left in mid-write goes.
        let draft = |name: &str| folder.path().join(format!("{}{name}", cache::DRAFT));
        let old = fs::File::create(draft("old")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
        fs::write(draft("new"), [0; 9]).unwrap();
        unsent.put(&RUN, &left(19, 19.5));
        assert!(!draft("old").exists() && draft("new").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES + 1);
        assert_eq!(unsent.take(&RUN, 10), Some(left(19, 19.5)));
    }
}
