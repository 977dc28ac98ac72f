//! The coordinator as a machine: sessions, tasks, rounds, payments and queries, without socket, clock, file or tensor.
//!
//! Facts come in as [`Fact`], orders go out as [`Order`]. Two rules hold everywhere:
//!
//! - *Write before you promise.* Whatever tells a peer about money, names or versions is sent only after the rows
//!   behind it were reported durable ([`Fact::Persisted`]); until then it waits as an [`Action`].
//! - *No heavy bytes.* The hub sees digests, sizes and verdicts; the shell holds the bytes and does the arithmetic.

mod event;
mod queries;
mod recover;
mod rounds;
pub mod rows;
mod session;
mod tasks;
mod updates;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ed25519_dalek::SigningKey;

pub use self::event::{Event, hyd};
pub use self::rows::{Recovered, Row};
pub use self::session::public_key;
use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, QueryId, SessionId, UserName, VersionNo, WorkerId};
use crate::ledger::{Book, Transfer};
use crate::machine::Machine;
use crate::merge::OuterRule;
use crate::model::{Recipe, Shape};
use crate::proto::{self, ClientMsg, Finish, ServerMsg, UnpaidCode};
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::time::Time;

/// Everything that the hub is told to follow; fixed for a run of the program.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The model's sizes.
    pub shape: Shape,
    /// How workers train.
    pub recipe: Recipe,
    /// Learning rate over the run's tokens.
    pub schedule: Schedule,
    /// Paid for an accepted task.
    pub reward: Credits,
    /// Charged for a complete answer; may be zero.
    pub price: Credits,
    /// Optimiser steps in a task.
    pub steps: u32,
    /// How updates are encoded.
    pub codec: Codec,
    /// The run's shards.
    pub shards: Vec<Shard>,
    /// Tasks kept generated ahead of demand.
    pub queue: usize,
    /// At least this long between two generated tasks; nothing: as fast as workers take them.
    pub every: Option<Duration>,
    /// Lease of a worker without history.
    pub lease_first: Duration,
    /// Shortest lease.
    pub lease_min: Duration,
    /// A lease is this many times the expected duration.
    pub lease_factor: f64,
    /// A round may close once this share of the working workers' updates is in.
    pub quorum: f64,
    /// After the quorum, wait for updates expected within this share of a typical task's duration.
    pub grace: f64,
    /// A round with any update closes after this at the latest.
    pub round_deadline: Duration,
    /// The outer step of rounds with several updates.
    pub outer: OuterRule,
    /// When to stop by itself.
    pub stop: Stop,
    /// Sampling where a query leaves it open.
    pub sampling: Sampling,
    /// Seeds the tasks.
    pub seed: u64,
    /// Wall-clock milliseconds since 1970 at [`Time`] zero.
    pub epoch_ms: u64,
}

impl Rules {
    /// Tokens in a task.
    pub fn task_tokens(&self) -> u64 {
        u64::from(self.steps) * u64::from(self.recipe.batch) * u64::from(self.shape.context)
    }
}

/// A piece of the training text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its tokens.
    pub tokens: u64,
    /// Its first words.
    pub preview: String,
}

/// When to stop by itself; whichever comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stop {
    /// Accepted tasks.
    pub after_tasks: Option<u64>,
    /// Trained tokens.
    pub after_tokens: Option<u64>,
    /// Versions.
    pub after_rounds: Option<u64>,
    /// Held-out nats a token.
    pub at_loss: Option<f64>,
}

/// How an answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// At most this many tokens.
    pub max_new_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// 0: all.
    pub top_k: u32,
    /// 1: all.
    pub top_p: f32,
    /// Repeats an answer.
    pub seed: u64,
}

/// Facts for the hub.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "frames are the commonest fact; a box would cost each an allocation")]
pub enum Fact {
    /// A connection was made; the nonce is fresh from the system.
    Joined {
        /// Its number, never used before.
        session: SessionId,
        /// For the challenge.
        nonce: Nonce,
    },
    /// A whole, well-formed message came.
    Frame {
        /// From where.
        session: SessionId,
        /// What.
        message: ClientMsg,
    },
    /// Something came that is no message; the session must end.
    BadFrame {
        /// From where.
        session: SessionId,
        /// What is wrong, for the peer.
        error: proto::Error,
    },
    /// The connection is gone.
    Left {
        /// Which.
        session: SessionId,
        /// Why, for people.
        reason: String,
    },
    /// All chunks of an announced update came.
    Received {
        /// From where.
        session: SessionId,
        /// Which blob.
        blob: Digest,
        /// Whether the bytes match the digest.
        intact: bool,
    },
    /// The check that [`Order::Check`] asked for is done; if good, the bytes are durable.
    Checked {
        /// Whose update.
        lease: LeaseId,
        /// Its norm, or why it is worthless.
        verdict: Result<f64, (UnpaidCode, String)>,
    },
    /// All rows up to this number are durable.
    Persisted {
        /// The number of the [`Order::Persist`].
        upto: u64,
    },
    /// The merge is done and the weights are on disk.
    Merged {
        /// The version.
        version: VersionNo,
        /// The digest of its weights.
        digest: Digest,
    },
    /// The merge failed (a full disk, most likely); the hub tries again later.
    MergeFailed {
        /// Which version.
        version: VersionNo,
    },
    /// A version was evaluated.
    Evaluated {
        /// Which.
        version: VersionNo,
        /// Nats a token.
        loss: f64,
        /// Bits a byte of text.
        bits_per_byte: f64,
        /// Model traffic from workers since the last evaluation.
        bytes_up: u64,
        /// Model traffic to workers since the last evaluation.
        bytes_down: u64,
    },
    /// The next piece of an answer.
    Piece {
        /// Which answer.
        query: QueryNo,
        /// Whole characters.
        text: String,
    },
    /// An answer came to its end.
    Answered {
        /// Which.
        query: QueryNo,
        /// New tokens.
        tokens: u32,
        /// Why it ended.
        finish: Finish,
    },
    /// An answer cannot be given.
    AnswerFailed {
        /// Which.
        query: QueryNo,
        /// Why, for the user.
        text: String,
    },
    /// The operator said something.
    Operator(Operator),
}

/// What the operator may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// Finish what is running, then stop.
    Drain,
    /// Generate no tasks.
    Pause,
    /// Generate tasks again.
    Resume,
    /// Keep this many tasks queued.
    Queue(usize),
    /// Cut a session, with a reason that it sees.
    Kick(SessionId, String),
}

/// The hub's own number for a running answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryNo(pub u64);

/// Orders for the shell, to be carried out in this order.
#[derive(Debug, Clone)]
pub enum Order {
    /// Send a message.
    Send {
        /// To whom.
        session: SessionId,
        /// What.
        message: ServerMsg,
    },
    /// Send a task and report [`Event::Pushed`], with the time from `ready` until the socket had it.
    Push {
        /// To whom.
        session: SessionId,
        /// Which process that is.
        worker: WorkerId,
        /// What.
        task: proto::Task,
        /// When both the task and the free worker existed.
        ready: Time,
    },
    /// Send a version: as the delta from `base`, or whole.
    SendVersion {
        /// To whom.
        session: SessionId,
        /// Which version.
        version: VersionNo,
        /// What the worker has.
        base: Option<VersionNo>,
    },
    /// Send a shard's bytes.
    SendShard {
        /// To whom.
        session: SessionId,
        /// Which shard, by its place in [`Rules::shards`].
        shard: u32,
    },
    /// Forget the announced or received bytes of this blob.
    Discard {
        /// From whom.
        session: SessionId,
        /// Which.
        blob: Digest,
    },
    /// Close the connection after what was sent.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Make rows durable, all or none, after everything ordered before; answer [`Fact::Persisted`].
    Persist {
        /// Its number.
        seq: u64,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Decode and check received bytes, keep them durably if good; answer [`Fact::Checked`].
    Check {
        /// Whose update.
        lease: LeaseId,
        /// From where.
        session: SessionId,
        /// Which blob.
        blob: Digest,
        /// How it is encoded.
        codec: Codec,
    },
    /// Make the next version from kept updates; answer [`Fact::Merged`] or [`Fact::MergeFailed`].
    Merge {
        /// The new version's number; its base is the one before.
        version: VersionNo,
        /// Updates in merging order.
        inputs: Vec<MergeInput>,
        /// The outer step.
        rule: OuterRule,
    },
    /// The version is durable: serve it, evaluate it (answer [`Fact::Evaluated`]), forget what it merged.
    Publish {
        /// Which.
        version: VersionNo,
        /// Leases whose kept updates are needed no more.
        merged: Vec<LeaseId>,
    },
    /// Answer a prompt; answer with [`Fact::Piece`]s and [`Fact::Answered`] or [`Fact::AnswerFailed`].
    Generate {
        /// The number to answer under.
        query: QueryNo,
        /// The prompt.
        prompt: String,
        /// How to draw.
        sampling: Sampling,
    },
    /// Stop that answer; no answer is needed.
    StopGenerating {
        /// Which.
        query: QueryNo,
    },
    /// Tell people and scripts.
    Note(Event),
    /// Everything is finished: end the program.
    Stop {
        /// Why: `tasks`, `tokens`, `rounds`, `loss`, `drained`.
        reason: &'static str,
    },
}

/// One update to be merged.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeInput {
    /// Whose.
    pub lease: LeaseId,
    /// Its kept bytes.
    pub blob: Digest,
    /// How they are encoded.
    pub codec: Codec,
    /// Its weight in the mean.
    pub weight: f32,
}

/// What waits for rows to be durable.
#[derive(Debug, Clone)]
enum Action {
    /// A new name is registered.
    Welcome(SessionId),
    /// A payment can be told.
    Credit { lease: LeaseId, session: SessionId, transfer: Option<Transfer> },
    /// A hold stands: generate.
    Ask(QueryNo),
    /// A hold ended in payment: tell.
    Charge { query: QueryNo, tokens: u32, finish: Finish },
    /// A hold was returned: tell.
    Refund { query: QueryNo, code: proto::RefusedCode, text: String },
    /// A version can be served.
    Publish { version: rows::Version, opened: Time },
}

/// The coordinator. See the module's page.
#[derive(Debug)]
pub struct Hub {
    rules: Rules,
    key: SigningKey,
    /// Which start of the run this is.
    boot: u64,
    rng: Rng,
    out: VecDeque<Order>,

    sessions: BTreeMap<SessionId, session::Session>,
    handshakes: VecDeque<(Time, SessionId)>,
    users: BTreeMap<UserName, PublicKey>,
    speeds: BTreeMap<WorkerId, f64>,

    book: Book,
    persist_seq: u64,
    waiting: VecDeque<(u64, Action)>,

    queue: VecDeque<tasks::Spec>,
    next_task: u64,
    next_lease: u64,
    next_generation: Time,
    paused: bool,
    idle: BTreeSet<(Time, SessionId)>,
    leases: BTreeMap<LeaseId, tasks::Held>,

    newest: rows::Version,
    newest_at: Time,
    /// The oldest version from which the shell can send deltas up to the newest.
    deltas_since: VersionNo,
    recent: BTreeMap<VersionNo, Digest>,
    evaluated: Option<(f64, f64)>,
    round: rounds::Round,
    typical: Option<f64>,
    unevaluated: BTreeMap<VersionNo, rounds::Unevaluated>,

    queries: BTreeMap<QueryNo, queries::Running>,
    next_query: u64,
    /// Ids of running and lately finished queries, so that a resent one is known.
    seen_queries: BTreeSet<(UserName, QueryId)>,
    seen_order: VecDeque<(UserName, QueryId)>,

    accepted_tasks: u64,
    accepted_tokens: u64,
    stopping: Option<Stopping>,
}

/// The hub is on its way to the end.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    reason: &'static str,
    /// Whether a later start makes sense for workers.
    retry: bool,
    /// Whether accepted updates are merged first. Not where the version itself was the goal; they are durable, and
    /// the next start merges them.
    merge: bool,
    /// Running answers and uploads may take this long.
    until: Time,
    done: bool,
}

impl Machine for Hub {
    type In = Fact;
    type Out = Order;

    fn handle(&mut self, now: Time, fact: Fact) {
        match fact {
            Fact::Joined { session, nonce } => self.on_joined(now, session, nonce),
            Fact::Frame { session, message } => self.on_frame(now, session, message),
            Fact::BadFrame { session, error } => {
                self.send(session, ServerMsg::Error(error));
                self.out.push_back(Order::Close { session });
                self.on_left(now, session, "sent something that is no message");
            }
            Fact::Left { session, reason } => self.on_left(now, session, &reason),
            Fact::Received { session, blob, intact } => self.on_received(now, session, blob, intact),
            Fact::Checked { lease, verdict } => self.on_checked(now, lease, verdict),
            Fact::Persisted { upto } => self.on_persisted(now, upto),
            Fact::Merged { version, digest } => self.on_merged(now, version, digest),
            Fact::MergeFailed { version } => self.on_merge_failed(now, version),
            Fact::Evaluated { version, loss, bits_per_byte, bytes_up, bytes_down } => {
                self.on_evaluated(now, version, (loss, bits_per_byte), (bytes_up, bytes_down));
            }
            Fact::Piece { query, text } => self.on_piece(now, query, text),
            Fact::Answered { query, tokens, finish } => self.on_answered(now, query, tokens, finish),
            Fact::AnswerFailed { query, text } => self.on_answer_failed(now, query, text),
            Fact::Operator(word) => self.on_operator(now, word),
        }
        self.finish_if_done(now);
    }

    fn poll(&mut self) -> Option<Order> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        let handshake = self.handshakes.front().map(|(due, _)| (*due, "a handshake is slow"));
        let stop = self.stopping.filter(|s| !s.done).map(|s| (s.until, "stopping must not take for ever"));
        [handshake, stop, self.task_deadline(), self.round_deadline()].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn expire(&mut self, now: Time) {
        self.expire_handshakes(now);
        self.expire_leases(now);
        self.consider_round(now);
        self.dispatch(now);
        self.finish_if_done(now);
    }
}

impl Hub {
    fn send(&mut self, session: SessionId, message: ServerMsg) {
        self.out.push_back(Order::Send { session, message });
    }

    fn note(&mut self, event: Event) {
        self.out.push_back(Order::Note(event));
    }

    fn wall_ms(&self, now: Time) -> u64 {
        self.rules.epoch_ms.saturating_add(now.0 / 1000)
    }

    fn persist(&mut self, rows: Vec<Row>, then: Option<Action>) {
        self.persist_seq += 1;
        self.out.push_back(Order::Persist { seq: self.persist_seq, rows });
        if let Some(action) = then {
            self.waiting.push_back((self.persist_seq, action));
        }
    }

    fn on_persisted(&mut self, now: Time, upto: u64) {
        while self.waiting.front().is_some_and(|(seq, _)| *seq <= upto) {
            let Some((_, action)) = self.waiting.pop_front() else { break };
            match action {
                Action::Welcome(session) => self.on_registered(now, session),
                Action::Credit { lease, session, transfer } => self.on_paid(now, lease, session, transfer.as_ref()),
                Action::Ask(query) => self.on_held(query),
                Action::Charge { query, tokens, finish } => self.on_charged(now, query, tokens, finish),
                Action::Refund { query, code, text } => self.on_refunded(query, code, text),
                Action::Publish { version, opened } => self.on_durable(now, version, opened),
            }
        }
    }

    fn on_operator(&mut self, now: Time, word: Operator) {
        match word {
            Operator::Drain => self.stop(now, "drained", true),
            Operator::Pause => self.paused = true,
            Operator::Resume => {
                self.paused = false;
                self.dispatch(now);
            }
            Operator::Queue(length) => {
                self.rules.queue = length;
                self.dispatch(now);
            }
            Operator::Kick(session, text) => {
                self.send(session, ServerMsg::Bye(proto::Bye { text: text.clone(), retry: false }));
                self.out.push_back(Order::Close { session });
                self.on_left(now, session, &text);
            }
        }
    }

    /// Begins the end: no new tasks; what was acknowledged or is being answered is finished first.
    fn stop(&mut self, now: Time, reason: &'static str, retry: bool) {
        if self.stopping.is_some() {
            return;
        }
        let (merge, until) = (matches!(reason, "tasks" | "tokens"), now.after(Duration::from_secs(10)));
        self.stopping = Some(Stopping { reason, retry, merge, until, done: false });
        self.queue.clear();
        let code = if retry { UnpaidCode::Cancelled } else { UnpaidCode::Finished };
        self.revoke_running(now, code);
        self.consider_round(now);
    }

    fn finish_if_done(&mut self, now: Time) {
        let Some(Stopping { reason, retry, merge, until, done: false }) = self.stopping else { return };
        let merging = self.round.merging || (merge && !self.round.accepted.is_empty());
        let measuring = !self.unevaluated.is_empty();
        let peers = !self.queries.is_empty() || self.checking() > 0;
        if (merging || measuring || peers || !self.waiting.is_empty()) && now < until {
            return;
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.done = true;
        }
        let text = if retry { "the coordinator is stopping" } else { "the run is complete" };
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.send(session, ServerMsg::Bye(proto::Bye { text: text.to_owned(), retry }));
            self.out.push_back(Order::Close { session });
        }
        self.out.push_back(Order::Stop { reason });
    }

    /// The run in numbers.
    pub fn status(&self) -> proto::Status {
        proto::Status {
            version: self.newest.version,
            workers: self.sessions.values().filter(|s| s.seat().is_some()).count() as u32,
            tasks: self.accepted_tasks,
            tokens: self.accepted_tokens,
            params: self.rules.shape.params() as u64,
            queries: self.queries.len() as u32,
            val_loss: self.evaluated.map(|(loss, _)| loss),
            val_bits_per_byte: self.evaluated.map(|(_, bits)| bits),
        }
    }

    /// The ledger's live state.
    pub fn book(&self) -> &Book {
        &self.book
    }
}
