//! Runs the simulation for a seed, or for many:
//!
//! ```sh
//! cargo run --release -p hydra-core --features sim --example sim -- --seed 7
//! cargo run --release -p hydra-core --features sim --example sim -- --sweep 1000
//! ```
//!
//! One seed prints what happened, and the end of its log if it failed. A sweep tries seeds from the given number on
//! (`--from N`, default 0), and names those that fail; the exit code says whether any did.

#![expect(
    clippy::disallowed_methods,
    reason = "an example is a program, and takes its arguments from the command line"
)]

use std::process::ExitCode;

use hydra_core::sim::{Options, run};

/// Lines of a failed run's log that are printed.
const TAIL: usize = 200;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = args.iter().position(|arg| arg == name)?;
        args.get(place + 1)?.parse::<u64>().ok()
    };
    match (number("--seed"), number("--sweep")) {
        (Some(seed), None) => one(seed),
        (None, Some(count)) => sweep(number("--from").unwrap_or(0), count),
        _ => {
            eprintln!("usage: sim --seed N | --sweep COUNT [--from N]");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let report = run(seed, &Options { trace: true, ..Options::default() });
    println!("seed {seed}: {:#?}\ndigest of the run: {}", report.counts, report.digest);
    let Some(failure) = report.failure else { return ExitCode::SUCCESS };
    for line in report.log.iter().skip(report.log.len().saturating_sub(TAIL)) {
        println!("{line}");
    }
    println!("failed: {failure}");
    ExitCode::FAILURE
}

fn sweep(from: u64, count: u64) -> ExitCode {
    let mut failed = 0;
    for seed in from..from.saturating_add(count) {
        let report = run(seed, &Options::default());
        if let Some(failure) = report.failure {
            failed += 1;
            println!("seed {seed}: {failure}");
        }
    }
    println!("{failed} of {count} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
