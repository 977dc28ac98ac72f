//! The overview: the loss over the versions, the round, the swarm, traffic and answers.

use hydra_core::hub::{RoundView, View, WorkerState};
use hydra_core::time::Time;
use hydra_shell::ui::panel::{Fact, NAME};
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Rect};
use hydra_shell::ui::{gauge, text};

use super::ledger;
use super::model::{Point, Row, Screen, Snapshot, speed};
use super::rates::Rates;
use super::view;

/// What leads to the command with which a worker joins.
const JOIN: &str = "a worker joins with";
/// What may be behind a model that has become worse on the held-out text: where workers left, there are two reasons.
const LEARNT: &str = "worse than before: most likely it memorises its text; begin a run with more text";
const WORSE: &str = "worse than before: it memorises its text (begin a run with more), or fewer workers make a version";
/// Rows that the panels below the chart take, two beside each other.
const PANELS: u16 = 6;
/// The fewest rows of a chart that says what its lines are.
const CHART: u16 = 5;
/// Cells of the speeds' spark.
const SPARK: u16 = 8;

/// Whether there is room for the log.
pub fn has_log(screen: &Screen) -> bool {
    !screen.is_small() && screen.size.0 >= view::WIDE
}

/// Whether there is no room for panels on a page of this height.
pub fn is_bare(screen: &Screen, height: u16) -> bool {
    screen.is_small() || !has_log(screen) && height < 2 * PANELS + 2 + CHART
}

/// Draws the page.
pub fn draw(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    screen.page_rows.set(area.height);
    let Some(snapshot) = &screen.snapshot else {
        return view::put(buffer, area, area.height / 2, "the run is being opened", screen.facts.theme.dim());
    };
    if has_log(screen) {
        large(screen, snapshot, buffer, area);
    } else if is_bare(screen, area.height) {
        small(screen, snapshot, buffer, area);
    } else {
        medium(screen, snapshot, buffer, area);
    }
}

/// Without panels: the chart, and a line for each matter.
fn small(screen: &Screen, snapshot: &Snapshot, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let [chart, lines] = Layout::vertical([Constraint::Fill(1), Constraint::Length(5)]).areas(area);
    screen.chart.draw(buffer, chart, theme);
    round_gauge(screen, &snapshot.view, buffer, view::row(lines, 0));
    view::put(buffer, lines, 1, &round_words(&snapshot.view), theme.text());
    let lines = Rect { y: lines.y + 2.min(lines.height), height: lines.height.saturating_sub(2), ..lines };
    if snapshot.rows.is_empty() {
        view::put(buffer, lines, 0, JOIN, theme.dim());
        return view::put(buffer, lines, 1, &screen.facts.join, theme.title());
    }
    let speed = format!("{} tokens/s", text::short(speed(&snapshot.rows).round()));
    let tasks = screen.rates().map_or_else(String::new, |rates| {
        format!(" · {} in {}", text::count(rates.tasks, "task", "tasks"), text::span(rates.over))
    });
    view::put(buffer, lines, 0, &format!("{speed}{tasks}"), theme.text());
    match (screen.point, screen.better()) {
        (Some(point), Some(best)) => {
            view::put(buffer, lines, 1, &was_better(point, best), theme.warn());
        }
        (point, _) => {
            let loss = point.map_or_else(String::new, |point| format!("loss {:.3} · ", point.loss));
            let words = format!("{loss}↓ {} ↑ {}", text::bytes(snapshot.up), text::bytes(snapshot.down));
            view::put(buffer, lines, 1, &words, theme.text());
        }
    }
    let goals = goals(screen, snapshot);
    let matter = if goals.is_empty() { answers(&snapshot.view) } else { goals.join(" · ") };
    view::put(buffer, lines, 2, &format!("{matter} · up {}", text::span(screen.uptime())), theme.dim());
}

/// The chart over two rows of panels.
fn medium(screen: &Screen, snapshot: &Snapshot, buffer: &mut Buffer, area: Rect) {
    let [chart, upper, lower] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(PANELS), Constraint::Length(PANELS)]).areas(area);
    chart_panel(screen, buffer, chart);
    let columns = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    let [left, right] = columns.areas(upper);
    round_panel(screen, snapshot, buffer, left);
    facts_panel(screen, buffer, right, "Swarm", &swarm(screen, snapshot, right.width));
    let [left, right] = columns.areas(lower);
    facts_panel(screen, buffer, left, &traffic_title(screen), &traffic(screen, snapshot));
    facts_panel(screen, buffer, right, "Model", &model(screen, snapshot, right.width));
}

/// Chart and log at the left, facts at the right.
fn large(screen: &Screen, snapshot: &Snapshot, buffer: &mut Buffer, area: Rect) {
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length((area.width / 3).clamp(40, 56))]).areas(area);
    let log = (area.height / 4).clamp(5, 16);
    let [chart, log] = Layout::vertical([Constraint::Fill(1), Constraint::Length(log)]).areas(left);
    chart_panel(screen, buffer, chart);
    view::log(screen, buffer, log, false);
    let model = model(screen, snapshot, right.width);
    let rows = [6, 6, model.len() as u16 + 2, 6].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    let [round, swarm_at, model_at, traffic_at, balances] = Layout::vertical(rows).areas(right);
    round_panel(screen, snapshot, buffer, round);
    facts_panel(screen, buffer, swarm_at, "Swarm", &swarm(screen, snapshot, swarm_at.width));
    facts_panel(screen, buffer, model_at, "Model", &model);
    facts_panel(screen, buffer, traffic_at, &traffic_title(screen), &traffic(screen, snapshot));
    if balances.height > 2 {
        ledger::balances(screen, buffer, balances, &snapshot.view.ledger);
    }
}

/// In a few words, that the model is worse than the best.
fn was_better(now: Point, best: Point) -> String {
    format!("! loss {:.3}, was {:.3} at v{}", now.loss, best.loss, best.version)
}

fn chart_panel(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let bits = screen.point.map_or_else(String::new, |point| format!(" · {:.3} bits a byte", point.bits_per_byte));
    let inside = view::panel(screen, buffer, area, &format!("Held-out loss, in nats a token{bits}"));
    let theme = screen.facts.theme;
    let (Some(point), Some(best)) = (screen.point, screen.better()) else {
        return screen.chart.draw(buffer, inside, theme);
    };
    let now = screen.snapshot.as_ref().map(|snapshot| snapshot.view.status.workers);
    let hint = match (screen.best_with, now) {
        (Some(then), Some(now)) if now >= then => LEARNT,
        // Nobody can tell which of the two it is.
        _ => WORSE,
    };
    let mut hint = format!("! {hint}");
    let mut lines = text::wrap(&hint, usize::from(inside.width));
    if inside.height < CHART + lines.len() as u16 {
        hint = was_better(point, best);
        lines = text::wrap(&hint, usize::from(inside.width));
    }
    let [chart, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(lines.len() as u16)]).areas(inside);
    screen.chart.draw(buffer, chart, theme);
    for (line, row) in lines.into_iter().zip(0..) {
        view::put(buffer, view::row(below, row), 0, &hint[line], theme.warn());
    }
}

fn facts_panel(screen: &Screen, buffer: &mut Buffer, area: Rect, title: &str, facts: &[Fact]) {
    let inside = view::panel(screen, buffer, area, title);
    view::facts(screen, buffer, inside, facts);
}

fn round_panel(screen: &Screen, snapshot: &Snapshot, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let next = snapshot.view.status.version.0 + 1;
    let inside = view::panel(screen, buffer, area, &format!("Round towards version {next}"));
    round_gauge(screen, &snapshot.view, buffer, view::row(inside, 0));
    view::put(buffer, inside, 1, &round_words(&snapshot.view), theme.title());
    view::put(buffer, inside, 2, &at_work(&snapshot.rows, usize::from(inside.width)), theme.text());
    let age = text::span(snapshot.view.version_age);
    view::put(buffer, inside, 3, &format!("the last version is {age} old"), theme.dim());
}

/// What the workers do, each counted once, as on their page. Of one that does not answer nobody knows whether it trains.
fn at_work(rows: &[Row], room: usize) -> String {
    let mut counts = [0; 5];
    for row in rows {
        let place = match row.worker.state {
            _ if row.silent.is_some() => 3,
            WorkerState::Training { .. } => 0,
            WorkerState::Sending(_) => 1,
            WorkerState::Waiting => 2,
            WorkerState::Free(_) | WorkerState::Resting | WorkerState::Barred(_) => 4,
        };
        counts[place] += 1;
    }
    let names = ["train", "send", "wait", "silent", "idle"];
    // The usual ones keep their place, where there is room for nobody, too.
    let words = |always: usize, between: &str| {
        let told = counts.iter().zip(names).enumerate().filter(|(place, (count, _))| *place < always || **count > 0);
        told.map(|(_, (count, name))| format!("{count} {name}")).collect::<Vec<_>>().join(between)
    };
    let usual = words(3, " · ");
    let lines = [format!("workers: {usual}"), usual, words(0, " · ")];
    lines.into_iter().find(|line| text::width(line) <= room).unwrap_or_else(|| words(0, " "))
}

/// Updates that have come, of those that close the round.
fn round_gauge(screen: &Screen, view: &View, buffer: &mut Buffer, area: Rect) {
    let RoundView { accepted, needed, merging, .. } = view.round;
    let (ratio, label) = if merging {
        (1.0, "merging".to_owned())
    } else {
        (
            accepted as f64 / needed.max(1) as f64,
            // Of workers that are gone, too.
            if accepted > needed {
                text::count(accepted as u64, "update", "updates")
            } else {
                format!("{accepted} of {}", text::count(needed as u64, "update", "updates"))
            },
        )
    };
    gauge::draw(buffer, area, screen.facts.theme, ratio, &label);
}

/// What the round waits for.
fn round_words(view: &View) -> String {
    let round = &view.round;
    let left = |until: Time| text::countdown(until.since(view.at));
    let words = match (round.enough, round.closes) {
        _ if round.merging => return "the version is being made".to_owned(),
        _ if round.kept && round.judging > 0 => return "stopping; waits for updates sent".to_owned(),
        _ if round.kept && round.accepted > 0 => return "stopping; kept for the next start".to_owned(),
        _ if round.kept => return "stopping".to_owned(),
        (_, Some(closes)) if round.returning && round.accepted > 0 => {
            return format!("waits {} for others to come back", left(closes));
        }
        _ if round.accepted == 0 && round.training + round.judging == 0 => return "nobody trains".to_owned(),
        _ if round.accepted == 0 => "waiting for the first update".to_owned(),
        (Some(_), Some(closes)) => format!("enough; waits {} for more", left(closes)),
        // For a slow one, late or not, or in a run's last round for all.
        (None, Some(closes)) if round.asked || round.accepted >= round.needed => {
            return format!("waits for workers; {} at most", left(closes));
        }
        (None, Some(closes)) => format!("closes within {}", left(closes)),
        (_, None) => return "closing".to_owned(),
    };
    if round.late > 0 { format!("{words}; {} late", round.late) } else { words }
}

fn swarm(screen: &Screen, snapshot: &Snapshot, width: u16) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let view = &snapshot.view;
    let who = format!(
        "{} · {}",
        text::count(snapshot.rows.len() as u64, "worker", "workers"),
        text::count(view.chats as u64, "chat", "chats")
    );
    let queue = match (view.paused, view.queued) {
        (true, queued) => format!("{queued} ready · paused"),
        // Tasks that came back, or that were made when more were wanted.
        (false, queued) if queued > view.queue => format!("{queued} ready · {} wanted", view.queue),
        (false, queued) => format!("{queued} of {} ready", view.queue),
    };
    if snapshot.rows.is_empty() {
        return vec![
            ("now", who, theme.text()),
            ("queue", queue, theme.text()),
            ("", JOIN.to_owned(), theme.dim()),
            ("", screen.facts.join.clone(), theme.title()),
        ];
    }
    let spark = if width >= 40 { format!(" {}", screen.speeds.bars(usize::from(SPARK))) } else { String::new() };
    let speed = format!("{:>5} tokens/s now{spark}", text::short(speed(&snapshot.rows).round()));
    let done = screen.rates().map_or_else(|| "–".to_owned(), |rates| accepted(&rates, room(width)));
    vec![
        ("now", who, theme.text()),
        ("training", speed, theme.title()),
        ("accepted", done, theme.text()),
        ("queue", queue, theme.text()),
    ]
}

/// Cells for what a fact says, in a panel so wide.
fn room(width: u16) -> usize {
    // Less the border and the air at both sides.
    usize::from(width.saturating_sub(NAME + 4))
}

/// What was accepted lately, and with how many tokens a second where there is room for it.
fn accepted(rates: &Rates, room: usize) -> String {
    let (tasks, span) = (text::count(rates.tasks, "task", "tasks"), rates.span());
    let long = format!("{tasks} · {} tokens/s in {span}", text::short(rates.tokens.round()));
    let short = format!("{tasks} in {span}");
    match room {
        room if text::width(&long) <= room => long,
        room if text::width(&short) <= room => short,
        _ => short.replace("the last", "last"),
    }
}

fn model(screen: &Screen, snapshot: &Snapshot, width: u16) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let status = &snapshot.view.status;
    let loss = match screen.point {
        Some(point) => {
            let loss = view::loss_of(&point, status.version);
            let long = format!("{loss} · {:.3} bits a byte", point.bits_per_byte);
            if text::width(&long) <= room(width) { long } else { loss }
        }
        None => "not measured yet".to_owned(),
    };
    let mut facts = vec![("loss", loss, theme.title())];
    if let Some(best) = screen.better() {
        facts.push(("best", format!("{:.3} at v{}", best.loss, best.version), theme.warn()));
    }
    for (at, line) in trained(screen, snapshot, room(width)).into_iter().enumerate() {
        // A name of blanks keeps the column.
        facts.push((if at == 0 { "trained" } else { " " }, line, theme.text()));
    }
    facts.push(("size", format!("{} parameters", text::short(status.params as f64)), theme.text()));
    facts.push(("task", format!("{} tokens", text::short(snapshot.view.task_tokens as f64)), theme.text()));
    if snapshot.view.averaged {
        facts.push(("answers", "from the versions' average".to_owned(), theme.text()));
    }
    facts.push(("up for", text::span(screen.uptime()), theme.text()));
    facts.push(("run", screen.facts.run.clone(), theme.dim()));
    facts
}

/// So much, of what is wanted if that is bounded.
fn of(done: u64, most: Option<u64>, one: &str, many: &str) -> String {
    // Exact as long as that is short: of two figures that look alike one must see that they are not.
    let number = |n: u64| if n < 1_000_000 { text::grouped(n) } else { text::short(n as f64) };
    match most {
        Some(most) => format!("{} of {} {}", number(done), number(most), if most == 1 { one } else { many }),
        None => format!("{} {}", number(done), if done == 1 { one } else { many }),
    }
}

/// How far the run is on its way to where it stops by itself; nothing if it does not.
fn goals(screen: &Screen, snapshot: &Snapshot) -> Vec<String> {
    let (status, stop) = (&snapshot.view.status, &screen.facts.stop);
    let tasks = stop.after_tasks.map(|most| of(status.tasks, Some(most), "task", "tasks"));
    let tokens = stop.after_tokens.map(|most| of(status.tokens, Some(most), "token", "tokens"));
    let rounds = stop.after_rounds.map(|most| of(status.version.0, Some(most), "round", "rounds"));
    let loss = stop.at_loss.map(|loss| format!("until loss {loss:.3}"));
    [tasks, tokens, rounds, loss].into_iter().flatten().collect()
}

/// What was trained, the goals first, in as many lines as that takes.
fn trained(screen: &Screen, snapshot: &Snapshot, room: usize) -> Vec<String> {
    let (status, stop) = (&snapshot.view.status, &screen.facts.stop);
    let mut parts = goals(screen, snapshot);
    if stop.after_tokens.is_none() {
        parts.push(of(status.tokens, None, "token", "tokens"));
    }
    if stop.after_tasks.is_none() {
        parts.push(of(status.tasks, None, "task", "tasks"));
    }
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if text::width(line) + 3 + text::width(&part) <= room => {
                line.push_str(" · ");
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    lines
}

fn answers(view: &View) -> String {
    match view.status.queries {
        0 => "no query running".to_owned(),
        queries => format!("{} running", text::count(u64::from(queries), "query", "queries")),
    }
}

/// The panel's title: what its two columns of numbers are.
fn traffic_title(screen: &Screen) -> String {
    let span =
        screen.rates().map_or_else(String::new, |rates| format!(" · {}", rates.span().trim_start_matches("the ")));
    format!("Traffic since start{span}")
}

fn traffic(screen: &Screen, snapshot: &Snapshot) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let rates = screen.rates().unwrap_or_default();
    let flow = |total: u64, rate: f64| format!("{} · {}/s", text::bytes(total), text::bytes(rate.round() as u64));
    let each = screen.bytes_a_token().map_or_else(
        || "–".to_owned(),
        |bytes| {
            let decimals = if bytes < 100.0 { 2 } else { 0 };
            format!("{bytes:.decimals$} bytes a trained token")
        },
    );
    vec![
        ("in", format!("↓ {}", flow(snapshot.up, rates.up)), theme.text()),
        ("out", format!("↑ {}", flow(snapshot.down, rates.down)), theme.text()),
        ("cost", each, theme.text()),
        ("queries", format!("{} running", snapshot.view.status.queries), theme.text()),
    ]
}
