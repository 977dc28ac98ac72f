//! The test script of the screens: types keys, sends messages, turns the clock, and reads the screen.
//!
//! ```ignore
//! let mut script = Script::new(App::default(), (80, 24));
//! script.keys("? <esc> h e l l o <enter>");
//! script.advance(Duration::from_secs(1));
//! insta::assert_snapshot!(script.snapshot());
//! ```
//! For tests alone: it panics on what a test should not do. Other crates use it with the feature `testkit`.

use std::fmt::Write as _;
use std::time::Duration;

use crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use hydra_core::time::Time;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::keys::{self, Key};
use super::{App, text};

/// The sizes at which screens are compared: usual, good, and the least that is useful.
pub const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 12)];

/// An app under test.
pub struct Script<A: App> {
    /// The model.
    pub app: A,
    now: Time,
    size: (u16, u16),
    cmds: Vec<A::Cmd>,
}

impl<A: App> Script<A> {
    /// Starts an app at time zero; fails if its key table has faults.
    pub fn new(app: A, size: (u16, u16)) -> Self {
        let faults = keys::faults(app.keys());
        assert!(faults.is_empty(), "the key table: {faults:?}");
        let mut script = Self { app, now: Time(0), size, cmds: Vec::new() };
        script.resize(size);
        script
    }

    /// The time of the script.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Presses keys, written with spaces between them: `a`, `ctrl-c`, `<enter>`, `<f1>`; whether in angle brackets or
    /// not is the same.
    pub fn keys(&mut self, keys: &str) -> &mut Self {
        for name in keys.split_whitespace() {
            let bare = name.strip_prefix('<').and_then(|name| name.strip_suffix('>')).unwrap_or(name);
            let key: Key = bare.parse().unwrap_or_else(|error| panic!("{error}"));
            self.event(&key.event());
        }
        self
    }

    /// Types each character of a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            let key = if c == ' ' {
                "space".parse()
            } else if c == '-' {
                "minus".parse()
            } else {
                c.to_string().parse()
            };
            let key: Key = key.unwrap_or_else(|error| panic!("{error}"));
            self.event(&key.event());
        }
        self
    }

    /// Gives an event to the keymap and its message to the app.
    pub fn event(&mut self, event: &Event) -> &mut Self {
        if let Some(msg) = self.app.keymap(event) {
            self.msg(msg);
        }
        self
    }

    /// Pastes.
    pub fn paste(&mut self, text: &str) -> &mut Self {
        self.event(&Event::Paste(text.to_owned()))
    }

    /// Clicks at a column and a row.
    pub fn click(&mut self, column: u16, row: u16) -> &mut Self {
        // Areas are known from drawing.
        self.buffer();
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row)
    }

    /// Turns the wheel at a column and a row: down if positive.
    pub fn wheel(&mut self, column: u16, row: u16, turns: i32) -> &mut Self {
        self.buffer();
        let kind = if turns > 0 { MouseEventKind::ScrollDown } else { MouseEventKind::ScrollUp };
        for _ in 0..turns.unsigned_abs() {
            self.mouse(kind, column, row);
        }
        self
    }

    fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> &mut Self {
        self.event(&Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
    }

    /// Sends a message.
    pub fn msg(&mut self, msg: A::Msg) -> &mut Self {
        let cmds = self.app.update(self.now, msg);
        self.cmds.extend(cmds);
        self
    }

    /// Turns the clock, with every wake-up on the way.
    pub fn advance(&mut self, span: Duration) -> &mut Self {
        let end = self.now.after(span);
        while let Some(wake) = self.app.wake_at().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            if let Some(msg) = self.app.on_wake() {
                self.msg(msg);
            }
            // As the loop does with an app that does not move on.
            if self.app.wake_at().is_some_and(|next| next <= self.now) {
                self.now = self.now.after(Duration::from_millis(5));
            }
        }
        self.now = self.now.max(end);
        self
    }

    /// Changes the size.
    pub fn resize(&mut self, (width, height): (u16, u16)) -> &mut Self {
        self.size = (width, height);
        self.event(&Event::Resize(width, height))
    }

    /// The commands since the last call.
    pub fn cmds(&mut self) -> Vec<A::Cmd> {
        std::mem::take(&mut self.cmds)
    }

    /// Draws; fails if a cell holds a control character.
    pub fn buffer(&self) -> Buffer {
        self.draw().0
    }

    fn draw(&self) -> (Buffer, bool) {
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).expect("a test's terminal");
        terminal.draw(|frame| self.app.view(frame)).expect("a test's terminal");
        let cursor = terminal.backend().cursor_visible();
        let buffer = terminal.backend().buffer().clone();
        assert_sound(&buffer);
        (buffer, cursor)
    }

    /// The screen as text.
    pub fn screen(&self) -> String {
        text_of(&self.buffer())
    }

    /// The screen as text, then its styled runs.
    pub fn snapshot(&self) -> String {
        let buffer = self.buffer();
        format!("{}\n{}", text_of(&buffer), styles_of(&buffer))
    }
}

/// The rows of a buffer as text, without the blanks at their ends.
pub fn text_of(buffer: &Buffer) -> String {
    let mut rows = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut row = String::new();
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            row.push_str(symbol);
            x += text::width(symbol).max(1) as u16;
        }
        rows.push_str(row.trim_end());
        rows.push('\n');
    }
    rows
}

/// The styled runs of a buffer, one a line: `row:column style "text"`.
pub fn styles_of(buffer: &Buffer) -> String {
    let mut list = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            let (start, style) = (x, style_of(&buffer[(x, y)]));
            let mut run = String::new();
            while x < buffer.area.right() && style_of(&buffer[(x, y)]) == style {
                let symbol = buffer[(x, y)].symbol();
                run.push_str(symbol);
                x += text::width(symbol).max(1) as u16;
            }
            if !style.is_empty() && (style.contains("reversed") || !run.trim().is_empty()) {
                let _ = writeln!(list, "{y}:{start} {style} {run:?}");
            }
        }
    }
    list
}

fn style_of(cell: &Cell) -> String {
    let mut parts = Vec::new();
    if cell.fg != Color::Reset {
        parts.push(cell.fg.to_string().to_lowercase());
    }
    if cell.bg != Color::Reset {
        parts.push(format!("on-{}", cell.bg.to_string().to_lowercase()));
    }
    parts.extend(cell.modifier.iter_names().map(|(name, _): (&str, Modifier)| name.to_lowercase()));
    parts.join("+")
}

/// Fails if a cell holds what must not reach a terminal.
pub fn assert_sound(buffer: &Buffer) {
    let mut scrubbed = buffer.clone();
    text::scrub(&mut scrubbed);
    for (cell, clean) in buffer.content.iter().zip(&scrubbed.content) {
        assert_eq!(cell.symbol(), clean.symbol(), "{:?} must not reach the terminal", cell.symbol());
    }
}

/// Draws a widget into `width` × `height` cells within a larger buffer; fails if it draws outside or anything unsound.
/// Returns what it drew.
pub fn draw_within(width: u16, height: u16, draw: impl FnOnce(&mut Buffer, Rect)) -> Buffer {
    let mut buffer = Buffer::filled(Rect::new(0, 0, width + 4, height + 2), Cell::new("▒"));
    let area = Rect::new(2, 1, width, height);
    let mut inner = Buffer::empty(area);
    for position in area.positions() {
        buffer[position].reset();
    }
    draw(&mut buffer, area);
    assert_sound(&buffer);
    for position in buffer.area.positions() {
        if area.contains(position) {
            inner[position] = buffer[position].clone();
        } else {
            assert_eq!(buffer[position], Cell::new("▒"), "drawn outside at {position}");
        }
    }
    for y in area.top()..area.bottom() {
        if let Some(x) = area.right().checked_sub(1).filter(|x| *x >= area.x) {
            assert!(text::width(inner[(x, y)].symbol()) <= 1, "a wide character hangs over the right edge");
        }
    }
    inner
}
