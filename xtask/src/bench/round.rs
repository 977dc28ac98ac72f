//! `cargo xtask bench round` and `bench wire`: rounds without training, in time and in bytes.

use anyhow::Context;
use serde::Deserialize;

use super::{Bar, Report, example, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

/// Tokens of an upload for which the bar on traffic is meant, a tenth of them, and those of a task of `small` as it is.
const UPLOADS: [u32; 3] = [409_600, 40_960, 16_384];

#[derive(clap::Args)]
pub struct Options {
    /// Rounds to measure
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=1000))]
    rounds: u32,
}

/// What `shell/examples/round.rs` prints.
#[derive(Deserialize)]
struct Measured {
    params: u64,
    rounds: u64,
    refused: u64,
    seconds: Vec<f64>,
    bytes_up: u64,
    bytes_down: u64,
    updates: u64,
}

fn measure(
    repo: &Repo,
    (workers, steps, rounds): (u32, u32, u32),
    (up, down): (&str, &str),
) -> Result<Measured, Failure> {
    let package = ["build", "--release", "--locked", "--package", "hydra-coordinator", "--bins"];
    if !repo.cargo().args(package).status().context("cargo could not be started")?.success() {
        return Err(Failure::Build);
    }
    let program = repo.target()?.join("release/hydra-coordinator-engine").into_os_string();
    let words = [workers.to_string(), up.to_owned(), down.to_owned(), steps.to_string(), rounds.to_string()];
    let arguments = [program].into_iter().chain(words.into_iter().map(Into::into));
    example(repo, ("hydra-shell", "round"), "", arguments)
}

/// How long a round of two workers takes that train nothing.
pub fn round(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let measured = measure(repo, (2, 1, options.rounds), ("int4", "int4"))?;
    let mut report = Report::new("round");
    report.fact("workers", 2);
    report.fact("params", measured.params);
    report.fact("rounds", measured.rounds);
    report.fact("refused", measured.refused);
    let milliseconds = |part| 1e3 * percentile(&measured.seconds, part);
    report.row("round_p50", milliseconds(0.5), "ms", Some(Bar::Below(100.0)));
    report.row("round_p90", milliseconds(0.9), "ms", None);
    Ok(report)
}

/// How many bytes go through the sockets for each token that eight workers would have trained on.
pub fn wire(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new("wire");
    report.fact("workers", 8);
    let ways =
        [("int4", "int4", None), ("sparse64", "sparse64", None), ("sparse64", "sparse256", Some(Bar::Below(1.0)))];
    for (up, down, bar) in ways {
        let measured = measure(repo, (8, 1, options.rounds.min(10)), (up, down))?;
        report.fact("params", measured.params);
        let updates = measured.updates.max(1) as f64;
        let name = format!("{up} up, {down} down");
        report.row(format!("{name}: an update"), measured.bytes_up as f64 / updates / 1024.0, "KiB", None);
        report.row(format!("{name}: a version"), measured.bytes_down as f64 / updates / 1024.0, "KiB", None);
        let bytes = (measured.bytes_up + measured.bytes_down) as f64 / updates;
        for tokens in UPLOADS {
            // What travels does not depend on how long somebody trained for it.
            let bar = bar.filter(|_| tokens == UPLOADS[0]);
            report.row(format!("{name}: at {tokens} tokens"), bytes / f64::from(tokens), "bytes a token", bar);
        }
    }
    Ok(report)
}
