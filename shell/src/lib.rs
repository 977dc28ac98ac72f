//! What the three programs share at the rim, where the pure core meets the system: the clock, signals, terminal,
//! logs, keys, addresses, exit codes, the WebSocket client, and the launcher of programs that need libtorch.
//!
//! Nothing here links libtorch or SQLite; a person who only wants to chat builds no more than this.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
pub mod client;
pub mod clock;
#[cfg(feature = "dist")]
pub mod dist;
pub mod events;
pub mod exit;
pub mod keys;
pub mod launch;
pub mod link;
pub mod logs;
pub mod numbers;
pub mod priority;
pub mod signals;
pub mod terminal;
pub mod ui;
mod writer;
