//! A pane over the log's ring: newest line at the bottom, scroll-back that stands still while lines arrive, a level
//! below which lines are left out, words that lines must have, and long lines cut or wrapped.

use std::cell::Cell;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tracing::level_filters::LevelFilter;

use super::text;
use super::theme::Theme;
use crate::logs::{LEVEL, Ring};

/// Lines are wrapped to so many cells at least; where there are fewer they are cut.
const LEAST: usize = 12;

/// Levels, the finest last, as `tracing` writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something stopped.
    Error,
    /// Somebody should look.
    Warn,
    /// Changes that the user would notice.
    #[default]
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Error, "ERROR"),
        (Self::Warn, "WARN"),
        (Self::Info, "INFO"),
        (Self::Debug, "DEBUG"),
        (Self::Trace, "TRACE"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The finest one that comes at all.
    fn finest(ring: &Ring) -> Self {
        match ring.finest().into_level() {
            None | Some(tracing::Level::ERROR) => Self::Error,
            Some(tracing::Level::WARN) => Self::Warn,
            Some(tracing::Level::INFO) => Self::Info,
            Some(tracing::Level::DEBUG) => Self::Debug,
            Some(tracing::Level::TRACE) => Self::Trace,
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }
}

/// What the pane shows.
#[derive(Debug, Clone, Default)]
pub struct LogPane {
    /// Finer lines are left out; those without a level follow the line before them.
    pub level: Level,
    /// Only lines that have all of these words, in capitals or not, are shown; empty: all.
    pub filter: String,
    /// Whether a long line goes on in the next row instead of being cut.
    wrap: bool,
    /// The number of the lowest line shown, if not the newest.
    held: Option<u64>,
    /// Columns and rows, as last drawn.
    drawn: Cell<(usize, usize)>,
}

impl LogPane {
    /// Shows INFO and above, or also finer lines if such were asked for.
    pub fn new(ring: &Ring) -> Self {
        Self { level: Level::finest(ring).max(Level::Info), ..Self::default() }
    }

    /// Shows the next finer level, from the finest that comes at all the coarsest; the words for a toast.
    pub fn next_level(&mut self, ring: &Ring) -> String {
        let finest = Level::finest(ring);
        let finer = Level::ALL.iter().map(|(level, _)| *level).find(|level| *level > self.level && *level <= finest);
        self.level = finer.unwrap_or(Level::Error);
        let more = if finer.is_none() && ring.finest() < LevelFilter::DEBUG {
            format!(" (for DEBUG: {LEVEL}=debug)")
        } else {
            String::new()
        };
        format!("log: {}{more}", self.reach())
    }

    /// The levels shown, in words.
    fn reach(&self) -> String {
        let finest = self.level.name();
        if self.level == Level::Error { format!("{finest} only") } else { format!("{finest} and above") }
    }

    /// Scrolls by `lines` of those that are shown, back if negative, but never so far that the page is not full; at the
    /// newest line the pane follows again.
    pub fn scroll(&mut self, ring: &Ring, lines: i64) {
        let (all, newest) = ring.all();
        let shown = self.shown(&all, newest);
        let end = self.end(&shown).saturating_add_signed(lines as isize).max(self.least(&shown));
        self.held = (end < shown.len()).then(|| shown[end - 1].1);
    }

    /// Turns a page on or back: a line of the one before stays in sight, or a part of it.
    pub fn page(&mut self, ring: &Ring, on: bool) {
        let (all, newest) = ring.all();
        let shown = self.shown(&all, newest);
        let end = self.end(&shown);
        let mut to = if on { end + 1 } else { self.first(&shown, end).0 + 1 };
        while on && to < shown.len() && self.first(&shown, to + 1).0 < end {
            to += 1;
        }
        // A line that fills the page alone is left all the same.
        let to = if on { to } else { to.min(end.saturating_sub(1)) };
        let to = to.max(self.least(&shown));
        self.held = (to < shown.len()).then(|| shown[to - 1].1);
    }

    /// Wraps long lines, or cuts them; where the pane is scrolled back, the uppermost line stays.
    pub fn toggle_wrap(&mut self, ring: &Ring) {
        let (all, newest) = ring.all();
        let shown = self.shown(&all, newest);
        let (first, _) = self.first(&shown, self.end(&shown));
        self.wrap = !self.wrap;
        if !self.follows() {
            let end = first + self.least(&shown[first..]);
            self.held = (end < shown.len()).then(|| shown[end - 1].1);
        }
    }

    /// Whether long lines are wrapped.
    pub fn wraps(&self) -> bool {
        self.wrap
    }

    /// Follows the newest line again.
    pub fn follow(&mut self) {
        self.held = None;
    }

    /// Whether the newest line is in sight.
    pub fn follows(&self) -> bool {
        self.held.is_none()
    }

    /// The title of its panel.
    pub fn title(&self) -> String {
        let held = if self.follows() { "" } else { " · scrolled back" };
        let with =
            if self.filter.is_empty() { String::new() } else { format!(" with “{}”", text::clean(&self.filter)) };
        format!("Log (UTC): {}{with}{held}", self.reach())
    }

    /// Draws the lines into `area`.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, ring: &Ring) {
        let area = area.intersection(buffer.area);
        let (all, newest) = ring.all();
        let (cells, rows) = (usize::from(area.width), usize::from(area.height));
        self.drawn.set((cells, rows));
        let shown = self.shown(&all, newest);
        let end = self.end(&shown);
        if shown.is_empty() {
            let words = match (self.filter.is_empty(), self.level) {
                (false, Level::Error) => "no line at ERROR has these words".to_owned(),
                (false, level) => format!("no line at {} or above has these words", level.name()),
                (true, Level::Error) => "no line at ERROR yet".to_owned(),
                (true, level) => format!("no line at {} or above yet", level.name()),
            };
            text::put(buffer, area, (area.x, area.y), &words, area.width, theme.dim());
        }
        let (first, mut skipped) = self.first(&shown, end);
        let mut y = area.top();
        // At the top the last row may be the beginning of one more.
        for (line, _) in &shown[first..] {
            let line = Line::of(line);
            for (at, words) in line.rows(cells, self.wrap).iter().enumerate().skip(skipped) {
                if y >= area.bottom() {
                    return;
                }
                line.draw(buffer, area, y, theme, (at, words.as_str()));
                y += 1;
            }
            skipped = 0;
        }
    }

    /// The uppermost line of a page that ends with so many lines, and how many of its rows are above the page.
    fn first(&self, shown: &[(&String, u64)], end: usize) -> (usize, usize) {
        let (cells, rows) = self.drawn.get();
        let (mut first, mut filled) = (end, 0);
        while first > 0 && filled < rows {
            first -= 1;
            filled += self.height(shown[first].0, cells);
        }
        // Of the uppermost line there may be room for its end only, but the oldest of all begins the first page.
        let above = if end <= self.least(shown) { 0 } else { filled.saturating_sub(rows) };
        (first, above)
    }

    /// Rows that a line takes.
    fn height(&self, line: &str, cells: usize) -> usize {
        if self.wrap { Line::of(line).rows(cells, true).len() } else { 1 }
    }

    /// The lines that are fine enough and have the words, oldest first, each with its number.
    fn shown<'a>(&self, all: &'a [String], newest: u64) -> Vec<(&'a String, u64)> {
        let gone = newest - all.len() as u64;
        let filter = self.filter.to_lowercase();
        let words: Vec<_> = filter.split_whitespace().collect();
        let mut level = Level::Info;
        let shown = all.iter().zip(gone + 1..).filter(|(line, _)| {
            let line = Line::of(line);
            level = line.level.unwrap_or(level);
            level <= self.level && words.iter().all(|word| line.has(word))
        });
        shown.collect()
    }

    /// How many of the lines lie above the lower edge.
    fn end(&self, shown: &[(&String, u64)]) -> usize {
        let end = self.held.map_or(shown.len(), |held| shown.partition_point(|(_, number)| *number <= held));
        // What fell out of the ring while it was looked at makes room for what followed.
        end.max(self.least(shown)).min(shown.len())
    }

    /// How many lines, of the oldest, the pane has room for as a whole; one at least.
    fn least(&self, shown: &[(&String, u64)]) -> usize {
        let (cells, rows) = self.drawn.get();
        let mut filled = 0;
        let beyond = shown.iter().position(|(line, _)| {
            filled += self.height(line, cells);
            filled > rows
        });
        beyond.unwrap_or(shown.len()).max(1)
    }
}

/// A line's parts, if it begins as `tracing` writes it.
struct Line<'a> {
    time: &'a str,
    level: Option<Level>,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let whole = Self { time: "", level: None, rest: line };
        let Some((time, rest)) = line.split_once(' ') else { return whole };
        let Some((level, rest)) = rest.trim_start().split_once(' ') else { return whole };
        match Level::of(level) {
            // The date goes: 2025-01-31T12:34:56.789Z.
            Some(level) => Self { time: time.get(11..19).unwrap_or(time), level: Some(level), rest },
            None => whole,
        }
    }

    /// Whether it has the word, in lower case, in what is seen of it.
    fn has(&self, word: &str) -> bool {
        let level = self.level.map_or("", Level::name);
        [self.time, level, self.rest].iter().any(|part| part.to_lowercase().contains(word))
    }

    /// Cells before its text.
    fn indent(&self) -> usize {
        // The level's name and the blanks around it.
        if self.level.is_some() { text::width(&text::clean(self.time)) + 7 } else { 0 }
    }

    /// Its text: one row, or as many as it takes to see all of it.
    fn rows(&self, cells: usize, wrap: bool) -> Vec<String> {
        let words = text::clean(self.rest);
        if !wrap {
            return vec![words.into_owned()];
        }
        let room = cells.saturating_sub(self.indent()).max(LEAST);
        text::wrap(&words, room).into_iter().map(|row| words[row].to_owned()).collect()
    }

    /// Draws one row of it: which, and that row's text.
    fn draw(&self, buffer: &mut Buffer, area: Rect, y: u16, theme: Theme, (at, words): (usize, &str)) {
        let mut x = area.x;
        if at > 0 {
            x = x.saturating_add(self.indent() as u16);
        } else if let Some(level) = self.level {
            let style = match level {
                Level::Error => theme.bad(),
                Level::Warn => theme.warn(),
                Level::Info => theme.accent(),
                Level::Debug | Level::Trace => theme.dim(),
            };
            for (words, style) in [(format!("{} ", self.time), theme.dim()), (format!("{:<5} ", level.name()), style)] {
                x += text::put(buffer, area, (x, y), &words, area.right() - x, style);
            }
        }
        text::put(buffer, area, (x, y), words, area.right().saturating_sub(x), theme.text());
    }
}
