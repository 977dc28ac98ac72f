//! `cargo xtask bench merge`: a round of many updates of a large model, checked and merged.

use std::ffi::OsString;

use serde::Deserialize;

use super::{Bar, Report, example, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

#[derive(clap::Args)]
pub struct Options {
    /// Parameters of the model
    #[arg(long, default_value_t = 30_000_000)]
    params: u32,
    /// Updates in the round
    #[arg(long, default_value_t = 32)]
    updates: u32,
}

/// What `coordinator/examples/merge.rs` prints.
#[derive(Deserialize)]
struct Measured {
    bytes: f64,
    checks: f64,
    merges: Vec<f64>,
    floors: Vec<f64>,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new("merge");
    report.fact("params", options.params);
    report.fact("updates", options.updates);
    for codec in ["int4", "sparse64"] {
        let arguments = [options.params.to_string(), options.updates.to_string(), codec.to_owned()];
        let measured: Measured = example(repo, ("hydra-coordinator", "merge"), "", arguments.map(OsString::from))?;
        let merge = percentile(&measured.merges, 0.5);
        report.row(format!("{codec}: the updates"), measured.bytes / f64::from(1 << 20), "MiB", None);
        report.row(format!("{codec}: the round's outer step"), merge, "s", Some(Bar::Below(1.0)));
        report.row(
            format!("{codec}: against adding as many f32 vectors"),
            merge / percentile(&measured.floors, 0.5),
            "×",
            None,
        );
        let check = 1e3 * measured.checks / f64::from(options.updates);
        report.row(format!("{codec}: checking an update when it comes"), check, "ms", None);
    }
    Ok(report)
}
