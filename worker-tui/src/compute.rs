//! The compute thread: owns the weights as the coordinator has them, the trainer, and what earlier updates lacked.
//!
//! Commands are carried out strictly in order. Everything in them comes from the coordinator and is checked here
//! before anything is allocated or computed from it: a bad one is answered, never a panic. A task trains only from
//! weights whose digest was the announced one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hydra_core::ids::{Digest, PublicKey, VersionNo};
use hydra_core::limits::{SHARD_TOKENS, STEP_TOKENS, TASK_STEPS};
use hydra_core::merge;
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto;
use hydra_engine::{Device, DeviceChoice, EngineError, Job, StepReport, Trainer};
use tokio::sync::mpsc;

use self::unable::{Failures, Unable, unable};
use crate::unsent::{Left, Unsent};

#[cfg(test)]
mod tests;
mod unable;

/// Reports that wait for the driver; beyond them training waits too.
const REPORTS: usize = 64;
/// Versions for which what updates of an earlier start lacked is still sent: a sparse update leaves a number out for as
/// long.
const LACKS: u64 = 64;
/// What is reported as the digest of weights that are not those of any version.
const NO_VERSION: Digest = Digest([0; 32]);

/// What the thread is told, in order.
#[derive(Debug)]
pub enum Command {
    /// Get ready for this run's model; forget any other.
    Setup { run: PublicKey, shape: Shape, recipe: Recipe },
    /// Make `version` from `bytes`; answered by [`Report::Installed`].
    Install { version: proto::Version, bytes: Vec<u8> },
    /// Use so many CPU cores from the next task on; answered by [`Report::Opened`] when it begins. Another number begins
    /// the optimiser anew: its moments lie with the cores.
    Threads(usize),
    /// The run is complete: what updates lacked is of use to nobody.
    Complete,
    /// Train; answered by [`Report::Step`]s and [`Report::Trained`] or [`Report::Failed`]; by nothing after `stop`.
    Train(Work),
}

/// A task with all that it takes.
#[derive(Debug)]
pub struct Work {
    /// Of this process, from one task to the next: leases of another run may have the same numbers.
    pub number: u64,
    pub task: proto::Task,
    /// The shard's bytes.
    pub shard: Arc<[u8]>,
    /// Looked at after every step, and several times within a long one.
    pub stop: Arc<AtomicBool>,
}

/// What the thread answers.
#[derive(Debug)]
pub enum Report {
    /// The device is open, or uses another number of cores: its name for people, and the cores if it is a CPU. The
    /// first report, unless it is `Unopened`.
    Opened {
        device: String,
        threads: Option<usize>,
    },
    /// There is no such device; the last report.
    Unopened(EngineError),
    Installed {
        version: VersionNo,
        digest: Digest,
    },
    Step {
        work: u64,
        step: u32,
        loss: f32,
        tokens_per_s: f32,
    },
    Trained {
        work: u64,
        blob: Digest,
        bytes: Arc<[u8]>,
        loss_first: f32,
        loss_last: f32,
        train_ms: u64,
    },
    Failed {
        work: u64,
        text: String,
    },
    /// The device fails again and again; why, for people.
    Useless(String),
}

/// The thread as its driver sees it.
#[derive(Debug)]
pub struct Thread {
    pub commands: mpsc::UnboundedSender<Command>,
    pub reports: mpsc::Receiver<Report>,
    /// Ends when the commands' sender is dropped.
    pub handle: JoinHandle<()>,
}

/// Starts the thread, which opens the device first. What updates lacked before it may find in `unsent`, where it leaves
/// what its own lack in the end.
pub fn start(choice: DeviceChoice, threads: Option<usize>, unsent: Unsent) -> std::io::Result<Thread> {
    let (commands, mut taken) = mpsc::unbounded_channel();
    let (sender, reports) = mpsc::channel(REPORTS);
    let handle = std::thread::Builder::new().name("compute".to_owned()).spawn(move || {
        hydra_shell::priority::step_back();
        // A driver that is gone is told nothing more.
        let report = |report| drop(sender.blocking_send(report));
        let device = match Device::open(choice, threads) {
            Ok(device) => device,
            Err(error) => return report(Report::Unopened(error)),
        };
        report(opened(device));
        let mut compute = Compute { device, unsent, wanted: None, model: None, failures: Failures::default() };
        while let Some(command) = taken.blocking_recv() {
            compute.carry_out(command, &report);
        }
        compute.leave();
    })?;
    Ok(Thread { commands, reports, handle })
}

fn opened(device: Device) -> Report {
    Report::Opened { device: device.describe(), threads: (!device.is_gpu()).then(|| device.threads()) }
}

struct Compute {
    device: Device,
    unsent: Unsent,
    /// CPU cores asked for since the last task.
    wanted: Option<usize>,
    model: Option<Model>,
    failures: Failures,
}

struct Model {
    run: PublicKey,
    shape: Shape,
    recipe: Recipe,
    /// Absent, with the reason, where the device did not hold the model.
    trainer: Result<Trainer, Unable>,
    weights: Vec<f32>,
    /// Which version the weights are; nothing before the first and after a failed one.
    version: Option<VersionNo>,
    /// The newest that they were.
    newest: VersionNo,
    /// What the updates so far lacked through rounding; joins the next one.
    residual: Vec<f32>,
    /// The same from an earlier start, until a version shows how old it is.
    left: Option<Left>,
}

impl Compute {
    fn carry_out(&mut self, command: Command, report: &impl Fn(Report)) {
        match command {
            Command::Setup { run, shape, recipe } => {
                self.leave();
                self.model = self.setup(run, shape, recipe);
            }
            Command::Install { version, bytes } => {
                let installed = self.model.as_mut().is_some_and(|model| model.install(&version, &bytes));
                let digest = if installed { version.digest } else { NO_VERSION };
                report(Report::Installed { version: version.version, digest });
            }
            Command::Threads(threads) => self.wanted = Some(threads),
            Command::Complete => self.model = None,
            Command::Train(work) => {
                self.change_threads(report);
                let number = work.number;
                let trained = match &mut self.model {
                    Some(model) => model.train(&work, self.device, report),
                    None => Err(Unable::Why("there is no model to train".to_owned())),
                };
                let useless = self.failures.count(trained.as_ref().err());
                match trained {
                    Ok(trained) => report(trained),
                    Err(Unable::Stopped) => tracing::debug!(lease = %work.task.lease, "training was stopped"),
                    Err(Unable::Why(text) | Unable::Card(text)) => report(Report::Failed { work: number, text }),
                }
                if let Some(text) = useless {
                    report(Report::Useless(text));
                }
            }
        }
    }

    /// Uses the cores that were asked for; a trainer with as many stays, and with it what its optimiser has learned.
    fn change_threads(&mut self, report: &impl Fn(Report)) {
        let Some(wanted) = self.wanted.take().map(|threads| self.device.with_threads(threads)) else { return };
        if wanted == self.device {
            return;
        }
        self.device = wanted;
        if let Some(model) = &mut self.model {
            // Before the next one is made: both together may not fit into the memory.
            model.trainer = Err(Unable::Why("its trainer is being made".to_owned()));
            model.trainer = trainer(model.shape, model.recipe, self.device);
        }
        report(opened(self.device));
    }

    /// Keeps what the updates lacked for the next start.
    fn leave(&mut self) {
        let Some(Model { run, newest, residual, left, .. }) = self.model.take() else { return };
        let own = residual.iter().any(|lack| *lack != 0.0).then_some(Left { version: newest, residual });
        [left, own].into_iter().flatten().for_each(|left| self.unsent.put(&run, &left));
    }

    fn setup(&self, run: PublicKey, shape: Shape, recipe: Recipe) -> Option<Model> {
        // The wire has checked it before; whatever comes here sizes allocations.
        if let Err(error) = shape.check() {
            tracing::warn!(%error, "the coordinator's model is impossible");
            return None;
        }
        let trainer = trainer(shape, recipe, self.device);
        // As long as no weights came, the sizes are no more than words of the coordinator: they take no memory.
        let (weights, residual) = (Vec::new(), Vec::new());
        let left = self.unsent.take(&run, shape.params());
        Some(Model { run, shape, recipe, trainer, weights, version: None, newest: VersionNo(0), residual, left })
    }
}

/// A trainer whose optimiser knows nothing yet, or why there is none.
fn trainer(shape: Shape, recipe: Recipe, device: Device) -> Result<Trainer, Unable> {
    Trainer::new(shape, recipe, device).map_err(|error| {
        tracing::warn!(%error, "the model cannot be trained here");
        unable(&error, device.is_gpu())
    })
}

impl Model {
    /// Whether the weights are those of `version` now. If not, they are those of none.
    fn install(&mut self, version: &proto::Version, bytes: &[u8]) -> bool {
        let had = self.version.take();
        let read = match version.base {
            None => version.codec.decode(bytes, self.shape.params()).map(|weights| self.weights = weights),
            Some(base) if had == Some(base) => merge::apply(&mut self.weights, version.codec, bytes),
            Some(base) => {
                tracing::warn!(%base, ?had, "a difference to a version that is not here");
                return false;
            }
        };
        if let Err(error) = read {
            tracing::warn!(version = %version.version, %error, "a version cannot be read");
            return false;
        }
        if merge::weights_digest(&self.weights) != version.digest {
            tracing::warn!(version = %version.version, "a version has another digest than announced");
            return false;
        }
        self.version = Some(version.version);
        self.newest = version.version;
        if self.residual.is_empty() {
            self.residual = vec![0.0; self.shape.params()];
        }
        if let Some(Left { version, residual }) = self.left.take()
            && (version.0..=version.0.saturating_add(LACKS)).contains(&self.newest.0)
        {
            self.residual = residual;
        }
        true
    }

    fn train(&mut self, work: &Work, device: Device, report: &impl Fn(Report)) -> Result<Report, Unable> {
        let Work { number, task, shard, stop } = work;
        let number = *number;
        if stop.load(Ordering::Relaxed) {
            return Err(Unable::Stopped);
        }
        if self.version != Some(task.version) {
            return Err(Unable::Why(format!("version {} is not here", task.version)));
        }
        let tokens = check(task, shard, self.shape).map_err(Unable::Why)?;
        if self.trainer.is_err() {
            // What had the memory may have ended since.
            self.trainer = trainer(self.shape, self.recipe, device);
        }
        let trainer = self.trainer.as_mut().map_err(|why| why.clone())?;
        let proto::Task { steps, batch, context, seed, lr_start, lr_end, codec, .. } = *task;
        let job = Job { steps, batch, context, seed, lr_start, lr_end };
        let mut on_step = |StepReport { step, loss, tokens_per_s }| {
            report(Report::Step { work: number, step, loss, tokens_per_s });
            ControlFlow::Continue(())
        };
        let (start, left) = codec.start(&self.weights, &self.residual);
        let trained = trainer.train_until(&start, &job, &tokens, stop, &mut on_step);
        let trained = trained.map_err(|error| self.on_failure(&error, device))?;
        let mut delta = trained.weights;
        for (delta, base) in delta.iter_mut().zip(&self.weights) {
            *delta = base - *delta;
        }
        if stop.load(Ordering::Relaxed) {
            // Encoded, it would be missing from what updates lack, and nobody would have it.
            return Err(Unable::Stopped);
        }
        if left < 1.0 {
            self.residual.iter_mut().for_each(|lack| *lack *= left);
        }
        let bytes: Arc<[u8]> = codec.encode_with_feedback(&delta, &mut self.residual).into();
        let (loss_first, loss_last) = ends(&trained.losses);
        let train_ms = (trained.seconds * 1000.0) as u64;
        Ok(Report::Trained { work: number, blob: Digest::of(&bytes), bytes, loss_first, loss_last, train_ms })
    }

    /// What a training's failure means for this task, and for the trainer.
    fn on_failure(&mut self, error: &EngineError, device: Device) -> Unable {
        let why = unable(error, device.is_gpu());
        if !device.is_gpu() && matches!(error, EngineError::Libtorch(_)) {
            // One of its threads may have died, and every task to come would fail like this one: the next makes another.
            self.trainer = Err(why.clone());
        }
        why
    }
}

/// Checks what sizes allocations and what the engine takes for granted; gives the shard's tokens.
fn check(task: &proto::Task, shard: &[u8], shape: Shape) -> Result<Vec<u16>, String> {
    let proto::Task { steps, batch, context, shard_tokens, .. } = *task;
    if !(1..=TASK_STEPS).contains(&steps) {
        return Err(format!("a task of {steps} steps is not reasonable"));
    }
    if context == 0 || context > shape.context {
        return Err(format!("windows of {context} tokens do not fit the model's context of {}", shape.context));
    }
    if batch == 0 || u64::from(batch) * u64::from(context) > STEP_TOKENS {
        return Err(format!("steps of {batch} windows of {context} tokens are not reasonable"));
    }
    if !(0.0..=10.0).contains(&task.lr_start) || !(0.0..=10.0).contains(&task.lr_end) {
        return Err(format!("learning rates from {} to {} are not reasonable", task.lr_start, task.lr_end));
    }
    if shard_tokens > SHARD_TOKENS as u64 || shard.len() as u64 != 2 * shard_tokens {
        return Err(format!("the shard has {} bytes where {shard_tokens} tokens were announced", shard.len()));
    }
    if shard_tokens <= u64::from(context) {
        return Err(format!("a shard of {shard_tokens} tokens is shorter than a window"));
    }
    let tokens: Vec<u16> = shard.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect();
    match tokens.iter().max() {
        Some(&top) if u32::from(top) >= shape.vocab => {
            Err(format!("the shard holds token {top}, outside the vocabulary of {}", shape.vocab))
        }
        _ => Ok(tokens),
    }
}

/// Mean loss of the first tenth of the steps (at least one), and of the last.
fn ends(losses: &[f32]) -> (f32, f32) {
    let count = (losses.len() / 10).max(1).min(losses.len());
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len().max(1) as f32;
    (mean(&losses[..count]), mean(&losses[losses.len() - count..]))
}
