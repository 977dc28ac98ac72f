//! A pane over the log's ring: newest line at the bottom, scroll-back that stands still while lines arrive, and a
//! level below which lines are left out.

use std::cell::Cell;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tracing::level_filters::LevelFilter;

use super::text;
use super::theme::Theme;
use crate::logs::{LEVEL, Ring};

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
    /// The number of the lowest line shown, if not the newest.
    held: Option<u64>,
    /// Rows, as last drawn.
    rows: Cell<usize>,
}

impl LogPane {
    /// Shows the next finer level, from the finest that comes at all the coarsest; the words for a toast.
    pub fn next_level(&mut self, ring: &Ring) -> String {
        let finest = Level::finest(ring);
        let finer = Level::ALL.iter().map(|(level, _)| *level).find(|level| *level > self.level && *level <= finest);
        self.level = finer.unwrap_or(Level::Error);
        let more = if finer.is_none() && ring.finest() < LevelFilter::DEBUG {
            format!(" · for finer ones start with {LEVEL}=debug")
        } else {
            String::new()
        };
        format!("log: {} and above{more}", self.level.name())
    }

    /// Scrolls by `lines` of those that are shown, back if negative, but never so far that the page is not full; at the
    /// newest line the pane follows again.
    pub fn scroll(&mut self, ring: &Ring, lines: i64) {
        let (all, newest) = ring.all();
        let shown = self.shown(&all, newest);
        let end = self.end(&shown).saturating_add_signed(lines as isize).max(self.rows.get().max(1));
        self.held = (end < shown.len()).then(|| shown[end - 1].1);
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
        format!("Log: {} and above{held}", self.level.name())
    }

    /// Draws the lines into `area`.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, ring: &Ring) {
        let area = area.intersection(buffer.area);
        let (all, newest) = ring.all();
        self.rows.set(usize::from(area.height));
        let shown = self.shown(&all, newest);
        let end = self.end(&shown);
        let lines = &shown[end.saturating_sub(self.rows.get())..end];
        if lines.is_empty() {
            let words = format!("no line at {} or above yet", self.level.name());
            text::put(buffer, area, (area.x, area.y), &words, area.width, theme.dim());
        }
        for ((line, _), y) in lines.iter().zip(area.top()..) {
            Line::of(line).draw(buffer, area, y, theme);
        }
    }

    /// The lines that are fine enough, oldest first, each with its number.
    fn shown<'a>(&self, all: &'a [String], newest: u64) -> Vec<(&'a String, u64)> {
        let gone = newest - all.len() as u64;
        let mut level = Level::Info;
        let shown = all.iter().zip(gone + 1..).filter(|(line, _)| {
            level = Line::of(line).level.unwrap_or(level);
            level <= self.level
        });
        shown.collect()
    }

    /// How many of the lines lie above the lower edge.
    fn end(&self, shown: &[(&String, u64)]) -> usize {
        let end = self.held.map_or(shown.len(), |held| shown.partition_point(|(_, number)| *number <= held));
        // What fell out of the ring while it was looked at makes room for what followed.
        end.max(self.rows.get()).min(shown.len())
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

    fn draw(&self, buffer: &mut Buffer, area: Rect, y: u16, theme: Theme) {
        let mut x = area.x;
        if let Some(level) = self.level {
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
        text::put(buffer, area, (x, y), self.rest, area.right().saturating_sub(x), theme.text());
    }
}
