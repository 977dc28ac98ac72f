//! Versions made again from the newest whole file and the updates that were merged since, when their files never got to
//! the disk or are damaged there.
//!
//! Which rule and codec made them is in `merging.json`, since the settings may have been changed between two starts.

use std::path::Path;

use hydra_core::codec::Codec;
use hydra_core::hub::MergeInput;
use hydra_core::hub::rows::Version;
use hydra_core::ids::VersionNo;
use hydra_core::merge::OuterRule;
use serde::{Deserialize, Serialize};

use super::outer;
use crate::store::{Checkpoint, FileError, UpdateFiles, VersionFiles, write_whole};

const FILE: &str = "merging.json";

/// How a start merges; on disk before it makes its first version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Merging {
    pub outer_lr: f32,
    pub outer_momentum: f32,
    pub broadcast_codec: Codec,
}

impl Merging {
    /// What the last start wrote down; nothing for a run that was begun before there was this file.
    pub fn load(run_dir: &Path) -> Result<Option<Self>, FileError> {
        let path = run_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| FileError::Damaged { path, why: "it does not say how versions are merged" }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::io("read", &path, &error)),
        }
    }

    /// Writes it down.
    pub fn store(&self, run_dir: &Path) -> Result<(), FileError> {
        let json = serde_json::to_vec(self).expect("numbers and a name are JSON");
        write_whole(run_dir, FILE, |out| out.write_all(&json)).map(|_| ())
    }

    fn rule(&self) -> OuterRule {
        OuterRule { lr: self.outer_lr, momentum: self.outer_momentum }
    }
}

/// The files of a run, and how its last versions were merged.
pub struct Remaker<'a> {
    versions: &'a VersionFiles,
    updates: &'a UpdateFiles,
    merging: Merging,
    made: Option<Made>,
}

/// The last version that was made again. It is written where all versions are, so that a start needs no room on disk.
pub struct Made {
    pub version: VersionNo,
    pub checkpoint: Checkpoint,
    /// The newest version that has a whole file.
    pub whole: VersionNo,
}

impl<'a> Remaker<'a> {
    pub fn new(versions: &'a VersionFiles, updates: &'a UpdateFiles, merging: Merging) -> Self {
        Self { versions, updates, merging, made: None }
    }

    /// The last version made, if there was one.
    pub fn made(self) -> Option<Made> {
        self.made
    }

    /// Makes a version again from the one before it, which is whole or was made last, and what it merged. Whether that
    /// could be done; the reason why not is in the log.
    pub fn remake(&mut self, version: &Version, before: &Version, inputs: &[MergeInput]) -> Result<bool, FileError> {
        let number = version.version;
        let from = match self.read(before, inputs) {
            Ok(from) => from,
            Err(error @ FileError::Io { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(version = %number, %error, "a version cannot be made again");
                return Ok(false);
            }
        };
        let (checkpoint, whole, updates) = from;
        // A round of one fresh update is averaged whatever the settings say; the digest tells which it was.
        for rule in [self.merging.rule(), OuterRule::MEAN] {
            let mut outer = (*checkpoint.outer).clone();
            let (weights, _) =
                outer::step(&checkpoint.weights, &mut outer, &updates, rule, self.merging.broadcast_codec);
            if outer::digest(&weights) == version.digest {
                tracing::info!(version = %number, updates = updates.len(), "a version was made again from its updates");
                let checkpoint = Checkpoint { weights: weights.into(), outer: outer.into() };
                self.made = Some(Made { version: number, checkpoint, whole });
                return Ok(true);
            }
        }
        tracing::warn!(version = %number, "a version cannot be made again: it was merged by another rule");
        Ok(false)
    }

    /// What a version is made from: the weights before it, the newest version with a file, and the updates.
    #[allow(clippy::type_complexity, reason = "used once, just above")]
    fn read(
        &self,
        before: &Version,
        inputs: &[MergeInput],
    ) -> Result<(Checkpoint, VersionNo, Vec<outer::Update>), FileError> {
        let updates = inputs.iter().map(|input| {
            let bytes = self.updates.get(input.lease, &input.blob)?;
            Ok((input.share, input.codec, bytes.into()))
        });
        let updates = updates.collect::<Result<_, FileError>>()?;
        match &self.made {
            Some(made) if made.version == before.version => Ok((made.checkpoint.clone(), made.whole, updates)),
            _ => Ok((self.versions.read(before)?, before.version, updates)),
        }
    }
}
