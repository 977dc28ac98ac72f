//! Places at which clients run, one process after the other, each on a machine with a clock of its own.

use std::collections::BTreeSet;

use super::net::ConnId;
use super::user::User;
use super::worker::Worker;
use super::world::World;
use crate::ids::Digest;
use crate::machine::Machine as _;
use crate::time::Time;

/// A place at which a process runs, again and again.
#[derive(Debug)]
pub struct Client {
    /// Counts the processes.
    pub life: u64,
    pub role: Role,
    /// Which of the plan's users.
    pub name: usize,
    /// The worker id that all its processes use; else each draws its own.
    pub clone_of: Option<usize>,
    pub id: [u8; 8],
    /// When its process began, or the last one ended.
    pub born: Time,
    pub conn: Option<ConnId>,
    /// Since when it has been connected.
    pub since: Time,
    /// Without network until then.
    pub apart: Time,
    /// The machine sleeps until then.
    pub asleep: Time,
    /// Microseconds for which its clock stood still.
    pub lag: u64,
    /// When it wants to be woken, as [`World::rewake`] found it last.
    pub due: Option<Time>,
    pub shards: BTreeSet<Digest>,
    pub worker: Option<Worker>,
    pub user: Option<User>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Worker,
    Villain,
    User,
}

impl Client {
    pub fn is_villain(&self) -> bool {
        self.role == Role::Villain
    }

    /// Its machine's clock, which may stand still while the machine sleeps.
    pub fn local(&self, now: Time) -> Time {
        Time(now.0.saturating_sub(self.lag))
    }

    /// When its process wants to be woken, in the world's time.
    fn wake(&self) -> Option<Time> {
        let worker = self.worker.as_ref().and_then(|w| w.agent.deadline());
        let user = self.user.as_ref().and_then(|u| u.chat.deadline());
        let (due, _) = worker.or(user)?;
        Some(Time(due.0.saturating_add(self.lag)).max(self.asleep))
    }
}

impl World {
    /// Keeps at hand when a client wants to be woken; to be called after everything that may change it.
    pub fn rewake(&mut self, client: usize) {
        let place = &mut self.clients[client];
        let (before, after) = (place.due, place.wake());
        if before == after {
            return;
        }
        place.due = after;
        if let Some(at) = before {
            self.wakes.remove(&(at, client));
        }
        if let Some(at) = after {
            self.wakes.insert((at, client));
        }
    }
}
