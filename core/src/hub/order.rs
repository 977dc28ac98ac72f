//! What the hub tells the shell to do.

use super::{Event, Probe, QueryNo, Row, Sampling};
use crate::codec::Codec;
use crate::ids::{Digest, LeaseId, SessionId, UserName, VersionNo, WorkerId};
use crate::merge::OuterRule;
use crate::proto::{self, ServerMsg};
use crate::time::Time;

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
        /// The version that it trained from.
        base: VersionNo,
        /// What to find out about it.
        probe: Probe,
    },
    /// The update that was checked is refused: forget its kept bytes and all that was remembered of it.
    Forget {
        /// Whose.
        lease: LeaseId,
        /// Its bytes.
        blob: Digest,
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
    /// The version is durable: serve it, evaluate it and the average up to it (answer [`Fact::Evaluated`]), forget what it merged.
    Publish {
        /// Which.
        version: VersionNo,
        /// Leases whose kept updates are needed no more.
        merged: Vec<LeaseId>,
    },
    /// Answer a prompt, from what is best when its turn comes ([`Hub::averaged`], else the newest version's own weights);
    /// answer with [`Fact::Begun`], then [`Fact::Piece`]s and [`Fact::Answered`], or with [`Fact::AnswerFailed`].
    Generate {
        /// The number to answer under.
        query: QueryNo,
        /// Who asks.
        user: UserName,
        /// The prompt.
        prompt: String,
        /// Whether it is given to the model as it is, without the run's template and stops.
        raw: bool,
        /// Further texts that end the answer.
        stop: Vec<String>,
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
        /// Why: `tasks`, `tokens`, `rounds`, `loss`, `credits`, `drained`.
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
    /// The factor with which it enters the sum.
    pub share: f32,
}
