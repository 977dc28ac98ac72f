//! What the hub asks to be stored, and what it needs back to go on after a restart. How it is stored is the shell's.

use super::Asked;
use crate::codec::Codec;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, PublicKey, TaskId, UserName, VersionNo, WorkerId};
use crate::ledger::{Book, Transfer};
use crate::proto::UnpaidCode;
use crate::rng::Rng;

/// One fact to be made durable. Rows of one [`super::Order::Persist`] become durable together, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A name was claimed by a key.
    User {
        /// The name.
        name: UserName,
        /// The key that owns it.
        key: PublicKey,
        /// Wall-clock milliseconds.
        at_ms: u64,
    },
    /// A task went into a worker's hands.
    Lease(Lease),
    /// A lease ended without being accepted.
    Ended {
        /// Which.
        lease: LeaseId,
        /// Why.
        code: UnpaidCode,
        /// Wall-clock milliseconds.
        at_ms: u64,
    },
    /// A lease's update was accepted; it waits to be merged.
    Accepted(Accepted),
    /// A new version was merged; its weights can be made again from what is on disk.
    Version(Version),
    /// A version was evaluated.
    Evaluated {
        /// Which.
        version: VersionNo,
        /// Nats a token.
        loss: f64,
        /// Bits a byte of text.
        bits_per_byte: f64,
    },
    /// Credits moved.
    Transfer(Transfer),
    /// A user has a further API key.
    ApiKey(ApiKey),
    /// An API key is worth nothing any more.
    ApiKeyRevoked {
        /// BLAKE3 of its text.
        digest: Digest,
    },
}

/// An API key, of which only the digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// BLAKE3 of its text.
    pub digest: Digest,
    /// Who pays for what is asked with it.
    pub user: UserName,
    /// Wall-clock milliseconds when it was added.
    pub at_ms: u64,
}

/// A task in a worker's hands: all that is needed to judge the update that comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The lease.
    pub lease: LeaseId,
    /// Its task.
    pub task: TaskId,
    /// Who earns.
    pub user: UserName,
    /// Which process.
    pub worker: WorkerId,
    /// The version to train from.
    pub version: VersionNo,
    /// Which shard, by its place in the run's data.
    pub shard: u32,
    /// The task's seed.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u32,
    /// Tokens in all steps.
    pub tokens: u64,
    /// The update's codec.
    pub codec: Codec,
    /// Wall-clock milliseconds when it was leased.
    pub at_ms: u64,
}

impl Lease {
    /// The seed from which the lease's windows follow. Every lease of a task draws windows of its own, so that two
    /// updates of one task are both worth something.
    pub fn window_seed(&self) -> u64 {
        Rng::new(self.seed ^ self.lease.0).next_u64() >> 1
    }
}

/// An accepted update.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The lease that it fulfils.
    pub lease: LeaseId,
    /// The digest of its bytes, which the shell keeps until the update is merged.
    pub blob: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// Euclidean norm of the decoded numbers.
    pub norm: f64,
    /// Training loss at the task's beginning, nats a token.
    pub loss_first: f32,
    /// And at its end.
    pub loss_last: f32,
    /// Milliseconds that the training took.
    pub train_ms: u64,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
    /// What it was paid; the transfer beside it says so, and nothing else need be stored.
    pub paid: Credits,
}

/// A version of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its number.
    pub version: VersionNo,
    /// The digest of its weights.
    pub digest: Digest,
    /// Tokens trained by all updates merged so far.
    pub tokens: u64,
    /// Tasks merged so far.
    pub tasks: u64,
    /// The leases whose updates this version merged, with their shares, in merging order.
    pub inputs: Vec<(LeaseId, f32)>,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
}

/// What a restart needs.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// How often this run was started, this time included; begins at 1. Makes lease numbers unique.
    pub boot: u64,
    /// Every claimed name.
    pub users: Vec<(UserName, PublicKey)>,
    /// Every API key that was not revoked.
    pub api_keys: Vec<ApiKey>,
    /// The ledger, replayed from the transfers.
    pub book: Book,
    /// What was asked before, from the same.
    pub asked: Asked,
    /// The newest version whose weights are on disk and match.
    pub newest: Version,
    /// Its evaluation, if it had one: loss and bits a byte.
    pub evaluated: Option<(f64, f64)>,
    /// Leases neither accepted nor ended whose version is recent enough to matter.
    pub open: Vec<Lease>,
    /// Accepted updates that no stored version has merged, with their leases, oldest first.
    pub unmerged: Vec<(Lease, Accepted)>,
    /// Leases accepted and merged lately, oldest first: a resent update is answered with its payment again, and how
    /// fast their workers are is known.
    pub settled: Vec<(Lease, Accepted)>,
    /// The highest task number that is stored.
    pub last_task: TaskId,
}
