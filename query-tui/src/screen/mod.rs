//! The chat screen: the conversation on a terminal, beside the session and never in its way.
//!
//! The session's driver and the screen's loop run side by side; what happened goes one way as messages, wishes go the
//! other way as facts. The session is over when the screen is gone, and the screen is gone when the session is over
//! for good; after the coordinator's goodbye it stays, for the conversation to be read and saved, and looks now and then
//! whether the run goes on. It stays after a refusal too, if there was a session before, and looks no more.
//! `app.rs` is the model, `session.rs` its changes by the session, `wishes.rs` those by its user, `view.rs` how it looks.

mod answer;
mod app;
mod keys;
mod msg;
mod session;
#[cfg(test)]
mod tests;
mod view;
mod wishes;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use hydra_core::chat::{Cost, Event, Fact};
use hydra_core::ids::{PublicKey, UserName};
use hydra_shell::clock::Clock;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::signals::Stop;
use hydra_shell::ui::Theme;
use hydra_shell::ui::run::{self as looper, End};
use hydra_shell::ui::terminal;
use hydra_shell::ui::theme::Sign;
use tokio::sync::mpsc;

use self::app::Screen;
use self::msg::{Cmd, Msg};
use crate::driver::{Driver, Front, State};
use crate::sampling::Sampling;

/// Messages on their way to the screen; more wait at the session's side.
const MESSAGES: usize = 256;

/// Between two looks whether a run that has ended goes on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Between sessions.
const NO_SESSION: State = State { open: false, busy: false };

/// Talks on a screen until somebody leaves; `fresh` makes a session that has not begun.
pub async fn talk(
    fresh: impl FnMut(Option<PublicKey>) -> Driver,
    clock: Clock,
    user: UserName,
    sampling: Sampling,
    earn: String,
) -> anyhow::Result<()> {
    let (sender, messages) = mpsc::channel(MESSAGES);
    let (wishes, wished) = mpsc::unbounded_channel();
    let mut panel = Panel::new(wished, sender.clone());
    let mut screen = Screen::new(Theme::detect(), user, sampling, earn);
    let over = sender.clone();
    let session = async move {
        let ended = panel.talk(fresh, clock).await;
        // A screen that is gone needs no telling.
        for msg in std::mem::take(&mut panel.waiting) {
            let _ = over.send(msg).await;
        }
        let _ = over.send(Msg::Over).await;
        ended
    };
    let outside = Outside { wishes, told: sender };
    let looks = async {
        let on_stop = |_: Stop| Msg::Leave;
        looper::run(&mut screen, clock, messages, on_stop, move |cmd| outside.perform(cmd)).await
    };
    let (ended, end) = tokio::join!(session, looks);
    ended?;
    match end {
        End::Left => Ok(()),
        End::Lost(error) if screen.sized => {
            tracing::info!(%error, "the terminal is gone");
            Ok(())
        }
        End::Lost(error) => Err(Failure::new(Exit::Data, format!("the terminal cannot be used: {error}"))
            .hint("use --headless to talk in lines")
            .into()),
        End::Panicked => bail!("a thread of the program panicked"),
    }
}

/// The screen as the session's driver sees it.
struct Panel {
    wished: mpsc::UnboundedReceiver<Fact>,
    messages: mpsc::Sender<Msg>,
    /// What the screen has no room for yet.
    waiting: VecDeque<Msg>,
    /// Whether a coordinator has said goodbye for good, beyond which the screen stays.
    stays: bool,
    /// Whether a session ever stood: there may be a conversation.
    met: bool,
    /// Whether a coordinator has refused this user since.
    refused: bool,
    /// Whether the user has left.
    left: bool,
    /// The run that the last session was of.
    run: Option<PublicKey>,
}

impl Panel {
    fn new(wished: mpsc::UnboundedReceiver<Fact>, messages: mpsc::Sender<Msg>) -> Self {
        Self {
            wished,
            messages,
            waiting: VecDeque::new(),
            stays: false,
            met: false,
            refused: false,
            left: false,
            run: None,
        }
    }

    /// One session; after a goodbye for good others, as a run that has ended may be taken up again.
    async fn talk(&mut self, mut fresh: impl FnMut(Option<PublicKey>) -> Driver, clock: Clock) -> Result<(), Failure> {
        loop {
            let ended = fresh(self.run).run(self).await;
            if self.refused {
                // As it would be again, nothing is tried; the conversation stays until its user leaves.
                while !matches!(self.next(NO_SESSION).await?, Fact::Leave) {}
                return ended;
            }
            let nobody = ended.as_ref().is_ok_and(|()| !self.left)
                || ended.as_ref().is_err_and(|failure| failure.exit == Exit::Connect);
            if !(self.stays && nobody) {
                return ended;
            }
            let look = clock.now().after(LOOK_AGAIN);
            loop {
                tokio::select! {
                    // Without a session a wish comes to nothing; the screen says so by itself.
                    wish = self.next(NO_SESSION) => if matches!(wish?, Fact::Leave) {
                        return Ok(());
                    },
                    () = clock.sleep_until(Some(look)) => break,
                }
            }
        }
    }
}

impl Panel {
    /// The session's own end takes a while, for which the screen need not wait.
    fn tell_end(&mut self, msg: Msg) {
        self.waiting.push_back(msg);
        while let Ok(room) = self.messages.try_reserve() {
            let Some(msg) = self.waiting.pop_front() else { break };
            room.send(msg);
        }
    }
}

impl Front for Panel {
    fn show(&mut self, event: &Event) {
        self.met |= matches!(event, Event::Connected { .. });
        self.waiting.push_back(Msg::Session(event.clone()));
    }

    async fn next(&mut self, _: State) -> Result<Fact, Failure> {
        loop {
            tokio::select! {
                biased;
                room = self.messages.reserve(), if !self.waiting.is_empty() => match room {
                    Ok(room) => drop(self.waiting.pop_front().map(|msg| room.send(msg))),
                    Err(_) => self.waiting.clear(),
                },
                // Without a screen nobody wishes anything more.
                wish = self.wished.recv() => {
                    let wish = wish.unwrap_or(Fact::Leave);
                    self.left = matches!(wish, Fact::Leave);
                    return Ok(wish);
                }
            }
        }
    }

    fn parted(&mut self, run: Option<PublicKey>) {
        self.run = run.or(self.run);
    }

    fn over(&mut self, text: &str) -> bool {
        self.stays = true;
        self.tell_end(Msg::Goodbye(text.to_owned()));
        true
    }

    fn turned_away(&mut self, text: &str) {
        // On a first start there is nothing to keep: the words are read where the program was started.
        if self.met {
            self.refused = true;
            self.tell_end(Msg::Refused(text.to_owned()));
        }
    }
}

/// Carries out what the screen's model wants done.
struct Outside {
    wishes: mpsc::UnboundedSender<Fact>,
    told: mpsc::Sender<Msg>,
}

impl Outside {
    fn perform(&self, cmd: Cmd) -> ControlFlow<()> {
        match cmd {
            Cmd::Ask(prompt, sampling) => match sampling.query(&prompt) {
                Ok(query) => self.wish(Fact::Ask(query)),
                Err(failure) => {
                    let (text, reason) = (String::new(), failure.to_string());
                    self.tell(Msg::Session(Event::Lost { text, reason, cost: Cost::Nothing }));
                }
            },
            Cmd::Cancel => self.wish(Fact::Cancel),
            Cmd::AskBalance => self.wish(Fact::AskBalance),
            Cmd::AskStatus => self.wish(Fact::AskStatus),
            Cmd::Save { file, text, partial } => self.tell(match save(&file, &text) {
                Ok(()) if partial => Msg::Saved(Sign::Good, format!("saved as {file}, with the answer so far")),
                Ok(()) => Msg::Saved(Sign::Good, format!("saved as {file}")),
                Err(why) => Msg::Saved(Sign::Bad, format!("not saved: {why}")),
            }),
            Cmd::Copy(text) => self.tell(if terminal::copy(&text) {
                Msg::Told(Sign::Good, "copied, if your terminal allows it".to_owned())
            } else {
                Msg::Told(Sign::Bad, "the terminal takes no copy".to_owned())
            }),
            Cmd::Leave => {
                self.wish(Fact::Leave);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn wish(&self, fact: Fact) {
        // A session that is over tells so by itself.
        let _ = self.wishes.send(fact);
    }

    fn tell(&self, msg: Msg) {
        // With so many messages on their way, one about a file may be missed; waiting here would stop the screen.
        let _ = self.told.try_send(msg);
    }
}

/// Writes a new file; one that exists is left alone. `~/` is the home folder.
fn save(file: &str, text: &str) -> Result<(), String> {
    let path = match (file.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(file),
    };
    let told = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{file} exists already; choose another name"),
        io::ErrorKind::NotFound => format!("{file} is in a folder that does not exist"),
        _ => format!("{file}: {error}"),
    };
    let mut new = File::create_new(&path).map_err(told)?;
    new.write_all(text.as_bytes()).map_err(|error| {
        // A part of it would be taken for the whole, and be in the way of the next try.
        fs::remove_file(&path).ok();
        told(error)
    })
}
