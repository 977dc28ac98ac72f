//! What updates of others usually gain: what one update is compared with.

use super::Useful;
use crate::hub::findings::{Gain, Sample};

/// What updates usually gain, at one task's rate.
pub(super) struct Usual {
    pub own: f64,
    /// How far a single sample's mean may be off.
    pub error: f64,
    /// How much a sample's windows differ.
    pub deviation: f64,
    /// The same on each half of the windows.
    pub halves: [Half; 2],
    pub held_out: f64,
    /// Whether that is known from updates of the same version.
    pub fresh: bool,
}

impl Usual {
    pub fn of(known: &[&Useful], rate: Option<f32>, fresh: bool) -> Option<Self> {
        let middle = |of: &dyn Fn(&Gain) -> f64| median(known.iter().map(|one| one.part(rate) * of(&one.gain)));
        let half = |half: usize| {
            let of = move |gain: &Gain| gain.halves[half];
            Some(Half { mean: middle(&|gain| of(gain).mean)?, error: middle(&|gain| error(&of(gain)))? })
        };
        let held_out = known.iter().filter(|one| one.gain.held_out.count > 0);
        Some(Self {
            own: middle(&|gain| gain.own().mean)?,
            error: middle(&|gain| error(&gain.own()))?,
            deviation: middle(&|gain| gain.own().deviation)?,
            halves: [half(0)?, half(1)?],
            held_out: median(held_out.map(|one| one.part(rate) * one.gain.held_out.mean)).unwrap_or(0.0),
            fresh,
        })
    }
}

/// What updates usually gain on one half of their windows, and how far a single sample's mean may be off.
pub(super) struct Half {
    pub mean: f64,
    pub error: f64,
}

/// The standard error of a sample's mean; endless for a single value.
pub(super) fn error(sample: &Sample) -> f64 {
    if sample.count < 2 { f64::INFINITY } else { sample.deviation / f64::from(sample.count).sqrt() }
}

/// The middle value, the lower one of two; nothing of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
