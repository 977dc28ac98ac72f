//! What is printed: the answer (or JSON events) on standard output, everything else on standard error.

use hydra_core::chat::Event;
use hydra_core::ids::VersionNo;
use hydra_core::proto::Status;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::ui::text::{count, short};
use serde_json::Value;

/// The printer of both fronts.
pub struct Printer {
    events: Events,
    /// Whether the line on standard output is unfinished.
    open: bool,
}

impl Printer {
    /// A printer to these streams.
    pub fn new(events: Events) -> Self {
        Self { events, open: false }
    }

    /// Prints what is for scripts, and the text of answers.
    pub fn show(&mut self, event: &Event) {
        // The session's ups and downs are no answers; a script that asks one thing reads one line.
        if event.answers() && !matches!(event, Event::ApiKeys { .. }) {
            self.events.emit(event);
        }
        match event {
            Event::Token { text } => self.piece(text),
            Event::Answer { text, version, averaged, val_loss, val_version, charged, balance, .. } => {
                self.open |= text.is_empty();
                self.end_line();
                let model =
                    answered(Model { version: *version, val_loss: *val_loss, val_version: *val_version }, *averaged);
                self.say(&format!("{charged} HYD · balance {balance} HYD · {model}"));
            }
            Event::Refused { .. } | Event::Lost { .. } => self.end_line(),
            Event::Balance { balance, held } => {
                self.piece(&format!("{balance}\n"));
                if held.0 > 0 {
                    self.say(&format!("{held} HYD more are held for running queries"));
                }
            }
            Event::Status(status) => self.say(&describe(status)),
            _ => {}
        }
    }

    /// What was asked for: an event for scripts, lines for everybody else.
    pub fn result(&mut self, event: &Value, lines: &[String]) {
        self.events.emit(event);
        for line in lines {
            self.piece(&format!("{line}\n"));
        }
    }

    /// A line for people.
    pub fn say(&self, line: &str) {
        self.events.say(line);
    }

    /// Resolves when nobody reads standard output any more.
    pub async fn gone(&self) {
        self.events.gone().await;
    }

    fn piece(&mut self, text: &str) {
        if let Some(last) = self.events.piece(text) {
            self.open = last != '\n';
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.open) {
            self.events.piece("\n");
        }
    }
}

/// A version and a held-out loss, which may be that of another version.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    pub version: VersionNo,
    pub val_loss: Option<f64>,
    pub val_version: Option<VersionNo>,
}

/// Why a program ends whose user does not wait for the end of an answer; `stopped`: the coordinator was told, which makes
/// what has begun a complete one. A connection that only ends does not.
pub fn interrupted(stopped: bool) -> Failure {
    let words = if stopped {
        "interrupted; an answer that was stopped after its first words is paid, any other costs nothing"
    } else {
        "interrupted; an answer that is not complete costs nothing"
    };
    Failure::new(Exit::Interrupted, words)
}

/// Told when the coordinator's key is not what it was.
pub const OTHER_RUN: &str = "another run answers at this address now: what you had stays with the one before";

/// `version 12, loss 2.31`.
pub fn model(model: Model) -> String {
    answered(model, false)
}

/// [`model`], or `average up to v12, loss 2.31`.
pub fn answered(from: Model, averaged: bool) -> String {
    let Model { version, val_loss, val_version } = from;
    let what = if averaged { "average up to v" } else { "version " };
    match (val_loss, val_version) {
        (Some(loss), Some(other)) => format!("{what}{version}, loss {loss:.2} of v{other}"),
        (Some(loss), None) => format!("{what}{version}, loss {loss:.2}"),
        (None, _) => format!("{what}{version}, not yet measured"),
    }
}

/// How the training goes, in a line.
pub fn describe(status: &Status) -> String {
    let bits = status.val_bits_per_byte.map_or_else(String::new, |bits| format!(" ({bits:.2} bits a byte)"));
    let paused = if status.paused { "paused by its operator · " } else { "" };
    format!(
        "{paused}{}{bits} · {} · {} and {} tokens trained · {} parameters",
        model(Model { version: status.version, val_loss: status.val_loss, val_version: status.val_version }),
        count(status.workers.into(), "worker", "workers"),
        count(status.tasks, "task", "tasks"),
        short(status.tokens as f64),
        short(status.params as f64)
    )
}
