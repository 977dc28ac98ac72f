//! How the world becomes well again, and what must have come of everything in the end.

use std::time::Duration;

use super::net::Side;
use super::world::{Event, Phase, World};
use crate::hub::{self, Operator};
use crate::time::Time;

/// Tasks that are to be accepted after everything has healed, for each worker.
const LAST_TASKS: u64 = 3;
/// Everybody works undisturbed for this long before it is asked whether anybody was forgotten, in microseconds: long
/// enough to notice dead connections, to come back, and for leases of the dead to end.
const CALM: u64 = 95 * 1_000_000;
/// Within this all must be over after the calm, in microseconds.
const PATIENCE: u64 = 4 * 3600 * 1_000_000;
/// A connection that has stood for this long is not about to be closed for what happened before.
const STANDING: Duration = Duration::from_secs(10);
/// Nobody may have been left for this long without what is due.
const FORGOTTEN: Duration = Duration::from_secs(35);

impl World {
    /// No more faults: villains leave, networks are well, and the coordinator is told to stop, to begin once more.
    pub fn heal(&mut self) {
        self.phase = Phase::Draining;
        self.mark("heal", 0, 0);
        for client in 0..self.clients.len() {
            self.clients[client].apart = Time(0);
            if self.clients[client].is_villain() && self.clients[client].worker.is_some() {
                self.kill_client(client);
            }
        }
        if self.coordinator.is_some() {
            self.tell_hub(hub::Fact::Operator(Operator::Drain));
        } else {
            self.be_calm();
        }
        // Nobody can wait for longer than this for a connection that is gone.
        let ids: Vec<_> = self.net.iter().filter(|(_, conn)| conn.cut).map(|(id, _)| *id).collect();
        for id in ids {
            let at = self.soon(0, 40_000_000);
            self.push(at, Event::Gone(id, Side::Client));
            self.push(at, Event::Gone(id, Side::Coordinator));
        }
    }

    fn be_calm(&mut self) {
        self.phase = Phase::Calm;
        self.push(self.after(CALM), Event::Goal);
        self.plan.rules.stop = hub::Stop::default();
    }

    /// After the calm: is all well? Then the coordinator is to stop, or to stop and come back with a goal.
    pub fn on_goal(&mut self) -> Result<(), String> {
        if self.phase != Phase::Calm {
            return Err("all is well, but the run does not come to its end".to_owned());
        }
        self.see_that_all_is_well()?;
        self.phase = if self.one_in(3) { Phase::Pausing } else { Phase::Closing };
        self.tell_hub(hub::Fact::Operator(Operator::Drain));
        self.push(self.after(PATIENCE), Event::Goal);
        Ok(())
    }

    /// The coordinator has ended by itself. True: so has the run.
    pub fn on_stop(&mut self, reason: &'static str) -> Result<bool, String> {
        self.mark("stopped", self.disk.accepted(), 0);
        self.sync(true);
        self.coordinator = None;
        self.drop_sessions();
        if self.phase == Phase::Finishing {
            if reason != "tasks" {
                return Err(format!("the run ended with {reason}"));
            }
            self.audit.finish(true);
            return Ok(true);
        }
        if self.phase == Phase::Closing {
            self.audit.finish(false);
            return Ok(true);
        }
        // A disk that fails or a coordinator that sleeps may keep a merge from being made in time.
        self.audit.finish_early(!self.phase.has_faults() && matches!(reason, "tasks" | "tokens"));
        let stop = &mut self.plan.rules.stop;
        let accepted = self.disk.accepted();
        stop.after_tasks = stop.after_tasks.map(|_| accepted + 30);
        stop.after_tokens = None;
        stop.after_rounds = stop.after_rounds.map(|rounds| rounds + 20);
        if self.phase == Phase::Draining {
            self.be_calm();
        } else if self.phase == Phase::Pausing {
            self.phase = Phase::Finishing;
            stop_after(&mut self.plan.rules.stop, accepted + LAST_TASKS * self.options.workers() as u64);
        }
        let at = self.soon(500_000, 3_000_000);
        self.push(at, Event::StartCoordinator);
        Ok(false)
    }

    /// Everybody is connected, has work, and was told what became of things.
    fn see_that_all_is_well(&self) -> Result<(), String> {
        let old = |at: Time| self.now.since(at) > FORGOTTEN;
        for (n, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.is_villain()) {
            if !old(client.born) {
                continue;
            }
            let standing = client.conn.and_then(|id| self.net.get(&id)).is_some_and(|conn| conn.open == [true; 2]);
            if !standing || self.now.since(client.since) < STANDING {
                return Err(format!("{:?} {n} is not connected, or only since {:?}", client.role, client.since));
            }
            if let Some(worker) = &client.worker {
                if self.plan.rules.every.is_none() && old(worker.useful) {
                    return Err(format!("worker {n} had nothing to do since {:?}: {:?}", worker.useful, worker.agent));
                }
                if let Some((lease, _)) = worker.unanswered.iter().find(|(_, at)| old(**at)) {
                    return Err(format!("worker {n} was never told what became of lease {lease}"));
                }
            }
            if let Some((id, _)) = client.user.as_ref().and_then(|user| user.asked).filter(|(_, at)| old(*at)) {
                return Err(format!("chat {n} was never told what became of query {id}"));
            }
        }
        Ok(())
    }
}

fn stop_after(stop: &mut hub::Stop, tasks: u64) {
    *stop = hub::Stop { after_tasks: Some(tasks), ..hub::Stop::default() };
}
