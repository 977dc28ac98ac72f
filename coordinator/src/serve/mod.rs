//! Serving: brings a run up from its folder, starts its threads and sockets, drives the hub until it stops, and
//! takes everything down again.
//!
//! Threads: the driver (asynchronous: hub and sockets), the ledger's writer, the learner, the evaluator, and the
//! answers'. Only the last three touch large vectors; the learner (to see what updates do) and the evaluator use
//! libtorch.

mod answers;
mod begun;
mod board;
mod drawn;
mod driver;
pub mod eval;
mod gate;
mod http;
pub mod learner;
mod listen;
mod metrics;
mod note;
mod openai;
pub mod run;
mod sampler;
mod samples;
pub mod served;
mod sessions;
pub mod settings;
mod watch;

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hydra_config::Settings;
use hydra_core::ids::VersionNo;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::logs::{self, Ring};
use hydra_shell::signals::{Signals, Stop};
use hydra_shell::terminal::is_interactive;
use hydra_shell::ui::text::count;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use self::begun::{Begun, Threads};
use self::drawn::Drawn;
use self::driver::Ended;
use self::eval::Score;
use self::gate::{Gate, Room};
use crate::args::Args;
use crate::data;
use crate::pretrained::Pretrained;
use crate::screen::Channels;
use crate::store::{Reader, RunLock, Writer};

/// Inputs that wait for the driver; beyond them sockets are not read.
const INPUTS: usize = 1024;
/// Open files besides connections: the ledger, versions, libraries.
const SPARE_FILES: u64 = 64;
/// A version is told of at the end whose loss is below this share of the last one's: less is chance.
const CLEARLY_BETTER: f64 = 0.98;
/// Between two times that measured times are gathered into their histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// The first and the last event; the hub's own lie between them.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Ready {
        addr: String,
        run: String,
        params: usize,
        vocab: u32,
        train_tokens: u64,
        val_tokens: usize,
        version: u64,
    },
    Stopped {
        reason: &'a str,
        tasks: u64,
        tokens: u64,
        version: u64,
        /// The version that was measured last, the newest or one before it.
        val_version: Option<u64>,
        val_loss: Option<f64>,
        val_bits_per_byte: Option<f64>,
        /// Whether the average up to that version was measured, since it is better; nobody knows of a run that was over
        /// before this start.
        averaged: Option<bool>,
    },
}

/// `hydra-coordinator [serve]`.
pub fn serve(args: &Args) -> anyhow::Result<()> {
    // What has begun does not need the model any more, and its folder may be gone.
    let own = if args.serve.init.is_some() { has_begun_whole(&settings::run_dir(args)?) } else { None };
    let idle_model = own.is_some();
    let init = args.serve.init.as_deref().filter(|_| !idle_model).map(Pretrained::open).transpose()?;
    let resolved = settings::gather(args, own.or_else(|| init.as_ref().map(Pretrained::given)))?;
    if args.serve.print_config {
        // A mistyped HYDRA_LOG is told of here, too.
        let _logs = logs::init(&logs::LogOptions { file: None, stderr: true })?;
        // A stream that is closed loses words that are beside the point.
        resolved.warnings.iter().for_each(|text| drop(writeln!(io::stderr(), "warning: {text}")));
        return settings::print(&resolved, io::stdout().lock());
    }
    let screen = !args.serve.headless && !args.json && is_interactive();
    let logs = logs::init(&logs::LogOptions { file: args.serve.log_file.clone(), stderr: !screen })?;
    resolved.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let events = Events::with_log(args.json, args.serve.log_file.is_some());
    if let Some((told, asked)) = settings::idle_texts(&resolved)
        && data::is_prepared(&resolved.settings.run_dir)
    {
        if asked { events.caution(&told) } else { events.say(&told) }
    }
    if idle_model {
        events.caution(run::IDLE_MODEL);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let log = screen.then(|| logs.ring.clone());
    let ended = runtime.block_on(serve_with(resolved.settings, init, events.clone(), log));
    let ended = ended.and_then(|()| Ok(events.whole()?));
    // A thread that is in the middle of long work is not waited for.
    runtime.shutdown_background();
    logs.end(&ended);
    ended
}

/// What a run has begun with, if it has all that a model to begin from would give it: sizes, tokenizer and weights, as far
/// as that can be seen from outside.
fn has_begun_whole(run: &Path) -> Option<settings::Given> {
    let status = Reader::open(run).and_then(|reader| reader.status()).ok()?;
    let tokenizer = data::is_prepared(run) || run.join(data::TOKENIZER).exists();
    let begun = settings::Begun::read(run).ok()?.filter(|_| tokenizer && status.version.is_some());
    begun.map(|begun| begun.given())
}

/// Serves; with a screen if there is a log for it.
async fn serve_with(
    settings: Settings,
    init: Option<Pretrained>,
    events: Events,
    log: Option<Ring>,
) -> anyhow::Result<()> {
    // Without a screen it stays when a terminal is closed, whether it was told to be headless or has no terminal.
    let signals = Signals::listen(log.is_none()).context("listening for signals")?;
    let signals = Arc::new(Mutex::new(signals));
    // First of all, so that a second coordinator is told at once and not after minutes of preparation.
    let listener = bind(&settings.listen).await?;
    let addr = listener.local_addr().context("reading the address listened on")?;
    let prepared = {
        let (settings, events) = (settings.clone(), events.clone());
        let opening = tokio::task::spawn_blocking(move || run::open(&settings, init.as_ref(), &events));
        // Nothing is lost by stopping here: what is prepared is kept only when it is whole.
        unless_stopped(&signals, opening, "stopped while the run was opened").await.context("opening the run")??
    };
    let metrics = metrics::install()?;
    // Without it every measured time would be kept until somebody asks.
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(METRICS_UPKEEP);
        loop {
            every.tick().await;
            upkeep.run_upkeep();
        }
    });
    let clock = Clock::start();
    let channels = log.map(|ring| (ring, Channels::new()));
    let (drawn, watch) = channels.map(|(ring, Channels { run, screen })| ((ring, screen), run)).unzip();
    let begun = Begun::start(&settings, prepared, clock, events.clone(), watch)?;
    let Begun { driver, inputs, rim, board, ready: info, threads } = begun;
    if !addr.ip().is_loopback() {
        events.say(
            "listening beyond this machine without encryption: every client proves its key, but whoever sits on the way \
             can read prompts, answers and weights and meddle with an open session; put a TLS proxy in front \
             (docs/operations.md)",
        );
    }
    let tracker = rim.tasks.clone();
    let data = info.data.clone();
    let desk = Arc::new(openai::Desk {
        inputs: rim.inputs.clone(),
        next: rim.next.clone(),
        tasks: rim.tasks.clone(),
        template: settings.answers.template.clone(),
        count: Arc::new(move |text| data.tokenizer.encode(text).len()),
    });
    let welcome = Arc::new(move |socket, visitor| rim.welcome(socket, visitor));
    let doors = http::Doors { welcome, metrics, board };
    let router = http::router(doors).merge(openai::router(desk));
    let server = tokio::spawn(listen::serve(listener, router, gate(&settings)));
    let (params, version) = (info.params, info.version);
    events.emit(&Event::Ready {
        addr: addr.to_string(),
        run: settings.run_dir.display().to_string(),
        params,
        vocab: info.vocab,
        train_tokens: info.train_tokens,
        val_tokens: info.val_tokens,
        version,
    });
    events.say(&if info.over {
        format!(
            "version {version}: this run has reached its goal before, and nothing more is trained; start it without \
             --stop-after-… and --stop-at-loss, or with larger numbers, to go on"
        )
    } else {
        format!(
            "ready on {addr}: version {version} of a model with {params} parameters and a vocabulary of {}; {} tokens \
             to train on, {} held out; join with `{}`",
            info.vocab,
            info.train_tokens,
            info.val_tokens,
            listen::join(addr, listen::own_address())
        )
    });
    let drawn = drawn.map(|(ring, ends)| Drawn::open(&settings, addr, ring, ends, clock, &events)).transpose()?;
    // A task of its own: on a thread of the runtime, what it sends is written by that same thread next, and no other
    // has to be woken for it.
    let ended = tokio::spawn(driver.run(inputs, signals.clone())).await;
    server.abort();
    if let Some(drawn) = drawn {
        drawn.close().await;
    }
    let ended = ended.context("serving")??;
    // Sessions say goodbye on their own tasks; a peer that does not listen is not waited for.
    tracker.close();
    let _ = tokio::time::timeout(Duration::from_secs(3), tracker.wait()).await;
    let Ended { reason, newest, tasks, tokens, scored, averaged, mut asked, writer } = ended;
    let closing = tokio::task::spawn_blocking(move || close(writer, threads));
    let lock = unless_at_once(&signals, &mut asked, closing).await.context("closing the ledger")??;
    let mut score = match scored {
        Some(score) => Some((score, Some(averaged))),
        // A run that was over before this start.
        None => last_known(&settings.run_dir).map(|score| (score, None)),
    };
    let mut of = "";
    // Who has asked for an end has waited for all that must be done.
    if reason != "drained" && !asked {
        events.say(&format!(
            "measuring version {} on all held-out text; Ctrl-C leaves it at what is known",
            newest.version
        ));
        let (last, run) = (newest.clone(), settings.run_dir.clone());
        let measuring = tokio::task::spawn_blocking(move || {
            // The average's file is still to be written: nobody else may begin here before.
            let _lock = lock;
            eval::measure_in_full(&run, &last, &info.data)
        });
        let mut signals = signals.lock().await;
        tokio::select! {
            full = measuring => {
                let (full, averaged) = full.context("measuring the last version")??;
                score = Some((full, Some(averaged)));
                of = " on all held-out text";
            }
            // All is on disk, and what was measured last is at hand.
            _ = signals.next() => {}
        }
    }
    events.emit(&Event::Stopped {
        reason,
        tasks,
        tokens,
        version: newest.version.0,
        val_version: score.map(|(score, _)| score.version.0),
        val_loss: score.map(|(score, _)| score.loss),
        val_bits_per_byte: score.map(|(score, _)| score.bits_per_byte),
        averaged: score.and_then(|(_, averaged)| averaged),
    });
    let measured = score.map_or_else(String::new, |(Score { version, loss, bits_per_byte }, averaged)| {
        let whose = match averaged {
            Some(true) => format!("; the average up to version {version} has"),
            _ if version == newest.version => ",".to_owned(),
            _ => format!("; version {version} has"),
        };
        format!("{whose} loss {loss:.4}, {bits_per_byte:.4} bits a byte{of}")
    });
    let why = match reason {
        "drained" => "as asked",
        "tasks" => "all its tasks are done",
        "tokens" => "all its tokens are trained",
        "rounds" => "all its rounds are done",
        "loss" => "the loss is reached",
        "credits" => "no further task can be paid, since all the credits that there can be are issued",
        other => other,
    };
    let tasks = count(tasks, "task", "tasks");
    events.say(&format!("stopped, {why}: version {} after {tasks}{measured}", newest.version));
    if matches!(reason, "tasks" | "tokens" | "rounds" | "loss") {
        events.say("whoever has credits can ask the model once it is started again without this end; workers need not be there");
    }
    // Every version is measured on the same part of the held-out text, so those losses can be compared.
    let last = scored.filter(|scored| scored.version == newest.version).map(|scored| scored.loss);
    let best = Reader::open(&settings.run_dir).and_then(|reader| reader.best_version());
    match (best, last) {
        (Ok(Some((best, loss))), Some(last)) if loss < last * CLEARLY_BETTER => {
            // Which of the two it was, nobody knows here. Its weights are gone, or soon will be.
            let end = if best > VersionNo(0) {
                format!(", or one that ends there (--stop-after-rounds {best})")
            } else {
                String::new()
            };
            events.say(&format!(
                "version {best} was better: loss {loss:.3}, not {last:.3}, on the part that each is measured on; if \
                 workers were away, they may help when they are back; if the text is memorised, what helps is a new run \
                 with more text{end}"
            ));
        }
        (Ok(_), _) => {}
        (Err(error), _) => tracing::warn!(%error, "the run's versions cannot be read"),
    }
    Ok(())
}

/// The newest score that the run's rows tell of.
fn last_known(run: &Path) -> Option<Score> {
    let status = Reader::open(run).and_then(|reader| reader.status());
    let status = status.inspect_err(|error| tracing::warn!(%error, "the run's state cannot be read")).ok()?;
    let (version, (loss, bits_per_byte)) = status.evaluated.zip(status.val_loss.zip(status.val_bits_per_byte))?;
    Some(Score { version, loss, bits_per_byte })
}

/// Waits for a thread's work, or for somebody who wants to stop.
async fn unless_stopped<T>(
    signals: &Mutex<Signals>,
    work: tokio::task::JoinHandle<T>,
    text: &'static str,
) -> anyhow::Result<T> {
    let mut signals = signals.lock().await;
    tokio::select! {
        done = work => Ok(done?),
        _ = signals.next() => Err(Failure::new(Exit::Interrupted, text).into()),
    }
}

/// Waits for a thread's work, or for somebody who does not want to wait even for what must be done: who asks for an end
/// when one was `asked` for already.
async fn unless_at_once<T>(
    signals: &Mutex<Signals>,
    asked: &mut bool,
    work: tokio::task::JoinHandle<T>,
) -> anyhow::Result<T> {
    let mut signals = signals.lock().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done?),
            stop = signals.next() => if std::mem::replace(asked, true) || stop == Stop::AtOnce {
                return Err(at_once());
            },
        }
    }
}

fn at_once() -> anyhow::Error {
    Failure::new(Exit::Interrupted, "stopped at once; what was acknowledged is on disk").into()
}

fn gate(settings: &Settings) -> Gate {
    let limits = &settings.limits;
    let room = Room { all: limits.connections as usize, host: limits.connections_per_host as usize };
    if let Some(files) = listen::raise_open_files()
        && files < u64::from(limits.connections) + SPARE_FILES
    {
        tracing::warn!(files, "the system allows fewer open files than limits.connections needs (ulimit -Hn)");
    }
    Gate::new(room)
}

/// Brings everything to disk and ends the threads.
fn close(writer: Writer, threads: Threads) -> anyhow::Result<RunLock> {
    let ended: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
    // Last, because it holds the folder's lock and the others write there.
    let lock = writer.shutdown().map_err(|error| crate::fail::store(&error))?;
    if ended.iter().any(Result::is_err) {
        anyhow::bail!("a thread of the coordinator panicked; the log above says where");
    }
    Ok(lock)
}

async fn bind(listen: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let failure = match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::new(Exit::AddressInUse, format!("{listen} is in use by another program"))
                    .hint("stop the other program, or choose another port (--listen 127.0.0.1:5001)")
            }
            io::ErrorKind::PermissionDenied => {
                Failure::new(Exit::Config, format!("this user may not listen on {listen}"))
                    .hint("choose a port above 1023 (--listen 127.0.0.1:5000)")
            }
            _ => Failure::new(Exit::Config, format!("cannot listen on {listen}: {error}"))
                .hint("give an address of this machine, such as --listen 127.0.0.1:5000"),
        };
        failure.into()
    })
}
