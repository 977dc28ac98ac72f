//! How a session begins and ends: the handshake, and what each side tells of itself.
//!
//! What is signed in it stands in [`sign`](super::sign).

use serde::{Deserialize, Serialize};

use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, Signature, UserName, VersionNo, WorkerId};
use crate::model::{Recipe, Shape};

/// What a client wants of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To train.
    Worker,
    /// To ask.
    Chat,
}

/// See [`ClientMsg::Hello`](super::ClientMsg::Hello).
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
    #[serde(default, deserialize_with = "super::wire::nil_is_default")]
    pub device: String,
    /// The version that this worker still holds from an earlier session, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Held>,
    /// The lease that this worker is still training, if any; it goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Whether no task is welcome until `ready` says so.
    #[serde(default, deserialize_with = "super::wire::nil_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// A version that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub version: VersionNo,
    /// The digest of its weights.
    pub digest: Digest,
}

/// See [`ServerMsg::Challenge`](super::ServerMsg::Challenge).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The coordinator's key.
    pub key: PublicKey,
    /// Random, to be signed.
    pub nonce: Nonce,
    /// The coordinator's signature over [`sign::server_statement`].
    pub signature: Signature,
}

/// See [`ClientMsg::Proof`](super::ClientMsg::Proof).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The client's signature over [`sign::client_statement`].
    pub signature: Signature,
}

/// See [`ServerMsg::Welcome`](super::ServerMsg::Welcome).
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
    /// The version that this is the loss of, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_version: Option<VersionNo>,
}

/// The end of a session, from either side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why, for people.
    pub text: String,
    /// Whether coming back later makes sense; from a client: whether it will.
    #[serde(default, deserialize_with = "super::wire::nil_is_default")]
    pub retry: bool,
}
