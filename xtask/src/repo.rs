//! Where this checkout, its build folder and its programs are, and how to call cargo in it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};

use crate::failure::Failure;

/// The checkout that this xtask belongs to.
pub struct Repo {
    /// The folder with the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

impl Repo {
    /// The checkout of the running xtask.
    pub fn find() -> Result<Self, Failure> {
        // `cargo run` says where the package is; the path from compile time serves when the program is started directly.
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = Path::new(&manifest).parent().context("the folder xtask/ has no parent")?.to_path_buf();
        if !root.join("Cargo.lock").is_file() {
            return Err(anyhow!("{} is not the HydraAI checkout: run `cargo xtask` inside it", root.display()).into());
        }
        Ok(Self { root })
    }

    /// The link that `.cargo/config.toml` names as `LIBTORCH` and in the run path.
    pub fn libtorch(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The user's own `LIBTORCH`, if it is set and is not the value that `.cargo/config.toml` gives. Always absolute:
    /// torch-sys would look below its own folder.
    pub fn own_libtorch(&self) -> Option<PathBuf> {
        own(std::env::var_os("LIBTORCH"), &self.libtorch())
    }

    /// `cargo` in the checkout, without standard input.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).stdin(Stdio::null());
        // `cargo run` also tells us about our own package. Build scripts that look at that (ring's) would see a change,
        // and with each change of caller half of the dependencies would be compiled again.
        for (name, _) in std::env::vars_os() {
            if is_of_package(&name) {
                command.env_remove(name);
            }
        }
        match self.own_libtorch() {
            Some(folder) => command.env("LIBTORCH", folder),
            // `cargo run` hands us the value from `.cargo/config.toml`; passing it on as if the user had set it would
            // make cargo compile torch-sys again at the next plain `cargo build`.
            None => command.env_remove("LIBTORCH"),
        };
        command
    }

    /// Builds every program at the release level; cargo's own progress shows.
    pub fn build(&self) -> Result<(), Failure> {
        eprintln!("build: every program, optimised (the first time this compiles libtorch's bindings: some minutes)");
        let status = self
            .cargo()
            .args(["build", "--release", "--locked", "--workspace"])
            .status()
            .context("cargo could not be started")?;
        if status.success() { Ok(()) } else { Err(Failure::Build) }
    }

    /// Builds the example `name` of `package`, runs it and gives what it printed; its standard error shows. `features`
    /// are those of the package that it needs, separated by commas.
    pub fn example(
        &self,
        (package, name): (&str, &str),
        features: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, Failure> {
        // Of the whole workspace: each other selection would compile what the example needs once more.
        let selected = ["build", "--release", "--locked", "--workspace", "--example", name];
        let features = features.split(',').filter(|name| !name.is_empty()).map(|name| format!("{package}/{name}"));
        let features = features.flat_map(|feature| ["--features".to_owned(), feature]);
        let built = self.cargo().args(selected).args(features).status().context("cargo could not be started")?;
        if !built.success() {
            return Err(Failure::Build);
        }
        self.run_example(name, arguments)
    }

    /// Runs an example that is built and gives what it printed; its standard error shows.
    pub fn run_example(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, Failure> {
        let target = self.target()?;
        let output = Command::new(target.join("release/examples").join(name))
            .args(arguments)
            .envs(self.library_path())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("the example {name} could not be started"))?;
        if !output.status.success() {
            return Err(anyhow!("the example {name} failed ({})", output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// cargo's build folder, wherever the user has put it.
    pub fn target(&self) -> Result<PathBuf, Failure> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .output()
            .context("cargo could not be started")?;
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
        let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
        Ok(PathBuf::from(folder))
    }

    /// The variable with which programs find libtorch where their run path does not lead to it: it is relative to the
    /// program, so it fits the checkout's own `target/` alone, and `RUSTFLAGS` in the environment takes its place.
    pub fn library_path(&self) -> Option<(&'static str, OsString)> {
        let name = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };
        let mut folders = vec![self.libtorch().join("lib")];
        if let Some(before) = std::env::var_os(name) {
            folders.extend(std::env::split_paths(&before));
        }
        std::env::join_paths(folders).ok().map(|value| (name, value))
    }
}

/// The libtorch that the variable names, made absolute, unless it is `linked`; a variable set to nothing names none.
fn own(variable: Option<OsString>, linked: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(variable.filter(|value| !value.is_empty())?).ok()?;
    (path != linked).then_some(path)
}

/// Whether cargo sets this variable for the program or build script of one package.
fn is_of_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libtorch_of_ones_own_is_absolute_and_nothing_is_none() {
        let here = std::env::current_dir().unwrap();
        let linked = here.join(".libtorch");
        let own = |value: &str| own(Some(value.into()), &linked);
        assert_eq!(own("/opt/libtorch"), Some("/opt/libtorch".into()));
        assert_eq!(own("libtorch"), Some(here.join("libtorch")));
        assert_eq!((own(""), own(".libtorch"), super::own(None, &linked)), (None, None, None));
        assert_eq!(own(linked.to_str().unwrap()), None);
    }

    #[test]
    fn programs_are_always_told_where_libtorch_is() {
        let repo = Repo { root: "/checkout".into() };
        let (_, value) = repo.library_path().unwrap();
        assert_eq!(std::env::split_paths(&value).next(), Some("/checkout/.libtorch/lib".into()));
    }
}
