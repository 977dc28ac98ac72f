//! `cargo xtask bench generate`: how fast an exported model answers, beside Python's `transformers`.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::model::{self, Options};
use super::{Bar, Report, example, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

/// Tokens drawn for each stream.
const NEW: usize = 128;

/// Streams at once.
const STREAMS: usize = 16;

/// How often one stream and many take turns.
const TURNS: usize = 5;

/// What `engine/examples/generate.rs` prints.
#[derive(Deserialize)]
struct Ours {
    tokens: Vec<u16>,
    flops_per_token: f64,
    load_s: f64,
    first_s: Vec<f64>,
    seconds: Vec<f64>,
}

impl Ours {
    /// Another turn of the same.
    fn add(&mut self, turn: Self) {
        self.first_s.extend(turn.first_s);
        self.seconds.extend(turn.seconds);
    }
}

/// What `engine/examples/speed.rs` prints besides.
#[derive(Deserialize)]
struct Machine {
    peak_flops: f64,
}

/// What `docs/examples/generate_speed.py` prints.
#[derive(Deserialize)]
struct Theirs {
    tokens: Vec<u16>,
    seconds: Vec<f64>,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let folder = options.folder(repo)?;
    // Words of the primer's kind; which ones hardly matters, all sides read the same.
    let prompt: Vec<u16> = (0..16).map(|i| 300 + 17 * i).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // As many as the coordinator answers with on two cores.
    let threads = cores.min(2);
    let ours = |streams: usize, threads: usize, sampling: &str| -> Result<Ours, Failure> {
        let text = |number: usize| OsString::from(number.to_string());
        let numbers = [streams, threads, NEW].map(text).into_iter().chain([sampling.into()]);
        let tokens = prompt.iter().map(|&token| text(usize::from(token)));
        let arguments = std::iter::once(folder.clone().into_os_string()).chain(numbers).chain(tokens);
        example(repo, ("hydra-engine", "generate"), "", arguments)
    };
    // In turns: a shared machine is faster at one time than at another.
    let cases = [
        (1, threads, "greedy"),
        (1, 1, "greedy"),
        (STREAMS, threads, "greedy"),
        (1, threads, "default"),
        (STREAMS, threads, "default"),
    ];
    let turn = || cases.iter().map(|(streams, threads, sampling)| ours(*streams, *threads, sampling));
    let mut runs = turn().collect::<Result<Vec<_>, _>>()?;
    for _ in 1..TURNS {
        for (run, again) in runs.iter_mut().zip(turn()) {
            run.add(again?);
        }
    }
    let [one, alone, many, usual, many_usual] = runs.as_slice() else { unreachable!("as many as there are cases") };
    let threads_flag = threads.to_string();
    let flags = ["--peak", "--seconds", "1", "--threads", &threads_flag].map(OsString::from);
    let machine: Machine = example(repo, ("hydra-engine", "speed"), "", flags)?;
    let theirs = [1, cores].map(|threads| transformers(repo, options, &folder, threads, &prompt));
    let [single, all] = theirs;
    let (single, all) = (single?, all?);

    let mut report = Report::new("generate");
    report.fact("model", folder.display().to_string());
    report.fact("prompt_tokens", prompt.len());
    report.fact("new_tokens", NEW);
    let speed = |seconds: &[f64], streams: usize| (streams * NEW) as f64 / percentile(seconds, 0.5);
    let (quick, single_thread) = (speed(&one.seconds, 1), speed(&alone.seconds, 1));
    let together = speed(&many.seconds, STREAMS);
    // transformers at its better number of threads.
    let best = speed(&single.seconds, 1).max(speed(&all.seconds, 1));
    report.row("transformers_one_stream", best, "tokens/s", None);
    report.row("one_stream", quick, "tokens/s", None);
    report.row("one_stream_against_transformers", quick / best, "×", Some(Bar::AtLeast(3.0)));
    let tokens = [&alone.tokens, &many.tokens, &single.tokens, &all.tokens];
    let same = tokens.into_iter().all(|tokens| *tokens == one.tokens) && usual.tokens == many_usual.tokens;
    report.row("same_tokens", f64::from(same), "", Some(Bar::AtLeast(1.0)));
    report.row("one_stream_on_one_thread", single_thread, "tokens/s", None);
    report.row("one_stream_default_sampling", speed(&usual.seconds, 1), "tokens/s", None);
    report.row("sixteen_streams", together, "tokens/s", None);
    report.row("sixteen_streams_default_sampling", speed(&many_usual.seconds, STREAMS), "tokens/s", None);
    report.row("sixteen_against_one", together / quick, "×", Some(Bar::AtLeast(5.0)));
    // Where one stream alone takes more than a fifth of the machine's arithmetic, the bar cannot be cleared.
    let most = machine.peak_flops / many.flops_per_token;
    report.row("arithmetic_against_one", most / quick, "×", None);
    report.row("sixteen_of_arithmetic", 100.0 * together / most, "%", None);
    report.row("sixteen_against_one_on_one_thread", together / single_thread, "×", None);
    report.row("threads", threads as f64, "", None);
    report.row("first_token", 1e3 * percentile(&one.first_s, 0.5), "ms", None);
    report.row("lay_out_weights", 1e3 * one.load_s, "ms", None);
    // At most: a thread that helps sleeps where there is nothing to do.
    let spent = threads as f64 * percentile(&one.seconds, 0.5);
    report.row("processor_time_of_128_tokens", spent, "s", Some(Bar::Below(0.5)));
    Ok(report)
}

fn transformers(
    repo: &Repo,
    options: &Options,
    folder: &Path,
    threads: usize,
    prompt: &[u16],
) -> Result<Theirs, Failure> {
    let script = repo.root.join("docs/examples/generate_speed.py");
    let numbers = [NEW, threads].into_iter().chain(prompt.iter().map(|&token| usize::from(token)));
    let numbers: Vec<OsString> = numbers.map(|number| number.to_string().into()).collect();
    let mut arguments = vec![script.as_os_str(), folder.as_os_str()];
    arguments.extend(numbers.iter().map(OsString::as_os_str));
    let printed = model::python(&options.python, &arguments)?;
    Ok(serde_json::from_value(printed).context("reading what Python printed")?)
}
