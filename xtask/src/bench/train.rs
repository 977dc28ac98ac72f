//! `cargo xtask bench train`: training speed beside plain PyTorch on the same cores, and how much of the machine's
//! matrix-product speed it uses; with `--device cuda` the same on an NVIDIA card.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

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
    /// Compare with this script instead of the plain PyTorch model of xtask/src/bench/torch_cpu.py; it is called with
    /// `speed`, sizes, threads and seconds, and prints `tokens_per_s`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Measure on this card instead, such as cuda:0, beside plain PyTorch in bf16, as written and compiled
    #[arg(long, conflicts_with = "baseline")]
    device: Option<String>,
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

/// The presets' sizes and the batches of their tasks.
const ON_A_CARD: [Case; 3] = [
    Case { name: "small", vocab: 10_000, width: 256, heads: 4, layers: 2, context: 512, batch: 4, beside: true },
    Case { name: "base", vocab: 12_288, width: 512, heads: 8, layers: 8, context: 512, batch: 16, beside: true },
    Case { name: "large", vocab: 24_576, width: 768, heads: 12, layers: 12, context: 1024, batch: 16, beside: true },
];

/// Plain PyTorch on a CPU.
const TORCH_ON_A_CPU: &str = include_str!("torch_cpu.py");
/// Plain PyTorch on a card.
const TORCH_ON_A_CARD: &str = include_str!("torch_gpu.py");

/// What `engine/examples/speed.rs` prints.
#[derive(Deserialize)]
struct Ours {
    device: String,
    tokens_per_s: f64,
    flops_per_token: f64,
    peak_flops: f64,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    if let Some(device) = &options.device {
        return on_a_card(repo, options, device);
    }
    let mut report = Report::new("train");
    report.fact("threads", THREADS);
    let (script, own) = match &options.baseline {
        Some(script) => (script.clone(), false),
        None => (written("cpu", TORCH_ON_A_CPU)?, true),
    };
    for case in &CASES {
        let (mut ours, mut theirs, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
        // Within each turn: what was measured in the same seconds is compared, since the machine's speed wanders.
        let (mut ratios, mut used) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let measured: Ours = example(repo, ("hydra-engine", "speed"), "", our_arguments(case, options))?;
            ours.push(measured.tokens_per_s);
            peaks.push(measured.peak_flops);
            used.push(100.0 * measured.tokens_per_s * measured.flops_per_token / measured.peak_flops);
            if case.beside {
                let arguments = their_arguments(&script, case, options);
                let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
                let printed = model::python(&options.python, &arguments)?;
                let speed = printed["tokens_per_s"].as_f64().context("the baseline prints tokens_per_s")?;
                theirs.push(speed);
                ratios.push(measured.tokens_per_s / speed);
            }
        }
        let (name, middle) = (case.name, |numbers: &[f64]| percentile(numbers, 0.5));
        report.row(format!("{name}: tokens"), middle(&ours), "/s", None);
        if case.beside {
            report.row(format!("{name}: plain PyTorch"), middle(&theirs), "/s", None);
            report.row(format!("{name}: against PyTorch"), middle(&ratios), "×", Some(Bar::AtLeast(1.2)));
        }
        let bar = (name == "small").then_some(Bar::AtLeast(65.0));
        report.row(format!("{name}: of the matrix-product peak"), middle(&used), "%", bar);
        report.row(format!("{name}: the peak"), middle(&peaks) / 1e9, "GFLOP/s", None);
    }
    if own {
        // A leftover in the folder for such things harms nobody.
        let _ = std::fs::remove_file(script);
    }
    Ok(report)
}

fn on_a_card(repo: &Repo, options: &Options, device: &str) -> Result<Report, Failure> {
    let mut report = Report::new("train");
    let script = written("gpu", TORCH_ON_A_CARD)?;
    for case in &ON_A_CARD {
        let sizes = sizes(case).into_iter().map(OsString::from);
        let flags = ["--peak", "--device", device, "--seconds"].map(OsString::from);
        let arguments = sizes.chain(flags).chain([options.seconds.to_string().into()]);
        let measured: Ours = example(repo, ("hydra-engine", "speed"), "", arguments)?;
        report.fact("device", measured.device);
        let (name, ours) = (case.name, measured.tokens_per_s);
        report.row(format!("{name}: tokens"), ours, "/s", None);
        for (peer, flag) in [("plain PyTorch", None), ("torch.compile", Some("--compile"))] {
            let mut arguments = vec![script.clone().into_os_string()];
            arguments.extend(named_sizes(case, options));
            arguments.extend(["--device", device].map(OsString::from));
            arguments.extend(flag.map(OsString::from));
            let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
            let printed = model::python(&options.python, &arguments)?;
            let theirs = printed["tokens_per_s"].as_f64().context("the script prints tokens_per_s")?;
            report.row(format!("{name}: {peer}"), theirs, "/s", None);
            report.row(format!("{name}: against {peer}"), ours / theirs, "×", Some(Bar::AtLeast(1.0)));
        }
        let used = 100.0 * ours * measured.flops_per_token / measured.peak_flops;
        report.row(format!("{name}: of the matrix-product peak"), used, "%", None);
        report.row(format!("{name}: the peak"), measured.peak_flops / 1e12, "TFLOP/s", None);
    }
    // A leftover in the folder for such things harms nobody.
    let _ = std::fs::remove_file(script);
    Ok(report)
}

/// A script of ours as a file that Python can run.
fn written(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let script = std::env::temp_dir().join(format!("hydra-torch-{name}-{}.py", std::process::id()));
    std::fs::write(&script, text).with_context(|| format!("{} cannot be written", script.display()))?;
    Ok(script)
}

fn sizes(case: &Case) -> [String; 6] {
    let Case { vocab, width, heads, layers, context, batch, .. } = *case;
    [vocab, width, heads, layers, context, batch].map(|size| size.to_string())
}

fn our_arguments(case: &Case, options: &Options) -> Vec<OsString> {
    let flags = ["--peak".into(), "--threads".into(), THREADS.to_string().into(), "--seconds".into()];
    sizes(case).into_iter().map(OsString::from).chain(flags).chain([options.seconds.to_string().into()]).collect()
}

fn their_arguments(script: &Path, case: &Case, options: &Options) -> Vec<OsString> {
    // A script of the user's may know more than one thing to do; ours does this one.
    let what = options.baseline.as_ref().map(|_| "speed".into());
    let threads = ["--threads".into(), THREADS.to_string().into()];
    std::iter::once(script.into()).chain(what).chain(threads).chain(named_sizes(case, options)).collect()
}

/// As all of PyTorch's scripts want them.
fn named_sizes(case: &Case, options: &Options) -> Vec<OsString> {
    let names = ["--vocab", "--width", "--heads", "--layers", "--context", "--batch"];
    let named = names.into_iter().zip(sizes(case)).chain([("--seconds", options.seconds.to_string())]);
    named.flat_map(|(flag, number)| [flag.into(), number.into()]).collect()
}
