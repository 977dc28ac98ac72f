//! The evaluator: the thread that measures every version on held-out text.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use hydra_core::ids::VersionNo;
use hydra_engine::{Device, EngineError, Evaluation, Model};

use super::sampler::Sampler;
use super::served::Served;
use crate::data::{Dataset, Tokenizer};

/// How well a version predicts held-out text.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub version: VersionNo,
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text.
    pub bits_per_byte: f64,
}

/// Measures `tokens`, in at most `windows` windows.
pub fn measure(
    model: &Model,
    tokenizer: &Tokenizer,
    tokens: &[u16],
    windows: usize,
) -> Result<(f64, f64), EngineError> {
    let evaluation: Evaluation = model.evaluate(tokens, windows)?;
    let bytes = evaluation.scored.iter().map(|range| tokenizer.bytes_of(&tokens[range.clone()])).sum();
    Ok((evaluation.loss(), evaluation.bits_per_byte(bytes)))
}

/// Starts the thread; it ends when the sender is dropped. A version that is overtaken while it waits is left out. What
/// was measured may be asked for a sample, too. A version that cannot be measured is reported as such.
pub fn spawn(
    data: Arc<Dataset>,
    device: Device,
    windows: usize,
    mut sampler: Option<Sampler>,
    mut report: impl FnMut(Result<Score, VersionNo>) + Send + 'static,
) -> std::io::Result<(Sender<Arc<Served>>, JoinHandle<()>)> {
    let (versions, taken): (_, Receiver<Arc<Served>>) = channel();
    let thread = std::thread::Builder::new().name("evaluator".into()).spawn(move || {
        hydra_shell::priority::step_back();
        loop {
            let next = match sampler.as_ref().and_then(Sampler::waits) {
                Some(wait) => taken.recv_timeout(wait),
                None => taken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut served = match next {
                Ok(served) => served,
                Err(RecvTimeoutError::Timeout) => {
                    // Nothing newer came meanwhile.
                    if let Some(sampler) = &mut sampler {
                        sampler.catch_up(&data);
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // On a busy machine rounds may be shorter than a measurement; then the newest counts.
            while let Ok(newer) = taken.try_recv() {
                tracing::debug!(version = %served.version, "a version was overtaken before it could be measured");
                report(Err(served.version));
                served = newer;
            }
            let scored =
                served.model(device).and_then(|model| measure(&model, &data.tokenizer, &data.val_tokens, windows));
            match scored {
                Ok((loss, bits_per_byte)) => {
                    let score = Score { version: served.version, loss, bits_per_byte };
                    report(Ok(score));
                    if let Some(sampler) = &mut sampler {
                        sampler.sample(&served, &score, &data);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, version = %served.version, "a version could not be measured");
                    report(Err(served.version));
                }
            }
        }
    })?;
    Ok((versions, thread))
}
