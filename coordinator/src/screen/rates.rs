//! What the swarm did lately, from looks at the run's counters.

use std::collections::VecDeque;
use std::time::Duration;

use hydra_core::time::Time;
use hydra_shell::ui::text;

use super::model::Snapshot;

/// Rates are means over this span.
const MINUTE: Duration = Duration::from_mins(1);
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_secs(1);

/// Looks may be so much further apart.
const SLACK: Duration = Duration::from_secs(10);

/// Where the run stood at some time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    at: Time,
    tokens: u64,
    tasks: u64,
    up: u64,
    down: u64,
}

impl Mark {
    fn of(snapshot: &Snapshot) -> Self {
        let status = &snapshot.view.status;
        let (tokens, tasks) = (status.tokens, status.tasks);
        Self { at: snapshot.view.at, tokens, tasks, up: snapshot.up, down: snapshot.down }
    }
}

/// What the swarm did in the last minute, or since the start if that was later.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// How long that is.
    pub over: Duration,
    /// Tasks accepted.
    pub tasks: u64,
    /// Tokens accepted a second.
    pub tokens: f64,
    /// Bytes a second.
    pub up: f64,
    pub down: f64,
}

impl Rates {
    /// The time that they are of, in words.
    pub fn span(&self) -> String {
        // Longer after the coordinator was stopped (Ctrl-Z), when there was nothing to look at.
        let minute = (MINUTE..MINUTE + SLACK).contains(&self.over);
        if minute { "the last minute".to_owned() } else { format!("the last {}", text::span(self.over)) }
    }
}

/// Where the run stood at each look of the last minute, the oldest first.
#[derive(Debug, Default)]
pub struct Marks(VecDeque<Mark>);

impl Marks {
    /// Looks at the counters, if it is time to; says whether it was.
    pub fn look(&mut self, snapshot: &Snapshot) -> bool {
        let at = snapshot.view.at;
        if self.0.back().is_some_and(|last| at.since(last.at) < LOOK) {
            return false;
        }
        self.0.push_back(Mark::of(snapshot));
        while self.0.len() > 2 && at.since(self.0[1].at) >= MINUTE {
            self.0.pop_front();
        }
        true
    }

    /// What happened since the oldest look, up to `snapshot`, whose totals stand beside it; nothing before there is
    /// something to compare.
    pub fn rates(&self, snapshot: &Snapshot) -> Option<Rates> {
        let (first, last) = (self.0.front()?, Mark::of(snapshot));
        let over = last.at.since(first.at);
        let seconds = over.as_secs_f64();
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        (over >= LOOK).then(|| Rates {
            over,
            tasks: last.tasks.saturating_sub(first.tasks),
            tokens: rate(last.tokens, first.tokens),
            up: rate(last.up, first.up),
            down: rate(last.down, first.down),
        })
    }
}
