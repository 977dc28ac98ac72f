//! Many sessions with one coordinator, from another process: memory a session, and how long a push takes beside a
//! bare one. `sessions COORDINATOR-PROGRAM SESSIONS WORKERS`; prints a JSON object. For `cargo xtask bench sessions`.
//!
//! Three processes: the coordinator; this one, which holds all the clients; and `sessions bare`, which pushes frames
//! of 256 bytes at the pace of the coordinator's tasks and does nothing else. Clients are plain WebSockets with a real
//! handshake, so that arrival is measured where the socket gives the frame out. All three read the same clock.

#[path = "sessions/bare.rs"]
mod bare;
#[path = "sessions/client.rs"]
mod client;
#[path = "sessions/coordinator.rs"]
mod coordinator;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::task::JoinSet;

use coordinator::Coordinator;

/// Between two tasks, and between two bare pushes.
pub const PACE_MS: u64 = 20;
/// Sessions that are opened at one time.
const AT_ONCE: usize = 64;
/// Sessions before the first look at the memory, so that what every run needs once is not counted.
const WARM: usize = 50;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["bare", sessions, pushes] => bare::serve(sessions.parse()?, pushes.parse()?).await,
            [program, sessions, workers] => measure(program.as_ref(), sessions.parse()?, workers.parse()?).await,
            _ => bail!("sessions COORDINATOR-PROGRAM SESSIONS WORKERS"),
        }
    })
}

async fn measure(program: &Path, sessions: usize, workers: usize) -> anyhow::Result<()> {
    let mut coordinator = Coordinator::start(program).await?;
    let url = coordinator.url();
    let mut idle = open(WARM, |n| client::chat(url.clone(), n)).await?;
    let before = coordinator.memory()?;
    idle.extend(open(sessions, |n| client::chat(url.clone(), WARM + n)).await?);
    let open_memory = coordinator.memory()?;

    // Workers that take one task each; the first ones find tasks waiting, the others wait for tasks.
    let taking = open(workers, |n| client::worker(url.clone(), n)).await?;
    let worker_memory = coordinator.memory()?;
    let joined = client::now_us();
    let mut arrivals = Vec::new();
    let mut tasks: JoinSet<_> = taking.into_iter().map(client::task).collect();
    while let Some(arrived) = tasks.join_next().await {
        let (task, at, kept) = arrived??;
        arrivals.push((task, at));
        idle.push(kept);
    }
    let (pushed_us, taken_us) = coordinator.waits(&arrivals, joined).await?;
    drop(idle);
    coordinator.stop().await?;

    let bare_us = bare::measure(sessions + WARM, workers).await?;
    let share = |from: u64, to: u64, of: usize| to.saturating_sub(from) as f64 / of as f64 / 1024.0;
    println!(
        "{}",
        json!({
            "session_kib": share(before, open_memory, sessions),
            "worker_kib": share(open_memory, worker_memory, workers),
            "resident_mib": open_memory as f64 / f64::from(1 << 20),
            "push_us": pushed_us,
            "taken_us": taken_us,
            "bare_us": bare_us,
        })
    );
    Ok(())
}

/// Opens `count` sessions, some at a time.
async fn open<F, S>(count: usize, session: impl Fn(usize) -> F) -> anyhow::Result<Vec<S>>
where
    F: Future<Output = anyhow::Result<S>> + Send + 'static,
    S: Send + 'static,
{
    let (mut all, mut opening) = (Vec::with_capacity(count), JoinSet::new());
    for n in 0..count {
        if opening.len() >= AT_ONCE {
            all.push(opening.join_next().await.context("some are opening")???);
        }
        opening.spawn(session(n));
    }
    while let Some(opened) = opening.join_next().await {
        all.push(opened??);
    }
    Ok(all)
}
