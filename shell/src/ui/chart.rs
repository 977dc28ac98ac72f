//! The loss chart: raw points, their smoothed line and a second series in braille, with marks on the axis.
//!
//! Without colours the three still differ: raw points are scattered dots, the smoothed one is a line, the second
//! series has diamonds. The value axis keeps still while the data stay in it; that memory is the only thing that
//! drawing changes.

use std::cell::Cell;
use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::series::{Series, Smooth};
use super::text::{self, Align};
use super::theme::Theme;

mod axis;
mod canvas;

pub use axis::Axis;
use canvas::Canvas;

/// Marks that are kept.
const MARKS: usize = 1_024;
/// Cells of the numbers on the value axis, always the same so that the plot does not move.
const LABELS: u16 = 7;

/// The first part of the places: where nearly all of the height would be for it, as it is for a loss that falls from its
/// first steps' heights, the axis is made for the rest.
const EARLY: f64 = 0.2;
/// Nearly all: the rest would have less than this share of the height.
const SQUEEZED: f64 = 1.0 / 3.0;
/// Buckets that tell what the rest is.
const TELLING: usize = 8;

/// A chart with its data.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// The measurements: every step's loss.
    pub raw: Series,
    /// Rarer ones on the same axes: the held-out loss.
    pub second: Series,
    /// Points that the line is smoothed over; 1 or less draws no line but that of the raw points.
    pub smoothing: f64,
    names: Names,
    marks: VecDeque<f64>,
    axis: Cell<Option<Axis>>,
}

/// What the chart calls things; own text or cleaned.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The measurements: `loss`.
    pub raw: String,
    /// The second series: `held-out`.
    pub second: String,
    /// The places: `step`.
    pub x: String,
    /// The marks on the axis: `paid`.
    pub mark: String,
    /// In place of an empty chart: `no step yet`.
    pub empty: String,
}

impl Chart {
    /// An empty chart over the whole run, smoothed over 50 points.
    pub fn new(names: Names) -> Self {
        Self { names, smoothing: 50.0, ..Self::default() }
    }

    /// Marks a place on the axis, such as that of a payment.
    pub fn mark(&mut self, x: f64) {
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(x);
    }

    /// Forgets the data: a new run.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.second.clear();
        self.marks.clear();
        self.axis.set(None);
    }

    /// The first and the last place, or nothing without data.
    fn places(&self) -> Option<(f64, f64)> {
        let both = || [&self.raw, &self.second].into_iter();
        let last = both().filter_map(Series::last).map(|(x, _)| x).reduce(f64::max)?;
        let first = both().filter_map(Series::first_x).reduce(f64::min)?;
        Some((first, last.max(first)))
    }

    /// Draws into `area`, legend included.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme) {
        let area = area.intersection(buffer.area);
        if area.is_empty() {
            return;
        }
        let Some(places) = self.places() else {
            let row = Rect { y: area.y + area.height / 2, height: 1, ..area };
            let inset = row.width.saturating_sub(text::width(&self.names.empty) as u16) / 2;
            text::put(buffer, area, (row.x + inset, row.y), &self.names.empty, row.width - inset, theme.dim());
            return;
        };
        let framed = area.height >= 5;
        if framed {
            self.legend(buffer, area, places, theme);
        }
        let labels = labels(area);
        let plot = Rect {
            x: area.x + labels,
            y: area.y + u16::from(framed),
            width: area.width - labels,
            height: area.height - 2 * u16::from(framed),
        };
        let Some((axis, above)) = self.fit(plot.height, places) else { return };
        // A single place needs a width too.
        let places = (places.0, if places.1 > places.0 { places.1 } else { places.0 + 1.0 });
        if labels > 0 {
            draw_labels(buffer, area, plot, &axis, theme);
            if above {
                // Earlier values lie above.
                buffer[(plot.x - 1, plot.y)].set_symbol("↑").set_style(theme.chart_axis());
            }
        }
        self.plot(buffer, plot, places, &axis, theme);
        if framed {
            self.draw_marks(buffer, area, plot, places, theme);
        }
    }

    /// The axis for what is shown, and whether early values lie above it; remembers it.
    fn fit(&self, rows: u16, (first, last): (f64, f64)) -> Option<(Axis, bool)> {
        let begins = first + EARLY * (last - first);
        let (mut all, mut later, mut telling) = (None, None, 0);
        for bucket in self.raw.iter().chain(self.second.iter()) {
            widen(&mut all, bucket.mean);
            if bucket.from >= begins {
                widen(&mut later, bucket.mean);
                telling += 1;
            }
        }
        // What the legend tells lies in the chart.
        let told = [&self.raw, &self.second].into_iter().filter_map(Series::last);
        let told = told.filter(|_| telling > 0);
        told.for_each(|(_, value)| widen(&mut later, value));
        let (low, highest) = all?;
        let high = later.map_or(highest, |(_, high)| high);
        let squeezed = telling >= TELLING && high - low < SQUEEZED * (highest - low);
        let axis = Axis::fit(self.axis.get(), low, if squeezed { high } else { highest }, rows);
        self.axis.set(Some(axis));
        Some((axis, axis.place(highest) > 1.0))
    }

    fn plot(&self, buffer: &mut Buffer, plot: Rect, (from, to): (f64, f64), axis: &Axis, theme: Theme) {
        let mut raw = Canvas::new(plot.width, plot.height);
        let mut line = Canvas::new(plot.width, plot.height);
        let mut second = Canvas::new(plot.width, plot.height);
        let column = |x: f64| raw_place((x - from) / (to - from), line_width(plot));
        let mut smooth = Smooth::over(self.smoothing);
        for bucket in self.raw.iter() {
            let mean = smooth.next(bucket.mean, bucket.count);
            let x = column(f64::midpoint(bucket.from, bucket.to));
            raw.dot(x, axis.place(bucket.mean));
            if bucket.count > 1 {
                raw.dot(x, axis.place(bucket.min));
                raw.dot(x, axis.place(bucket.max));
            }
            line.line_to(x, axis.place(mean));
        }
        let mut points = Vec::new();
        for bucket in self.second.iter() {
            let (x, place) = (column(bucket.to), axis.place(bucket.mean));
            second.line_to(x, place);
            points.push((x, place));
        }
        for (canvas, style) in
            [(&raw, theme.chart_raw()), (&second, theme.chart_second()), (&line, theme.chart_smooth())]
        {
            canvas.draw(buffer, plot, style);
        }
        // Diamonds only where they stay apart; a dense second series is a line.
        for (x, place) in points.into_iter().filter(|_| self.is_sparse(plot.width)) {
            if let Some((column, row)) = second.cell(x, place) {
                let cell = &mut buffer[(plot.x + column, plot.y + row)];
                cell.reset();
                cell.set_symbol("◆").set_style(theme.chart_second());
            }
        }
    }

    /// Whether the points of the second series have room for a sign each, in a plot so wide.
    fn is_sparse(&self, width: u16) -> bool {
        self.second.iter().count() <= usize::from(width) / 3
    }

    fn legend(&self, buffer: &mut Buffer, area: Rect, (from, last): (f64, f64), theme: Theme) {
        let mut x = area.x;
        let mut put = |sign: &str, style: Style, words: &str| {
            let left = usize::from(area.right().saturating_sub(x));
            // A half shown word helps nobody.
            if text::width(sign) + 1 + text::width(words) <= left {
                x += text::put(buffer, area, (x, area.y), sign, area.width, style) + 1;
                x += text::put(buffer, area, (x, area.y), words, area.width, theme.text()) + 2;
            }
        };
        if let Some((_, value)) = self.raw.last() {
            put("⠢⠔", theme.chart_raw(), &format!("{} {value:.3}", text::clean(&self.names.raw)));
        }
        if let Some(value) = self.smoothed().filter(|_| self.smoothing > 1.0) {
            put("━", theme.chart_smooth(), &format!("smooth {value:.3}"));
        }
        if let Some((_, value)) = self.second.last() {
            let sign = if self.is_sparse(area.width - labels(area)) { "◆" } else { "─" };
            put(sign, theme.chart_second(), &format!("{} {value:.3}", text::clean(&self.names.second)));
        }
        if !self.marks.is_empty() && !self.names.mark.is_empty() {
            put("▲", theme.chart_mark(), &text::clean(&self.names.mark));
        }
        let name = text::clean(&self.names.x);
        let range = if from >= last {
            format!("{name} {}", text::short(from))
        } else if text::short(from) == text::short(last) {
            // Steps late in a run, of which both would be 2.0k.
            format!("{name} {from:.0}–{last:.0}")
        } else {
            format!("{name} {}–{}", text::short(from), text::short(last))
        };
        let cells = text::width(&range) as u16;
        if x + cells <= area.right() {
            text::put(buffer, area, (area.right() - cells, area.y), &range, cells, theme.dim());
        }
    }

    /// The smoothed value at the newest point.
    pub fn smoothed(&self) -> Option<f64> {
        let mut smooth = Smooth::over(self.smoothing);
        self.raw.iter().map(|bucket| smooth.next(bucket.mean, bucket.count)).last()
    }

    fn draw_marks(&self, buffer: &mut Buffer, area: Rect, plot: Rect, (from, to): (f64, f64), theme: Theme) {
        let y = plot.bottom();
        if y >= area.bottom() || plot.is_empty() {
            return;
        }
        for x in plot.left()..plot.right() {
            buffer[(x, y)].set_symbol("─").set_style(theme.chart_axis());
        }
        for mark in self.marks.iter().filter(|mark| (from..=to).contains(*mark)) {
            let x = raw_place((mark - from) / (to - from), line_width(plot)) / 2;
            if x < plot.width {
                buffer[(plot.x + x, y)].reset();
                buffer[(plot.x + x, y)].set_symbol("▲").set_style(theme.chart_mark());
            }
        }
    }
}

fn widen(range: &mut Option<(f64, f64)>, value: f64) {
    *range = Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
}

/// Cells for the numbers on the value axis; a narrow chart has none, nor one whose only number would be the lowest.
fn labels(area: Rect) -> u16 {
    if area.width >= 24 && area.height > 1 { LABELS } else { 0 }
}

/// Dots side by side in a plot.
fn line_width(plot: Rect) -> u16 {
    plot.width.saturating_mul(2)
}

/// The column of dots for a share of the width.
fn raw_place(share: f64, dots: u16) -> u16 {
    (share * f64::from(dots.saturating_sub(1))).round().clamp(0.0, f64::from(u16::MAX)) as u16
}

fn draw_labels(buffer: &mut Buffer, area: Rect, plot: Rect, axis: &Axis, theme: Theme) {
    if plot.height == 0 {
        return;
    }
    for y in plot.top()..plot.bottom() {
        buffer[(plot.x - 1, y)].set_symbol("│").set_style(theme.chart_axis());
    }
    for (row, tick) in axis.ticks().filter(|(row, _)| *row < plot.height) {
        let label = text::pad(&axis.label(tick), usize::from(LABELS - 1), Align::Right);
        let y = plot.bottom() - 1 - row;
        text::put(buffer, area, (area.x, y), &label, LABELS - 1, theme.chart_axis());
        buffer[(plot.x - 1, y)].set_symbol("┤").set_style(theme.chart_axis());
    }
}

#[cfg(test)]
mod tests;
