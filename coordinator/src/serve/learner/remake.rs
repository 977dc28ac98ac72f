//! A version made again from the one before and the updates that it merged, when its file never got to the disk or is
//! damaged.

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
    /// Makes sure that a version's file is whole. `before` is the version that it was made from and `inputs` what it
    /// merged, as far as they are known. An error is that of the version's own file.
    pub fn check(&self, version: &Version, before: Option<&Version>, inputs: &[MergeInput]) -> Result<(), FileError> {
        let error = match self.versions.check(version) {
            Err(error @ (FileError::Missing { .. } | FileError::Damaged { .. })) => error,
            other => return other,
        };
        let Some(before) = before.filter(|_| inputs.len() == version.inputs.len() && !inputs.is_empty()) else {
            return Err(error);
        };
        if self.remake(version, before, inputs)? { Ok(()) } else { Err(error) }
    }

    /// Whether it could be made again; the reason why not is in the log.
    fn remake(&self, version: &Version, before: &Version, inputs: &[MergeInput]) -> Result<bool, FileError> {
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
