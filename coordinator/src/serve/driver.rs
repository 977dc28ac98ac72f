//! The one task that drives the hub: facts in, orders carried out, nothing that takes long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hydra_core::hub::{Event, Fact, Hub, Operator, Order, QueryNo, Row};
use hydra_core::ids::{Digest, LeaseId, SessionId, VersionNo};
use hydra_core::machine::Machine as _;
use hydra_core::proto::{ServerMsg, UnpaidCode};
use hydra_core::time::Time;
use hydra_shell::clock::{Clock, wall_us};
use hydra_shell::events::Events;
use hydra_shell::link::{LinkStats, SendError};
use hydra_shell::signals::{Signals, Stop};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use self::pieces::{Piece, Running};
pub use self::tell::Stuck;
use self::tell::What;
use super::answers;
use super::board::Board;
use super::eval::Score;
use super::learner;
use super::openai::{Caller, Callers};
use super::served::{Served, Source, Versions};
use super::sessions::{Outbox, Uploads};
use super::watch::Watch;
use crate::data::Dataset;
use crate::screen::Request;
use crate::store::{FileError, Saved, StoreError, Writer};

mod late;
mod pieces;
mod publish;
mod tell;
mod wholes;

/// What reaches the driver from the other threads and tasks.
pub enum Input {
    /// A socket was accepted: its session's outbox, and the host that it counts for.
    Opened(SessionId, Outbox, Option<IpAddr>),
    /// A request with an API key came, whose digest this is; who waits for its answer.
    Asked(SessionId, Digest, Caller),
    /// A fact for the hub.
    Fact(Fact),
    /// The learner made a version.
    Merged(Arc<Served>),
    /// It could not.
    MergeFailed(VersionNo, FileError),
    /// The disk takes no updates; and it takes them again.
    Stuck(String),
    Unstuck,
    /// It takes no version's file.
    Unwritten(String),
    /// The writer has something to say.
    Saved(Saved),
    /// A version's score, and what it is of; the driver adds the traffic.
    Scored(Score, Source),
    /// A thread of this name has panicked; without it the run cannot go on.
    Panicked(&'static str),
}

/// Everything that orders are carried out with.
pub struct Driver {
    pub hub: Hub,
    pub clock: Clock,
    pub events: Events,
    pub data: Arc<Dataset>,
    pub writer: Writer,
    pub learner: Sender<learner::Command>,
    pub evaluator: super::eval::Queue,
    pub answers: answers::Answers,
    pub versions: Versions,
    pub newest: Arc<Served>,
    pub uploads: Uploads,
    pub traffic: Arc<LinkStats>,
    pub sessions: BTreeMap<SessionId, Outbox>,
    /// Sessions that are requests over HTTP.
    pub callers: Callers,
    pub running: BTreeMap<QueryNo, Running>,
    pub scored: Option<Score>,
    /// The average that was measured last, while it is better than the version's own weights.
    pub averaged: Option<Source>,
    /// Shortest time between two measurements, and when the last began.
    pub measure_every: Option<Duration>,
    pub measured: Option<Time>,
    /// What training waits for; people were told.
    pub stuck: Stuck,
    /// People were told that payments wait.
    pub unpaid: bool,
    /// Announced differences between versions whose bytes are not sent yet.
    pub deltas: Vec<(SessionId, Digest, Arc<[u8]>)>,
    /// Whole versions on their way.
    pub wholes: Arc<std::sync::Mutex<wholes::Wholes<(SessionId, Outbox)>>>,
    /// A version that is served, until learner and evaluator are told.
    pub published: Option<(VersionNo, Vec<LeaseId>)>,
    /// Versions that will not be measured, until the hub is told.
    pub unmeasured: Vec<VersionNo>,
    /// Rows for the writer, until what was pushed together with them is out.
    pub unwritten: Vec<(u64, Vec<Row>)>,
    /// Leases whose updates' bytes are not there, until the hub is told.
    pub lost: Vec<LeaseId>,
    pub counted: (u64, u64),
    /// The screen, if there is one.
    pub watch: Option<Watch>,
    /// What the page shows.
    pub board: Arc<Board>,
    /// Somebody wants the run to end.
    pub asked: bool,
}

/// How serving ended.
pub struct Ended {
    pub reason: &'static str,
    pub newest: Arc<Served>,
    pub tasks: u64,
    pub tokens: u64,
    pub scored: Option<Score>,
    /// Whether that is the average's.
    pub averaged: bool,
    /// Whether somebody wanted it to.
    pub asked: bool,
    pub writer: Writer,
}

impl Driver {
    /// Runs until the hub says stop.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        signals: Arc<Mutex<Signals>>,
    ) -> anyhow::Result<Ended> {
        self.measure();
        let mut signals = signals.lock().await;
        let mut reason = self.act().await;
        let mut read = true;
        let mut late = late::Late::default();
        while reason.is_none() {
            let (began, mut due) = (self.clock.now(), false);
            let deadline = self.hub.deadline().map(|(at, _)| late.look_at(at));
            let glimpse = self.watch.as_ref().map(Watch::due);
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => {
                        self.watch.iter_mut().for_each(Watch::stir);
                        self.take(input)?;
                    }
                    None => anyhow::bail!("every source of inputs is gone"),
                },
                () = self.clock.sleep_until(deadline) => due = true,
                stop = signals.next() => self.on_stop(stop)?,
                () = self.clock.sleep_until(glimpse) => self.glimpse(),
                request = wanted(&mut self.watch) => self.on_request(request)?,
                () = self.events.gone(), if read => {
                    read = false;
                    self.handle(Fact::Operator(Operator::Drain));
                }
            }
            let now = self.clock.now();
            if !deadline.is_some_and(|at| late.was_stopped(began, at, now)) && due {
                self.hub.expire(now);
            }
            reason = self.act().await;
        }
        let status = self.hub.status();
        let Self { newest, scored, averaged, asked, writer, .. } = self;
        let (reason, averaged) = (reason.unwrap_or("drained"), averaged.is_some());
        Ok(Ended { reason, newest, tasks: status.tasks, tokens: status.tokens, scored, averaged, asked, writer })
    }

    pub(super) fn on_stop(&mut self, stop: Stop) -> anyhow::Result<()> {
        if stop == Stop::AtOnce {
            return Err(super::at_once());
        }
        self.asked = true;
        self.events.say("stopping: what is under way is finished first (Ctrl-C again stops at once)");
        self.handle(Fact::Operator(Operator::Drain));
        Ok(())
    }

    pub(super) fn handle(&mut self, fact: Fact) {
        self.hub.handle(self.clock.now(), fact);
    }

    fn take(&mut self, input: Input) -> anyhow::Result<()> {
        match input {
            Input::Opened(session, outbox, host) => {
                self.sessions.insert(session, outbox);
                let nonce = hydra_core::ids::Nonce(hydra_shell::keys::random()?);
                self.handle(Fact::Joined { session, nonce, host });
            }
            Input::Asked(session, key, caller) => {
                self.callers.add(session, caller);
                self.handle(Fact::Keyed { session, key });
            }
            Input::Fact(fact) => {
                if let Fact::Left { session, .. } = &fact {
                    self.tell_lost(*session);
                    self.callers.forget(*session);
                    self.sessions.remove(session);
                    self.uploads.forget(*session);
                }
                match fact {
                    Fact::Piece { query, text, tokens } => self.on_piece(query, Piece { text, tokens }),
                    Fact::Answered { query, .. } | Fact::AnswerFailed { query, .. } => {
                        self.end(query);
                        self.handle(fact);
                    }
                    fact => self.handle(fact),
                }
            }
            Input::Merged(served) => {
                self.go_on(What::Version);
                let (version, digest) = (served.version, served.digest);
                self.versions.insert(served);
                self.handle(Fact::Merged { version, digest });
            }
            // What is on disk does not come back by trying again, and the next start repairs it.
            Input::MergeFailed(_, error) if !error.trouble().passes() => return Err(crate::fail::file(error).into()),
            Input::MergeFailed(version, error) => {
                self.pause(What::Version, &format!("version {version} cannot be stored: {error}"));
                self.handle(Fact::MergeFailed { version });
            }
            Input::Unwritten(error) => {
                tracing::warn!(error, "a version's file cannot be written");
                self.events.say(&format!("a version's file cannot be written: {error}; nothing is lost, trying again"));
            }
            Input::Stuck(error) => self.pause(What::Update, &format!("an update cannot be kept: {error}")),
            Input::Unstuck => self.go_on(What::Update),
            Input::Saved(Saved::Upto(upto)) => {
                if std::mem::take(&mut self.unpaid) {
                    self.events.say("payments go on");
                }
                self.handle(Fact::Persisted { upto });
            }
            Input::Saved(Saved::Waiting(error)) => {
                let error: StoreError = error;
                self.unpaid = true;
                self.events.say(&format!("payments wait: {error}; nothing is lost, trying again"));
            }
            Input::Saved(Saved::Broken(error)) => return Err(crate::fail::store(&error).into()),
            Input::Panicked(name) => anyhow::bail!("the thread `{name}` panicked; the log above says where"),
            Input::Scored(score, source) => self.on_scored(score, source),
        }
        Ok(())
    }

    /// Carries out what the hub ordered; gives the reason when it orders to stop.
    ///
    /// Rows go to the writer last: waking its thread takes a core from the sessions, which have messages to send, and
    /// what must not be said before it is durable is said later anyway. They are many only while the disk is behind.
    async fn act(&mut self) -> Option<&'static str> {
        let reason = self.carry_out();
        if self.hub.is_stopping() {
            self.board.stop();
        }
        if !self.unwritten.is_empty() {
            // The sessions go first.
            tokio::task::yield_now().await;
            self.unwritten.drain(..).for_each(|(seq, rows)| self.writer.persist(seq, rows));
        }
        reason
    }

    fn carry_out(&mut self) -> Option<&'static str> {
        let mut stop = None;
        while let Some(order) = self.poll() {
            match order {
                Order::Send { session, message } => {
                    if let Some(message) = self.callers.pass(session, message) {
                        self.send(session, &message);
                    }
                }
                Order::Push { session, worker, task, ready } => {
                    let (events, clock) = (self.events.clone(), self.clock);
                    let number = task.task;
                    let told = move |taken: Instant| {
                        let since = taken.elapsed();
                        let at_us = wall_us().saturating_sub(since.as_micros() as u64);
                        let wait_us = clock.now().since(ready).saturating_sub(since).as_micros() as u64;
                        super::metrics::pushed(wait_us);
                        super::note::tell(&events, &Event::Pushed { task: number, worker, wait_us, at_us });
                    };
                    self.with(session, |outbox| outbox.send_noting(&ServerMsg::Task(task), told));
                }
                Order::SendVersion { session, version, base } => self.send_version(session, version, base),
                Order::SendShard { session, shard } => {
                    let shard = &self.data.shards[shard as usize];
                    let (digest, bytes) = (shard.digest, shard.bytes.clone());
                    self.with(session, |outbox| outbox.send_blob(digest, bytes));
                }
                Order::Discard { session, blob } => {
                    self.uploads.take(session, blob);
                    self.with(session, |outbox| outbox.forget(blob));
                }
                Order::Close { session } => {
                    self.callers.forget(session);
                    if let Some(outbox) = self.sessions.get(&session) {
                        outbox.close();
                    }
                }
                Order::Persist { seq, rows } => self.unwritten.push((seq, rows)),
                Order::Check { lease, session, blob, codec, base, probe } => match self.uploads.take(session, blob) {
                    Some(bytes) => {
                        let check = learner::Check { lease, codec, bytes, blob, base, probe };
                        self.learn(learner::Command::Check(check));
                    }
                    // Cannot happen: the hub was told of the blob after it was put there, and only it takes it away. A
                    // lease without a verdict would be waited for, so it gets one.
                    None => {
                        tracing::error!(%lease, "an update's bytes are not there");
                        self.lost.push(lease);
                    }
                },
                Order::Forget { lease, blob } => self.learn(learner::Command::Forget { lease, blob }),
                Order::Merge { version, inputs, rule } => {
                    self.learn(learner::Command::Merge { version, inputs, rule });
                }
                Order::Publish { version, merged } => {
                    if let Some(served) = self.versions.get(version) {
                        self.newest = served.clone();
                        self.answer_from_best();
                    }
                    self.published = Some((version, merged));
                }
                Order::Generate { query, user, prompt, raw, stop: stops, sampling } => {
                    let running = Running::default();
                    let stop = running.stop.clone();
                    self.running.insert(query, running);
                    self.answers.put(answers::Job { query, user, prompt, raw, stops, sampling, stop });
                }
                Order::StopGenerating { query } => self.abandon(query),
                Order::Note(event) => {
                    let status = self.hub.status();
                    super::metrics::count(&event, &status);
                    self.board.note(&event, status);
                    super::note::tell(&self.events, &event);
                }
                Order::Stop { reason } => stop = Some(reason),
            }
        }
        stop
    }

    /// The next order. A version that is not measured is told to the hub once it has no orders left, so that it does
    /// not wait for the measurement when it stops.
    fn poll(&mut self) -> Option<Order> {
        loop {
            let order = self.hub.poll();
            if order.is_none() {
                self.send_deltas();
                self.pass_on();
            }
            if order.is_some() {
                return order;
            }
            if let Some(lease) = self.lost.pop() {
                let verdict = Err((UnpaidCode::Corrupt, "the update's bytes were given up".to_owned()));
                self.handle(Fact::Checked { lease, verdict });
            } else if let Some(session) = self.callers.left() {
                self.handle(Fact::Left { session, reason: "the request has its answer".to_owned() });
            } else if let Some(version) = self.unmeasured.pop() {
                self.handle(Fact::Unmeasured { version });
            } else {
                return None;
            }
        }
    }

    fn learn(&mut self, command: learner::Command) {
        self.pass_on();
        self.to_learner(command);
    }

    fn to_learner(&self, command: learner::Command) {
        // A learner that is gone has panicked, and its end is among the inputs.
        if self.learner.send(command).is_err() {
            tracing::error!("the learner is gone");
        }
    }
}

/// What the screen wants; without one, nothing ever.
async fn wanted(watch: &mut Option<Watch>) -> Request {
    match watch {
        Some(watch) => watch.request().await,
        None => std::future::pending().await,
    }
}
