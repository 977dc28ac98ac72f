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
mod client;
mod coordinator;
mod disk;
mod ending;
mod faults;
mod inside;
mod lives;
mod net;
mod plan;
mod user;
mod villain;
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
    /// Processes beside the coordinator: about seven in ten are workers that keep to the protocol, one in ten does
    /// not, two in ten are people who ask.
    pub agents: usize,
    /// Virtual seconds with faults.
    pub seconds: u64,
    /// A mistake, to see that the audit finds it.
    pub bug: Option<Bug>,
    /// Keep the end of the log in the report.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { agents: 50, seconds: 50, bug: None, trace: false }
    }
}

impl Options {
    /// Workers that do not keep to the protocol.
    fn villains(&self) -> usize {
        self.agents.div_ceil(10)
    }

    /// People who ask.
    fn chats(&self) -> usize {
        self.agents.div_ceil(5)
    }

    /// Workers that keep to the protocol.
    fn workers(&self) -> usize {
        self.agents.saturating_sub(self.villains() + self.chats()).max(1)
    }
}

/// Mistakes that can be switched on, in the simulated shell and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Now and then rows are reported durable before they are.
    EarlyAck,
    /// A restart forgets the last accepted update that was not merged.
    LostUpdate,
    /// A restart forgets which leases were settled: a result that is resent is taken, and paid, again.
    PaidAgain,
    /// A restart forgets the holds of the queries that died: that they were returned is never stored.
    LostHold,
    /// Now and then a task that was pushed to one worker is pushed to another as well, under the same lease.
    LeasedTwice,
    /// A restart takes the newest version's updates for unmerged.
    MergedTwice,
    /// Updates are removed when their version is told, not when it is on disk.
    EarlyForget,
    /// Now and then an update is refused for nothing.
    Unfair,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EarlyAck,
        Self::LostUpdate,
        Self::PaidAgain,
        Self::LostHold,
        Self::LeasedTwice,
        Self::MergedTwice,
        Self::EarlyForget,
        Self::Unfair,
    ];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyAck => "early-ack",
            Self::LostUpdate => "lost-update",
            Self::PaidAgain => "paid-again",
            Self::LostHold => "lost-hold",
            Self::LeasedTwice => "leased-twice",
            Self::MergedTwice => "merged-twice",
            Self::EarlyForget => "early-forget",
            Self::Unfair => "unfair",
        }
    }
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

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.seconds += other.seconds;
        self.boots += other.boots;
        self.connections += other.connections;
        self.paid += other.paid;
        self.unpaid += other.unpaid;
        self.versions += other.versions;
        self.answers += other.answers;
        self.unanswered += other.unanswered;
        self.faults += other.faults;
    }
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
