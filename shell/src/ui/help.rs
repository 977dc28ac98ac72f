//! The help overlay, made from the key table.

use std::cell::Cell;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::keys::{Binding, pretty};
use super::overlay;
use super::text;
use super::theme::Theme;

/// Where there are fewer cells than this for what a key does, it is cut and not wrapped.
const LEAST: usize = 10;

/// How many lines the help is scrolled down: never more than there are below, which only drawing knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scroll(Cell<usize>);

impl Scroll {
    /// Lines down, or up if negative; `isize::MAX` goes to the end.
    pub fn by(&mut self, lines: isize) {
        self.0.set(self.0.get().saturating_add_signed(lines));
    }
}

/// One line of the overlay.
enum Row {
    Blank,
    Heading(&'static str),
    Keys(String, &'static str),
}

/// The table's lines, by group in the order in which the groups first appear.
fn rows<M>(table: &[Binding<M>]) -> Vec<Row> {
    let mut groups: Vec<&'static str> = Vec::new();
    for binding in table.iter().filter(|binding| !binding.help.is_empty()) {
        if !groups.contains(&binding.group) {
            groups.push(binding.group);
        }
    }
    let mut rows = Vec::new();
    for group in groups {
        if !rows.is_empty() {
            rows.push(Row::Blank);
        }
        if !group.is_empty() {
            rows.push(Row::Heading(group));
        }
        for binding in table.iter().filter(|binding| binding.group == group && !binding.help.is_empty()) {
            let keys: Vec<String> = binding.keys.split_whitespace().map(pretty).collect();
            rows.push(Row::Keys(keys.join(" "), binding.help));
        }
    }
    rows
}

/// A row as the rows that it takes with `room` cells for what the keys do.
fn wrapped(row: Row, room: usize) -> Vec<Row> {
    match row {
        Row::Keys(keys, help) if room >= LEAST && text::width(help) > room => {
            let lines = text::wrap(help, room).into_iter().enumerate();
            lines.map(|(at, line)| Row::Keys(if at == 0 { keys.clone() } else { String::new() }, &help[line])).collect()
        }
        row => vec![row],
    }
}

/// Draws the help for `table` over `area`, scrolled where it does not fit.
pub fn draw<M>(buffer: &mut Buffer, area: Rect, theme: Theme, table: &[Binding<M>], scroll: &Scroll) {
    let rows = rows(table);
    let keys = |row: &Row| if let Row::Keys(keys, _) = row { text::width(keys) } else { 0 };
    let words = |row: &Row| match row {
        Row::Keys(_, help) => text::width(help),
        Row::Heading(words) => text::width(words),
        Row::Blank => 0,
    };
    let left = rows.iter().map(keys).max().unwrap_or(0);
    let right = rows.iter().map(words).max().unwrap_or(0);
    let width = area.width.min((left + right + 8) as u16);
    // Less the border, the margin, the keys, a gap, and the column of the arrow.
    let room = usize::from(width).saturating_sub(left + 7);
    let rows: Vec<Row> = rows.into_iter().flat_map(|row| wrapped(row, room)).collect();
    let frame = overlay::centred(area, width, rows.len() as u16 + 2);
    let inside = overlay::open(buffer, frame, theme, "Keys · Esc closes");
    let from = scroll.0.get().min(rows.len().saturating_sub(usize::from(inside.height)));
    scroll.0.set(from);
    let hidden = rows.len() - from > usize::from(inside.height);
    for (row, y) in rows[from..].iter().zip(inside.top()..inside.bottom()) {
        let x = inside.x.saturating_add(2);
        match row {
            Row::Blank => {}
            Row::Heading(words) => {
                text::put(buffer, inside, (x, y), words, inside.width, theme.title());
            }
            Row::Keys(keys, help) => {
                text::put(buffer, inside, (x, y), keys, left as u16, theme.key());
                text::put(buffer, inside, (x.saturating_add(left as u16 + 2), y), help, inside.width, theme.text());
            }
        }
    }
    if hidden && !inside.is_empty() {
        let corner = (inside.right() - 1, inside.bottom() - 1);
        text::put(buffer, inside, corner, "↓", 1, theme.key());
    }
}
