//! Training on a CPU: one replica a core over the same weights, gradients summed, one optimiser step.
//!
//! A core works alone on its windows of the batch (forward and backward), then on its share of the flat vectors
//! (summing gradients, AdamW). Whole replicas scale better than threads inside operations, which are too small to
//! share. Phases are separated by replies: within one, a thread writes only what is its own, so nothing is locked.
//! For a fixed number of replicas the result is the same, bit for bit: every sum has a fixed order. There are as many
//! as threads where the memory holds them (`room.rs`).

mod attention;
mod decode;
mod kept;
mod kernels;
mod network;
mod pages;
mod product;
mod room;
mod space;
mod team;
#[cfg(test)]
mod tests;
mod wide;

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hydra_core::model::{Recipe, Shape};
use tch::{Kind, Tensor};

use crate::adam::AdamStep;
use crate::backend::{AtOnce, Backend, Batch, Hurdle, in_pieces};
use crate::native::{floats, floats_mut};
use crate::parts::angles;
use crate::{EngineError, Result};
pub use decode::{DecodeBatch, Decoder, Drawn, Stream};
pub(crate) use kernels::EPSILON;
use network::Network;
use room::Room;
pub use team::Team;
pub(crate) use wide::{group_tops, highest};

enum Order {
    /// Gradients of these windows of the batch.
    Gradient {
        batch: Arc<Batch>,
        windows: Range<usize>,
    },
    /// Sum the first `replicas` gradients over the own share; reply: the sum of squares.
    Sum {
        replicas: usize,
    },
    Adam {
        step: AdamStep,
    },
    Keep,
    Restore,
    Reset,
}

/// One thread's means of working.
struct Replica {
    network: Network,
    room: Room,
    at_once: AtOnce,
    hurdle: Option<Hurdle>,
    /// Every replica's flat gradient, and the weights, narrowed to this thread's share.
    gradients: Vec<Tensor>,
    weights: Tensor,
    /// Numbers of the share that belong to matrices, which alone decay.
    matrices: usize,
    mean: Vec<f32>,
    square: Vec<f32>,
    kept: (Vec<f32>, Vec<f32>),
}

impl Replica {
    fn obey(&mut self, order: Order) -> Result<f64> {
        match order {
            Order::Gradient { batch, windows } => return self.gradient(&batch, windows),
            Order::Sum { replicas } => {
                let (sum, others) = self.gradients.split_first_mut().expect("there is at least one replica");
                let sum = floats_mut(sum);
                for other in &others[..replicas - 1] {
                    wide::add(sum, floats(other));
                }
                return Ok(wide::squares(sum));
            }
            Order::Adam { step } => self.adam(step),
            Order::Keep => {
                self.at_once.begin();
                self.kept = (self.mean.clone(), self.square.clone());
            }
            Order::Restore => (self.mean, self.square) = self.kept.clone(),
            Order::Reset => {
                self.mean.fill(0.0);
                self.square.fill(0.0);
            }
        }
        Ok(0.0)
    }

    fn gradient(&mut self, batch: &Batch, windows: Range<usize>) -> Result<f64> {
        let (network, hurdle) = (&mut self.network, &self.hurdle);
        network.heed(&batch.stop);
        let start = windows.start;
        let scale = 1.0 / batch.targets() as f32;
        let usual = self.room.windows(batch.context);
        in_pieces(windows.len(), usual, &mut self.at_once, hurdle.as_ref(), |piece, first| {
            let windows: Vec<&[u16]> = piece.map(|i| batch.window(start + i)).collect();
            let done = network.gradient(&windows, batch.context, scale, first);
            if done.as_ref().is_err_and(EngineError::is_out_of_memory) {
                network.free();
            }
            done
        })
    }

    fn adam(&mut self, step: AdamStep) {
        let weights = floats_mut(&mut self.weights);
        let gradient = floats(&self.gradients[0]);
        let at = self.matrices;
        let (mean, mean_gains) = self.mean.split_at_mut(at);
        let (square, square_gains) = self.square.split_at_mut(at);
        let (weights, gains) = weights.split_at_mut(at);
        wide::adam(step, &gradient[..at], mean, square, weights);
        wide::adam(AdamStep { shrink: 0.0, ..step }, &gradient[at..], mean_gains, square_gains, gains);
    }
}

struct Thread {
    orders: Sender<Order>,
    replies: Receiver<Result<f64>>,
    handle: JoinHandle<()>,
}

/// Replicas on their threads, which end when this is dropped.
pub(crate) struct Cpu {
    recipe: Recipe,
    weights: Tensor,
    threads: Vec<Thread>,
    /// Replicas that had windows of the last batch.
    active: usize,
    steps: u64,
    kept_steps: u64,
}

impl Cpu {
    pub fn new(shape: Shape, recipe: Recipe, threads: usize, hurdle: Option<&Hurdle>) -> Result<Self> {
        let params = shape.params();
        let room = room::divide(&shape, recipe.batch as usize, threads, room::available())?;
        let replicas = room.replicas;
        let threads_each = threads / replicas;
        let zeros = || Tensor::f_zeros([params as i64], (Kind::Float, tch::Device::Cpu));
        let weights = zeros()?;
        let gradients = (0..replicas).map(|_| zeros()).collect::<Result<Vec<_>, _>>()?;
        let angles: Arc<[f32]> = angles(&shape).into();
        let share = params.div_ceil(replicas).next_multiple_of(16);
        let threads = (0..replicas).map(|index| {
            let start = (index * share).min(params);
            let length = share.min(params - start);
            let narrow = |t: &Tensor| t.f_narrow(0, start as i64, length as i64);
            let replica = Replica {
                network: Network::new(shape, &weights, &gradients[index], Arc::clone(&angles))?,
                room,
                at_once: AtOnce::all(),
                hurdle: hurdle.cloned(),
                gradients: gradients.iter().map(narrow).collect::<Result<_, _>>()?,
                weights: narrow(&weights)?,
                matrices: shape.matrix_params().saturating_sub(start).min(length),
                mean: vec![0.0; length],
                square: vec![0.0; length],
                kept: (vec![0.0; length], vec![0.0; length]),
            };
            start_thread(index, replica, threads_each)
        });
        let threads = threads.collect::<Result<_>>()?;
        Ok(Self { recipe, weights, threads, active: 0, steps: 0, kept_steps: 0 })
    }

    /// Gives each thread its order, then waits for all; the sum of their replies in the threads' order.
    fn all(&self, threads: usize, order: impl Fn(usize) -> Order) -> Result<f64> {
        for (index, thread) in self.threads[..threads].iter().enumerate() {
            thread.orders.send(order(index)).map_err(|_| ended())?;
        }
        // Every reply is taken before any error returns: a late one would answer the next order.
        let replies: Vec<_> = self.threads[..threads].iter().map(|t| t.replies.recv().map_err(|_| ended())).collect();
        replies.into_iter().map(|reply| reply?).sum()
    }

    fn everyone(&self, order: impl Fn() -> Order) -> Result<()> {
        self.all(self.threads.len(), |_| order()).map(|_| ())
    }
}

impl Drop for Cpu {
    /// Waits for the threads, so that none frees libtorch's memory while the process ends.
    fn drop(&mut self) {
        for Thread { orders, handle, .. } in self.threads.drain(..) {
            drop(orders);
            // A panic has been reported where it happened, and as an error to whoever waited for a reply.
            let _ = handle.join();
        }
    }
}

fn ended() -> EngineError {
    EngineError::Libtorch("a training thread ended unexpectedly; see the log".into())
}

fn start_thread(index: usize, mut replica: Replica, threads_each: usize) -> Result<Thread> {
    let (orders, inbox) = channel();
    let (outbox, replies) = channel();
    let work = move || {
        tch::set_num_threads(threads_each as i32);
        while let Ok(order) = inbox.recv() {
            if outbox.send(replica.obey(order)).is_err() {
                break;
            }
        }
    };
    let started = std::thread::Builder::new().name(format!("train-{index}")).spawn(work);
    let handle = started.map_err(|e| EngineError::OutOfMemory(format!("cannot start a training thread: {e}")))?;
    Ok(Thread { orders, replies, handle })
}

impl Backend for Cpu {
    fn load(&mut self, weights: &[f32]) -> Result<()> {
        floats_mut(&mut self.weights).copy_from_slice(weights);
        Ok(())
    }

    fn weights(&self) -> Result<Vec<f32>> {
        Ok(floats(&self.weights).to_vec())
    }

    fn gradient(&mut self, batch: Batch) -> Result<f64> {
        let windows = batch.windows();
        self.active = self.threads.len().min(windows);
        let (active, batch) = (self.active, Arc::new(batch));
        self.all(active, |i| {
            let windows = windows * i / active..windows * (i + 1) / active;
            Order::Gradient { batch: Arc::clone(&batch), windows }
        })
    }

    fn update(&mut self, rate: f32) -> Result<f64> {
        let replicas = self.active;
        let norm = self.all(self.threads.len(), |_| Order::Sum { replicas })?.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let step = AdamStep::new(&self.recipe, rate, self.steps, norm);
        self.everyone(|| Order::Adam { step })?;
        Ok(norm)
    }

    fn keep_optimizer(&mut self) -> Result<()> {
        self.kept_steps = self.steps;
        self.everyone(|| Order::Keep)
    }

    fn restore_optimizer(&mut self) -> Result<()> {
        self.steps = self.kept_steps;
        self.everyone(|| Order::Restore)
    }

    fn reset_optimizer(&mut self) -> Result<()> {
        self.steps = 0;
        self.everyone(|| Order::Reset)
    }
}
