//! A terminal's screen as an SVG picture.
//!
//! Letters are text of a monospaced font, stretched to the grid; what such fonts draw differently or not at all (dots
//! of charts, boxes, blocks) is drawn as shapes, so that pictures look the same everywhere. Nothing in a picture runs
//! or loads anything.

use std::fmt::Write as _;

use hydra_pty::Screen;
use hydra_pty::vt100::{Cell, Color};

/// Width and height of a cell, in units of the picture.
const CELL: (f64, f64) = (8.43, 18.0);
const FONT: f64 = 14.0;
/// From a row's top to its letters' base line.
const BASE: f64 = 13.4;
/// Around the screen, and the bar with the title above it.
const MARGIN: f64 = 14.0;
const BAR: f64 = 30.0;
const GROUND: &str = "#11151c";
const BAR_GROUND: &str = "#1b212b";
const INK: &str = "#d7dde6";
/// The sixteen colours of the terminal in the picture.
const PALETTE: [&str; 16] = [
    "#3b4252", "#f7768e", "#8fd694", "#e6c384", "#7aa2f7", "#c4a0f0", "#67d4e8", "#d7dde6", "#5c6675", "#ff8fa3",
    "#a8e6ae", "#f2d6a0", "#9bb8ff", "#d8bcff", "#8fe6f7", "#ffffff",
];

/// Column and row of a braille cell's dots, in the order of their bits.
const DOTS: [(u8, u8); 8] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];

/// How a run of cells looks.
#[derive(Debug, Clone, PartialEq)]
struct Look {
    ink: String,
    /// Behind the letters, unless it is the picture's own.
    ground: Option<String>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let (ink, ground) = (colour(cell.fgcolor(), INK), colour(cell.bgcolor(), GROUND));
        let (ink, ground) = if cell.inverse() { (ground, ink) } else { (ink, ground) };
        let ground = (ground != GROUND).then_some(ground);
        Self { ink, ground, bold: cell.bold(), dim: cell.dim(), italic: cell.italic(), underline: cell.underline() }
    }

    /// Attributes for shapes and letters alike.
    fn opacity(&self) -> &'static str {
        if self.dim { " opacity=\".58\"" } else { "" }
    }
}

fn colour(colour: Color, default: &str) -> String {
    match colour {
        Color::Default => default.to_owned(),
        Color::Idx(number) => {
            PALETTE.get(usize::from(number)).map_or_else(|| cube(number), |colour| (*colour).to_owned())
        }
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    }
}

/// The colours beyond the sixteen: a cube of 6×6×6, then greys.
fn cube(number: u8) -> String {
    let number = u32::from(number);
    if number >= 232 {
        let grey = 8 + (number - 232) * 10;
        return format!("#{grey:02x}{grey:02x}{grey:02x}");
    }
    let level = |step: u32| if step == 0 { 0 } else { 55 + 40 * step };
    let at = number - 16;
    format!("#{:02x}{:02x}{:02x}", level(at / 36), level(at / 6 % 6), level(at % 6))
}

/// The picture, in a window with a title.
pub fn draw(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (width, height) = (f64::from(columns) * CELL.0 + 2.0 * MARGIN, f64::from(rows) * CELL.1 + 2.0 * MARGIN + BAR);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"'DejaVu Sans Mono','Menlo','Cascadia Mono','Consolas',monospace\" \
         font-size=\"{FONT}\" xml:space=\"preserve\">\n<title>{}</title>\n",
        escaped(title)
    );
    let _ = writeln!(
        svg,
        "<rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"10\" fill=\"{GROUND}\"/>\n\
         <path d=\"M0 {BAR}V10a10 10 0 0 1 10-10H{:.0}a10 10 0 0 1 10 10V{BAR}z\" fill=\"{BAR_GROUND}\"/>",
        width - 10.0
    );
    for (at, colour) in [PALETTE[1], PALETTE[3], PALETTE[2]].iter().enumerate() {
        let x = 20 + 20 * at;
        let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{}\" r=\"6\" fill=\"{colour}\"/>", BAR / 2.0);
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"20\" text-anchor=\"middle\" fill=\"{INK}\" opacity=\".7\">{}</text>",
        width / 2.0,
        escaped(title)
    );
    let _ = writeln!(svg, "<g transform=\"translate({MARGIN} {})\">", BAR + MARGIN);
    for row in 0..rows {
        draw_row(&mut svg, screen, row, columns);
    }
    if !screen.hide_cursor() {
        let (row, column) = screen.cursor_position();
        let (x, y) = (f64::from(column) * CELL.0, f64::from(row) * CELL.1);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{}\" height=\"{}\" fill=\"{INK}\" opacity=\".6\"/>",
            CELL.0, CELL.1
        );
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// A row, run by run of the same look.
fn draw_row(svg: &mut String, screen: &Screen, row: u16, columns: u16) {
    let mut column = 0;
    while column < columns {
        let Some(first) = screen.cell(row, column) else { break };
        let look = Look::of(first);
        let from = column;
        let mut cells = Vec::new();
        while column < columns
            && let Some(cell) = screen.cell(row, column).filter(|cell| Look::of(cell) == look)
        {
            if !cell.is_wide_continuation() {
                cells.push((column, cell.contents()));
            }
            column += 1;
        }
        draw_run(svg, row, (from, column), &look, &cells);
    }
}

fn draw_run(svg: &mut String, row: u16, (from, to): (u16, u16), look: &Look, cells: &[(u16, &str)]) {
    let y = f64::from(row) * CELL.1;
    let place = |column: u16| f64::from(column) * CELL.0;
    if let Some(ground) = &look.ground {
        let (x, width) = (place(from), place(to) - place(from));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{}\" fill=\"{ground}\"/>",
            CELL.1
        );
    }
    let (mut dots, mut lines, mut blocks) = (String::new(), String::new(), String::new());
    let mut text: Option<(u16, u16, String)> = None;
    for &(column, contents) in cells {
        let shape = contents.chars().next().filter(|_| contents.chars().count() == 1);
        let x = place(column);
        let drawn = shape
            .is_some_and(|c| braille(&mut dots, c, x, y) || boxed(&mut lines, c, x, y) || block(&mut blocks, c, x, y));
        // Blanks between words belong to the text; at its ends they would only cost bytes.
        if drawn {
            flush(svg, text.take(), y, look);
        } else if !contents.trim().is_empty() {
            let (start, end, mut words) = text.take().unwrap_or((column, column, String::new()));
            words.extend(std::iter::repeat_n(' ', usize::from(column - end)));
            words.push_str(contents);
            let cells = 1 + u16::from(contents.chars().next().is_some_and(is_wide));
            text = Some((start, column + cells, words));
        }
    }
    flush(svg, text, y, look);
    let (ink, opacity) = (&look.ink, look.opacity());
    if !dots.is_empty() {
        let _ = writeln!(
            svg,
            "<path d=\"{dots}\" stroke=\"{ink}\" stroke-width=\"2.5\" stroke-linecap=\"round\" fill=\"none\"{opacity}/>"
        );
    }
    if !lines.is_empty() {
        let _ = writeln!(svg, "<path d=\"{lines}\" stroke=\"{ink}\" stroke-width=\"1.2\" fill=\"none\"{opacity}/>");
    }
    if !blocks.is_empty() {
        let _ = writeln!(svg, "<path d=\"{blocks}\" fill=\"{ink}\"{opacity}/>");
    }
}

fn flush(svg: &mut String, text: Option<(u16, u16, String)>, y: f64, look: &Look) {
    let Some((from, to, words)) = text else { return };
    let (x, width) = (f64::from(from) * CELL.0, f64::from(to - from) * CELL.0);
    let _ = write!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{}",
        y + BASE,
        look.ink,
        look.opacity()
    );
    for (is, attribute) in [
        (look.bold, " font-weight=\"bold\""),
        (look.italic, " font-style=\"italic\""),
        (look.underline, " text-decoration=\"underline\""),
    ] {
        svg.push_str(if is { attribute } else { "" });
    }
    let _ = writeln!(svg, ">{}</text>", escaped(&words));
}

/// Braille's dots as points, which a round pen makes dots. The dots of a cell stand evenly with those of its
/// neighbours.
fn braille(path: &mut String, c: char, x: f64, y: f64) -> bool {
    let Some(bits) = (c as u32).checked_sub(0x2800).filter(|bits| *bits < 256) else { return false };
    for (bit, (column, row)) in DOTS.into_iter().enumerate() {
        if (bits >> bit) & 1 == 1 {
            let x = x + CELL.0 * (0.25 + 0.5 * f64::from(column));
            let y = y + CELL.1 * (0.125 + 0.25 * f64::from(row));
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
    }
    true
}

/// Lines and rounded corners.
fn boxed(path: &mut String, c: char, x: f64, y: f64) -> bool {
    let (width, height) = CELL;
    let (mx, my) = (x + width / 2.0, y + height / 2.0);
    let (right, bottom) = (x + width, y + height);
    let r = width / 2.0;
    let shape = match c {
        '─' => format!("M{x:.1} {my:.1}H{right:.1}"),
        '━' => format!("M{x:.1} {my:.1}H{right:.1}M{x:.1} {:.1}H{right:.1}", my + 1.0),
        '│' => format!("M{mx:.1} {y:.1}V{bottom:.1}"),
        '╭' | '┌' => format!("M{mx:.1} {bottom:.1}V{:.1}Q{mx:.1} {my:.1} {right:.1} {my:.1}", my + r),
        '╮' | '┐' => format!("M{mx:.1} {bottom:.1}V{:.1}Q{mx:.1} {my:.1} {x:.1} {my:.1}", my + r),
        '╰' | '└' => format!("M{mx:.1} {y:.1}V{:.1}Q{mx:.1} {my:.1} {right:.1} {my:.1}", my - r),
        '╯' | '┘' => format!("M{mx:.1} {y:.1}V{:.1}Q{mx:.1} {my:.1} {x:.1} {my:.1}", my - r),
        '┤' => format!("M{mx:.1} {y:.1}V{bottom:.1}M{x:.1} {my:.1}H{mx:.1}"),
        '├' => format!("M{mx:.1} {y:.1}V{bottom:.1}M{mx:.1} {my:.1}H{right:.1}"),
        '┬' => format!("M{x:.1} {my:.1}H{right:.1}M{mx:.1} {my:.1}V{bottom:.1}"),
        '┴' => format!("M{x:.1} {my:.1}H{right:.1}M{mx:.1} {y:.1}V{my:.1}"),
        '┼' => format!("M{x:.1} {my:.1}H{right:.1}M{mx:.1} {y:.1}V{bottom:.1}"),
        _ => return false,
    };
    path.push_str(&shape);
    true
}

/// Blocks that fill a cell from below or from the left.
fn block(path: &mut String, c: char, x: f64, y: f64) -> bool {
    let (width, height) = CELL;
    let code = c as u32;
    let (left, top, width, height) = match code {
        // ▁ … █
        0x2581..=0x2588 => {
            let filled = height * f64::from(code - 0x2580) / 8.0;
            (x, y + height - filled, width, filled)
        }
        // ▉ … ▏
        0x2589..=0x258f => (x, y, width * f64::from(0x2590 - code) / 8.0, height),
        _ => return false,
    };
    let _ = write!(path, "M{left:.1} {top:.1}h{width:.1}v{height:.1}h-{width:.1}z");
    true
}

/// Whether terminals give it two cells; enough for what our screens show.
fn is_wide(c: char) -> bool {
    matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use hydra_pty::vt100::Parser;

    use super::*;

    fn picture(bytes: &str) -> String {
        let mut parser = Parser::new(2, 20, 0);
        parser.process(bytes.as_bytes());
        draw(parser.screen(), "a <title>")
    }

    #[test]
    fn letters_keep_their_place_and_their_style() {
        let svg = picture("\u{1b}[?25l\u{1b}[1;32ma < b\u{1b}[m   \u{1b}[2mdim");
        assert!(svg.contains("<title>a &lt;title&gt;</title>"), "{svg}");
        let bold =
            "textLength=\"42.1\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#8fd694\" font-weight=\"bold\">a &lt; b<";
        assert!(svg.contains(bold), "{svg}");
        assert!(svg.contains("<text x=\"67.4\"") && svg.contains("opacity=\".58\">dim<"), "{svg}");
    }

    #[test]
    fn charts_boxes_and_gauges_are_shapes() {
        let svg = picture("\u{1b}[?25l⣿╭─█\u{1b}[7m  \u{1b}[m");
        assert_eq!(svg.matches("h0").count(), 8, "{svg}");
        assert!(svg.contains("stroke-width=\"1.2\"") && svg.contains("v18.0h-8.4z"), "{svg}");
        assert!(svg.contains(&format!("fill=\"{INK}\"/>")) && !svg.contains('⣿') && !svg.contains('█'), "{svg}");
    }

    #[test]
    fn colours_beyond_the_sixteen() {
        assert_eq!([cube(16), cube(231), cube(196), cube(232)], ["#000000", "#ffffff", "#ff0000", "#080808"]);
    }
}
