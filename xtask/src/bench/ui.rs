//! `cargo xtask bench ui`: what the screens cost, and how soon they answer.

use serde::Deserialize;

use super::{Bar, Report, example, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Frames to draw
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
}

/// What `shell/examples/draw.rs` prints.
#[derive(Deserialize)]
struct Drawn {
    chart_ms: Vec<f64>,
    table_ms: Vec<f64>,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new("ui");
    report.fact("size", "120x40");
    let drawn: Drawn = example(repo, ("hydra-shell", "draw"), "", [options.frames.to_string()])?;
    report.row("draw_chart_p50", percentile(&drawn.chart_ms, 0.5), "ms", None);
    report.row("draw_chart_p99", percentile(&drawn.chart_ms, 0.99), "ms", Some(Bar::Below(5.0)));
    report.row("draw_table_p50", percentile(&drawn.table_ms, 0.5), "ms", None);
    report.row("draw_table_p99", percentile(&drawn.table_ms, 0.99), "ms", Some(Bar::Below(5.0)));
    Ok(report)
}
