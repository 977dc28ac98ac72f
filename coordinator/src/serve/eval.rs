//! The evaluator: the thread that measures every version on held-out text, keeps the average of them, and finds out
//! which of the two is better.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hydra_core::ids::VersionNo;
use hydra_core::model::Shape;
use hydra_engine::{Device, DeviceChoice, EngineError, Evaluation, Model};

use super::sampler::Sampler;
use super::served::{Served, Source};
use crate::average::Average;
use crate::data::{Dataset, Tokenizer};

mod queue;

pub use queue::Queue;

/// Versions from one comparison of a version with the average to the next; between them only the better is measured.
const COMPARE: u32 = 4;
/// Factors on the logits that are tried at the end of a run, at most, and from which distance on another is worth a look.
const LOOKS: usize = 12;
const CLOSE: f32 = 0.01;
/// The shortest time between two writes of the average's file.
const WRITE: Duration = Duration::from_secs(10);
/// Writing may cost so small a part of the thread's time.
const SHARE: u32 = 20;

/// How well a version, or the average up to it, predicts held-out text.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub version: VersionNo,
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text.
    pub bits_per_byte: f64,
}

/// What a model makes of a text.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text.
    pub bits_per_byte: f64,
    /// The factor on its logits with which the loss would be about the least.
    pub best_scale: f64,
}

/// Measures all of `tokens`.
pub fn measure(model: &Model, tokenizer: &Tokenizer, tokens: &[u16]) -> Result<Measure, EngineError> {
    model.evaluate(tokens, usize::MAX).map(|evaluation| measured(&evaluation, tokenizer, tokens))
}

fn measured(evaluation: &Evaluation, tokenizer: &Tokenizer, tokens: &[u16]) -> Measure {
    let bytes = evaluation.scored.iter().map(|range| tokenizer.bytes_of(&tokens[range.clone()])).sum();
    let (loss, bits_per_byte) = (evaluation.loss(), evaluation.bits_per_byte(bytes));
    Measure { loss, bits_per_byte, best_scale: evaluation.best_scale() }
}

/// Gives an average the factor on its logits with which its loss is the least, as far as a few looks tell; what it
/// has with that.
pub fn settle<E>(
    average: &mut Average,
    shape: &Shape,
    mut measure: impl FnMut(&[f32]) -> Result<Measure, E>,
) -> Result<Measure, E> {
    let mut measured = measure(&average.answering(shape))?;
    for _ in 0..LOOKS {
        let mut other = average.clone();
        other.rescale(measured.best_scale);
        if (other.scale / average.scale - 1.0).abs() < CLOSE {
            break;
        }
        let second = measure(&other.answering(shape))?;
        if second.loss >= measured.loss {
            break;
        }
        (*average, measured) = (other, second);
    }
    Ok(measured)
}

/// What the thread measures with, and the average.
pub struct Evaluator {
    pub data: Arc<Dataset>,
    pub shape: Shape,
    pub device: Device,
    /// Windows of held-out text, at most.
    pub windows: usize,
    /// The run's folder.
    pub run: PathBuf,
    /// Of the versions so far; nothing at the beginning of a run.
    pub average: Option<Average>,
    /// Set when nobody waits for a measurement any more.
    pub over: Arc<AtomicBool>,
}

/// Starts the thread; it ends soon when the queue is dropped, with all versions in the average. A version that is
/// overtaken while it waits is left out. What was measured may be asked for a sample, too. A version that cannot be
/// measured is reported as such.
pub fn spawn(
    evaluator: Evaluator,
    mut sampler: Option<Sampler>,
    mut report: impl FnMut(Result<(Score, Source), VersionNo>) + Send + 'static,
) -> std::io::Result<(Queue, JoinHandle<()>)> {
    let (versions, queued) = queue::queue(evaluator.over.clone());
    let thread = std::thread::Builder::new().name("evaluator".into()).spawn(move || {
        hydra_shell::priority::step_back();
        let data = evaluator.data.clone();
        let mut desk =
            Desk { evaluator, averaged: false, ago: COMPARE, advice: 1.0, write: Instant::now() + WRITE, stale: false };
        loop {
            let sampling = sampler.as_ref().and_then(Sampler::waits);
            let mut waiting = match queued.take(sampling.into_iter().chain(desk.waits()).min()) {
                Ok(waiting) => waiting,
                Err(RecvTimeoutError::Timeout) => {
                    // Nothing newer came meanwhile.
                    if let Some(sampler) = sampler.as_mut().filter(|sampler| sampler.waits() == Some(Duration::ZERO)) {
                        sampler.catch_up(&data);
                    }
                    desk.write_if_due();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if !desk.is_unmeasured() {
                        desk.write();
                    }
                    return;
                }
            };
            // On a busy machine rounds may be shorter than a measurement; then the newest counts.
            let Some(newest) = waiting.versions.pop_back() else { continue };
            for overtaken in waiting.versions {
                tracing::debug!(version = %overtaken.version, "a version was overtaken before it could be measured");
                desk.add(&overtaken);
                report(Err(overtaken.version));
            }
            desk.add(&newest);
            let version = newest.version;
            if desk.is_over() {
                continue;
            }
            if !waiting.due {
                report(Err(version));
                continue;
            }
            match desk.judge(newest) {
                Ok((score, source)) => {
                    report(Ok((score, source.clone())));
                    if let Some(sampler) = sampler.as_mut().filter(|_| !desk.is_over()) {
                        sampler.sample(&source, &score, &data);
                    }
                }
                Err(error) => {
                    if !matches!(error, EngineError::Stopped) {
                        tracing::error!(%error, %version, "a version could not be measured");
                    }
                    report(Err(version));
                }
            }
            desk.write_if_due();
        }
    })?;
    Ok((versions, thread))
}

/// The thread's own.
struct Desk {
    evaluator: Evaluator,
    /// Whether the average was better when both were measured last, and how many versions ago that was.
    averaged: bool,
    ago: u32,
    /// By how much the average's logits should be multiplied, as far as its last measurement tells.
    advice: f64,
    /// When the average's file may be written again.
    write: Instant,
    /// Whether it is older than the average.
    stale: bool,
}

impl Desk {
    fn add(&mut self, served: &Source) {
        self.stale = true;
        match &mut self.evaluator.average {
            Some(average) => average.add(served.version, &served.weights),
            none => *none = Some(Average::new(served.version, served.weights.clone())),
        }
    }

    /// Measures a version, the average up to it, or both; gives the better.
    fn judge(&mut self, own: Source) -> Result<(Score, Source), EngineError> {
        let average = self.evaluator.average.as_mut().filter(|average| average.weights != own.weights);
        let mean = average.map(|average| {
            average.rescale(std::mem::replace(&mut self.advice, 1.0));
            Source { averaged: true, weights: average.answering(&own.shape), ..own.clone() }
        });
        let (score, source) = match mean {
            Some(mean) if self.ago >= COMPARE => {
                let of_own = self.score(&own)?;
                if self.is_over() {
                    return Ok((of_own, own));
                }
                let scores = (of_own, self.score(&mean)?);
                self.averaged = scores.1.loss < scores.0.loss;
                tracing::debug!(
                    version = %own.version, own = scores.0.loss, average = scores.1.loss,
                    "a version and the average up to it were compared"
                );
                self.ago = 0;
                if self.averaged { (scores.1, mean) } else { (scores.0, own) }
            }
            Some(mean) if self.averaged => (self.score(&mean)?, mean),
            _ => (self.score(&own)?, own),
        };
        self.ago += 1;
        if let Some(average) = &mut self.evaluator.average {
            // Its file may say otherwise: of a start that did not compare the two.
            average.better = source.averaged.then_some((score.loss, score.bits_per_byte));
        }
        Ok((score, source))
    }

    fn score(&mut self, source: &Source) -> Result<Score, EngineError> {
        let Evaluator { data, device, windows, over, .. } = &self.evaluator;
        let model = Model::load(source.shape, &source.weights, *device)?;
        let evaluation = model.evaluate_until(&data.val_tokens, *windows, over)?;
        let Measure { loss, bits_per_byte, best_scale } = measured(&evaluation, &data.tokenizer, &data.val_tokens);
        if source.averaged {
            self.advice = best_scale;
        }
        Ok(Score { version: source.version, loss, bits_per_byte })
    }

    /// Whether the average was better when it was measured last, and has changed since.
    fn is_unmeasured(&self) -> bool {
        self.averaged && self.evaluator.average.as_ref().is_some_and(|average| average.better.is_none())
    }

    fn is_over(&self) -> bool {
        self.evaluator.over.load(Ordering::Relaxed)
    }

    /// Whether the average's file is older than what of it may be written: a file that says of its average that it is better
    /// stays until a newer one is measured.
    fn is_stale(&self) -> bool {
        self.stale && !self.is_unmeasured()
    }

    /// How long until the average's file is to be written.
    fn waits(&self) -> Option<Duration> {
        self.is_stale().then(|| self.write.saturating_duration_since(Instant::now()))
    }

    fn write_if_due(&mut self) {
        let began = Instant::now();
        if self.is_stale() && began >= self.write {
            self.stale = !self.write();
            self.write = began + WRITE.max(began.elapsed() * SHARE);
        }
    }

    /// Whether the file is as new as the average now.
    fn write(&self) -> bool {
        let Evaluator { run, shape, average, .. } = &self.evaluator;
        let written = average.as_ref().map_or(Ok(()), |average| average.write(run, shape));
        if let Err(error) = &written {
            tracing::warn!(%error, "the average of the versions cannot be kept");
        }
        written.is_ok()
    }
}

/// The newest version on all held-out text, or the average up to it if that is better, which its file is told; whether it
/// is the average.
pub fn measure_in_full(run: &Path, newest: &Served, data: &Dataset) -> anyhow::Result<(Score, bool)> {
    let failed = |error: EngineError| anyhow::anyhow!("{error}");
    let device = Device::open(DeviceChoice::Cpu, None).map_err(failed)?;
    let score = |weights: &[f32]| {
        let model = Model::load(newest.shape, weights, device)?;
        measure(&model, &data.tokenizer, &data.val_tokens)
    };
    let own = score(&newest.weights).map_err(failed)?;
    let of = |loss, bits_per_byte| Score { version: newest.version, loss, bits_per_byte };
    let Some(mut average) = Average::read(run, &newest.shape, newest.version) else {
        return Ok((of(own.loss, own.bits_per_byte), false));
    };
    average.add(newest.version, &newest.weights);
    let mean = settle(&mut average, &newest.shape, score).map_err(failed)?;
    average.better = (mean.loss < own.loss).then_some((mean.loss, mean.bits_per_byte));
    if let Err(error) = average.write(run, &newest.shape) {
        tracing::warn!(%error, "the average of the versions cannot be kept");
    }
    let (loss, bits_per_byte) = average.better.unwrap_or((own.loss, own.bits_per_byte));
    Ok((of(loss, bits_per_byte), average.better.is_some()))
}
