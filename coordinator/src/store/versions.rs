//! The weights of versions as files, each with what the coordinator needs to make the next version from them.
//!
//! `versions/v00000012.safetensors` is a safetensors file: the model's tensors by the names of [`Shape::layout`], then
//! `outer.momentum` and `outer.residual` as flat vectors. Its header names the version, the digest of the weights and
//! the digest of the outer state; a file counts as whole only if its size, its header and both digests fit. Files
//! appear whole or not at all, are never changed, and a damaged one is set aside, not overwritten.
//!
//! Which version is the newest is the database's to say ([`super::load`]). Export for other tools is elsewhere.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hydra_core::codec;
use hydra_core::hub::rows::Version;
use hydra_core::ids::{Digest, VersionNo};
use hydra_core::merge::OuterState;
use hydra_core::model::Shape;
use serde::Deserialize;

use super::error::FileError;
use super::files;

/// Numbers read or written at a time.
const PART: usize = 16 * 1024;
/// No header is longer; one of 256 layers has 400 KB.
const HEADER_BYTES: u64 = 16 << 20;
const PREFIX: &str = "v";
const SUFFIX: &str = ".safetensors";

/// All that the next version is made from, and all that a restart needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The model's parameters, in the flat order.
    pub weights: Arc<Vec<f32>>,
    /// As long as the weights, both.
    pub outer: Arc<OuterState>,
}

/// The folder of the versions of one run.
#[derive(Debug, Clone)]
pub struct VersionFiles {
    folder: PathBuf,
    shape: Shape,
}

impl VersionFiles {
    /// The folder in `run_dir`, made where absent and cleared of half-written files. Needs the run's lock.
    pub fn open(run_dir: &Path, shape: Shape) -> Result<Self, FileError> {
        let folder = run_dir.join("versions");
        files::prepare_folder(&folder, |name| number(name).is_some())?;
        Ok(Self { folder, shape })
    }

    /// The folder in `run_dir` as it is, for reading alone: also while a coordinator runs.
    pub fn open_readable(run_dir: &Path, shape: Shape) -> Self {
        Self { folder: run_dir.join("versions"), shape }
    }

    /// Where a version's file is, whether it exists or not.
    pub fn path(&self, version: VersionNo) -> PathBuf {
        self.folder.join(file_name(version))
    }

    /// Writes a version; on return it is durable. `digest` is that of the weights. Lengths must fit the
    /// shape.
    pub fn write(
        &self,
        version: VersionNo,
        digest: &Digest,
        weights: &[f32],
        outer: &OuterState,
    ) -> Result<PathBuf, FileError> {
        let params = self.shape.params();
        let lengths = [weights.len(), outer.momentum.len(), outer.residual.len()];
        assert!(lengths == [params; 3], "a checkpoint has three vectors of the model's size");
        let mut hasher = blake3::Hasher::new();
        for part in [&outer.momentum, &outer.residual] {
            each_part(part, |bytes| {
                hasher.update(bytes);
                Ok(())
            })
            .expect("hashing does not fail");
        }
        let header = self.header(version, &digest.to_string(), &hasher.finalize().to_string());
        files::write_whole(&self.folder, &file_name(version), |out| {
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(header.as_bytes())?;
            [weights, &outer.momentum, &outer.residual].into_iter().try_for_each(|v| each_part(v, |b| out.write_all(b)))
        })
    }

    /// Reads a version and checks all of it.
    pub fn read(&self, version: &Version) -> Result<Checkpoint, FileError> {
        let params = self.shape.params();
        let mut vectors = [(); 3].map(|()| Vec::with_capacity(params));
        self.stream(version, &mut |vector, bytes| {
            let (numbers, _) = bytes.as_chunks::<4>();
            vectors[vector].extend(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        })?;
        let [weights, momentum, residual] = vectors;
        Ok(Checkpoint { weights: Arc::new(weights), outer: Arc::new(OuterState { momentum, residual }) })
    }

    /// Checks all of a version without keeping it in memory.
    pub fn check(&self, version: &Version) -> Result<(), FileError> {
        self.stream(version, &mut |_, _| {})
    }

    /// Removes all versions but the `count` newest up to `newest`, and returns the oldest that stays. What is above
    /// `newest` stays, and so does at least one.
    pub fn keep(&self, newest: VersionNo, count: usize) -> Result<Option<VersionNo>, FileError> {
        let mut versions = self.list()?;
        versions.retain(|version| *version <= newest);
        let stays = versions.split_off(versions.len().saturating_sub(count.max(1)));
        versions.into_iter().try_for_each(|version| files::remove(&self.path(version)))?;
        Ok(stays.first().copied())
    }

    /// Renames the files of versions above `newest`, which belong to no version of this run: a backup was restored, or the
    /// coordinator was killed between a file and its row. Gives their numbers.
    pub fn leave_out(&self, newest: VersionNo) -> Result<Vec<VersionNo>, FileError> {
        let above: Vec<_> = self.list()?.into_iter().filter(|version| *version > newest).collect();
        for version in &above {
            self.rename(*version, "unknown")?;
        }
        Ok(above)
    }

    /// Renames a damaged version's file, so that the number can be used again and somebody can look at it. Nothing
    /// happens if there is none.
    pub fn set_aside(&self, version: VersionNo) -> Result<Option<PathBuf>, FileError> {
        self.rename(version, "damaged")
    }

    fn rename(&self, version: VersionNo, why: &str) -> Result<Option<PathBuf>, FileError> {
        let path = self.path(version);
        let failed = |error: &io::Error| FileError::io("rename", &path, error);
        let aside = (1..).map(|n| self.folder.join(format!("{}.{why}-{n}", file_name(version))));
        let aside = aside.into_iter().find(|aside| !aside.exists()).expect("some number is free");
        match fs::rename(&path, &aside).and_then(|()| files::sync_folder(&self.folder)) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The versions that have a file, oldest first; whether they are whole is not looked at.
    pub fn list(&self) -> Result<Vec<VersionNo>, FileError> {
        Self::list_in(&self.folder)
    }

    /// Whether a model has been trained in `run_dir`: a first start that was cut short leaves version 0 alone.
    pub fn any_trained(run_dir: &Path) -> bool {
        Self::newest_in(run_dir).is_some_and(|last| last.0 > 0)
    }

    /// Whether a run's folder holds any version.
    pub fn any(run_dir: &Path) -> bool {
        Self::newest_in(run_dir).is_some()
    }

    fn newest_in(run_dir: &Path) -> Option<VersionNo> {
        Self::list_in(&run_dir.join("versions")).ok()?.last().copied()
    }

    fn list_in(folder: &Path) -> Result<Vec<VersionNo>, FileError> {
        let failed = |error: io::Error| FileError::io("read", folder, &error);
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(number));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Hands every part of the three vectors to `take`, then says whether the whole was what was written.
    fn stream(&self, version: &Version, take: &mut dyn FnMut(usize, &[u8])) -> Result<(), FileError> {
        let path = self.path(version.version);
        let damaged = |why| FileError::Damaged { path: path.clone(), why };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
            _ => FileError::io("read", &path, &error),
        };
        let mut file = File::open(&path).map_err(failed)?;
        let (header, outer) = read_header(&mut file).map_err(failed)?.ok_or_else(|| damaged("it has no header"))?;
        if header != self.header(version.version, &version.digest.to_string(), &outer) {
            return Err(damaged("its header belongs to another version or model"));
        }
        let mut hashers = [blake3::Hasher::new(), blake3::Hasher::new()];
        let mut buffer = vec![0; 4 * PART];
        for vector in 0..3 {
            let mut left = 4 * self.shape.params();
            while left > 0 {
                let part = &mut buffer[..left.min(4 * PART)];
                file.read_exact(part).map_err(failed)?;
                hashers[vector.min(1)].update(part);
                take(vector, part);
                left -= part.len();
            }
        }
        if file.read(&mut [0]).map_err(failed)? != 0 {
            return Err(damaged("it is too long"));
        }
        let [weights, state] = hashers.map(|hasher| hasher.finalize());
        if *weights.as_bytes() != version.digest.0 {
            return Err(damaged("its weights do not match their digest"));
        }
        if state.to_string() != outer {
            return Err(damaged("its outer state does not match its digest"));
        }
        Ok(())
    }

    /// The header, a pure function of what it tells, so that a reader compares it as a whole.
    fn header(&self, version: VersionNo, weights: &str, outer: &str) -> String {
        let mut json = format!(
            r#"{{"__metadata__":{{"format":"pt","hydra.version":"{version}","hydra.weights":"{weights}","hydra.outer":"{outer}"}}"#
        );
        let params = self.shape.params();
        let mut tensor = |name: &str, shape: &[usize], offset: usize| {
            let end = offset + shape.iter().product::<usize>();
            let range = [4 * offset, 4 * end];
            write!(json, r#","{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":{range:?}}}"#)
                .expect("a string takes all");
        };
        for spec in self.shape.layout() {
            tensor(&spec.name, &spec.shape, spec.offset);
        }
        tensor("outer.momentum", &[params], params);
        tensor("outer.residual", &[params], 2 * params);
        json.push('}');
        // The numbers begin at a multiple of eight.
        json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
        json
    }
}

fn file_name(version: VersionNo) -> String {
    format!("{PREFIX}{:08}{SUFFIX}", version.0)
}

/// Whose file has this name.
fn number(name: &str) -> Option<VersionNo> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok().map(VersionNo)
}

/// The header and the digest of the outer state that it names; nothing if there is no such header.
fn read_header(file: &mut File) -> io::Result<Option<(String, String)>> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        about: About,
    }
    #[derive(Deserialize)]
    struct About {
        #[serde(rename = "hydra.outer")]
        outer: String,
    }
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES {
        return Ok(None);
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let Ok(text) = String::from_utf8(text) else { return Ok(None) };
    Ok(serde_json::from_str::<Header>(&text).ok().map(|header| (text, header.about.outer)))
}

fn each_part(values: &[f32], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    values.chunks(PART).try_for_each(|part| take(&codec::le_bytes(part)))
}
