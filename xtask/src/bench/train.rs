//! `cargo xtask bench train`: training speed beside plain PyTorch on the same cores, and how much of the machine's
//! matrix-product speed it uses.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;

use super::{Bar, Report, example, model, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

/// Threads on each side.
const THREADS: u32 = 2;
/// Each side is measured so many times, in turns: machines are noisy.
const TURNS: usize = 3;

#[derive(clap::Args)]
pub struct Options {
    /// A Python with torch
    #[arg(long, value_name = "PATH")]
    python: PathBuf,
    /// The script that trains with plain PyTorch and prints `tokens_per_s`, such as `torch_baseline.py`
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// Sizes of a model and its batch.
struct Case {
    name: &'static str,
    vocab: u32,
    width: u32,
    heads: u32,
    layers: u32,
    context: u32,
    batch: u32,
    /// Whether plain PyTorch is measured beside it.
    beside: bool,
}

const CASES: [Case; 3] = [
    Case { name: "shakespeare", vocab: 256, width: 128, heads: 4, layers: 4, context: 64, batch: 12, beside: true },
    Case {
        name: "vocabulary 10,000",
        vocab: 10_000,
        width: 256,
        heads: 4,
        layers: 2,
        context: 128,
        batch: 16,
        beside: true,
    },
    Case { name: "small", vocab: 10_000, width: 256, heads: 4, layers: 2, context: 512, batch: 4, beside: false },
];

/// What `engine/examples/speed.rs` prints.
#[derive(Deserialize)]
struct Ours {
    tokens_per_s: f64,
    flops_per_token: f64,
    peak_flops: f64,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new("train");
    report.fact("threads", THREADS);
    for case in &CASES {
        let (mut ours, mut theirs, mut peaks, mut flops) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for _ in 0..TURNS {
            let measured: Ours = example(repo, ("hydra-engine", "speed"), "", our_arguments(case, options))?;
            ours.push(measured.tokens_per_s);
            peaks.push(measured.peak_flops);
            flops = measured.flops_per_token;
            if case.beside {
                let arguments = their_arguments(case, options);
                let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
                let printed = model::python(&options.python, &arguments)?;
                theirs.push(printed["tokens_per_s"].as_f64().context("the baseline prints tokens_per_s")?);
            }
        }
        let (name, middle) = (case.name, percentile(&ours, 0.5));
        report.row(format!("{name}: tokens"), middle, "/s", None);
        if case.beside {
            let theirs = percentile(&theirs, 0.5);
            report.row(format!("{name}: plain PyTorch"), theirs, "/s", None);
            report.row(format!("{name}: against PyTorch"), middle / theirs, "×", Some(Bar::AtLeast(1.2)));
        }
        let used = 100.0 * middle * flops / percentile(&peaks, 0.5);
        let bar = (name == "small").then_some(Bar::AtLeast(65.0));
        report.row(format!("{name}: of the matrix-product peak"), used, "%", bar);
        report.row(format!("{name}: the peak"), percentile(&peaks, 0.5) / 1e9, "GFLOP/s", None);
    }
    Ok(report)
}

fn our_arguments(case: &Case, options: &Options) -> Vec<OsString> {
    let Case { vocab, width, heads, layers, context, batch, .. } = *case;
    let sizes = [vocab, width, heads, layers, context, batch].map(|size| size.to_string().into());
    let flags = ["--peak".into(), "--threads".into(), THREADS.to_string().into(), "--seconds".into()];
    sizes.into_iter().chain(flags).chain([options.seconds.to_string().into()]).collect()
}

fn their_arguments(case: &Case, options: &Options) -> Vec<OsString> {
    let Case { vocab, width, heads, layers, context, batch, .. } = *case;
    let mut arguments = vec![options.baseline.clone().into_os_string(), "speed".into()];
    let numbers = [
        ("--vocab", vocab),
        ("--width", width),
        ("--heads", heads),
        ("--layers", layers),
        ("--context", context),
        ("--batch", batch),
        ("--threads", THREADS),
        ("--seconds", options.seconds),
    ];
    arguments.extend(numbers.into_iter().flat_map(|(flag, number)| [flag.into(), number.to_string().into()]));
    arguments
}
