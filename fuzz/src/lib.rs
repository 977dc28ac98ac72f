//! What is fuzzed, one module a target: each has `run`, which takes any bytes and panics only if something is broken.
//!
//! A target checks more than "it does not panic": what was accepted must survive a round trip, and what is told to a
//! peer stays within its bounds. [`seeds`] are inputs to begin with; `corpus/` holds what fuzzing found beyond them,
//! packed ([`pack`]), and `tests/replay.rs` runs all of it with the ordinary tests. libFuzzer's side is in
//! `libfuzzer/`, a workspace of its own; `cargo xtask fuzz` drives it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod frames;
pub mod pack;
pub mod seeds;
pub mod settings;
pub mod tokenizer;
pub mod updates;

/// A target's name, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] =
    &[("frames", frames::run), ("updates", updates::run), ("tokenizer", tokenizer::run), ("settings", settings::run)];
