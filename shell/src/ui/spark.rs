//! A line of bars, one a cell: the last values of something, for headers and table cells.

use std::collections::VecDeque;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values.
#[derive(Debug, Clone, Default)]
pub struct Spark {
    values: VecDeque<f64>,
    keep: usize,
}

impl Spark {
    /// Keeps the last `keep` values.
    pub fn new(keep: usize) -> Self {
        Self { values: VecDeque::new(), keep: keep.max(1) }
    }

    /// Adds a value; negative ones and what is no number count as nothing.
    pub fn push(&mut self, value: f64) {
        if self.values.len() == self.keep.max(1) {
            self.values.pop_front();
        }
        self.values.push_back(if value.is_finite() { value.max(0.0) } else { 0.0 });
    }

    /// The newest values as bars from zero to the largest shown, `cells` wide, newest at the right.
    pub fn bars(&self, cells: usize) -> String {
        let shown = self.values.iter().skip(self.values.len().saturating_sub(cells));
        let top = shown.clone().copied().fold(0.0, f64::max);
        let bars = shown.map(|value| match value / top {
            share if share > 0.0 => BARS[((share * 8.0).ceil() as usize).clamp(1, 8) - 1],
            _ => ' ',
        });
        let bars: String = bars.collect();
        format!("{bars:>cells$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_values() {
        let mut spark = Spark::new(4);
        assert_eq!(spark.bars(3), "   ");
        for value in [100.0, 0.0, 1.0, f64::NAN, 8.0] {
            spark.push(value);
        }
        assert_eq!(spark.bars(6), "   ▁ █");
        assert_eq!(spark.bars(1), "█");
    }
}
