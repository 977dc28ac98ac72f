//! How the screen looks: header, tabs, the page, hints, and what lies over them; and what the pages draw with.
//!
//! Nothing here changes the model, but for where things were drawn, which clicks and page keys need.

use hydra_core::ids::VersionNo;
use hydra_shell::ui::composer::Composer;
use hydra_shell::ui::panel::{self as kit, Fact, inset};
use hydra_shell::ui::ratatui::Frame;
use hydra_shell::ui::ratatui::buffer::Buffer;
use hydra_shell::ui::ratatui::layout::{Constraint, Layout, Position, Rect};
use hydra_shell::ui::ratatui::style::Style;
use hydra_shell::ui::ratatui::widgets::Widget as _;
use hydra_shell::ui::{App as _, help, keys as lookup, overlay, tabs, text};

use super::model::{Overlay, Point, Screen, Tab};
use super::{keys, ledger, overview, samples, workers};

/// Below this width or height there is no room for panels.
const SMALL: (u16, u16) = (64, 18);
/// From this width on there is room for a column of facts.
pub const WIDE: u16 = 104;

/// Whether there is no room for panels.
pub fn is_small((width, height): (u16, u16)) -> bool {
    width < SMALL.0 || height < SMALL.1
}

/// Draws everything.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let theme = screen.facts.theme;
    let [top, row, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(area);
    header(screen, buffer, top);
    tabs::draw(buffer, row, theme, &Tab::TITLES, screen.tab as usize);
    screen.tabs_at.set(row);
    match screen.tab {
        Tab::Overview => overview::draw(screen, buffer, body),
        Tab::Workers => workers::draw(screen, buffer, body),
        Tab::Ledger => ledger::draw(screen, buffer, body),
        Tab::Samples => samples::draw(screen, buffer, body),
        Tab::Log => log(screen, buffer, body, true),
    }
    let mut cursor = None;
    if let Overlay::Filter(words) = &screen.overlay {
        let placeholder = if screen.tab == Tab::Workers { "user, device or state" } else { "words of a line" };
        cursor = line_of_words(screen, buffer, bottom, "filter", words, placeholder);
    } else {
        lookup::hints(&keys::as_things_are(screen), theme, bottom.width).render(bottom, buffer);
    }
    // Between the corners of the panels.
    let border = Rect { x: body.x + 1.min(body.width), width: body.width.saturating_sub(2), ..body };
    if screen.is_small() || screen.tab == Tab::Overview && overview::is_bare(screen, body.height) {
        screen.toasts.draw_alone(buffer, body, theme);
    } else {
        screen.toasts.draw(buffer, border, theme);
    }
    match &screen.overlay {
        Overlay::None | Overlay::Filter(_) => {}
        Overlay::Help(scroll) => help::draw(buffer, above(area), theme, keys::ALL, scroll),
        Overlay::Kick(_, _, who, words) => cursor = kick(screen, buffer, area, who, words),
        Overlay::Quit => quit(screen, buffer, area),
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// Says at the right end of the first row how many newer ones there are above what is shown.
pub fn newer(screen: &Screen, buffer: &mut Buffer, area: Rect, count: usize) {
    if count == 0 {
        return;
    }
    let theme = screen.facts.theme;
    let newer = if screen.is_small() { "" } else { " newer" };
    let words = format!(" ↑ {count}{newer} ");
    let cells = (text::width(&words) as u16).min(area.width);
    text::put(buffer, area, (area.right() - cells, area.y), &words, cells, theme.accent().patch(theme.selected()));
}

fn kick(screen: &Screen, buffer: &mut Buffer, area: Rect, who: &str, words: &Composer) -> Option<Position> {
    let theme = screen.facts.theme;
    let title = format!("Kick {}?", text::clean(who));
    let inside = overlay::open(buffer, overlay::centred(area, 60, 7), theme, &title);
    let inside = inset(inside);
    put(buffer, inside, 0, "Its task, if any, goes to another.", theme.text());
    put(buffer, inside, 1, "The reason, which it sees:", theme.text());
    let cursor = line_of_words(screen, buffer, row(inside, 2), "", words, "none given");
    lookup::hints(screen.keys(), theme, inside.width).render(row(inside, 4), buffer);
    cursor
}

fn quit(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let words = "Stop the run? Answers and uploads under way are finished first, which takes a few seconds. Training \
                 goes on from here at the next start; workers connect again by themselves.";
    overlay::dialog(buffer, area, screen.facts.theme, "Stop", words, "y/Enter stop · n/Esc go on");
}

/// All but the last row, which says what the keys do.
fn above(area: Rect) -> Rect {
    Rect { height: area.height.saturating_sub(1), ..area }
}

/// A line that is being written; where the cursor belongs.
fn line_of_words(
    screen: &Screen,
    buffer: &mut Buffer,
    area: Rect,
    name: &str,
    words: &Composer,
    placeholder: &str,
) -> Option<Position> {
    let theme = screen.facts.theme;
    let used =
        if name.is_empty() { 0 } else { text::put(buffer, area, (area.x, area.y), name, area.width, theme.dim()) + 1 };
    let rest = Rect {
        x: area.x.saturating_add(used),
        width: area.width.saturating_sub(used),
        height: area.height.min(1),
        ..area
    };
    words.draw(buffer, rest, theme, placeholder)
}

/// The program's name, the address, how things stand, and the model, which has its place at the right.
fn header(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let theme = screen.facts.theme;
    let model = screen.snapshot.as_ref().map_or_else(String::new, |snapshot| {
        let version = snapshot.view.status.version;
        match screen.point.filter(|_| area.width >= SMALL.0) {
            Some(point) if area.width < WIDE => format!("v{version} · loss {}", loss_of(&point, version)),
            Some(point) => format!("version {version} · loss {}", loss_of(&point, version)),
            None => format!("version {version}"),
        }
    });
    let (mark, state, style) = state(screen);
    let (addr, run) = ((screen.facts.addr.as_str(), 2, theme.dim()), (screen.facts.run.as_str(), 2, theme.dim()));
    let name = ("HydraAI coordinator", 0, theme.title());
    let left: &[_] = if area.width >= WIDE {
        &[name, (mark, 2, style), (&state, 1, style), addr, run]
    } else if area.width >= SMALL.0 {
        // The run's folder would come and go with the length of the rest.
        &[name, (mark, 2, style), (&state, 1, style), addr]
    } else {
        &[(mark, 0, style), (&state, 1, style)]
    };
    kit::header(buffer, area, (&model, theme.title()), left);
}

/// A measured loss; of which version, if that is not the newest.
pub fn loss_of(point: &Point, newest: VersionNo) -> String {
    let whose = if point.version == newest { String::new() } else { format!(" of v{}", point.version) };
    format!("{:.3}{whose}", point.loss)
}

/// A mark, words and style for how the run stands.
fn state(screen: &Screen) -> (&'static str, String, Style) {
    let theme = screen.facts.theme;
    let Some(snapshot) = &screen.snapshot else { return ("○", "starting".to_owned(), theme.warn()) };
    let view = &snapshot.view;
    if let Some(trouble) = snapshot.trouble {
        return ("✗", trouble.to_owned(), theme.bad());
    }
    match snapshot.rows.len() as u64 {
        _ if screen.leaving => ("!", "stopping; q: at once".to_owned(), theme.warn()),
        _ if view.paused => ("!", "paused".to_owned(), theme.warn()),
        _ if view.behind => ("!", "catching up: no new tasks".to_owned(), theme.warn()),
        0 if view.status.tasks == 0 => ("○", "no worker yet".to_owned(), theme.warn()),
        0 => ("○", "no worker".to_owned(), theme.warn()),
        workers => ("●", text::count(workers, "worker", "workers"), theme.good()),
    }
}

/// The log.
pub fn log(screen: &Screen, buffer: &mut Buffer, area: Rect, alone: bool) {
    let inside = panel(screen, buffer, area, &screen.log.title());
    if alone {
        screen.page_rows.set(inside.height);
    }
    screen.log.draw(buffer, inside, screen.facts.theme, &screen.facts.ring);
}

/// A panel with a column of air at both sides; on a small screen the bare area. Returns the inside.
pub fn panel(screen: &Screen, buffer: &mut Buffer, area: Rect, title: &str) -> Rect {
    if screen.is_small() { area } else { kit::open(buffer, area, screen.facts.theme, title) }
}

/// One row of an area; empty if there is none.
pub fn row(area: Rect, row: u16) -> Rect {
    let rows = row.min(area.height);
    Rect { y: area.y + rows, height: (area.height - rows).min(1), ..area }
}

/// A line of text.
pub fn put(buffer: &mut Buffer, area: Rect, row: u16, words: &str, style: Style) {
    text::put(buffer, area, (area.x, area.y.saturating_add(row)), words, area.width, style);
}

/// Facts one a row.
pub fn facts(screen: &Screen, buffer: &mut Buffer, area: Rect, facts: &[Fact]) {
    kit::facts(buffer, area, screen.facts.theme, facts);
}
