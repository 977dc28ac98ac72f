//! A small editor for a message of several lines: cursor by grapheme, history, paste, kill and yank.
//!
//! Takes [`Edit`]s, which [`edit`] makes of terminal events; sending, and the key for it, is the program's. A paste is
//! cleaned like remote text, as nobody reads it before it is in.

use std::cell::Cell;
use std::collections::BTreeMap;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use unicode_segmentation::UnicodeSegmentation as _;

use super::text;
use super::theme::Theme;

/// Bytes that a message may have; of a longer paste the rest is left out.
pub const LONGEST: usize = 64 * 1024;
/// Messages that the history keeps.
const HISTORY: usize = 200;

/// A change of the message or of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Typed or pasted text.
    Insert(String),
    /// A new line.
    Newline,
    /// Deletes the grapheme before the cursor.
    Backspace,
    /// Deletes the grapheme at the cursor.
    Delete,
    /// Kills the word before the cursor.
    KillWord,
    /// Kills from the cursor to the end of the line, or the line's end itself.
    KillToEnd,
    /// Kills from the beginning of the line to the cursor.
    KillToStart,
    /// Inserts what was killed last.
    Yank,
    /// One grapheme back.
    Left,
    /// One grapheme on.
    Right,
    /// To the beginning of the word before.
    WordLeft,
    /// Behind the next word.
    WordRight,
    /// To the beginning of the line.
    Home,
    /// To the end of the line.
    End,
    /// A line up; from the first line, the message before in the history.
    Up,
    /// A line down; from the last line, the next message in the history.
    Down,
}

/// The edit that an event stands for. Enter is none: the program decides what it does; Alt-Enter, Shift-Enter and
/// Ctrl-J are new lines.
pub fn edit(event: &Event) -> Option<Edit> {
    let (code, modifiers) = match event {
        Event::Paste(pasted) => return Some(Edit::Insert(pasted.clone())),
        Event::Key(KeyEvent { kind: KeyEventKind::Press | KeyEventKind::Repeat, code, modifiers, .. }) => {
            (*code, *modifiers)
        }
        _ => return None,
    };
    let ctrl = modifiers.contains(KeyModifiers::CONTROL);
    let alt = modifiers.contains(KeyModifiers::ALT);
    Some(match code {
        KeyCode::Enter if alt || modifiers.contains(KeyModifiers::SHIFT) => Edit::Newline,
        // AltGr arrives as both and types characters.
        KeyCode::Char(c) if ctrl == alt => Edit::Insert(c.to_string()),
        KeyCode::Char('j') if ctrl => Edit::Newline,
        KeyCode::Char('w') if ctrl => Edit::KillWord,
        KeyCode::Char('k') if ctrl => Edit::KillToEnd,
        KeyCode::Char('u') if ctrl => Edit::KillToStart,
        KeyCode::Char('y') if ctrl || alt => Edit::Yank,
        KeyCode::Char('a') if ctrl => Edit::Home,
        KeyCode::Char('e') if ctrl => Edit::End,
        KeyCode::Char('b') if ctrl => Edit::Left,
        KeyCode::Char('f') if ctrl => Edit::Right,
        KeyCode::Char('h') if ctrl => Edit::Backspace,
        KeyCode::Char('b') if alt => Edit::WordLeft,
        KeyCode::Char('f') if alt => Edit::WordRight,
        KeyCode::Backspace if ctrl || alt => Edit::KillWord,
        KeyCode::Backspace => Edit::Backspace,
        KeyCode::Delete => Edit::Delete,
        KeyCode::Left if ctrl || alt => Edit::WordLeft,
        KeyCode::Right if ctrl || alt => Edit::WordRight,
        KeyCode::Left => Edit::Left,
        KeyCode::Right => Edit::Right,
        KeyCode::Home => Edit::Home,
        KeyCode::End => Edit::End,
        KeyCode::Up => Edit::Up,
        KeyCode::Down => Edit::Down,
        _ => return None,
    })
}

/// The message being written.
#[derive(Debug, Clone, Default)]
pub struct Composer {
    text: String,
    /// A byte offset between graphemes.
    cursor: usize,
    killed: String,
    /// Whether the last edit had more than there was room for.
    cut: bool,
    history: Vec<String>,
    /// The place in the history that is shown (behind it: what is being written), and what was written at others and not
    /// sent.
    recalled: Option<(usize, BTreeMap<usize, String>)>,
    /// Cells of a line where it was drawn last; 0: not yet.
    room: Cell<usize>,
}

impl Composer {
    /// The message.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The cursor's byte offset.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Whether the last edit had more to insert than there was room for, and the rest was left out.
    pub fn left_out(&self) -> bool {
        self.cut
    }

    /// Puts a text in the message's place, with the cursor at its end.
    pub fn set(&mut self, text: &str) {
        self.text.clear();
        self.cursor = 0;
        self.keep_drafts();
        self.insert(text);
    }

    /// Takes the message out, into the history unless it is blank or the same as the last.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        self.keep_drafts();
        let text = std::mem::take(&mut self.text);
        self.keep(text.clone());
        text
    }

    /// What was written and left for a message of the history goes into the history, as that takes its place.
    fn keep_drafts(&mut self) {
        if let Some((_, drafts)) = self.recalled.take() {
            for draft in drafts.into_values() {
                self.keep(draft);
            }
        }
    }

    fn keep(&mut self, text: String) {
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            if self.history.len() == HISTORY {
                self.history.remove(0);
            }
            self.history.push(text);
        }
    }

    /// Carries out an edit.
    pub fn apply(&mut self, edit: Edit) {
        self.cut = false;
        match edit {
            Edit::Insert(text) => self.insert(&text),
            Edit::Newline => self.insert("\n"),
            Edit::Backspace => drop(self.cut(self.before(), self.cursor)),
            Edit::Delete => drop(self.cut(self.cursor, self.after())),
            Edit::KillWord => self.kill(self.word_left(), self.cursor),
            Edit::KillToStart => self.kill(self.line_start(), self.cursor),
            Edit::KillToEnd => {
                let end = self.line_end();
                self.kill(self.cursor, if end == self.cursor { self.after() } else { end });
            }
            Edit::Yank => self.insert(&self.killed.clone()),
            Edit::Left => self.cursor = self.before(),
            Edit::Right => self.cursor = self.after(),
            Edit::WordLeft => self.cursor = self.word_left(),
            Edit::WordRight => self.cursor = self.word_right(),
            Edit::Home => self.cursor = self.line_start(),
            Edit::End => self.cursor = self.line_end(),
            Edit::Up => self.vertical(-1),
            Edit::Down => self.vertical(1),
        }
    }

    fn insert(&mut self, text: &str) {
        // Terminals paste a line end as the Enter key sends it.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        // With what is before it in the line: a mark that is typed after its letter belongs to that, alone it would go.
        let before = &self.text[self.line_start()..self.cursor];
        let line = format!("{before}{text}");
        let (line, alone) = (text::clean_lines(&line), text::clean_lines(&text));
        // What is there is clean already, and so stays as it is, unless an edit has parted a letter from its marks.
        let text = line.strip_prefix(before).unwrap_or(&alone);
        let room = LONGEST.saturating_sub(self.text.len());
        self.cut = text.len() > room;
        let text = &text[..text.floor_char_boundary(room)];
        self.text.insert_str(self.cursor, text);
        self.cursor = self.boundary(self.cursor + text.len());
    }

    /// The first place between graphemes at or after `at`.
    fn boundary(&self, at: usize) -> usize {
        self.text.grapheme_indices(true).map(|(start, _)| start).find(|start| *start >= at).unwrap_or(self.text.len())
    }

    fn cut(&mut self, from: usize, to: usize) -> String {
        let cut = self.text.drain(from..to).collect();
        // Neighbours may join into one grapheme.
        self.cursor = self.boundary(from);
        cut
    }

    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed = self.cut(from, to);
        }
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.text[self.cursor..].graphemes(true).next().map_or(self.cursor, |grapheme| self.cursor + grapheme.len())
    }

    fn word_left(&self) -> usize {
        let words = self.text[..self.cursor].unicode_word_indices().next_back();
        words.map_or(0, |(at, _)| at)
    }

    fn word_right(&self) -> usize {
        let word = self.text[self.cursor..].unicode_word_indices().next();
        word.map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.cursor..].find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    /// A line up or down, as lines are shown; from the first or the last, through the history.
    fn vertical(&mut self, by: isize) {
        let room = Some(self.room.get()).filter(|room| *room > 0).unwrap_or(usize::MAX);
        let (lines, (column, row)) = self.layout(room);
        let Some(line) = row.checked_add_signed(by).and_then(|to| lines.get(to)) else { return self.recall(by) };
        let text = &self.text[line.clone()];
        let mut at = line.start + text::head(text, column).len();
        // Where a word is broken the end of one line is the beginning of the next.
        if lines.iter().any(|next| next.start == at && next.start > line.start) {
            at = line.start + text.grapheme_indices(true).next_back().map_or(0, |(last, _)| last);
        }
        self.cursor = at;
    }

    fn recall(&mut self, by: isize) {
        let newest = self.history.len();
        let (at, mut drafts) = self.recalled.take().unwrap_or((newest, BTreeMap::new()));
        let to = at.saturating_add_signed(by).min(newest);
        if to != at {
            let left = std::mem::take(&mut self.text);
            if self.history.get(at) != Some(&left) {
                drafts.insert(at, left);
            }
            let draft = drafts.remove(&to);
            self.text = draft.or_else(|| self.history.get(to).cloned()).unwrap_or_default();
        }
        self.cursor = self.text.len();
        self.recalled = (to < newest || !drafts.is_empty()).then_some((to, drafts));
    }

    /// Rows that the message takes at a width, prompt included, at most `most`.
    pub fn rows(&self, width: u16, most: u16) -> u16 {
        let room = usize::from(width.saturating_sub(2).max(1));
        let (lines, (_, row)) = self.layout(room);
        (lines.len().max(row + 1)).min(usize::from(most.max(1))) as u16
    }

    /// The wrapped lines, and the cursor's column and row in them.
    fn layout(&self, room: usize) -> (Vec<std::ops::Range<usize>>, (usize, usize)) {
        let lines = text::wrap(&self.text, room);
        let row = lines.iter().rposition(|line| line.start <= self.cursor).unwrap_or(0);
        // Behind a full line, and in the blanks at a break, the cursor stands after the line's end.
        let line = &lines[row];
        let column = text::width(&self.text[line.start..self.cursor.clamp(line.start, line.end.max(line.start))]);
        if column >= room { (lines, (0, row + 1)) } else { (lines, (column, row)) }
    }

    /// Draws the message with a prompt sign into `area`, the cursor's row in sight, and arrows where there is more of it;
    /// `placeholder` shows while it is empty. Returns where the terminal's cursor belongs, for `Frame::set_cursor_position`.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, placeholder: &str) -> Option<Position> {
        let area = area.intersection(buffer.area);
        if area.width < 3 || area.height == 0 {
            return None;
        }
        let inside = Rect { x: area.x + 2, width: area.width - 2, ..area };
        if self.text.is_empty() {
            text::put(buffer, inside, (inside.x, inside.y), placeholder, inside.width, theme.dim());
        }
        self.room.set(usize::from(inside.width));
        let (lines, (column, row)) = self.layout(usize::from(inside.width));
        let first = (row + 1).saturating_sub(usize::from(inside.height));
        let below = lines.len().saturating_sub(first + usize::from(inside.height));
        text::put(buffer, area, (area.x, area.y), if first > 0 { "↑" } else { "›" }, 1, theme.key());
        // In a single row the sign above says enough.
        if below > 0 && area.height > 1 {
            text::put(buffer, area, (area.x, area.bottom() - 1), "↓", 1, theme.key());
        }
        for (line, y) in lines.into_iter().skip(first).zip(inside.top()..inside.bottom()) {
            text::put(buffer, inside, (inside.x, y), &self.text[line], inside.width, theme.text());
        }
        Some(Position { x: inside.x + column as u16, y: inside.y + (row - first) as u16 })
    }
}

#[cfg(test)]
mod tests;
