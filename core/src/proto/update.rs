//! What a worker delivers, and what it gets for it.

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, TaskId, VersionNo};

/// See [`ClientMsg::Update`](super::ClientMsg::Update).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The lease that is done.
    pub lease: LeaseId,
    /// The task's version, again.
    pub version: VersionNo,
    /// How the bytes encode numbers: the task's codec.
    pub codec: Codec,
    /// BLAKE3 of the bytes that follow as chunks.
    pub blob: Digest,
    /// How many bytes follow.
    pub bytes: u64,
    /// Steps taken.
    pub steps: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean training loss over the first tenth of the steps (at least one), nats a token.
    pub loss_first: f32,
    /// The same over the last tenth.
    pub loss_last: f32,
    /// Milliseconds that the training took.
    pub train_ms: u64,
    /// Whether another task may be pushed at once.
    pub more: bool,
}

/// A part of a blob, in order and without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The blob's digest.
    pub blob: Digest,
    /// Where in the blob the data begin.
    pub offset: u64,
    /// At most [`crate::limits::CHUNK_BYTES`] bytes.
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "super::wire::bin")]
    pub data: Vec<u8>,
}

/// See [`ServerMsg::Credited`](super::ServerMsg::Credited).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credited {
    /// The lease.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// Micro-credits paid.
    pub amount: Credits,
    /// The user's balance after it.
    pub balance: Credits,
}

/// See [`ServerMsg::Unpaid`](super::ServerMsg::Unpaid) and [`ServerMsg::Revoked`](super::ServerMsg::Revoked).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpaid {
    /// The lease.
    pub lease: LeaseId,
    /// Its task; 0 if the lease is not known.
    pub task: TaskId,
    /// Why, for programs.
    pub code: UnpaidCode,
    /// Why, for people.
    pub text: String,
}

/// Every reason for which work is not paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpaidCode {
    /// The coordinator knows no such lease.
    UnknownLease,
    /// The lease belongs to another user or worker.
    NotYourLease,
    /// The model has moved on by more than [`crate::limits::STALENESS`] versions.
    Stale,
    /// The update names another version than the lease.
    WrongVersion,
    /// The update uses another codec than the task asked for.
    WrongCodec,
    /// The byte count does not fit the model and codec.
    WrongSize,
    /// Steps or tokens differ from the task's.
    WrongWork,
    /// The bytes do not match their digest.
    Corrupt,
    /// The bytes hold a number that is not finite.
    NotFinite,
    /// The update's norm is zero or beyond reason.
    Norm,
    /// It is an earlier update or step again.
    Copied,
    /// It does not help the model.
    Useless,
    /// The lease ended before the update came (sent with `revoked` too: stop working on it).
    Expired,
    /// The operator ended it.
    Cancelled,
    /// The run is complete.
    Finished,
}
