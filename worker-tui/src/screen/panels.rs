//! What stands in each panel, from one line to as many as there is room for: what matters most comes first.

use hydra_shell::events;
use hydra_shell::ui::panel::{self, Fact, NAME};
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::Rect;
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::{gauge, text};

use super::model::{InHand, Leaving, Link, Screen, Shown};
use super::view::state;

/// Rows from which on the credits have room for a whole reason.
const ROOMY: u16 = 7;

/// Cells of the speeds' spark.
const SPARK: u16 = 16;

/// One line.
fn line(buffer: &mut Buffer, area: Rect, row: u16, words: &str, style: Style) {
    text::put(buffer, area, (area.x, area.y.saturating_add(row)), words, area.width, style);
}

/// As many lines as there are rows; the last is cut if there is more to say.
fn wrapped(buffer: &mut Buffer, area: Rect, words: &str, style: Style) {
    let lines = text::wrap(words, usize::from(area.width.max(1)));
    for (row, range) in (0..area.height).zip(&lines) {
        let end = if row + 1 == area.height { words.len() } else { range.end };
        line(buffer, area, row, &words[range.start..end], style);
    }
}

/// A fact that may take two rows: the second one has no name.
fn two_rows(name: &'static str, words: &str, style: Style, width: u16) -> Vec<Fact> {
    let first = text::wrap(words, usize::from(width.saturating_sub(NAME).max(1)));
    let cut = first.first().map_or(words.len(), |range| range.end);
    let (first, rest) = (words[..cut].to_owned(), words[cut..].trim_start());
    let mut facts = vec![(name, first, style)];
    if !rest.is_empty() {
        facts.push(("", rest.to_owned(), style));
    }
    facts
}

/// The loss.
pub fn chart(screen: &Screen, shown: Shown, buffer: &mut Buffer, area: Rect) {
    let chart = match shown {
        Shown::Session => &screen.session,
        Shown::Task => &screen.task,
    };
    chart.draw(buffer, area, screen.facts.theme);
}

fn speed(hand: &InHand) -> String {
    if hand.step == 0 {
        return "– tokens/s".to_owned();
    }
    format!("{} tokens/s", text::short(f64::from(hand.tokens_per_s).round()))
}

fn left(hand: &InHand) -> String {
    hand.left().map_or_else(|| "–".to_owned(), |left| format!("{} left", text::countdown(left)))
}

/// What is done while no task is in hand.
fn idle(screen: &Screen) -> String {
    let leaves = screen.leaving == Leaving::Asked;
    let later = |task| format!("task {task} is done, is delivered when the coordinator is back");
    if let Some(task) = screen.undelivered() {
        return if leaves {
            format!("task {task} is done, is lost unless the coordinator is back within a minute")
        } else {
            later(task)
        };
    }
    match (&screen.link, screen.submitted.first().copied()) {
        (Link::Up { .. }, Some((task, bytes))) => {
            format!("task {task} is done, {} sent; waiting for the answer", text::bytes(bytes))
        }
        (Link::Up { .. }, None) if leaves => "nothing in hand; leaving".to_owned(),
        (Link::Up { .. }, None) if screen.paused => "paused; p takes tasks again".to_owned(),
        (Link::Up { .. }, None) => match screen.resting() {
            Some(left) => format!("resting, {} left", text::countdown(left)),
            None if screen.run_paused => {
                "the coordinator makes no new tasks now; those that are ready still come".to_owned()
            }
            None => "waiting for a task; it comes by itself".to_owned(),
        },
        (Link::Starting, _) => "opening the device".to_owned(),
        (_, Some((task, _))) if leaves => {
            format!("task {task} is sent and may still be paid; leaves within a minute")
        }
        (_, Some((task, _))) => later(task),
        (_, None) => "no coordinator, no task".to_owned(),
    }
}

/// The task in hand, unless it only waits to be delivered.
fn in_hand(screen: &Screen) -> Option<&InHand> {
    screen.hand.as_ref().filter(|_| screen.undelivered().is_none())
}

fn gauge_row(screen: &Screen, hand: &InHand, buffer: &mut Buffer, area: Rect) {
    let label = format!("{:.0} %", (hand.ratio() * 100.0).floor());
    gauge::draw(buffer, area, screen.facts.theme, hand.ratio(), &label);
}

/// The task in hand.
pub fn task(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let Some(hand) = in_hand(screen) else {
        return wrapped(buffer, area, &idle(screen), theme.text());
    };
    let about =
        format!("task {} from version {} · {} tokens", hand.task, hand.version, text::short(hand.tokens as f64));
    line(buffer, area, 0, &about, theme.text());
    gauge_row(screen, hand, buffer, below(area, 1));
    let pace = format!("step {}/{} · {} · {}", hand.step, hand.steps, speed(hand), left(hand));
    line(buffer, area, 2, &pace, theme.title());
    // The speed so far, where there is room beside it.
    let used = text::width(&pace) as u16 + 2;
    let rest = Rect { x: area.x.saturating_add(used), width: area.width.saturating_sub(used).min(SPARK), ..area };
    if rest.width == SPARK {
        line(buffer, rest, 2, &screen.speeds.bars(usize::from(SPARK)), theme.accent());
    }
    if !hand.preview.is_empty() {
        line(buffer, area, 3, &format!("shard begins “{}”", text::clean(hand.preview.trim())), theme.dim());
    }
}

/// The same in two lines.
pub fn task_short(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let Some(hand) = in_hand(screen) else {
        return wrapped(buffer, area, &idle(screen), theme.text());
    };
    gauge_row(screen, hand, buffer, area);
    let words = format!("task {} · {}/{} · {} · {}", hand.task, hand.step, hand.steps, left(hand), speed(hand));
    line(buffer, area, 1, &words, theme.text());
}

fn below(area: Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    Rect { y: area.y + rows, height: area.height - rows, ..area }
}

/// What was earned in this session; and how fast, once it has lasted long enough to say.
fn earned(screen: &Screen) -> String {
    let per_hour = screen.per_hour().map_or_else(String::new, |rate| format!(" · {rate:.1} an hour"));
    format!("{}{per_hour}", screen.earned)
}

fn ago(screen: &Screen, at: hydra_core::time::Time) -> String {
    format!("{} ago", text::span(screen.now.since(at)))
}

/// The newest payment; with its task's number where there is room.
fn last_paid(screen: &Screen, roomy: bool) -> String {
    match &screen.last_paid {
        Some(paid) if roomy => format!("▲ +{}, {} · task {}", paid.what, ago(screen, paid.at), paid.task),
        Some(paid) => format!("▲ +{}, {}", paid.what, ago(screen, paid.at)),
        None => "none yet".to_owned(),
    }
}

/// Balance, income, and why a task was not paid.
pub fn credits(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let balance = screen.balance.map_or_else(|| "–".to_owned(), |balance| format!("{balance} HYD"));
    let paid_style = if screen.last_paid.is_some() { theme.good() } else { theme.dim() };
    let mut facts = vec![
        ("balance", balance, theme.title()),
        ("earned", earned(screen), theme.text()),
        ("last pay", last_paid(screen, area.height >= ROOMY), paid_style),
    ];
    let unpaid = match &screen.last_unpaid {
        Some(unpaid) if area.height < ROOMY => format!("✗ task {}: {}", unpaid.task, events::words(&unpaid.what.0)),
        Some(unpaid) => format!("✗ task {}, {}: {}", unpaid.task, ago(screen, unpaid.at), text::clean(&unpaid.what.1)),
        None => "none".to_owned(),
    };
    let unpaid_style = if screen.last_unpaid.is_some() { theme.warn() } else { theme.dim() };
    let counts = format!("{} paid, {} not", screen.paid, screen.unpaid);
    if area.height < ROOMY {
        facts.push(("unpaid", unpaid, unpaid_style));
        return panel::facts(buffer, area, screen.facts.theme, &facts);
    }
    // The whole reason where there is room.
    facts.extend([("tasks", counts, theme.text()), ("unpaid", String::new(), theme.text())]);
    panel::facts(buffer, area, screen.facts.theme, &facts);
    let rest = below(area, facts.len() as u16 - 1);
    let rest = Rect { x: rest.x + NAME.min(rest.width), width: rest.width.saturating_sub(NAME), ..rest };
    wrapped(buffer, rest, &unpaid, unpaid_style);
}

/// The same in two lines.
pub fn credits_short(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    line(buffer, area, 0, &format!("earned {}", earned(screen)), theme.text());
    match (&screen.last_paid, &screen.last_unpaid) {
        (paid, Some(unpaid)) if paid.as_ref().is_none_or(|paid| paid.at < unpaid.at) => {
            let words = format!("✗ task {}: {}", unpaid.task, events::words(&unpaid.what.0));
            line(buffer, area, 1, &words, theme.warn());
        }
        (Some(_), _) => line(buffer, area, 1, &last_paid(screen, true), theme.good()),
        (None, _) => line(buffer, area, 1, "no payment yet", theme.dim()),
    }
}

fn traffic(screen: &Screen) -> String {
    format!("↑ {} ↓ {}", text::bytes(screen.usage.up), text::bytes(screen.usage.down))
}

fn round_trip(screen: &Screen) -> String {
    let answers = matches!(screen.link, Link::Up { .. }) && screen.usage.silent.is_none();
    let known = screen.usage.round_trip.filter(|_| answers);
    known.map_or_else(|| "–".to_owned(), text::millis)
}

/// Why there is no connection, which may take two rows, or else how quick it is; and what went over it.
fn link_rows(screen: &Screen, width: u16) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let mut facts = match &screen.link {
        Link::Waiting { reason, .. } => two_rows("why", &text::clean(reason), theme.warn(), width),
        _ => vec![("ping", round_trip(screen), theme.text())],
    };
    facts.push(("traffic", traffic(screen), theme.text()));
    facts
}

/// The connection.
pub fn link(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let mut facts = vec![("to", screen.facts.coordinator.clone(), theme.text())];
    let (mark, words, style) = state(screen);
    facts.extend(two_rows("state", &format!("{mark} {words}"), style, area.width));
    if let Link::Up { since } = screen.link {
        facts.push(("up for", text::span(screen.now.since(since)), theme.text()));
    }
    facts.extend(link_rows(screen, area.width));
    facts.push(("lost", format!("{} so far", text::count(screen.losses, "time", "times")), theme.dim()));
    if let Some((version, loss)) = screen.held_out {
        facts.push(("held-out", format!("loss {loss:.3} of v{version}"), theme.text()));
    }
    panel::facts(buffer, area, screen.facts.theme, &facts);
}

/// The same in one line.
pub fn link_short(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let words = match &screen.link {
        Link::Waiting { reason, .. } => text::clean(reason).into_owned(),
        _ => format!("{} · {}", round_trip(screen), traffic(screen)),
    };
    line(buffer, area, 0, &words, screen.facts.theme.dim());
}

fn machine_rows(screen: &Screen) -> Vec<Fact> {
    let theme = screen.facts.theme;
    let mut device = screen.device.as_deref().map_or_else(|| "–".to_owned(), |device| text::clean(device).into_owned());
    if let Some(wanted) = screen.wanted {
        device = format!("{device}, then ×{wanted}");
    }
    let cores = screen.cores.map_or_else(|| "–".to_owned(), |cores| format!("{cores:.1} cores"));
    let memory = screen.usage.memory.map_or_else(|| "–".to_owned(), text::bytes);
    vec![
        ("device", device, theme.text()),
        ("uses", format!("{cores} · {memory}"), theme.text()),
        ("up for", text::span(screen.now.since(screen.facts.started)), theme.text()),
    ]
}

/// This computer.
pub fn machine(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    panel::facts(buffer, area, screen.facts.theme, &machine_rows(screen));
}

/// Both in four lines.
pub fn link_and_machine(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    // The header has the state.
    let mut facts = link_rows(screen, area.width);
    facts.extend(machine_rows(screen));
    panel::facts(buffer, area, screen.facts.theme, &facts);
}
