//! What the worker's screen knows: plain values, changed by [`update`](super::update) alone.

use std::cell::Cell;
use std::time::Duration;

use hydra_core::agent::FIRST_CONTACT;
use hydra_core::credits::Credits;
use hydra_core::ids::{TaskId, VersionNo};
use hydra_core::proto::UnpaidCode;
use hydra_core::time::Time;
use hydra_shell::logs::Ring;
use hydra_shell::ui::Theme;
use hydra_shell::ui::chart::{Chart, Names};
use hydra_shell::ui::help;
use hydra_shell::ui::log::LogPane;
use hydra_shell::ui::overlay::Toasts;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::spark::Spark;

/// Points that the loss may be smoothed over, in the order of the key; 1 shows the measurements alone.
pub const SMOOTHINGS: [f64; 4] = [50.0, 200.0, 1.0, 10.0];
/// Between two questions for the coordinator's held-out loss and the balance.
pub const ASK_EVERY: Duration = Duration::from_secs(3);
/// Speeds that the spark keeps.
const SPEEDS: usize = 64;

/// The connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Link {
    /// The device is being opened.
    #[default]
    Starting,
    /// Being made.
    Connecting,
    /// It stands.
    Up { since: Time },
    /// Lost; the next attempt comes at `until`.
    Waiting { until: Time, reason: String },
}

/// Whether the worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaving {
    #[default]
    No,
    /// Once the task in hand is delivered.
    Asked,
}

/// The task in hand.
#[derive(Debug, Clone, PartialEq)]
pub struct InHand {
    pub task: TaskId,
    pub version: VersionNo,
    pub steps: u32,
    pub tokens: u64,
    /// Steps done.
    pub step: u32,
    pub tokens_per_s: f32,
    /// The shard's first words.
    pub preview: String,
}

impl InHand {
    /// The part that is done.
    pub fn ratio(&self) -> f64 {
        f64::from(self.step) / f64::from(self.steps.max(1))
    }

    /// Until the last step, at the speed so far.
    pub fn left(&self) -> Option<Duration> {
        let tokens = self.tokens as f64 * (1.0 - self.ratio()).max(0.0);
        Duration::try_from_secs_f64(tokens / f64::from(self.tokens_per_s)).ok().filter(|_| self.tokens_per_s > 0.0)
    }
}

/// The last answer of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    pub at: Time,
    pub task: TaskId,
    pub what: T,
}

/// What the link and the process cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    pub up: u64,
    pub down: u64,
    pub round_trip: Option<Duration>,
    /// How long the coordinator has said nothing, where it owes an answer.
    pub silent: Option<Duration>,
    /// CPU time of this process so far.
    pub cpu: Option<Duration>,
    /// Memory of this process, in bytes.
    pub memory: Option<u64>,
}

/// Which losses a chart alone on the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    #[default]
    Session,
    Task,
}

/// What is known from the start.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Absent until the name is known.
    pub user: Option<String>,
    pub coordinator: String,
    pub theme: Theme,
    pub ring: Ring,
    /// When the program began.
    pub started: Time,
    /// CPU threads that this computer can run at once.
    pub cores: usize,
}

/// The screen.
#[derive(Debug, Default)]
pub struct Screen {
    pub facts: Facts,
    /// The time of the last message.
    pub now: Time,
    pub device: Option<String>,
    /// CPU threads in use; absent on a GPU, and before the device is open.
    pub threads: Option<usize>,
    /// As many as were asked for, until they are in use.
    pub wanted: Option<usize>,
    pub link: Link,
    /// Connections lost so far.
    pub losses: u64,
    /// Whether there ever was one.
    pub met: bool,
    /// When the first was begun to be made.
    pub first_try: Option<Time>,
    pub usage: Usage,
    /// CPU cores in use since the usage before.
    pub cores: Option<f64>,
    /// When the usage was last told.
    pub used_at: Time,
    pub balance: Option<Credits>,
    /// Since when it is counted what was earned and paid: the start, or that of another run.
    pub counted: Time,
    pub earned: Credits,
    pub paid: u64,
    pub unpaid: u64,
    pub last_paid: Option<Answer<Credits>>,
    pub last_unpaid: Option<Answer<(UnpaidCode, String)>>,
    /// Updates that are not answered yet, the oldest first, and their bytes.
    pub submitted: Vec<(TaskId, u64)>,
    pub hand: Option<InHand>,
    /// It takes no task until then, to rest.
    pub rest_until: Option<Time>,
    /// The coordinator has no tasks generated for the moment.
    pub run_paused: bool,
    /// Steps done in this session.
    pub steps: u64,
    pub speeds: Spark,
    pub session: Chart,
    pub task: Chart,
    pub shown: Shown,
    /// Place in [`SMOOTHINGS`].
    pub smoothing: usize,
    /// The coordinator's newest version and held-out loss, as last told.
    pub held_out: Option<(VersionNo, f64)>,
    /// When the coordinator was last asked.
    pub asked: Option<Time>,
    pub paused: bool,
    pub leaving: Leaving,
    /// How far the help is scrolled, while it is open.
    pub help: Option<help::Scroll>,
    pub log: LogPane,
    /// One at a time.
    pub toasts: Toasts,
    /// Until when the answer to a key is not replaced by anything else.
    pub replied: Time,
    /// Rows of the log as last drawn, for its page keys.
    pub log_rows: Cell<u16>,
    /// Where the chart was last drawn that a click changes into the other; empty where both are shown.
    pub switch: Cell<Rect>,
}

impl Screen {
    /// A screen before anything has happened.
    pub fn new(facts: Facts) -> Self {
        let names = |second: &str, empty: &str| Names {
            raw: "loss".to_owned(),
            second: second.to_owned(),
            x: "step".to_owned(),
            mark: "paid".to_owned(),
            empty: empty.to_owned(),
        };
        let mut session = Chart::new(names("held-out", "the loss appears here with the first step"));
        let mut task = Chart::new(names("", "no step of this task yet"));
        (session.smoothing, task.smoothing) = (SMOOTHINGS[0], SMOOTHINGS[0]);
        Self {
            now: facts.started,
            counted: facts.started,
            log: LogPane::new(&facts.ring),
            facts,
            session,
            task,
            speeds: Spark::new(SPEEDS),
            ..Self::default()
        }
    }

    /// Credits earned an hour, once a minute has passed.
    pub fn per_hour(&self) -> Option<f64> {
        let hours = self.now.since(self.counted).as_secs_f64() / 3600.0;
        (hours >= 1.0 / 60.0).then(|| self.earned.as_hyd() / hours)
    }

    /// An update was answered.
    pub fn answered(&mut self, task: TaskId) {
        if let Some(place) = self.submitted.iter().position(|(submitted, _)| *submitted == task) {
            self.submitted.remove(place);
        }
    }

    /// How long it still rests.
    pub fn resting(&self) -> Option<Duration> {
        self.rest_until.filter(|until| *until > self.now).map(|until| until.since(self.now))
    }

    /// The task in hand, if it is trained and nobody is there to take it.
    pub fn undelivered(&self) -> Option<TaskId> {
        let up = matches!(self.link, Link::Up { .. });
        self.hand.as_ref().filter(|hand| !up && hand.step >= hand.steps).map(|hand| hand.task)
    }

    /// Until a coordinator that was never reached is given up.
    pub fn gives_up_in(&self) -> Option<Duration> {
        self.first_try.filter(|_| !self.met).map(|first| first.after(FIRST_CONTACT).since(self.now))
    }

    /// Until the next attempt to connect.
    pub fn retry_in(&self) -> Option<Duration> {
        match &self.link {
            Link::Waiting { until, .. } => Some(until.since(self.now)),
            _ => None,
        }
    }
}
