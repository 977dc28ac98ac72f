//! What goes wrong, how it becomes well again, and what must have come of it in the end.

use super::net::Side;
use super::user::User;
use super::worker::Worker;
use super::world::{Client, Event, Phase, Role, World};
use crate::agent::{self, Agent};
use crate::chat::{self, Chat};
use crate::hub::{self, Operator};
use crate::ids::WorkerId;
use crate::time::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// Tasks that are to be accepted after everything has healed, for each worker.
const LAST_TASKS: u64 = 3;
/// Everybody works undisturbed for this long before it is asked whether anybody was forgotten, in microseconds: long
/// enough to notice dead connections, to come back, and for leases of the dead to end.
const CALM: u64 = 240 * 1_000_000;
/// Within this all must be over after the calm, in microseconds.
const PATIENCE: u64 = 4 * 3600 * 1_000_000;
/// Nobody may have been left for this long without what is due.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    CoordinatorDies,
    WorkerDies,
    UserVanishes,
    Cut,
    Stall,
    Partition,
    Freeze,
    Villainy,
}

const FAULTS: [Fault; 8] = [
    Fault::CoordinatorDies,
    Fault::WorkerDies,
    Fault::UserVanishes,
    Fault::Cut,
    Fault::Stall,
    Fault::Partition,
    Fault::Freeze,
    Fault::Villainy,
];

impl World {
    /// Everybody comes within the first seconds.
    pub fn populate(&mut self) {
        let options = self.options.clone();
        let counts = [(Role::Worker, options.workers), (Role::Villain, options.villains), (Role::User, options.chats)];
        for (role, count) in counts {
            for n in 0..count {
                let client = self.clients.len();
                let twin =
                    (role == Role::Villain && n % 2 == 1).then(|| self.rng.below(options.workers as u64) as usize);
                let name = match twin {
                    Some(twin) => self.clients[twin].name,
                    None => self.rng.below(self.plan.users.len() as u64) as usize,
                };
                self.clients.push(Client {
                    life: 0,
                    role,
                    name,
                    clone_of: twin,
                    id: [0; 8],
                    conn: None,
                    since: Time(0),
                    apart: Time(0),
                    shards: BTreeSet::new(),
                    worker: None,
                    user: None,
                });
                let at = Time(self.rng.below(8_000_000));
                self.push(at, Event::Live(client, 0));
            }
        }
        for fault in FAULTS {
            self.next_fault(fault);
        }
        self.push(Time(options.seconds * 1_000_000), Event::Heal);
    }

    /// A process begins at this place.
    pub fn begin_life(&mut self, client: usize) {
        let place = &self.clients[client];
        let late = place.is_villain() && !self.phase.has_faults();
        if late || place.worker.is_some() || place.user.is_some() {
            return;
        }
        let (role, twin) = (place.role, place.clone_of);
        let (user, key) = self.plan.users[place.name].clone();
        let seed = self.rng.next_u64();
        let id = twin.map_or(seed.to_le_bytes(), |twin| self.clients[twin].id);
        self.clients[client].id = id;
        self.mark("live", client as u64, self.clients[client].life);
        if role == Role::User {
            let settings = chat::Settings { user, key, agent: "sim".to_owned(), reconnect: true, seed };
            self.clients[client].user = Some(User::new(Chat::new(settings)));
            let (at, life) = (self.soon(0, 5_000_000), self.clients[client].life);
            self.push(at, Event::Whim(client, life));
            return self.tell_chat(client, chat::Fact::AskBalance);
        }
        let few = self.phase.has_faults() && self.rng.below(5) == 0;
        let rests = self.one_in(5);
        let settings = agent::Settings {
            user,
            key,
            worker: WorkerId(id),
            device: "sim".to_owned(),
            agent: "sim".to_owned(),
            tasks: few.then(|| 1 + self.rng.below(4)),
            pause: Duration::from_millis(self.rng.below(3000) * u64::from(rests)),
            seed,
        };
        // From a tenth of a second to ten seconds for a task.
        let step = 20_000 << self.rng.below(6);
        let agent = Agent::new(self.now, settings);
        self.clients[client].worker = Some(Worker::new(agent, step, role == Role::Villain, self.now));
        // Any fact makes it connect.
        self.tell_agent(client, agent::Fact::Resume);
    }

    /// The process at this place has ended; another one begins, unless it is a villain and all is well.
    pub fn end_client(&mut self, client: usize) {
        let villain = self.clients[client].is_villain();
        let place = &mut self.clients[client];
        place.life += 1;
        place.worker = None;
        place.user = None;
        let life = place.life;
        if self.phase.has_faults() || !villain {
            let at = self.soon(1_000_000, 9_000_000);
            self.push(at, Event::Live(client, life));
        }
    }

    fn next_fault(&mut self, fault: Fault) {
        let rates = &self.plan.rates;
        let mean = match fault {
            Fault::CoordinatorDies => rates.coordinator_dies,
            Fault::WorkerDies => rates.worker_dies,
            Fault::UserVanishes => rates.user_vanishes,
            Fault::Cut => rates.cut,
            Fault::Stall => rates.stall,
            Fault::Partition => rates.partition,
            Fault::Freeze => rates.freeze,
            Fault::Villainy => rates.villainy,
        };
        if mean > 0 {
            let at = self.soon(1, 2_000 * mean);
            self.push(at, Event::Fault(fault));
        }
    }

    pub fn on_fault(&mut self, fault: Fault) {
        if !self.phase.has_faults() {
            return;
        }
        self.counts.faults += 1;
        self.mark("fault", fault as u64, 0);
        self.next_fault(fault);
        let long = if self.one_in(4) { 60_000_000 } else { 3_000_000 };
        let until = self.soon(0, long);
        let want = match fault {
            Fault::UserVanishes => Some(Role::User),
            Fault::WorkerDies => Some(Role::Worker),
            Fault::Villainy => Some(Role::Villain),
            _ => None,
        };
        let who: Vec<_> = (0..self.clients.len()).filter(|n| want.is_none_or(|r| self.clients[*n].role == r)).collect();
        let Some(client) = who.get(self.rng.below(who.len() as u64) as usize).copied() else { return };
        match fault {
            Fault::CoordinatorDies => self.kill_coordinator(),
            Fault::WorkerDies | Fault::UserVanishes => {
                self.cut(client);
                self.clients[client].conn = None;
                self.end_client(client);
            }
            Fault::Cut => self.cut(client),
            Fault::Stall => {
                if let Some(conn) = self.clients[client].conn.and_then(|id| self.net.get_mut(&id)) {
                    conn.stall(until);
                }
            }
            Fault::Partition => {
                self.clients[client].apart = until;
                self.cut(client);
            }
            Fault::Freeze => self.freeze(until),
            Fault::Villainy => self.villainy(client),
        }
    }

    /// Cuts a client's connection; each end notices at once, soon, or when the other has been silent for too long.
    fn cut(&mut self, client: usize) {
        let Some(id) = self.clients[client].conn else { return };
        if let Some(conn) = self.net.get_mut(&id) {
            conn.cut = true;
        }
        for side in [Side::Client, Side::Coordinator] {
            let at = match self.rng.below(3) {
                0 => self.after(1),
                1 => self.soon(0, 2_000_000),
                _ => self.soon(30_000_000, 10_000_000),
            };
            self.push(at, Event::Gone(id, side));
        }
    }

    /// The coordinator's machine sleeps; who waits for it too long gives up.
    fn freeze(&mut self, until: Time) {
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.frozen = until;
        if until.since(self.now) > Duration::from_secs(30) {
            for client in 0..self.clients.len() {
                if let Some(id) = self.clients[client].conn {
                    let at = self.soon(30_000_000, 10_000_000);
                    self.push(at, Event::Gone(id, Side::Client));
                }
            }
        }
    }

    /// Kill -9. What it has sent still arrives.
    pub fn kill_coordinator(&mut self) {
        if self.coordinator.take().is_none() {
            return;
        }
        self.stopped = None;
        self.counts.faults += 1;
        self.mark("killed", 0, 0);
        self.drop_sessions();
        let long = if self.one_in(4) { 40_000_000 } else { 3_000_000 };
        let at = self.soon(100_000, long);
        self.push(at, Event::StartCoordinator);
    }

    fn drop_sessions(&mut self) {
        let open: Vec<_> =
            self.net.iter().filter(|(_, conn)| conn.open[Side::Coordinator as usize]).map(|(id, _)| *id).collect();
        for id in open {
            if let Some(conn) = self.net.get_mut(&id) {
                conn.open[Side::Coordinator as usize] = false;
            }
            let late = self.phase.has_faults() && self.rng.below(4) == 0;
            let at = self.soon(0, if late { 40_000_000 } else { 500_000 });
            // After what was sent before has arrived, or in the middle of it.
            self.push(at, Event::Gone(id, Side::Client));
        }
    }

    /// No more faults: villains leave, networks are well, and the coordinator is told to stop, to begin once more.
    pub fn heal(&mut self) {
        self.phase = Phase::Draining;
        self.push(self.after(CALM), Event::Goal);
        self.mark("heal", 0, 0);
        for client in 0..self.clients.len() {
            self.clients[client].apart = Time(0);
            if self.clients[client].is_villain() && self.clients[client].worker.is_some() {
                self.cut(client);
                self.clients[client].conn = None;
                self.end_client(client);
            }
        }
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.frozen = Time(0);
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
        self.plan.rules.stop = hub::Stop::default();
    }

    /// After the calm: is all well? Then the coordinator is to stop once more and come back with a goal.
    pub fn on_goal(&mut self) -> Result<(), String> {
        if self.phase != Phase::Calm {
            return Err("all is well, but the run does not come to its end".to_owned());
        }
        self.see_that_all_is_well()?;
        self.phase = Phase::Pausing;
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
            stop_after(&mut self.plan.rules.stop, accepted + LAST_TASKS * self.options.workers as u64);
        }
        let at = self.soon(500_000, 3_000_000);
        self.push(at, Event::StartCoordinator);
        Ok(false)
    }

    /// Everybody is connected, has work, and was told what became of things.
    fn see_that_all_is_well(&self) -> Result<(), String> {
        let old = |at: Time| self.now.since(at) > FORGOTTEN;
        for (n, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.is_villain()) {
            let standing = client.conn.and_then(|id| self.net.get(&id)).is_some_and(|conn| conn.open == [true; 2]);
            if !standing || !old(client.since) {
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
