//! The messages of `hydra.v1`: one MessagePack map a WebSocket frame, `{kind: {field: value, …}}`.
//!
//! `docs/protocol.md` is the specification; these types are its other half, held together by the example frames in
//! `tests.rs`. Fields that a reader does not know are ignored, so new ones may be added; a kind that it does not know
//! is an error. Lengths are checked in [`wire`] before a message reaches a machine.

pub mod sign;
pub mod wire;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, QueryId, Signature, TaskId, UserName, VersionNo, WorkerId};
use crate::model::{Recipe, Shape};

/// The protocol's name, sent in `hello`; the WebSocket's path is [`PATH`].
pub const PROTOCOL: &str = "hydra.v1";
/// Where the coordinator accepts WebSockets.
pub const PATH: &str = "/ws";

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMsg {
    /// First message: who I am.
    Hello(Hello),
    /// Answer to `challenge`.
    Proof(Proof),
    /// Whether the coordinator may push tasks (workers).
    Ready(Ready),
    /// I lack this shard; answered by `chunk`s (workers).
    Fetch(Fetch),
    /// Where the task in hand stands (workers).
    Progress(Progress),
    /// A finished task; its bytes follow as `chunk`s (workers).
    Update(Update),
    /// A part of an update.
    Chunk(Chunk),
    /// I give this task back (workers).
    Release(Release),
    /// A prompt.
    Query(Query),
    /// Stop that answer.
    Cancel(Cancel),
    /// What do I have?
    Balance(Empty),
    /// How is the run?
    Status(Empty),
    /// I am leaving.
    Bye(Bye),
}

/// What the coordinator sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMsg {
    /// Prove that the key is yours; here is my own proof.
    Challenge(Challenge),
    /// You are in.
    Welcome(Welcome),
    /// A version of the model, as the difference from the one before or whole; `chunk`s follow (workers).
    Version(Version),
    /// Work (workers).
    Task(Task),
    /// A part of a version or shard (workers).
    Chunk(Chunk),
    /// The task is accepted and paid (workers).
    Credited(Credited),
    /// The task is not paid, and why (workers).
    Unpaid(Unpaid),
    /// Stop working on this lease, and why (workers).
    Revoked(Unpaid),
    /// The next piece of an answer.
    Piece(Piece),
    /// The answer is complete and charged.
    Answer(Answer),
    /// There will be no (further) answer; nothing was charged.
    Refused(Refused),
    /// Your credits.
    Balance(Balance),
    /// The run in numbers.
    Status(Status),
    /// The coordinator closes the session.
    Bye(Bye),
    /// Your message was wrong; the session closes if `fatal`.
    Error(Error),
}

/// No field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// What a client wants of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To train.
    Worker,
    /// To ask.
    Chat,
}

/// See [`ClientMsg::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: String,
    /// Worker or chat.
    pub role: Role,
    /// The name to earn or spend under.
    pub user: UserName,
    /// The key that owns the name, or will.
    pub key: PublicKey,
    /// Random, makes the coordinator's proof fresh.
    pub nonce: Nonce,
    /// Program and version, for people.
    pub agent: String,
    /// This worker process; absent for a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// What it trains on, for people: `cpu ×2`, `cuda:0`; empty for a chat.
    #[serde(default)]
    pub device: String,
    /// The version that this worker still holds from an earlier session, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Held>,
    /// The lease that this worker is still training, if any; it goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// A version that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub version: VersionNo,
    /// The digest of its weights.
    pub digest: Digest,
}

/// See [`ServerMsg::Challenge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The coordinator's key.
    pub key: PublicKey,
    /// Random, to be signed.
    pub nonce: Nonce,
    /// The coordinator's signature over [`sign::server_statement`].
    pub signature: Signature,
}

/// See [`ClientMsg::Proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The client's signature over [`sign::client_statement`].
    pub signature: Signature,
}

/// See [`ServerMsg::Welcome`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session's number, for logs.
    pub session: u64,
    /// Credits of the user, in micro-credits.
    pub balance: Credits,
    /// Micro-credits paid for a task.
    pub reward: Credits,
    /// Micro-credits charged for a query.
    pub price: Credits,
    /// The newest version.
    pub version: VersionNo,
    /// The model's sizes.
    pub shape: Shape,
    /// How to train.
    pub recipe: Recipe,
    /// Held-out loss of the newest evaluated version, nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
}

/// See [`ClientMsg::Ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether a task may be pushed now. True after `welcome` without being said; said again after each `update`
    /// whose `more` was false.
    pub accepting: bool,
}

/// See [`ClientMsg::Fetch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The shard's digest, as the task named it.
    pub shard: Digest,
}

/// See [`ClientMsg::Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which lease.
    pub lease: LeaseId,
    /// Steps done.
    pub step: u32,
    /// Training loss of the last step, nats a token.
    pub loss: f32,
    /// Speed since the task's start.
    pub tokens_per_s: f32,
}

/// See [`ServerMsg::Version`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The version's number.
    pub version: VersionNo,
    /// BLAKE3 of its weights as little-endian `f32`s in the flat order of `docs/protocol.md`.
    pub digest: Digest,
    /// The version that the bytes must be added to; absent: the bytes are the whole weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<VersionNo>,
    /// How the bytes encode numbers.
    pub codec: Codec,
    /// BLAKE3 of the bytes that follow as chunks.
    pub blob: Digest,
    /// How many bytes follow.
    pub bytes: u64,
}

/// See [`ServerMsg::Task`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The lease, to be named in everything about this work.
    pub lease: LeaseId,
    /// The task; the same over repeated leases.
    pub task: TaskId,
    /// Train from this version.
    pub version: VersionNo,
    /// BLAKE3 of the shard's bytes: token ids, two bytes each, little-endian.
    pub shard: Digest,
    /// Tokens in the shard.
    pub shard_tokens: u64,
    /// Optimiser steps to take.
    pub steps: u32,
    /// Windows a step.
    pub batch: u32,
    /// Tokens a window.
    pub context: u32,
    /// Draws the windows.
    pub seed: u64,
    /// Learning rate of the first step; linear from here.
    pub lr_start: f32,
    /// Learning rate of the last step.
    pub lr_end: f32,
    /// How to encode the update.
    pub codec: Codec,
    /// Milliseconds until the lease ends.
    pub deadline_ms: u64,
    /// The shard's first words, for people.
    #[serde(default)]
    pub preview: String,
}

impl Task {
    /// Tokens in all its steps; saturates, since the numbers may come from anybody.
    pub fn tokens(&self) -> u64 {
        u64::from(self.steps).saturating_mul(u64::from(self.batch)).saturating_mul(u64::from(self.context))
    }
}

/// See [`ClientMsg::Update`].
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
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "wire::bin")]
    pub data: Vec<u8>,
}

/// See [`ClientMsg::Release`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The lease that will not be finished.
    pub lease: LeaseId,
    /// Why, for people.
    pub text: String,
}

/// See [`ServerMsg::Credited`].
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

/// See [`ServerMsg::Unpaid`] and [`ServerMsg::Revoked`].
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

/// See [`ClientMsg::Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Drawn by the client; the same when the same query is sent again.
    pub id: QueryId,
    /// Any text.
    pub prompt: String,
    /// At most this many new tokens; absent: the run's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// 0 is greedy; absent: the run's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Only the k likeliest tokens; absent or 0: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together reach p; absent or 1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Repeats an answer of the same version; absent: drawn from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// See [`ClientMsg::Cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which query.
    pub id: QueryId,
}

/// See [`ServerMsg::Piece`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which query.
    pub id: QueryId,
    /// Counts the pieces from 0.
    pub index: u32,
    /// Whole characters; at most [`crate::limits::PIECE_BYTES`].
    pub text: String,
}

/// See [`ServerMsg::Answer`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which query.
    pub id: QueryId,
    /// The version that answered, all of it.
    pub version: VersionNo,
    /// Pieces that were sent; the client can tell whether it has them all.
    pub pieces: u32,
    /// New tokens.
    pub tokens: u32,
    /// Held-out loss of that version, nats a token, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Micro-credits charged.
    pub charged: Credits,
    /// The user's balance after it.
    pub balance: Credits,
    /// What ended it.
    pub finish: Finish,
}

/// What ended an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its text, or wrote one of the run's stops.
    Stop,
    /// `max_new_tokens` were written.
    Length,
    /// The client cancelled after the first piece; charged.
    Cancelled,
}

/// See [`ServerMsg::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which query.
    pub id: QueryId,
    /// Why, for programs.
    pub code: RefusedCode,
    /// Why, for people, with the next step.
    pub text: String,
    /// The user's balance.
    pub balance: Credits,
}

/// Every reason for which a query is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// Less than the price.
    Insufficient,
    /// No text in the prompt.
    EmptyPrompt,
    /// More text than [`crate::limits::PROMPT_BYTES`].
    HugePrompt,
    /// A sampling setting is out of bounds.
    BadSetting,
    /// Too many queries are waiting.
    Busy,
    /// This id was already used.
    Duplicate,
    /// Cancelled before the first piece.
    Cancelled,
    /// The model could not answer; the coordinator's log says why.
    Failed,
    /// The coordinator is stopping.
    Stopping,
}

/// See [`ServerMsg::Balance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Micro-credits free to spend.
    pub balance: Credits,
    /// Micro-credits held for running queries.
    pub held: Credits,
}

/// See [`ServerMsg::Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The newest version.
    pub version: VersionNo,
    /// Connected workers.
    pub workers: u32,
    /// Accepted tasks since the run began.
    pub tasks: u64,
    /// Trained tokens since the run began.
    pub tokens: u64,
    /// Parameters of the model.
    pub params: u64,
    /// Queries being answered.
    pub queries: u32,
    /// Held-out loss of the newest evaluated version, nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The same in bits per byte of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_bits_per_byte: Option<f64>,
}

/// The end of a session, from either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why, for people.
    pub text: String,
    /// From the coordinator: whether coming back later makes sense.
    #[serde(default)]
    pub retry: bool,
}

/// See [`ServerMsg::Error`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What, for programs.
    pub code: ErrorCode,
    /// What, for people.
    pub text: String,
    /// Whether the coordinator closes the session now.
    pub fatal: bool,
}

/// Every kind of error that the coordinator tells a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not a message of this protocol.
    Malformed,
    /// Past a bound of `docs/protocol.md`.
    TooLarge,
    /// A known message at the wrong moment, or from the wrong role.
    Unexpected,
    /// The coordinator speaks another protocol.
    Protocol,
    /// The signature does not fit the key.
    BadProof,
    /// The user's name belongs to another key.
    NameTaken,
    /// No such shard.
    UnknownShard,
    /// The handshake took too long.
    Slow,
    /// The coordinator has no room for another session.
    Full,
    /// The same worker has connected again; this session is the old one.
    Replaced,
    /// The operator has ended the session, for the reason in the text.
    Removed,
    /// Messages came faster than the coordinator takes them.
    Flood,
}
