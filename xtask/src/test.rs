//! `cargo xtask test`: every check that a change must pass, in order, each under its headline.
//!
//! All checks run even if one fails, so that one run shows everything. A tool that is not installed is skipped with a
//! line that says how to install it; the tests themselves are never skipped.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::failure::Failure;
use crate::floors;
use crate::repo::Repo;

enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

struct Check<'a> {
    name: &'static str,
    run: Box<dyn FnOnce() -> Result<Outcome> + 'a>,
}

/// Runs every check, all but clippy with `fast`.
pub fn run(repo: &Repo, fast: bool) -> Result<(), Failure> {
    let library_path = repo.library_path();
    let cargo = |arguments: &'static [&'static str]| {
        let library_path = library_path.clone();
        move || {
            let mut command = repo.cargo();
            command.args(arguments).envs(library_path);
            let status = command.status().context("cargo could not be started")?;
            Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
        }
    };
    let tool = |tool: &'static str, hint: &'static str, arguments: &'static [&'static str]| {
        let run = cargo(arguments);
        move || if installed(repo, tool) { run() } else { Ok(Outcome::Skipped(hint)) }
    };
    let check = |name, run| Check { name, run };
    let clippy = |arguments| -> Box<dyn FnOnce() -> Result<Outcome> + '_> {
        if fast {
            return Box::new(|| Ok(Outcome::Skipped("left out by --fast")));
        }
        Box::new(tool("clippy", "not installed: `rustup component add clippy`", arguments))
    };
    let checks = vec![
        check("format", Box::new(tool("fmt", "not installed: `rustup component add rustfmt`", FORMAT))),
        check("floors (who depends on whom)", Box::new(|| check_floors(repo))),
        check("licences, bans, advisories", Box::new(tool("deny", "not installed: `cargo install cargo-deny`", DENY))),
        check("core is pure", clippy(PURE)),
        check("lints", clippy(LINTS)),
        check("tests", Box::new(cargo(TESTS))),
    ];
    summarise(checks)
}

const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const DENY: &[&str] = &["deny", "--workspace", "check"];
/// The lists are in `core/clippy.toml`; here they are errors even if somebody allows the lint in `Cargo.toml`.
const PURE: &[&str] = &[
    "clippy",
    "--package",
    "hydra-core",
    "--lib",
    "--release",
    "--locked",
    "--",
    "-D",
    "clippy::disallowed_methods",
    "-D",
    "clippy::disallowed_types",
];
const LINTS: &[&str] = &["clippy", "--workspace", "--all-targets", "--release", "--locked", "--", "-D", "warnings"];
const TESTS: &[&str] = &["test", "--workspace", "--release", "--locked"];

fn summarise(checks: Vec<Check<'_>>) -> Result<(), Failure> {
    let started = Instant::now();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), Vec::new());
    for Check { name, run } in checks {
        eprintln!("\n== {name}");
        let begun = Instant::now();
        // A check that could not be made is one that failed; the others are made all the same.
        let outcome = run().unwrap_or_else(|error| {
            eprintln!("   {error:#}");
            Outcome::Failed
        });
        match outcome {
            Outcome::Passed => {
                eprintln!("   passed in {:.1} s", begun.elapsed().as_secs_f64());
                passed += 1;
            }
            Outcome::Failed => {
                eprintln!("   FAILED after {:.1} s", begun.elapsed().as_secs_f64());
                failed.push(name);
            }
            Outcome::Skipped(why) => {
                eprintln!("   skipped: {why}");
                skipped.push(name);
            }
        }
    }
    let skipped = if skipped.is_empty() { String::new() } else { format!(", skipped: {}", skipped.join(", ")) };
    let summary = format!("{passed} passed in {:.0} s{skipped}", started.elapsed().as_secs_f64());
    if failed.is_empty() {
        eprintln!("\n{summary}");
        return Ok(());
    }
    Err(Failure::Tests(format!("{}; {summary}", failed.join(", "))))
}

fn installed(repo: &Repo, tool: &str) -> bool {
    repo.cargo().args([tool, "--version"]).output().is_ok_and(|output| output.status.success())
}

fn check_floors(repo: &Repo) -> Result<Outcome> {
    let faults = floors::faults(repo)?;
    for fault in &faults {
        eprintln!("   {fault}");
    }
    Ok(if faults.is_empty() { Outcome::Passed } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, outcome: Outcome) -> Check<'static> {
        Check { name, run: Box::new(|| Ok(outcome)) }
    }

    #[test]
    fn a_failed_check_does_not_hide_the_next_one() {
        let checks =
            vec![check("one", Outcome::Failed), check("two", Outcome::Passed), check("three", Outcome::Failed)];
        let Err(Failure::Tests(text)) = summarise(checks) else { panic!("two checks failed") };
        assert!(text.starts_with("one, three; 1 passed"), "{text}");
        let broken = Check { name: "broken", run: Box::new(|| anyhow::bail!("no cargo")) };
        let Err(Failure::Tests(text)) = summarise(vec![broken, check("two", Outcome::Passed)]) else {
            panic!("a check could not be made")
        };
        assert!(text.starts_with("broken; 1 passed"), "{text}");
    }

    #[test]
    fn a_skipped_check_is_no_failure() {
        assert!(
            summarise(vec![check("one", Outcome::Skipped("not installed")), check("two", Outcome::Passed)]).is_ok()
        );
    }
}
