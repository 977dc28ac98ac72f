//! The workers: a table of all that are connected, and the chosen one in full.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

use hydra_core::hub::{WorkerState, WorkerView};
use hydra_core::ids::{SessionId, UserName, WorkerId};
use hydra_core::time::Time;
use hydra_shell::events;
use hydra_shell::ui::panel::Fact;
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Rect};
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::table::{Column, Width, Words};
use hydra_shell::ui::{gauge, text};

use super::model::{Row, Screen};
use super::view;

const USER: usize = 0;
const STATE: usize = 1;
const SPEED: usize = 2;
const EARNED: usize = 3;
const LOSS: usize = 4;
const COUNTS: usize = 5;
const TASK: usize = 6;
const PING: usize = 7;
const DEVICE: usize = 8;
const SINCE: usize = 9;

/// Rows of the pane below the table.
const PANE: u16 = 8;
/// Columns of a panel's border and the blanks about its title.
const BORDER: usize = 4;
/// Columns of the pane beside it.
const SIDE: u16 = 40;
/// Where facts stand in two columns, so many are in the left one.
const LEFT: usize = 5;

/// The columns of the table.
pub fn columns() -> Vec<Column> {
    vec![
        Column::words("user", Width::AtLeast(10), 0),
        Column::words("state", Width::AtLeast(14), 1),
        Column::number("tokens/s", 9, 3),
        Column::number("earned", 7, 2),
        Column::number("loss", 6, 4),
        Column::number("paid/not", 9, 5),
        Column::number("task", 6, 7),
        Column::number("ping", 7, 6),
        Column::words("device", Width::AtLeast(8), 8),
        Column::number("connected", 10, 9),
    ]
}

/// What a row is known by.
pub fn key(row: &Row) -> SessionId {
    row.worker.session
}

/// Orders two rows by a column, ascending; equal ones by name.
pub fn compare(a: &Row, b: &Row, column: usize) -> Ordering {
    let (left, right) = (&a.worker, &b.worker);
    let ordering = match column {
        STATE => rank(&left.state).cmp(&rank(&right.state)),
        SPEED => number(speed(left)).total_cmp(&number(speed(right))),
        EARNED => left.earned.cmp(&right.earned),
        LOSS => number(left.loss.map(f64::from)).total_cmp(&number(right.loss.map(f64::from))),
        COUNTS => (left.accepted, left.refused).cmp(&(right.accepted, right.refused)),
        TASK => task(&left.state).cmp(&task(&right.state)),
        PING => a.latency.cmp(&b.latency),
        DEVICE => left.device.cmp(&right.device),
        // For how long: the youngest first.
        SINCE => right.since.cmp(&left.since),
        _ => Ordering::Equal,
    };
    ordering.then_with(|| left.user.cmp(&right.user)).then(left.session.cmp(&right.session))
}

/// What is unknown comes first.
fn number(value: Option<f64>) -> f64 {
    value.filter(|value| value.is_finite()).unwrap_or(f64::NEG_INFINITY)
}

/// Whether a row has the word, in lower case, in its user with the id's first digits, its device or its state.
pub fn matches(row: &Row, word: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(word);
    // Who finishes trains, too.
    let trains = row.silent.is_none() && is_training(&row.worker);
    has(&in_full(&row.worker)) || has(&row.worker.device) || has(name(row)) || (trains && has("training"))
}

/// Whether a worker trains.
pub fn is_training(worker: &WorkerView) -> bool {
    matches!(worker.state, WorkerState::Training { .. })
}

/// Tokens a second, if it trains now.
pub fn speed(worker: &WorkerView) -> Option<f64> {
    worker.tokens_per_s.filter(|_| is_training(worker))
}

/// The first digits of a worker's id, which tell apart those of one user.
pub fn short_id(worker: WorkerId) -> String {
    worker.to_string().chars().take(4).collect()
}

/// What a worker is called where no other one may be meant.
pub fn in_full(worker: &WorkerView) -> String {
    format!("{} {}", worker.user, short_id(worker.worker))
}

/// Users with several workers, found once a frame and not for each row.
fn of_several(rows: &[Row]) -> HashSet<&UserName> {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.iter().map(|row| &row.worker.user).filter(|user| !seen.insert(*user)).collect()
}

/// What tells a worker from the others of its user; empty if there are none.
fn suffix(several: &HashSet<&UserName>, worker: &WorkerView) -> String {
    if several.contains(&worker.user) { short_id(worker.worker) } else { String::new() }
}

/// The order of states, and within training of how much is done.
fn rank(state: &WorkerState) -> (u8, u32) {
    match state {
        WorkerState::Training { step, steps, .. } => (0, percent(*step, *steps)),
        WorkerState::Sending(_) => (1, 0),
        WorkerState::Waiting => (2, 0),
        WorkerState::Free(_) => (3, 0),
        WorkerState::Resting => (4, 0),
        WorkerState::Barred(_) => (5, 0),
    }
}

fn percent(step: u32, steps: u32) -> u32 {
    (100 * u64::from(step.min(steps)) / u64::from(steps.max(1))) as u32
}

fn task(state: &WorkerState) -> Option<u64> {
    match state {
        WorkerState::Training { task, .. } | WorkerState::Sending(task) => Some(task.0),
        _ => None,
    }
}

/// What its state is called, as far as it is known of one that does not answer.
fn name(row: &Row) -> &'static str {
    match row.worker.state {
        _ if row.silent.is_some() => "silent",
        WorkerState::Training { step, steps, .. } if step >= steps => "finishing",
        WorkerState::Training { .. } => "training",
        WorkerState::Sending(_) => "sending",
        WorkerState::Waiting => "waiting",
        WorkerState::Free(_) => "free",
        WorkerState::Resting => "on a break",
        WorkerState::Barred(_) => "barred",
    }
}

fn short_state(screen: &Screen, state: &WorkerState) -> (String, Style) {
    let theme = screen.facts.theme;
    match state {
        // Its update is being made.
        WorkerState::Training { step, steps, .. } if step >= steps => ("▶ finishing".to_owned(), theme.good()),
        WorkerState::Training { step, steps, .. } => {
            (format!("▶ training {:>2}%", percent(*step, *steps)), theme.good())
        }
        WorkerState::Sending(_) => ("↑ sending".to_owned(), theme.accent()),
        WorkerState::Waiting => ("… waiting".to_owned(), theme.text()),
        WorkerState::Free(_) => ("○ free".to_owned(), theme.warn()),
        WorkerState::Resting => ("‖ on a break".to_owned(), theme.dim()),
        WorkerState::Barred(_) => ("✗ barred".to_owned(), theme.bad()),
    }
}

/// Draws the page.
pub fn draw(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let several = of_several(screen.rows());
    if hides_table(screen) {
        return detail(screen, &several, buffer, area);
    }
    if screen.is_small() || !screen.detail.0 || screen.rows().is_empty() {
        return table(screen, &several, buffer, area);
    }
    let parts = if area.width >= view::WIDE {
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(SIDE)]).split(area)
    } else {
        Layout::vertical([Constraint::Fill(1), Constraint::Length(PANE)]).split(area)
    };
    table(screen, &several, buffer, parts[0]);
    detail(screen, &several, buffer, parts[1]);
}

/// Whether the chosen worker in full takes the whole page.
pub fn hides_table(screen: &Screen) -> bool {
    screen.is_small() && screen.detail.1 && screen.chosen().is_some()
}

fn table(screen: &Screen, several: &HashSet<&UserName>, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let rows = screen.rows();
    // The column may be one that there is no room for.
    let order = if rows.is_empty() { String::new() } else { format!(" · by {}", screen.workers.order()) };
    // A worker that is started anew is another one, and a coordinator counts anew; what somebody has is in the ledger.
    let since = if rows.is_empty() { "" } else { " · counts since worker/coordinator began" };
    let title = match screen.workers.filter() {
        "" => {
            let title = format!("Workers: {}{order}", rows.len());
            let fits = text::width(&title) + text::width(since) + BORDER <= usize::from(area.width);
            title + if fits { since } else { "" }
        }
        filter => {
            format!("Workers: {} of {} with “{}”{order}", screen.workers.shown(), rows.len(), text::clean(filter))
        }
    };
    let inside = view::panel(screen, buffer, area, &title);
    screen.page_rows.set(inside.height.saturating_sub(1));
    if rows.is_empty() {
        view::put(buffer, inside, 1, "No worker is connected. One joins with", theme.text());
        return view::put(buffer, inside, 2, &screen.facts.join, theme.title());
    }
    screen.workers.draw(buffer, inside, theme, rows, |row, column| cell(screen, several, row, column));
}

fn cell(screen: &Screen, several: &HashSet<&UserName>, row: &Row, column: usize) -> Words {
    let theme = screen.facts.theme;
    let worker = &row.worker;
    let plain = |words: String| (words, theme.text());
    let or_dash = |words: Option<String>| words.unwrap_or_else(|| "–".to_owned());
    if column == USER {
        let suffix = suffix(several, worker);
        return Words { text: worker.user.to_string(), style: theme.accent(), suffix };
    }
    let words = match column {
        STATE => match row.silent {
            Some(silent) => (format!("? silent {}", brief(silent)), theme.bad()),
            None => short_state(screen, &worker.state),
        },
        SPEED => match speed(worker).filter(|_| row.silent.is_none()) {
            Some(speed) => plain(text::short(speed.round())),
            None => ("–".to_owned(), theme.dim()),
        },
        EARNED => plain(worker.earned.to_string()),
        LOSS => plain(or_dash(worker.loss.map(loss))),
        COUNTS if worker.refused > 0 => (format!("{}/{}", worker.accepted, worker.refused), theme.warn()),
        COUNTS => plain(format!("{}/0", worker.accepted)),
        TASK => plain(or_dash(task(&worker.state).map(|task| task.to_string()))),
        PING => plain(or_dash(row.latency.filter(|_| row.silent.is_none()).map(text::millis))),
        DEVICE => plain(worker.device.to_string()),
        _ => plain(brief(screen.now.since(worker.since))),
    };
    words.into()
}

fn loss(loss: f32) -> String {
    if loss.is_finite() && loss.abs() < 100.0 { format!("{loss:.3}") } else { text::short(f64::from(loss)) }
}

/// A span in few cells: `12s`, `3m`, `2h07`, `4d`.
fn brief(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h{:02}", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The chosen worker in full: each fact has its place, whatever the worker does.
fn detail(screen: &Screen, several: &HashSet<&UserName>, buffer: &mut Buffer, area: Rect) {
    let Some(row) = screen.chosen() else { return };
    let title = format!("{} {}", row.worker.user, suffix(several, &row.worker));
    let title = text::clean(&title).trim_end().to_owned();
    let inside = view::panel(screen, buffer, area, &title);
    let (done, label) = progress(&row.worker.state, now(screen));
    gauge::draw(buffer, inside, screen.facts.theme, done, &label);
    let rest = Rect { y: inside.y + 1.min(inside.height), height: inside.height.saturating_sub(1), ..inside };
    let mut facts = about(screen, row);
    if screen.is_small() {
        // Without a frame nothing else says whose it is.
        facts.insert(0, ("user", title, screen.facts.theme.accent()));
    }
    // Where the pane lies below the table, the facts stand in two columns.
    if area.width < view::WIDE && usize::from(rest.height) < facts.len() && rest.width >= 60 {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(rest);
        view::facts(screen, buffer, left, &facts[..LEFT]);
        return view::facts(screen, buffer, right, &facts[LEFT..]);
    }
    view::facts(screen, buffer, rest, &facts);
}

/// The time that the rows are of.
fn now(screen: &Screen) -> Time {
    screen.snapshot.as_ref().map_or(screen.now, |snapshot| snapshot.view.at)
}

/// How much of its task a worker has done, from 0 to 1, and in words.
fn progress(state: &WorkerState, now: Time) -> (f64, String) {
    match state {
        WorkerState::Training { step, steps, deadline, .. } => {
            let left = text::span(deadline.since(now));
            (f64::from(*step) / f64::from((*steps).max(1)), format!("step {step}/{steps} · lease ends in {left}"))
        }
        WorkerState::Sending(_) => (1.0, "all steps done".to_owned()),
        _ => (0.0, "not training".to_owned()),
    }
}

fn about(screen: &Screen, row: &Row) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let worker = &row.worker;
    let speed = speed(worker)
        .filter(|_| row.silent.is_none())
        .map_or_else(|| "–".to_owned(), |speed| text::short(speed.round()));
    let loss = worker.loss.map_or_else(|| "–".to_owned(), loss);
    let refused = match worker.refusal {
        Some(code) => (format!("{} · the last: {}", worker.refused, events::words(&code)), theme.warn()),
        None => ("none".to_owned(), theme.dim()),
    };
    let ping = match (row.silent, row.latency) {
        (Some(silent), _) => (format!("no answer for {}", text::span(silent)), theme.bad()),
        (None, Some(latency)) => (text::millis(latency), theme.text()),
        (None, None) => ("not measured yet".to_owned(), theme.text()),
    };
    vec![
        ("state", state(&worker.state, now(screen)), theme.title()),
        ("speed", format!("{speed} tokens/s · loss {loss}"), theme.text()),
        ("earned", format!("{} HYD · {} paid", worker.earned, worker.accepted), theme.text()),
        ("not paid", refused.0, refused.1),
        ("device", worker.device.to_string(), theme.text()),
        ("ping", ping.0, ping.1),
        ("here for", format!("{} this time", text::span(screen.now.since(worker.since))), theme.text()),
        ("worker", worker.worker.to_string(), theme.dim()),
    ]
}

fn state(state: &WorkerState, now: Time) -> String {
    match state {
        WorkerState::Training { task, version, .. } => format!("task {task} · v{version}"),
        WorkerState::Sending(task) => format!("sends task {task}"),
        WorkerState::Waiting => "waits for the next version".to_owned(),
        WorkerState::Free(since) => format!("free {}: no task is due", text::span(now.since(*since))),
        WorkerState::Resting => "takes no task for now".to_owned(),
        WorkerState::Barred(until) => format!("no task for {}: it failed", text::span(until.since(now))),
    }
}
