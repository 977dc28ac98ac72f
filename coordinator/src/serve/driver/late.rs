//! A process that was stopped for a while (Ctrl-Z, a machine that slept) hears what was sent meanwhile before it lets
//! deadlines pass: nobody's work is late because nobody listened.

use std::time::Duration;

use hydra_core::time::Time;

/// Who comes so much too late to a deadline was stopped meanwhile.
const LATE: Duration = Duration::from_secs(1);
/// For so long it only listens then.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Since when, or until when, deadlines are kept again.
#[derive(Debug, Default)]
pub(super) struct Late {
    listens: Time,
}

impl Late {
    /// When to look at a deadline.
    pub fn look_at(&self, deadline: Time) -> Time {
        deadline.max(self.listens)
    }

    /// Whether who waited since `began` for something, at most until `look_at`, was stopped; it listens first then.
    /// Not twice in a row: a machine that is always late goes on, too.
    pub fn was_stopped(&mut self, began: Time, look_at: Time, now: Time) -> bool {
        let stopped = now.since(look_at.max(began)) > LATE && now.since(self.listens) > CATCH_UP;
        if stopped {
            self.listens = now.after(CATCH_UP);
        }
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn who_was_stopped_listens_first() {
        let mut late = Late::default();
        let [began, lease, resumed] = [10, 40, 45].map(|second| Time(second * SECOND));
        assert_eq!(late.look_at(lease), lease);
        assert!(!late.was_stopped(began, lease, lease), "in time");
        assert!(late.was_stopped(began, lease, resumed));
        let again = late.look_at(lease);
        assert_eq!(again, Time(48 * SECOND));
        // What is heard meanwhile changes nothing, nor does being late again.
        assert!(!late.was_stopped(resumed, again, Time(46 * SECOND)));
        assert!(!late.was_stopped(resumed, again, Time(50 * SECOND)), "the lease ends then");
    }

    #[test]
    fn a_deadline_that_lies_back_is_not_late() {
        let mut late = Late::default();
        assert!(!late.was_stopped(Time(50 * SECOND), Time(10 * SECOND), Time(50 * SECOND)));
    }
}
