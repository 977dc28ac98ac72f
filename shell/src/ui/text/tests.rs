//! Cutting, wrapping and cleaning.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn lines(text: &str, cells: usize) -> Vec<&str> {
    wrap(text, cells).into_iter().map(|range| &text[range]).collect()
}

#[test]
fn wraps_at_spaces_and_cuts_long_words() {
    assert_eq!(lines("the quick brown fox", 10), ["the quick", "brown fox"]);
    assert_eq!(lines("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(lines("to abcdefghij", 4), ["to", "abcd", "efgh", "ij"]);
    assert_eq!(lines("a\n\nb\n", 4), ["a", "", "b", ""]);
    assert_eq!(lines("", 4), [""]);
    assert_eq!(lines("  indented text", 10), ["  indented", "text"]);
    assert_eq!(lines("東京東京東", 5), ["東京", "東京", "東"]);
    assert_eq!(lines("東京", 1), ["東", "京"]);
    assert_eq!(lines("one two      ", 7), ["one two"]);
}

#[test]
fn clips_between_graphemes() {
    assert_eq!(clip("hello", 5), "hello");
    assert_eq!(clip("hello", 4), "hel…");
    assert_eq!(clip("東京都", 4), "東…");
    assert_eq!(clip("e\u{301}e\u{301}", 1), "…");
    assert_eq!(clip("x", 0), "");
    assert_eq!(pad("東京都", 5, Align::Right), "東京…");
    assert_eq!(pad("ab", 4, Align::Right), "  ab");
    assert_eq!(pad("ab", 4, Align::Left), "ab  ");
}

#[test]
fn remote_text_is_cleaned() {
    assert_eq!(clean("a\u{1b}[31mb\u{202e}c"), "a␛[31mb\\u{202e}c");
    assert_eq!(clean("a\u{200b}b\u{feff}c\u{ad}"), "abc");
    assert_eq!(clean("👩\u{200d}👧 ❤\u{fe0f}"), "👩👧 ❤");
    assert_eq!(clean("🏳\u{fe0f}\u{200d}🌈 🏴\u{200d}☠\u{fe0f}"), "🏳🌈 🏴☠");
    assert_eq!(clean("🇫🇷 🇩🇪, 🇿"), "FR DE, Z");
    assert_eq!(clean("👍🏽"), "👍🏽");
    assert_eq!(clean(&format!("e{}", "\u{301}".repeat(50))), format!("e{}", "\u{301}".repeat(MARKS)));
    assert_eq!(clean("\u{301}a"), "a");
    assert_eq!(clean_lines("a\r\n\tb\u{7}"), "a\n    b␇");
    // Persian needs its non-joiner.
    assert_eq!(clean("می\u{200c}خواهم"), "می\u{200c}خواهم");
}

#[test]
fn scrub_is_the_last_guard() {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 1));
    buffer[(0, 0)].set_symbol("\u{1b}");
    buffer[(1, 0)].set_symbol("a\u{202e}");
    buffer[(2, 0)].set_symbol("é");
    scrub(&mut buffer);
    let symbols: Vec<&str> = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
    assert_eq!(symbols, ["\u{fffd}", "\u{fffd}", "é", " "]);
}

#[test]
fn numbers_read_well() {
    let numbers = [0.0, 2.5, 999.0, 999.9, 1_234.0, 999_960.0, 4e6, 7.2e9, f64::NAN].map(short);
    assert_eq!(numbers, ["0", "2.5", "999", "1.0k", "1.2k", "1.0M", "4.0M", "7.2G", "–"]);
    assert_eq!([512, 1_500, 3_200_000].map(bytes), ["512 B", "1.5 kB", "3.2 MB"]);
    let spans = [8, 185, 7_620, 356_400].map(|seconds| span(Duration::from_secs(seconds)));
    assert_eq!(spans, ["8s", "3m 05s", "2h 07m", "4d 3h"]);
}

proptest! {
    #[test]
    fn lines_fit_and_lose_only_spaces(text in "[a-c 東é\u{301}\n]{0,80}", cells in 2usize..20) {
        let kept = lines(&text, cells);
        for line in &kept {
            // Leading spaces of a paragraph stay, and alone may be longer than the line.
            prop_assert!(width(line) <= cells || line.trim().is_empty() , "{line:?}");
        }
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(letters(&kept.concat()), letters(&text));
    }

    #[test]
    fn padding_is_exact(text in "\\PC{0,40}", cells in 0usize..50) {
        let clean = clean(&text);
        prop_assert_eq!(width(&pad(&clean, cells, Align::Left)), cells);
    }

    #[test]
    fn cleaning_is_idempotent_and_safe(text in proptest::collection::vec(any::<char>(), 0..60)) {
        let text: String = text.into_iter().collect();
        let once = clean(&text).into_owned();
        prop_assert!(!once.chars().any(char::is_control));
        let twice = clean(&once).into_owned();
        prop_assert_eq!(&twice, &once);
    }
}

#[test]
fn countdowns_and_counts() {
    let left = [0, 1, 999, 1_000, 61_001].map(|ms| countdown(Duration::from_millis(ms)));
    assert_eq!(left, ["0s", "1s", "1s", "1s", "1m 02s"]);
    assert_eq!([0, 1, 2].map(|n| count(n, "query", "queries")), ["0 queries", "1 query", "2 queries"]);
}

#[test]
fn digits_are_grouped() {
    let texts = [0, 999, 1_000, 1_234_567].map(grouped);
    assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
}
