//! The messages of `hydra.v1`: one MessagePack map a WebSocket frame, `{kind: {field: value, …}}`.
//!
//! `docs/protocol.md` is the specification; these types are its other half, held together by the example frames in
//! `tests.rs`. Fields that a reader does not know are ignored, so new ones may be added; a kind that it does not know
//! is an error. Lengths are checked in [`wire`] before a message reaches a machine.

mod keys;
mod query;
mod session;
pub mod sign;
mod update;
pub mod wire;
mod work;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::keys::{ApiKey, ApiKeys, KeyAct, KnownKey};
pub use self::query::{Answer, Cancel, Finish, Piece, Query, Refused, RefusedCode};
pub use self::session::{Bye, Challenge, Held, Hello, Proof, Role, Welcome};
pub use self::update::{Chunk, Credited, Unpaid, UnpaidCode, Update};
pub use self::work::{Fetch, Progress, Ready, Release, Task, Version};
use crate::credits::Credits;
use crate::ids::VersionNo;

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
    /// Know this API key of mine, forget it, or tell which you know (chats).
    ApiKey(ApiKey),
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
    /// Done: these API keys of yours are known.
    ApiKeys(ApiKeys),
    /// The coordinator closes the session.
    Bye(Bye),
    /// Your message was wrong; the session closes if `fatal`.
    Error(Error),
}

/// No field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

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
    /// The version that this is the loss of, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_version: Option<VersionNo>,
    /// The same in bits per byte of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_bits_per_byte: Option<f64>,
    /// Whether the operator has no tasks generated for the moment.
    #[serde(default, deserialize_with = "wire::nil_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
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
