//! `cargo xtask bench learn`: one worker and many with the same tokens, dense and sparse updates, and a swarm where
//! half are slow and some leave.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Bar, Report, example};
use crate::failure::Failure;
use crate::repo::Repo;

#[derive(clap::Args)]
pub struct Options {
    /// A text to train on; a megabyte is enough
    #[arg(long)]
    data: PathBuf,
    /// Optimiser steps of a short run, in all; a long one has four times as many
    #[arg(long, default_value_t = 2000)]
    steps: u32,
    /// Optimiser steps a task
    #[arg(long, default_value_t = 3)]
    task: u32,
    /// Windows in a step of each of several workers, a divisor of the preset's: with a quarter of them four take together
    /// as many as one. The runs that compare codecs have the preset's batch, rate and outer step
    #[arg(long, default_value_t = 3)]
    batch: u32,
    /// Rounds of the runs that compare codecs
    #[arg(long, default_value_t = 120)]
    rounds: u32,
    /// Peak learning rate of several workers, as a multiple of the preset's
    #[arg(long, default_value_t = 0.35)]
    rate: f32,
    /// Outer rate of several workers
    #[arg(long, default_value_t = 1.0)]
    outer_lr: f32,
    /// Outer momentum of several workers
    #[arg(long, default_value_t = 0.3)]
    outer_momentum: f32,
    /// Only runs whose names contain this
    #[arg(long)]
    only: Option<String>,
}

/// What `coordinator/examples/arena` prints for each run.
#[derive(Deserialize)]
struct Line {
    name: String,
    workers: usize,
    steps: u32,
    task: u32,
    batch: u32,
    tokens: u64,
    outcome: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    loss: Option<f64>,
    own_loss: Option<f64>,
    versions: u64,
    fast_busy: f64,
    fast_idle: f64,
    bytes_up: u64,
    bytes_version: u64,
    departures: u32,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut arguments: Vec<OsString> = vec!["learn".into(), "--data".into(), options.data.clone().into()];
    for (flag, number) in
        [("--steps", options.steps), ("--task", options.task), ("--batch", options.batch), ("--rounds", options.rounds)]
    {
        arguments.extend([flag.into(), number.to_string().into()]);
    }
    let rates = [("--rate", options.rate), ("--outer-lr", options.outer_lr)];
    for (flag, number) in rates.into_iter().chain([("--outer-momentum", options.outer_momentum)]) {
        arguments.extend([flag.into(), number.to_string().into()]);
    }
    arguments.extend(options.only.iter().flat_map(|only| ["--only".into(), only.into()]));
    let lines: Vec<Line> = example(repo, ("hydra-coordinator", "arena"), "", arguments)?;
    Ok(report(&lines))
}

fn report(lines: &[Line]) -> Report {
    let mut report = Report::new("learn");
    for Line { name, workers, steps, task, batch, tokens, outcome } in lines {
        let Outcome { versions, departures, bytes_up, bytes_version, .. } = outcome;
        let how = format!(
            "{workers} workers, {steps} steps' worth of tokens in all ({tokens}), {task} a task, in steps of {batch} windows, {versions} versions"
        );
        let left = if *departures > 0 { format!(", {departures} departures") } else { String::new() };
        report.fact(name, how + &left);
        report.row(format!("{name}: loss"), outcome.loss.unwrap_or(f64::INFINITY), "nats", None);
        let own = outcome.own_loss.unwrap_or(f64::INFINITY);
        report.row(format!("{name}: loss of the last version alone"), own, "nats", None);
        // A version goes to every worker.
        let bytes = (bytes_up + bytes_version * *workers as u64) as f64 / *tokens as f64;
        report.row(format!("{name}: traffic"), bytes, "bytes a token", None);
    }
    let find = |name: &str| lines.iter().find(|line| line.name == name).map(|line| &line.outcome);
    let loss = |name: &str| find(name).map(|outcome| outcome.loss.unwrap_or(f64::INFINITY));
    let mut compare = |name: &str, than: &str, bar: Option<f64>| {
        if let (Some(one), Some(other)) = (loss(name), loss(than)) {
            let percent = 100.0 * (one / other - 1.0);
            report.row(format!("{name}, above {than}"), percent, "%", bar.map(Bar::Below));
        }
    };
    compare("four short", "one short with the steps of several", None);
    compare("four long", "one short with the steps of several", None);
    let mut above = |name: &str, than: &str, bar: f64| compare(name, than, Some(bar));
    above("four short", "one short", 4.0);
    above("four long", "one long", 3.0);
    above("four long", "one short", -8.0);
    above("eight unsteady", "eight steady", 1.0);
    above("codec int4", "codec f32", 0.3);
    above("codec sparse64", "codec f32", 1.0);
    above("codec sparse64 up, sparse256 down", "codec f32", 1.0);
    above("codec sparse256", "codec f32", 1.0);
    above("codec sparse256 up, int4 down", "codec f32", 1.0);
    if let Some(unsteady) = find("eight unsteady") {
        let idle = 100.0 * unsteady.fast_idle / (unsteady.fast_idle + unsteady.fast_busy);
        report.row("eight unsteady: fast workers idle", idle, "%", Some(Bar::Below(5.0)));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_compared() {
        let outcome = |loss, fast_idle| Outcome {
            loss,
            own_loss: loss,
            versions: 9,
            fast_busy: 90.0,
            fast_idle,
            bytes_up: 100,
            bytes_version: 10,
            departures: 3,
        };
        let line = |name: &str, loss, idle| Line {
            name: name.to_owned(),
            workers: 4,
            steps: 10,
            task: 2,
            batch: 12,
            tokens: 100,
            outcome: outcome(loss, idle),
        };
        let good = [line("one short", Some(2.0), 0.0), line("four short", Some(2.06), 0.0)];
        assert_eq!(report(&good).missed(), Vec::<String>::new());
        let bad =
            [line("one short", Some(2.0), 0.0), line("four short", None, 0.0), line("eight unsteady", None, 10.0)];
        let missed = report(&bad).missed();
        assert_eq!(missed, ["four short, above one short", "eight unsteady: fast workers idle"]);
    }
}
