//! Working through a training task: from the weights it starts from and a shard of tokens to new weights.
//!
//! A task is a pure function of its [`Job`], the base weights, the shard and the optimiser's moments, which stay in
//! the trainer from task to task. A task that does not finish leaves the moments as they were before it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hydra_core::model::{Recipe, Shape};

use crate::backend::{Backend, Batch, Hurdle};
use crate::cpu::Cpu;
#[cfg(target_os = "linux")]
use crate::gpu::Gpu;
use crate::torch::Torch;
use crate::windows::Draws;
use crate::{Device, EngineError, Result};

/// What a task asks for, beside its weights and its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// Optimiser steps.
    pub steps: u32,
    /// Windows a step.
    pub batch: u32,
    /// Tokens predicted in each window; at most the shape's context.
    pub context: u32,
    /// Chooses the windows (see [`crate::offsets`]).
    pub seed: u64,
    /// Learning rate of the first step; falls or rises in a straight line to the last.
    pub lr_start: f32,
    /// Learning rate of the last step.
    pub lr_end: f32,
}

impl Job {
    /// Tokens that the task trains on, counting each prediction.
    pub fn tokens(&self) -> u64 {
        u64::from(self.steps) * u64::from(self.batch) * u64::from(self.context)
    }

    /// Learning rate of a step, numbered from 0.
    pub fn rate(&self, step: u32) -> f32 {
        let last = self.steps.saturating_sub(1).max(1);
        let along = f64::from(step) / f64::from(last);
        (f64::from(self.lr_start) * (1.0 - along) + f64::from(self.lr_end) * along) as f32
    }
}

/// How a task goes, after each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: u32,
    /// The batch's mean loss before the step, in nats a token.
    pub loss: f32,
    /// Speed since the task began.
    pub tokens_per_s: f32,
}

/// A finished task.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The new weights, in the flat order.
    pub weights: Vec<f32>,
    /// Steps done.
    pub steps: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Each step's loss, in nats a token.
    pub losses: Vec<f32>,
    /// Time that it took.
    pub seconds: f64,
}

/// Trains one model on one device.
pub struct Trainer {
    shape: Shape,
    backend: Box<dyn Backend>,
}

impl Trainer {
    /// Allocates everything but the work space, whose size depends on the first job.
    pub fn new(shape: Shape, recipe: Recipe, device: Device) -> Result<Self> {
        Self::with_hurdle(shape, recipe, device, None)
    }

    pub(crate) fn with_hurdle(shape: Shape, recipe: Recipe, device: Device, hurdle: Option<&Hurdle>) -> Result<Self> {
        shape.check().map_err(|e| EngineError::input(e.to_string()))?;
        if !device.is_gpu() {
            return Ok(Self::over(shape, Box::new(Cpu::new(shape, recipe, device.threads(), hurdle)?)));
        }
        #[cfg(target_os = "linux")]
        match Gpu::new(shape, recipe, device, hurdle) {
            Ok(Some(gpu)) => return Ok(Self::over(shape, Box::new(gpu))),
            // In f32, or sizes that do not fit the kernels.
            Ok(None) => {}
            // What has the memory may end; libtorch's operations would be slower for as long as this worker runs.
            Err(error) if error.is_out_of_memory() => return Err(error),
            Err(error) => tracing::warn!(%error, "no kernels for this card: training with libtorch's operations"),
        }
        Ok(Self::over(shape, Box::new(Torch::new(shape, recipe, device.torch, device.kind(), hurdle)?)))
    }

    /// A trainer over libtorch's autograd, whatever the device: the reference of the tests and of `examples/speed`.
    #[doc(hidden)]
    pub fn with_autograd(shape: Shape, recipe: Recipe, device: Device) -> Result<Self> {
        shape.check().map_err(|e| EngineError::input(e.to_string()))?;
        Ok(Self::over(shape, Box::new(Torch::new(shape, recipe, device.torch, device.kind(), None)?)))
    }

    pub(crate) fn over(shape: Shape, backend: Box<dyn Backend>) -> Self {
        Self { shape, backend }
    }

    /// Trains from `base` on windows of `shard`, calling `on_step` after each step; `Break` ends it with
    /// [`EngineError::Stopped`].
    pub fn train(
        &mut self,
        base: &[f32],
        job: &Job,
        shard: &[u16],
        on_step: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
    ) -> Result<Trained> {
        self.train_until(base, job, shard, &Arc::default(), on_step)
    }

    /// The same; it ends like that, and within a step, too, once somebody sets `stop`.
    pub fn train_until(
        &mut self,
        base: &[f32],
        job: &Job,
        shard: &[u16],
        stop: &Arc<AtomicBool>,
        on_step: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
    ) -> Result<Trained> {
        self.check(base, job, shard)?;
        self.backend.load(base)?;
        self.backend.keep_optimizer()?;
        let done = self.steps(job, shard, stop, on_step);
        if done.is_err() {
            self.backend.restore_optimizer()?;
        }
        done
    }

    /// Forgets the optimiser's moments.
    pub fn reset_optimizer(&mut self) -> Result<()> {
        self.backend.reset_optimizer()
    }

    fn check(&self, base: &[f32], job: &Job, shard: &[u16]) -> Result<()> {
        let Shape { vocab, context, .. } = self.shape;
        if base.len() != self.shape.params() {
            let want = self.shape.params();
            return Err(EngineError::input(format!("{} weights where the model has {want}", base.len())));
        }
        if job.steps == 0 || job.batch == 0 || job.context == 0 || job.context > context {
            let Job { steps, batch, context: asked, .. } = job;
            let text = format!(
                "a task of {steps} steps × {batch} windows × {asked} tokens does not fit a context of {context}"
            );
            return Err(EngineError::input(text));
        }
        if !job.lr_start.is_finite() || !job.lr_end.is_finite() {
            return Err(EngineError::input("the learning rate is no finite number"));
        }
        check_tokens(shard, vocab)
    }

    fn steps(
        &mut self,
        job: &Job,
        shard: &[u16],
        stop: &Arc<AtomicBool>,
        on_step: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
    ) -> Result<Trained> {
        let started = Instant::now();
        let (batch, context) = (job.batch as usize, job.context as usize);
        let mut draws = Draws::new(job.seed, job.context, shard.len())?;
        let mut losses = Vec::with_capacity(job.steps as usize);
        for step in 0..job.steps {
            let mut tokens = Vec::with_capacity(batch * (context + 1));
            for _ in 0..batch {
                tokens.extend_from_slice(&shard[draws.offset()..][..=context]);
            }
            let nats = self.backend.gradient(Batch { context, tokens, stop: Arc::clone(stop) })?;
            let loss = (nats / (batch * context) as f64) as f32;
            let norm = if loss.is_finite() { self.backend.update(job.rate(step))? } else { f64::NAN };
            if !norm.is_finite() {
                return Err(EngineError::Diverged { step: step + 1 });
            }
            losses.push(loss);
            let done = f64::from(step + 1) * (batch * context) as f64;
            let tokens_per_s = (done / started.elapsed().as_secs_f64().max(1e-9)) as f32;
            if on_step(StepReport { step: step + 1, loss, tokens_per_s }).is_break() || stop.load(Ordering::Relaxed) {
                return Err(EngineError::Stopped);
            }
        }
        let weights = self.backend.weights()?;
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(EngineError::Diverged { step: job.steps });
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(Trained { weights, steps: job.steps, tokens: job.tokens(), losses, seconds })
    }
}

/// Every token must have a row in the embedding.
pub(crate) fn check_tokens(tokens: &[u16], vocab: u32) -> Result<()> {
    match tokens.iter().max() {
        Some(&top) if u32::from(top) >= vocab => {
            Err(EngineError::input(format!("token {top} is outside a vocabulary of {vocab}")))
        }
        _ => Ok(()),
    }
}
