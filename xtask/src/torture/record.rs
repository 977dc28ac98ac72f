//! What the programs said while they were tortured. Pure: their lines and the elapsed time in, facts out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// The events of all three programs, as far as they are read here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Coordinator (with `version`) or worker.
    Ready { version: Option<u64> },
    /// Coordinator: a task went out.
    Pushed {},
    /// Coordinator: an update is paid.
    Accepted { user: String, task: u64 },
    /// Coordinator: an update is not paid.
    Rejected { reason: String },
    /// Coordinator: a version was measured.
    Round { version: u64, val_loss: Option<f64> },
    /// Worker: training begins.
    Task { version: u64 },
    /// Worker: told of its pay.
    Credited { task: u64 },
    /// Worker: the connection is lost.
    Disconnected {},
    /// Asker: the whole answer.
    Answer { charged: f64 },
    /// `ledger verify`.
    Verified { ok: bool, signed: bool },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Everything that is judged at the end.
#[derive(Debug, Default)]
pub struct Record {
    /// Payments that workers were told, by user and task.
    pub credited: BTreeMap<(String, u64), u64>,
    /// Payments that the coordinator said were on disk.
    pub accepted: BTreeMap<(String, u64), u64>,
    /// Answers told whole, and what they cost in micro-credits, by user.
    pub answers: BTreeMap<String, (u64, u64)>,
    /// Questions asked, by user.
    pub asked: BTreeMap<String, u64>,
    /// The highest version that anybody was told.
    pub version: u64,
    /// Where a version was told of that went back.
    pub steps_back: Vec<String>,
    /// From each kill of the coordinator that was not followed by another too soon, to the next task or payment.
    pub lost: Vec<Duration>,
    /// Held-out loss, the first and the last that was told.
    pub losses: Option<(f64, f64)>,
    /// Why updates were not paid, as the coordinator says.
    pub rejected: BTreeMap<String, u64>,
    /// Connections that workers lost.
    pub disconnected: u64,
    /// Times that the ledger was verified while the coordinator ran.
    pub verified: u64,
    /// What nobody should ever say.
    pub faults: Vec<String>,
    pub(super) killed: Option<Duration>,
}

impl Record {
    /// The coordinator was killed.
    pub fn killed(&mut self, at: Duration) {
        self.killed = Some(at);
    }

    /// Takes a line of the coordinator's.
    pub fn coordinator(&mut self, at: Duration, line: &str) -> Option<Event> {
        let event = self.read("the coordinator", line)?;
        match &event {
            Event::Ready { version: Some(version) } if *version < self.version => {
                self.steps_back.push(format!("a start at {version} after version {} was told", self.version));
            }
            Event::Pushed {} => self.is_back(at),
            Event::Accepted { user, task } => {
                self.is_back(at);
                *self.accepted.entry((user.clone(), *task)).or_default() += 1;
            }
            Event::Rejected { reason } => *self.rejected.entry(reason.clone()).or_default() += 1,
            Event::Round { version, val_loss } => {
                self.version = self.version.max(*version);
                if let Some(loss) = val_loss {
                    self.losses = Some((self.losses.map_or(*loss, |(first, _)| first), *loss));
                }
            }
            _ => {}
        }
        Some(event)
    }

    /// Takes a line of a worker's of `user`.
    pub fn worker(&mut self, user: &str, line: &str) {
        match self.read(user, line) {
            Some(Event::Task { version }) => self.version = self.version.max(version),
            Some(Event::Credited { task }) => *self.credited.entry((user.to_owned(), task)).or_default() += 1,
            Some(Event::Disconnected {}) => self.disconnected += 1,
            _ => {}
        }
    }

    /// `user` asks.
    pub fn asks(&mut self, user: &str) {
        *self.asked.entry(user.to_owned()).or_default() += 1;
    }

    /// Takes a line of the asker's.
    pub fn asker(&mut self, user: &str, line: &str) {
        if let Some(Event::Answer { charged }) = self.read("the asker", line) {
            let (answers, micros) = self.answers.entry(user.to_owned()).or_default();
            *answers += 1;
            *micros += (charged * 1e6).round() as u64;
        }
    }

    /// Takes a line of `ledger verify`'s.
    pub fn verifier(&mut self, line: &str) {
        match self.read("ledger verify", line) {
            Some(Event::Verified { ok: true, signed: true }) => self.verified += 1,
            _ => self.faults.push(format!("ledger verify said {line}")),
        }
    }

    fn is_back(&mut self, at: Duration) {
        if let Some(killed) = self.killed.take() {
            self.lost.push(at.saturating_sub(killed));
        }
    }

    fn read(&mut self, who: &str, line: &str) -> Option<Event> {
        let event = serde_json::from_str(line);
        if let Err(error) = &event {
            // A process that is killed in the middle of a line leaves a part of it, and nothing after it.
            if line.ends_with('}') {
                self.faults.push(format!("{who} printed a line that is no event ({error}): {line}"));
            }
        }
        event.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn time_lost_counts_from_the_last_kill_to_the_first_task() {
        let mut record = Record::default();
        let pushed = r#"{"event":"pushed","task":1,"worker":"w","wait_us":3}"#;
        record.coordinator(at(10), pushed);
        record.killed(at(1000));
        record.killed(at(2000));
        record.coordinator(at(2500), r#"{"event":"ready","version":0,"addr":"x"}"#);
        record.coordinator(at(3500), pushed);
        record.coordinator(at(9000), pushed);
        assert_eq!(record.lost, [at(1500)]);
    }

    #[test]
    fn a_version_that_went_back_is_noticed() {
        let mut record = Record::default();
        record.worker("alice", r#"{"event":"task","task":1,"version":4,"steps":1,"tokens":2}"#);
        record.coordinator(at(0), r#"{"event":"ready","version":4}"#);
        assert!(record.steps_back.is_empty());
        record.coordinator(at(0), r#"{"event":"round","version":6,"val_loss":7.5}"#);
        record.coordinator(at(0), r#"{"event":"round","version":7,"val_loss":7.0}"#);
        record.coordinator(at(0), r#"{"event":"ready","version":5}"#);
        assert_eq!((record.steps_back.len(), record.losses), (1, Some((7.5, 7.0))));
    }

    #[test]
    fn what_was_told_is_counted_and_half_a_line_is_no_fault() {
        let mut record = Record::default();
        for _ in 0..2 {
            record.worker("alice", r#"{"event":"credited","task":3,"amount":1,"balance":1}"#);
        }
        record.worker("alice", r#"{"event":"credi"#);
        record.asker("bob", r#"{"event":"answer","text":"x","charged":0.5,"balance":1}"#);
        record.verifier(r#"{"event":"verified","ok":true,"signed":true,"transfers":3}"#);
        assert_eq!(record.credited[&("alice".to_owned(), 3)], 2);
        assert_eq!((record.answers["bob"], record.verified), ((1, 500_000), 1));
        assert!(record.faults.is_empty());
        record.verifier(r#"{"event":"verified","ok":true,"signed":false}"#);
        record.worker("alice", "{}");
        assert_eq!(record.faults.len(), 2);
    }
}
