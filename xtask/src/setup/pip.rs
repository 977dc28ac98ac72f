//! pip as a downloader: finding it, bringing one pinned wheel, telling why it failed.
//!
//! pip is asked for an exact wheel of an exact platform and Python, so the machine's own Python does not matter; its
//! configuration (index, proxy, certificates) is the user's and is left alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::wheels::{VERSION, Wheel};
use crate::child;
use crate::failure::Failure;

/// How pip is asked without settings of the user's own.
const PLAIN: &str = "with PIP_CONFIG_FILE=/dev/null and without PIP_INDEX_URL and PIP_EXTRA_INDEX_URL";
/// Between two looks at how much has arrived.
const LOOK: Duration = Duration::from_millis(100);

/// A way to start pip that works on this machine.
pub struct Pip {
    command: &'static [&'static str],
    /// Such as `23.2.1`.
    pub version: String,
}

/// Where pip puts things, all in the folder of a set-up that is under way.
pub struct Folders {
    /// pip's temporary files, which grow while it downloads.
    pub temporary: PathBuf,
    /// Finished downloads that have not been checked yet.
    pub incoming: PathBuf,
    /// What pip says.
    pub log: PathBuf,
}

impl Pip {
    /// The first way to start pip that works.
    pub fn find() -> Result<Self, Failure> {
        const WAYS: [&[&str]; 5] =
            [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"], &["py", "-m", "pip"]];
        for command in WAYS {
            let output = Command::new(command[0]).args(&command[1..]).arg("--version").stdin(Stdio::null()).output();
            let Ok(output) = output else { continue };
            if let Some(version) = version_in(&String::from_utf8_lossy(&output.stdout))
                && output.status.success()
            {
                return Ok(Self { command, version });
            }
        }
        Err(Failure::NoPip(VERSION))
    }

    /// Downloads one wheel into `folders.incoming`, unchecked. `arrived` hears the bytes so far.
    pub fn download(&self, wheel: &Wheel, folders: &Folders, arrived: &mut dyn FnMut(u64)) -> Result<PathBuf, Failure> {
        let log = File::create(&folders.log).with_context(|| format!("{}", folders.log.display()))?;
        let mut command = Command::new(self.command[0]);
        command
            .args(&self.command[1..])
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"])
            .args(["--disable-pip-version-check", "--progress-bar", "off"])
            .args(["--implementation", "cp", "--python-version", "3.12", "--platform", wheel.tag()])
            .arg("--dest")
            .arg(&folders.incoming)
            .arg(wheel.requirement())
            .env("TMPDIR", &folders.temporary);
        let mut process = child::leashed(&command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("pip's log")?)
            .stderr(log)
            .spawn()
            .context("pip could not be started")?;
        let status = loop {
            if let Some(status) = process.try_wait().context("waiting for pip")? {
                break status;
            }
            arrived(bytes_below(&folders.temporary));
            std::thread::sleep(LOOK);
        };
        let path = folders.incoming.join(wheel.file);
        if status.success() && path.is_file() {
            return Ok(path);
        }
        if status.success() {
            return Err(Failure::Download { what: wheel.requirement(), why: another(&folders.incoming, wheel.file) });
        }
        let log = std::fs::read(&folders.log).unwrap_or_default();
        Err(Failure::Download { what: wheel.requirement(), why: why_failed(&String::from_utf8_lossy(&log)) })
    }
}

/// What to do where pip is content with what it brought, and it is not `wanted`: an index of the user's has another.
fn another(incoming: &Path, wanted: &str) -> String {
    let mut files: Vec<_> = std::fs::read_dir(incoming)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.file_name())))
        .collect();
    // Others of this set-up may lie there; the newest is the one.
    files.sort();
    let brought = files.pop().map_or_else(|| "nothing".to_owned(), |(_, name)| name.to_string_lossy().into_owned());
    format!(
        "the package index that pip uses gave {brought}, not {wanted}: run the command again {PLAIN}, or set LIBTORCH to \
         a folder with libtorch {VERSION}"
    )
}

/// Bytes of all files in a folder. Files that vanish meanwhile do not count.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The version in what `pip --version` prints: `pip 23.2.1 from /usr/lib/… (python 3.11)`.
fn version_in(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    (words.next()? == "pip").then(|| words.next().map(str::to_owned)).flatten()
}

/// One line, with the next step, from pip's own words.
fn why_failed(log: &str) -> String {
    const OFFLINE: [&str; 10] = [
        "NewConnectionError",
        "NameResolutionError",
        "name resolution",
        "Name or service not known",
        "Network is unreachable",
        "Connection refused",
        "ConnectTimeout",
        "Read timed out",
        "ProxyError",
        "Connection aborted",
    ];
    let has = |needle: &str| log.contains(needle);
    if OFFLINE.into_iter().any(has) {
        return format!(
            "the package index cannot be reached: check the network and proxy and run the command again (finished parts \
             are kept), or set LIBTORCH to a folder with libtorch {VERSION}"
        );
    }
    if has("No space left") || has("Errno 28") {
        return "the disk is full: make room, or set XDG_CACHE_HOME to a folder on a larger disk".to_owned();
    }
    if has("SSLError") || has("CERTIFICATE_VERIFY_FAILED") {
        return "the package index's certificate is not accepted: check the clock, and pip's `cert` setting".to_owned();
    }
    if has("No matching distribution") {
        return format!(
            "the package index that pip uses does not have it: check pip's `index-url` setting, or run the command again \
             {PLAIN}; try a newer pip (`python3 -m pip install --upgrade pip`), or set LIBTORCH to a folder with \
             libtorch {VERSION}"
        );
    }
    let last = log.lines().rev().map(str::trim).find(|line| line.starts_with("ERROR:"));
    let last = last.or_else(|| log.lines().rev().map(str::trim).find(|line| !line.is_empty()));
    format!("pip says: {}", last.map_or("nothing", |line| line.trim_start_matches("ERROR:").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_and_other_programs_are_not_pip() {
        let said = "pip 23.2.1 from /root/lib/python3.11/site-packages/pip (python 3.11)\n";
        assert_eq!(version_in(said).as_deref(), Some("23.2.1"));
        assert_eq!(version_in("pyenv: pip: command not found"), None);
        assert_eq!(version_in(""), None);
    }

    #[test]
    fn failures_name_the_next_step() {
        let offline = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<…>: Failed to \
                       establish a new connection: [Errno -3] Temporary failure in name resolution')'\nERROR: Could not \
                       find a version\nERROR: No matching distribution found for torch===2.11.0";
        assert!(why_failed(offline).contains("check the network"), "offline wins over its consequences");
        let missing = "ERROR: Could not find a version that satisfies the requirement torch===2.11.0 (from versions: \
                       none)\nERROR: No matching distribution found for torch===2.11.0";
        let told = why_failed(missing);
        assert!(told.contains("index-url") && told.contains("PIP_CONFIG_FILE=/dev/null"), "{told}");
        assert!(why_failed("OSError: [Errno 28] No space left on device").contains("XDG_CACHE_HOME"));
    }

    #[test]
    fn another_file_than_the_pinned_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(another(folder.path(), "torch.whl").contains("gave nothing, not torch.whl"));
        std::fs::write(folder.path().join("torch-2.11.0+cpu.whl"), "").unwrap();
        let told = another(folder.path(), "torch.whl");
        assert!(told.contains("gave torch-2.11.0+cpu.whl, not torch.whl"), "{told}");
        assert!(told.contains("PIP_CONFIG_FILE=/dev/null") && told.contains("LIBTORCH"), "{told}");
    }

    #[test]
    fn other_failures_quote_pip() {
        assert_eq!(why_failed("Collecting torch\nERROR: the moon is full\n\n"), "pip says: the moon is full");
        assert_eq!(why_failed("Traceback\nKeyError: 'x'\n"), "pip says: KeyError: 'x'");
        assert_eq!(why_failed(""), "pip says: nothing");
    }

    #[test]
    fn growing_files_are_counted_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pip-unpack-1")).unwrap();
        std::fs::write(folder.path().join("pip-unpack-1/torch.whl"), [0; 700]).unwrap();
        std::fs::write(folder.path().join("x"), [0; 5]).unwrap();
        assert_eq!(bytes_below(folder.path()), 705);
        assert_eq!(bytes_below(&folder.path().join("missing")), 0);
    }
}
