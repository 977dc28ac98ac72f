//! The chat screen's model: what is written, what was said, how the session stands; all of it changes here alone.
//!
//! Nothing here reaches the session, the disk or the clipboard: [`Cmd`]s do. How it looks is in `view.rs`.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Duration;

use hydra_core::credits::Credits;
use hydra_core::ids::{UserName, VersionNo};
use hydra_core::proto::Status;
use hydra_core::time::Time;
use hydra_shell::ui::composer::{self, Composer, Edit};
use hydra_shell::ui::overlay::Toasts;
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::crossterm::event::MouseEventKind;
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::transcript::{Entry, Transcript, Who};
use hydra_shell::ui::{App, Binding, Event, Theme, keys};

use super::answer::Running;
use super::keys::{HELP_KEYS, KEYS};
use super::msg::{Cmd, Link, Msg};
use crate::commands::{self, Said};
use crate::print::describe;
use crate::sampling::Sampling;

/// Rows that a turn of the wheel scrolls.
const WHEEL: isize = 3;
/// Commands that a page key scrolls.
const PAGE: isize = 4;
/// How often seconds on the screen move on.
const SECOND: Duration = Duration::from_secs(1);
/// How often the header asks what has changed meanwhile: a worker may earn, and the model learns.
const LOOK: Duration = Duration::from_secs(5);
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
    pub version: Option<(VersionNo, Option<f64>)>,
    pub transcript: Transcript,
    pub composer: Composer,
    pub running: Option<Running>,
    /// How far the help is scrolled, while it is open.
    pub help: Option<usize>,
    pub toasts: Toasts,
    /// The time of the last message.
    pub now: Time,
    /// Whether the terminal was ever seen.
    pub sized: bool,
    /// Notes that wait for the end of the answer, to which the transcript appends.
    later: Vec<Entry>,
    /// Somebody wants to see the balance.
    asked_balance: bool,
    /// Somebody wants to see how the run is.
    asked_status: bool,
    /// When the header asks next.
    look_at: Time,
    /// The first command that is listed, where not all have room.
    pub listed: Cell<usize>,
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
            now: Time(0),
            sized: false,
            later: Vec::new(),
            asked_balance: false,
            asked_status: false,
            look_at: Time(0),
            listed: Cell::new(0),
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

    /// Whether commands are listed.
    fn lists(&self) -> bool {
        !commands::matching(self.composer.text()).is_empty()
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
    fn show_piece(&mut self, piece: &str) {
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
    }

    fn send(&mut self) -> Vec<Cmd> {
        let said = commands::read(self.composer.text());
        if matches!(said, Said::Question(_)) && self.is_busy() {
            self.toasts.push(self.now, Sign::Warn, "one answer at a time; Esc stops this one");
            return Vec::new();
        }
        self.composer.take();
        self.transcript.to_end();
        match said {
            Said::Nothing => Vec::new(),
            Said::Question(text) => self.ask(text),
            Said::Balance => {
                self.asked_balance = true;
                self.waits_for_session();
                vec![Cmd::AskBalance]
            }
            Said::Status => {
                self.asked_status = true;
                self.waits_for_session();
                vec![Cmd::AskStatus]
            }
            Said::Help => {
                self.help = Some(0);
                Vec::new()
            }
            Said::Clear => {
                self.transcript.clear();
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
                match told.unwrap_or_else(|| Err(format!("there is no command /{name}: /help lists them"))) {
                    Ok(set) => self.note(Sign::Good, &set),
                    Err(why) => self.note(Sign::Bad, &why),
                }
                Vec::new()
            }
        }
    }

    fn ask(&mut self, text: String) -> Vec<Cmd> {
        // The answer before may still be on its way to the screen.
        if let Some(foot) = self.running.as_mut().and_then(|running| running.foot.take()) {
            self.finish(&foot);
        }
        self.transcript.push(Entry::new(Who::You, &text));
        self.running = Some(Running::new(self.now));
        vec![Cmd::Ask(text, self.sampling.clone())]
    }

    fn save(&mut self, file: String) -> Vec<Cmd> {
        if file.is_empty() {
            self.note(Sign::Warn, "/save needs the name of a file: /save chat.txt");
            return Vec::new();
        }
        if self.transcript.entries().is_empty() {
            self.note(Sign::Warn, "there is nothing to save yet");
            return Vec::new();
        }
        vec![Cmd::Save(file, self.transcript.plain(self.user.as_str(), MODEL))]
    }

    fn waits_for_session(&mut self) {
        if self.link != Link::Open {
            self.toasts.push(self.now, Sign::Info, "waiting for the connection");
        }
    }

    fn copy(&mut self) -> Vec<Cmd> {
        match self.transcript.last_answer().filter(|answer| !answer.is_empty()) {
            Some(answer) => vec![Cmd::Copy(answer.to_owned())],
            None => {
                self.toasts.push(self.now, Sign::Warn, "there is no answer to copy yet");
                Vec::new()
            }
        }
    }

    fn cancel(&mut self) -> Vec<Cmd> {
        match &mut self.running {
            Some(running) if running.is_open() && !running.cancelled => {
                running.cancelled = true;
                vec![Cmd::Cancel]
            }
            Some(running) if running.is_open() => Vec::new(),
            _ => {
                self.transcript.to_end();
                Vec::new()
            }
        }
    }

    fn interrupt(&mut self) -> Vec<Cmd> {
        if !self.is_busy() || self.running.as_ref().is_some_and(|running| running.cancelled) {
            return vec![Cmd::Leave];
        }
        self.toasts.push(self.now, Sign::Info, "stopping the answer; Ctrl-C again quits");
        self.cancel()
    }

    fn wake(&mut self) {
        self.toasts.expire(self.now);
        let Some(running) = &mut self.running else { return };
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
        vec![Cmd::AskBalance, Cmd::AskStatus]
    }

    fn looks(&self) -> bool {
        matches!(self.link, Link::Open) && !self.is_busy()
    }

    /// The session stands: what it said is fresh.
    pub fn looked(&mut self) {
        self.look_at = self.now.after(LOOK);
    }

    /// How the run is, for whoever asked.
    pub fn tell_status(&mut self, status: &Status) {
        self.version = Some((status.version, status.val_loss));
        if std::mem::take(&mut self.asked_status) {
            self.note(Sign::Info, &describe(status));
        }
    }

    /// The balance, for whoever asked.
    pub fn tell_balance(&mut self, balance: Credits, held: Credits) {
        self.balance = Some(balance);
        if !std::mem::take(&mut self.asked_balance) {
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
            event => keys::lookup(self.keys(), event)
                .or_else(|| composer::edit(event).filter(|_| self.help.is_none()).map(Msg::Edit)),
        }
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        self.now = now;
        match msg {
            Msg::Size => self.sized = true,
            Msg::Edit(edit) => {
                self.composer.apply(edit);
                self.listed.set(0);
            }
            Msg::Send => return self.send(),
            Msg::Complete => {
                if let Some(line) = commands::complete(self.composer.text()) {
                    self.composer.set(&line);
                    self.listed.set(0);
                }
            }
            Msg::Cancel => return self.cancel(),
            Msg::Interrupt => return self.interrupt(),
            Msg::EndOfInput if !self.composer.text().is_empty() => self.composer.apply(Edit::Delete),
            Msg::EndOfInput | Msg::Leave | Msg::Over => return vec![Cmd::Leave],
            Msg::Help => self.help = Some(0),
            Msg::Close => self.help = None,
            Msg::HelpScroll(rows) => {
                let most = super::view::help_table().len() + 4;
                self.help = self.help.map(|at| at.saturating_add_signed(rows).min(most));
            }
            // Over the conversation lie the commands; drawing keeps them within their bounds.
            Msg::Scroll(rows) if self.lists() => self.listed.set(self.listed.get().saturating_add_signed(rows)),
            Msg::Page(pages) if self.lists() => self.listed.set(self.listed.get().saturating_add_signed(pages * PAGE)),
            Msg::Scroll(rows) => self.transcript.scroll(rows),
            Msg::Page(pages) => self.transcript.page(pages),
            Msg::Top => self.transcript.to_top(),
            Msg::End => self.transcript.to_end(),
            Msg::Copy => return self.copy(),
            Msg::Session(event) => self.on_session(&event),
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
            _ => self.is_busy().then_some(second),
        };
        let pace = self.running.as_ref().and_then(|running| {
            // An answer whose last character is shown only waits for its foot.
            running.pace.wake_at().or_else(|| running.foot.is_some().then_some(self.now))
        });
        let look = self.looks().then_some(self.look_at);
        [self.toasts.wake_at(), pace, tick, look].into_iter().flatten().min()
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Wake)
    }
}
