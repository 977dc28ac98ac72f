//! Whether somebody is watching, and text that is safe to show them.
//!
//! Text from a peer (answers, names, reasons, previews) must pass [`sanitize`] before it reaches a terminal: raw
//! escape sequences can retitle windows, rewrite what is on the screen and, on some terminals, type commands.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

/// Whether keys can be read and a screen drawn: standard input and output are a terminal that is not `dumb`.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the program was started on a terminal, wherever its output goes: one under nohup or cron has none.
pub fn is_attached() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}

/// Whether `NO_COLOR` asks for plain text: set and not empty, as its convention says.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Writes text that is already safe to standard error. A closed standard error is nobody to tell, so no error.
pub fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Which control characters pass [`sanitize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None: the result is one line.
    Nothing,
    /// Newline and tab.
    Lines,
}

/// `text` with every character visible that could command a terminal or hide or reorder its neighbours: `␛` for
/// escape, `\u{202e}` for what has no picture. Works piece by piece: sanitized pieces may be joined.
pub fn sanitize(text: &str, keep: Keep) -> Cow<'_, str> {
    let passes = |c: char| (keep == Keep::Lines && matches!(c, '\n' | '\t')) || !is_unsafe(c);
    if text.chars().all(passes) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if passes(c) => clean.push(c),
            '\u{7f}' => clean.push('␡'),
            // Unicode has a picture for each of the first 32.
            c if c < ' ' => clean.extend(char::from_u32(0x2400 + u32::from(c))),
            c => {
                clean.extend(c.escape_unicode());
            }
        }
    }
    Cow::Owned(clean)
}

/// C0, DEL and C1 controls, and the format characters that break lines or turn the direction of writing.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_text_is_not_copied() {
        for text in ["", "plain", "größer 東京 🐍", "👩‍👩‍👧 e\u{301}"] {
            assert!(matches!(sanitize(text, Keep::Nothing), Cow::Borrowed(same) if same == text));
        }
        assert!(matches!(sanitize("a\n\tb", Keep::Lines), Cow::Borrowed(_)));
    }

    #[test]
    fn commands_become_visible() {
        assert_eq!(sanitize("\u{1b}[2Jx\u{7}", Keep::Lines), "␛[2Jx␇");
        assert_eq!(sanitize("a\nb\tc\r", Keep::Nothing), "a␊b␉c␍");
        assert_eq!(sanitize("a\nb\tc\r", Keep::Lines), "a\nb\tc␍");
        // C1 controls are escape sequences of one character.
        assert_eq!(sanitize("\u{9b}31m\u{7f}", Keep::Lines), "\\u{9b}31m␡");
        assert_eq!(sanitize("\u{202e}evil\u{2028}", Keep::Lines), "\\u{202e}evil\\u{2028}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_unsafe_survives_and_pieces_join(text in "\\PC*|[\\x00-\\xff]*", cut in 0usize..64) {
            let clean = sanitize(&text, Keep::Nothing);
            proptest::prop_assert!(!clean.chars().any(is_unsafe));
            let at = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
            let joined = sanitize(&text[..at], Keep::Nothing).into_owned() + &sanitize(&text[at..], Keep::Nothing);
            proptest::prop_assert_eq!(joined, clean);
        }
    }
}
