//! API keys: what a user gives to programs that speak HTTP and cannot sign.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Signature};

/// See [`ClientMsg::ApiKey`](super::ClientMsg::ApiKey).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// What is to be done.
    pub act: KeyAct,
    /// BLAKE3 of the key's text; the text itself stays with the client. `add` needs it, `revoke` without it means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The user's signature over [`sign::api_key_statement`](super::sign::api_key_statement).
    pub signature: Signature,
}

/// What a user wants with API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyAct {
    /// Know this key.
    Add,
    /// Forget it, or all of them.
    Revoke,
    /// Only tell which are known.
    List,
}

/// See [`ServerMsg::ApiKeys`](super::ServerMsg::ApiKeys).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeys {
    /// The user's keys, in the order of their digests; at most [`crate::limits::API_KEYS`].
    pub keys: Vec<KnownKey>,
}

/// An API key that the coordinator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownKey {
    /// BLAKE3 of its text.
    pub digest: Digest,
    /// When it was added, in wall-clock milliseconds.
    pub at_ms: u64,
}
