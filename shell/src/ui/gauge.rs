//! A gauge of one row with text inside; the filled part is reversed, so that it reads without colours too.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::text;
use super::theme::Theme;

/// Draws a gauge into the first row of `area`: `ratio` from 0 to 1 (anything else is taken to the nearer end, no
/// number to 0), `label` in its middle.
pub fn draw(buffer: &mut Buffer, area: Rect, theme: Theme, ratio: f64, label: &str) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let row = Rect { height: 1, ..area };
    let ratio = if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) };
    let filled = (ratio * f64::from(row.width)).floor() as u16;
    for x in row.left()..row.right() {
        // The track can be seen where nothing is filled yet.
        buffer[(x, row.y)].reset();
        buffer[(x, row.y)].set_symbol(if x - row.x < filled { " " } else { "·" }).set_style(theme.dim());
    }
    let label = text::clean(label);
    let label = text::clip(&label, usize::from(row.width));
    let cells = text::width(&label) as u16;
    text::put(buffer, row, (row.x + (row.width - cells) / 2, row.y), &label, cells, theme.title());
    let middle = row.x + (row.width - cells) / 2;
    for x in middle..middle + cells {
        buffer[(x, row.y)].modifier.remove(Modifier::DIM);
    }
    for x in row.x..row.x + filled {
        let cell = &mut buffer[(x, row.y)];
        cell.modifier.remove(Modifier::DIM);
        cell.set_style(theme.filled());
    }
}
