//! `cargo xtask bench ui`: what the screens cost, and how soon they answer.
//!
//! Drawing is timed in examples of the kit and of the coordinator; everything else with the real programs in pseudo-terminals. The time
//! from a key to its frame is that between writing the key to the terminal and having the whole frame that shows it,
//! so it includes this program's own reading.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hydra_pty::{Screen, Terminal};
use serde::Deserialize;

use super::report::percentile;
use super::{Bar, Report, example};
use crate::failure::Failure;
use crate::repo::Repo;
use crate::terminals::{Terminals, balance, stop};

/// The least time between two keys, as a quick typist has it.
const TYPING: Duration = Duration::from_millis(70);

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Frames to draw
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Keys to press in each program
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// How long to watch screens on which nothing changes
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Take the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What `shell/examples/draw.rs` prints.
#[derive(Deserialize)]
struct Drawn {
    chart_ms: Vec<f64>,
    table_ms: Vec<f64>,
}

/// What `coordinator/examples/pages.rs` prints.
#[derive(Deserialize)]
struct Pages {
    overview_ms: Vec<f64>,
    workers_ms: Vec<f64>,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new("ui");
    report.fact("size", "120x40");
    report.fact("workers", 5_000);
    report.fact("points", 1_000_000);
    let drawn: Drawn = example(repo, ("hydra-shell", "draw"), "", [options.frames.to_string()])?;
    let pages: Pages = example(repo, ("hydra-coordinator", "pages"), "", [options.frames.to_string()])?;
    for (name, times) in [
        ("draw_chart", &drawn.chart_ms),
        ("draw_table", &drawn.table_ms),
        ("draw_overview_page", &pages.overview_ms),
        ("draw_workers_page", &pages.workers_ms),
    ] {
        report.row(format!("{name}_p50"), percentile(times, 0.5), "ms", None);
        report.row(format!("{name}_p99"), percentile(times, 0.99), "ms", Some(Bar::Below(5.0)));
    }
    let mut stage = Terminals::new(repo, options.programs.as_deref())?;
    let coordinator = stage.coordinator((120, 40))?;
    idle(&mut report, &stage, &coordinator, Duration::from_secs(options.idle))?;
    keys(&mut report, &stage, options.keys)?;
    stop([coordinator])?;
    Ok(report)
}

/// A paused worker, a chat without a question, and a coordinator that has nobody to give work to.
fn idle(report: &mut Report, stage: &Terminals, coordinator: &Terminal, length: Duration) -> Result<()> {
    let mut worker = stage.worker("alice", (120, 40))?;
    worker.press("p")?;
    worker.wait_for("paused; p takes tasks again")?;
    let chat = stage.chat("alice", (120, 40))?;
    let programs = [("coordinator", coordinator), ("worker", &worker), ("chat", &chat)];
    let measure = || -> Result<Vec<(u64, f64)>> {
        programs.iter().map(|(_, terminal)| Ok((terminal.frames(), cpu_seconds(terminal)?))).collect()
    };
    let (begun, before) = (Instant::now(), measure()?);
    sleep(length);
    let (seconds, after) = (begun.elapsed().as_secs_f64(), measure()?);
    for ((name, _), (before, after)) in programs.iter().zip(before.into_iter().zip(after)) {
        let (frames, cpu) = ((after.0 - before.0) as f64 / seconds, (after.1 - before.1) / seconds);
        report.row(format!("idle_frames_{name}"), frames, "frames/s", Some(Bar::Below(30.0)));
        report.row(format!("idle_cpu_{name}"), cpu * 100.0, "% of a core", Some(Bar::Below(2.0)));
    }
    stop([chat, worker])
}

/// CPU time that a program has used so far, in all its threads.
fn cpu_seconds(terminal: &Terminal) -> Result<f64> {
    let path = format!("/proc/{}/stat", terminal.pid().as_raw_nonzero());
    let stat = std::fs::read_to_string(&path).context("CPU time can be measured on Linux alone")?;
    // The 14th and 15th field (proc_pid_stat(5)), in hundredths; the second one is a name that may hold anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
    let ticks = fields.and_then(|fields| fields.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>());
    Ok(ticks.with_context(|| format!("{path}: {stat}"))? as f64 / 100.0)
}

/// Two workers that train on all cores between them, and a chat beside them.
fn keys(report: &mut Report, stage: &Terminals, count: u32) -> Result<()> {
    let mut alice = stage.worker("alice", (120, 40))?;
    let bob = stage.worker("bob", (120, 40))?;
    for worker in [&alice, &bob] {
        worker.wait("a payment", |screen| balance(screen).filter(|balance| *balance >= 1.0))?;
    }
    let mut chat = stage.chat("alice", (120, 40))?;
    let typed = press(&mut chat, count, &["x", "y"], |screen, key| written(screen).ends_with(key))?;
    let helped =
        press(&mut alice, count, &["?", "esc"], |screen, key| screen.contents().contains("this help") == (key == "?"))?;
    for (name, times) in [("key_chat", typed), ("key_worker", helped)] {
        report.row(format!("{name}_p50"), percentile(&times, 0.5), "ms", None);
        report.row(format!("{name}_p99"), percentile(&times, 0.99), "ms", Some(Bar::Below(30.0)));
    }
    stop([chat, alice, bob])
}

/// Presses keys in turn; the milliseconds until `shows` each on the screen.
fn press(
    terminal: &mut Terminal,
    count: u32,
    keys: &[&str],
    shows: impl Fn(&Screen, &str) -> bool,
) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for (number, key) in (0..count).zip(keys.iter().cycle()) {
        // Not in step with anything that the programs do by the clock.
        sleep(TYPING + Duration::from_millis(u64::from(number * 7 % 23)));
        let sent = Instant::now();
        terminal.press(key)?;
        let ((), at) = terminal.wait("the key's frame", |screen| shows(screen, key).then_some(()))?;
        times.push(at.saturating_duration_since(sent).as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// What is written in the chat: the text in the box at the bottom.
fn written(screen: &Screen) -> String {
    let text = screen.contents();
    let inside = text.rsplit_once('╰').map_or("", |(before, _)| before.rsplit_once('╮').map_or("", |(_, box_)| box_));
    inside.trim_matches(|c: char| c.is_whitespace() || c == '│').to_owned()
}

#[cfg(test)]
mod tests {
    use hydra_pty::vt100::Parser;

    use super::*;

    #[test]
    fn the_box_at_the_bottom_is_what_is_written() {
        let mut parser = Parser::new(6, 30, 0);
        let screen = "alice\r\n╭ old ╮\r\n│ no  │\r\n╰─────╯\r\n╭ ▸ Message ──╮\r\n│› hello xy    │\r\n╰─────────────╯";
        parser.screen_mut().set_size(8, 30);
        parser.process(screen.as_bytes());
        assert_eq!(written(parser.screen()), "› hello xy");
    }
}
