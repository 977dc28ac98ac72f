//! What the session reports, as changes of the screen's model.

use std::time::Duration;

use hydra_core::chat::{Cost, Event};
use hydra_core::proto::RefusedCode;
use hydra_shell::ui::text;
use hydra_shell::ui::theme::Sign;

use super::answer::foot;
use super::app::Screen;
use super::msg::Link;
use crate::print::{Model, OTHER_RUN};

impl Screen {
    /// Something happened in the session.
    pub(super) fn on_session(&mut self, event: &Event) {
        match event {
            Event::OtherRun => self.note(Sign::Warn, OTHER_RUN),
            Event::Connected { balance, price, version, val_loss, val_version } => {
                let lost = self.balance.is_some();
                self.link = Link::Open;
                self.looked();
                (self.balance, self.price) = (Some(*balance), Some(*price));
                self.version = Some(Model { version: *version, val_loss: *val_loss, val_version: *val_version });
                if let Some(running) = &mut self.running {
                    // What was asked without a session is sent only now.
                    running.asked = self.now;
                }
                if lost {
                    self.note(Sign::Good, &format!("connected again; balance: {balance} HYD"));
                }
            }
            Event::Disconnected { retry_ms, reason } => {
                // Told once; the header counts the tries.
                if self.link == Link::Open {
                    self.note(Sign::Warn, &format!("disconnected: {reason}; trying again"));
                }
                self.link = Link::Waiting { until: self.now.after(Duration::from_millis(*retry_ms)) };
            }
            Event::Token { text } => {
                let first = self.running.as_ref().is_some_and(|running| !running.begun && running.pace.is_idle());
                if first {
                    // Its price is held from now on.
                    self.look_now();
                }
                if let Some(running) = &mut self.running {
                    // Of a line's end as Windows has it, the other half is enough.
                    running.pace.push(self.now, &text.replace('\r', ""));
                }
            }
            Event::Answer { version, val_loss, val_version, balance, .. } => {
                self.balance = Some(*balance);
                // Words about an answer that comes are over with it.
                self.hint.take_if(|hint| !hint.leaves);
                // A newer version may have come while this one answered.
                if self.version.is_none_or(|newest| newest.version < *version) {
                    self.version = Some(Model { version: *version, val_loss: *val_loss, val_version: *val_version });
                }
                if let Some(running) = &mut self.running {
                    let below = foot(event, self.now.since(running.asked));
                    if running.cancelled {
                        self.finish(&below);
                    } else {
                        running.foot = Some(below);
                        running.pace.end();
                    }
                }
            }
            Event::Refused { reason, text, balance } => {
                self.balance = Some(*balance);
                self.on_refused(*reason, text);
            }
            Event::Lost { text, cost: Cost::Unknown, .. } => {
                let words =
                    "the connection was lost; the balance shows whether it is paid · ↑ brings the question back";
                if text.is_empty() {
                    self.end_answer();
                    self.note(Sign::Bad, words);
                } else {
                    self.finish(&format!("{} {words}", Sign::Bad.mark()));
                }
            }
            Event::Lost { cost: Cost::Nothing, .. } => {
                let stopped = self.running.as_ref().is_some_and(|running| running.cancelled);
                self.end_answer();
                let (sign, why) = if stopped {
                    (Sign::Info, "stopped before it was sent")
                } else {
                    (Sign::Bad, "no answer: it was not sent")
                };
                self.note(sign, &format!("{why}; nothing was charged · ↑ brings the question back"));
            }
            Event::Balance { balance, held } | Event::LastBalance { balance, held } => {
                self.tell_balance(*balance, *held);
            }
            Event::Status(status) | Event::LastStatus(status) => self.tell_status(status),
            // Asked for from the command line alone.
            Event::ApiKeys { .. } => {}
        }
    }

    /// The coordinator has said goodbye for good, or refuses this user: what was said stays, nothing more comes.
    pub(super) fn on_end(&mut self, link: Link, words: &str) {
        if self.is_busy() {
            // Asked while that was on its way.
            self.on_session(&Event::Lost { text: String::new(), reason: words.to_owned(), cost: Cost::Nothing });
        }
        self.link = link;
        let (sign, said, hint) = match link {
            Link::Refused => (Sign::Bad, format!("refused: {words}"), "/save keeps the conversation, /quit leaves"),
            _ => {
                let words = if words.trim().is_empty() { "the coordinator has said goodbye" } else { words };
                let hint =
                    "/save keeps the conversation, /quit leaves; if the run goes on, this chat connects by itself";
                (Sign::Info, words.to_owned(), hint)
            }
        };
        self.goodbye = text::clean(&said).into_owned();
        self.note(sign, &format!("{}\n{hint}", self.no_more()));
    }

    /// Why nothing can be asked any more.
    pub(super) fn no_more(&self) -> String {
        match self.link {
            Link::Refused => format!("{}; this chat connects no more", self.goodbye),
            _ => format!("{}: nobody is there to ask until it goes on", self.goodbye),
        }
    }

    fn on_refused(&mut self, reason: RefusedCode, text: &str) {
        // What was shown of it was not charged either; it stays, and says so.
        if self.running.as_ref().is_some_and(|running| running.begun || !running.pace.is_idle()) {
            self.finish(&format!("{} not complete · nothing was charged", Sign::Bad.mark()));
        }
        self.end_answer();
        match reason {
            RefusedCode::Insufficient => {
                let why = match self.price.zip(self.balance) {
                    Some((price, balance)) => format!("an answer costs {price} HYD, you have {balance} HYD"),
                    None => text.to_owned(),
                };
                self.note(Sign::Bad, &format!("too few credits: {why}\n{}\n↑ brings the question back", self.earn));
            }
            RefusedCode::Cancelled => {
                self.note(Sign::Info, "stopped before the first word; nothing was charged · ↑ brings it back");
            }
            RefusedCode::Busy | RefusedCode::Stopping | RefusedCode::Failed => {
                self.note(Sign::Bad, &format!("no answer: {text}\nnothing was charged; ↑ brings the question back"));
            }
            RefusedCode::EmptyPrompt | RefusedCode::HugePrompt | RefusedCode::BadSetting | RefusedCode::Duplicate => {
                self.note(Sign::Bad, &format!("no answer, nothing was charged: {text}"));
            }
        }
    }
}
