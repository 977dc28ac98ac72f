//! A value axis that does not jitter: round ticks, and a range that is kept until the data leave it or shrink in it.

/// A range of values with the distance of its ticks; both ends are ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Between ticks: 1, 2 or 5 times a power of ten.
    pub step: f64,
    ticks: u16,
}

impl Axis {
    /// The axis for data from `low` to `high` with at most about `ticks` steps; `before` stays where it still serves.
    pub fn fit(before: Option<Self>, low: f64, high: f64, ticks: u16) -> Self {
        let ticks = ticks.max(1);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        if let Some(axis) = before {
            let inside = axis.low <= low && high <= axis.high;
            // A flat line shrinks in any range; it may move into the lower or upper part without a new axis.
            let fills = (high - low) * 2.5 >= axis.high - axis.low || axis.step <= least_step(low, high);
            if inside && fills && axis.ticks == ticks {
                return axis;
            }
        }
        let step = round_up((high - low) / f64::from(ticks)).max(least_step(low, high));
        let (mut bottom, mut top) = ((low / step).floor() * step, (high / step).ceil() * step);
        if bottom >= top {
            (bottom, top) = (bottom - step, top + step);
        }
        Self { low: bottom, high: top, step, ticks }
    }

    /// The ticks, lowest first.
    pub fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round().clamp(0.0, 64.0) as u32;
        let (low, step) = (self.low, self.step);
        (0..=count).map(move |at| low + f64::from(at) * step)
    }

    /// Where `value` stands: 0 at the lower end, 1 at the upper.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick's label, with as many decimals as its step needs.
    pub fn label(&self, tick: f64) -> String {
        if self.high.abs().max(self.low.abs()) >= 10_000.0 {
            return super::super::text::short(tick);
        }
        let decimals = (-self.step.log10()).ceil().clamp(0.0, 4.0) as usize;
        // Adding zero turns -0 into 0.
        format!("{:.decimals$}", (tick / self.step).round() * self.step + 0.0)
    }
}

/// The finest step worth showing beside values of this size.
fn least_step(low: f64, high: f64) -> f64 {
    round_up((low.abs().max(high.abs()) * 1e-3).max(1e-4))
}

/// The least of 1, 2 and 5 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1e-4;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::fit(None, 3.12, 9.2, 5);
        assert_eq!(axis.ticks().map(|tick| axis.label(tick)).collect::<Vec<_>>(), ["2", "4", "6", "8", "10"]);
        let axis = Axis::fit(None, 3.12, 3.19, 4);
        assert_eq!(
            axis.ticks().map(|tick| axis.label(tick)).collect::<Vec<_>>(),
            ["3.12", "3.14", "3.16", "3.18", "3.20"]
        );
    }

    #[test]
    fn small_moves_keep_the_axis() {
        let mut axis = Axis::fit(None, 2.9, 9.1, 5);
        let first = axis;
        for step in 0..100 {
            axis = Axis::fit(Some(axis), 2.9 - f64::from(step) * 0.005, 9.1 - f64::from(step) * 0.02, 5);
            assert_eq!(axis, first, "{step}");
        }
        assert_ne!(Axis::fit(Some(axis), 2.9, 3.1, 5), first, "data that shrank get a closer look");
    }

    proptest! {
        #[test]
        fn any_data_fit(low in -1e15..1e15f64, span in prop_oneof![Just(0.0), 0.0..1e-6, 0.0..1e15f64], ticks in 0u16..40) {
            let high = low + span;
            let axis = Axis::fit(None, low, high, ticks);
            prop_assert!(axis.low <= low && high <= axis.high && axis.low < axis.high, "{axis:?}");
            prop_assert!(axis.ticks().count() <= usize::from(ticks.max(1)) + 3, "{axis:?}");
            prop_assert_eq!(Axis::fit(Some(axis), low, high, ticks), axis);
        }
    }
}
