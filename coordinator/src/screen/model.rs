//! What the coordinator's screen knows: plain values, changed by [`update`](super::update) alone.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hydra_core::hub::{Stop, TransferView, View, WorkerView};
use hydra_core::ids::{SessionId, UserName, VersionNo, WorkerId};
use hydra_core::time::Time;
use hydra_shell::logs::Ring;
use hydra_shell::ui::Theme;
use hydra_shell::ui::chart::{Chart, Names};
use hydra_shell::ui::composer::Composer;
use hydra_shell::ui::help;
use hydra_shell::ui::log::LogPane;
use hydra_shell::ui::overlay::Toasts;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::spark::Spark;
use hydra_shell::ui::table::Table;
use serde::{Deserialize, Serialize};

use super::rates::{Marks, Rates};
use super::{ledger, workers};

/// Samples that are kept.
pub const SAMPLES: usize = 200;
/// A version whose loss is so many times the best so far is worse, and not only by chance.
const WORSE: f64 = 1.02;
/// So many in a row are no chance either.
const IN_A_ROW: u32 = 3;
/// Speeds that the spark keeps.
const SPEEDS: usize = 120;

/// How the run stands, as the driver tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Everything but the workers, which are in `rows`.
    pub view: View,
    /// A row for every connected worker.
    pub rows: Vec<Row>,
    /// What the disk keeps waiting, in words for the header.
    pub trouble: Option<&'static str>,
    /// Bytes from clients since the start.
    pub up: u64,
    /// Bytes to clients since the start.
    pub down: u64,
    /// How many of the screen's requests had been done by then.
    pub heard: u64,
}

/// A connected worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As the hub knows it.
    pub worker: WorkerView,
    /// How long its last ping took to come back.
    pub latency: Option<Duration>,
    /// How long a ping has not come back, if that is worth a word.
    pub silent: Option<Duration>,
}

/// A version that was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub version: VersionNo,
    /// Nats a token.
    pub loss: f64,
    pub bits_per_byte: f64,
    /// Of how many updates it was made, if it is of an earlier start.
    pub updates: Option<u32>,
}

/// What a version answered to the prompt that all are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub version: VersionNo,
    /// Held-out loss, nats a token.
    pub loss: f64,
    pub text: String,
    /// Wall-clock milliseconds.
    pub at_ms: u64,
}

/// The pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tab {
    #[default]
    Overview,
    Workers,
    Ledger,
    Samples,
    Log,
}

impl Tab {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Overview, Self::Workers, Self::Ledger, Self::Samples, Self::Log];
    /// Their names.
    pub const TITLES: [&'static str; 5] = ["Overview", "Workers", "Ledger", "Samples", "Log"];

    /// The tab so many further on, round the corner.
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let count = Self::ALL.len() as isize;
        Self::ALL[(self as isize + by).rem_euclid(count) as usize]
    }
}

/// What lies over the page.
#[derive(Debug, Clone, Default)]
pub enum Overlay {
    #[default]
    None,
    /// How far it is scrolled.
    Help(help::Scroll),
    /// The words for the filter of the workers.
    Filter(Composer),
    /// Which worker to kick, what it is called, and the reason being written.
    Kick(UserName, WorkerId, String, Composer),
    /// Whether to stop the run.
    Quit,
}

/// What is known from the start.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The address listened on.
    pub addr: String,
    /// The command with which a worker joins.
    pub join: String,
    /// The run's folder.
    pub run: String,
    /// The prompt of the samples; empty: there are none.
    pub prompt: String,
    /// When the run stops by itself.
    pub stop: Stop,
    pub theme: Theme,
    pub ring: Ring,
    /// When the program began.
    pub started: Time,
}

/// What was before this start.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The versions measured, oldest first.
    pub points: Vec<Point>,
    /// The newest transfers, the newest first.
    pub transfers: Vec<Arc<TransferView>>,
    /// The samples of the same prompt, oldest first.
    pub samples: Vec<Sample>,
}

/// The screen.
#[derive(Debug)]
pub struct Screen {
    pub facts: Facts,
    /// The time of the last message.
    pub now: Time,
    /// Columns and rows.
    pub size: (u16, u16),
    pub tab: Tab,
    pub overlay: Overlay,
    /// Absent until the driver has told it.
    pub snapshot: Option<Snapshot>,
    /// Tokens trained before this start.
    first_tokens: u64,
    marks: Marks,
    pub speeds: Spark,
    pub chart: Chart,
    pub point: Option<Point>,
    /// The version with the lowest loss.
    pub best: Option<Point>,
    /// How many workers there were then, if that was in this session.
    pub best_with: Option<u32>,
    /// Versions in a row that are clearly worse.
    worse: u32,
    /// The newest first.
    pub samples: VecDeque<Sample>,
    /// The sample at the top.
    pub sample: usize,
    pub workers: Table<SessionId>,
    /// Whether the workers' order is older than their rows.
    pub stale: bool,
    /// Whether the chosen worker is shown in full: where there is room beside the table, and where there is none.
    pub detail: (bool, bool),
    pub transfers: Table<u64>,
    /// Transfers from before this start, the newest first.
    past: Vec<Arc<TransferView>>,
    pub log: LogPane,
    pub toasts: Toasts,
    /// The version that will hold what was asked to be saved.
    pub saving: Option<VersionNo>,
    /// The worker that was lost last, until it is connected again.
    pub lost: Option<(UserName, WorkerId)>,
    /// Somebody wants the run to end.
    pub leaving: bool,
    /// Requests made so far.
    pub asked: u64,
    /// Rows of the page as last drawn, for page keys.
    pub page_rows: Cell<u16>,
    /// Where the tabs were drawn, for clicks.
    pub tabs_at: Cell<Rect>,
}

impl Screen {
    /// A screen before anything was told.
    pub fn new(facts: Facts, history: History) -> Self {
        let mut chart = Chart::new(Names {
            raw: "loss".to_owned(),
            // Bits a byte are the same line at another height: a number says all of them.
            second: String::new(),
            x: "version".to_owned(),
            mark: String::new(),
            empty: "the loss appears here once a version has been measured".to_owned(),
        });
        // Every point is a measurement of a whole version: nothing to smooth.
        chart.smoothing = 1.0;
        let log = LogPane::new(&facts.ring);
        let mut screen = Self {
            now: facts.started,
            facts,
            size: (0, 0),
            tab: Tab::default(),
            overlay: Overlay::default(),
            snapshot: None,
            first_tokens: 0,
            marks: Marks::default(),
            speeds: Spark::new(SPEEDS),
            chart,
            point: None,
            best: None,
            best_with: None,
            worse: 0,
            samples: VecDeque::new(),
            sample: 0,
            workers: Table::new(workers::columns()),
            stale: false,
            detail: (true, false),
            transfers: ledger::table(),
            past: history.transfers,
            log,
            toasts: Toasts::default(),
            saving: None,
            lost: None,
            leaving: false,
            asked: 0,
            page_rows: Cell::new(0),
            tabs_at: Cell::default(),
        };
        history.points.into_iter().for_each(|point| screen.take_point(point));
        history.samples.into_iter().for_each(|sample| screen.take_sample(sample));
        screen
    }

    /// The rows of the workers.
    pub fn rows(&self) -> &[Row] {
        self.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.rows)
    }

    /// The chosen worker.
    pub fn chosen(&self) -> Option<&Row> {
        let chosen = *self.workers.chosen()?;
        self.rows().iter().find(|row| row.worker.session == chosen)
    }

    /// A version was measured.
    pub fn take_point(&mut self, point: Point) {
        // The newest version of the last start is measured again at the next.
        if self.point.replace(point).is_some_and(|known| known.version == point.version) {
            return self.chart.raw.correct(point.loss);
        }
        self.chart.raw.push(point.version.0 as f64, point.loss);
        if point.loss.is_finite() && self.best.is_none_or(|best| point.loss < best.loss) {
            self.best = Some(point);
            let now = self.snapshot.as_ref().map(|snapshot| snapshot.view.status.workers);
            self.best_with = point.updates.or(now);
        }
        let worse = self.best.is_some_and(|best| point.loss > best.loss * WORSE);
        self.worse = if worse { self.worse + 1 } else { 0 };
    }

    /// The best version so far, if the newest ones are clearly worse.
    pub fn better(&self) -> Option<Point> {
        self.best.filter(|_| self.worse >= IN_A_ROW)
    }

    /// A version has answered.
    pub fn take_sample(&mut self, sample: Sample) {
        // The newest version of the last start is measured again at the next.
        if self.samples.front().is_some_and(|newest| newest.version == sample.version) {
            self.samples.pop_front();
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_back();
        }
        self.samples.push_front(sample);
        // Whoever reads an older one goes on reading it.
        if self.sample > 0 {
            self.sample = (self.sample + 1).min(self.samples.len() - 1);
        }
    }

    /// The run's state was told.
    pub fn take_snapshot(&mut self, mut snapshot: Snapshot) {
        let newest = &mut snapshot.view.ledger.newest;
        // Only where they follow one another: the hub remembers a bounded number.
        let next = newest.last().map_or(snapshot.view.ledger.transfers + 1, |oldest| oldest.seq);
        if self.past.first().is_some_and(|newest| newest.seq + 1 == next) {
            newest.extend(self.past.iter().cloned());
        }
        ledger::name_ends(newest);
        // Where it does not know yet what was pressed meanwhile, that stays.
        if let Some(Snapshot { view, .. }) = self.snapshot.as_ref().filter(|_| snapshot.heard < self.asked) {
            (snapshot.view.paused, snapshot.view.queue) = (view.paused, view.queue);
        }
        if self.snapshot.is_none() {
            self.first_tokens = snapshot.view.status.tokens;
        }
        if self.marks.look(&snapshot) {
            self.speeds.push(speed(&snapshot.rows));
        }
        // Who connects again has a new session, and is the same worker.
        if let Some(Row { worker: chosen, .. }) = self.chosen()
            && !snapshot.rows.iter().any(|row| row.worker.session == chosen.session)
            && let Some(row) =
                snapshot.rows.iter().find(|row| row.worker.worker == chosen.worker && row.worker.user == chosen.user)
        {
            self.workers.rename(row.worker.session);
        }
        self.snapshot = Some(snapshot);
        self.stale = true;
        self.arrange();
    }

    /// Orders what the page shows anew, if it is a table.
    pub fn arrange(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        match self.tab {
            Tab::Workers if self.stale => {
                self.workers.arrange(&snapshot.rows, workers::key, workers::compare, workers::matches);
                self.stale = false;
            }
            Tab::Ledger => ledger::arrange(&mut self.transfers, &snapshot.view.ledger.newest),
            _ => {}
        }
    }

    /// What the swarm did lately, if that can be told yet.
    pub fn rates(&self) -> Option<Rates> {
        self.marks.rates(self.snapshot.as_ref()?)
    }

    /// Model traffic in bytes for a token that was trained since the start.
    pub fn bytes_a_token(&self) -> Option<f64> {
        let snapshot = self.snapshot.as_ref()?;
        let tokens = snapshot.view.status.tokens.saturating_sub(self.first_tokens);
        (tokens > 0).then(|| (snapshot.up + snapshot.down) as f64 / tokens as f64)
    }

    /// Since the program began.
    pub fn uptime(&self) -> Duration {
        self.now.since(self.facts.started)
    }
}

/// Tokens a second of those that train, as they report it.
pub fn speed(rows: &[Row]) -> f64 {
    let heard = rows.iter().filter(|row| row.silent.is_none());
    let speeds = heard.filter_map(|row| workers::speed(&row.worker)).filter(|s| s.is_finite() && *s > 0.0);
    // Not a sum, which is -0 where nobody trains.
    speeds.fold(0.0, |all, speed| all + speed)
}
