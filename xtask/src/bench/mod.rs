//! `cargo xtask bench NAME`: measurements of the promises, each beside its bar.
//!
//! Every bench gives a [`Report`]: a table for people on standard error and one JSON object on one line of standard
//! output. A missed bar fails the command, after everything has been printed. What needs the workspace's own code is
//! an example of its package that prints a JSON object, built and run by [`example`]: xtask itself reaches none of it.

mod export;
mod generate;
mod model;
mod report;
mod ui;

use std::ffi::OsStr;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::repo::Repo;
pub use report::{Bar, Report};

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// An exported model's logits beside those of Python's transformers
    Export(export::Options),
    /// Drawing tokens, alone and many at once, beside Python's transformers
    Generate(generate::Options),
    /// The screens: time to draw, cost when nothing changes, time from key to frame
    Ui(ui::Options),
}

/// Measures, prints, and fails if a bar was missed.
pub fn run(repo: &Repo, bench: &Bench) -> Result<(), Failure> {
    let report = match bench {
        Bench::Export(options) => export::run(repo, options)?,
        Bench::Generate(options) => generate::run(repo, options)?,
        Bench::Ui(options) => ui::run(repo, options)?,
    };
    report.print();
    let missed = report.missed();
    if missed.is_empty() { Ok(()) } else { Err(Failure::Bench(missed.join(", "))) }
}

/// Builds the example `name` of `package`, runs it and reads the last line that it prints.
///
/// Its standard error shows. `features` are those of the package that it needs, separated by commas.
pub fn example<T: DeserializeOwned>(
    repo: &Repo,
    (package, name): (&str, &str),
    features: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<T, Failure> {
    let selected = ["--release", "--locked", "--package", package, "--features", features, "--example", name];
    let built = repo.cargo().arg("build").args(selected).status().context("cargo could not be started")?;
    if !built.success() {
        return Err(Failure::Build);
    }
    let target = repo.target()?;
    let output = std::process::Command::new(target.join("release/examples").join(name))
        .args(arguments)
        .envs(repo.library_path(&target))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("the example {name} could not be started"))?;
    Ok(read_last(name, output.status.success(), &String::from_utf8_lossy(&output.stdout))?)
}

fn read_last<T: DeserializeOwned>(name: &str, success: bool, printed: &str) -> anyhow::Result<T> {
    if !success {
        bail!("the example {name} failed");
    }
    let line = printed.lines().last().with_context(|| format!("the example {name} printed nothing"))?;
    serde_json::from_str(line).with_context(|| format!("the example {name} printed `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_an_example_counts() {
        let read = |success, text| read_last::<[u8; 2]>("x", success, text).map_err(|error| format!("{error:#}"));
        assert_eq!(read(true, "hello\n[1,2]\n"), Ok([1, 2]));
        assert_eq!(read(true, ""), Err("the example x printed nothing".to_owned()));
        assert_eq!(read(false, "[1,2]"), Err("the example x failed".to_owned()));
        assert!(read(true, "[1]").unwrap_err().starts_with("the example x printed `[1]`"));
    }
}
