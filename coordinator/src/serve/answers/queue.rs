//! Queries that wait for their turn. What is cancelled leaves at once, so that never more wait than the hub lets in.
//!
//! The next is the oldest of those whose users have the fewest answers under way, so that a script with many questions
//! does not keep a single one waiting; and a user with as many as one may have waits for an end of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hydra_core::hub::QueryNo;
use hydra_core::ids::UserName;

use super::Job;

/// Queries that wait, oldest first.
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Answers of one user that may be under way at one time.
    most: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// What comes next.
pub enum Next {
    Job(Box<Job>),
    Nothing,
    /// There will be no more.
    Closed,
}

impl Queue {
    /// An empty one, of which one user has at most so many answers under way.
    pub fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), most }
    }

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

    /// The next job, where answers of these users are under way; waited for where there are none.
    pub fn next<'a>(&self, under_way: impl Iterator<Item = &'a UserName>) -> Next {
        let mut has = BTreeMap::<&UserName, usize>::new();
        under_way.for_each(|user| *has.entry(user).or_default() += 1);
        let mut waiting = self.lock();
        if has.is_empty() {
            let nothing = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
            waiting = self.changed.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
        }
        let of = |user| has.get(user).copied().unwrap_or(0);
        let turns = waiting.jobs.iter().enumerate().map(|(place, job)| (of(&job.user), place));
        let turn = turns.filter(|(has, _)| *has < self.most).min();
        match turn.and_then(|(_, place)| waiting.jobs.remove(place)) {
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

    fn job_of(user: &str, number: u64) -> Job {
        Job {
            query: QueryNo(number),
            user: user.parse().unwrap(),
            prompt: "Hi".to_owned(),
            raw: false,
            stops: Vec::new(),
            sampling: Sampling { max_new_tokens: 1, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    fn next(queue: &Queue, under_way: &[UserName]) -> Option<(u64, UserName)> {
        match queue.next(under_way.iter()) {
            Next::Job(job) => Some((job.query.0, job.user)),
            Next::Nothing | Next::Closed => None,
        }
    }

    #[test]
    fn what_is_cancelled_waits_no_longer() {
        let queue = Queue::new(4);
        for number in 0..1_000 {
            queue.put(job_of("alice", number));
            queue.cancel(QueryNo(number));
        }
        queue.put(job_of("alice", 1_000));
        assert!(queue.lock().jobs.len() == 1);
        let bob = ["bob".parse().unwrap()];
        assert_eq!(next(&queue, &bob).map(|(query, _)| query), Some(1_000));
        assert!(matches!(queue.next(bob.iter()), Next::Nothing));
        queue.put(job_of("alice", 1_001));
        queue.close();
        assert!(matches!(queue.next([].iter()), Next::Closed) && matches!(queue.next(bob.iter()), Next::Closed));
    }

    #[test]
    fn who_has_fewest_comes_next_and_nobody_has_all() {
        let queue = Queue::new(2);
        for (number, user) in ["alice", "alice", "alice", "bob", "alice", "carol", "bob"].into_iter().enumerate() {
            queue.put(job_of(user, number as u64));
        }
        let mut under_way = Vec::new();
        let mut order = Vec::new();
        while let Some((query, user)) = next(&queue, &under_way) {
            order.push(query);
            under_way.push(user);
        }
        assert_eq!(order, [0, 3, 5, 1, 6], "alice has two, and two that wait");
        under_way.remove(0);
        assert_eq!(next(&queue, &under_way).map(|(query, _)| query), Some(2), "one of hers has ended");
    }

    #[test]
    fn who_has_nothing_to_do_waits() {
        let queue = Arc::new(Queue::new(1));
        let idle = std::thread::spawn({
            let queue = queue.clone();
            move || next(&queue, &[])
        });
        queue.put(job_of("alice", 1));
        assert_eq!(idle.join().unwrap().map(|(query, _)| query), Some(1));
    }
}
