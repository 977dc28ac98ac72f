//! `cargo xtask bench sessions`: what an idle session costs the coordinator, and how long a task takes to reach a
//! worker beside a bare push.

use anyhow::Context;
use serde::Deserialize;

use super::{Bar, Report, example, report::percentile};
use crate::failure::Failure;
use crate::repo::Repo;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Idle chats, for the memory
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=8000))]
    sessions: u32,
    /// Workers that wait for a task, besides
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(100..=1000))]
    workers: u32,
}

/// What `shell/examples/sessions.rs` prints.
#[derive(Deserialize)]
struct Measured {
    session_kib: f64,
    worker_kib: f64,
    resident_mib: f64,
    push_us: Vec<f64>,
    taken_us: Vec<f64>,
    bare_us: Vec<f64>,
}

/// Measures.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let package = ["build", "--release", "--locked", "--package", "hydra-coordinator", "--bins"];
    if !repo.cargo().args(package).status().context("cargo could not be started")?.success() {
        return Err(Failure::Build);
    }
    let program = repo.target()?.join("release/hydra-coordinator-engine").into_os_string();
    let counts = [options.sessions, options.workers].map(|count| count.to_string().into());
    let arguments = [program].into_iter().chain(counts);
    let measured: Measured = example(repo, ("hydra-shell", "sessions"), "", arguments)?;
    let mut report = Report::new("sessions");
    report.fact("sessions", options.sessions);
    report.fact("pushes", measured.push_us.len());
    report.row("memory_a_session", measured.session_kib, "KiB", Some(Bar::Below(40.0)));
    report.row("memory_a_worker", measured.worker_kib, "KiB", None);
    report.row("resident", measured.resident_mib, "MiB", None);
    let half = |waits: &[f64]| percentile(waits, 0.5);
    report.row("push_p50", half(&measured.push_us), "µs", None);
    report.row("push_p99", percentile(&measured.push_us, 0.99), "µs", None);
    report.row("push_until_the_system_has_it_p50", half(&measured.taken_us), "µs", None);
    report.row("bare_push_p50", half(&measured.bare_us), "µs", None);
    report.row("bare_push_p99", percentile(&measured.bare_us, 0.99), "µs", None);
    let ratio = half(&measured.push_us) / half(&measured.bare_us);
    report.row("push_p50_to_bare", ratio, "×", Some(Bar::Below(1.5)));
    Ok(report)
}
