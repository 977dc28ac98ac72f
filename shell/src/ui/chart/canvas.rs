//! A grid of braille dots, two by four in a cell.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Unicode's bit of each dot, by row and column in the cell.
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The sign without a dot; the others follow in the order of their bits.
const BLANK: u32 = 0x2800;

/// Dots to be drawn; heights are shares from 0 (bottom) to 1 (top), and what lies beyond is left out.
#[derive(Debug)]
pub struct Canvas {
    columns: u16,
    rows: u16,
    cells: Vec<u8>,
    pen: Option<(u16, u16)>,
    /// Whether the last point of the line lies beyond the grid.
    beyond: bool,
}

impl Canvas {
    /// An empty grid over so many cells.
    pub fn new(columns: u16, rows: u16) -> Self {
        Self { columns, rows, cells: vec![0; usize::from(columns) * usize::from(rows)], pen: None, beyond: false }
    }

    /// The row of dots, counted from the top, of a height.
    fn row(&self, height: f64) -> Option<u16> {
        if !(0.0..=1.0).contains(&height) || self.rows == 0 {
            return None;
        }
        Some(((1.0 - height) * f64::from(self.rows * 4 - 1)).round() as u16)
    }

    /// The cell of a dot.
    pub fn cell(&self, x: u16, height: f64) -> Option<(u16, u16)> {
        let row = self.row(height)?;
        (x / 2 < self.columns).then_some((x / 2, row / 4))
    }

    /// One dot.
    pub fn dot(&mut self, x: u16, height: f64) {
        if let Some(row) = self.row(height) {
            self.set(x, row);
        }
    }

    fn set(&mut self, x: u16, row: u16) {
        let at = usize::from(row / 4) * usize::from(self.columns) + usize::from(x / 2);
        if x / 2 < self.columns
            && let Some(cell) = self.cells.get_mut(at)
        {
            *cell |= BITS[usize::from(row % 4)][usize::from(x % 2)];
        }
    }

    /// A line from the last point to this one; where one of them is beyond the grid, from or to its edge.
    pub fn line_to(&mut self, x: u16, height: f64) {
        let Some(row) = self.row(height.clamp(0.0, 1.0)) else { return };
        let beyond = !(0.0..=1.0).contains(&height);
        let hidden = beyond && (self.pen.is_none() || self.beyond);
        self.beyond = beyond;
        if hidden {
            self.pen = Some((x, row));
            return;
        }
        let (from, start) = self.pen.unwrap_or((x, row));
        self.pen = Some((x, row));
        let width = f64::from(x.saturating_sub(from)).max(1.0);
        let mut before = start;
        for column in from..=x {
            let share = if x == from { 1.0 } else { f64::from(column - from) / width };
            let here = (f64::from(start) + (f64::from(row) - f64::from(start)) * share).round() as u16;
            for dot in before.min(here)..=before.max(here) {
                self.set(column, dot);
            }
            before = here;
        }
    }

    /// Draws the cells that have dots; others stay as they are, and so do the dots of what was drawn before.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, style: Style) {
        let area = area.intersection(buffer.area);
        for y in 0..area.height.min(self.rows) {
            for x in 0..area.width.min(self.columns) {
                let dots = self.cells[usize::from(y) * usize::from(self.columns) + usize::from(x)];
                if dots == 0 {
                    continue;
                }
                let cell = &mut buffer[(area.x + x, area.y + y)];
                let before = cell.symbol().chars().next().map_or(0, u32::from);
                let before = if (BLANK..=BLANK + 0xff).contains(&before) { before } else { BLANK };
                if let Some(symbol) = char::from_u32(before | u32::from(dots)) {
                    cell.reset();
                    cell.set_char(symbol).set_style(style);
                }
            }
        }
    }
}
