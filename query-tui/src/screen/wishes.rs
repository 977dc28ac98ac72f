//! What somebody wants of the chat screen: to ask, to stop an answer, to save, to copy, to leave.

use std::time::Duration;

use hydra_shell::ui::help;
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::transcript::{Entry, Who};

use super::answer::Running;
use super::app::{Hint, MODEL, Screen};
use super::msg::{Cmd, Link};
use crate::commands::{self, Said};

/// How long words stand in the footer.
const READ: Duration = Duration::from_secs(4);
/// How long a second Ctrl-C leaves.
const AGAIN: Duration = Duration::from_secs(2);

impl Screen {
    /// What is written is done; what cannot be done now stays written.
    pub(super) fn send(&mut self) -> Vec<Cmd> {
        let said = commands::read(self.composer.text());
        if self.is_over() && matches!(said, Said::Question(_) | Said::Balance | Said::Status) {
            self.hint_at(self.no_more());
            return Vec::new();
        }
        if matches!(said, Said::Question(_)) && self.is_busy() {
            let stopping = self.running.as_ref().is_some_and(|running| running.cancelled);
            let words = match self.link {
                _ if stopping => "the answer is being stopped; send it again in a moment",
                Link::Open => "the answer is still coming; Esc stops it",
                _ => "your question before waits for the connection; Esc takes it back",
            };
            self.hint_at(words.to_owned());
            return Vec::new();
        }
        self.composer.take();
        self.unlisted = false;
        self.transcript.to_end();
        match said {
            Said::Nothing => Vec::new(),
            Said::Question(text) => self.ask(text),
            Said::Balance => {
                self.asked_balance = true;
                self.waits_for_session("the balance");
                vec![Cmd::AskBalance]
            }
            Said::Status => {
                self.asked_status = true;
                self.waits_for_session("how the training goes");
                vec![Cmd::AskStatus]
            }
            Said::Help => {
                self.help = Some(help::Scroll::default());
                Vec::new()
            }
            Said::Clear => {
                self.transcript.clear();
                self.later.clear();
                if let Some(running) = &mut self.running {
                    running.begun = false;
                }
                Vec::new()
            }
            Said::Quit => vec![Cmd::Leave],
            Said::Save(file) => self.save(file),
            Said::Wrong(why) => {
                self.note(Sign::Bad, &why);
                Vec::new()
            }
            Said::Other(name, value) => {
                let told = self.sampling.command(&name, &value);
                // No value only asks.
                let sign = if value.is_empty() { Sign::Info } else { Sign::Good };
                match told.unwrap_or_else(|| Err(commands::unknown(&name))) {
                    Ok(set) => self.note(sign, &set),
                    Err(why) => self.note(Sign::Bad, &why),
                }
                Vec::new()
            }
        }
    }

    /// Puts words in the footer's place for a while.
    pub(super) fn hint_at(&mut self, words: String) {
        self.hint = Some(Hint { until: self.now.after(READ), words, leaves: false });
    }

    fn ask(&mut self, text: String) -> Vec<Cmd> {
        // The answer before may still be on its way to the screen.
        self.show_rest();
        self.transcript.push(Entry::new(Who::You, &text));
        self.running = Some(Running::new(self.now));
        vec![Cmd::Ask(text, self.sampling.clone())]
    }

    /// Shows at once what still waits of an answer that is complete.
    fn show_rest(&mut self) {
        if let Some(foot) = self.running.as_mut().and_then(|running| running.foot.take()) {
            self.finish(&foot);
        }
    }

    fn save(&mut self, file: String) -> Vec<Cmd> {
        if file.is_empty() {
            self.note(Sign::Warn, "/save needs the name of a file: /save chat.txt");
            return Vec::new();
        }
        if file.contains(char::is_control) {
            self.note(Sign::Warn, "a file's name has no line breaks: /save chat.txt");
            return Vec::new();
        }
        if self.transcript.entries().is_empty() {
            self.note(Sign::Warn, "there is nothing to save yet");
            return Vec::new();
        }
        self.show_rest();
        let mut text = self.transcript.plain(self.user.as_str(), MODEL);
        let partial = self.running.is_some();
        if partial {
            text.push_str("[the answer was not complete when this was saved]\n");
        }
        vec![Cmd::Save { file, text, partial }]
    }

    /// Says so where an answer to what was asked cannot come at once.
    fn waits_for_session(&mut self, what: &str) {
        if self.link != Link::Open {
            self.note(Sign::Info, &format!("{what} is told once there is a connection"));
        } else if self.silent().is_some() {
            self.note(Sign::Info, &format!("{what} is told once the coordinator answers"));
        }
    }

    /// The last answer goes to the clipboard.
    pub(super) fn copy(&mut self) -> Vec<Cmd> {
        match self.transcript.last_answer().filter(|answer| !answer.is_empty()) {
            Some(answer) => vec![Cmd::Copy(answer.to_owned())],
            None => {
                self.toasts.push(self.now, Sign::Warn, "there is no answer to copy yet");
                Vec::new()
            }
        }
    }

    /// Esc: what lies uppermost goes.
    pub(super) fn cancel(&mut self) -> Vec<Cmd> {
        if self.lists() {
            self.unlisted = true;
            return Vec::new();
        }
        if self.running.is_some() {
            return self.stop();
        }
        self.transcript.to_end();
        Vec::new()
    }

    /// Stops the answer; what has come of it is shown at once, also of one that is complete.
    fn stop(&mut self) -> Vec<Cmd> {
        let Some(running) = self.running.as_mut().filter(|running| running.is_open()) else {
            self.show_rest();
            return Vec::new();
        };
        if std::mem::replace(&mut running.cancelled, true) {
            return Vec::new();
        }
        let arrived = running.pace.flush();
        if !arrived.is_empty() {
            self.show_piece(&arrived);
        }
        vec![Cmd::Cancel]
    }

    /// Ctrl-C: stops what moves, or else puts away what is written. Without either, and with something to lose, the
    /// second one leaves.
    pub(super) fn interrupt(&mut self) -> Vec<Cmd> {
        let stopping = self.running.as_ref().is_some_and(|running| running.cancelled);
        if self.running.is_some() && !stopping {
            return self.stop();
        }
        let again = self.hint.as_ref().is_some_and(|hint| hint.leaves);
        let written = !self.composer.text().is_empty();
        if again || (!written && self.transcript.entries().is_empty()) {
            return vec![Cmd::Leave];
        }
        // The words must be seen.
        self.help = None;
        let words = if written {
            self.composer.take();
            self.unlisted = false;
            "Up brings the message back; Ctrl-C again leaves".to_owned()
        } else {
            "Ctrl-C again leaves; /save keeps the conversation".to_owned()
        };
        self.hint = Some(Hint { until: self.now.after(AGAIN), words, leaves: true });
        Vec::new()
    }
}
