//! A version made again from the one before and the updates that it merged, when its file never got to the disk or is
//! damaged there.

use hydra_core::codec::Codec;
use hydra_core::hub::MergeInput;
use hydra_core::hub::rows::Version;
use hydra_core::merge::{self, OuterRule};

use super::outer;
use crate::store::{FileError, UpdateFiles, VersionFiles};

/// The files of a run, and how it merges.
pub struct Remaker<'a> {
    pub versions: &'a VersionFiles,
    pub updates: &'a UpdateFiles,
    pub rule: OuterRule,
    pub codec: Codec,
}

impl Remaker<'_> {
    /// Makes a version's file again from the version before it and what it merged. Whether that could be done; the
    /// reason why not is in the log.
    pub fn remake(&self, version: &Version, before: &Version, inputs: &[MergeInput]) -> Result<bool, FileError> {
        let read = || -> Result<_, FileError> {
            let updates = inputs.iter().map(|input| {
                let bytes = self.updates.get(input.lease, &input.blob)?;
                Ok((input.share, input.codec, bytes))
            });
            Ok((self.versions.read(before)?, updates.collect::<Result<Vec<_>, FileError>>()?))
        };
        let number = version.version;
        let (checkpoint, updates) = match read() {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(version = %number, %error, "a version cannot be made again");
                return Ok(false);
            }
        };
        // A round of one fresh update is averaged whatever the settings say; the digest tells which it was.
        for rule in [self.rule, OuterRule::MEAN] {
            let (mut weights, mut outer) = (checkpoint.weights.to_vec(), (*checkpoint.outer).clone());
            outer::step(&mut weights, &mut outer, &updates, rule, self.codec);
            if merge::weights_digest(&weights) == version.digest {
                self.versions.set_aside(number)?;
                self.versions.write(number, &version.digest, &weights, &outer)?;
                tracing::info!(version = %number, updates = updates.len(), "a version was made again from its updates");
                return Ok(true);
            }
        }
        tracing::warn!(version = %number, "a version cannot be made again: the settings are others");
        Ok(false)
    }
}
