//! The rules of HydraAI without any input or output: messages, machines, money, codecs and merging as plain values.
//!
//! Nothing here reads a clock, opens a socket or file, starts a thread or asks the system for randomness; the shells
//! do, and hand in what they found. `clippy.toml` beside this crate enforces it. So the whole system can run in one
//! thread on a virtual clock, from a seed.

pub mod agent;
pub mod backoff;
pub mod chat;
pub mod codec;
pub mod credits;
pub mod hub;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod machine;
pub mod merge;
pub mod model;
pub mod proto;
pub mod rng;
pub mod schedule;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod sketch;
pub mod time;
mod wide;
