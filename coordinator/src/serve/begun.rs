//! A run's threads: started together, each with a way to tell the driver what it did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use hydra_config::Settings;
use hydra_core::hub::rows::Lease;
use hydra_core::hub::{Fact, Hub};
use hydra_engine::{Device, DeviceChoice};
use hydra_shell::clock::{Clock, wall_ms};
use hydra_shell::events::Events;
use hydra_shell::link::{LinkStats, Pace};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::board::Board;
use super::driver::{Driver, Input, Stuck};
use super::run::{self, Run};
use super::sampler::{Audience, Sampler};
use super::samples::Samples;
use super::served::{Served, Source, Versions};
use super::sessions::{Rim, Uploads};
use super::watch::Watch;
use super::{INPUTS, answers, drawn, eval, learner};
use crate::average::Average;
use crate::data::Dataset;
use crate::screen::RunEnds;
use crate::store::Reader;

/// What a thread tells the driver with. Dropped by a panic, it tells that too: a run without one of its threads would
/// wait for ever for what that thread owes.
#[derive(Clone)]
struct Teller {
    sender: mpsc::Sender<Input>,
    thread: &'static str,
}

impl Teller {
    fn say(&self, input: Input) {
        // When the driver is gone the program is ending, and nobody asks any more.
        self.sender.blocking_send(input).ok();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say(Input::Panicked(self.thread));
        }
    }
}

pub type Threads = Vec<std::thread::JoinHandle<()>>;

/// What `ready` tells, and the data for the end.
pub struct Info {
    pub params: usize,
    pub vocab: u32,
    pub train_tokens: u64,
    pub val_tokens: usize,
    pub version: u64,
    /// Whether the run has reached one of its ends before.
    pub over: bool,
    pub data: Arc<Dataset>,
}

/// A run with its threads started.
pub struct Begun {
    pub driver: Driver,
    pub inputs: mpsc::Receiver<Input>,
    pub rim: Rim,
    pub board: Arc<Board>,
    pub ready: Info,
    pub threads: Threads,
}

impl Begun {
    pub fn start(
        settings: &Settings,
        run: Run,
        clock: Clock,
        events: Events,
        screen: Option<RunEnds>,
    ) -> anyhow::Result<Self> {
        let Run { shape, data, store, key, recovered, learner } = run;
        let (sender, inputs) = mpsc::channel(INPUTS);
        let weights = learner.checkpoint.weights.clone();
        let (version, digest) = (recovered.newest.version, recovered.newest.digest);
        let newest = Arc::new(Served::new(shape, version, digest, weights, None));
        let mut versions = Versions::default();
        versions.insert(newest.clone());
        let now = clock.now();
        let rules = run::rules(settings, shape, &data, wall_ms().saturating_sub(now.0 / 1000));
        // What was leased before with another codec is still welcome.
        let first = settings.rounds.codec.unwrap_or(run::AUTO_CODEC);
        let most = |most, lease: &Lease| lease.codec.max_len(shape.params()).max(most);
        let update_bytes = recovered.open.iter().fold(first.max_len(shape.params()), most) as u64;
        let hub = Hub::new(now, rules, key, recovered);

        let tell = |thread| {
            let teller = Teller { sender: sender.clone(), thread };
            move |input| teller.say(input)
        };
        let say = tell("ledger");
        let writer = store.spawn(move |saved| say(Input::Saved(saved))).map_err(|error| crate::fail::store(&error))?;
        let say = tell("learner");
        let (learner, learning) = learner
            .spawn(move |report| {
                say(match report {
                    learner::Report::Checked { lease, verdict } => Input::Fact(Fact::Checked { lease, verdict }),
                    learner::Report::Waiting(error) => Input::Stuck(error.to_string()),
                    learner::Report::Unwritten(error) => Input::Unwritten(error.to_string()),
                    learner::Report::Resumed => Input::Unstuck,
                    learner::Report::Merged(served) => Input::Merged(served),
                    learner::Report::MergeFailed { version, error } => Input::MergeFailed(version, error),
                });
            })
            .context("starting the learner")?;
        // One thread: the workers on this machine need the others, and an answer must not wait for them.
        let device = Device::open(DeviceChoice::Cpu, Some(1)).map_err(|error| anyhow::anyhow!("{error}"))?;
        let windows = (settings.eval.tokens / u64::from(shape.context)).max(1) as usize;
        let say = tell("evaluator");
        let form = answers::Form { template: settings.answers.template.clone(), stops: settings.answers.stop.clone() };
        let prompt = &settings.answers.sample_prompt;
        let mut samples = Samples::of(&settings.run_dir, prompt);
        let status = hub.status();
        let before = Reader::open(&settings.run_dir).and_then(|reader| drawn::points(&reader));
        let before = before.unwrap_or_else(|error| {
            tracing::warn!(%error, "the losses from before this start cannot be shown");
            Vec::new()
        });
        let board = Arc::new(Board::new(status.clone(), data.train_tokens, prompt, &before, samples.read().pop()));
        let audience = Audience { screen: screen.as_ref().map(|ends| ends.tell.clone()), board: board.clone() };
        let sampler = Sampler::new(samples, form.clone(), audience);
        let run = settings.run_dir.clone();
        let average = Average::read(&run, &shape, version);
        let over = Arc::default();
        let evaluator = eval::Evaluator { data: data.clone(), shape, device, windows, run, average, over };
        let (evaluator, evaluating) = eval::spawn(evaluator, sampler, move |result| {
            say(match result {
                Ok((score, source)) => Input::Scored(score, source),
                Err(version) => Input::Fact(Fact::Unmeasured { version }),
            });
        })
        .context("starting the evaluator")?;
        let say = tell("answers");
        let report = move |fact| say(Input::Fact(fact));
        let source = Source::from(&*newest);
        let (answers, answering) = answers::spawn(&data, &form, source, report).context("starting the answers")?;

        let (uploads, traffic) = (Uploads::default(), Arc::new(LinkStats::default()));
        let rim = Rim {
            inputs: sender,
            uploads: uploads.clone(),
            traffic: traffic.clone(),
            update_bytes,
            pace: Pace::new(settings.limits.messages_per_second),
            tasks: TaskTracker::new(),
            next: Arc::new(AtomicU64::new(1)),
        };
        super::metrics::show(&status);
        let stop = super::run::stop(settings);
        let over = stop.reached(status.tasks, status.tokens, status.version, status.val_loss).is_some();
        let ready = Info {
            params: shape.params(),
            vocab: data.tokenizer.vocab_size(),
            train_tokens: data.train_tokens,
            val_tokens: data.val_tokens.len(),
            version: version.0,
            over,
            data: data.clone(),
        };
        let driver = Driver {
            hub,
            clock,
            events,
            data,
            writer,
            learner,
            evaluator,
            answers,
            versions,
            newest,
            uploads,
            traffic,
            sessions: BTreeMap::new(),
            callers: super::openai::Callers::default(),
            running: BTreeMap::new(),
            scored: None,
            averaged: None,
            measure_every: settings.eval.every,
            measured: None,
            unmeasured: Vec::new(),
            lost: Vec::new(),
            unwritten: Vec::new(),
            published: None,
            deltas: Vec::new(),
            wholes: Arc::default(),
            stuck: Stuck::default(),
            unpaid: false,
            counted: (0, 0),
            watch: screen.map(Watch::new),
            board: board.clone(),
            asked: false,
        };
        let threads = vec![answering, learning, evaluating];
        Ok(Self { driver, inputs, rim, board, ready, threads })
    }
}
