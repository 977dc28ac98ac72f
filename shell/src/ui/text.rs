//! Text for cells: made safe, measured, clipped, padded and wrapped as a terminal shows it.
//!
//! Widths are those that ratatui's buffer counts. Everything cuts between graphemes. [`clean`] is for
//! all text that comes from elsewhere; what it returns has neither control characters nor characters that reorder or
//! hide their neighbours, and joins no emoji and has letters for flags, since terminals disagree about their widths.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use ratatui::buffer::{Buffer, CellWidth as _};
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthChar as _;

use crate::terminal::{Keep, sanitize};

/// Marks that a base character may carry; more only serve to smear over the lines around it.
const MARKS: usize = 4;

/// What stands for a cell that must not be written.
const REPLACED: &str = "\u{fffd}";

/// Text from elsewhere as one line: controls become visible, as [`sanitize`] does, and what cannot be seen goes.
pub fn clean(text: &str) -> Cow<'_, str> {
    drop_unseen(sanitize(text, Keep::Nothing))
}

/// Text from elsewhere that may have lines; tabs become spaces and `\r\n` a plain line end.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    let text = if text.contains(['\t', '\r']) {
        Cow::Owned(text.replace("\r\n", "\n").replace('\t', "    "))
    } else {
        Cow::Borrowed(text)
    };
    match text {
        Cow::Borrowed(text) => drop_unseen(sanitize(text, Keep::Lines)),
        Cow::Owned(text) => Cow::Owned(drop_unseen(sanitize(&text, Keep::Lines)).into_owned()),
    }
}

fn drop_unseen(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() || !text.chars().any(|c| c.width() == Some(0) || is_unseen(c) || flag_letter(c).is_some()) {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    let (mut marks, mut base, mut letter) = (0, 0, false);
    for c in text.chars() {
        let c = flag_letter(c).unwrap_or(c);
        let width = c.width().unwrap_or(0);
        if c == '\n' || (width > 0 && !is_unseen(c)) {
            (marks, base, letter) = (0, if c == '\n' { 0 } else { width }, c.is_alphabetic());
            kept.push(c);
        // Joiners shape the letters of some scripts; elsewhere they only make emoji of a disputed width.
        } else if base > 0 && marks < MARKS && !is_unseen(c) && (c != '\u{200d}' || (letter && base == 1)) {
            marks += 1;
            kept.push(c);
        }
    }
    Cow::Owned(kept)
}

/// The letter of half a flag: two halves side by side take two cells, or four.
fn flag_letter(c: char) -> Option<char> {
    let place = u32::from(c).checked_sub(u32::from('\u{1f1e6}'))?;
    (place < 26).then(|| char::from(b'A' + place as u8))
}

/// Characters without a picture that are not needed to spell any script, and blanks that pretend to be letters.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Replaces every cell that holds what must never be written; the last look before the terminal.
pub fn scrub(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        let fine = match symbol.as_bytes() {
            [byte] => matches!(byte, b' '..=b'~'),
            _ => sanitize_is_noop(symbol),
        };
        if !fine {
            cell.set_symbol(REPLACED);
        }
    }
}

/// Rows with a grapheme that terminals give different numbers of cells: of several characters that each take some, as in
/// scripts with vowel signs at the side of a letter, and with emoji of a colour.
pub fn disputed_rows(buffer: &Buffer) -> BTreeSet<u16> {
    let disputed = |symbol: &str| !symbol.is_ascii() && symbol.chars().skip(1).any(|c| c.width() != Some(0));
    let cells = buffer.content.iter().enumerate().filter(|(_, cell)| disputed(cell.symbol()));
    cells.map(|(at, _)| buffer.pos_of(at).1).collect()
}

fn sanitize_is_noop(symbol: &str) -> bool {
    matches!(sanitize(symbol, Keep::Nothing), Cow::Borrowed(_))
}

/// Cells of one grapheme, as ratatui's buffer counts them.
fn cells_of(grapheme: &str) -> usize {
    usize::from(grapheme.cell_width())
}

/// Cells that `text` takes.
pub fn width(text: &str) -> usize {
    // Grapheme by grapheme as ratatui's buffer does; the width of the whole may differ where graphemes interact.
    if text.is_ascii() { text.len() } else { text.graphemes(true).map(cells_of).sum() }
}

/// The longest beginning of `text` that fits into `cells`.
pub fn head(text: &str, cells: usize) -> &str {
    let (mut used, mut end) = (0, 0);
    for (at, grapheme) in text.grapheme_indices(true) {
        used += cells_of(grapheme);
        if used > cells {
            break;
        }
        end = at + grapheme.len();
    }
    &text[..end]
}

/// `text` if it fits into `cells`, else its beginning and `…`.
pub fn clip(text: &str, cells: usize) -> Cow<'_, str> {
    if head(text, cells).len() == text.len() {
        Cow::Borrowed(text)
    } else if cells == 0 {
        Cow::Borrowed("")
    } else {
        Cow::Owned(format!("{}…", head(text, cells - 1)))
    }
}

/// Where text stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Align {
    /// Spaces follow.
    #[default]
    Left,
    /// Spaces precede, for numbers.
    Right,
}

/// `text` clipped and filled up to exactly `cells`.
pub fn pad(text: &str, cells: usize, align: Align) -> String {
    let clipped = clip(text, cells);
    let blank = " ".repeat(cells.saturating_sub(width(&clipped)));
    match align {
        Align::Left => format!("{clipped}{blank}"),
        Align::Right => format!("{blank}{clipped}"),
    }
}

/// Byte ranges of the lines of `text` at `cells` a line: broken at spaces where possible, inside words that are
/// longer than a line; spaces at a break stay out of both lines. At least one line, each at most `cells` wide except
/// where one grapheme is wider than that.
pub fn wrap(text: &str, cells: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for paragraph in text.split('\n') {
        wrap_paragraph(paragraph, start, cells.max(1), &mut lines);
        start += paragraph.len() + 1;
    }
    lines
}

fn wrap_paragraph(text: &str, offset: usize, cells: usize, lines: &mut Vec<Range<usize>>) {
    let (mut start, mut used) = (0, 0);
    // Where the line may break: its end before the spaces, the next line's start behind them, cells up to there.
    let mut gap: Option<(usize, usize, usize)> = None;
    let mut in_gap = false;
    for (at, grapheme) in text.grapheme_indices(true) {
        let wide = cells_of(grapheme);
        if grapheme == " " {
            let from = if in_gap { gap.map_or(at, |(from, ..)| from) } else { at };
            used += 1;
            gap = Some((from, at + 1, used));
            in_gap = true;
            continue;
        }
        in_gap = false;
        if used + wide > cells && at > start {
            match gap.filter(|(from, ..)| *from > start) {
                Some((from, next, before)) => {
                    lines.push(offset + start..offset + from);
                    (start, used) = (next, used - before);
                }
                None => {
                    lines.push(offset + start..offset + at);
                    (start, used) = (at, 0);
                }
            }
            gap = None;
            // A word that is itself too long for the fresh line is cut.
            if used + wide > cells && at > start {
                lines.push(offset + start..offset + at);
                (start, used) = (at, 0);
            }
        }
        used += wide;
    }
    let mut end = text.len();
    if let Some((from, ..)) = gap.filter(|_| in_gap && used > cells) {
        end = from.max(start);
    }
    lines.push(offset + start..offset + end);
}

/// Draws one line of text from elsewhere at (`x`, `y`), at most `cells` wide and never outside `area`; returns the
/// cells used.
pub fn put(buffer: &mut Buffer, area: Rect, (x, y): (u16, u16), text: &str, cells: u16, style: Style) -> u16 {
    let area = area.intersection(buffer.area);
    if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
        return 0;
    }
    let cells = cells.min(area.right() - x);
    let clean = clean(text);
    let (end, _) = buffer.set_stringn(x, y, clip(&clean, usize::from(cells)), usize::from(cells), style);
    end - x
}

/// A number as people read it in a narrow place: `999`, `12.3k`, `4.0M`.
pub fn short(number: f64) -> String {
    let scaled = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match scaled.iter().find(|(unit, _)| number.abs() >= *unit * 0.9995) {
        _ if !number.is_finite() => "–".to_owned(),
        Some((unit, name)) => format!("{:.1}{name}", number / unit),
        None if number.fract() == 0.0 => format!("{number:.0}"),
        None => format!("{number:.1}"),
    }
}

/// A whole number with its digits in groups: `8,123`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people read them: `512 B`, `1.5 kB`, `3.2 MB`.
pub fn bytes(count: u64) -> String {
    let scaled = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match scaled.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / *unit as f64),
        None => format!("{count} B"),
    }
}

/// How long a message is under way: `<0.1 ms`, `12.3 ms`, `250 ms`.
pub fn millis(span: std::time::Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    if millis < 0.05 {
        "<0.1 ms".to_owned()
    } else if millis < 100.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

/// A span as people read it: `8s`, `3m 05s`, `2h 07m`, `4d 3h`.
pub fn span(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The time until something: never zero while it has not happened.
pub fn countdown(left: std::time::Duration) -> String {
    span(std::time::Duration::from_secs(left.as_millis().div_ceil(1000) as u64))
}

/// `1 worker`, `2 workers`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
