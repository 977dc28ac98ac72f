//! Workers that the operator has sent away: their processes stay out, whatever they heard of it.

use std::collections::VecDeque;

use super::Hub;
use crate::ids::{UserName, WorkerId};
use crate::proto::{ErrorCode, UnpaidCode};
use crate::time::Time;

/// So many are remembered, until the next start.
const KICKED: usize = 256;

/// The newest last, with what they are told.
///
/// One that hears nothing at that moment (a sleeping laptop) connects again afterwards, and is told then.
#[derive(Debug, Default)]
pub(super) struct Kicked(VecDeque<(UserName, WorkerId, String)>);

impl Kicked {
    fn add(&mut self, user: UserName, worker: WorkerId, told: String) {
        self.0.push_back((user, worker, told));
        if self.0.len() > KICKED {
            self.0.pop_front();
        }
    }

    /// What a worker is told that was kicked.
    pub fn told(&self, user: &UserName, worker: WorkerId) -> Option<&str> {
        let (_, _, told) = self.0.iter().find(|(whose, which, _)| whose == user && *which == worker)?;
        Some(told)
    }
}

impl Hub {
    /// Sends a worker away for good: its process is refused from now on, also if it is not connected just now; one that
    /// is started anew is not.
    pub(super) fn kick(&mut self, now: Time, user: UserName, worker: WorkerId, reason: &str) {
        let told = format!("kicked by the operator (it may be started again): {reason}");
        let session = self.sessions.keys().copied().find(|id| self.worker_of(*id) == Some((&user, worker)));
        // Nothing of it is waited for, and that is nobody's fault.
        let seat = session.and_then(|id| self.sessions.get(&id)?.seat());
        let mut leases: Vec<_> = seat.and_then(|seat| seat.lease).into_iter().collect();
        leases.extend(session.into_iter().flat_map(|id| self.leases.uploads_of(id)));
        leases.extend(self.leases.away(&user, worker));
        for lease in leases {
            self.end_lease(now, lease, UnpaidCode::Cancelled);
        }
        self.kicked.add(user, worker, told.clone());
        if let Some(id) = session {
            self.refuse(id, ErrorCode::Removed, &told);
            self.on_left(now, id, &told);
        } else {
            self.consider_round(now);
            self.dispatch(now);
        }
    }
}
