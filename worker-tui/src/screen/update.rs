//! The screen's keys and messages, and what they change.

use std::time::Duration;

use hydra_core::agent::Event;
use hydra_core::time::Time;
use hydra_engine::MOST_THREADS;
use hydra_shell::signals::Stop;
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::crossterm::event::{MouseButton, MouseEventKind};
use hydra_shell::ui::ratatui::layout::Position;
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::{App, Binding, Event as Input, PROGRAM, help, keys};

use super::model::{ASK_EVERY, Leaving, Link, SMOOTHINGS, Screen, Shown, Usage};
use super::view;
use crate::driver::{News, Request};

mod told;

/// So long nothing replaces the answer to a key.
const REPLY: Duration = Duration::from_secs(3);
/// All notices are of one kind.
const NOTICE: &str = "notice";
/// Why nothing can be asked for yet, and any more.
const OPENING: &str = "opening the device";
const LEAVES: &str = "leaving: no further task is taken";
/// Between two wake-ups: clocks and countdowns show seconds.
const SECOND: Duration = Duration::from_secs(1);

/// What can happen to the screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// What people and scripts are told.
    Event(Event),
    /// What only a screen is told.
    News(News),
    Usage(Usage),
    /// The name under which this worker earns.
    User(String),
    /// The work has ended.
    Ended,
    /// A signal.
    Stop(Stop),
    Wake,
    /// The terminal's size has changed; it is drawn anew.
    Resized,
    Pause,
    /// So many CPU threads more, or fewer.
    Threads(isize),
    Smooth,
    Level,
    Wrap,
    Chart,
    /// Log lines, back if negative.
    Log(i64),
    /// Pages of the log.
    Page(i64),
    /// The newest log line.
    Newest,
    Help,
    /// Lines of the help.
    Scroll(isize),
    Close,
    Quit,
}

/// What the screen wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cmd {
    /// Ask the work.
    Request(Request),
    /// Give the terminal back.
    Leave,
}

/// The key table.
pub const KEYS: &[Binding<Msg>] = &[
    Binding::new("p", Msg::Pause, "pause after this task, or take tasks again").group("Work").hint("pause"),
    Binding::new("+ =", Msg::Threads(1), "one CPU thread more, from the next task on").group("Work"),
    Binding::new("minus", Msg::Threads(-1), "one CPU thread less; a change begins the optimiser anew").group("Work"),
    Binding::new(
        "s",
        Msg::Smooth,
        "smooth the loss over 50, 200, 1 or 10 steps; while there are few, over a seventh of them",
    )
    .group("View")
    .hint("smooth"),
    Binding::new("c tab", Msg::Chart, "chart of this session or of this task, where one has room")
        .group("View")
        .hint("chart"),
    Binding::new("l", Msg::Level, "log: ERROR, WARN, INFO; DEBUG with HYDRA_LOG=debug").group("View").hint("log"),
    Binding::new("w", Msg::Wrap, "wrap long lines of the log, or cut them").group("View").hint("wrap"),
    Binding::new("pageup", Msg::Page(-1), "scroll the log back").group("View"),
    Binding::new("pagedown", Msg::Page(1), "scroll the log on").group("View"),
    Binding::new("end esc G", Msg::Newest, "back to the log's newest line").group("View").hint("newest"),
    Binding::new("? f1", Msg::Help, "this help").group(PROGRAM).hint("help"),
    Binding::new("q ctrl-c", Msg::Quit, "finish the task, then quit; again: quit at once").group(PROGRAM).hint("quit"),
];

/// Keys while the help is open.
const HELP_KEYS: &[Binding<Msg>] = &[
    Binding::new("esc ? f1 q", Msg::Close, "close").hint("close"),
    Binding::new("up k", Msg::Scroll(-1), "up").hint("up"),
    Binding::new("down j", Msg::Scroll(1), "down").hint("down"),
    Binding::new("pageup", Msg::Scroll(-8), "back"),
    Binding::new("pagedown space", Msg::Scroll(8), "on"),
    Binding::new("home g", Msg::Scroll(isize::MIN), "beginning"),
    Binding::new("end G", Msg::Scroll(isize::MAX), "end"),
    Binding::new("ctrl-c", Msg::Quit, "quit"),
];

impl App for Screen {
    type Msg = Msg;
    type Cmd = Cmd;

    fn keys(&self) -> &[Binding<Msg>] {
        if self.help.is_some() { HELP_KEYS } else { KEYS }
    }

    fn keymap(&self, event: &Input) -> Option<Msg> {
        match event {
            Input::Resize(..) => Some(Msg::Resized),
            Input::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => Some(self.wheeled(-1)),
                MouseEventKind::ScrollDown => Some(self.wheeled(1)),
                MouseEventKind::Down(MouseButton::Left) => self.clicked(mouse.column, mouse.row),
                _ => None,
            },
            event => keys::lookup(self.keys(), event),
        }
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        self.now = now;
        match msg {
            Msg::Event(event) => return self.on_event(event),
            Msg::News(news) => return self.on_news(news),
            Msg::Usage(usage) => self.on_usage(usage),
            Msg::User(user) => self.facts.user = Some(user),
            Msg::Ended => return vec![Cmd::Leave],
            Msg::Stop(Stop::Cleanly) if self.leaving == Leaving::Asked => {}
            Msg::Stop(Stop::Cleanly) | Msg::Quit => return self.quit(),
            Msg::Stop(Stop::AtOnce) => return vec![Cmd::Request(Request::Stop), Cmd::Leave],
            Msg::Wake => return self.on_wake(),
            Msg::Resized => {}
            Msg::Pause => return self.pause(),
            Msg::Threads(more) => return self.change_threads(more),
            Msg::Smooth => self.smooth(),
            Msg::Wrap => self.log.toggle_wrap(&self.facts.ring),
            Msg::Level => {
                let words = self.log.next_level(&self.facts.ring);
                self.reply(words);
            }
            Msg::Chart => {
                self.shown = if self.shown == Shown::Task { Shown::Session } else { Shown::Task };
            }
            // Nobody would see it.
            Msg::Log(_) | Msg::Page(_) if self.log_rows.get() == 0 => {}
            Msg::Log(lines) => self.log.scroll(&self.facts.ring, lines),
            Msg::Page(pages) => self.log.page(&self.facts.ring, pages > 0),
            Msg::Newest => self.log.follow(),
            Msg::Help => self.help = Some(help::Scroll::default()),
            Msg::Scroll(lines) => {
                if let Some(help) = &mut self.help {
                    help.by(lines);
                }
            }
            Msg::Close => self.help = None,
        }
        Vec::new()
    }

    fn view(&self, frame: &mut Frame<'_>) {
        view::draw(self, frame);
    }

    fn wake_at(&self) -> Option<Time> {
        // Not only a second after whatever came last: steps may come faster than that for hours.
        let up = matches!(self.link, Link::Up { .. });
        let ask = up.then(|| self.asked.map_or(self.now, |asked| asked.after(ASK_EVERY)));
        [Some(self.now.after(SECOND)), self.toasts.wake_at(), ask].into_iter().flatten().min()
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Wake)
    }
}

impl Screen {
    fn wheeled(&self, lines: i64) -> Msg {
        if self.help.is_some() { Msg::Scroll(lines as isize) } else { Msg::Log(lines) }
    }

    fn clicked(&self, x: u16, y: u16) -> Option<Msg> {
        let hit = self.help.is_none() && self.switch.get().contains(Position { x, y });
        hit.then_some(Msg::Chart)
    }

    /// Answers a key.
    fn reply(&mut self, words: impl Into<String>) {
        // One at a time: there is one row for them.
        self.toasts.renew(self.now, NOTICE, Sign::Info, words);
        self.replied = self.now.after(REPLY);
    }

    /// Says why a key does nothing now.
    fn refuse(&mut self, why: &str) -> Vec<Cmd> {
        self.reply(why);
        Vec::new()
    }

    fn quit(&mut self) -> Vec<Cmd> {
        if self.leaving == Leaving::Asked {
            return vec![Cmd::Request(Request::Stop), Cmd::Leave];
        }
        (self.leaving, self.help) = (Leaving::Asked, None);
        vec![Cmd::Request(Request::Finish)]
    }

    fn pause(&mut self) -> Vec<Cmd> {
        // Before the device is open nobody takes requests but to leave.
        if self.leaving == Leaving::Asked || self.link == Link::Starting {
            return self.refuse(if self.link == Link::Starting { OPENING } else { LEAVES });
        }
        self.paused = !self.paused;
        let (words, request) = match (self.paused, &self.hand) {
            (true, Some(_)) => ("pausing after this task", Request::Pause),
            (true, None) => ("paused", Request::Pause),
            (false, _) => ("taking tasks again", Request::Resume),
        };
        self.reply(words);
        vec![Cmd::Request(request)]
    }

    fn change_threads(&mut self, more: isize) -> Vec<Cmd> {
        let threads = match self.threads {
            Some(threads) if self.leaving == Leaving::No => threads,
            None if self.device.is_none() => return self.refuse(OPENING),
            None => return self.refuse("a GPU has no threads to choose"),
            Some(_) => return self.refuse(LEAVES),
        };
        let most = self.facts.cores.max(threads).min(MOST_THREADS);
        let before = self.wanted.unwrap_or(threads);
        let wanted = before.saturating_add_signed(more).clamp(1, most);
        if wanted == before {
            return self.refuse(&at_the_limit(more, most, wanted == threads));
        }
        self.wanted = (wanted != threads).then_some(wanted);
        self.reply(format!("{wanted} of {most} CPU threads from the next task on"));
        vec![Cmd::Request(Request::Threads(wanted))]
    }

    fn smooth(&mut self) {
        self.smoothing = (self.smoothing + 1) % SMOOTHINGS.len();
        let span = SMOOTHINGS[self.smoothing];
        (self.session.smoothing, self.task.smoothing) = (span, span);
        let words = if span > 1.0 { format!("smoothed over {span} steps") } else { "each step as measured".to_owned() };
        self.reply(words);
    }

    fn on_wake(&mut self) -> Vec<Cmd> {
        self.toasts.expire(self.now);
        let due = self.asked.is_none_or(|asked| self.now.since(asked) >= ASK_EVERY);
        if due && matches!(self.link, Link::Up { .. }) { self.ask() } else { Vec::new() }
    }

    fn ask(&mut self) -> Vec<Cmd> {
        self.asked = Some(self.now);
        vec![Cmd::Request(Request::AskStatus)]
    }

    fn on_usage(&mut self, usage: Usage) {
        let spent = usage.cpu.zip(self.usage.cpu).and_then(|(cpu, before)| cpu.checked_sub(before));
        let passed = self.now.since(self.used_at).as_secs_f64();
        self.cores = spent.filter(|_| passed > 0.1).map(|spent| spent.as_secs_f64() / passed);
        (self.usage, self.used_at) = (usage, self.now);
    }
}

/// Why there is no thread more, or less.
fn at_the_limit(more: isize, most: usize, in_use: bool) -> String {
    match (more > 0, in_use) {
        (false, _) => "one CPU thread is the least".to_owned(),
        (true, _) if most == 1 => "the only CPU thread is in use already".to_owned(),
        (true, _) if most == MOST_THREADS => format!("{most} CPU threads are the most that are used"),
        (true, true) => format!("all {most} CPU threads are in use already"),
        (true, false) => format!("all {most} CPU threads are asked for already"),
    }
}
