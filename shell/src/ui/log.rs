//! A pane over the log's ring: newest line at the bottom, scroll-back that stands still while lines arrive, and a
//! level below which lines are left out.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::text;
use super::theme::Theme;
use crate::logs::Ring;

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

    /// The next finer one, and from the finest the coarsest.
    #[must_use]
    pub fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()].0
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
}

impl LogPane {
    /// Scrolls by `lines`, back if negative; at the newest line the pane follows again.
    pub fn scroll(&mut self, ring: &Ring, lines: i64) {
        let newest = ring.total();
        let oldest = newest.saturating_sub(crate::logs::RING_LINES as u64).saturating_add(1);
        let at = self.held.unwrap_or(newest).saturating_add_signed(lines).max(oldest);
        self.held = (at < newest).then_some(at);
    }

    /// Follows the newest line again.
    pub fn follow(&mut self) {
        self.held = None;
    }

    /// Whether the newest line is in sight.
    pub fn follows(&self) -> bool {
        self.held.is_none()
    }

    /// Draws the lines into `area`.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, ring: &Ring) {
        let area = area.intersection(buffer.area);
        let mut lines = ring.last(usize::MAX);
        if let Some(held) = self.held {
            let below = ring.total().saturating_sub(held) as usize;
            lines.truncate(lines.len().saturating_sub(below));
        }
        let mut level = Level::Info;
        lines.retain(|line| {
            level = Line::of(line).level.unwrap_or(level);
            level <= self.level
        });
        if lines.is_empty() {
            let words = format!("no line at {} or above yet", self.level.name());
            text::put(buffer, area, (area.x, area.y), &words, area.width, theme.dim());
        }
        let first = lines.len().saturating_sub(usize::from(area.height));
        for (line, y) in lines[first..].iter().zip(area.top()..) {
            Line::of(line).draw(buffer, area, y, theme);
        }
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
