//! The arrows of the house point down: who may reach which library.
//!
//! Somebody who only wants to chat must not download libtorch, and the money is in one program's hands: only the
//! coordinator links SQLite. Development dependencies do not count; nobody but a developer builds them.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::repo::Repo;

/// Package, and the packages that it must not reach.
const FORBIDDEN: [(&str, &[&str]); 9] = [
    ("hydra-core", &["torch-sys", "libsqlite3-sys", "tokio", "hydra-config", "hydra-shell", "hydra-engine"]),
    ("hydra-config", &["torch-sys", "libsqlite3-sys", "hydra-shell", "hydra-engine"]),
    ("hydra-shell", &["torch-sys", "libsqlite3-sys", "hydra-config", "hydra-engine"]),
    ("hydra-query", &["torch-sys", "libsqlite3-sys", "hydra-config", "hydra-engine"]),
    ("hydra-engine", &["libsqlite3-sys", "hydra-config", "hydra-shell"]),
    ("hydra-worker", &["libsqlite3-sys", "hydra-config", "hydra-coordinator", "hydra-query"]),
    ("hydra-pty", &["torch-sys", "libsqlite3-sys", "hydra-core"]),
    ("hydra-fuzz", &["torch-sys", "libsqlite3-sys", "hydra-shell", "hydra-engine"]),
    ("xtask", &["torch-sys", "libsqlite3-sys", "hydra-core"]),
];
/// The check must see these, or it sees nothing at all.
const EXPECTED: [(&str, &[&str]); 2] =
    [("hydra-coordinator", &["torch-sys", "libsqlite3-sys"]), ("hydra-worker", &["torch-sys"])];

/// Every arrow that points where it must not.
pub fn faults(repo: &Repo) -> Result<Vec<String>> {
    faults_in(|package| reached(repo, package))
}

fn faults_in(reached: impl Fn(&str) -> Result<BTreeSet<String>>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        let reached = reached(package)?;
        let bad = forbidden.iter().filter(|name| reached.contains(**name));
        faults.extend(bad.map(|name| format!("{package} reaches {name}: see `cargo tree -p {package} -i {name}`")));
    }
    for (package, expected) in EXPECTED {
        let reached = reached(package)?;
        let missing = expected.iter().filter(|name| !reached.contains(**name));
        faults.extend(missing.map(|name| format!("{package} does not reach {name}: is this check still true?")));
    }
    Ok(faults)
}

fn reached(repo: &Repo, package: &str) -> Result<BTreeSet<String>> {
    let output = repo
        .cargo()
        .args(["tree", "--locked", "--package", package, "--edges", "no-dev", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .stderr(Stdio::piped())
        .output()
        .context("cargo could not be started")?;
    if !output.status.success() {
        bail!("cargo tree -p {package}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(names(&String::from_utf8_lossy(&output.stdout)))
}

/// Package names from `cargo tree`'s lines, `name v1.2.3 (…)`.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn names_are_read_once_each() {
        let tree = "hydra-query v0.1.0 (/work/query-tui)\nanyhow v1.0.1\nserde_derive v1.0.2 (proc-macro)\nanyhow v1.0.1 (*)\n";
        let expected = ["anyhow", "hydra-query", "serde_derive"].map(str::to_owned);
        assert_eq!(names(tree), BTreeSet::from(expected));
    }

    /// Whoever has the terminal gives it back after a panic too: it is entered in one place, behind its panic hook.
    #[test]
    fn the_terminal_is_entered_in_one_place_by_all_programs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for program in ["coordinator", "worker-tui", "query-tui"] {
            let all = sources(&root.join(program).join("src"));
            assert!(all.iter().any(|(_, text)| text.contains("ui::run::{self")), "{program} uses the kit's loop");
            for (path, text) in &all {
                let own = ["enable_raw_mode", "EnterAlternateScreen", "set_hook", "take_hook"];
                assert!(!own.iter().any(|word| text.contains(word)), "{}", path.display());
            }
        }
        let shell = sources(&root.join("shell/src"));
        let raw: Vec<_> = shell.iter().filter(|(_, text)| text.contains("enable_raw_mode()")).collect();
        let [(path, text)] = &raw[..] else { panic!("raw mode begins in one place") };
        assert!(path.ends_with("ui/terminal.rs"), "{}", path.display());
        let [hook, raw] =
            ["        hook_panics();", "        enable_raw_mode()?;"].map(|line| text.find(line).unwrap());
        assert!(hook < raw, "the hook comes first");
    }

    fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.extend(sources(&path));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                all.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
        all
    }

    #[test]
    fn an_arrow_upwards_and_a_blind_check_are_both_faults() {
        let right = |package: &str| {
            let expected = EXPECTED.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, names)| names);
            Ok(expected.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
        };
        assert_eq!(faults_in(right).unwrap(), Vec::<String>::new());

        let chat_with_torch = |package: &str| {
            let mut names = right(package)?;
            names.extend((package == "hydra-query").then(|| "torch-sys".to_owned()));
            Ok(names)
        };
        assert_eq!(
            faults_in(chat_with_torch).unwrap(),
            ["hydra-query reaches torch-sys: see `cargo tree -p hydra-query -i torch-sys`"]
        );
        assert_eq!(faults_in(|_| Ok(BTreeSet::new())).unwrap().len(), 3, "seeing nothing is no proof");
    }
}
