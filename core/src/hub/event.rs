//! What happened, for people and scripts: the coordinator's JSON events (the contract is in `docs/commands.md`).

use serde::{Serialize, Serializer};

use crate::credits::Credits;
use crate::ids::{QueryId, TaskId, UserName, VersionNo, WorkerId};
use crate::proto::{RefusedCode, UnpaidCode};

/// One event; serialises to `{"event": "joined", …}` with credits in HYD.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A worker's session opened.
    Joined {
        /// Which process.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Whose.
        user: UserName,
    },
    /// A worker's session ended.
    Left {
        /// Which process.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Whose.
        user: UserName,
        /// Why, for people.
        reason: String,
    },
    /// A task was handed to a worker's socket.
    Pushed {
        /// The task.
        task: TaskId,
        /// To whom.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Microseconds since both the task and a free worker existed.
        wait_us: u64,
        /// When it was handed over, in microseconds since 1970: for tracing over several programs of one machine.
        at_us: u64,
    },
    /// An update was accepted; its payment is durable.
    Accepted {
        /// The task.
        task: TaskId,
        /// By which process.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Whose.
        user: UserName,
        /// HYD.
        #[serde(serialize_with = "hyd")]
        amount: Credits,
    },
    /// An update was not accepted.
    Rejected {
        /// The task; 0 if unknown.
        task: TaskId,
        /// By which process.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Whose.
        user: UserName,
        /// Why.
        reason: UnpaidCode,
    },
    /// A worker's updates are to be written in another way, because of its link.
    Codec {
        /// Which process.
        #[serde(serialize_with = "text")]
        worker: WorkerId,
        /// Whose.
        user: UserName,
        /// From its next task on.
        codec: crate::codec::Codec,
        /// So far.
        before: crate::codec::Codec,
        /// Milliseconds that an update takes to come in the codec so far.
        send_ms: u64,
        /// Milliseconds that a task takes.
        task_ms: u64,
    },
    /// A version was merged, published and evaluated.
    Round {
        /// The version.
        version: VersionNo,
        /// Whether its loss is that of the average of the versions up to it, which then answers.
        averaged: bool,
        /// Updates merged into it.
        updates: usize,
        /// Tokens trained in all so far.
        tokens: u64,
        /// Nats a token on held-out text.
        val_loss: f64,
        /// Bits a byte of held-out text.
        val_bits_per_byte: f64,
        /// Bytes of model traffic from workers since the last round event.
        bytes_up: u64,
        /// Bytes of model traffic to workers since the last round event.
        bytes_down: u64,
        /// Since the version before was published.
        seconds: f64,
    },
    /// A query was answered in full and charged.
    Query {
        /// The client's id.
        #[serde(serialize_with = "text")]
        id: QueryId,
        /// Whose.
        user: UserName,
        /// Which version answered.
        version: VersionNo,
        /// Whether it was the average of the versions up to that one.
        averaged: bool,
        /// New tokens.
        tokens: u32,
        /// Milliseconds from the query's arrival to its first piece.
        first_ms: u64,
        /// Milliseconds from the query's arrival to its end.
        total_ms: u64,
        /// HYD.
        #[serde(serialize_with = "hyd")]
        charged: Credits,
    },
    /// A query was refused; nothing was charged.
    Refused {
        /// The client's id.
        #[serde(serialize_with = "text")]
        id: QueryId,
        /// Whose.
        user: UserName,
        /// Why.
        reason: RefusedCode,
        /// Whether some of the answer was sent before.
        begun: bool,
    },
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Credits as a number of HYD.
pub fn hyd<S: Serializer>(amount: &Credits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(amount.as_hyd())
}
