//! The key table: one list from which keymap, hints and help overlay are made, and the names of keys.
//!
//! A key is written `q`, `?`, `G`, `ctrl-c`, `alt-enter`, `shift-tab`, `f1`, `pageup`, `space`, `minus`. Letters tell
//! shift by their case. A binding may list several, with spaces between: `"q ctrl-c"`.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::text::{Line, Span};

use super::text;
use super::theme::Theme;

/// One row of the key table.
#[derive(Debug, Clone)]
pub struct Binding<M: 'static> {
    /// The keys, with spaces between; the first is shown in hints.
    pub keys: &'static str,
    /// What pressing one of them means.
    pub msg: M,
    /// What it does, for the help overlay; empty keeps it out of it.
    pub help: &'static str,
    /// The heading in the help overlay.
    pub group: &'static str,
    /// A word or two for the line of hints; empty keeps it out of it.
    pub hint: &'static str,
}

impl<M> Binding<M> {
    /// A binding that appears in the help overlay, under no heading.
    pub const fn new(keys: &'static str, msg: M, help: &'static str) -> Self {
        Self { keys, msg, help, group: "", hint: "" }
    }

    /// The same under a heading.
    #[must_use]
    pub const fn group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    /// The same with a word for the line of hints.
    #[must_use]
    pub const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}

/// The message that `event` has in `table`: the first binding with its key.
pub fn lookup<M: Clone>(table: &[Binding<M>], event: &Event) -> Option<M> {
    let Event::Key(event) = event else { return None };
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let pressed = Key::of(event);
    table.iter().find(|binding| keys_of(binding.keys).any(|key| key == Ok(pressed))).map(|binding| binding.msg.clone())
}

fn keys_of(keys: &str) -> impl Iterator<Item = Result<Key, KeyError>> {
    keys.split_whitespace().map(str::parse)
}

/// What is wrong with a table, for tests: keys that are none, and keys that two bindings want.
pub fn faults<M>(table: &[Binding<M>]) -> Vec<String> {
    let mut seen: Vec<Key> = Vec::new();
    let mut faults = Vec::new();
    for key in table.iter().flat_map(|binding| keys_of(binding.keys)) {
        match key {
            Err(error) => faults.push(error.to_string()),
            Ok(key) if seen.contains(&key) => faults.push(format!("{key} is bound twice")),
            Ok(key) => seen.push(key),
        }
    }
    faults
}

/// The heading of the keys whose hints come first where there is not room for all: help and the way out.
pub const PROGRAM: &str = "Program";

/// The line of hints: `q quit  ? help`, as many as fit into `cells`, in the table's order.
pub fn hints<M>(table: &[Binding<M>], theme: Theme, cells: u16) -> Line<'static> {
    let hinted: Vec<_> = table.iter().filter(|binding| !binding.hint.is_empty()).collect();
    let name = |binding: &Binding<M>| binding.keys.split_whitespace().next().map(pretty).unwrap_or_default();
    let needs = |binding: &Binding<M>| GAP + text::width(&name(binding)) + 1 + text::width(binding.hint);
    let mut shown = vec![false; hinted.len()];
    let mut left = usize::from(cells) + GAP;
    for essential in [true, false] {
        let rank = |binding: &Binding<M>| (binding.group == PROGRAM) == essential;
        for (binding, shown) in hinted.iter().zip(&mut shown).filter(|(binding, _)| rank(binding)) {
            let Some(rest) = left.checked_sub(needs(binding)) else { break };
            (left, *shown) = (rest, true);
        }
    }
    let mut spans = Vec::new();
    for (binding, _) in hinted.iter().zip(shown).filter(|(_, shown)| *shown) {
        spans.push(Span::raw(" ".repeat(if spans.is_empty() { 0 } else { GAP })));
        spans.push(Span::styled(name(binding), theme.key()));
        spans.push(Span::styled(format!(" {}", binding.hint), theme.dim()));
    }
    Line::from(spans)
}

/// Cells between two hints.
const GAP: usize = 2;

/// A key's name as people read it: `Ctrl-C`, `Enter`, `↑`.
pub fn pretty(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('-').collect();
    let last = parts.pop().unwrap_or_default();
    let named = match last {
        "up" => "↑".to_owned(),
        "down" => "↓".to_owned(),
        "left" => "←".to_owned(),
        "right" => "→".to_owned(),
        "pageup" => "PgUp".to_owned(),
        "pagedown" => "PgDn".to_owned(),
        "minus" => "-".to_owned(),
        letter if letter.chars().count() == 1 && parts.is_empty() => letter.to_owned(),
        name => capital(name),
    };
    parts.iter().rev().fold(named, |name, part| format!("{}-{name}", capital(part)))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A key with its modifiers, in one form: no shift on letters, which tell it by their case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no key: write q, ctrl-c, shift-tab, f1, space or minus")]
pub struct KeyError(String);

impl Key {
    /// The key of an event.
    pub fn of(event: &KeyEvent) -> Self {
        let known = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT;
        let mut modifiers = event.modifiers & known;
        let code = match event.code {
            // Terminals report shift-tab in two ways.
            KeyCode::BackTab => {
                modifiers |= KeyModifiers::SHIFT;
                KeyCode::Tab
            }
            KeyCode::Char(c) => {
                modifiers -= KeyModifiers::SHIFT;
                let plain = !modifiers.contains(KeyModifiers::CONTROL);
                KeyCode::Char(if plain { c } else { c.to_ascii_lowercase() })
            }
            code => code,
        };
        Self { code, modifiers }
    }

    /// The event of pressing the key.
    pub fn event(self) -> Event {
        let code = match (self.code, self.modifiers.contains(KeyModifiers::SHIFT)) {
            (KeyCode::Tab, true) => KeyCode::BackTab,
            (code, _) => code,
        };
        Event::Key(KeyEvent::new(code, self.modifiers))
    }
}

/// Names of keys that are not their character.
const NAMES: [(&str, KeyCode); 18] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("space", KeyCode::Char(' ')),
    ("minus", KeyCode::Char('-')),
    ("less", KeyCode::Char('<')),
    ("greater", KeyCode::Char('>')),
];

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError(text.to_owned());
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        let known = [("ctrl-", KeyModifiers::CONTROL), ("alt-", KeyModifiers::ALT), ("shift-", KeyModifiers::SHIFT)];
        while let Some((bare, modifier)) =
            known.iter().find_map(|(name, modifier)| Some((rest.strip_prefix(name)?, *modifier)))
        {
            modifiers |= modifier;
            rest = bare;
        }
        let mut letters = rest.chars();
        let code = match (letters.next(), letters.next()) {
            (Some(c), None) if !c.is_control() && c != ' ' => KeyCode::Char(c),
            _ => match NAMES.iter().find(|(name, _)| *name == rest) {
                Some((_, code)) => *code,
                None => {
                    let number = rest.strip_prefix('f').and_then(|number| number.parse().ok());
                    KeyCode::F(number.filter(|number| (1..=24).contains(number)).ok_or_else(wrong)?)
                }
            },
        };
        if matches!(code, KeyCode::Char(c) if c.is_alphabetic()) && modifiers.contains(KeyModifiers::SHIFT) {
            return Err(wrong());
        }
        Ok(Self::of(&KeyEvent::new(code, modifiers)))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(KeyModifiers::CONTROL, "ctrl-"), (KeyModifiers::ALT, "alt-"), (KeyModifiers::SHIFT, "shift-")];
        for (_, name) in names.iter().filter(|(modifier, _)| self.modifiers.contains(*modifier)) {
            f.write_str(name)?;
        }
        match (NAMES.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, KeyCode::F(number)) => write!(f, "f{number}"),
            (None, code) => write!(f, "{code:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_events_agree() {
        for name in ["q", "G", "?", "é", "ctrl-c", "alt-enter", "shift-tab", "f1", "f12", "space", "minus", "less"] {
            let key: Key = name.parse().unwrap();
            assert_eq!(key.to_string(), name);
            let Event::Key(event) = key.event() else { panic!("a key's event") };
            assert_eq!(Key::of(&event), key, "{name}");
        }
        for wrong in ["", "ctrl-", "shift-g", "f25", "f0", "pgup", "  ", "\u{1b}"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong:?}");
        }
        // With capslock or the kitty protocol, shift comes along with the letter.
        let shifted = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(Ok(Key::of(&shifted)), "G".parse());
        let tab = KeyEvent::new(KeyCode::Tab, KeyModifiers::SHIFT);
        assert_eq!(Ok(Key::of(&tab)), "shift-tab".parse());
    }

    const TABLE: &[Binding<u8>] = &[
        Binding::new("q ctrl-c", 1, "quit").group("Program").hint("quit"),
        Binding::new("up k", 2, "up"),
        Binding::new("f1 ?", 3, "help").hint("help"),
    ];

    #[test]
    fn the_table_makes_keymap_and_hints() {
        let press = |name: &str| lookup(TABLE, &name.parse::<Key>().unwrap().event());
        assert_eq!([press("ctrl-c"), press("k"), press("x")], [Some(1), Some(2), None]);
        assert_eq!(lookup(TABLE, &Event::FocusGained), None);
        assert_eq!(hints(TABLE, Theme::plain(), 80).to_string(), "q quit  F1 help");
        assert_eq!(hints(TABLE, Theme::plain(), 14).to_string(), "q quit");
        let page =
            [Binding::new("enter", 4, "").hint("look closer"), Binding::new("? f1", 3, "").group(PROGRAM).hint("help")];
        let shown = |cells| hints(&page, Theme::plain(), cells).to_string();
        assert_eq!(shown(25), "Enter look closer  ? help");
        assert_eq!([shown(24), shown(6), shown(5)], ["? help", "? help", ""]);
        assert!(faults(TABLE).is_empty());
        let twice = [Binding::new("q", 1, ""), Binding::new("x q nokey", 2, "")];
        assert_eq!(faults(&twice).len(), 2);
        assert_eq!(["ctrl-c", "minus", "up", "G", "alt-enter"].map(pretty), ["Ctrl-C", "-", "↑", "G", "Alt-Enter"]);
    }
}
