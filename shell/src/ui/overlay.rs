//! What lies over a screen: dialogs, and toasts that go by themselves.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use hydra_core::time::Time;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Clear, Widget as _};

use super::text;
use super::theme::{Sign, Theme};

/// How long a toast stays.
const STAYS: Duration = Duration::from_secs(4);
/// How long one stays that nobody asked for, who may look elsewhere at first.
const STAYS_LONG: Duration = Duration::from_secs(20);
/// Toasts kept at once; older ones go.
const TOASTS: usize = 3;

/// `width` × `height` in the middle of `area`, or as much of it as there is.
pub fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Empties `area` and draws a focused panel there; returns its inside.
pub fn open(buffer: &mut Buffer, area: Rect, theme: Theme, title: &str) -> Rect {
    let area = area.intersection(buffer.area);
    // A wide character that begins left of the area would cover its first column.
    for y in area.top()..area.bottom() {
        if area.x > buffer.area.x && text::width(buffer[(area.x - 1, y)].symbol()) > 1 {
            buffer[(area.x - 1, y)].set_symbol(" ");
        }
    }
    Clear.render(area, buffer);
    let block = theme.panel(title, true);
    let inside = block.inner(area);
    block.render(area, buffer);
    inside
}

/// A dialog: words in the middle of the screen, and below them what the keys do.
pub fn dialog(buffer: &mut Buffer, area: Rect, theme: Theme, title: &str, words: &str, keys: &str) {
    let words = text::clean_lines(words);
    let room = usize::from(area.width.saturating_sub(4)).clamp(1, 60);
    let lines = text::wrap(&words, room);
    let widest =
        lines.iter().map(|line| text::width(&words[line.clone()])).chain([text::width(keys), text::width(title) + 4]);
    let width = widest.max().unwrap_or(0).min(room) as u16 + 4;
    let inside = open(buffer, centred(area, width, lines.len() as u16 + 4), theme, title);
    if inside.is_empty() {
        return;
    }
    let inset = Rect { x: inside.x + 1.min(inside.width - 1), width: inside.width.saturating_sub(2).max(1), ..inside };
    let last = inside.bottom() - 1;
    let rows = usize::from(last.max(inside.top() + 1) - inside.top());
    let more = lines.len() > rows;
    for (at, (line, y)) in lines.into_iter().take(rows).zip(inside.top()..).enumerate() {
        // Words that go on where there is no room say so, lest they end in another sense.
        let mut line = Cow::Borrowed(&words[line]);
        if more && at + 1 == rows {
            line = Cow::Owned(format!("{}…", text::head(&line, usize::from(inset.width).saturating_sub(1))));
        }
        text::put(buffer, inside, (inset.x, y), &line, inset.width, theme.text());
    }
    if inside.height > 1 {
        text::put(
            buffer,
            inside,
            (inset.x, last),
            &text::clip(keys, usize::from(inset.width)),
            inset.width,
            theme.key(),
        );
    }
}

/// A short message.
#[derive(Debug, Clone)]
struct Toast {
    until: Time,
    sign: Sign,
    words: String,
    /// What it is about; empty: nothing that another one would be about.
    kind: &'static str,
}

/// Short messages at the lower right that go by themselves.
#[derive(Debug, Clone, Default)]
pub struct Toasts {
    shown: VecDeque<Toast>,
}

impl Toasts {
    /// Shows one.
    pub fn push(&mut self, now: Time, sign: Sign, words: impl Into<String>) {
        self.add(now.after(STAYS), "", sign, words.into());
    }

    /// Shows one for longer, since nothing that somebody did leads to it.
    pub fn push_long(&mut self, now: Time, sign: Sign, words: impl Into<String>) {
        self.add(now.after(STAYS_LONG), "", sign, words.into());
    }

    /// Shows one in the place of an older one that is about the same.
    pub fn renew(&mut self, now: Time, kind: &'static str, sign: Sign, words: impl Into<String>) {
        self.shown.retain(|toast| toast.kind != kind);
        self.add(now.after(STAYS), kind, sign, words.into());
    }

    fn add(&mut self, until: Time, kind: &'static str, sign: Sign, words: String) {
        self.shown.retain(|toast| toast.words != words);
        if self.shown.len() == TOASTS {
            self.shown.pop_front();
        }
        self.shown.push_back(Toast { until, sign, words, kind });
    }

    /// When the next one goes; for `App::wake_at`.
    pub fn wake_at(&self) -> Option<Time> {
        self.shown.iter().map(|toast| toast.until).min()
    }

    /// Lets those go whose time is over.
    pub fn expire(&mut self, now: Time) {
        self.shown.retain(|toast| toast.until > now);
    }

    /// As [`draw`](Self::draw), where there is no border: beside them nothing stays of what the row says.
    pub fn draw_alone(&self, buffer: &mut Buffer, area: Rect, theme: Theme) {
        if !self.shown.is_empty() {
            let y = area.bottom().saturating_sub(1);
            Clear.render(Rect { y, height: 1, ..area }.intersection(area).intersection(buffer.area), buffer);
        }
        self.draw(buffer, area, theme);
    }

    /// Draws them over the last row of `area`, which panels have their border in: the newest at the right, and older
    /// ones as far as they fit.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            return;
        }
        let (mut right, y) = (area.right(), area.bottom() - 1);
        for (place, toast) in self.shown.iter().rev().enumerate() {
            let line = format!(" {} {} ", toast.sign.mark(), text::clean(toast.words.trim()));
            let (cells, room) = (text::width(&line), usize::from(right - area.x));
            if place > 0 && cells > room {
                return;
            }
            let cells = cells.min(room) as u16;
            right -= cells;
            Clear.render(Rect { x: right, y, width: cells, height: 1 }, buffer);
            let style = theme.sign(toast.sign).patch(theme.selected());
            text::put(buffer, area, (right, y), &line, cells, style);
        }
    }
}
