//! What an update does to the loss: on some of the windows that its task prescribes, and on some held-out text.
//!
//! Paired: each window is scored with the weights that the task began from and with a small part of the update added
//! to them, and only the difference counts. A small part, because what one worker found moves the model by about that
//! much once it is averaged with the others', and because along a short way the loss is nearly a straight line: a
//! whole update taken alone may overshoot late in training although its direction is right.
//!
//! Of a long window only a part is scored, at a place that is drawn anew each time: what is learnt about an update
//! depends on how many tokens are scored, and a coordinator may share its machine with the workers that wait for it.
//!
//! Which windows are looked at is drawn from a seed that nobody outside knows.

use std::collections::VecDeque;
use std::sync::Arc;

use hydra_core::hub::{Gain, Probe, Sample};
use hydra_core::ids::VersionNo;
use hydra_core::limits;
use hydra_core::model::Shape;
use hydra_core::rng::Rng;
use hydra_engine::{Device, EngineError, Model, offsets};

use crate::data::Dataset;

/// How much of an update is added.
const PART: f32 = 0.1;
/// Tokens scored of a window at most.
const PIECE: usize = 128;
/// Windows of held-out text for each version.
const HELD_OUT: u32 = 8;

/// Measures gains.
pub struct Prober {
    data: Arc<Dataset>,
    shape: Shape,
    device: Device,
    rng: Rng,
    /// The versions from which an update may still be taken, oldest first: until the newest is told to the hub, which comes
    /// after its row, also the one that it makes too old.
    bases: VecDeque<Base>,
}

struct Base {
    version: VersionNo,
    weights: Arc<Vec<f32>>,
    held_out: Text,
    /// Of the held-out windows; measured when first needed.
    losses: Option<Vec<f64>>,
}

/// Windows, one after the other.
struct Text {
    tokens: Vec<u16>,
    starts: Vec<usize>,
}

impl Prober {
    /// `seed` must be known to nobody outside.
    pub fn new(data: Arc<Dataset>, shape: Shape, device: Device, seed: u64) -> Self {
        Self { data, shape, device, rng: Rng::new(seed), bases: VecDeque::new() }
    }

    /// A version from which workers are about to train.
    pub fn add(&mut self, version: VersionNo, weights: Arc<Vec<f32>>) {
        let held_out = self.held_out();
        self.bases.push_back(Base { version, weights, held_out, losses: None });
        while self.bases.len() > limits::STALENESS as usize + 2 {
            self.bases.pop_front();
        }
    }

    /// What `delta`, an update from `version`, does. Nothing where that cannot be measured: the version was made
    /// before this start, or nothing was asked.
    pub fn gain(&mut self, version: VersionNo, probe: &Probe, delta: &[f32]) -> Result<Option<Gain>, EngineError> {
        if probe.windows == 0 || !self.bases.iter().any(|base| base.version == version) {
            return Ok(None);
        }
        let own = self.own(probe)?;
        let (shape, device, length) = (self.shape, self.device, self.length());
        let Some(base) = self.bases.iter_mut().find(|base| base.version == version) else { return Ok(None) };
        let before = Model::load(shape, &base.weights, device)?;
        let own_before = before.losses(&own.tokens, &own.starts, length)?;
        let losses = match &mut base.losses {
            Some(losses) => losses,
            none => none.insert(before.losses(&base.held_out.tokens, &base.held_out.starts, length)?),
        };
        drop(before);
        let moved: Vec<f32> = base.weights.iter().zip(delta).map(|(w, d)| w - PART * d).collect();
        let after = Model::load(shape, &moved, device)?;
        let own_after = after.losses(&own.tokens, &own.starts, length)?;
        // The windows are in the order of the steps.
        let half = own_before.len() / 2;
        let halves = [0..half, half..own_before.len()];
        let halves = halves.map(|half| sample(&own_before[half.clone()], &own_after[half]));
        let held_out = sample(losses, &after.losses(&base.held_out.tokens, &base.held_out.starts, length)?);
        Ok(Some(Gain { halves, held_out }))
    }

    /// Tokens scored of each window.
    fn length(&self) -> usize {
        PIECE.min(self.shape.context as usize)
    }

    /// Parts of some of the task's windows, spread over its steps.
    fn own(&mut self, probe: &Probe) -> Result<Text, EngineError> {
        // A task of before this start may be of a shard that is not there any more.
        let shard = self.data.shards.get(probe.shard as usize);
        let shard = shard.ok_or_else(|| EngineError::BadInput(format!("there is no shard {}", probe.shard)))?;
        let all = offsets(probe.seed, probe.steps, probe.batch, self.shape.context, shard.tokens as usize)?;
        let count = (probe.windows as usize).min(all.len());
        let length = self.length();
        let inside = (self.shape.context as usize - length + 1) as u64;
        // One out of each of so many equal parts of the task, so that no part goes unseen for long.
        let draw = |part: usize| {
            let (from, to) = (part * all.len() / count, (part + 1) * all.len() / count);
            all[from + self.rng.below((to - from) as u64) as usize] + self.rng.below(inside) as usize
        };
        let picked: Vec<usize> = (0..count).map(draw).collect();
        let token = |at: usize| u16::from_le_bytes([shard.bytes[2 * at], shard.bytes[2 * at + 1]]);
        Ok(text(&picked, length, token))
    }

    fn held_out(&mut self) -> Text {
        let length = self.length();
        let tokens = &self.data.val_tokens;
        let places = tokens.len().saturating_sub(length) as u64;
        let picked: Vec<usize> = (0..HELD_OUT).map(|_| self.rng.below(places) as usize).collect();
        text(&picked, length, |at| tokens[at])
    }
}

fn text(starts: &[usize], length: usize, token: impl Fn(usize) -> u16) -> Text {
    let window = |start: &usize| (*start..=*start + length).map(&token).collect::<Vec<_>>();
    Text {
        tokens: starts.iter().flat_map(window).collect(),
        starts: (0..starts.len()).map(|window| window * (length + 1)).collect(),
    }
}

/// The paired differences.
fn sample(before: &[f64], after: &[f64]) -> Sample {
    let gains: Vec<f64> = before.iter().zip(after).map(|(before, after)| before - after).collect();
    let count = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / count.max(1.0);
    let squares = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>();
    Sample { count: gains.len() as u32, mean, deviation: (squares / (count - 1.0).max(1.0)).sqrt() }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use hydra_config::TokenizerSpec;
    use hydra_core::merge;
    use hydra_core::model::Recipe;
    use hydra_engine::{DeviceChoice, Job, Trainer};

    use super::*;
    use crate::data;

    #[test]
    fn training_gains_its_reverse_loses_and_noise_does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let text = data::primer::sources();
        let data = Arc::new(data::prepare(&text, &[], TokenizerSpec::Bytes, folder.path()).unwrap());
        let shape = Shape::new(data.tokenizer.vocab_size(), 32, 2, 1, 32);
        let device = Device::open(DeviceChoice::Cpu, Some(1)).unwrap();
        let weights = shape.initial_weights(1);
        let job = Job { steps: 10, batch: 4, context: 32, seed: 5, lr_start: 3e-3, lr_end: 3e-3 };
        let shard: Vec<u16> = data.shards[0].bytes.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect();
        let mut trainer = Trainer::new(shape, Recipe { batch: 4, ..Recipe::default() }, device).unwrap();
        let trained = trainer.train(&weights, &job, &shard, &mut |_| ControlFlow::Continue(())).unwrap();
        let delta: Vec<f32> = weights.iter().zip(&trained.weights).map(|(old, new)| old - new).collect();

        let mut prober = Prober::new(data, shape, device, 9);
        let weights = Arc::new(weights);
        prober.add(VersionNo(3), weights.clone());
        let probe = Probe { shard: 0, seed: 5, steps: 10, batch: 4, windows: 8 };
        let mut gain = |delta: &[f32]| prober.gain(VersionNo(3), &probe, delta).unwrap().unwrap();
        let honest = gain(&delta);
        assert_eq!((honest.halves.map(|half| half.count), honest.held_out.count), ([4, 4], HELD_OUT));
        assert!(honest.own().mean > 0.0 && honest.held_out.mean > 0.0, "{honest:?}");
        let reversed = gain(&delta.iter().map(|d| -d).collect::<Vec<_>>());
        assert!(reversed.own().mean < 0.0 && reversed.held_out.mean < 0.0, "{reversed:?}");
        let mut rng = Rng::new(2);
        let noise: Vec<f32> = delta.iter().map(|_| rng.normal() as f32).collect();
        let factor = (merge::norm(&delta) / merge::norm(&noise)) as f32;
        let noise = gain(&noise.iter().map(|x| factor * x).collect::<Vec<_>>());
        assert!(noise.own().mean.abs() < honest.own().mean / 4.0, "{noise:?} beside {honest:?}");

        assert_eq!(prober.gain(VersionNo(2), &probe, &delta).unwrap(), None, "a version from before");
        assert_eq!(prober.gain(VersionNo(3), &Probe { windows: 0, ..probe }, &delta).unwrap(), None);
        assert!(prober.gain(VersionNo(3), &Probe { shard: 99, ..probe }, &delta).is_err(), "a shard of another text");
        // Until the last of these is durable, an update of the first may be taken.
        (0..=limits::STALENESS).for_each(|more| prober.add(VersionNo(4 + more), weights.clone()));
        assert!(prober.gain(VersionNo(3), &probe, &delta).unwrap().is_some());
        prober.add(VersionNo(5 + limits::STALENESS), weights);
        assert_eq!(prober.gain(VersionNo(3), &probe, &delta).unwrap(), None, "too old for certain");
    }

    #[test]
    fn differences_are_paired() {
        let sample = sample(&[3.0, 5.0, 1.0], &[2.0, 3.0, 1.0]);
        assert_eq!((sample.count, sample.mean, sample.deviation), (3, 1.0, 1.0));
    }

    #[test]
    fn windows_lie_one_after_the_other() {
        let text = text(&[7, 2], 2, |at| at as u16);
        assert_eq!((text.tokens, text.starts), (vec![7, 8, 9, 2, 3, 4], vec![0, 3]));
    }
}
