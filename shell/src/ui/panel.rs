//! What the screens of the programs have around their widgets: the header, panels, and facts one a row.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget as _;

use super::text;
use super::theme::Theme;

/// Cells of a fact's name.
pub const NAME: u16 = 9;

/// With less room than this, words in a header that do not fit are left out instead of cut.
const CUT: u16 = 12;

/// A fact's name (empty for more about the one above), what it is, and how it looks.
pub type Fact = (&'static str, String, Style);

/// Draws a panel; returns its inside, with a column of air at both sides.
pub fn open(buffer: &mut Buffer, area: Rect, theme: Theme, title: &str) -> Rect {
    let block = theme.panel(title, false);
    let inside = block.inner(area);
    block.render(area, buffer);
    inset(inside)
}

/// `area` without its first and last column.
pub fn inset(area: Rect) -> Rect {
    Rect { x: area.x + 1.min(area.width), width: area.width.saturating_sub(2), ..area }
}

/// Draws facts, one a row.
pub fn facts(buffer: &mut Buffer, area: Rect, theme: Theme, facts: &[Fact]) {
    for ((name, words, style), y) in facts.iter().zip(area.top()..area.bottom()) {
        let used = if name.is_empty() { 0 } else { NAME };
        text::put(buffer, area, (area.x, y), name, used, theme.dim());
        text::put(buffer, area, (area.x.saturating_add(used), y), words, area.width.saturating_sub(used), *style);
    }
}

/// Draws a header: `right` has its place at the right whatever else there is; of `left`, each with the blanks before
/// it, as much as there is room for.
pub fn header(buffer: &mut Buffer, area: Rect, (right, style): (&str, Style), left: &[(&str, u16, Style)]) {
    let cells = (text::width(right) as u16).min(area.width);
    let end = area.right() - cells;
    text::put(buffer, area, (end, area.y), right, cells, style);
    let mut x = area.x;
    for (words, gap, style) in left {
        let room = end.saturating_sub(x).saturating_sub(gap + 1);
        // The first letters of an address or a path tell nobody anything.
        if room == 0 || (room < CUT && text::width(words) > usize::from(room)) {
            break;
        }
        x += gap;
        x += text::put(buffer, area, (x, area.y), words, room, *style);
    }
}
