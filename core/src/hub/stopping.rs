//! How a run ends: what is under way is finished first, as far as that takes no longer than it may.

use std::time::Duration;

use super::{Hub, Order};
use crate::ids::SessionId;
use crate::proto::{self, Role, ServerMsg};
use crate::time::Time;

/// When all ends, running answers and uploads may take this long.
const PEERS_MAY_TAKE: Duration = Duration::from_secs(10);
/// Then, what has come may take this long to be checked, merged, measured and saved.
const MAY_TAKE: Duration = Duration::from_secs(50);

/// The hub is on its way to the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    pub reason: &'static str,
    /// Whether a later start makes sense for workers.
    pub retry: bool,
    /// Whether accepted updates are merged first. Not where the version itself was the goal; they are durable, and
    /// the next start merges them.
    pub merge: bool,
    /// What is under way may take this long.
    pub until: Time,
    /// Peers had their time; what the coordinator itself has begun may take longer.
    pub alone: bool,
    pub done: bool,
}

impl Hub {
    /// Whether the end has begun: nothing new is taken.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Begins the end: no new tasks; what was acknowledged or is being answered is finished first.
    pub(super) fn stop(&mut self, now: Time, reason: &'static str, retry: bool) {
        if self.stopping.is_some() {
            return;
        }
        let (merge, until) = (matches!(reason, "tasks" | "tokens" | "credits"), now.after(PEERS_MAY_TAKE));
        self.stopping = Some(Stopping { reason, retry, merge, until, alone: false, done: false });
        self.queue.clear();
        // Where the run goes on later, tasks in training stay leased: their workers train on, come back, and are paid.
        if !retry {
            self.revoke_training(now);
        }
        self.consider_round(now);
    }

    pub(super) fn finish_if_done(&mut self, now: Time) {
        let Some(stopping) = self.stopping.as_mut().filter(|stopping| !stopping.done) else { return };
        if now >= stopping.until && !stopping.alone {
            stopping.alone = true;
            stopping.until = now.after(MAY_TAKE);
            self.abort_queries(now);
        }
        let Some(stopping) = &self.stopping else { return };
        let Stopping { reason, retry, merge, until, alone, .. } = *stopping;
        let merging = self.round.merging || (merge && !self.round.accepted.is_empty());
        let saving = !self.waiting.is_empty() || !self.unwritten.is_empty();
        let own = merging || saving || !self.unevaluated.is_empty() || self.leases.checking() > 0;
        let peers = !self.queries.is_empty() || self.leases.judging() > 0;
        if (own && now < until) || (peers && !alone) {
            return;
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.done = true;
        }
        let text = if retry { "the coordinator is stopping" } else { "the run is complete" };
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            if !retry {
                self.tell_the_end(session);
            }
            self.send(session, ServerMsg::Bye(proto::Bye { text: text.to_owned(), retry }));
            self.out.push_back(Order::Close { session });
        }
        self.out.push_back(Order::Stop { reason });
    }

    /// Who asks keeps the figures of the end on its screen, so they are told once more.
    fn tell_the_end(&mut self, session: SessionId) {
        let peer = self.sessions.get(&session).and_then(|s| s.peer()).filter(|peer| peer.role == Role::Chat);
        if let Some(user) = peer.map(|peer| peer.user.clone()) {
            self.send_balance(session, &user);
            let status = self.status();
            self.send(session, ServerMsg::Status(status));
        }
    }
}
