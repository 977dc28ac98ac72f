//! The worker: trains what the coordinator pushes and earns credits for it.
//!
//! [`driver`] carries out what the pure [`hydra_core::agent::Agent`] orders: messages go over a [`Line`], arithmetic
//! to the one [`compute`] thread, shards come from the [`cache`], and what the last updates
//! lacked waits in [`unsent`]. What happens is told to a [`driver::Sink`]: lines
//! and events ([`tell`]), or a [`screen`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod cache;
mod compute;
mod driver;
mod screen;
mod tell;
#[cfg(test)]
mod tests;
mod unsent;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use hydra_core::agent::{Agent, Event, Settings, Why};
use hydra_core::credits::Credits;
use hydra_core::ids::WorkerId;
use hydra_core::limits::LABEL_BYTES;
use hydra_engine::EngineError;
use hydra_shell::address::Address;
use hydra_shell::client;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure, leave, report};
use hydra_shell::keys::{self, ConfigDir, Identity};
use hydra_shell::link::LinkStats;
use hydra_shell::logs::{self, Logs, Ring};
use hydra_shell::signals::{Signals, Stop};
use hydra_shell::terminal::is_interactive;
use hydra_shell::ui::Theme;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::args::Args;
use crate::cache::Cache;
use crate::compute::{Report, Thread};
use crate::driver::{Driver, News, Request, Sink};
use crate::screen::{Facts, Feed, Msg, Screen};
use crate::tell::Teller;
use crate::unsent::Unsent;
use hydra_shell::client::line::Line;

/// For the compute thread to come to an end with a program that is stopped at once: it gives a step up after a layer, and
/// stores what its updates lacked.
const LAST_STEP: Duration = Duration::from_secs(5);
/// The same with one that has time: what the updates lacked may be gigabytes, and the disk slow. Whoever stops it at once
/// meanwhile is heard by [`hydra_shell::signals`].
const LAST_WRITE: Duration = Duration::from_mins(1);
/// Requests that may wait for the work.
const REQUESTS: usize = 16;

/// The command line, for completions and man pages.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// The program.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let mut busy = false;
    let ended = start(&args, &mut busy);
    if busy {
        // libtorch must not be taken down under its last step.
        leave(ended);
    }
    report(ended)
}

/// Works; `busy` is set if a thread is left in libtorch.
fn start(args: &Args, busy: &mut bool) -> anyhow::Result<()> {
    let screen = !args.headless && !args.json && is_interactive();
    let logs = logs::init(&logs::LogOptions { file: args.log_file.clone(), stderr: !screen })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The session lives on this one thread, so that its pings go on while the main thread waits for a slow reader
        // of standard output.
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let ended = work(args, screen, &logs, &runtime, busy);
    // A resolver that does not answer is not waited for; whatever must be written is written.
    runtime.shutdown_background();
    logs.end(&ended);
    ended
}

fn work(args: &Args, screen: bool, logs: &Logs, runtime: &Runtime, busy: &mut bool) -> anyhow::Result<()> {
    // Before the device is opened: every end after that is told by an event, and this one would end it without.
    let work = Work::new(args, identity(args)?);
    let events = work.events.clone();
    let threads = args.threads.map(|threads| at_most(usize::from(threads), cores()));
    let Thread { commands, mut reports, handle } =
        compute::start(args.device, threads, Unsent::find()).context("starting the compute thread")?;
    runtime.block_on(async {
        let ended = if screen {
            work.with_screen(args, logs.ring.clone(), commands, &mut reports).await
        } else {
            work.without_screen(args, commands, &mut reports).await
        };
        // The thread ends when it has nothing more to report; what its last updates lacked is on disk then.
        let rest = async { while reports.recv().await.is_some() {} };
        *busy = tokio::time::timeout(patience(&ended), rest).await.is_err();
        if *busy {
            tracing::warn!("the compute thread does not end: what the last updates lacked is lost");
        } else if handle.join().is_err() {
            anyhow::bail!("the compute thread has panicked");
        }
        ended?;
        Ok(events.whole()?)
    })
}

/// How long the compute thread is waited for after such an end.
fn patience(ended: &anyhow::Result<()>) -> Duration {
    let failure = ended.as_ref().err().and_then(|error| error.downcast_ref::<Failure>());
    if failure.is_some_and(|failure| failure.exit == Exit::Interrupted) { LAST_STEP } else { LAST_WRITE }
}

/// What the work and whoever shows it share.
struct Work {
    events: Events,
    clock: Clock,
    stats: Arc<LinkStats>,
    coordinator: Address,
    identity: Identity,
}

impl Work {
    fn new(args: &Args, identity: Identity) -> Self {
        Self {
            identity,
            events: Events::with_log(args.json, args.log_file.is_some()),
            clock: Clock::start(),
            stats: Arc::default(),
            coordinator: args.coordinator.clone(),
        }
    }

    /// Lines for people, or only log lines where there is a screen instead.
    fn teller(&self) -> Teller {
        Teller::new(self.events.clone(), self.clock, self.coordinator.to_string())
    }

    async fn without_screen(
        self,
        args: &Args,
        commands: mpsc::UnboundedSender<compute::Command>,
        reports: &mut mpsc::Receiver<Report>,
    ) -> anyhow::Result<()> {
        let (sender, mut requests) = mpsc::channel(REQUESTS);
        listen(Some(self.events.clone()), args.headless || args.json || !is_interactive(), sender)?;
        let teller = self.teller();
        self.run(args, commands, reports, &mut requests, teller, |_| {}).await
    }

    /// Work and screen side by side; the work goes on if the screen is lost.
    async fn with_screen(
        self,
        args: &Args,
        ring: Ring,
        commands: mpsc::UnboundedSender<compute::Command>,
        reports: &mut mpsc::Receiver<Report>,
    ) -> anyhow::Result<()> {
        let (sender, mut requests) = mpsc::channel(REQUESTS);
        // Besides the screen's own, so that a closed terminal ends the work cleanly even if the screen goes first.
        listen(None, false, sender.clone())?;
        let (feed, messages) = mpsc::channel(screen::WAITING);
        let facts = Facts {
            user: args.user.as_ref().map(ToString::to_string),
            coordinator: self.coordinator.to_string(),
            theme: Theme::detect(),
            ring,
            started: self.clock.now(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let mut model = Screen::new(facts);
        let watch = tokio::spawn(screen::watch(feed.clone(), self.stats.clone()));
        let sink = Feed::new(feed.clone(), self.teller());
        let last = sink.last_word();
        let work = async {
            let say = |msg| drop(feed.try_send(msg));
            let ended = self.run(args, commands, reports, &mut requests, sink, say).await;
            // A screen that is gone need not be told.
            let _ = feed.send(Msg::Ended).await;
            ended
        };
        let shown = async {
            if let Some(why) = screen::show(&mut model, self.clock, messages, sender).await {
                self.events.caution(&why);
            }
        };
        let (ended, ()) = tokio::join!(work, shown);
        watch.abort();
        // The screen is gone; how it went stays to be read.
        if let Some(line) = last.get() {
            self.events.say(line);
        }
        ended
    }

    async fn run<S: Sink>(
        &self,
        args: &Args,
        commands: mpsc::UnboundedSender<compute::Command>,
        reports: &mut mpsc::Receiver<Report>,
        requests: &mut mpsc::Receiver<Request>,
        mut sink: S,
        say: impl Fn(Msg),
    ) -> anyhow::Result<()> {
        let opened = loop {
            tokio::select! {
                opened = reports.recv() => break opened,
                // Nothing has begun that would be worth finishing.
                Some(request) = requests.recv() => if matches!(request, Request::Finish | Request::Stop) {
                    let reason = if request == Request::Stop { Why::AtOnce } else { Why::Asked };
                    sink.show(&Event::Stopped { reason, tasks: 0, earned: Credits::ZERO, balance: Credits::ZERO, unanswered: 0, undelivered: 0 });
                    let text = "interrupted before the device was open; no task was begun";
                    return Err(Failure::new(Exit::Interrupted, text).into());
                },
            }
        };
        let (device, threads) = match opened {
            Some(Report::Opened { device, threads }) => (device, threads),
            Some(Report::Unopened(error @ EngineError::NoDevice { .. })) => {
                return Err(Failure::new(Exit::NoDevice, error.to_string()).into());
            }
            Some(Report::Unopened(error)) => return Err(error.into()),
            _ => anyhow::bail!("the compute thread has ended before it began"),
        };
        say(Msg::News(News::Device { device: device.clone(), threads }));
        let settings = settings(args, &self.identity, &device)?;
        say(Msg::User(settings.user.to_string()));
        let (address, stats) = (self.coordinator.clone(), self.stats.clone());
        let dial = move || {
            let (address, stats) = (address.clone(), stats.clone());
            async move { client::connect(&address, stats).await }
        };
        let agent = Agent::new(self.clock.now(), settings);
        let remember = self.identity.remember.clone();
        let line = Line::new(dial).on_first_greeting(move || remember.keep());
        let driver = Driver::new(agent, line, self.clock, Cache::find(), commands, sink);
        driver.run(reports, requests).await
    }
}

fn identity(args: &Args) -> Result<Identity, Failure> {
    // With name and key both given no folder is needed.
    let folder = if args.user.is_some() && args.key.is_some() { ConfigDir::at("") } else { ConfigDir::find()? };
    folder.identity(args.user.clone(), args.key.as_deref())
}

fn settings(args: &Args, identity: &Identity, device: &str) -> anyhow::Result<Settings> {
    Ok(Settings {
        user: identity.user.clone(),
        key: identity.key.clone(),
        worker: WorkerId(keys::random()?),
        device: device[..device.floor_char_boundary(LABEL_BYTES)].to_owned(),
        agent: concat!("hydra-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
        tasks: args.tasks,
        pause: args.pause,
        seed: u64::from_le_bytes(keys::random()?),
    })
}

/// Passes on what signals ask for. With `events`, also that a reader of standard output left, and says what happens.
fn listen(events: Option<Events>, headless: bool, sender: mpsc::Sender<Request>) -> anyhow::Result<()> {
    let mut signals = Signals::listen(headless).context("listening for signals")?;
    tokio::spawn(async move {
        let mut read = events.is_some();
        loop {
            let request = tokio::select! {
                stop = signals.next() => match stop {
                    Stop::Cleanly => {
                        if let Some(events) = &events {
                            events.say("leaving once no task is in hand (Ctrl-C again stops at once)");
                        }
                        Request::Finish
                    }
                    Stop::AtOnce => Request::Stop,
                },
                () = gone(events.as_ref()), if read => {
                    read = false;
                    Request::Finish
                }
            };
            if sender.send(request).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn gone(events: Option<&Events>) {
    match events {
        Some(events) => events.gone().await,
        None => std::future::pending().await,
    }
}

/// CPU cores that this program may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// So many of the machine's cores as are wanted. More threads than cores would only wait for each other, and the
/// operator would see a machine that is not there.
fn at_most(wanted: usize, cores: usize) -> usize {
    if wanted > cores {
        tracing::warn!(wanted, cores, "--threads asks for more than this machine has: all of it is used");
    }
    wanted.min(cores)
}
