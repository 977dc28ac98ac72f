//! The cache folder: the lock, a set-up under way, the finished folder and the stamp that says that it is whole.
//!
//! Everything is made in `NAME.partial` and renamed at the end, so `NAME` is whole or absent. Checked wheels stay in
//! `NAME.partial/wheels` until the rename, so an interrupted set-up goes on with the next wheel. Everything else in there
//! is made anew under names of this run: a pip that outlived an interrupted set-up may still be writing to the old ones.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pip::Folders;
use super::wheels::{Plan, VERSION, Wheel};
use crate::failure::Failure;

/// The stamp's name in a finished folder.
const STAMP: &str = "hydra-setup.json";

/// What a finished folder holds. Written last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    libtorch: String,
    cuda: bool,
    /// The pinned SHA-256 of every wheel, in the plan's order.
    wheels: Vec<String>,
    /// Libraries with their sizes.
    libraries: Vec<(String, u64)>,
}

/// The folders of one plan in the cache.
pub struct Store {
    cache: PathBuf,
    name: String,
    /// Different in every run.
    run: u32,
}

impl Store {
    /// The user's cache folder: `$XDG_CACHE_HOME/hydra`, else `~/.cache/hydra`.
    pub fn new(plan: &Plan) -> Result<Self> {
        let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let cache = cache.context("no home folder: set HOME or XDG_CACHE_HOME")?;
        Ok(Self::below(&cache.join("hydra"), plan, std::process::id()))
    }

    /// The folders of `plan` in `cache`; no two runs under way may have the same number.
    pub fn below(cache: &Path, plan: &Plan, run: u32) -> Self {
        Self { cache: cache.to_path_buf(), name: plan.folder(), run }
    }

    /// The finished folder.
    pub fn finished(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// The folder of the set-up under way.
    pub fn partial(&self) -> PathBuf {
        self.cache.join(format!("{}.partial", self.name))
    }

    /// Checked wheels.
    pub fn wheels(&self) -> PathBuf {
        self.partial().join("wheels")
    }

    /// What becomes the finished folder.
    pub fn tree(&self) -> PathBuf {
        self.partial().join(format!("tree-{}", self.run))
    }

    /// Holds off other set-ups as long as the file is open. `waiting` is called if another one holds it now.
    pub fn lock(&self, waiting: impl FnOnce()) -> Result<File> {
        std::fs::create_dir_all(&self.cache).with_context(|| format!("{}", self.cache.display()))?;
        let path = self.cache.join("setup.lock");
        let file = File::options().create(true).append(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().with_context(|| format!("{}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => return Err(anyhow!(error).context(format!("{}", path.display()))),
        }
        Ok(file)
    }

    /// Removes what an interrupted set-up left, but for its checked wheels, and makes the folders.
    pub fn prepare(&self, keep_wheels: bool) -> Result<Folders> {
        let partial = self.partial();
        let folders = Folders {
            temporary: partial.join(format!("tmp-{}", self.run)),
            incoming: partial.join(format!("incoming-{}", self.run)),
            log: partial.join("pip.log"),
        };
        for entry in std::fs::read_dir(&partial).into_iter().flatten().flatten() {
            if !keep_wheels || entry.path() != self.wheels() {
                // What cannot be removed is in nobody's way.
                let _ = remove(&entry.path());
            }
        }
        for folder in [&folders.temporary, &folders.incoming, &self.tree(), &self.wheels()] {
            std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        Ok(folders)
    }

    /// Whether a wheel is there; only checked wheels ever get there.
    pub fn has(&self, wheel: &Wheel) -> bool {
        self.wheels().join(wheel.file).metadata().is_ok_and(|metadata| metadata.len() == wheel.size)
    }

    /// Checks a downloaded wheel's digest and keeps it.
    pub fn accept(&self, wheel: &Wheel, downloaded: &Path) -> Result<(), Failure> {
        let found = sha256(downloaded)?;
        if found != wheel.sha256 {
            remove(downloaded)?;
            return Err(Failure::Damaged { file: wheel.file.to_owned(), found });
        }
        std::fs::rename(downloaded, self.wheels().join(wheel.file)).context("keeping a wheel")?;
        Ok(())
    }

    /// Stamps the tree and puts it in the place of the finished folder.
    pub fn finish(&self, plan: &Plan) -> Result<()> {
        let tree = self.tree();
        let stamp = Stamp {
            libtorch: VERSION.to_owned(),
            cuda: plan.cuda,
            wheels: pinned(plan),
            libraries: libraries(&tree.join("lib"))?,
        };
        std::fs::write(tree.join(STAMP), serde_json::to_vec_pretty(&stamp)?)?;
        let finished = self.finished();
        if finished.exists() {
            std::fs::rename(&finished, self.partial().join(format!("replaced-{}", self.run)))?;
        }
        std::fs::rename(&tree, &finished)?;
        // The set-up is done; what cannot be removed is removed by the next one.
        let _ = remove(&self.partial());
        Ok(())
    }
}

/// Whether `folder` is a finished set-up of this plan and every library still has its size.
pub fn is_whole(folder: &Path, plan: &Plan) -> bool {
    let stamp = std::fs::read(folder.join(STAMP)).ok().and_then(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok());
    stamp.is_some_and(|stamp| {
        stamp.libtorch == VERSION
            && stamp.cuda == plan.cuda
            && stamp.wheels == pinned(plan)
            && libraries(&folder.join("lib")).is_ok_and(|libraries| libraries == stamp.libraries)
    })
}

/// Whether this program made `folder`, whole or not.
pub fn is_ours(folder: &Path) -> bool {
    folder.join(STAMP).is_file()
}

/// The SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("{}", path.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let digits = hasher.finalize().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
}

/// Bytes that the user may still write on the disk of `folder`, which must exist.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder).with_context(|| format!("{}", folder.display()))?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Bytes that the rest of a set-up needs at its fullest: pip holds the wheel it brings twice, and while unpacking
/// every wheel lies beside what comes out of it.
pub fn needed_bytes(plan: &Plan, has: impl Fn(&Wheel) -> bool) -> u64 {
    let missing = || plan.wheels.iter().filter(|wheel| !has(wheel)).map(|wheel| wheel.size);
    missing().sum::<u64>() + missing().max().unwrap_or(0).max(plan.unpacked)
}

fn pinned(plan: &Plan) -> Vec<String> {
    plan.wheels.iter().map(|wheel| wheel.sha256.to_owned()).collect()
}

fn libraries(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> Result<()> {
    let done = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow!(error).context(format!("{}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
