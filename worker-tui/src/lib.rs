//! The worker: trains what the coordinator pushes and earns credits for it.
//!
//! [`driver`] carries out what the pure [`hydra_core::agent::Agent`] orders: messages go over a [`line`], arithmetic
//! to the one [`compute`] thread, shards come from the [`cache`]. What happens is told to a [`driver::Sink`]: lines
//! and events ([`tell`]), or a screen.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod cache;
mod compute;
mod driver;
mod line;
mod tell;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use hydra_core::agent::{Agent, Settings};
use hydra_core::ids::WorkerId;
use hydra_core::limits::LABEL_BYTES;
use hydra_engine::EngineError;
use hydra_shell::client;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure, report};
use hydra_shell::keys::{self, ConfigDir};
use hydra_shell::link::LinkStats;
use hydra_shell::logs;
use hydra_shell::signals::{Signals, Stop};
use hydra_shell::terminal::is_interactive;
use tokio::sync::mpsc;

use crate::args::Args;
use crate::cache::Cache;
use crate::compute::{Report, Thread};
use crate::driver::{Driver, Request};
use crate::line::Line;
use crate::tell::Teller;

/// For the compute thread to finish its step when the program ends: libtorch must not be taken down under it.
const LAST_STEP: Duration = Duration::from_secs(5);

/// The program.
pub fn run() -> ExitCode {
    let args = Args::parse();
    report(start(&args))
}

fn start(args: &Args) -> anyhow::Result<()> {
    let _logs = logs::init(&logs::LogOptions { file: args.log_file.clone(), stderr: true })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The session lives on this one thread, so that its pings go on while the main thread waits for a slow reader
        // of standard output.
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let threads = args.threads.map(usize::from);
    let Thread { commands, mut reports, handle } =
        compute::start(args.device, threads).context("starting the compute thread")?;
    runtime.block_on(async {
        let ended = work(args, commands, &mut reports).await;
        // The thread ends when it has nothing more to report. libtorch must not be taken down under its last step.
        let rest = async { while reports.recv().await.is_some() {} };
        if tokio::time::timeout(LAST_STEP, rest).await.is_ok() && handle.join().is_err() {
            anyhow::bail!("the compute thread has panicked");
        }
        ended
    })
}

async fn work(
    args: &Args,
    commands: mpsc::UnboundedSender<compute::Command>,
    reports: &mut mpsc::Receiver<Report>,
) -> anyhow::Result<()> {
    let events = Events::stdout(args.json);
    let mut requests = listen(events.clone(), args.headless || args.json || !is_interactive())?;
    let opened = tokio::select! {
        opened = reports.recv() => opened,
        // Nothing has begun that would be worth finishing.
        Some(_) = requests.recv() => return Ok(()),
    };
    let device = match opened {
        Some(Report::Opened(device)) => device,
        Some(Report::Unopened(error @ EngineError::NoDevice { .. })) => {
            return Err(Failure::new(Exit::NoDevice, error.to_string()).into());
        }
        Some(Report::Unopened(error)) => return Err(error.into()),
        _ => anyhow::bail!("the compute thread has ended before it began"),
    };
    // With name and key both given no folder is needed.
    let folder = if args.user.is_some() && args.key.is_some() { ConfigDir::at("") } else { ConfigDir::find()? };
    let identity = folder.identity(args.user.clone(), args.key.as_deref())?;
    let settings = Settings {
        user: identity.user,
        key: identity.key,
        worker: WorkerId(keys::random()?),
        device: device[..device.floor_char_boundary(LABEL_BYTES)].to_owned(),
        agent: concat!("hydra-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
        tasks: args.tasks,
        pause: args.pause,
        seed: u64::from_le_bytes(keys::random()?),
    };
    let clock = Clock::start();
    let address = args.coordinator.clone();
    let stats = Arc::new(LinkStats::default());
    let dial = move || {
        let (address, stats) = (address.clone(), stats.clone());
        async move { client::connect(&address, stats).await }
    };
    let teller = Teller::new(events, clock, args.coordinator.to_string(), args.log_file.is_some());
    let agent = Agent::new(clock.now(), settings);
    let driver = Driver::new(agent, Line::new(dial), clock, Cache::find(), commands, teller);
    driver.run(reports, &mut requests).await
}

/// What signals, and a reader of standard output that left, ask for.
fn listen(events: Events, headless: bool) -> anyhow::Result<mpsc::Receiver<Request>> {
    let mut signals = Signals::listen(headless).context("listening for signals")?;
    let (sender, requests) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut read = true;
        loop {
            let request = tokio::select! {
                stop = signals.next() => match stop {
                    Stop::Cleanly => {
                        events.say("finishing the task in hand, then leaving (Ctrl-C again stops at once)");
                        Request::Finish
                    }
                    Stop::AtOnce => Request::Stop,
                },
                () = events.gone(), if read => {
                    read = false;
                    Request::Finish
                }
            };
            if sender.send(request).await.is_err() {
                return;
            }
        }
    });
    Ok(requests)
}
