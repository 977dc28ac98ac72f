//! How the screen looks: which panel stands where at which size, and the header.
//!
//! Nothing here changes the model, but for places that keys and clicks need.

use std::time::Duration;

use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Rect};
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::ratatui::widgets::Widget as _;
use hydra_shell::ui::{App as _, Binding, help, keys, panel, text};

use super::model::{Leaving, Link, Screen, Shown};
use super::panels;
use super::update::{KEYS, Msg};

/// Below this width or height there is no room for panels.
const SMALL: (u16, u16) = (64, 18);
/// Cells that a chart's title and its corner take.
const TITLE: u16 = 25;
/// From this width on the facts have a column of their own.
const WIDE: u16 = 104;
/// From this width on both charts stand side by side.
const VERY_WIDE: u16 = 180;
/// From this height of the charts on they stand one above the other.
const TALL: u16 = 20;
/// How long before it is given up a coordinator that does not answer is said to be.
const SLOW: Duration = Duration::from_secs(8);

/// Draws everything.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    header(screen, buffer, top);
    screen.switch.set(Rect::default());
    let theme = screen.facts.theme;
    if area.width < SMALL.0 || area.height < SMALL.1 {
        let notice = small(screen, buffer, body);
        screen.toasts.draw_alone(buffer, notice, theme);
    } else {
        let first = if area.width < WIDE { medium(screen, buffer, body) } else { large(screen, buffer, body) };
        screen.toasts.draw(buffer, border(first), theme);
    }
    footer(screen, buffer, bottom);
    if let Some(scroll) = &screen.help {
        // The last row says what the keys do.
        let above = Rect { height: area.height.saturating_sub(1), ..area };
        help::draw(buffer, above, theme, KEYS, scroll);
    }
}

/// Where a panel's top border has room for a notice.
fn border(panel: Rect) -> Rect {
    let title = TITLE.min(panel.width);
    let width = panel.width.saturating_sub(TITLE + 2);
    Rect { x: panel.x + title, width, height: 1.min(panel.height), ..panel }
}

/// What the keys do here, as far as they do anything that can be seen.
fn footer(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let both = screen.switch.get().is_empty();
    let useful = |binding: &&Binding<Msg>| match binding.msg {
        Msg::Chart => !both,
        Msg::Newest => !screen.log.follows() && screen.log_rows.get() > 0,
        Msg::Level | Msg::Wrap => screen.log_rows.get() > 0,
        Msg::Pause => screen.link != Link::Starting,
        _ => true,
    };
    let mut table: Vec<_> = screen.keys().iter().filter(useful).cloned().collect();
    for binding in table.iter_mut().filter(|binding| screen.paused && binding.msg == Msg::Pause) {
        binding.hint = "go on";
    }
    for binding in table.iter_mut().filter(|binding| screen.log.wraps() && binding.msg == Msg::Wrap) {
        binding.hint = "cut";
    }
    if screen.leaving == Leaving::Asked {
        table.retain(|binding| binding.msg != Msg::Pause);
        table.iter_mut().filter(|binding| binding.hint == "quit").for_each(|binding| binding.hint = "at once");
    }
    // Where there is little room, help and the way out matter more.
    table.sort_by_key(|binding| binding.group == "View" && binding.msg != Msg::Newest);
    keys::hints(&table, screen.facts.theme, area.width).render(area, buffer);
}

/// Without panels: chart, gauge, and a line for each matter. Returns the place for notices, over what matters least.
fn small(screen: &Screen, buffer: &mut Buffer, area: Rect) -> Rect {
    let [chart, task, credits, link] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(2), Constraint::Length(2), Constraint::Length(1)])
            .areas(area);
    screen.switch.set(chart);
    // There is no log to go back in.
    screen.log_rows.set(0);
    panels::chart(screen, screen.shown, buffer, chart);
    panels::task_short(screen, buffer, task);
    panels::credits_short(screen, buffer, credits);
    panels::link_short(screen, buffer, link);
    link
}

/// The chart over two rows of panels. Returns the place of the chart.
fn medium(screen: &Screen, buffer: &mut Buffer, area: Rect) -> Rect {
    let [chart, upper, lower] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(6), Constraint::Length(6)]).areas(area);
    screen.switch.set(chart);
    chart_panel(screen, screen.shown, buffer, chart);
    let columns = Layout::horizontal([Constraint::Fill(1), Constraint::Length(area.width * 9 / 20)]);
    let [task, credits] = columns.areas(upper);
    task_panel(screen, buffer, task);
    credits_panel(screen, buffer, credits);
    let [log, link] = columns.areas(lower);
    log_panel(screen, buffer, log);
    let inside = panel::open(buffer, link, screen.facts.theme, "Link and machine");
    panels::link_and_machine(screen, buffer, inside);
    chart
}

/// Charts, task and log at the left, facts at the right. Returns the place of the first chart.
fn large(screen: &Screen, buffer: &mut Buffer, area: Rect) -> Rect {
    let facts = (area.width / 3).clamp(36, 48);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(facts)]).areas(area);
    let log = (area.height / 4).clamp(5, 16);
    let [top, task, log] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(6), Constraint::Length(log)]).areas(left);
    let chart = if area.width >= VERY_WIDE {
        let [session, task] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(top);
        both(screen, buffer, session, task);
        session
    } else if top.height >= TALL {
        let [session, task] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(top);
        both(screen, buffer, session, task);
        session
    } else {
        screen.switch.set(top);
        chart_panel(screen, screen.shown, buffer, top);
        top
    };
    task_panel(screen, buffer, task);
    log_panel(screen, buffer, log);
    let [credits, link, machine] =
        Layout::vertical([Constraint::Length(10), Constraint::Length(9), Constraint::Fill(1)]).areas(right);
    credits_panel(screen, buffer, credits);
    let inside = panel::open(buffer, link, screen.facts.theme, "Link");
    panels::link(screen, buffer, inside);
    let inside = panel::open(buffer, machine, screen.facts.theme, "Machine");
    panels::machine(screen, buffer, inside);
    chart
}

fn both(screen: &Screen, buffer: &mut Buffer, session: Rect, task: Rect) {
    chart_panel(screen, Shown::Session, buffer, session);
    chart_panel(screen, Shown::Task, buffer, task);
}

fn chart_panel(screen: &Screen, shown: Shown, buffer: &mut Buffer, area: Rect) {
    let title = match (shown, &screen.hand) {
        (Shown::Session, _) => "Loss in this session".to_owned(),
        (Shown::Task, Some(hand)) => format!("Loss in task {}", hand.task),
        (Shown::Task, None) => "Loss in the last task".to_owned(),
    };
    let inside = panel::open(buffer, area, screen.facts.theme, &title);
    panels::chart(screen, shown, buffer, inside);
}

fn task_panel(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let inside = panel::open(buffer, area, screen.facts.theme, "Task in hand");
    panels::task(screen, buffer, inside);
}

fn credits_panel(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let inside = panel::open(buffer, area, screen.facts.theme, "Credits");
    panels::credits(screen, buffer, inside);
}

fn log_panel(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let inside = panel::open(buffer, area, screen.facts.theme, &screen.log.title());
    screen.log_rows.set(inside.height);
    screen.log.draw(buffer, inside, screen.facts.theme, &screen.facts.ring);
}

/// Who, where, how the link stands, and the balance, which has its place at the right whatever else there is.
fn header(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let balance = screen.balance.map_or_else(|| "– HYD".to_owned(), |balance| format!("{balance} HYD"));
    let (mark, state, style) = state(screen);
    let user = (screen.facts.user.as_deref().unwrap_or("–"), 2, theme.accent());
    let left: &[_] = if area.width >= SMALL.0 {
        let program = ("HydraAI worker", 0, theme.title());
        &[program, user, (mark, 2, style), (&state, 1, style), (&screen.facts.coordinator, 2, theme.dim())]
    } else {
        &[(mark, 0, style), (&state, 1, style), user]
    };
    panel::header(buffer, area, (&balance, theme.title()), left);
}

/// A mark, words and style for how things stand.
pub fn state(screen: &Screen) -> (&'static str, String, Style) {
    let theme = screen.facts.theme;
    match (screen.leaving, &screen.link) {
        (Leaving::Asked, Link::Waiting { .. } | Link::Connecting) => {
            ("!", "leaving once delivered; q again: at once".to_owned(), theme.warn())
        }
        (Leaving::Asked, _) => ("!", "finishing, then leaving".to_owned(), theme.warn()),
        (_, Link::Starting) => ("○", "starting".to_owned(), theme.warn()),
        (_, Link::Connecting) => {
            // Not where it takes no longer than it should.
            let slow = screen.gives_up_in().filter(|left| *left <= SLOW);
            let words = slow.map_or_else(
                || "connecting".to_owned(),
                |left| format!("connecting, gives up in {}", text::countdown(left)),
            );
            ("○", words, theme.warn())
        }
        (_, Link::Waiting { .. }) => {
            let next = match screen.gives_up_in() {
                Some(left) => format!("gives up in {}", text::countdown(left)),
                None => format!("again in {}", text::countdown(screen.retry_in().unwrap_or_default())),
            };
            ("✗", format!("not connected, {next}"), theme.bad())
        }
        (_, Link::Up { .. }) if screen.paused && screen.hand.is_some() => {
            ("!", "pausing after this task".to_owned(), theme.warn())
        }
        (_, Link::Up { .. }) if screen.paused => ("!", "paused".to_owned(), theme.warn()),
        (_, Link::Up { .. }) => match screen.usage.silent {
            Some(silent) => ("!", format!("no answer for {}", text::countdown(silent)), theme.warn()),
            None => ("●", "connected".to_owned(), theme.good()),
        },
    }
}
