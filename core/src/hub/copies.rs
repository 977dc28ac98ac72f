//! Second copies: at the end of a bounded run one lost worker must not keep everybody waiting.
//!
//! Tasks are generated as fast as workers take them, and a round closes without those that are late, so in general
//! a free worker has something better to do than what another is doing already. Only where a run's budget is all
//! handed out (`stop.after_tasks`, `stop.after_tokens`) is there nothing else. Then a free worker gets a copy of the
//! task that is overdue the longest, under a lease of its own with windows of its own. Whichever comes first is paid;
//! the other is paid too if it comes before the run has ended. A worker that is slow but keeps to what is expected of it
//! is not overtaken; but by its own word a worker is expected no later than its lease ended at first.

use std::time::Duration;

use super::Hub;
use super::leases::{Held, NEVER};
use super::tasks::Spec;
use crate::ids::LeaseId;
use crate::time::Time;

/// An update is overdue when it was expected this long ago, or the grace, if that is longer.
const SLACK: Duration = Duration::from_secs(1);

impl Hub {
    /// The task that is overdue the longest, to be leased a second time, where nothing else is left to be done.
    pub(super) fn overdue(&self, now: Time) -> Option<Spec> {
        let (due, lease) = self.next_overdue().filter(|(due, _)| *due <= now)?;
        let Held { row, .. } = self.leases.get(lease)?;
        Some(Spec { task: row.task, shard: row.shard, seed: row.seed, since: due, from: None })
    }

    /// When the next copy may be leased, if a worker is free for it.
    pub(super) fn copy_deadline(&self) -> Option<(Time, &'static str)> {
        self.bench.next().filter(|_| !self.is_behind())?;
        self.next_overdue().map(|(due, _)| (due, "an update is overdue"))
    }

    /// The lease that is overdue first among those whose tasks nobody else has.
    fn next_overdue(&self) -> Option<(Time, LeaseId)> {
        if self.stopping.is_some() || self.paused || !self.queue.is_empty() || !self.budget_spent() {
            return None;
        }
        let slack = SLACK.max(self.grace());
        let due = |(at, lease): (Time, LeaseId)| {
            let held = self.leases.get(lease)?;
            let alone = self.leases.served(held.row.task) == 1;
            alone.then(|| (at.after(slack).min(held.first), lease))
        };
        self.leases.training_by_time().take_while(|(at, _)| *at < NEVER).filter_map(due).min()
    }
}
