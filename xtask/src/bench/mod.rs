//! `cargo xtask bench NAME`: measurements of the promises, each beside its bar.
//!
//! Every bench gives a [`Report`]: a table for people on standard error and one JSON object on one line of standard
//! output. A missed bar fails the command, after everything has been printed. What needs the workspace's own code is
//! an example of its package that prints a JSON object, built and run by [`example`]: xtask itself reaches none of it.

mod attacks;
mod export;
mod generate;
mod learn;
mod merge;
mod model;
mod report;
mod round;
mod sessions;
mod train;
mod ui;

use std::ffi::OsStr;

use anyhow::Context;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::repo::Repo;
pub use report::{Bar, Report};

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// An exported model's logits beside those of Python's transformers
    Export(model::Options),
    /// Drawing tokens, alone and many at once, beside Python's transformers
    Generate(model::Options),
    /// Many sessions: memory of one, time from task to worker beside a bare push
    #[command(visible_alias = "push")]
    Sessions(sessions::Options),
    /// The screens: time to draw, cost when nothing changes, time from key to frame
    Ui(ui::Options),
    /// Three of ten workers attack: what becomes of the model and of the credits
    Attacks(attacks::Options),
    /// One worker and many with the same tokens; dense and sparse updates; slow workers and such that leave
    Learn(learn::Options),
    /// A round of many updates of a large model, checked and merged
    Merge(merge::Options),
    /// Rounds of two workers that train nothing
    Round(round::Options),
    /// Bytes a trained token, measured on the sockets
    Wire(round::Options),
    /// Training speed beside plain PyTorch, and the share of the machine's matrix-product speed
    Train(train::Options),
}

/// Measures, prints, and fails if a bar was missed.
pub fn run(repo: &Repo, bench: &Bench) -> Result<(), Failure> {
    let report = match bench {
        Bench::Export(options) => export::run(repo, options)?,
        Bench::Generate(options) => generate::run(repo, options)?,
        Bench::Sessions(options) => sessions::run(repo, options)?,
        Bench::Ui(options) => ui::run(repo, options)?,
        Bench::Attacks(options) => attacks::run(repo, options)?,
        Bench::Learn(options) => learn::run(repo, options)?,
        Bench::Merge(options) => merge::run(repo, options)?,
        Bench::Round(options) => round::round(repo, options)?,
        Bench::Wire(options) => round::wire(repo, options)?,
        Bench::Train(options) => train::run(repo, options)?,
    };
    report.print();
    let missed = report.missed();
    if missed.is_empty() { Ok(()) } else { Err(Failure::Bench(missed.join(", "))) }
}

/// Builds and runs an example, see [`Repo::example`], and reads the last line that it prints.
pub fn example<T: DeserializeOwned>(
    repo: &Repo,
    (package, name): (&str, &str),
    features: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<T, Failure> {
    let printed = repo.example((package, name), features, arguments)?;
    Ok(read_last(name, &printed)?)
}

fn read_last<T: DeserializeOwned>(name: &str, printed: &str) -> anyhow::Result<T> {
    let line = printed.lines().last().with_context(|| format!("the example {name} printed nothing"))?;
    serde_json::from_str(line).with_context(|| format!("the example {name} printed `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_an_example_counts() {
        let read = |text| read_last::<[u8; 2]>("x", text).map_err(|error| format!("{error:#}"));
        assert_eq!(read("hello\n[1,2]\n"), Ok([1, 2]));
        assert_eq!(read(""), Err("the example x printed nothing".to_owned()));
        assert!(read("[1]").unwrap_err().starts_with("the example x printed `[1]`"));
    }
}
