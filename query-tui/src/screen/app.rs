//! The chat screen's model: what is written, what was said, how the session stands; all of it changes here alone.
//!
//! Nothing here reaches the session, the disk or the clipboard: [`Cmd`]s do. What somebody wants is in `wishes.rs`, how
//! it looks in `view.rs`.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Duration;

use hydra_core::credits::Credits;
use hydra_core::ids::UserName;
use hydra_core::proto::Status;
use hydra_core::time::Time;
use hydra_shell::ui::composer::{self, Composer, Edit, LONGEST};
use hydra_shell::ui::overlay::Toasts;
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::crossterm::event::MouseEventKind;
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::transcript::{Entry, Transcript, Who};
use hydra_shell::ui::{App, Binding, Event, Theme, help, keys, text};

use super::answer::Running;
use super::keys::{HELP_KEYS, KEYS};
use super::msg::{Cmd, Link, Msg};
use crate::commands::{self, Command, Completed};
use crate::print::{Model, describe};
use crate::sampling::Sampling;

/// Rows that a turn of the wheel scrolls.
const WHEEL: isize = 3;
/// Commands that a page key scrolls.
const PAGE: isize = 4;
/// How often seconds on the screen move on.
const SECOND: Duration = Duration::from_secs(1);
/// How often the header asks what has changed meanwhile: a worker may earn, and the model learns.
const LOOK: Duration = Duration::from_secs(2);
/// An answer to that which takes longer is told.
const SILENT: Duration = Duration::from_secs(3);
/// The model's name in the transcript.
pub const MODEL: &str = "model";

/// The model.
pub struct Screen {
    pub theme: Theme,
    pub user: UserName,
    /// How to get credits.
    pub earn: String,
    pub sampling: Sampling,
    pub link: Link,
    /// Once the session stood.
    pub balance: Option<Credits>,
    pub price: Option<Credits>,
    pub version: Option<Model>,
    pub transcript: Transcript,
    pub composer: Composer,
    pub running: Option<Running>,
    /// How far the help is scrolled, while it is open.
    pub help: Option<help::Scroll>,
    pub toasts: Toasts,
    /// Words in the footer's place.
    pub hint: Option<Hint>,
    /// The words with which the coordinator said goodbye for good, or refused; empty before.
    pub goodbye: String,
    /// The time of the last message.
    pub now: Time,
    /// Whether the terminal was ever seen.
    pub sized: bool,
    /// Notes that wait for the end of the answer, to which the transcript appends.
    pub(super) later: Vec<Entry>,
    /// Somebody wants to see the balance.
    pub(super) asked_balance: bool,
    /// Somebody wants to see how the run is.
    pub(super) asked_status: bool,
    /// When the header asks next.
    look_at: Time,
    /// Since when the coordinator has owed it an answer.
    pub(super) owed: Option<Time>,
    /// The first command that is listed, where not all have room.
    pub listed: Cell<usize>,
    /// Whether not all have room.
    pub hides: Cell<bool>,
    /// What Tab completed last.
    completed: Option<Completed>,
    /// Whether the list was closed, until something else is written.
    pub(super) unlisted: bool,
}

/// Words that stand in the footer's place for a while, or until the next key.
#[derive(Debug, Clone)]
pub struct Hint {
    pub until: Time,
    pub words: String,
    /// Whether Ctrl-C leaves while they stand.
    pub leaves: bool,
}

impl Screen {
    /// The screen of `user`; `earn` says how to get credits.
    pub fn new(theme: Theme, user: UserName, sampling: Sampling, earn: String) -> Self {
        Self {
            theme,
            user,
            earn,
            sampling,
            link: Link::Connecting,
            balance: None,
            price: None,
            version: None,
            transcript: Transcript::default(),
            composer: Composer::default(),
            running: None,
            help: None,
            toasts: Toasts::default(),
            hint: None,
            goodbye: String::new(),
            now: Time(0),
            sized: false,
            later: Vec::new(),
            asked_balance: false,
            asked_status: false,
            look_at: Time(0),
            owed: None,
            listed: Cell::new(0),
            hides: Cell::new(false),
            completed: None,
            unlisted: false,
        }
    }

    /// Whether an answer is awaited, or pieces of it.
    pub fn is_busy(&self) -> bool {
        self.running.as_ref().is_some_and(Running::is_open)
    }

    /// Whether the balance is known not to cover an answer.
    pub fn is_poor(&self) -> bool {
        self.balance.zip(self.price).is_some_and(|(balance, price)| balance < price)
    }

    /// The commands that are listed: those that begin as what is written.
    pub fn listing(&self) -> Vec<Command> {
        if self.unlisted { Vec::new() } else { commands::matching(self.composer.text()) }
    }

    /// Whether commands are listed.
    pub fn lists(&self) -> bool {
        !self.listing().is_empty()
    }

    /// Adds what the program has to say, behind the answer that is being shown.
    pub fn note(&mut self, sign: Sign, words: &str) {
        let entry = Entry::new(Who::Note(sign), words);
        if self.running.as_ref().is_some_and(|running| running.begun) {
            self.later.push(entry);
        } else {
            self.transcript.push(entry);
        }
    }

    /// Adds a piece that is due to the transcript.
    pub(super) fn show_piece(&mut self, piece: &str) {
        let Some(running) = &mut self.running else { return };
        if !std::mem::replace(&mut running.begun, true) {
            self.transcript.push(Entry::new(Who::Model, ""));
        }
        self.transcript.append(piece);
    }

    /// The answer has its end on the screen: all that waits, `foot` below it, and the notes that had to wait.
    pub fn finish(&mut self, foot: &str) {
        let waiting = self.running.as_mut().map(|running| running.pace.flush());
        if let Some(waiting) = waiting {
            self.show_piece(&waiting);
            self.transcript.set_foot(foot);
        }
        self.end_answer();
    }

    /// There is no answer any more.
    pub fn end_answer(&mut self) {
        self.running = None;
        for note in std::mem::take(&mut self.later) {
            self.transcript.push(note);
        }
        if self.asked_balance {
            self.look_now();
        }
    }

    /// Something else is written.
    fn list_anew(&mut self) {
        self.listed.set(0);
        self.unlisted = false;
    }

    fn wake(&mut self) {
        self.toasts.expire(self.now);
        // What comes after somebody stopped it is shown with the answer's end.
        let Some(running) = self.running.as_mut().filter(|running| !running.cancelled) else { return };
        let piece = running.pace.take(self.now);
        let foot = if running.pace.is_idle() { running.foot.take() } else { None };
        if !piece.is_empty() {
            self.show_piece(&piece);
        }
        if let Some(foot) = foot {
            self.finish(&foot);
        }
    }

    /// Has the header's figures renewed, if it is time.
    fn look(&mut self) -> Vec<Cmd> {
        if !self.looks() || self.now < self.look_at {
            return Vec::new();
        }
        self.look_at = self.now.after(LOOK);
        self.owed.get_or_insert(self.now);
        vec![Cmd::AskBalance, Cmd::AskStatus]
    }

    /// Nobody is there to be asked, and a wish would not wait for a session either.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.link, Link::Over | Link::Refused)
    }

    /// Only a session can be asked.
    fn looks(&self) -> bool {
        matches!(self.link, Link::Open)
    }

    /// Has the header's figures renewed as soon as can be: they have changed.
    pub fn look_now(&mut self) {
        self.look_at = self.now;
    }

    /// How long the coordinator has been silent, if that is long.
    pub fn silent(&self) -> Option<Duration> {
        self.owed.map(|since| self.now.since(since)).filter(|silent| *silent >= SILENT)
    }

    /// The session stands: what it said is fresh.
    pub fn looked(&mut self) {
        self.look_at = self.now.after(LOOK);
    }

    /// How the run is, for whoever asked.
    pub fn tell_status(&mut self, status: &Status) {
        let Status { version, val_loss, val_version, .. } = *status;
        self.version = Some(Model { version, val_loss, val_version });
        if std::mem::take(&mut self.asked_status) {
            self.note(Sign::Info, &describe(status));
        }
    }

    /// The balance, for whoever asked.
    pub fn tell_balance(&mut self, balance: Credits, held: Credits) {
        self.balance = Some(balance);
        // Told below the answer it would be the balance of before the answer's end: then it is asked for again.
        if self.running.as_ref().is_some_and(|running| running.begun) || !std::mem::take(&mut self.asked_balance) {
            return;
        }
        let mut words = format!("balance: {balance} HYD");
        if held.0 > 0 {
            let _ = write!(words, ", and {held} HYD held for running queries");
        }
        if self.is_poor() {
            words.extend(["\n", &self.earn]);
        }
        self.note(Sign::Info, &words);
    }
}

impl App for Screen {
    type Msg = Msg;
    type Cmd = Cmd;

    fn keys(&self) -> &[Binding<Msg>] {
        if self.help.is_some() { HELP_KEYS } else { KEYS }
    }

    fn keymap(&self, event: &Event) -> Option<Msg> {
        let wheel = |rows| if self.help.is_some() { Msg::HelpScroll(rows) } else { Msg::Scroll(rows) };
        match event {
            Event::Resize(..) => Some(Msg::Size),
            Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => Some(wheel(-WHEEL)),
                MouseEventKind::ScrollDown => Some(wheel(WHEEL)),
                _ => None,
            },
            event => {
                let writes = |edit: &Edit| self.help.is_none() || matches!(edit, Edit::Insert(_));
                keys::lookup(self.keys(), event).or_else(|| composer::edit(event).filter(writes).map(Msg::Edit))
            }
        }
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        self.now = now;
        let over = self.hint.as_ref().is_some_and(|hint| hint.until <= now);
        if over || (msg.is_input() && !matches!(msg, Msg::Interrupt)) {
            self.hint = None;
        }
        match msg {
            Msg::Size => self.sized = true,
            Msg::Edit(edit) => {
                self.help = None;
                self.composer.apply(edit);
                if self.composer.left_out() {
                    let words =
                        format!("a message has room for {}: the rest was left out", text::bytes(LONGEST as u64));
                    self.hint_at(words);
                }
                self.list_anew();
            }
            Msg::Send => return self.send(),
            Msg::Complete => {
                if let Some(completed) = commands::complete(self.composer.text(), self.completed.as_ref()) {
                    self.composer.set(&completed.line);
                    self.completed = Some(completed);
                    self.list_anew();
                }
            }
            Msg::Cancel => return self.cancel(),
            Msg::Interrupt => return self.interrupt(),
            Msg::EndOfInput if !self.composer.text().is_empty() => self.composer.apply(Edit::Delete),
            Msg::EndOfInput | Msg::Leave | Msg::Over => return vec![Cmd::Leave],
            Msg::Help => self.help = Some(help::Scroll::default()),
            Msg::Close => self.help = None,
            Msg::HelpScroll(rows) => {
                if let Some(help) = &mut self.help {
                    help.by(rows);
                }
            }
            // Over the conversation lie the commands; drawing keeps them within their bounds.
            Msg::Scroll(rows) if self.lists() && self.hides.get() => {
                self.listed.set(self.listed.get().saturating_add_signed(rows));
            }
            Msg::Page(pages) if self.lists() && self.hides.get() => {
                self.listed.set(self.listed.get().saturating_add_signed(pages * PAGE));
            }
            Msg::Scroll(rows) => self.transcript.scroll(rows),
            Msg::Page(pages) => self.transcript.page(pages),
            Msg::Top => self.transcript.to_top(),
            Msg::End => self.transcript.to_end(),
            Msg::Copy => return self.copy(),
            Msg::Session(event) => {
                // Whatever it says, it is there; or there is no session.
                self.owed = None;
                self.on_session(&event);
            }
            Msg::Goodbye(words) => self.on_end(Link::Over, &words),
            Msg::Refused(words) => self.on_end(Link::Refused, &words),
            Msg::Saved(sign, words) => self.note(sign, &words),
            Msg::Told(sign, words) => self.toasts.push(now, sign, words),
            Msg::Wake => {
                self.wake();
                return self.look();
            }
        }
        Vec::new()
    }

    fn view(&self, frame: &mut Frame<'_>) {
        super::view::draw(self, frame);
    }

    fn wake_at(&self) -> Option<Time> {
        let second = self.now.after(SECOND);
        let tick = match self.link {
            Link::Waiting { until } if until > self.now => Some(until.min(second)),
            _ => (self.is_busy() || self.owed.is_some()).then_some(second),
        };
        let pace = self.running.as_ref().filter(|running| !running.cancelled).and_then(|running| {
            // An answer whose last character is shown only waits for its foot.
            running.pace.wake_at().or_else(|| running.foot.is_some().then_some(self.now))
        });
        let look = self.looks().then_some(self.look_at);
        let hint = self.hint.as_ref().map(|hint| hint.until);
        [self.toasts.wake_at(), pace, tick, look, hint].into_iter().flatten().min()
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Wake)
    }
}
