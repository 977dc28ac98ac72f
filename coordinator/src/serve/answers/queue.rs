//! Queries that wait for their turn. What is cancelled leaves at once, so that never more wait than the hub lets in.
//!
//! The next is the oldest of those whose users have the fewest answers under way, so that a script with many questions
//! does not keep a single one waiting; and a user with as many as one may have waits for an end of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    /// Answers under way, of those who have any.
    seated: BTreeMap<UserName, usize>,
    closed: bool,
}

impl Waiting {
    /// The place of the job whose turn it is.
    fn turn(&self, most: usize) -> Option<usize> {
        let seated = |user| self.seated.get(user).copied().unwrap_or(0);
        let places = self.jobs.iter().enumerate().map(|(place, job)| (seated(&job.user), place));
        places.filter(|(seated, _)| *seated < most).min().map(|(_, place)| place)
    }
}

/// What comes next.
pub enum Next {
    Job(Box<Job>, Seat),
    Nothing,
    /// There will be no more.
    Closed,
}

/// A user's answer is under way for as long as this lives.
pub struct Seat {
    queue: Arc<Queue>,
    user: UserName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        if let Some(seated) = waiting.seated.get_mut(&self.user) {
            *seated -= 1;
            if *seated == 0 {
                waiting.seated.remove(&self.user);
            }
        }
        self.queue.changed.notify_one();
    }
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

    /// The next job; waited for by who has nothing else to do.
    pub fn next(self: &Arc<Self>, idle: bool) -> Next {
        let mut waiting = self.lock();
        if idle {
            let nothing = |waiting: &mut Waiting| waiting.turn(self.most).is_none() && !waiting.closed;
            waiting = self.changed.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
        }
        match waiting.turn(self.most).and_then(|place| waiting.jobs.remove(place)) {
            Some(job) => {
                let user = job.user.clone();
                *waiting.seated.entry(user.clone()).or_default() += 1;
                Next::Job(Box::new(job), Seat { queue: self.clone(), user })
            }
            None if waiting.closed => Next::Closed,
            None => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use hydra_core::hub::Sampling;

    use super::*;

    fn job(number: u64) -> Job {
        job_of("alice", number)
    }

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

    #[test]
    fn what_is_cancelled_waits_no_longer() {
        let queue = Arc::new(Queue::new(4));
        for number in 0..1_000 {
            queue.put(job(number));
            queue.cancel(QueryNo(number));
        }
        queue.put(job(1_000));
        assert!(queue.lock().jobs.len() == 1);
        assert!(matches!(queue.next(false), Next::Job(job, _) if job.query == QueryNo(1_000)));
        assert!(matches!(queue.next(false), Next::Nothing));
        queue.put(job(1_001));
        queue.close();
        assert!(matches!(queue.next(true), Next::Closed) && matches!(queue.next(false), Next::Closed));
    }

    #[test]
    fn who_has_fewest_comes_next_and_nobody_has_all() {
        let queue = Arc::new(Queue::new(2));
        for (number, user) in ["alice", "alice", "alice", "bob", "alice", "carol", "bob"].into_iter().enumerate() {
            queue.put(job_of(user, number as u64));
        }
        let mut seats = Vec::new();
        let mut next = || match queue.next(false) {
            Next::Job(job, seat) => {
                seats.push(seat);
                Some(job.query.0)
            }
            Next::Nothing | Next::Closed => None,
        };
        let order: Vec<u64> = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, [0, 3, 5, 1, 6], "alice has two, and two that wait");
        // An end of hers, which an idle thread waits for.
        let idle = std::thread::spawn({
            let queue = queue.clone();
            move || if let Next::Job(job, _) = queue.next(true) { Some(job.query.0) } else { None }
        });
        seats.remove(0);
        assert_eq!(idle.join().unwrap(), Some(2));
        seats.clear();
        assert!(queue.lock().seated.is_empty());
    }
}
