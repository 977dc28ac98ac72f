//! Measurements over a whole run in bounded memory: the recent ones in full, older ones at ever halved resolution.
//!
//! Level 0 has single points. When a level holds more than [`LEVEL`] buckets, its two oldest become one of the next
//! level; a million points are kept as about twenty thousand buckets. Means, extremes and counts stay exact.

use std::collections::VecDeque;

/// Buckets of one level.
pub const LEVEL: usize = 2_048;
/// Values beyond this are no measurement; keeps sums and axes finite.
const ABSURD: f64 = 1e15;

/// One point, or several neighbours as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The first point's place.
    pub from: f64,
    /// The last point's place.
    pub to: f64,
    /// Mean of the values.
    pub mean: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Points in it.
    pub count: u64,
}

impl Bucket {
    fn with(self, later: Self) -> Self {
        let count = self.count + later.count;
        let share = later.count as f64 / count as f64;
        Self {
            from: self.from,
            to: later.to,
            mean: self.mean + (later.mean - self.mean) * share,
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            count,
        }
    }
}

/// Values over a place that never goes back (steps, versions, seconds).
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Finest first; within a level oldest first.
    levels: Vec<VecDeque<Bucket>>,
    last: Option<(f64, f64)>,
}

fn is_absurd(number: f64) -> bool {
    number.is_nan() || number.abs() > ABSURD
}

impl Series {
    /// Adds a point. One that is no number is left out; one whose place lies before the last stands at the last.
    pub fn push(&mut self, x: f64, y: f64) {
        if is_absurd(x) || is_absurd(y) {
            return;
        }
        let x = self.last.map_or(x, |(last, _)| x.max(last));
        self.last = Some((x, y));
        let mut carried = Some(Bucket { from: x, to: x, mean: y, min: y, max: y, count: 1 });
        let mut level = 0;
        while let Some(bucket) = carried.take() {
            if level == self.levels.len() {
                self.levels.push(VecDeque::new());
            }
            let buckets = &mut self.levels[level];
            buckets.push_back(bucket);
            if buckets.len() > LEVEL
                && let (Some(first), Some(second)) = (buckets.pop_front(), buckets.pop_front())
            {
                carried = Some(first.with(second));
            }
            level += 1;
        }
    }

    /// Gives the newest point another value: it was measured again.
    pub fn correct(&mut self, y: f64) {
        if let (false, Some((_, last)), Some(newest)) =
            (is_absurd(y), &mut self.last, self.levels.first_mut().and_then(VecDeque::back_mut))
        {
            *last = y;
            // The newest bucket of the finest level holds one point.
            (newest.mean, newest.min, newest.max) = (y, y, y);
        }
    }

    /// Everything, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Bucket> {
        self.levels.iter().rev().flatten()
    }

    /// The first place.
    pub fn first_x(&self) -> Option<f64> {
        self.iter().next().map(|bucket| bucket.from)
    }

    /// The newest point: place and value.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.last
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Forgets everything: a new run.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The mean begins over this part of the points so far, until that is its span.
const YOUNG: f64 = 0.15;

/// An exponential mean over about `span` points, without the pull of its start. Early on it is one over the last
/// seventh of the points: with Adam's bias correction alone it would be the plain mean of them all, far above a loss
/// that is falling.
#[derive(Debug, Clone, Copy)]
pub struct Smooth {
    span: f64,
    mean: f64,
    /// Points so far.
    seen: f64,
}

impl Smooth {
    /// Over about `span` points; 1 or less leaves values as they are.
    pub fn over(span: f64) -> Self {
        Self { span: span.clamp(1.0, 1e9), mean: 0.0, seen: 0.0 }
    }

    /// The mean after `count` points with mean `value`.
    pub fn next(&mut self, value: f64, count: u64) -> f64 {
        let first = self.seen == 0.0;
        self.seen += count as f64;
        let keep = 1.0 - 1.0 / self.span.min(YOUNG * self.seen).max(1.0);
        let keep = if first {
            0.0
        } else if count == 1 {
            keep
        } else {
            keep.powf(count as f64)
        };
        self.mean += (value - self.mean) * (1.0 - keep);
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_million_points_stay_small_and_recent_ones_whole() {
        let mut series = Series::default();
        for x in 0..1_000_000 {
            series.push(f64::from(x), f64::from(x % 10));
        }
        let kept: Vec<&Bucket> = series.iter().collect();
        assert!(kept.len() < 12 * LEVEL, "{}", kept.len());
        assert_eq!(kept.iter().map(|bucket| bucket.count).sum::<u64>(), 1_000_000);
        assert!(kept[kept.len() - LEVEL..].iter().all(|bucket| bucket.count == 1));
        assert!(kept.windows(2).all(|pair| pair[0].to < pair[1].from && pair[0].count >= pair[1].count));
        assert_eq!((series.first_x(), series.last()), (Some(0.0), Some((999_999.0, 9.0))));
    }

    #[test]
    fn what_is_no_measurement_is_left_out() {
        let mut series = Series::default();
        for (x, y) in [(f64::NAN, 1.0), (1.0, f64::INFINITY), (1.0, 1e300), (5.0, 1.0), (3.0, 2.0)] {
            series.push(x, y);
        }
        assert_eq!(
            series.iter().map(|bucket| (bucket.from, bucket.mean)).collect::<Vec<_>>(),
            [(5.0, 1.0), (5.0, 2.0)]
        );
    }

    #[test]
    fn the_newest_point_is_corrected_alone() {
        let mut series = Series::default();
        series.correct(1.0);
        assert!(series.is_empty());
        for n in 0..3 * LEVEL {
            series.push(n as f64, 5.0);
        }
        series.correct(4.0);
        series.correct(f64::NAN);
        assert_eq!(series.last(), Some((3.0 * LEVEL as f64 - 1.0, 4.0)));
        let least: Vec<_> = series.iter().map(|bucket| bucket.min).collect();
        assert_eq!((least.iter().filter(|min| **min < 5.0).count(), least.last()), (1, Some(&4.0)));
    }

    #[test]
    fn smoothing_starts_without_pull_and_takes_buckets() {
        let mut smooth = Smooth::over(10.0);
        assert!((smooth.next(5.0, 1) - 5.0).abs() < 1e-12);
        smooth.next(5.0, 99);
        let mut whole = smooth;
        let once = whole.next(3.0, 50);
        let many = (0..50).map(|_| smooth.next(3.0, 1)).last().unwrap();
        assert!((once - many).abs() < 1e-9 && (once - 3.0).abs() < 0.02, "{once} {many}");
        let mut raw = Smooth::over(0.0);
        assert_eq!([raw.next(2.0, 1).to_bits(), raw.next(7.0, 3).to_bits()], [2f64.to_bits(), 7f64.to_bits()]);
    }

    #[test]
    fn a_young_run_is_followed() {
        // A loss that halves every twenty steps.
        let mut smooth = Smooth::over(50.0);
        let loss = |step: i32| 8.0 * 0.5f64.powf(f64::from(step) / 20.0);
        for step in 0..60 {
            let (mean, now) = (smooth.next(loss(step), 1), loss(step));
            assert!(mean - now < 0.5, "step {step}: {mean} beside {now}");
        }
        assert!(smooth.next(loss(60), 1) < 1.4 * loss(60), "the plain mean would be three times as much");
    }

    proptest! {
        #[test]
        fn means_stay_exact(values in proptest::collection::vec(-100.0..100.0f64, 1..9_000)) {
            let mut series = Series::default();
            for (x, y) in values.iter().enumerate() {
                series.push(x as f64, *y);
            }
            let total: f64 = series.iter().map(|bucket| bucket.mean * bucket.count as f64).sum();
            prop_assert!((total - values.iter().sum::<f64>()).abs() < 1e-6);
            prop_assert!(series.iter().all(|bucket| bucket.min <= bucket.mean + 1e-9 && bucket.mean <= bucket.max + 1e-9));
        }
    }
}
