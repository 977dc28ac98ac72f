//! A table that stays quick with thousands of rows: sorted and filtered when the data or the wishes change, drawn and
//! formatted only where seen. What is chosen is a key, not a place, so the choice stays with its row.

use std::cell::Cell;
use std::cmp::Ordering;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::text::{self, Align};
use super::theme::Theme;

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Exactly so many cells.
    Exactly(u16),
    /// At least so many, and a share of what is left.
    AtLeast(u16),
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// How wide.
    pub width: Width,
    /// Where its text stands.
    pub align: Align,
    /// When the screen is too narrow, columns with the highest number go first; 0 stays to the end.
    pub rank: u8,
}

impl Column {
    /// A column of words.
    pub const fn words(title: &'static str, width: Width, rank: u8) -> Self {
        Self { title, width, align: Align::Left, rank }
    }

    /// A column of numbers, `cells` wide.
    pub const fn number(title: &'static str, cells: u16, rank: u8) -> Self {
        Self { title, width: Width::Exactly(cells), align: Align::Right, rank }
    }
}

/// What a cell shows. A pair of text and style is one too.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// The text.
    pub text: String,
    /// How it looks.
    pub style: Style,
    /// What follows it dim, in columns of words; the text gives way to it.
    pub suffix: String,
}

impl From<(String, Style)> for Words {
    fn from((text, style): (String, Style)) -> Self {
        Self { text, style, suffix: String::new() }
    }
}

/// The wishes and the order of a table whose rows are known by `K`.
#[derive(Debug, Clone)]
pub struct Table<K> {
    columns: Vec<Column>,
    sort: usize,
    descending: bool,
    filter: String,
    /// The rows shown, in order, as places in the program's list.
    order: Vec<usize>,
    chosen: Option<K>,
    /// The place of the chosen one in `order`.
    cursor: usize,
    /// Where it was drawn last: the rows' area and the first row; for clicks.
    drawn: Cell<(Rect, usize)>,
}

impl<K: Clone + PartialEq> Table<K> {
    /// A table sorted by its first column.
    pub fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            sort: 0,
            descending: false,
            filter: String::new(),
            order: Vec::new(),
            chosen: None,
            cursor: 0,
            drawn: Cell::default(),
        }
    }

    /// The same, but the rows stay in the order in which they come.
    #[must_use]
    pub fn unsorted(mut self) -> Self {
        self.sort = usize::MAX;
        self
    }

    /// Sorts and filters anew; call it after the rows, the sorting or the filter changed. `compare` orders two rows by
    /// a column, ascending; `matches` tells whether a row has a word (lower case) of the filter; rows that
    /// have all of them are shown.
    pub fn arrange<R>(
        &mut self,
        rows: &[R],
        key: impl Fn(&R) -> K,
        compare: impl Fn(&R, &R, usize) -> Ordering,
        matches: impl Fn(&R, &str) -> bool,
    ) {
        let filter = self.filter.to_lowercase();
        self.order.clear();
        let words: Vec<_> = filter.split_whitespace().collect();
        self.order.extend((0..rows.len()).filter(|at| words.iter().all(|word| matches(&rows[*at], word))));
        let (sort, descending) = (self.sort, self.descending);
        // Stable, so that equal rows do not dance.
        self.order.sort_by(|a, b| {
            let ordering = compare(&rows[*a], &rows[*b], sort);
            if descending { ordering.reverse() } else { ordering }
        });
        let found = self.chosen.as_ref().and_then(|chosen| self.order.iter().position(|at| key(&rows[*at]) == *chosen));
        // Where the chosen row went away, its neighbour takes its place.
        self.cursor = found.unwrap_or(self.cursor).min(self.order.len().saturating_sub(1));
        self.chosen = self.order.get(self.cursor).map(|at| key(&rows[*at]));
    }

    /// Moves the choice by so many rows.
    pub fn step<R>(&mut self, rows: &[R], key: impl Fn(&R) -> K, by: isize) {
        self.choose(rows, key, self.cursor.saturating_add_signed(by));
    }

    /// Chooses the row at a place in the order, or the last; `0` is the first, `usize::MAX` the last.
    pub fn choose<R>(&mut self, rows: &[R], key: impl Fn(&R) -> K, place: usize) {
        self.cursor = place.min(self.order.len().saturating_sub(1));
        self.chosen = self.order.get(self.cursor).and_then(|at| rows.get(*at)).map(key);
    }

    /// The chosen row goes by another key from now on. Call [`arrange`](Self::arrange) after it.
    pub fn rename(&mut self, key: K) {
        if self.chosen.is_some() {
            self.chosen = Some(key);
        }
    }

    /// The place in the order of the row at a click.
    pub fn at(&self, (x, y): (u16, u16)) -> Option<usize> {
        let (area, first) = self.drawn.get();
        let inside = area.contains(ratatui::layout::Position { x, y });
        inside.then(|| first + usize::from(y - area.y)).filter(|place| *place < self.order.len())
    }

    /// The column whose heading is at a click.
    pub fn heading_at(&self, (x, y): (u16, u16)) -> Option<usize> {
        let (area, _) = self.drawn.get();
        if area.y == 0 || y != area.y - 1 {
            return None;
        }
        let places = places(&self.columns, area);
        places.into_iter().find(|(_, from, cells)| (*from..from + cells).contains(&x)).map(|(column, ..)| column)
    }

    /// Rows above those drawn last.
    pub fn above(&self) -> usize {
        self.drawn.get().1
    }

    /// The key of the chosen row.
    pub fn chosen(&self) -> Option<&K> {
        self.chosen.as_ref()
    }

    /// Rows after filtering.
    pub fn shown(&self) -> usize {
        self.order.len()
    }

    /// Sorts by `column`, or the other way round if it already does. Call [`arrange`](Self::arrange) after it.
    pub fn sort_by(&mut self, column: usize) {
        if column == self.sort {
            self.descending = !self.descending;
        } else if column < self.columns.len() {
            (self.sort, self.descending) = (column, false);
        }
    }

    /// Sorts by the next column that there is room for. Call [`arrange`](Self::arrange) after it.
    pub fn sort_next(&mut self) {
        let (area, _) = self.drawn.get();
        let count = self.columns.len().max(1);
        let after = |by: usize| (self.sort + by) % count;
        let seen = places(&self.columns, area);
        let next = (1..=count).map(after).find(|column| area.is_empty() || seen.iter().any(|(at, ..)| at == column));
        (self.sort, self.descending) = (next.unwrap_or_default(), false);
    }

    /// The order in words: `user ▲`.
    pub fn order(&self) -> String {
        let title = self.columns.get(self.sort).map_or("", |column| column.title);
        let (area, _) = self.drawn.get();
        let seen = area.is_empty() || places(&self.columns, area).iter().any(|(column, ..)| *column == self.sort);
        format!("{title} {}{}", if self.descending { "▼" } else { "▲" }, if seen { "" } else { ", no room for it" })
    }

    /// Sorts the other way round. Call [`arrange`](Self::arrange) after it.
    pub fn reverse(&mut self) {
        self.descending = !self.descending;
    }

    /// Whether the first row is chosen, or none.
    pub fn is_first(&self) -> bool {
        self.cursor == 0
    }

    /// The words that rows must have.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Changes the filter. Call [`arrange`](Self::arrange) after it.
    pub fn set_filter(&mut self, words: impl Into<String>) {
        self.filter = words.into();
    }

    /// Draws headings and the rows around the chosen one; `cell` gives a cell's text and style and is asked for
    /// visible cells only.
    pub fn draw<R, W: Into<Words>>(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        theme: Theme,
        rows: &[R],
        cell: impl Fn(&R, usize) -> W,
    ) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            self.drawn.set((Rect::default(), 0));
            return;
        }
        // The last column is kept for the scroll bar.
        let width = area.width.saturating_sub(1).max(1);
        let body = Rect { y: area.y + 1, width, height: area.height - 1, ..area };
        let first = self.first(usize::from(body.height));
        self.drawn.set((body, first));
        let places = places(&self.columns, body);
        for (column, x, cells) in &places {
            self.draw_heading(buffer, area, theme, *column, (*x, *cells));
        }
        for (place, y) in (first..self.order.len()).zip(body.top()..body.bottom()) {
            let Some(row) = rows.get(self.order[place]) else { continue };
            for (column, x, cells) in &places {
                let mut words: Words = cell(row, *column).into();
                let mut dim = theme.dim();
                // Reversed, each colour would be a patch of its own: the chosen row has one look.
                if place == self.cursor {
                    (words.style, dim) = (theme.text(), theme.text());
                }
                draw_words(buffer, body, (*x, y), *cells, self.columns[*column].align, &words, dim);
            }
            if place == self.cursor {
                buffer.set_style(Rect { y, height: 1, ..body }, theme.selected());
            }
        }
        if body.height > 0 && self.order.is_empty() {
            let words = if self.filter.is_empty() { "nothing here yet" } else { "no row has these words" };
            text::put(buffer, body, (body.x, body.y), words, body.width, theme.dim());
        }
        self.draw_bar(buffer, area, body, first, theme);
    }

    /// The first row to draw: the last one used, moved as little as possible to have the chosen row in sight.
    fn first(&self, height: usize) -> usize {
        let lowest = self.cursor.saturating_sub(height.saturating_sub(1));
        self.drawn.get().1.clamp(lowest, self.cursor.max(lowest)).min(self.order.len().saturating_sub(height))
    }

    fn draw_heading(&self, buffer: &mut Buffer, area: Rect, theme: Theme, column: usize, (x, cells): (u16, u16)) {
        let title = self.columns[column].title;
        let title = match (column == self.sort, self.descending) {
            (true, true) => format!("{title}▼"),
            (true, false) => format!("{title}▲"),
            (false, _) => title.to_owned(),
        };
        let words = text::pad(&title, usize::from(cells), self.columns[column].align);
        let style = if column == self.sort { theme.title() } else { theme.title().patch(theme.dim()) };
        text::put(buffer, area, (x, area.y), &words, cells, style);
    }

    fn draw_bar(&self, buffer: &mut Buffer, area: Rect, body: Rect, first: usize, theme: Theme) {
        let (height, total) = (usize::from(body.height), self.order.len());
        if total <= height || height == 0 || area.width < 2 {
            return;
        }
        let thumb = (height * height / total).clamp(1, height);
        let top = first * (height - thumb) / (total - height).max(1);
        for at in 0..height {
            let symbol = if (top..top + thumb).contains(&at) { "█" } else { "│" };
            text::put(buffer, area, (area.right() - 1, body.y + at as u16), symbol, 1, theme.dim());
        }
    }
}

fn draw_words(
    buffer: &mut Buffer,
    area: Rect,
    (x, y): (u16, u16),
    cells: u16,
    align: Align,
    words: &Words,
    dim: Style,
) {
    let clean = text::clean(&words.text);
    if words.suffix.is_empty() || align == Align::Right {
        let padded = text::pad(&clean, usize::from(cells), align);
        text::put(buffer, area, (x, y), &padded, cells, words.style);
        return;
    }
    let suffix = format!(" {}", words.suffix);
    let room = cells.saturating_sub(text::width(&suffix) as u16);
    let used = text::put(buffer, area, (x, y), &clean, room, words.style);
    text::put(buffer, area, (x.saturating_add(used), y), &suffix, cells - used.min(cells), dim);
}

/// The columns that fit, with their first cell and width, one cell apart.
fn places(columns: &[Column], area: Rect) -> Vec<(usize, u16, u16)> {
    let least = |column: &Column| match column.width {
        Width::Exactly(cells) | Width::AtLeast(cells) => u32::from(cells.max(1)),
    };
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let needs = |kept: &[usize]| kept.iter().map(|at| least(&columns[*at]) + 1).sum::<u32>().saturating_sub(1);
    while kept.len() > 1 && needs(&kept) > u32::from(area.width) {
        let worst = kept.iter().copied().max_by_key(|at| (columns[*at].rank, *at));
        kept.retain(|at| Some(*at) != worst);
    }
    let flexible = kept.iter().filter(|at| matches!(columns[**at].width, Width::AtLeast(_))).count() as u32;
    let mut spare = u32::from(area.width).saturating_sub(needs(&kept));
    let mut shares = flexible;
    let mut x = u32::from(area.x);
    let mut places = Vec::new();
    for at in kept {
        let mut cells = least(&columns[at]);
        if matches!(columns[at].width, Width::AtLeast(_)) {
            let share = spare / shares.max(1);
            cells += share;
            spare -= share;
            shares -= 1;
        }
        let cells = cells.min(u32::from(area.right()).saturating_sub(x));
        places.push((at, x as u16, cells as u16));
        x += cells + 1;
    }
    places
}
