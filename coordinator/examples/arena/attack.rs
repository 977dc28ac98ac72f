//! What attackers hand in. Each has three of them, as a group of one mind would: the second and third make the same
//! thing harder to recognise where that is possible.

use hydra_core::codec::Codec;
use hydra_core::merge;
use hydra_core::rng::Rng;

/// An attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// The reversed update.
    Flip,
    /// Ten times that.
    FlipTen,
    /// Random numbers as long as an honest update.
    Noise,
    /// Nothing.
    Zero,
    /// Numbers that are none.
    NotANumber,
    /// The own update of the task before.
    Replay,
    /// What another worker has just handed in.
    Copy,
    /// The step that the coordinator broadcast last.
    Broadcast,
    /// Honest, but only half the steps.
    Half,
    /// Trained from the version five before the task's.
    Stale,
    /// An update of another model.
    Shape,
}

impl Attack {
    pub const ALL: [Self; 11] = [
        Self::Flip,
        Self::FlipTen,
        Self::Noise,
        Self::Zero,
        Self::NotANumber,
        Self::Replay,
        Self::Copy,
        Self::Broadcast,
        Self::Half,
        Self::Stale,
        Self::Shape,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Flip => "sign-flip ×1",
            Self::FlipTen => "sign-flip ×10",
            Self::Noise => "noise at honest norm",
            Self::Zero => "zero update",
            Self::NotANumber => "NaN",
            Self::Replay => "replay of own",
            Self::Copy => "copy of another's",
            Self::Broadcast => "last broadcast returned",
            Self::Half => "half the steps",
            Self::Stale => "stale version",
            Self::Shape => "wrong shape",
        }
    }

    /// Whether the attacker has to train for it at all.
    pub fn trains(self) -> bool {
        matches!(self, Self::Flip | Self::FlipTen | Self::Half | Self::Stale)
    }
}

/// What an attacker can lay hands on.
pub struct Loot<'a> {
    /// Its own training of this task, if the attack trains.
    pub own: Option<Vec<f32>>,
    /// What it handed in for the task before.
    pub before: Option<&'a [f32]>,
    /// The honest update that came last.
    pub others: Option<&'a [f32]>,
    /// The last step.
    pub step: Option<&'a [f32]>,
}

/// The numbers that attacker `place` (0, 1 or 2) hands in; nothing if it has nothing to begin with and must work.
pub fn forge(attack: Attack, place: usize, params: usize, loot: Loot<'_>, rng: &mut Rng) -> Option<Vec<f32>> {
    let norm = loot.others.map_or(1.0, merge::norm);
    match attack {
        Attack::Flip => Some(scaled(&loot.own?, -1.0)),
        Attack::FlipTen => Some(scaled(&loot.own?, -10.0)),
        Attack::Noise => Some(noise(params, norm, rng)),
        Attack::Zero => Some(vec![0.0; params]),
        Attack::NotANumber => Some(vec![f32::NAN; params]),
        Attack::Replay => Some(disguised(loot.before?, place, rng)),
        Attack::Copy => Some(disguised(loot.others?, place, rng)),
        Attack::Broadcast => Some(disguised(loot.step?, place, rng)),
        Attack::Half | Attack::Stale => loot.own,
        Attack::Shape => Some(loot.others.map_or_else(|| vec![1e-3; params / 2], |other| other[..params / 2].to_vec())),
    }
}

/// The same as it is, a tenth shorter, or with noise of a fifth of its length.
fn disguised(values: &[f32], place: usize, rng: &mut Rng) -> Vec<f32> {
    match place {
        0 => values.to_vec(),
        1 => scaled(values, 0.9),
        _ => {
            let noise = noise(values.len(), 0.2 * merge::norm(values), rng);
            values.iter().zip(noise).map(|(value, noise)| value + noise).collect()
        }
    }
}

fn scaled(values: &[f32], factor: f32) -> Vec<f32> {
    values.iter().map(|value| factor * value).collect()
}

fn noise(params: usize, norm: f64, rng: &mut Rng) -> Vec<f32> {
    let draws: Vec<f32> = (0..params).map(|_| rng.normal() as f32).collect();
    let factor = (norm / merge::norm(&draws)) as f32;
    scaled(&draws, factor)
}

/// An update's numbers as others see them.
pub fn seen(codec: Codec, bytes: &[u8], params: usize) -> Option<Vec<f32>> {
    codec.decode(bytes, params).ok()
}
