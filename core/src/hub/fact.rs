//! What the shell tells the hub.

use std::net::IpAddr;

use super::Findings;
use crate::ids::{Digest, LeaseId, Nonce, SessionId, UserName, VersionNo, WorkerId};
use crate::proto::{self, ClientMsg, Finish, UnpaidCode};

/// Facts for the hub.
#[derive(Debug, Clone)]
pub enum Fact {
    /// A connection was made; the nonce is fresh from the system.
    Joined {
        /// Its number, never used before.
        session: SessionId,
        /// For the challenge.
        nonce: Nonce,
        /// What counts as one host, for what each may claim; nothing for this machine.
        host: Option<IpAddr>,
    },
    /// A request with an API key came: a session of the key's user at once, for queries alone.
    Keyed {
        /// Its number, never used before.
        session: SessionId,
        /// BLAKE3 of the key's text.
        key: Digest,
    },
    /// A whole, well-formed message came.
    Frame {
        /// From where.
        session: SessionId,
        /// What.
        message: ClientMsg,
    },
    /// Something came that is no message; the session must end.
    BadFrame {
        /// From where.
        session: SessionId,
        /// What is wrong, for the peer.
        error: proto::Error,
    },
    /// A ping was not answered in time: whoever is there may be asleep.
    Quiet {
        /// Which.
        session: SessionId,
    },
    /// A sign of life came after that; told before what came.
    Woke {
        /// Which.
        session: SessionId,
    },
    /// The connection is gone.
    Left {
        /// Which.
        session: SessionId,
        /// Why, for people.
        reason: String,
    },
    /// All chunks of an announced update came.
    Received {
        /// From where.
        session: SessionId,
        /// Which blob.
        blob: Digest,
        /// Whether the bytes match the digest.
        intact: bool,
    },
    /// The check that [`Order::Check`] asked for is done; if good, the bytes are durable.
    Checked {
        /// Whose update.
        lease: LeaseId,
        /// Its numbers, or why it has none.
        verdict: Result<Findings, (UnpaidCode, String)>,
    },
    /// All rows up to this number are durable.
    Persisted {
        /// The number of the [`Order::Persist`].
        upto: u64,
    },
    /// The merge is done and the weights can be made again from what is on disk.
    Merged {
        /// The version.
        version: VersionNo,
        /// The digest of its weights.
        digest: Digest,
    },
    /// The merge failed (a full disk, most likely); the hub tries again later.
    MergeFailed {
        /// Which version.
        version: VersionNo,
    },
    /// A version was evaluated: its own weights, or the average of the versions up to it, whichever is better.
    Evaluated {
        /// Which.
        version: VersionNo,
        /// Whether it is the average, which then answers.
        averaged: bool,
        /// Nats a token.
        loss: f64,
        /// Bits a byte of text.
        bits_per_byte: f64,
        /// Model traffic from workers since the last evaluation.
        bytes_up: u64,
        /// Model traffic to workers since the last evaluation.
        bytes_down: u64,
    },
    /// The version will not be measured: another measurement is too fresh, a newer version overtook it, or it failed.
    Unmeasured {
        /// Which.
        version: VersionNo,
    },
    /// An answer begins, before its first piece; it is drawn from this to its end.
    Begun {
        /// Which answer.
        query: QueryNo,
        /// The version.
        version: VersionNo,
        /// Whether it is the average of the versions up to that one; else its own weights.
        averaged: bool,
    },
    /// The next piece of an answer.
    Piece {
        /// Which answer.
        query: QueryNo,
        /// Whole characters.
        text: String,
        /// New tokens so far.
        tokens: u32,
    },
    /// An answer came to its end.
    Answered {
        /// Which.
        query: QueryNo,
        /// New tokens.
        tokens: u32,
        /// Why it ended.
        finish: Finish,
    },
    /// An answer cannot be given.
    AnswerFailed {
        /// Which.
        query: QueryNo,
        /// Why, for the user.
        text: String,
    },
    /// The operator said something.
    Operator(Operator),
}

/// What the operator may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// Finish what is running, then stop.
    Drain,
    /// Generate no tasks.
    Pause,
    /// Generate tasks again.
    Resume,
    /// Keep this many tasks queued.
    Queue(usize),
    /// Make the next version of what has been accepted so far, without waiting for more than what it would make too old.
    CloseRound,
    /// Send a worker away, with a reason that it sees.
    Kick(UserName, WorkerId, String),
}

/// The hub's own number for a running answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryNo(pub u64);
