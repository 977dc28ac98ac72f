//! The worker as a machine: keeps a session, installs versions in order, trains one task at a time, and delivers every
//! update until it is answered, over as many connections as that takes.
//!
//! Bytes (versions, shards, updates) stay with the shell under their digests; training runs on the shell's compute
//! thread, which carries out [`Order::Install`] and [`Order::Train`] strictly in the order given.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::backoff::Backoff;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, TaskId, UserName, VersionNo, WorkerId};
use crate::machine::Machine;
use crate::model::{Recipe, Shape};
use crate::proto::sign::{self, Parties};
use crate::proto::{self, ClientMsg, ErrorCode, Role, ServerMsg, UnpaidCode};
use crate::time::Time;

/// Between two progress messages of one task.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A coordinator that was never reached is given up after this.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name to earn under.
    pub user: UserName,
    /// The key that owns it.
    pub key: SigningKey,
    /// This process, random.
    pub worker: WorkerId,
    /// What it trains on, for people.
    pub device: String,
    /// Program and version.
    pub agent: String,
    /// Leave after this many paid tasks.
    pub tasks: Option<u64>,
    /// Rest after each task.
    pub pause: Duration,
    /// Seeds the jitter of reconnects.
    pub seed: u64,
}

/// Facts for the agent.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The connection that [`Order::Connect`] asked for stands; the nonce is fresh from the system.
    Connected {
        /// For hello.
        nonce: Nonce,
    },
    /// It does not; or it ended.
    Closed {
        /// Why, for people.
        reason: String,
    },
    /// A message came.
    Message(ServerMsg),
    /// An expected blob is complete and matches its digest; the shell holds it.
    Blob {
        /// Which.
        digest: Digest,
    },
    /// The shard is not in the cache.
    ShardMissing {
        /// Which.
        shard: Digest,
    },
    /// The shard is at hand.
    ShardReady {
        /// Which.
        shard: Digest,
    },
    /// A version was installed.
    Installed {
        /// Which.
        version: VersionNo,
        /// The digest of the weights as they are here.
        digest: Digest,
    },
    /// A training step was done.
    Step {
        /// Of which lease.
        lease: LeaseId,
        /// Steps done.
        step: u32,
        /// Training loss, nats a token.
        loss: f32,
        /// Since the task's start.
        tokens_per_s: f32,
    },
    /// Training is done and the update encoded; the shell holds its bytes.
    Trained {
        /// Which lease.
        lease: LeaseId,
        /// The update's bytes.
        blob: Digest,
        /// How many.
        bytes: u64,
        /// See [`proto::Update`].
        loss_first: f32,
        /// See [`proto::Update`].
        loss_last: f32,
        /// Milliseconds.
        train_ms: u64,
    },
    /// Training failed; the task goes back.
    Failed {
        /// Which lease.
        lease: LeaseId,
        /// Why, for people.
        text: String,
    },
    /// Finish the task in hand, deliver it, then leave.
    Finish,
    /// Take no further task for the moment.
    Pause,
    /// Take tasks again.
    Resume,
}

/// Orders for the shell.
#[derive(Debug, Clone)]
pub enum Order {
    /// Connect, and answer [`Fact::Connected`] or [`Fact::Closed`]. Ends an older connection.
    Connect,
    /// End the connection after what was sent.
    Disconnect,
    /// Send a message.
    Send(ClientMsg),
    /// Send a held blob as chunks.
    SendBlob {
        /// Which.
        blob: Digest,
    },
    /// Put together the chunks of this blob; answer [`Fact::Blob`].
    Expect {
        /// Which.
        blob: Digest,
        /// Its size.
        bytes: u64,
    },
    /// Get ready for this model; forget any other.
    Setup {
        /// Its sizes.
        shape: Shape,
        /// How to train.
        recipe: Recipe,
    },
    /// Add a held blob to the weights, or take it as the weights; then forget it. Answer [`Fact::Installed`].
    Install(proto::Version),
    /// Look for a shard in the cache; answer [`Fact::ShardReady`] or [`Fact::ShardMissing`].
    FindShard {
        /// Which.
        shard: Digest,
    },
    /// Put a received shard into the cache; answer [`Fact::ShardReady`].
    KeepShard {
        /// Which.
        shard: Digest,
    },
    /// Train; answer [`Fact::Step`]s, then [`Fact::Trained`] or [`Fact::Failed`].
    Train(Box<proto::Task>),
    /// Stop training this lease; no answer is needed.
    StopTraining {
        /// Which.
        lease: LeaseId,
    },
    /// Forget a blob.
    Drop {
        /// Which.
        blob: Digest,
    },
    /// Tell people and scripts.
    Note(Event),
    /// End the program.
    Exit(Exit),
}

/// Why a worker ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked to, or the run is complete.
    Done,
    /// The coordinator was never reached.
    Unreachable(String),
    /// The coordinator does not want this worker.
    Refused(String),
}

/// The worker's events; serialise to `{"event": "ready", …}` with credits in HYD.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract names them")]
pub enum Event {
    Ready {
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        user: UserName,
        device: String,
    },
    Task {
        task: TaskId,
        version: VersionNo,
        steps: u32,
        tokens: u64,
    },
    Progress {
        task: TaskId,
        step: u32,
        loss: f32,
        tokens_per_s: f32,
    },
    Submitted {
        task: TaskId,
        bytes: u64,
    },
    Credited {
        task: TaskId,
        #[serde(serialize_with = "crate::hub::hyd")]
        amount: Credits,
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
    },
    Unpaid {
        task: TaskId,
        reason: UnpaidCode,
        text: String,
    },
    Disconnected {
        retry_ms: u64,
        reason: String,
    },
    Stopped {
        tasks: u64,
        #[serde(serialize_with = "crate::hub::hyd")]
        earned: Credits,
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
    },
}

fn text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[derive(Debug, Clone, PartialEq)]
enum Link {
    Waiting {
        until: Time,
    },
    Connecting,
    /// Hello is sent.
    Greeting {
        nonce: Nonce,
    },
    /// Proof is sent.
    Proving,
    Open,
}

#[derive(Debug, Clone)]
struct InHand {
    task: proto::Task,
    shard_ready: bool,
    training: bool,
    last_progress: Option<Time>,
}

#[derive(Debug, Clone)]
struct Finished {
    task: TaskId,
    update: proto::Update,
}

/// The worker. See the module's page.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    out: VecDeque<Order>,
    backoff: Backoff,
    link: Link,
    /// When the session that stands began.
    opened: Option<Time>,
    started: Option<Time>,
    greeted: bool,
    model: Option<(Shape, Recipe)>,
    /// The version that the compute thread has, or will have after the orders given.
    ordered: Option<VersionNo>,
    /// What it is known to have, for the next hello.
    installed: Option<proto::Held>,
    expecting: BTreeMap<VersionNo, Digest>,
    /// Versions announced in this session, in order; the flag says whether the bytes are here.
    versions: VecDeque<(proto::Version, bool)>,
    hand: Option<InHand>,
    outbox: Vec<Finished>,
    rest_until: Option<Time>,
    paused: bool,
    finishing: bool,
    over: bool,
    paid: u64,
    earned: Credits,
    balance: Credits,
}

impl Agent {
    /// A worker that connects as soon as it is polled.
    pub fn new(now: Time, settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.seed),
            settings,
            out: VecDeque::from([Order::Connect]),
            link: Link::Connecting,
            opened: None,
            started: Some(now),
            greeted: false,
            model: None,
            ordered: None,
            installed: None,
            expecting: BTreeMap::new(),
            versions: VecDeque::new(),
            hand: None,
            outbox: Vec::new(),
            rest_until: None,
            paused: false,
            finishing: false,
            over: false,
            paid: 0,
            earned: Credits::ZERO,
            balance: Credits::ZERO,
        }
    }

    /// Credits of the user as last told.
    pub fn balance(&self) -> Credits {
        self.balance
    }

    /// Whether a session stands.
    pub fn is_open(&self) -> bool {
        self.link == Link::Open
    }

    /// The lease in hand.
    pub fn lease(&self) -> Option<LeaseId> {
        self.hand.as_ref().map(|hand| hand.task.lease)
    }

    fn send(&mut self, message: ClientMsg) {
        self.out.push_back(Order::Send(message));
    }

    fn note(&mut self, event: Event) {
        self.out.push_back(Order::Note(event));
    }

    fn exit(&mut self, exit: Exit) {
        if !self.over {
            self.over = true;
            self.note(Event::Stopped { tasks: self.paid, earned: self.earned, balance: self.balance });
            self.out.push_back(Order::Exit(exit));
        }
    }

    fn on_connected(&mut self, nonce: Nonce) {
        self.link = Link::Greeting { nonce };
        let hello = proto::Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: self.settings.user.clone(),
            key: PublicKey(self.settings.key.verifying_key().to_bytes()),
            nonce,
            agent: self.settings.agent.clone(),
            worker: Some(self.settings.worker),
            device: self.settings.device.clone(),
            holds: self.installed.filter(|held| self.ordered == Some(held.version)),
            lease: self.hand.as_ref().map(|hand| hand.task.lease),
        };
        self.send(ClientMsg::Hello(hello));
    }

    fn on_closed(&mut self, now: Time, reason: String) {
        if self.over || matches!(self.link, Link::Waiting { .. }) {
            return;
        }
        // Versions that were on their way will be sent again; what was ordered is what the thread will have.
        self.versions.clear();
        self.expecting.clear();
        if let Some(started) = self.started.filter(|_| !self.greeted)
            && now.since(started) >= FIRST_CONTACT
        {
            return self.exit(Exit::Unreachable(reason));
        }
        if self.finishing && self.hand.is_none() && self.outbox.is_empty() {
            return self.exit(Exit::Done);
        }
        if let Some(opened) = self.opened.take() {
            self.backoff.ended(now.since(opened));
        }
        let wait = self.backoff.wait();
        self.link = Link::Waiting { until: now.after(wait) };
        self.note(Event::Disconnected { retry_ms: wait.as_millis() as u64, reason });
    }

    fn on_message(&mut self, now: Time, message: ServerMsg) {
        match (self.link.clone(), message) {
            (Link::Greeting { nonce }, ServerMsg::Challenge(challenge)) => self.on_challenge(&nonce, &challenge),
            (Link::Proving, ServerMsg::Welcome(welcome)) => self.on_welcome(now, &welcome),
            (_, ServerMsg::Error(error)) if error.fatal => self.on_fatal(&error),
            (_, ServerMsg::Bye(bye)) if !bye.retry => {
                if let Some(lease) = self.lease() {
                    self.out.push_back(Order::StopTraining { lease });
                }
                self.exit(Exit::Done);
            }
            (Link::Open, ServerMsg::Version(version)) => self.on_version(version),
            (Link::Open, ServerMsg::Task(task)) => self.on_task(now, task),
            (Link::Open, ServerMsg::Credited(credited)) => self.on_credited(now, &credited),
            (Link::Open, ServerMsg::Unpaid(unpaid)) => self.on_unpaid(now, unpaid),
            (Link::Open, ServerMsg::Revoked(revoked)) => self.on_revoked(now, revoked),
            (Link::Open, ServerMsg::Balance(balance)) => self.balance = balance.balance,
            // What a later version of the protocol may add, and answers to questions that a worker does not ask.
            _ => {}
        }
    }

    fn on_challenge(&mut self, nonce: &Nonce, challenge: &proto::Challenge) {
        let own = PublicKey(self.settings.key.verifying_key().to_bytes());
        let parties =
            Parties { client: &own, server: &challenge.key, client_nonce: nonce, server_nonce: &challenge.nonce };
        if !sign::verify(&challenge.key, &sign::server_statement(&parties), &challenge.signature) {
            return self.exit(Exit::Refused("the coordinator could not prove its own key".to_owned()));
        }
        let statement = sign::client_statement(&parties, Role::Worker, &self.settings.user);
        let signature = sign::sign(&self.settings.key, &statement);
        self.link = Link::Proving;
        self.send(ClientMsg::Proof(proto::Proof { signature }));
    }

    fn on_welcome(&mut self, now: Time, welcome: &proto::Welcome) {
        self.link = Link::Open;
        self.opened = Some(now);
        self.greeted = true;
        self.balance = welcome.balance;
        let model = (welcome.shape, welcome.recipe);
        if self.model != Some(model) {
            self.model = Some(model);
            self.ordered = None;
            self.installed = None;
            self.out.push_back(Order::Setup { shape: welcome.shape, recipe: welcome.recipe });
        }
        self.note(Event::Ready {
            worker: self.settings.worker,
            user: self.settings.user.clone(),
            device: self.settings.device.clone(),
        });
        for finished in self.outbox.clone() {
            self.deliver(&finished);
        }
        if !self.accepting(now) {
            self.send(ClientMsg::Ready(proto::Ready { accepting: false }));
        }
        self.leave_if_done();
    }

    fn on_fatal(&mut self, error: &proto::Error) {
        match error.code {
            ErrorCode::Slow | ErrorCode::Full | ErrorCode::Replaced => {}
            _ => self.exit(Exit::Refused(error.text.clone())),
        }
    }

    fn on_version(&mut self, version: proto::Version) {
        self.out.push_back(Order::Expect { blob: version.blob, bytes: version.bytes });
        self.versions.push_back((version, false));
    }

    fn on_blob(&mut self, digest: Digest) {
        if let Some((_, here)) = self.versions.iter_mut().find(|(version, here)| version.blob == digest && !here) {
            *here = true;
            self.advance();
        } else if let Some(hand) = self.hand.as_ref().filter(|hand| hand.task.shard == digest) {
            self.out.push_back(Order::KeepShard { shard: hand.task.shard });
        }
    }

    /// Installs what is next in line and starts the task when its version and shard are there. A version newer than
    /// the task in hand waits until the task has begun: it trains from its own.
    fn advance(&mut self) {
        loop {
            let waiting = self.hand.as_ref().filter(|hand| !hand.training).map(|hand| hand.task.version);
            if waiting.is_some() && waiting == self.ordered {
                break;
            }
            let Some((version, true)) = self.versions.front().copied() else { break };
            self.versions.pop_front();
            if version.base.is_none() || version.base == self.ordered {
                self.ordered = Some(version.version);
                self.expecting.insert(version.version, version.digest);
                self.out.push_back(Order::Install(version));
            } else {
                // A gap: what we have is not what the coordinator believes. Begin afresh.
                return self.start_over();
            }
        }
        let Some(hand) = &mut self.hand else { return };
        if hand.training || !hand.shard_ready {
            return;
        }
        if self.ordered == Some(hand.task.version) {
            hand.training = true;
            let task = hand.task.clone();
            let tokens = task.tokens();
            self.note(Event::Task { task: task.task, version: task.version, steps: task.steps, tokens });
            self.out.push_back(Order::Train(Box::new(task)));
            self.advance();
        } else if self.ordered.is_some_and(|ordered| ordered > hand.task.version) {
            let (lease, text) = (hand.task.lease, "its version has passed".to_owned());
            self.hand = None;
            self.send(ClientMsg::Release(proto::Release { lease, text }));
        }
    }

    fn start_over(&mut self) {
        self.ordered = None;
        self.installed = None;
        self.out.push_back(Order::Disconnect);
    }

    fn on_task(&mut self, now: Time, task: proto::Task) {
        if self.hand.is_some() || !self.accepting(now) {
            let (lease, text) = (task.lease, "this worker takes no task at the moment".to_owned());
            return self.send(ClientMsg::Release(proto::Release { lease, text }));
        }
        self.out.push_back(Order::FindShard { shard: task.shard });
        self.hand = Some(InHand { task, shard_ready: false, training: false, last_progress: None });
        self.advance();
    }

    fn on_shard(&mut self, shard: Digest, ready: bool) {
        let Some(hand) = self.hand.as_mut().filter(|hand| hand.task.shard == shard) else { return };
        if ready {
            hand.shard_ready = true;
            return self.advance();
        }
        let bytes = hand.task.shard_tokens.saturating_mul(2);
        self.out.push_back(Order::Expect { blob: shard, bytes });
        self.send(ClientMsg::Fetch(proto::Fetch { shard }));
    }

    fn on_installed(&mut self, version: VersionNo, digest: Digest) {
        match self.expecting.remove(&version) {
            Some(expected) if expected != digest => self.start_over(),
            _ => self.installed = Some(proto::Held { version, digest }),
        }
    }

    fn on_step(&mut self, now: Time, progress: proto::Progress) {
        let Some(hand) = self.hand.as_mut().filter(|hand| hand.task.lease == progress.lease) else { return };
        let last = progress.step >= hand.task.steps;
        if !last && hand.last_progress.is_some_and(|at| now.since(at) < PROGRESS_EVERY) {
            return;
        }
        hand.last_progress = Some(now);
        let proto::Progress { step, loss, tokens_per_s, .. } = progress;
        let task = hand.task.task;
        self.note(Event::Progress { task, step, loss, tokens_per_s });
        if self.link == Link::Open {
            self.send(ClientMsg::Progress(progress));
        }
    }

    fn on_trained(&mut self, now: Time, update: proto::Update) {
        let Some(hand) = self.hand.take_if(|hand| hand.task.lease == update.lease) else {
            return self.out.push_back(Order::Drop { blob: update.blob });
        };
        if !self.settings.pause.is_zero() {
            self.rest_until = Some(now.after(self.settings.pause));
        }
        let task = hand.task;
        let mut finished = Finished { task: task.task, update };
        finished.update.version = task.version;
        finished.update.codec = task.codec;
        finished.update.steps = task.steps;
        finished.update.tokens = task.tokens();
        self.outbox.push(finished.clone());
        finished.update.more = self.accepting(now);
        if let Some(last) = self.outbox.last_mut() {
            last.update.more = finished.update.more;
        }
        if self.link == Link::Open {
            self.deliver(&finished);
        }
        self.advance();
    }

    fn deliver(&mut self, finished: &Finished) {
        let Finished { task, update } = finished;
        self.send(ClientMsg::Update(update.clone()));
        self.out.push_back(Order::SendBlob { blob: update.blob });
        self.note(Event::Submitted { task: *task, bytes: update.bytes });
    }

    fn settle(&mut self, lease: LeaseId) -> bool {
        let Some(place) = self.outbox.iter().position(|finished| finished.update.lease == lease) else { return false };
        let finished = self.outbox.remove(place);
        self.out.push_back(Order::Drop { blob: finished.update.blob });
        true
    }

    fn on_credited(&mut self, now: Time, credited: &proto::Credited) {
        self.balance = credited.balance;
        // A second answer to a resent update pays nothing new.
        if self.settle(credited.lease) {
            self.paid += 1;
            self.earned = self.earned.checked_add(credited.amount).unwrap_or(self.earned);
            let proto::Credited { task, amount, balance, .. } = *credited;
            self.note(Event::Credited { task, amount, balance });
        }
        self.after_answer(now);
    }

    fn on_unpaid(&mut self, now: Time, unpaid: proto::Unpaid) {
        if self.settle(unpaid.lease) {
            let proto::Unpaid { task, code: reason, text, .. } = unpaid;
            self.note(Event::Unpaid { task, reason, text });
        }
        self.after_answer(now);
    }

    fn after_answer(&mut self, now: Time) {
        self.leave_if_done();
        // An unpaid last task leaves room for another one.
        if !self.over && self.settings.tasks.is_some() && self.hand.is_none() && self.accepting(now) {
            self.send(ClientMsg::Ready(proto::Ready { accepting: true }));
        }
    }

    fn on_revoked(&mut self, now: Time, revoked: proto::Unpaid) {
        if let Some(hand) = self.hand.take_if(|hand| hand.task.lease == revoked.lease) {
            if hand.training {
                self.out.push_back(Order::StopTraining { lease: revoked.lease });
            }
            let proto::Unpaid { task, code: reason, text, .. } = revoked;
            self.note(Event::Unpaid { task, reason, text });
            self.advance();
            self.after_answer(now);
        }
    }

    fn on_failed(&mut self, now: Time, lease: LeaseId, text: String) {
        if let Some(hand) = self.hand.take_if(|hand| hand.task.lease == lease) {
            self.note(Event::Unpaid { task: hand.task.task, reason: UnpaidCode::Cancelled, text: text.clone() });
            if self.link == Link::Open {
                self.send(ClientMsg::Ready(proto::Ready { accepting: false }));
                self.send(ClientMsg::Release(proto::Release { lease, text }));
            }
            // A task that cannot be trained here would be pushed again at once: rest a little.
            self.rest_until = Some(now.after(Duration::from_secs(10)));
            self.advance();
        }
    }

    /// Whether another task is welcome.
    fn accepting(&self, now: Time) -> bool {
        let enough = self.settings.tasks.is_some_and(|n| self.paid + self.outbox.len() as u64 >= n);
        !self.finishing && !self.paused && !enough && self.rest_until.is_none_or(|until| until <= now)
    }

    fn leave_if_done(&mut self) {
        let enough = self.settings.tasks.is_some_and(|n| self.paid >= n);
        if (self.finishing || enough) && self.hand.is_none() && self.outbox.is_empty() && !self.over {
            if self.link == Link::Open {
                self.send(ClientMsg::Bye(proto::Bye { text: "finished".to_owned(), retry: false }));
            }
            self.exit(Exit::Done);
        }
    }

    fn set_paused(&mut self, now: Time, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            if self.link == Link::Open {
                let accepting = self.accepting(now);
                self.send(ClientMsg::Ready(proto::Ready { accepting }));
            }
        }
    }
}

impl Machine for Agent {
    type In = Fact;
    type Out = Order;

    fn handle(&mut self, now: Time, fact: Fact) {
        if self.over {
            return;
        }
        match fact {
            Fact::Connected { nonce } => self.on_connected(nonce),
            Fact::Closed { reason } => self.on_closed(now, reason),
            Fact::Message(message) => self.on_message(now, message),
            Fact::Blob { digest } => self.on_blob(digest),
            Fact::ShardMissing { shard } => self.on_shard(shard, false),
            Fact::ShardReady { shard } => self.on_shard(shard, true),
            Fact::Installed { version, digest } => self.on_installed(version, digest),
            Fact::Step { lease, step, loss, tokens_per_s } => {
                self.on_step(now, proto::Progress { lease, step, loss, tokens_per_s });
            }
            Fact::Trained { lease, blob, bytes, loss_first, loss_last, train_ms } => {
                // The task fills in what is its own.
                let update = proto::Update {
                    lease,
                    version: VersionNo(0),
                    codec: crate::codec::Codec::F32,
                    blob,
                    bytes,
                    steps: 0,
                    tokens: 0,
                    loss_first,
                    loss_last,
                    train_ms,
                    more: false,
                };
                self.on_trained(now, update);
            }
            Fact::Failed { lease, text } => self.on_failed(now, lease, text),
            Fact::Finish => {
                self.finishing = true;
                if self.link == Link::Open {
                    self.send(ClientMsg::Ready(proto::Ready { accepting: false }));
                }
                // A task that has not begun is not worth waiting for.
                if let Some(hand) = self.hand.take_if(|hand| !hand.training) {
                    let (lease, text) = (hand.task.lease, "this worker is leaving".to_owned());
                    self.send(ClientMsg::Release(proto::Release { lease, text }));
                }
                self.leave_if_done();
            }
            Fact::Pause => self.set_paused(now, true),
            Fact::Resume => self.set_paused(now, false),
        }
    }

    fn poll(&mut self) -> Option<Order> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.over {
            return None;
        }
        let retry = match self.link {
            Link::Waiting { until } => Some((until, "time to connect again")),
            _ => None,
        };
        let rest = self.rest_until.map(|until| (until, "the rest between tasks ends"));
        [retry, rest].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn expire(&mut self, now: Time) {
        if self.over {
            return;
        }
        if matches!(self.link, Link::Waiting { until } if until <= now) {
            self.link = Link::Connecting;
            self.out.push_back(Order::Connect);
        }
        if self.rest_until.is_some_and(|until| until <= now) {
            self.rest_until = None;
            if self.link == Link::Open && self.accepting(now) {
                self.send(ClientMsg::Ready(proto::Ready { accepting: true }));
            }
        }
    }
}
