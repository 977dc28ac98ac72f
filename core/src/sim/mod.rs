//! The whole system in one thread on a virtual clock, from a seed: a hub, workers and chats behind a network, a disk
//! and processes that fail at rates drawn from the seed.
//!
//! A run has a *safety* phase with faults, then everything *heals*, and then everything must *finish*. After every
//! step an [`audit`] that shares no code with the hub's books looks at what was made durable and what was sent. The
//! same seed replays the same run, byte for byte; a seed that fails is kept in `sim/tests.rs`.
//!
//! The shells here stand in for the real ones: bytes are digests, training takes virtual time, and a version's weights
//! are a hash of the version before and of what was merged, so that two machines that should have the same bits have
//! the same digest.

mod audit;
mod coordinator;
mod disk;
mod faults;
mod inside;
mod net;
mod plan;
mod user;
mod wires;
mod worker;
mod world;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ids::Digest;

/// How large a run is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Workers that keep to the protocol.
    pub workers: usize,
    /// Workers that do not.
    pub villains: usize,
    /// People who ask.
    pub chats: usize,
    /// Virtual seconds with faults.
    pub seconds: u64,
    /// Mistakes of the coordinator's shell, to see that the audit finds them.
    pub bugs: Bugs,
    /// Keep the end of the log in the report.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { workers: 8, villains: 2, chats: 4, seconds: 240, bugs: Bugs::default(), trace: false }
    }
}

/// Mistakes that can be switched on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bugs {
    /// Rows are reported durable before they are.
    pub early_ack: bool,
    /// A restart forgets the last accepted update that was not merged.
    pub lost_update: bool,
    /// A restart does not store that it returned the holds.
    pub lost_void: bool,
    /// A restart takes the newest version's updates for unmerged.
    pub merged_twice: bool,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed that repeats it.
    pub seed: u64,
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// The digest of everything that happened.
    pub digest: Digest,
    /// The end of the log, with [`Options::trace`].
    pub log: Vec<String>,
    /// What happened, in numbers.
    pub counts: Counts,
}

/// A run in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events and deadlines.
    pub steps: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// Starts of the coordinator.
    pub boots: u64,
    /// Connections made.
    pub connections: u64,
    /// Updates paid.
    pub paid: u64,
    /// Updates refused.
    pub unpaid: u64,
    /// Versions.
    pub versions: u64,
    /// Queries answered.
    pub answers: u64,
    /// Queries refused or lost.
    pub unanswered: u64,
    /// Faults of all kinds.
    pub faults: u64,
}

/// Runs the system from `seed` to its end.
pub fn run(seed: u64, options: &Options) -> Report {
    let mut world = world::World::new(seed, options);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("panic: {}", text.unwrap_or_else(|| "without words".to_owned())))
        }
    };
    world.report(failure)
}
