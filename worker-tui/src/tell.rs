//! The headless sink: events for scripts on standard output, lines for people on standard error.

use std::time::Duration;

use hydra_core::agent::{Event, Why};
use hydra_core::credits::Credits;
use hydra_core::time::Time;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::ui::text::{count, grouped};

use crate::driver::{News, Sink};

/// Between two lines about the progress of one task; scripts get all of it.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// See the module's page.
pub struct Teller {
    events: Events,
    clock: Clock,
    /// For people: where the coordinator is.
    coordinator: String,
    /// Whether there was a session: nothing is known of the balance before.
    met: bool,
    /// Whether it leaves because of its device, which nobody asked for.
    useless: bool,
    steps: u32,
    told: Option<Time>,
    /// Tasks paid and what they earned: so far, and of that in runs before this one.
    paid: (u64, Credits),
    before: (u64, Credits),
}

/// Told when the coordinator's key is not what it was.
pub const OTHER_RUN: &str = "another run answers at this address now: what was earned stays with the one before";

const NOTHING: (u64, Credits) = (0, Credits::ZERO);

impl Teller {
    /// Tells `events`; `coordinator` is where it is, for people.
    pub fn new(events: Events, clock: Clock, coordinator: String) -> Self {
        Self {
            events,
            clock,
            coordinator,
            met: false,
            useless: false,
            steps: 0,
            told: None,
            paid: NOTHING,
            before: NOTHING,
        }
    }

    /// What people are told, if it is worth a line.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::OtherRun => {
                self.before = self.paid;
                // Nothing is known of the balance there, until it welcomes the worker.
                self.met = false;
                OTHER_RUN.to_owned()
            }
            Event::Ready { user, device, .. } => {
                self.met = true;
                format!("connected to {} as {user}, training on {device}; waiting for a task", self.coordinator)
            }
            Event::Task { task, version, steps, tokens } => {
                (self.steps, self.told) = (*steps, Some(self.clock.now()));
                let steps = count(u64::from(*steps), "step", "steps");
                format!("task {task}: {steps} from version {version}, {} tokens", grouped(*tokens))
            }
            Event::Progress { task, step, loss, tokens_per_s } => {
                let now = self.clock.now();
                let last = *step >= self.steps;
                if !last && self.told.is_some_and(|told| now.since(told) < PROGRESS_EVERY) {
                    return None;
                }
                self.told = Some(now);
                let (steps, speed) = (self.steps, grouped(*tokens_per_s as u64));
                format!("task {task}: step {step} of {steps} · loss {loss:.2} · {speed} tokens/s")
            }
            Event::Submitted { task, bytes } => {
                format!("task {task}: done, sending {} kB", grouped(bytes.div_ceil(1000)))
            }
            Event::Credited { task, amount, balance } => {
                self.paid = (self.paid.0 + 1, plus(self.paid.1, *amount));
                format!("+{amount} HYD for task {task}, balance {balance} HYD")
            }
            Event::Unpaid { task, text, .. } => format!("no pay for task {task}: {text}"),
            Event::Disconnected { retry_ms, reason } => {
                format!("not connected: {reason}; trying again in {:.1} s", *retry_ms as f64 / 1000.0)
            }
            Event::Stopped { reason, tasks, earned, balance, unanswered, undelivered } => {
                let count = |tasks| count(tasks, "task", "tasks");
                let balance = if self.met { format!("balance {balance} HYD") } else { "balance unknown".to_owned() };
                let (tasks_before, earned_before) = self.before;
                let here = count(tasks.saturating_sub(tasks_before));
                let earned_here = earned.checked_sub(earned_before).unwrap_or_default();
                // Balance and pay would not fit together without it.
                let before = match tasks_before {
                    0 => String::new(),
                    tasks => format!("; in runs before: {} paid, {earned_before} HYD", count(tasks)),
                };
                let more = |tasks: u64, words| match tasks {
                    0 => String::new(),
                    _ => format!("; {} {words}", count(tasks)),
                };
                let sent = more(*unanswered, "sent and not answered, which may still be paid");
                let done = more(*undelivered, "finished and not delivered: not paid");
                let why = self.ending(*reason, &count(*tasks));
                format!("{why}: {here} paid, {earned_here} HYD earned, {balance}{before}{sent}{done}")
            }
        })
    }

    /// Takes what an event would not say.
    pub fn heed(&mut self, news: &News) {
        self.useless |= *news == News::Useless;
    }

    /// Why it ends, with how much was paid.
    fn ending(&self, reason: Why, paid: &str) -> String {
        let words = match reason {
            Why::Complete => "the run is complete",
            Why::Tasks => return format!("{paid} done, as asked"),
            Why::Asked if self.useless => "stopped",
            Why::Asked => "stopped by you",
            Why::AtOnce => "stopped at once",
            Why::Unreachable => "no session with the coordinator",
            Why::Refused if self.met => "sent away by the coordinator",
            Why::Refused => "refused by the coordinator",
        };
        words.to_owned()
    }
}

impl Sink for Teller {
    fn show(&mut self, event: &Event) {
        self.events.emit(event);
        if let Some(line) = self.line(event) {
            match event {
                Event::Unpaid { .. } | Event::Disconnected { .. } => self.events.caution(&line),
                _ => self.events.say(&line),
            }
        }
    }

    fn tell(&mut self, news: News) {
        self.heed(&news);
    }
}

fn plus(one: Credits, other: Credits) -> Credits {
    one.checked_add(other).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use hydra_core::ids::{TaskId, VersionNo, WorkerId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn people_read_lines_and_not_too_many() {
        let events = Events::new(false, false, Box::new(std::io::sink()));
        let mut teller = Teller::new(events, Clock::start(), "ws://x/ws".to_owned());
        let task = TaskId(12);
        let begun = Event::Task { task, version: VersionNo(3), steps: 25, tokens: 102_400 };
        assert_eq!(teller.line(&begun).unwrap(), "task 12: 25 steps from version 3, 102,400 tokens");
        let progress = |step| Event::Progress { task, step, loss: 2.414, tokens_per_s: 8123.4 };
        assert_eq!(teller.line(&progress(1)), None);
        tokio::time::advance(PROGRESS_EVERY).await;
        assert_eq!(teller.line(&progress(9)).unwrap(), "task 12: step 9 of 25 · loss 2.41 · 8,123 tokens/s");
        assert_eq!(teller.line(&progress(10)), None);
        assert!(teller.line(&progress(25)).is_some());
        let credited = Event::Credited { task, amount: Credits::hyd(1), balance: Credits(12_500_000) };
        assert_eq!(teller.line(&credited).unwrap(), "+1.0 HYD for task 12, balance 12.5 HYD");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_line_says_why_first() {
        let events = Events::new(false, false, Box::new(std::io::sink()));
        let mut teller = Teller::new(events, Clock::start(), "ws://x/ws".to_owned());
        let stopped = |reason, tasks| {
            let (earned, balance) = (Credits::hyd(tasks), Credits::hyd(tasks));
            Event::Stopped { reason, tasks, earned, balance, unanswered: 0, undelivered: 0 }
        };
        let never = teller.line(&stopped(Why::Unreachable, 0)).unwrap();
        assert_eq!(never, "no session with the coordinator: 0 tasks paid, 0.0 HYD earned, balance unknown");
        let (worker, user) = (WorkerId([1; 8]), "alice".parse().unwrap());
        let ready = Event::Ready { worker, user, device: "cpu".to_owned() };
        teller.line(&ready);
        for (reason, why) in [
            (Why::Complete, "the run is complete"),
            (Why::Tasks, "2 tasks done, as asked"),
            (Why::Asked, "stopped by you"),
            (Why::Refused, "sent away by the coordinator"),
        ] {
            let line = teller.line(&stopped(reason, 2)).unwrap();
            assert_eq!(line, format!("{why}: 2 tasks paid, 2.0 HYD earned, balance 2.0 HYD"));
        }
        let credited = Event::Credited { task: TaskId(1), amount: Credits::hyd(1), balance: Credits::hyd(1) };
        for event in [&credited, &credited, &Event::OtherRun] {
            teller.line(event).unwrap();
        }
        let line = "refused by the coordinator: 0 tasks paid, 0.0 HYD earned, balance unknown; \
                    in runs before: 2 tasks paid, 2.0 HYD";
        assert_eq!(teller.line(&stopped(Why::Refused, 2)).unwrap(), line);
        for event in [&ready, &credited] {
            teller.line(event).unwrap();
        }
        teller.tell(News::Useless);
        assert!(teller.line(&stopped(Why::Asked, 3)).unwrap().starts_with("stopped: "), "nobody asked for it");
        let stopped = Event::Stopped {
            reason: Why::Tasks,
            tasks: 3,
            earned: Credits::hyd(3),
            balance: Credits::hyd(1),
            unanswered: 1,
            undelivered: 2,
        };
        let line = "3 tasks done, as asked: 1 task paid, 1.0 HYD earned, balance 1.0 HYD; \
                    in runs before: 2 tasks paid, 2.0 HYD; 1 task sent and not answered, which may still be paid; \
                    2 tasks finished and not delivered: not paid";
        assert_eq!(teller.line(&stopped).unwrap(), line);
    }
}
