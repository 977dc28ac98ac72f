//! Queries that wait for a thread. What is cancelled leaves at once, so that never more wait than the hub lets in.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hydra_core::hub::QueryNo;

use super::Job;

/// Queries that wait, oldest first.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Threads that have nothing to do.
    idle: usize,
    closed: bool,
}

/// What waits for a thread.
pub enum Next {
    Job(Box<Job>),
    Nothing,
    /// There will be no more.
    Closed,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A job is put or taken whole, so a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Nobody wants this answer any more.
    pub fn cancel(&self, query: QueryNo) {
        self.lock().jobs.retain(|job| job.query != query);
    }

    /// Nobody wants any.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.jobs.clear();
        waiting.closed = true;
        self.changed.notify_all();
    }

    /// The next job; one that is `idle` waits for it.
    pub fn next(&self, idle: bool) -> Next {
        let mut waiting = self.lock();
        if idle {
            waiting.idle += 1;
            let nothing = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
            waiting = self.changed.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        } else if !waiting.closed && waiting.jobs.len() <= waiting.idle {
            // Who is idle has more time for them.
            return Next::Nothing;
        }
        match waiting.jobs.pop_front() {
            Some(job) => Next::Job(Box::new(job)),
            None if waiting.closed => Next::Closed,
            None => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use hydra_core::hub::Sampling;

    use super::*;

    fn job(number: u64) -> Job {
        Job {
            query: QueryNo(number),
            prompt: "Hi".to_owned(),
            raw: false,
            stops: Vec::new(),
            sampling: Sampling { max_new_tokens: 1, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    #[test]
    fn what_is_cancelled_waits_no_longer() {
        let queue = Queue::default();
        for number in 0..1_000 {
            queue.put(job(number));
            queue.cancel(QueryNo(number));
        }
        queue.put(job(1_000));
        assert!(queue.lock().jobs.len() == 1);
        assert!(matches!(queue.next(false), Next::Job(job) if job.query == QueryNo(1_000)));
        assert!(matches!(queue.next(false), Next::Nothing));
        queue.put(job(1_001));
        queue.close();
        assert!(matches!(queue.next(true), Next::Closed) && matches!(queue.next(false), Next::Closed));
    }

    #[test]
    fn who_is_idle_comes_first() {
        let queue = Queue::default();
        queue.lock().idle = 1;
        queue.put(job(1));
        assert!(matches!(queue.next(false), Next::Nothing));
        queue.put(job(2));
        assert!(matches!(queue.next(false), Next::Job(job) if job.query == QueryNo(1)), "there is one for each");
    }
}
