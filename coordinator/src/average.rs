//! The average of a run's versions: what answers where it knows held-out text better than the newest version alone.
//!
//! While the learning rate is high, versions jump about the place that they all circle, and their average lies nearer to
//! it. At version n, version k weighs about (k / n)^[`POWER`], as Karras et al. (2024) weigh theirs, so that the average
//! spans the newest part of a run of any length and needs no setting. It lives beside training: no worker sees it and
//! no version is made from it. Its file, `average.safetensors`, is written now and then and at the end; a run that
//! loses it begins a new one.
//!
//! A model that has read its text often is too sure of itself elsewhere. So the average answers with its logits times a
//! factor that held-out text tells (*temperature scaling*, Guo et al. 2017): in the last norm's gains, from which an
//! export has it, too.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hydra_core::hub::rows::Version;
use hydra_core::ids::VersionNo;
use hydra_core::merge;
use hydra_core::model::Shape;

use crate::store::{FileError, write_whole};

/// Its name in the run's folder.
const NAME: &str = "average.safetensors";
/// The newest eighth of the versions has two thirds of the weight.
const POWER: i32 = 7;
/// The logits' factor is at most this, and at least one over it.
const FARTHEST: f64 = 2.0;

/// The average up to a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Average {
    /// The newest version in it.
    pub version: VersionNo,
    /// The mean alone, in the flat order.
    pub weights: Arc<Vec<f32>>,
    /// The factor on its logits with which it answers.
    pub scale: f32,
    /// Its loss with that in nats a token and in bits a byte, if that is better than the version's own.
    pub better: Option<(f64, f64)>,
}

impl Average {
    /// Of one version.
    pub fn new(version: VersionNo, weights: Arc<Vec<f32>>) -> Self {
        Self { version, weights, scale: 1.0, better: None }
    }

    /// Takes a newer version in; one that is not newer changes nothing.
    pub fn add(&mut self, version: VersionNo, weights: &[f32]) {
        if version <= self.version {
            return;
        }
        // As if every version since had been this one: it stands for those that were left out.
        let stays = (self.version.0 as f64 / version.0 as f64).powi(POWER) as f32;
        for (mean, new) in Arc::make_mut(&mut self.weights).iter_mut().zip(weights) {
            *mean += (1.0 - stays) * (new - *mean);
        }
        self.version = version;
        self.better = None;
    }

    /// What answers: the weights, with the factor.
    pub fn answering(&self, shape: &Shape) -> Arc<Vec<f32>> {
        let mut weights = self.weights.clone();
        if self.scale.to_bits() != 1f32.to_bits() {
            let all = Arc::make_mut(&mut weights);
            // Logits are products with what the last norm gives, and its gains are the last tensor.
            let gains = all.len() - shape.width as usize;
            all[gains..].iter_mut().for_each(|gain| *gain *= self.scale);
        }
        weights
    }

    /// Whether this is up to that very version, with others in it, and was not found better: then what was measured of the
    /// version is its own loss.
    pub fn leaves_best(&self, version: &Version) -> bool {
        // Begun anew it is that version alone, and an average that is lost may have been measured before.
        let of_others = || merge::weights_digest(&self.weights) != version.digest;
        self.version == version.version && self.better.is_none() && of_others()
    }

    /// Takes a factor by which the logits should be multiplied further.
    pub fn rescale(&mut self, by: f64) {
        self.scale = (f64::from(self.scale) * by).clamp(1.0 / FARTHEST, FARTHEST) as f32;
    }

    /// Writes it to a run's folder.
    pub fn write(&self, run: &Path, shape: &Shape) -> Result<(), FileError> {
        let failed =
            |error: hydra_engine::StoreError| FileError::io("write", &run.join(NAME), &io::Error::other(error));
        let mut notes = vec![
            ("hydra.version", self.version.to_string()),
            ("hydra.weights", merge::weights_digest(&self.weights).to_string()),
            ("hydra.scale", self.scale.to_string()),
        ];
        notes.extend(self.better.map(|(loss, bits_per_byte)| ("hydra.better", format!("{loss} {bits_per_byte}"))));
        let bytes = hydra_engine::to_safetensors(shape, &self.weights, &notes).map_err(failed)?;
        write_whole(run, NAME, |out| out.write_all(&bytes)).map(drop)
    }

    /// That of a run's folder, if there is one of a version up to `newest`; what is damaged is told and left.
    pub fn read(run: &Path, shape: &Shape, newest: VersionNo) -> Option<Self> {
        let path = run.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, path = %path.display(), "the average of the versions cannot be read");
                }
                return None;
            }
        };
        let read = parse(&bytes, shape);
        if read.is_none() {
            tracing::warn!(path = %path.display(), "the average of the versions is damaged; a new one begins");
        }
        let fits = |average: &Self| average.version <= newest;
        if let Some(Self { version, .. }) = read.as_ref().filter(|average| !fits(average)) {
            tracing::warn!("the average of the versions is up to {version}, the ledger to {newest}: a new one begins");
        }
        read.filter(fits)
    }
}

/// Nothing where it is damaged.
fn parse(bytes: &[u8], shape: &Shape) -> Option<Average> {
    let notes = hydra_engine::safetensors_notes(bytes).ok()?;
    let weights = hydra_engine::from_safetensors(shape, bytes).ok()?;
    if merge::weights_digest(&weights).to_string() != *notes.get("hydra.weights")? {
        return None;
    }
    let version = VersionNo(notes.get("hydra.version")?.parse().ok()?);
    // An older program's file has none.
    let scale = notes.get("hydra.scale").map_or(Ok(1.0), |scale| scale.parse()).ok()?;
    if !(1.0 / FARTHEST..=FARTHEST).contains(&f64::from(scale)) {
        return None;
    }
    let better = match notes.get("hydra.better") {
        Some(text) => {
            let (loss, bits_per_byte) = text.split_once(' ')?;
            Some((loss.parse().ok()?, bits_per_byte.parse().ok()?))
        }
        None => None,
    };
    Some(Average { version, weights: Arc::new(weights), scale, better })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape::new(20, 16, 2, 2, 8)
    }

    fn of(version: u64, number: f32) -> Average {
        Average::new(VersionNo(version), Arc::new(vec![number; shape().params()]))
    }

    fn plus(mut average: Average, versions: &[(u64, f32)]) -> Average {
        for (version, number) in versions {
            average.add(VersionNo(*version), &vec![*number; shape().params()]);
        }
        average
    }

    #[test]
    fn the_first_version_leaves_nothing_of_the_untrained_weights() {
        let average = plus(of(0, 5.0), &[(1, 1.0)]);
        assert_eq!((average.version, average.weights[0]), (VersionNo(1), 1.0));
    }

    #[test]
    fn the_newest_eighth_has_two_thirds_of_the_weight() {
        let average = plus(of(0, 0.0), &(1..=800).map(|n| (n, f32::from(n > 700))).collect::<Vec<_>>());
        assert!((0.58..0.62).contains(&average.weights[0]), "{}", average.weights[0]);
    }

    #[test]
    fn a_version_stands_for_those_that_were_left_out() {
        let all = plus(of(10, 0.0), &[(11, 1.0), (12, 1.0), (13, 1.0)]);
        let one = plus(of(10, 0.0), &[(13, 1.0)]);
        assert!((all.weights[0] - one.weights[0]).abs() < 1e-6);
        assert_eq!(plus(one.clone(), &[(13, 9.0), (2, 9.0)]), one, "no version counts twice");
    }

    #[test]
    fn the_factor_is_on_the_last_gains_alone() {
        let mut average = of(3, 2.0);
        assert!(Arc::ptr_eq(&average.answering(&shape()), &average.weights));
        average.rescale(0.5);
        let (answering, gains) = (average.answering(&shape()), shape().layout().pop().unwrap().len());
        let (others, last) = answering.split_at(answering.len() - gains);
        assert_eq!((others, last), (&*vec![2.0; others.len()], &*vec![1.0; gains]));
        average.rescale(0.1);
        average.add(VersionNo(4), &answering);
        assert_eq!((average.scale, average.weights[0]), (0.5, 2.0), "it stays within bounds, and with newer versions");
    }

    #[test]
    fn a_file_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let read = |newest| Average::read(folder.path(), &shape(), VersionNo(newest));
        assert_eq!(read(9), None);
        let average = Average { scale: 0.9, better: Some((2.5, 1.25)), ..plus(of(4, 0.1), &[(5, 0.3)]) };
        average.write(folder.path(), &shape()).unwrap();
        assert_eq!(read(5), Some(average.clone()));
        assert_eq!(read(4), None, "of a version that was given up");
        assert_eq!(plus(average.clone(), &[(6, 0.3)]).better, None, "nobody has measured that one");
        assert_eq!(Average::read(folder.path(), &Shape::new(20, 16, 2, 3, 8), VersionNo(9)), None);
        let path = folder.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(5), None);
    }
}
