//! Questions line after line, from a terminal or a pipe, one at a time and in order.

use std::time::Duration;

use hydra_core::chat::{Cost, Event, Fact};
use hydra_core::ids::UserName;
use hydra_core::proto::{Finish, RefusedCode};
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::signals::{self, Stop};
use hydra_shell::terminal::complain;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::commands::{self, Said};
use crate::driver::{Front, State};
use crate::once;
use crate::print::{Model, OTHER_RUN, Printer, interrupted, model};
use crate::sampling::Sampling;
use crate::stdin::Line;

const HELP: &str = "\
Write a question and press Enter; an answer costs credits, which hydra-worker earns.
  balance, b, /balance    what you have
  /status                 how the training goes
  /temp X                 0: always the likeliest token; 1: as the model says
  /topk N  /topp X        draw only from the likeliest tokens
  /max N                  at most so many new tokens
  /seed N                 repeats an answer of the same version or average
  /temp off               the run's default again; as well /topk, /topp, /max and /seed
  quit, exit, q, /quit    leave (as does the end of input)
Ctrl-C stops an answer; between answers it leaves.";

/// So long a script waits for a coordinator that is gone, as a worker does.
const PATIENCE: Duration = Duration::from_mins(1);

/// The front of a conversation in lines.
pub struct Lines {
    user: UserName,
    sampling: Sampling,
    printer: Printer,
    input: mpsc::Receiver<Line>,
    stops: mpsc::Receiver<Stop>,
    /// Whether a person types: greet, and show where to write.
    person: bool,
    /// Whether the place to write is shown.
    prompted: bool,
    met: bool,
    /// Whether the session is known to be lost.
    lost: bool,
    /// Since when there is none, in a script.
    away: Option<Instant>,
    /// A balance or status was asked for.
    awaiting: bool,
    cancelled: bool,
    /// What was asked last.
    asked: String,
    /// What has come of its answer.
    partial: String,
    /// A script's question that a stopping coordinator has refused, until it is asked again.
    held: Option<Held>,
    /// How to get credits, for a user without.
    earn: String,
    /// Why the first of a script's questions without an answer has none.
    verdict: Result<(), Failure>,
}

struct Held {
    text: String,
    /// How the program ends if nobody takes it.
    why: Failure,
    /// Whether there is a session again.
    back: bool,
}

/// What a line means.
enum Read {
    Wish(Fact),
    /// It was dealt with here.
    Done,
}

impl Lines {
    /// Takes wishes from `input`; `person` tells that somebody types them.
    pub fn new(
        user: UserName,
        sampling: Sampling,
        printer: Printer,
        input: mpsc::Receiver<Line>,
        stops: mpsc::Receiver<Stop>,
        person: bool,
        earn: String,
    ) -> Self {
        let (prompted, met, lost, awaiting, cancelled) = (false, false, false, false, false);
        let (away, asked, partial, held, verdict) = (None, String::new(), String::new(), None, Ok(()));
        Self {
            user,
            sampling,
            printer,
            input,
            stops,
            person,
            prompted,
            met,
            lost,
            away,
            awaiting,
            cancelled,
            asked,
            partial,
            held,
            earn,
            verdict,
        }
    }

    /// How the program ends whose session has `ended` so: by what became of a script's questions, if there is nothing
    /// more urgent; a person has seen it.
    pub fn verdict(self, ended: Result<(), Failure>) -> Result<(), Failure> {
        match (self.verdict.and(self.held.map_or(Ok(()), |held| Err(held.why))), ended) {
            (Err(first), Err(last)) if last.exit != Exit::Interrupted => {
                self.printer.say(&last.message);
                Err(first)
            }
            (verdict, ended) => ended.and(verdict),
        }
    }

    fn unanswered(&mut self, why: Failure) {
        if !self.person && self.verdict.is_ok() {
            self.verdict = Err(why);
        }
    }

    /// Until when a script waits for another session.
    async fn waited(away: Option<Instant>) {
        match away {
            Some(since) => tokio::time::sleep_until(since + PATIENCE).await,
            None => std::future::pending().await,
        }
    }

    fn read(&mut self, line: &str) -> Result<Read, Failure> {
        let wish = match commands::read(line) {
            Said::Quit => Fact::Leave,
            Said::Balance => Fact::AskBalance,
            Said::Status => Fact::AskStatus,
            Said::Question(text) => {
                self.cancelled = false;
                self.ask(text)?
            }
            said => {
                self.deal_with(said)?;
                return Ok(Read::Done);
            }
        };
        self.awaiting = matches!(wish, Fact::AskBalance | Fact::AskStatus);
        Ok(Read::Wish(wish))
    }

    fn ask(&mut self, text: String) -> Result<Fact, Failure> {
        let query = self.sampling.query(&text)?;
        self.asked = text;
        self.partial.clear();
        Ok(Fact::Ask(query))
    }

    /// A coordinator that stops for a while is no reason to lose what a script asks next.
    fn hold(&mut self, reason: RefusedCode, text: &str) {
        let why = once::refused(reason, text, &self.earn);
        let begun = !self.partial.is_empty();
        if begun {
            // The whole answer comes once more, and must not be read as what follows this.
            let (text, reason) = (std::mem::take(&mut self.partial), text.to_owned());
            self.printer.show(&Event::Lost { text, reason, cost: Cost::Nothing });
        }
        self.held = Some(Held { text: std::mem::take(&mut self.asked), why, back: false });
        self.say(if begun {
            "the coordinator is stopping: what has come of the answer is void; the question is asked again when it is back"
        } else {
            "the coordinator is stopping: the question is asked again when it is back"
        });
    }

    /// What needs nobody else. A script ends with a command that cannot be followed: it may be a question that nobody
    /// sees unanswered, and what comes after it would be answered, and paid for, in another way than was wanted.
    fn deal_with(&mut self, said: Said) -> Result<(), Failure> {
        let mut hint = "write // where a question begins with /, and ask the rest again";
        let told = match said {
            Said::Help => Ok(HELP.to_owned()),
            Said::Clear | Said::Save(_) => Err("/clear and /save are for the screen".to_owned()),
            Said::Wrong(why) => Err(why),
            Said::Other(name, value) => match self.sampling.command(&name, &value) {
                Some(told) => {
                    hint = "ask the rest again with a value that it takes";
                    told
                }
                None => Err(commands::unknown(&name)),
            },
            Said::Nothing | Said::Question(_) | Said::Balance | Said::Status | Said::Quit => return Ok(()),
        };
        match told {
            Err(why) if !self.person => Err(Failure::new(Exit::Usage, why).hint(hint)),
            Ok(words) | Err(words) => {
                self.printer.say(&words);
                Ok(())
            }
        }
    }

    /// A line that is no text is asked in no other words; a script ends with it, as with a wrong command.
    fn not_text(&mut self) -> Result<(), Failure> {
        let text = "a line of standard input is not UTF-8 text";
        if !self.person {
            return Err(Failure::new(Exit::Data, text).hint("convert the questions with `iconv` first"));
        }
        self.printer.say(text);
        Ok(())
    }

    fn prompt(&mut self) {
        if self.person && !self.prompted {
            self.prompted = true;
            complain(&format!("{}> ", self.user));
        }
    }

    /// A person stops an answer, or leaves between two; a script leaves.
    fn on_stop(&mut self, stop: Stop, state: State) -> Result<Fact, Failure> {
        if state.busy && self.cancelled || stop == Stop::AtOnce && !self.person {
            return Err(interrupted(self.cancelled));
        }
        if state.busy && (state.open || self.person) {
            self.cancelled = true;
            if self.person {
                signals::goes_on();
            }
            return Ok(Fact::Cancel);
        }
        Ok(self.leave(state))
    }

    /// Leaves; a script is told if that comes before the end of its questions.
    fn leave(&mut self, state: State) -> Fact {
        if state.busy || !self.input.is_empty() || !self.input.is_closed() {
            self.unanswered(interrupted(self.cancelled));
        }
        Fact::Leave
    }

    fn say(&mut self, line: &str) {
        // Not behind the place where somebody writes.
        if std::mem::take(&mut self.prompted) {
            complain("\n");
        }
        self.printer.say(line);
    }
}

impl Front for Lines {
    fn show(&mut self, event: &Event) {
        if let Event::Refused { reason: reason @ RefusedCode::Stopping, text, .. } = event
            && !self.person
        {
            return self.hold(*reason, text);
        }
        self.printer.show(event);
        match event {
            Event::Token { text } => self.partial.push_str(text),
            Event::OtherRun => self.say(OTHER_RUN),
            Event::Connected { balance, price, version, val_loss, val_version } => {
                let model = model(Model { version: *version, val_loss: *val_loss, val_version: *val_version });
                if self.person && !self.met {
                    let user = self.user.clone();
                    self.say(&format!(
                        "connected as {user} · balance {balance} HYD · an answer costs {price} HYD · {model} · /help"
                    ));
                } else if self.lost {
                    self.say(&format!("connected again · balance {balance} HYD · {model}"));
                }
                (self.met, self.lost, self.away) = (true, false, None);
                self.held.iter_mut().for_each(|held| held.back = true);
            }
            Event::Disconnected { reason, .. } if !self.lost => {
                self.lost = true;
                self.away = (!self.person).then(Instant::now);
                self.say(&format!("disconnected: {reason}; trying again"));
                // What was asked got lost with its session; what is asked without one waits for the next.
                if std::mem::take(&mut self.awaiting) {
                    self.say("no answer to that came; ask again");
                }
            }
            Event::Answer { finish: Finish::Cancelled, charged, .. } => {
                self.unanswered(once::cut_short(*charged));
            }
            Event::Refused { reason, text, .. } => {
                self.printer.say(&format!("no answer, nothing charged: {text}"));
                self.unanswered(once::refused(*reason, text, &self.earn));
            }
            Event::Lost { reason, cost, .. } => {
                self.printer.say(match cost {
                    Cost::Nothing => "the question was not sent and costs nothing; ask again",
                    Cost::Unknown => "the end of the answer did not come; the balance shows whether it is paid",
                });
                self.unanswered(once::lost(reason, *cost));
            }
            Event::Balance { .. } | Event::Status(_) => self.awaiting = false,
            _ => {}
        }
    }

    async fn next(&mut self, state: State) -> Result<Fact, Failure> {
        loop {
            if self.cancelled && !state.busy && !self.person {
                return Ok(self.leave(state));
            }
            if let Some(held) = self.held.take_if(|held| held.back && !state.busy) {
                return self.ask(held.text);
            }
            let free = self.met && !state.busy && !self.awaiting && self.held.is_none();
            if free {
                self.prompt();
            }
            tokio::select! {
                biased;
                Some(stop) = self.stops.recv() => {
                    if std::mem::take(&mut self.prompted) {
                        complain("\n");
                    }
                    return self.on_stop(stop, state);
                }
                () = self.printer.gone() => return Ok(Fact::Leave),
                () = Self::waited(self.away) => {
                    let text = "the coordinator has been away for a minute";
                    return Err(Failure::new(Exit::Connect, text).hint("start it, and ask what was not answered again"));
                }
                line = self.input.recv(), if free => {
                    self.prompted = false;
                    let Some(line) = line else { return Ok(Fact::Leave) };
                    let Ok(line) = line else {
                        self.not_text()?;
                        continue;
                    };
                    if let Read::Wish(wish) = self.read(&line)? {
                        return Ok(wish);
                    }
                }
            }
        }
    }
}
