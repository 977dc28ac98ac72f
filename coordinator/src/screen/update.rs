//! The screen's messages and what they change.

use std::time::Duration;

use hydra_core::ids::{UserName, VersionNo, WorkerId};
use hydra_core::time::Time;
use hydra_shell::signals::Stop;
use hydra_shell::ui::composer::{self, Edit};
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::crossterm::event::{MouseButton, MouseEventKind};
use hydra_shell::ui::text::{count, grouped};
use hydra_shell::ui::theme::Sign;
use hydra_shell::ui::{App, Binding, Event as Input, keys as lookup, tabs};

use super::model::{Overlay, Point, Sample, Screen, Snapshot, Tab};
use super::{keys, ledger, view, workers};

/// Between two wake-ups: clocks and countdowns show seconds.
const SECOND: Duration = Duration::from_secs(1);
/// Rows that a turn of the wheel scrolls.
const WHEEL: isize = 3;
/// Lines of the help that a page key moves by.
const HELP_PAGE: isize = 8;
/// What notices about saving are about.
const SAVING: &str = "saving";
/// What notices about a lost worker are about.
const LOST: &str = "lost";
/// Tasks that may be queued, as the setting `tasks.queue` has it.
const QUEUE: std::ops::RangeInclusive<usize> = 1..=4096;

/// What can happen to the screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// How the run stands.
    Snapshot(Box<Snapshot>),
    /// A version was measured.
    Scored(Point),
    /// A version has answered the samples' prompt.
    Sample(Sample),
    /// What became of the wish to save.
    Saving(Saving),
    /// A worker's connection ended without a goodbye.
    Lost {
        user: UserName,
        worker: WorkerId,
    },
    /// The run has ended.
    Ended,
    /// A signal.
    Stop(Stop),
    Wake,
    Resized(u16, u16),
    Tab(Tab),
    /// So many pages on.
    Turn(isize),
    Pause,
    Save,
    /// So many queued tasks more.
    Queue(isize),
    Filter,
    Sort,
    SortBy(usize),
    Reverse,
    Detail,
    Kick,
    Level,
    /// Long lines of the log in several rows, or cut.
    Wrap,
    /// Rows of the page's list.
    Step(isize),
    Page(isize),
    /// To the first or the last.
    Edge(bool),
    /// The worker at a place in the table.
    Worker(usize),
    /// The transfer at a place in the table.
    Transfer(usize),
    Edit(Edit),
    Confirm,
    Close,
    Help,
    Quit,
}

/// What becomes of the wish to save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// The round closes with so many updates: they will be this version.
    Closing { version: VersionNo, updates: usize },
    /// This version waits: made now, it would make a task in hand too old.
    Waiting { version: VersionNo },
    /// This version is being made already.
    Merging { version: VersionNo },
    /// Everything is in this version, which is safe, as are so many transfers.
    Nothing { version: VersionNo, transfers: u64 },
    /// The run is ending, which saves everything.
    Ending,
}

/// What the screen wants of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Pause,
    Resume,
    Save,
    Queue(usize),
    Kick(UserName, WorkerId, String),
    /// Finish what is under way, then stop.
    Drain,
    /// Stop at once.
    StopAtOnce,
}

/// What the screen wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cmd {
    Request(Request),
    /// Give the terminal back.
    Leave,
}

impl App for Screen {
    type Msg = Msg;
    type Cmd = Cmd;

    fn keys(&self) -> &[Binding<Msg>] {
        keys::keys(self)
    }

    fn keymap(&self, event: &Input) -> Option<Msg> {
        match event {
            Input::Resize(width, height) => Some(Msg::Resized(*width, *height)),
            Input::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => Some(Msg::Step(-WHEEL)),
                MouseEventKind::ScrollDown => Some(Msg::Step(WHEEL)),
                MouseEventKind::Down(MouseButton::Left) => self.clicked((mouse.column, mouse.row)),
                _ => None,
            },
            event => lookup::lookup(self.keys(), event).or_else(|| {
                let writes = matches!(self.overlay, Overlay::Filter(_) | Overlay::Kick(..));
                composer::edit(event).filter(|_| writes).map(Msg::Edit)
            }),
        }
    }

    fn update(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        let cmds = self.on_msg(now, msg);
        self.asked += cmds.iter().filter(|cmd| matches!(cmd, Cmd::Request(_))).count() as u64;
        cmds
    }

    fn view(&self, frame: &mut Frame<'_>) {
        view::draw(self, frame);
    }

    fn wake_at(&self) -> Option<Time> {
        Some(self.now.after(SECOND)).into_iter().chain(self.toasts.wake_at()).min()
    }

    fn on_wake(&self) -> Option<Msg> {
        Some(Msg::Wake)
    }
}

impl Screen {
    fn on_msg(&mut self, now: Time, msg: Msg) -> Vec<Cmd> {
        self.now = now;
        match msg {
            Msg::Snapshot(snapshot) => self.on_snapshot(*snapshot),
            Msg::Scored(point) => self.take_point(point),
            Msg::Sample(sample) => self.take_sample(sample),
            Msg::Saving(saving) => self.on_saving(saving),
            // At the end everybody goes.
            Msg::Lost { .. } if self.leaving => {}
            Msg::Lost { user, worker } => {
                let words = format!("{user} {} is gone: connection lost", workers::short_id(worker));
                self.toasts.renew(now, LOST, Sign::Info, words);
                self.lost = Some((user, worker));
            }
            Msg::Ended | Msg::Stop(Stop::AtOnce) => return vec![Cmd::Leave],
            // The run hears signals itself.
            Msg::Stop(Stop::Cleanly) => (self.leaving, self.overlay) = (true, Overlay::None),
            Msg::Wake => self.toasts.expire(now),
            Msg::Resized(width, height) => self.size = (width, height),
            Msg::Tab(tab) => self.turn_to(tab),
            Msg::Turn(by) => self.turn_to(self.tab.step(by)),
            Msg::Pause => return self.pause(),
            Msg::Save => return vec![Cmd::Request(Request::Save)],
            Msg::Queue(by) => return self.queue(by),
            Msg::Level => {
                let words = self.log.next_level(&self.facts.ring);
                self.toasts.renew(now, "level", Sign::Info, words);
            }
            Msg::Wrap => self.log.toggle_wrap(&self.facts.ring),
            // A sample has several lines.
            Msg::Step(by) if self.tab == Tab::Samples && !self.helps() => self.step(by.signum()),
            Msg::Step(by) => self.step(by),
            Msg::Page(by) if self.helps() => self.step(by * HELP_PAGE),
            Msg::Page(by) if self.tab == Tab::Log => self.log.page(&self.facts.ring, by > 0),
            Msg::Page(by) => self.step(by * (self.page_rows.get().max(2) as isize - 1)),
            Msg::Edge(last) => self.step(if last { isize::MAX } else { isize::MIN }),
            Msg::Worker(place) => self.choose_worker(place),
            Msg::Transfer(place) => self.choose_transfer(place),
            Msg::Sort | Msg::SortBy(_) | Msg::Reverse => self.sort(&msg),
            Msg::Detail if self.chosen().is_none() => {}
            Msg::Detail if self.is_small() => self.detail.1 = !self.detail.1,
            Msg::Detail => self.detail.0 = !self.detail.0,
            Msg::Filter | Msg::Kick | Msg::Edit(_) | Msg::Confirm | Msg::Close | Msg::Help | Msg::Quit => {
                return self.on_overlay(msg);
            }
        }
        Vec::new()
    }

    /// What was said before the screen came and people should not miss; the log has it, too.
    pub fn caution(&mut self, lines: &[String]) {
        let words = match lines {
            [] => return,
            [line] => line.clone(),
            lines => format!("{} warnings about this start: see the log, page 5", lines.len()),
        };
        self.toasts.push_long(self.now, Sign::Warn, words);
    }

    /// Whether there is no room for panels.
    pub fn is_small(&self) -> bool {
        view::is_small(self.size)
    }

    fn helps(&self) -> bool {
        matches!(self.overlay, Overlay::Help(_))
    }

    fn clicked(&self, at: (u16, u16)) -> Option<Msg> {
        if !matches!(self.overlay, Overlay::None) {
            return None;
        }
        let tab = tabs::at(self.tabs_at.get(), &Tab::TITLES, self.tab as usize, at);
        if let Some(tab) = tab {
            return Some(Msg::Tab(Tab::ALL[tab]));
        }
        match self.tab {
            // Behind the chosen one in full lies where the table was.
            Tab::Workers if workers::hides_table(self) => None,
            Tab::Workers => {
                let heading = self.workers.heading_at(at).map(Msg::SortBy);
                heading.or_else(|| self.workers.at(at).map(Msg::Worker))
            }
            Tab::Ledger => self.transfers.at(at).map(Msg::Transfer),
            Tab::Overview | Tab::Samples | Tab::Log => None,
        }
    }

    fn turn_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.arrange();
    }

    fn on_snapshot(&mut self, snapshot: Snapshot) {
        let status = &snapshot.view.status;
        self.leaving |= snapshot.view.stopping.is_some();
        if let Some(version) = self.saving.take_if(|version| status.version >= *version) {
            self.toasts.renew(self.now, SAVING, Sign::Good, format!("version {version} is made and safe"));
        }
        let is_back = |(user, worker): &mut (UserName, WorkerId)| {
            snapshot.rows.iter().any(|row| row.worker.worker == *worker && row.worker.user == *user)
        };
        if let Some((user, worker)) = self.lost.take_if(is_back) {
            let words = format!("{user} {} is connected again", workers::short_id(worker));
            self.toasts.renew(self.now, LOST, Sign::Info, words);
        }
        self.take_snapshot(snapshot);
    }

    fn on_saving(&mut self, saving: Saving) {
        let (sign, words) = match saving {
            Saving::Closing { version, updates } => {
                self.saving = Some(version);
                (Sign::Info, format!("making version {version} of {}", count(updates as u64, "update", "updates")))
            }
            Saving::Waiting { version } => {
                self.saving = Some(version);
                (Sign::Info, format!("version {version} waits: now, it would make a task in hand too old to be paid"))
            }
            Saving::Merging { version } => {
                self.saving = Some(version);
                (Sign::Info, format!("version {version} is being made already"))
            }
            Saving::Nothing { version, transfers } => (
                Sign::Good,
                format!("nothing new to save: version {version}, {} transfers are safe", grouped(transfers)),
            ),
            Saving::Ending => (Sign::Info, "the run is ending and saves everything".to_owned()),
        };
        self.toasts.renew(self.now, SAVING, sign, words);
    }

    fn pause(&mut self) -> Vec<Cmd> {
        let Some(snapshot) = self.snapshot.as_mut().filter(|_| !self.leaving) else { return Vec::new() };
        // Shown at once; the snapshot that knows of it says the same.
        let paused = !snapshot.view.paused;
        snapshot.view.paused = paused;
        let (words, request) = if paused {
            ("no new tasks; those ready or in hand are still trained and paid", Request::Pause)
        } else {
            ("tasks are generated again", Request::Resume)
        };
        self.toasts.renew(self.now, "pause", Sign::Info, words);
        vec![Cmd::Request(request)]
    }

    fn queue(&mut self, by: isize) -> Vec<Cmd> {
        let Some(snapshot) = self.snapshot.as_mut().filter(|_| !self.leaving) else { return Vec::new() };
        let wanted = snapshot.view.queue.saturating_add_signed(by).clamp(*QUEUE.start(), *QUEUE.end());
        snapshot.view.queue = wanted;
        let tasks = count(wanted as u64, "task", "tasks");
        let words = if snapshot.view.paused {
            format!("{tasks} kept ready after the pause")
        } else {
            format!("{tasks} kept ready for workers")
        };
        self.toasts.renew(self.now, "queue", Sign::Info, words);
        vec![Cmd::Request(Request::Queue(wanted))]
    }

    fn step(&mut self, by: isize) {
        if let Overlay::Help(scroll) = &mut self.overlay {
            return scroll.by(by);
        }
        let rows = self.snapshot.as_ref().map_or(&[][..], |snapshot| snapshot.rows.as_slice());
        match self.tab {
            Tab::Overview => {}
            Tab::Workers => self.workers.step(rows, workers::key, by),
            Tab::Ledger => {
                let newest = self.snapshot.as_ref().map_or(&[][..], |snapshot| snapshot.view.ledger.newest.as_slice());
                self.transfers.step(newest, ledger::key, by);
            }
            Tab::Samples => {
                self.sample = self.sample.saturating_add_signed(by).min(self.samples.len().saturating_sub(1));
            }
            Tab::Log if by == isize::MAX => self.log.follow(),
            Tab::Log => self.log.scroll(&self.facts.ring, by as i64),
        }
    }

    fn choose_worker(&mut self, place: usize) {
        let rows = self.snapshot.as_ref().map_or(&[][..], |snapshot| snapshot.rows.as_slice());
        self.workers.choose(rows, workers::key, place);
    }

    fn choose_transfer(&mut self, place: usize) {
        let newest = self.snapshot.as_ref().map_or(&[][..], |snapshot| snapshot.view.ledger.newest.as_slice());
        self.transfers.choose(newest, ledger::key, place);
    }

    fn sort(&mut self, msg: &Msg) {
        match *msg {
            Msg::SortBy(column) => self.workers.sort_by(column),
            Msg::Reverse => self.workers.reverse(),
            _ => self.workers.sort_next(),
        }
        self.stale = true;
        self.arrange();
        // Where there is no room for panels, there is none for the table's title.
        if self.is_small() {
            self.toasts.renew(self.now, "order", Sign::Info, format!("by {}", self.workers.order()));
        }
    }
}
