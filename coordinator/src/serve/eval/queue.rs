//! Versions on their way to the evaluator. While it measures one, newer ones wait for the average, but only so many
//! bytes of them: of a large model the newest alone, which then stands for those that were left out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hydra_core::ids::VersionNo;

use crate::serve::served::Source;

/// Versions that wait, and whether one of them was to be measured: then the newest is.
#[derive(Default)]
pub struct Waiting {
    /// Oldest first.
    pub versions: VecDeque<Source>,
    pub due: bool,
}

/// Bytes of weights that wait at most, the newest's not counted.
const WAITING: usize = 64 << 20;

/// The driver's end; when it is dropped, the evaluator ends.
pub struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    wake: Sender<()>,
    over: Arc<AtomicBool>,
}

/// The evaluator's end.
pub struct Queued {
    waiting: Arc<Mutex<Waiting>>,
    woken: Receiver<()>,
}

/// Both ends; `over` is set when the driver's is dropped.
pub fn queue(over: Arc<AtomicBool>) -> (Queue, Queued) {
    let (waiting, (wake, woken)) = (Arc::<Mutex<Waiting>>::default(), channel());
    (Queue { waiting: waiting.clone(), wake, over }, Queued { waiting, woken })
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // A version is put or taken whole, so a panic elsewhere leaves nothing half done.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(source: &Source) -> usize {
    size_of_val(source.weights.as_slice())
}

impl Queue {
    /// Hands over a version for the average, and to be measured if that is due; gives those that will be in neither, oldest
    /// first, since there was no room for them.
    pub fn put(&self, newest: Source, due: bool) -> Vec<VersionNo> {
        let mut lock = lock(&self.waiting);
        lock.due |= due;
        let waiting = &mut lock.versions;
        let mut all: usize = waiting.iter().map(bytes).sum();
        let mut left_out = Vec::new();
        while all > WAITING
            && let Some(oldest) = waiting.pop_front()
        {
            all -= bytes(&oldest);
            left_out.push(oldest.version);
        }
        let asleep = waiting.is_empty() && left_out.is_empty();
        waiting.push_back(newest);
        if asleep {
            // Whoever is gone has panicked, and says so elsewhere.
            self.wake.send(()).ok();
        }
        left_out
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Before the channel tells it, which an evaluator in the middle of something does not hear.
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Queued {
    /// All versions that wait, at least one.
    pub fn take(&self, wait: Option<Duration>) -> Result<Waiting, RecvTimeoutError> {
        match wait {
            Some(wait) => self.woken.recv_timeout(wait)?,
            None => self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        }
        Ok(std::mem::take(&mut *lock(&self.waiting)))
    }
}

#[cfg(test)]
mod tests {
    use hydra_core::model::Shape;

    use super::*;

    fn version(number: u64, weights: &Arc<Vec<f32>>) -> Source {
        let shape = Shape::new(256, 8, 1, 1, 8);
        Source { version: VersionNo(number), averaged: false, shape, weights: weights.clone() }
    }

    fn numbers(taken: Waiting) -> Vec<u64> {
        taken.versions.into_iter().map(|source| source.version.0).collect()
    }

    #[test]
    fn versions_of_a_large_model_do_not_pile_up_behind_a_measurement() {
        let over = Arc::<AtomicBool>::default();
        let (queue, queued) = queue(over.clone());
        let weights: Vec<_> = (0..3).map(|_| Arc::new(vec![0.0; WAITING / 4 + 1])).collect();
        assert_eq!(queue.put(version(1, &weights[0]), true), []);
        assert_eq!(queue.put(version(2, &weights[1]), true), [VersionNo(1)]);
        assert_eq!(queue.put(version(3, &weights[2]), true), [VersionNo(2)]);
        assert_eq!(weights.iter().map(Arc::strong_count).collect::<Vec<_>>(), [1, 1, 2], "the old ones are free");
        assert_eq!(numbers(queued.take(None).unwrap()), [3]);
        assert!(matches!(queued.take(Some(Duration::ZERO)), Err(RecvTimeoutError::Timeout)));
        assert_eq!(queue.put(version(4, &weights[0]), true), []);
        assert!(!over.load(Ordering::Relaxed));
        drop(queue);
        assert!(over.load(Ordering::Relaxed), "at once, whatever waits");
        assert_eq!(numbers(queued.take(None).unwrap()), [4]);
        assert!(matches!(queued.take(None), Err(RecvTimeoutError::Disconnected)));
    }

    #[test]
    fn versions_of_a_small_model_all_come_to_the_average() {
        let (queue, queued) = queue(Arc::default());
        let weights = Arc::new(vec![0.0; 8]);
        assert!((1..=5).all(|number| queue.put(version(number, &weights), true).is_empty()));
        assert_eq!(numbers(queued.take(None).unwrap()), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_measurement_that_is_due_stays_so_behind_versions_for_the_average_alone() {
        let (queue, queued) = queue(Arc::default());
        let weights = Arc::new(vec![0.0; 8]);
        for (number, due) in [(1, true), (2, false)] {
            queue.put(version(number, &weights), due);
        }
        let taken = queued.take(None).unwrap();
        assert!(taken.due);
        assert_eq!(numbers(taken), [1, 2]);
        queue.put(version(3, &weights), false);
        assert!(!queued.take(None).unwrap().due);
    }
}
