//! Runs the simulation for a seed, or for many:
//!
//! ```sh
//! cargo xtask sim --seed 7
//! cargo xtask sim --sweep 2000 --agents 50
//! ```
//!
//! One seed prints what happened, and the end of its log if it failed; `--trace` prints the whole log, whatever became
//! of it. A sweep tries seeds from the given number on (`--from N`, default 0), on all cores, and names those that
//! fail; the exit code says whether any did. `--agents` and `--seconds` say how many clients there are and how long things
//! go wrong, if not as many and as long as in the tests. `--bug NAME` switches a mistake on: then a sweep should fail.

#![expect(
    clippy::disallowed_methods,
    reason = "an example is a program: it takes arguments, starts threads and reads a clock"
)]
#![expect(clippy::disallowed_types, reason = "the same")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use hydra_core::sim::{Bug, Counts, Options, Report, run};

/// Lines of a failed run's log that are printed.
const TAIL: usize = 200;
const USAGE: &str =
    "usage: sim (--seed N [--trace] | --sweep COUNT [--from N]) [--agents N] [--seconds N] [--bug NAME]";

struct Args {
    seed: Option<u64>,
    sweep: Option<u64>,
    from: u64,
    trace: bool,
    options: Options,
}

fn main() -> ExitCode {
    // A seed that panics is reported as a failed one; the default hook would print each over the others.
    std::panic::set_hook(Box::new(|_| {}));
    match parse(std::env::args().skip(1)) {
        Ok(Args { seed: Some(seed), sweep: None, trace, options, .. }) => one(seed, trace, &options),
        Ok(Args { seed: None, sweep: Some(count), from, options, .. }) => sweep(from, count, &options),
        Ok(_) => usage("either --seed or --sweep"),
        Err(text) => usage(&text),
    }
}

fn usage(text: &str) -> ExitCode {
    let bugs: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    eprintln!("error: {text}\n{USAGE}\nbugs: {}", bugs.join(", "));
    ExitCode::from(2)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args { seed: None, sweep: None, from: 0, trace: false, options: Options::default() };
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match name.as_str() {
            "--seed" => parsed.seed = Some(number(value()?)?),
            "--sweep" => parsed.sweep = Some(number(value()?)?),
            "--from" => parsed.from = number(value()?)?,
            "--trace" => parsed.trace = true,
            "--agents" => parsed.options.agents = number(value()?)?.clamp(3, 1000) as usize,
            "--seconds" => parsed.options.seconds = number(value()?)?.clamp(1, 86_400),
            "--bug" => {
                let text = value()?;
                let bug = Bug::ALL.into_iter().find(|bug| bug.name() == text);
                parsed.options.bug = Some(bug.ok_or_else(|| format!("there is no bug {text}"))?);
            }
            other => return Err(format!("{other} is unknown")),
        }
    }
    Ok(parsed)
}

fn one(seed: u64, whole: bool, options: &Options) -> ExitCode {
    let report = run(seed, &Options { trace: true, ..options.clone() });
    let skip = if whole { 0 } else { report.log.len().saturating_sub(TAIL) };
    if whole || report.failure.is_some() {
        report.log.iter().skip(skip).for_each(|line| println!("{line}"));
    }
    println!("seed {seed}: {:#?}\ndigest of the run: {}", report.counts, report.digest);
    let Some(failure) = report.failure else { return ExitCode::SUCCESS };
    println!("failed: {failure}");
    ExitCode::FAILURE
}

fn sweep(from: u64, count: u64, options: &Options) -> ExitCode {
    let began = Instant::now();
    let end = from.saturating_add(count);
    let (next, (sender, receiver)) = (AtomicU64::new(from), channel::<Report>());
    let (mut sum, mut failed) = (Counts::default(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send(run(seed, options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in receiver {
            sum.add(&report.counts);
            if let Some(failure) = report.failure {
                println!("seed {}: {failure}", report.seed);
                failed.push(report.seed);
            }
        }
    });
    println!("{sum:#?}");
    let seconds = began.elapsed().as_secs_f64();
    println!("{} of {count} seeds failed, {} agents each, in {seconds:.1} s", failed.len(), options.agents);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
