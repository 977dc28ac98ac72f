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
    /// A text to train on; a megabyte is enough. The bar of one worker is Tiny Shakespeare's
    #[arg(long)]
    data: PathBuf,
    /// Optimiser steps of a short run, in all; a long one has four times as many
    #[arg(long, default_value_t = STEPS)]
    steps: u32,
    /// Optimiser steps a task
    #[arg(long, default_value_t = 3)]
    task: u32,
    /// Windows in a step of each of several workers, a divisor of the preset's: with a quarter of them four take together
    /// as many as one. The runs that compare codecs have the preset's batch, rates, β₁ and outer step
    #[arg(long, default_value_t = 3)]
    batch: u32,
    /// Rounds of the runs that compare codecs
    #[arg(long, default_value_t = 120)]
    rounds: u32,
    /// Peak learning rate of several workers, as a multiple of the preset's
    #[arg(long, default_value_t = 0.35)]
    rate: f32,
    /// Learning rate of several workers at the end, as a part of its peak: high, since it is their average that counts
    #[arg(long, default_value_t = 0.2)]
    final_ratio: f32,
    /// AdamW's decay of the mean of several workers' gradients: short, since older ones are of weights before the last merge
    #[arg(long, default_value_t = 0.8)]
    beta1: f32,
    /// Outer rate of several workers
    #[arg(long, default_value_t = 1.0)]
    outer_lr: f32,
    /// Outer momentum of several workers
    #[arg(long, default_value_t = 0.3)]
    outer_momentum: f32,
    /// Only the run of this name, or else runs whose names contain it; more than once for more
    #[arg(long)]
    only: Vec<String>,
    /// Each run so often, with other first weights and windows every time; losses are compared by their means
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
}

/// Of a short run, if not asked otherwise.
const STEPS: u32 = 2000;

/// The run of one worker, and what it must reach with Tiny Shakespeare and the usual steps.
const ONE_WORKER: &str = "one short";
const ONE_WORKER_BITS: f64 = 2.45;

/// What `coordinator/examples/arena` prints for each run.
#[derive(Deserialize)]
struct Line {
    name: String,
    seed: u64,
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
    bits_per_byte: Option<f64>,
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
    for (flag, number) in [
        ("--rate", options.rate),
        ("--final-ratio", options.final_ratio),
        ("--beta1", options.beta1),
        ("--outer-lr", options.outer_lr),
        ("--outer-momentum", options.outer_momentum),
    ] {
        arguments.extend([flag.into(), number.to_string().into()]);
    }
    arguments.extend(["--seeds".into(), options.seeds.to_string().into()]);
    arguments.extend(options.only.iter().flat_map(|only| ["--only".into(), only.into()]));
    let lines: Vec<Line> = example(repo, ("hydra-coordinator", "arena"), "", arguments)?;
    Ok(report(&lines))
}

/// A run with each of its seeds.
struct Runs<'a> {
    lines: Vec<&'a Line>,
}

impl<'a> Runs<'a> {
    /// All of them in the order of their names' first lines.
    fn of(lines: &'a [Line]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in lines {
            match all.iter_mut().find(|runs| runs.name() == line.name) {
                Some(runs) => runs.lines.push(line),
                None => all.push(Self { lines: vec![line] }),
            }
        }
        for runs in &mut all {
            runs.lines.sort_by_key(|line| line.seed);
        }
        all
    }

    fn name(&self) -> &str {
        &self.lines[0].name
    }

    fn mean(&self, of: impl Fn(&Outcome) -> f64) -> f64 {
        self.lines.iter().map(|line| of(&line.outcome)).sum::<f64>() / self.lines.len() as f64
    }

    /// Infinite if a run was lost.
    fn loss(&self) -> f64 {
        self.mean(|outcome| outcome.loss.unwrap_or(f64::INFINITY))
    }

    /// The variance of the mean loss, as the seeds show it; nothing for one seed.
    fn variance(&self) -> Option<f64> {
        let (mean, runs) = (self.loss(), self.lines.len() as f64);
        let squares = self.mean(|outcome| (outcome.loss.unwrap_or(f64::INFINITY) - mean).powi(2));
        (runs > 1.0).then(|| squares / (runs - 1.0))
    }
}

fn report(lines: &[Line]) -> Report {
    let mut report = Report::new("learn");
    let all = Runs::of(lines);
    for runs in &all {
        let (name, Line { workers, steps, task, batch, tokens, outcome, .. }) = (runs.name(), runs.lines[0]);
        let left = runs.mean(|outcome| f64::from(outcome.departures));
        let left = if left > 0.0 { format!(", {left} departures") } else { String::new() };
        report.fact(name, format!(
            "{workers} workers, {steps} steps' worth of tokens in all ({tokens}), {task} a task, in steps of {batch} windows, {} versions{left}",
            outcome.versions
        ));
        if let [_, _, ..] = runs.lines[..] {
            for Line { seed, outcome, .. } in &runs.lines {
                let loss = outcome.loss.unwrap_or(f64::INFINITY);
                report.row(format!("{name}: loss with seed {seed}"), loss, "nats", None);
            }
        }
        report.row(format!("{name}: loss"), runs.loss(), "nats", None);
        if name == ONE_WORKER {
            let bits = runs.mean(|outcome| outcome.bits_per_byte.unwrap_or(f64::INFINITY));
            let bar = (*steps == STEPS).then_some(Bar::Below(ONE_WORKER_BITS));
            report.row(format!("{name}: bits a byte"), bits, "bits", bar);
        }
        let own = runs.mean(|outcome| outcome.own_loss.unwrap_or(f64::INFINITY));
        report.row(format!("{name}: loss of the last version alone"), own, "nats", None);
        // A version goes to every worker.
        let bytes = runs.mean(|outcome| (outcome.bytes_up + outcome.bytes_version * *workers as u64) as f64);
        report.row(format!("{name}: traffic"), bytes / *tokens as f64, "bytes a token", None);
    }
    let find = |name: &str| all.iter().find(|runs| runs.name() == name);
    let mut compare = |name: &str, than: &str, bar: Option<f64>| {
        let (Some(one), Some(other)) = (find(name), find(than)) else { return };
        let ratio = one.loss() / other.loss();
        report.row(format!("{name}, above {than}"), 100.0 * (ratio - 1.0), "%", bar.map(Bar::Below));
        if let (Some(error), Some(others)) = (one.variance(), other.variance()) {
            let relative = error / one.loss().powi(2) + others / other.loss().powi(2);
            report.row(format!("{name}, above {than}: standard error"), 100.0 * ratio * relative.sqrt(), "%", None);
        }
    };
    compare("four short", "one short with the steps of several", None);
    compare("four long", "one short with the steps of several", None);
    let mut above = |name: &str, than: &str, bar: f64| compare(name, than, Some(bar));
    above("four short", ONE_WORKER, 4.0);
    above("four long", "one long", 3.0);
    above("four long", ONE_WORKER, -8.0);
    above("eight unsteady", "eight steady", 1.0);
    above("codec int4", "codec f32", 0.3);
    // What `auto` chooses clears its bar, and is the last of these.
    above("codec sparse64", "codec f32", 1.0);
    above("codec sparse64 up, sparse256 down", "codec f32", 1.0);
    above("codec sparse256", "codec f32", 1.0);
    above("codec sparse256 up, int4 down", "codec f32", 1.0);
    if let Some(unsteady) = find("eight unsteady") {
        let [idle, busy] = [unsteady.mean(|outcome| outcome.fast_idle), unsteady.mean(|outcome| outcome.fast_busy)];
        report.row("eight unsteady: fast workers idle", 100.0 * idle / (idle + busy), "%", Some(Bar::Below(5.0)));
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
            bits_per_byte: loss,
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
            seed: 1,
            workers: 4,
            steps: STEPS,
            task: 2,
            batch: 12,
            tokens: 100,
            outcome: outcome(loss, idle),
        };
        let good = [line("one short", Some(2.0), 0.0), line("four short", Some(2.06), 0.0)];
        assert_eq!(report(&good).missed(), Vec::<String>::new());
        let bad =
            [line("one short", Some(2.5), 0.0), line("four short", None, 0.0), line("eight unsteady", None, 10.0)];
        let missed = report(&bad).missed();
        let above = ["one short: bits a byte", "four short, above one short", "eight unsteady: fast workers idle"];
        assert_eq!(missed, above);
        let shorter = [Line { steps: 10, ..line("one short", Some(2.5), 0.0) }];
        assert_eq!(report(&shorter).missed(), Vec::<String>::new(), "the bar is of the usual steps");
        let seeds = [2.0, 1.0, 3.0].map(|loss| line("one short", Some(loss), 0.0));
        let runs = Runs::of(&seeds);
        assert_eq!((runs.len(), runs[0].loss(), runs[0].variance()), (1, 2.0, Some(1.0 / 3.0)));
    }
}
