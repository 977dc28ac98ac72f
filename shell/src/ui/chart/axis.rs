//! A value axis that does not jitter: round ticks, each in the middle of a row, and a range that is kept until the
//! data leave it or shrink in it.

/// Labelled rows, at most.
const TICKS: u16 = 9;
/// A range is kept while a new one would not show the data at more than twice the size.
const KEPT: f64 = 2.0;

/// Beyond this, numbers overflow on the way.
const MOST: f64 = 1e300;

/// Values over rows of cells: the lowest row and every so many rows above it are ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// The value of the lowest tick, which is the middle of the lowest row.
    pub bottom: f64,
    /// Between ticks: 1, 2, 3, 4 or 5 times a power of ten.
    pub step: f64,
    /// Rows from one tick to the next.
    every: u16,
    rows: u16,
}

impl Axis {
    /// The axis for data from `low` to `high` on so many rows; `before` stays where it still serves.
    pub fn fit(before: Option<Self>, low: f64, high: f64, rows: u16) -> Self {
        let rows = rows.max(1);
        let (low, high) = if low <= high { (low.clamp(-MOST, MOST), high.clamp(-MOST, MOST)) } else { (0.0, 1.0) };
        // The one that shows the data largest, of those whose ticks are neither too many nor too few.
        let sparsest = (rows - 1).max(1);
        let closest = rows.div_ceil(TICKS);
        let axes = (closest..=sparsest.min(3 * closest).max(closest)).map(|every| Self::with(every, low, high, rows));
        let best = axes.min_by(|one, other| one.row().total_cmp(&other.row())).expect("there is one at least");
        before
            .filter(|axis| axis.rows == rows && axis.holds(low, high) && axis.row() <= KEPT * best.row())
            .unwrap_or(best)
    }

    /// The finest axis for the data with a tick on every so many rows.
    fn with(every: u16, low: f64, high: f64, rows: u16) -> Self {
        let span = (high - low) * f64::from(every) / f64::from(rows);
        let mut step = round_up(span.max(least_step(low, high)));
        loop {
            // The lowest value may also stand in the lower half of its row. With a step that is much larger than all
            // values that is the row of zero, so this ends.
            for lowest in [low, low + step / f64::from(every) / 2.0] {
                let axis = Self { bottom: (lowest / step).floor() * step, step, every, rows };
                if axis.holds(low, high) {
                    return axis;
                }
            }
            step = round_up(step * 1.01);
        }
    }

    /// What a row stands for.
    fn row(&self) -> f64 {
        self.step / f64::from(self.every)
    }

    fn low(&self) -> f64 {
        self.bottom - self.row() / 2.0
    }

    fn high(&self) -> f64 {
        self.low() + self.row() * f64::from(self.rows)
    }

    fn holds(&self, low: f64, high: f64) -> bool {
        self.low() <= low && high <= self.high()
    }

    /// The ticks with their rows, counted from the lowest.
    pub fn ticks(&self) -> impl Iterator<Item = (u16, f64)> {
        let Self { bottom, step, every, rows } = *self;
        (0..rows).step_by(usize::from(every)).map(move |row| (row, bottom + f64::from(row / every) * step))
    }

    /// Where `value` stands: 0 at the lower edge of the lowest row, 1 at the upper edge of the highest.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low()) / (self.high() - self.low())
    }

    /// A tick's label, with as many decimals as its step needs.
    pub fn label(&self, tick: f64) -> String {
        if self.high().abs().max(self.low().abs()) >= 10_000.0 {
            return super::super::text::short(tick);
        }
        let decimals = (-self.step.log10()).ceil().clamp(0.0, 4.0) as usize;
        // Adding zero turns -0 into 0.
        format!("{:.decimals$}", (tick / self.step).round() * self.step + 0.0)
    }
}

/// The finest step worth showing beside values of this size.
fn least_step(low: f64, high: f64) -> f64 {
    (low.abs().max(high.abs()) * 1e-3).max(1e-4)
}

/// The least of 1 to 5 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn ticks(low: f64, high: f64, rows: u16) -> Vec<(u16, String)> {
        let axis = Axis::fit(None, low, high, rows);
        axis.ticks().map(|(row, tick)| (row, axis.label(tick))).collect()
    }

    fn labels(every: u16, labels: &[&str]) -> Vec<(u16, String)> {
        labels.iter().zip(0..).map(|(label, at)| (at * every, (*label).to_owned())).collect()
    }

    #[test]
    fn ticks_are_round_and_evenly_apart() {
        assert_eq!(ticks(2.1, 9.2, 4), labels(1, &["0", "3", "6", "9"]));
        assert_eq!(ticks(3.12, 9.2, 8), labels(1, &["3", "4", "5", "6", "7", "8", "9", "10"]));
        assert_eq!(ticks(3.12, 3.19, 5), labels(1, &["3.12", "3.14", "3.16", "3.18", "3.20"]));
        assert_eq!(ticks(1.8, 6.2, 20), labels(3, &["1", "2", "3", "4", "5", "6", "7"]));
    }

    #[test]
    fn small_moves_keep_the_axis() {
        let mut axis = Axis::fit(None, 2.9, 9.1, 10);
        let first = axis;
        for step in 0..100 {
            axis = Axis::fit(Some(axis), 2.9, 9.1 - f64::from(step) * 0.02, 10);
            assert_eq!(axis, first, "{step}");
        }
        assert_ne!(Axis::fit(Some(axis), 2.9, 3.1, 10), first, "data that shrank get a closer look");
    }

    proptest! {
        #[test]
        fn any_data_fit(low in prop_oneof![-10.0..10.0f64, -1e15..1e15f64], span in prop_oneof![Just(0.0), 0.0..1e-6, 0.0..10.0, 0.0..1e15f64], rows in 0u16..90) {
            let high = low + span;
            let axis = Axis::fit(None, low, high, rows);
            prop_assert!((0.0..=1.0).contains(&axis.place(low)) && (0.0..=1.0).contains(&axis.place(high)), "{axis:?}");
            prop_assert!(axis.ticks().count() <= usize::from(TICKS), "{axis:?}");
            prop_assert_eq!(Axis::fit(Some(axis), low, high, rows), axis);
        }
    }
}
