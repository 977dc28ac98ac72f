//! Every bound on what a peer may send or make us keep, in one place. A value past its bound is refused, with the
//! bound in the answer; nothing is grown to fit.

use std::time::Duration;

/// Bytes of one MessagePack message, and so of one WebSocket frame.
pub const FRAME_BYTES: usize = 1 << 20;
/// Bytes of data in one `chunk`; small enough that a control message waits at most one chunk for its turn.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Bytes of data in a `chunk` that we send: a session's write buffer keeps the size of the largest message that went
/// through it, for as long as the session lives.
pub const SENT_CHUNK_BYTES: usize = 16 * 1024;
/// Nesting of maps and arrays in a message.
pub const DEPTH: usize = 8;
/// Bytes of any name-like text: agent, device, protocol.
pub const LABEL_BYTES: usize = 64;
/// Bytes of a reason or an error's text.
pub const TEXT_BYTES: usize = 1024;
/// Bytes of a prompt.
pub const PROMPT_BYTES: usize = 64 * 1024;
/// Bytes of one piece of an answer.
pub const PIECE_BYTES: usize = 4096;
/// New tokens in one answer.
pub const NEW_TOKENS: u32 = 4096;
/// Stops, each at most [`LABEL_BYTES`], in one query.
pub const STOPS: usize = 4;
/// Stops in one message, so that it takes not much more memory than bytes; a query with more than [`STOPS`] is refused.
pub const STOPS_READ: usize = 256;
/// API keys of one user.
pub const API_KEYS: usize = 16;
/// What one session may say about API keys: each costs the hub as much work as a new session.
pub const API_KEY_STATEMENTS: u32 = 32;
/// Bytes of the preview of a shard's text in a task.
pub const PREVIEW_BYTES: usize = 160;
/// Tokens of one optimiser step: far above any recipe, far below what a task could ask for to exhaust a worker's memory.
pub const STEP_TOKENS: u64 = 1 << 22;
/// Optimiser steps of one task.
pub const TASK_STEPS: u32 = 1 << 20;
/// Tokens in one shard: 1 MiB as two-byte ids.
pub const SHARD_TOKENS: usize = 512 * 1024;
/// Unfinished queries of one session.
pub const QUERIES_PER_SESSION: usize = 4;
/// Unfinished queries of one user, who may have many sessions.
pub const QUERIES_PER_USER: usize = 64;
/// Queries of one user that may be given up or fail within [`GIVEN_UP_WITHIN`]; the next is refused with `busy`. They
/// cost nothing and leave two lines in the ledger each.
pub const GIVEN_UP: u32 = 60;
/// See [`GIVEN_UP`].
pub const GIVEN_UP_WITHIN: Duration = Duration::from_mins(1);
/// Unfinished queries in all; the next is refused with `busy`.
pub const QUERIES: usize = 256;
/// Shards that a worker may ask for between two leases: one, and some for a cache that lost it.
pub const FETCHES_PER_LEASE: usize = 4;
/// Names that may be claimed within [`NAMES_WITHIN`], by everybody together: they cost nothing and are kept for ever.
pub const NEW_NAMES: u32 = 600;
/// The same for one host, so that it takes ten to keep newcomers out.
pub const NEW_NAMES_HOST: u32 = 60;
/// See [`NEW_NAMES`].
pub const NAMES_WITHIN: Duration = Duration::from_mins(1);
/// Sessions at one time.
pub const SESSIONS: usize = 10_000;
/// How many seconds' worth of messages one session may send at once, where their rate is limited.
pub const BURST_SECONDS: u32 = 10;
/// Connections at one time that are over a limit and are still told so; those beyond are dropped without a word.
pub const TURNED_AWAY: usize = 64;
/// Control messages waiting for one slow session before it is cut.
pub const OUTBOX: usize = 256;
/// From connection to proof.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A session whose socket takes no byte for this long is cut.
pub const WRITE_STALL: Duration = Duration::from_secs(20);
/// Between pings on a session.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// A session that gave no sign of life for this long is gone.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Whose ping is not back after this is given no further task, and its lease ends as that of one that left.
pub const QUIET: Duration = Duration::from_secs(5);
/// How many paid leases are remembered, so that a worker that has not heard of its payment, and delivers again, is told.
pub const PAID: usize = 4096;
/// Updates older than this many versions are refused.
pub const STALENESS: u64 = 2;
