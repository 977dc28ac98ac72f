//! What the worker's machine takes and gives.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, TaskId, UserName, VersionNo, WorkerId};
use crate::model::{Recipe, Shape};
use crate::proto::{self, ClientMsg, ServerMsg, UnpaidCode};

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
    /// The last of a blob that [`Order::SendBlob`] named was handed to the network.
    Sent {
        /// Which.
        blob: Digest,
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
    /// It trains on another device, or on more or fewer cores, from now on.
    Device {
        /// What it is called.
        device: String,
    },
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
    /// Get ready for this run's model; forget any other.
    Setup {
        /// The coordinator's key, which is one run's.
        run: PublicKey,
        /// Its sizes.
        shape: Shape,
        /// How to train.
        recipe: Recipe,
    },
    /// Take a held blob away, and add it to the weights or make it the weights. Answer [`Fact::Installed`]. (The same
    /// blob may come again and be held anew before the compute thread gets here.)
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
    /// Forget a blob: it is held, sent and awaited no longer.
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
    /// It was asked to leave, and for [`LINGER`](super::LINGER) nobody took or answered its last updates, so many.
    Undelivered(usize),
    /// The coordinator does not want this worker.
    Refused(String),
}

/// Why a worker ends, for people and scripts; serialises to `"complete"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The run is complete.
    Complete,
    /// It did as many tasks as it was asked to.
    Tasks,
    /// Somebody asked it to finish.
    Asked,
    /// Somebody asked it to stop at once.
    AtOnce,
    /// The coordinator was never reached.
    Unreachable,
    /// The coordinator does not want it.
    Refused,
}

/// The worker's events; serialise to `{"event": "ready", …}` with credits in HYD.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract names them")]
pub enum Event {
    /// Another run than before answers at the address: its credits are others.
    OtherRun,
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
        reason: Why,
        tasks: u64,
        #[serde(serialize_with = "crate::hub::hyd")]
        earned: Credits,
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// Updates sent and not answered: they may still be paid.
        unanswered: u64,
        /// Finished tasks whose updates were never sent: they are not paid.
        undelivered: u64,
    },
}

fn text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
