//! One question from the command line: asks it, prints what comes, and knows what became of it.

use hydra_core::chat::{Cost, Event, Fact, Known};
use hydra_core::credits::Credits;
use hydra_core::proto::{Finish, Query, RefusedCode};
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::signals::Stop;
use tokio::sync::mpsc;

use crate::api_keys::Errand;
use crate::driver::{Front, State};
use crate::print::{Printer, interrupted};

/// What is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// An answer of the model.
    Prompt(Query),
    /// What the user has.
    Balance,
    /// Something about API keys.
    ApiKeys(Errand),
}

/// The front of one question.
pub struct Once {
    question: Option<Question>,
    printer: Printer,
    stops: mpsc::Receiver<Stop>,
    /// How to get credits, for a user without.
    earn: String,
    answered: bool,
    cancelled: bool,
    verdict: Result<(), Failure>,
}

impl Once {
    /// Asks `question` as soon as it can; `earn` tells a user without credits what to do.
    pub fn new(question: Question, printer: Printer, stops: mpsc::Receiver<Stop>, earn: String) -> Self {
        let question = Some(question);
        Self { question, printer, stops, earn, answered: false, cancelled: false, verdict: Ok(()) }
    }

    /// What became of the question.
    pub fn verdict(self) -> Result<(), Failure> {
        self.verdict
    }

    fn on_stop(&mut self, stop: Stop, state: State) -> Result<Fact, Failure> {
        if stop == Stop::AtOnce || self.cancelled {
            return Err(interrupted(self.cancelled));
        }
        self.cancelled = true;
        if state.open && state.busy {
            return Ok(Fact::Cancel);
        }
        self.verdict = Err(interrupted(false));
        Ok(Fact::Leave)
    }

    fn on_keys(&mut self, keys: &[Known]) {
        let Some(Question::ApiKeys(errand)) = &mut self.question else { return };
        match errand.answered(keys, &mut self.printer) {
            Ok(done) => self.answered = done,
            Err(failure) => {
                self.answered = true;
                self.verdict = Err(failure);
            }
        }
    }
}

/// How the program ends where a question was refused; `earn` tells a user without credits what to do.
pub fn refused(reason: RefusedCode, text: &str, earn: &str) -> Failure {
    match reason {
        RefusedCode::Insufficient => Failure::new(Exit::TooPoor, text).hint(earn.to_owned()),
        RefusedCode::Cancelled => Failure::new(Exit::Interrupted, "cancelled; nothing was charged"),
        RefusedCode::Busy | RefusedCode::Stopping | RefusedCode::Failed => {
            Failure::new(Exit::Refused, format!("no answer: {text}")).hint("nothing was charged; ask again later")
        }
        RefusedCode::EmptyPrompt | RefusedCode::HugePrompt | RefusedCode::BadSetting | RefusedCode::Duplicate => {
            Failure::new(Exit::Refused, format!("no answer: {text}"))
        }
    }
}

/// The same where the user has stopped an answer.
pub fn cut_short(charged: Credits) -> Failure {
    Failure::new(Exit::Interrupted, format!("cancelled; the answer so far cost {charged} HYD"))
}

/// The same where the connection broke meanwhile.
pub fn lost(reason: &str, cost: Cost) -> Failure {
    let text = format!("the connection was lost before the answer was complete: {reason}");
    let hint = match cost {
        Cost::Nothing => "the question was not sent and costs nothing; ask again",
        Cost::Unknown => "--balance shows whether it is paid: it is if all of it was drawn by then",
    };
    Failure::new(Exit::Connect, text).hint(hint)
}

impl Front for Once {
    fn show(&mut self, event: &Event) {
        self.printer.show(event);
        match event {
            Event::Answer { finish, charged, .. } => {
                self.answered = true;
                if *finish == Finish::Cancelled {
                    self.verdict = Err(cut_short(*charged));
                }
            }
            Event::Refused { reason, text, .. } => {
                self.answered = true;
                self.verdict = Err(refused(*reason, text, &self.earn));
            }
            Event::Lost { reason, cost, .. } => self.verdict = Err(lost(reason, *cost)),
            Event::Balance { .. } => self.answered = true,
            Event::ApiKeys { keys } => self.on_keys(keys),
            _ => {}
        }
    }

    async fn next(&mut self, state: State) -> Result<Fact, Failure> {
        match self.question.take() {
            Some(Question::Prompt(query)) => return Ok(Fact::Ask(query)),
            Some(Question::Balance) => return Ok(Fact::AskBalance),
            Some(Question::ApiKeys(mut errand)) if !self.answered => {
                let next = errand.next.take_if(|_| state.open);
                self.question = Some(Question::ApiKeys(errand));
                if let Some(fact) = next {
                    return Ok(fact);
                }
            }
            _ if self.answered => return Ok(Fact::Leave),
            _ => {}
        }
        tokio::select! {
            Some(stop) = self.stops.recv() => self.on_stop(stop, state),
            // Whoever closes the pipe has read enough.
            () = self.printer.gone() => Ok(Fact::Leave),
        }
    }
}
