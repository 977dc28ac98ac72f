//! A conversation to scroll through: sticks to its end until somebody scrolls back, and wraps only what changed.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation as _;

use super::text;
use super::theme::{Sign, Theme};

/// Entries kept; the oldest go.
const ENTRIES: usize = 2_000;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The person here.
    You,
    /// The model.
    Model,
    /// The program, with a sign of how it stands.
    Note(Sign),
}

/// One contribution.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who speaks.
    pub who: Who,
    /// What was said; may have lines.
    text: String,
    /// What is known about it, below it: cost, speed, version. Empty for none.
    foot: String,
}

impl Entry {
    /// A contribution of text from anywhere.
    pub fn new(who: Who, text: &str) -> Self {
        Self { who, text: text::clean_lines(text).into_owned(), foot: String::new() }
    }

    /// What was said, cleaned.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The wrapped lines of one entry.
#[derive(Debug, Clone, Default)]
struct Wrapped {
    /// Rows of the speaker's name; a note has its sign beside its text instead.
    head: usize,
    body: Vec<Range<usize>>,
    foot: Vec<Range<usize>>,
}

impl Wrapped {
    /// Rows that it takes: the speaker, the lines, the foot, a blank.
    fn rows(&self) -> usize {
        self.head + self.body.len() + self.foot.len() + 1
    }

    /// The row where the text of a row stands that it has `before`, wrapped otherwise.
    fn same(&self, before: &Self, row: usize) -> usize {
        let Some(line) = row.checked_sub(before.head) else { return row };
        match before.body.get(line) {
            Some(text) => {
                let line = self.body.partition_point(|line| line.end <= text.start);
                self.head + line.min(self.body.len().saturating_sub(1))
            }
            None => (self.head + self.body.len() + line - before.body.len()).min(self.rows() - 1),
        }
    }
}

/// The conversation.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    entries: Vec<Entry>,
    /// The row at the top, if not stuck to the end.
    top: Cell<Option<usize>>,
    /// What was there before the width changed for the first time since somebody scrolled: the entry, as it was wrapped
    /// then, and its row. So that no number of changes moves the text away.
    anchor: RefCell<Option<(usize, Wrapped, usize)>>,
    /// Wrapping at the last width; `None` for an entry that changed.
    wrapped: RefCell<(u16, Vec<Option<Wrapped>>)>,
    /// Rows in sight and rows in all when last drawn.
    drawn: Cell<(usize, usize)>,
}

impl Transcript {
    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES {
            self.entries.remove(0);
            let cache = &mut self.wrapped.get_mut().1;
            let gone = if cache.is_empty() { None } else { cache.remove(0) };
            let rows = gone.map_or(0, |wrapped| wrapped.rows());
            self.top.set(self.top.get().map(|top| top.saturating_sub(rows)));
            let anchor = self.anchor.get_mut();
            *anchor = anchor.take().and_then(|(at, before, row)| Some((at.checked_sub(1)?, before, row)));
        }
        self.entries.push(entry);
    }

    /// Adds text to the last entry, as an answer streams in.
    pub fn append(&mut self, piece: &str) {
        if let Some(last) = self.entries.last_mut() {
            // An accent may arrive apart from its letter: the last grapheme is looked at once more.
            let whole = last.text.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
            let tail = last.text.split_off(whole) + piece;
            last.text.push_str(&text::clean_lines(&tail));
        }
        self.forget(self.entries.len().saturating_sub(1));
    }

    /// Sets the last entry's foot.
    pub fn set_foot(&mut self, foot: &str) {
        if let Some(last) = self.entries.last_mut() {
            last.foot = text::clean(foot).into_owned();
        }
        self.forget(self.entries.len().saturating_sub(1));
    }

    fn forget(&mut self, entry: usize) {
        if let Some(wrapped) = self.wrapped.get_mut().1.get_mut(entry) {
            *wrapped = None;
        }
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model's last answer, for copying.
    pub fn last_answer(&self) -> Option<&str> {
        self.entries.iter().rev().find(|entry| entry.who == Who::Model).map(Entry::text)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The whole conversation as plain text, for saving; speakers by the names given.
    pub fn plain(&self, you: &str, model: &str) -> String {
        let mut all = String::new();
        for entry in &self.entries {
            let (who, gap) = match entry.who {
                Who::You => (you, ": "),
                Who::Model => (model, ": "),
                Who::Note(_) => ("*", " "),
            };
            all.extend([who, gap, &entry.text, "\n"]);
            if !entry.foot.is_empty() {
                all.extend(["[", &entry.foot, "]\n"]);
            }
            all.push('\n');
        }
        all
    }

    /// Scrolls by rows, back if negative; at the end it sticks again.
    pub fn scroll(&mut self, rows: isize) {
        let (height, total) = self.drawn.get();
        let end = total.saturating_sub(height);
        let top = self.top.get().unwrap_or(end).min(end).saturating_add_signed(rows);
        self.top.set((top < end).then_some(top));
        self.anchor.take();
    }

    /// Scrolls by pages, one row of which stays in sight.
    pub fn page(&mut self, pages: isize) {
        // The last row may say how much follows.
        let page = self.drawn.get().0.saturating_sub(2).max(1);
        self.scroll(pages.saturating_mul(isize::try_from(page).unwrap_or(isize::MAX)));
    }

    /// To the first entry.
    pub fn to_top(&mut self) {
        self.scroll(isize::MIN);
    }

    /// To the end, to stay there.
    pub fn to_end(&self) {
        self.top.set(None);
        self.anchor.take();
    }

    /// Draws into `area`; `names` are those of the person and the model. `busy` shows a cursor after the last entry.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, (you, model): (&str, &str), busy: bool) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            return;
        }
        let room = area.width.saturating_sub(2).max(1);
        self.wrap(room);
        let cache = self.wrapped.borrow();
        let rows = |at: usize| cache.1[at].as_ref().map_or(0, Wrapped::rows);
        // The blank after the last entry is not worth a row.
        let total = (0..self.entries.len()).map(rows).sum::<usize>().saturating_sub(1);
        let height = usize::from(area.height);
        self.drawn.set((height, total));
        let end = total.saturating_sub(height);
        if self.top.get().is_some_and(|top| top >= end) {
            // A larger window shows the end: from there on it sticks, whatever is added.
            self.to_end();
        }
        let top = self.top.get().unwrap_or(end);
        // Scrolled back, the last row says how much follows.
        let below = u16::from(top < end && area.height > 1);
        let (whole, area) = (area, Rect { height: area.height - below, ..area });
        let height = height - usize::from(below);
        let mut row = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            let Some(wrapped) = &cache.1[at] else { continue };
            let next = row + wrapped.rows();
            if next > top && row < top + height {
                let name = match entry.who {
                    Who::You => (you, theme.you()),
                    Who::Model => (model, theme.model()),
                    Who::Note(sign) => (sign.mark(), theme.sign(sign)),
                };
                let cursor = busy && at + 1 == self.entries.len();
                draw_entry(buffer, area, theme, entry, wrapped, name, cursor, row as i64 - top as i64);
            }
            row = next;
        }
        if top < end {
            let words = format!(" ↓ {} more ", total - top - height);
            let cells = (text::width(&words) as u16).min(whole.width);
            let corner = (whole.right() - cells, whole.bottom() - 1);
            text::put(buffer, whole, corner, &words, cells, theme.accent().patch(theme.selected()));
        }
    }

    /// Wraps what changed since it was last wrapped at this width.
    fn wrap(&self, room: u16) {
        let mut cache = self.wrapped.borrow_mut();
        let changed = cache.0 != room;
        if changed {
            let (_, before) = std::mem::replace(&mut *cache, (room, Vec::new()));
            let mut anchor = self.anchor.borrow_mut();
            *anchor = self.top.get().and_then(|top| anchor.take().or_else(|| entry_at(before, top)));
        }
        cache.1.resize(self.entries.len(), None);
        for (entry, wrapped) in self.entries.iter().zip(&mut cache.1) {
            if wrapped.is_none() {
                let foot = if entry.foot.is_empty() { Vec::new() } else { text::wrap(&entry.foot, usize::from(room)) };
                let head = usize::from(!matches!(entry.who, Who::Note(_)));
                *wrapped = Some(Wrapped { head, body: text::wrap(&entry.text, usize::from(room)), foot });
            }
        }
        // Scrolled back, the text at the top stays there.
        if changed && let Some((at, before, row)) = &*self.anchor.borrow() {
            let above = cache.1[..*at].iter().flatten().map(Wrapped::rows).sum::<usize>();
            self.top.set(Some(above + cache.1[*at].as_ref().map_or(0, |wrapped| wrapped.same(before, *row))));
        }
    }
}

/// The entry that has this row of all, and which of its rows that is.
fn entry_at(all: Vec<Option<Wrapped>>, mut row: usize) -> Option<(usize, Wrapped, usize)> {
    for (at, wrapped) in all.into_iter().enumerate() {
        // One that changed since it was drawn is the last one.
        let wrapped = wrapped?;
        if row < wrapped.rows() {
            return Some((at, wrapped, row));
        }
        row -= wrapped.rows();
    }
    None
}

/// Draws one entry whose first row is `first` rows below the top of `area`, which may be above it.
#[expect(clippy::too_many_arguments, reason = "the parts of one drawing step, used in one place")]
fn draw_entry(
    buffer: &mut Buffer,
    area: Rect,
    theme: Theme,
    entry: &Entry,
    wrapped: &Wrapped,
    (name, style): (&str, Style),
    cursor: bool,
    first: i64,
) {
    let y = |row: usize| {
        let row = first + row as i64;
        (0..i64::from(area.height)).contains(&row).then(|| area.y + row as u16)
    };
    let indent = 2.min(area.width - 1);
    if let Some(y) = y(0) {
        text::put(buffer, area, (area.x, y), name, area.width, style);
    }
    let head = wrapped.head;
    let mut last = (area.x + indent, head);
    for (at, line) in wrapped.body.iter().enumerate() {
        if let Some(y) = y(at + head) {
            let cells =
                text::put(buffer, area, (area.x + indent, y), &entry.text[line.clone()], area.width, theme.text());
            last = (area.x + indent + cells, at + head);
        }
    }
    if let Some(y) = y(last.1).filter(|_| cursor && last.1 + 1 == head + wrapped.body.len()) {
        text::put(buffer, area, (last.0.min(area.right() - 1), y), "▌", 1, theme.accent());
    }
    for (at, line) in wrapped.foot.iter().enumerate() {
        if let Some(y) = y(head + wrapped.body.len() + at) {
            text::put(buffer, area, (area.x + indent, y), &entry.foot[line.clone()], area.width, theme.dim());
        }
    }
}
