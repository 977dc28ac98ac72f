//! Drives the [`Chat`] machine: one fact, then all of its orders, then the next fact.

use std::time::Duration;

use hydra_core::chat::{Chat, Event, Exit, Fact, Order};
use hydra_core::ids::{Nonce, PublicKey};
use hydra_core::machine::Machine as _;
use hydra_shell::client::line::{Heard, Line};
use hydra_shell::clock::Clock;
use hydra_shell::exit::{Exit as Code, Failure};
use hydra_shell::keys;

/// For the last words in both directions.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who wishes and who sees: a question of the command line, lines of a terminal, or a screen.
pub trait Front {
    /// Shows what happened.
    fn show(&mut self, event: &Event);
    /// The next wish, when there is one. Must be cancel safe. An error ends the program at once.
    async fn next(&mut self, state: State) -> Result<Fact, Failure>;
    /// The session is over; it was of this run.
    fn parted(&mut self, run: Option<PublicKey>) {
        let _ = run;
    }
    /// The coordinator has said goodbye for good, in these words. Whether somebody stays to read; for everybody else
    /// that is an error.
    fn over(&mut self, text: &str) -> bool {
        let _ = text;
        false
    }
    /// The coordinator refuses this client, in these words; the program ends with that.
    fn turned_away(&mut self, text: &str) {
        let _ = text;
    }
}

/// How the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// It stands.
    pub open: bool,
    /// An answer is awaited.
    pub busy: bool,
}

/// All that is needed to talk.
pub struct Driver {
    pub chat: Chat,
    pub line: Line,
    pub clock: Clock,
}

impl Driver {
    /// Talks until the machine, or the front, ends it.
    pub async fn run(mut self, front: &mut impl Front) -> Result<(), Failure> {
        let mut met = false;
        let exit = loop {
            if let Some(exit) = self.carry_out(front, &mut met) {
                break exit;
            }
            let deadline = self.chat.deadline().map(|(at, _)| at);
            let state = State { open: self.chat.is_open(), busy: self.chat.is_busy() };
            tokio::select! {
                heard = self.line.next() => {
                    let fact = match heard {
                        Heard::Connected => Fact::Connected { nonce: Nonce(keys::random()?) },
                        Heard::Message(message) => Fact::Message(message),
                        Heard::Closed(reason) => Fact::Closed { reason },
                        // A chat asks for no blob, and sends none.
                        Heard::Blob(..) | Heard::Sent(_) => continue,
                    };
                    self.chat.handle(self.clock.now(), fact);
                }
                wish = front.next(state) => self.chat.handle(self.clock.now(), wish?),
                () = self.clock.sleep_until(deadline) => self.chat.expire(self.clock.now()),
            }
        };
        front.parted(self.chat.run());
        let ended = match exit {
            Exit::Over(text) if met && front.over(&text) => Ok(()),
            exit => {
                if let Exit::Refused(text) = &exit {
                    front.turned_away(text);
                }
                failure(exit, &self.line, met)
            }
        };
        self.line.hang_up(FAREWELL).await;
        ended
    }

    fn carry_out(&mut self, front: &mut impl Front, met: &mut bool) -> Option<Exit> {
        while let Some(order) = self.chat.poll() {
            match order {
                Order::Connect => self.line.connect(),
                Order::Send(message) => self.line.send(&message),
                // A coordinator that was never reached is most likely not there, or not where the user thinks.
                Order::Show(Event::Disconnected { reason, .. }) if !*met => return Some(Exit::Unreachable(reason)),
                Order::Show(event) => {
                    if matches!(event, Event::Connected { .. }) {
                        *met = true;
                        self.line.greeted();
                    }
                    front.show(&event);
                }
                Order::Exit(exit) => return Some(exit),
            }
        }
        None
    }
}

fn failure(exit: Exit, line: &Line, met: bool) -> Result<(), Failure> {
    match exit {
        Exit::Done => Ok(()),
        Exit::Unreachable(reason) => Err(match line.failed() {
            Some(error) => error.clone().into(),
            None if met => Failure::new(Code::Connect, format!("the coordinator was lost: {reason}"))
                .hint("see whether the coordinator still runs, then try again"),
            None => Failure::new(Code::Connect, format!("no session with the coordinator: {reason}"))
                .hint("try again later"),
        }),
        Exit::Over(text) => Err(Failure::new(Code::Connect, format!("the coordinator has said goodbye: {text}"))),
        Exit::Refused(text) => Err(Failure::new(Code::Refused, format!("the coordinator refuses: {text}"))),
    }
}
