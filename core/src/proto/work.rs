//! What a worker is given, and what it says while it has it.

use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::ids::{Digest, LeaseId, TaskId, VersionNo};

/// See [`ClientMsg::Ready`](super::ClientMsg::Ready).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether a task may be pushed now. True after `welcome` without being said; said again after each `update`
    /// whose `more` was false.
    pub accepting: bool,
    /// What it trains on now, where that has changed since it was said; empty: it has not.
    #[serde(default, deserialize_with = "super::wire::nil_is_default", skip_serializing_if = "String::is_empty")]
    pub device: String,
}

impl Ready {
    /// On the same device as before.
    pub const fn new(accepting: bool) -> Self {
        Self { accepting, device: String::new() }
    }
}

/// See [`ClientMsg::Fetch`](super::ClientMsg::Fetch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The shard's digest, as the task named it.
    pub shard: Digest,
}

/// See [`ClientMsg::Progress`](super::ClientMsg::Progress).
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

/// See [`ServerMsg::Version`](super::ServerMsg::Version).
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

/// See [`ServerMsg::Task`](super::ServerMsg::Task).
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
    #[serde(default, deserialize_with = "super::wire::nil_is_default")]
    pub preview: String,
}

impl Task {
    /// Tokens in all its steps; saturates, since the numbers may come from anybody.
    pub fn tokens(&self) -> u64 {
        u64::from(self.steps).saturating_mul(u64::from(self.batch)).saturating_mul(u64::from(self.context))
    }
}

/// See [`ClientMsg::Release`](super::ClientMsg::Release).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The lease that will not be finished.
    pub lease: LeaseId,
    /// Why, for people.
    pub text: String,
}
