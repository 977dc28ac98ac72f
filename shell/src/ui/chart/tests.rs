//! What the chart looks like, how much it keeps, and any data at any size.

use proptest::prelude::*;

use super::*;
use crate::ui::testkit::{draw_within, styles_of, text_of};

fn names() -> Names {
    Names {
        raw: "loss".into(),
        second: "held-out".into(),
        x: "step".into(),
        mark: String::new(),
        empty: "no step yet".into(),
    }
}

/// A run that learns: from 9.2 towards 3, with noise.
fn run(steps: u32) -> Chart {
    let mut chart = Chart::new(names());
    for step in 0..steps {
        let noise = f64::from(step * 7_919 % 101) / 101.0 - 0.5;
        chart.raw.push(f64::from(step), 3.0 + 6.2 * (-f64::from(step) / 400.0).exp() + noise);
        if step % 200 == 0 {
            chart.second.push(f64::from(step), 3.3 + 6.0 * (-f64::from(step) / 400.0).exp());
            chart.mark(f64::from(step));
        }
    }
    chart
}

#[test]
fn pictures() {
    for (width, height) in [(80, 16), (40, 10), (20, 4)] {
        let buffer = draw_within(width, height, |buffer, area| run(2_000).draw(buffer, area, Theme::colour()));
        insta::assert_snapshot!(format!("chart_{width}x{height}"), text_of(&buffer));
    }
    let buffer = draw_within(40, 6, |buffer, area| run(100).draw(buffer, area, Theme::colour()));
    insta::assert_snapshot!("chart_styles", styles_of(&buffer));
    let buffer = draw_within(40, 5, |buffer, area| Chart::new(names()).draw(buffer, area, Theme::plain()));
    insta::assert_snapshot!("chart_empty", text_of(&buffer));
}

/// A loss that fell from its first steps' height long ago: what it does since fills the chart.
#[test]
fn an_early_fall_does_not_squeeze_the_rest() {
    let mut chart = Chart::new(names());
    for step in 0..200 {
        let early = 8.0 * (-f64::from(step) / 3.0).exp();
        chart.raw.push(f64::from(step), 1.6 + 0.3 * (-f64::from(step) / 100.0).exp() + early);
    }
    let buffer = draw_within(60, 12, |buffer, area| chart.draw(buffer, area, Theme::plain()));
    insta::assert_snapshot!("chart_early", text_of(&buffer));
}

/// A held-out loss far above a training loss, told once at the beginning so far.
#[test]
fn what_the_legend_tells_is_in_the_chart() {
    let mut chart = Chart::new(names());
    chart.second.push(0.0, 2.1);
    for step in 0..40 {
        chart.raw.push(f64::from(step), 0.06 + 0.01 * f64::from(step % 3));
    }
    let buffer = draw_within(60, 12, |buffer, area| chart.draw(buffer, area, Theme::plain()));
    let drawn = text_of(&buffer);
    assert_eq!(drawn.matches('◆').count(), 2, "in the legend and at its place: {drawn}");
    assert!(!drawn.contains('↑'), "{drawn}");
}

/// What drawing costs goes with the buckets; `cargo xtask bench ui` has the time.
#[test]
fn a_million_points_are_drawn_from_few_buckets() {
    let mut chart = Chart::new(names());
    for step in 0..1_000_000 {
        chart.raw.push(f64::from(step), 3.0 + 6.0 * (-f64::from(step) / 1e5).exp() + f64::from(step % 7) * 0.1);
        if step % 100 == 0 {
            chart.second.push(f64::from(step), 3.5);
        }
    }
    assert!(chart.raw.iter().count() < 25_000 && chart.second.iter().count() < 10_000);
    let buffer = draw_within(120, 40, |buffer, area| chart.draw(buffer, area, Theme::colour()));
    let drawn = text_of(&buffer);
    // From the first point, near 9, to the last.
    assert!(drawn.contains("0–1.0M") && drawn.contains("held-out 3.500"), "{drawn}");
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..10.0f64, any::<f64>(), Just(f64::NAN), Just(1e15), Just(-1e15), Just(2.0)]
}

proptest! {
    #[test]
    fn any_data_at_any_size(
        raw in proptest::collection::vec((values(), values()), 0..60),
        second in proptest::collection::vec((values(), values()), 0..10),
        marks in proptest::collection::vec(values(), 0..10),
        smoothing in values(),
        width in 0u16..300, height in 0u16..80, name in "\\PC{0,20}",
    ) {
        let mut chart = Chart::new(Names { raw: name, ..names() });
        chart.smoothing = smoothing;
        for (x, y) in raw {
            chart.raw.push(x, y);
        }
        for (x, y) in second {
            chart.second.push(x, y);
        }
        for x in marks {
            chart.mark(x);
        }
        draw_within(width, height, |buffer, area| chart.draw(buffer, area, Theme::colour()));
    }
}
