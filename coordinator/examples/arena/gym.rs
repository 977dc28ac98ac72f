//! Training for many runs: each task is trained by the real engine, once.
//!
//! What a worker sends is a function of everything that it trained before: weights, windows, rates, the optimiser's
//! moments and what its codec left over. So a worker's past is one digest, and a task that was trained after the same
//! past in an earlier run is looked up. Where a run leaves the known path, the worker first trains its past again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use hydra_core::codec::Codec;
use hydra_core::ids::Digest;
use hydra_core::model::{Recipe, Shape};
use hydra_engine::{Device, Job, Trainer};

/// Loss of a task's first and last steps.
pub type Ends = (f32, f32);

/// Weights with their digest.
#[derive(Clone)]
pub struct Base {
    pub digest: Digest,
    pub weights: Arc<Vec<f32>>,
}

/// A trained task.
#[derive(Clone)]
pub struct Done {
    /// The worker's past with this task.
    pub past: Digest,
    /// The update as it is sent.
    pub bytes: Arc<[u8]>,
    pub losses: (f32, f32),
}

/// A past without any task.
pub const FRESH: Digest = Digest([0; 32]);

/// A task.
#[derive(Clone)]
pub struct Work {
    pub base: Base,
    pub shard: Digest,
    pub job: Job,
    pub codec: Codec,
}

struct Step {
    before: Digest,
    work: Work,
    done: Done,
}

struct Seat {
    trainer: Trainer,
    residual: Vec<f32>,
    past: Digest,
}

/// The run's shards by their digests.
pub type Shards = BTreeMap<Digest, Vec<u16>>;

pub struct Gym {
    shards: Shards,
    seats: Vec<Seat>,
    known: BTreeMap<Digest, Step>,
    /// Whether what is trained may be asked for again.
    pub keep: bool,
    /// Seconds and tokens of training that was really done.
    pub trained: (f64, u64),
}

impl Gym {
    pub fn new(
        (shape, recipe): (Shape, Recipe),
        shards: Shards,
        workers: usize,
        device: Device,
    ) -> anyhow::Result<Self> {
        let seat = |_| {
            let residual = vec![0.0; shape.params()];
            Ok(Seat { trainer: Trainer::new(shape, recipe, device)?, residual, past: FRESH })
        };
        let seats = (0..workers).map(seat).collect::<anyhow::Result<_>>()?;
        Ok(Self { shards, seats, known: BTreeMap::new(), keep: true, trained: (0.0, 0) })
    }

    /// What `worker`, with this past, makes of a task.
    pub fn train(&mut self, worker: usize, past: Digest, work: Work) -> anyhow::Result<Done> {
        let Job { steps, batch, seed, lr_start, lr_end, .. } = work.job;
        let Work { base, shard, codec, .. } = &work;
        let text = format!("{past} {} {shard} {steps} {batch} {seed} {lr_start:e} {lr_end:e} {codec:?}", base.digest);
        let after = Digest::of(text.as_bytes());
        if let Some(step) = self.known.get(&after) {
            return Ok(step.done.clone());
        }
        self.go_back_to(worker, past)?;
        let (bytes, losses) = self.work(worker, &work)?;
        let done = Done { past: after, bytes, losses };
        self.seats[worker].past = after;
        if self.keep {
            self.known.insert(after, Step { before: past, work, done: done.clone() });
        }
        Ok(done)
    }

    fn go_back_to(&mut self, worker: usize, past: Digest) -> anyhow::Result<()> {
        if self.seats[worker].past == past {
            return Ok(());
        }
        let mut path = Vec::new();
        let mut at = past;
        while at != FRESH {
            let step = self.known.get(&at).ok_or_else(|| anyhow::anyhow!("a past that nobody had"))?;
            path.push(step.work.clone());
            at = step.before;
        }
        let seat = &mut self.seats[worker];
        seat.trainer.reset_optimizer()?;
        seat.residual.fill(0.0);
        for work in path.into_iter().rev() {
            self.work(worker, &work)?;
        }
        self.seats[worker].past = past;
        Ok(())
    }

    fn work(&mut self, worker: usize, Work { base, shard, job, codec }: &Work) -> anyhow::Result<(Arc<[u8]>, Ends)> {
        let seat = &mut self.seats[worker];
        let shard = &self.shards[shard];
        let (start, left) = codec.start(&base.weights, &seat.residual);
        let trained = seat.trainer.train(&start, job, shard, &mut |_| ControlFlow::Continue(()))?;
        seat.residual.iter_mut().for_each(|lack| *lack *= left);
        self.trained.0 += trained.seconds;
        self.trained.1 += trained.tokens;
        let delta: Vec<f32> = base.weights.iter().zip(&trained.weights).map(|(old, new)| old - new).collect();
        let bytes = codec.encode_with_feedback(&delta, &mut seat.residual).into();
        let ends = (trained.losses.first().copied(), trained.losses.last().copied());
        Ok((bytes, (ends.0.unwrap_or_default(), ends.1.unwrap_or_default())))
    }
}
