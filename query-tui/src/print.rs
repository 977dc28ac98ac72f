//! What is printed: the answer (or JSON events) on standard output, everything else on standard error.
//!
//! Text of the model may hold anything. On a terminal, what could command it becomes visible; in a pipe, control
//! characters except newline and tab are left out.

use std::borrow::Cow;

use hydra_core::chat::Event;
use hydra_core::ids::VersionNo;
use hydra_core::proto::Status;
use hydra_shell::events::Events;

/// The printer of both fronts.
pub struct Printer {
    events: Events,
    terminal: bool,
    /// Whether the line on standard output is unfinished.
    open: bool,
}

impl Printer {
    /// `terminal`: standard output is one.
    pub fn new(events: Events, terminal: bool) -> Self {
        Self { events, terminal, open: false }
    }

    /// Prints what is for scripts, and the text of answers.
    pub fn show(&mut self, event: &Event) {
        // The session's ups and downs are no answers; a script that asks one thing reads one line.
        if !matches!(event, Event::Connected { .. } | Event::Disconnected { .. }) {
            self.events.emit(event);
        }
        match event {
            Event::Token { text } => self.piece(text),
            Event::Answer { text, version, val_loss, charged, balance, .. } => {
                self.open |= text.is_empty();
                self.end_line();
                self.say(&format!("{charged} HYD · balance {balance} HYD · {}", model(*version, *val_loss)));
            }
            Event::Refused { .. } | Event::Lost { .. } => self.end_line(),
            Event::Balance { balance, held } => {
                self.piece(&format!("{balance}\n"));
                if held.0 > 0 {
                    self.say(&format!("{held} HYD more are held for running queries"));
                }
            }
            Event::Status(status) => self.say(&describe(status)),
            Event::Connected { .. } | Event::Disconnected { .. } => {}
        }
    }

    /// A line for people; with `--json` the events say it all.
    pub fn say(&self, line: &str) {
        if !self.events.json() {
            self.events.say(line);
        }
    }

    /// Resolves when nobody reads standard output any more.
    pub async fn gone(&self) {
        self.events.gone().await;
    }

    fn piece(&mut self, text: &str) {
        let text = if self.terminal { Cow::Borrowed(text) } else { plain(text) };
        if let Some(last) = text.chars().last() {
            self.events.piece(&text);
            self.open = last != '\n';
        }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.open) {
            self.events.piece("\n");
        }
    }
}

/// `text` without control characters except newline and tab.
fn plain(text: &str) -> Cow<'_, str> {
    let goes = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(goes) { Cow::Owned(text.replace(goes, "")) } else { Cow::Borrowed(text) }
}

/// `version 12, loss 2.31`.
pub fn model(version: VersionNo, val_loss: Option<f64>) -> String {
    match val_loss {
        Some(loss) => format!("version {version}, loss {loss:.2}"),
        None => format!("version {version}, not yet measured"),
    }
}

/// How the training goes, in a line.
pub fn describe(status: &Status) -> String {
    let bits = status.val_bits_per_byte.map_or_else(String::new, |bits| format!(" ({bits:.2} bits per byte)"));
    format!(
        "{}{bits} · {} workers · {} tasks and {} tokens trained · {} parameters",
        model(status.version, status.val_loss),
        status.workers,
        status.tasks,
        status.tokens,
        status.params
    )
}
