//! What goes wrong.

use super::client::{Client, Role};
use super::inside::Inside;
use super::net::Side;
use super::world::{Event, World};
use crate::hub::{self, Operator};
use crate::ids::WorkerId;
use crate::limits;
use crate::time::Time;

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    CoordinatorDies,
    WorkerDies,
    UserVanishes,
    Cut,
    Stall,
    Partition,
    /// The coordinator's machine sleeps.
    Freeze,
    /// A client's machine sleeps.
    Sleep,
    Villainy,
    /// The operator sends a worker away.
    Kick,
}

pub const FAULTS: [Fault; 10] = [
    Fault::CoordinatorDies,
    Fault::WorkerDies,
    Fault::UserVanishes,
    Fault::Cut,
    Fault::Stall,
    Fault::Partition,
    Fault::Freeze,
    Fault::Sleep,
    Fault::Villainy,
    Fault::Kick,
];

impl World {
    pub fn next_fault(&mut self, fault: Fault) {
        let rates = &self.plan.rates;
        let mean = match fault {
            Fault::CoordinatorDies => rates.coordinator_dies,
            Fault::WorkerDies => rates.worker_dies,
            Fault::UserVanishes => rates.user_vanishes,
            Fault::Cut => rates.cut,
            Fault::Stall => rates.stall,
            Fault::Partition => rates.partition,
            Fault::Freeze => rates.freeze,
            Fault::Sleep => rates.sleep,
            Fault::Villainy => rates.villainy,
            Fault::Kick => rates.kick,
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
        // Who sleeps is awake when all becomes well.
        let until = self.soon(0, long).min(Time(self.options.seconds * 1_000_000 - 1));
        let want = match fault {
            Fault::UserVanishes => Some(Role::User),
            Fault::WorkerDies | Fault::Kick => Some(Role::Worker),
            Fault::Villainy => Some(Role::Villain),
            _ => None,
        };
        let who: Vec<_> = (0..self.clients.len()).filter(|n| want.is_none_or(|r| self.clients[*n].role == r)).collect();
        let Some(client) = who.get(self.rng.below(who.len() as u64) as usize).copied() else { return };
        match fault {
            Fault::CoordinatorDies => self.kill_coordinator(),
            Fault::WorkerDies | Fault::UserVanishes => self.kill_client(client),
            Fault::Cut => self.cut(client),
            Fault::Stall => {
                if let Some(conn) = self.clients[client].conn.and_then(|id| self.net.get_mut(&id)) {
                    conn.stall(until);
                }
                self.falls_quiet(client, Some(until));
            }
            Fault::Partition => {
                self.clients[client].apart = until;
                self.cut(client);
            }
            Fault::Freeze => self.freeze(until),
            Fault::Sleep => self.sleep(client, until),
            Fault::Villainy => self.villainy(client),
            Fault::Kick => self.kick(client),
        }
    }

    /// The coordinator gets no answer to its pings from a client any more, or not until then.
    fn falls_quiet(&mut self, client: usize, until: Option<Time>) {
        let Some(conn) = self.clients[client].conn.and_then(|id| self.net.get(&id)) else { return };
        let session = conn.session;
        let at = self.soon(limits::QUIET.as_micros() as u64, limits::PING_EVERY.as_micros() as u64);
        if until.is_none_or(|until| at < until) {
            self.inside_at(at, Inside::Quiet(session));
        }
        if let Some(until) = until.filter(|until| at < *until) {
            self.inside_at(Time(until.0 + 1), Inside::Woke(session));
        }
    }

    /// Cuts a client's connection; each end notices at once, soon, or when the other has been silent for too long.
    fn cut(&mut self, client: usize) {
        let Some(id) = self.clients[client].conn else { return };
        self.falls_quiet(client, None);
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

    /// The operator sends a worker away, whether it is connected just now or not.
    fn kick(&mut self, client: usize) {
        let Client { name, id, .. } = self.clients[client];
        let user = self.plan.users[name].0.clone();
        self.tell_hub(hub::Fact::Operator(Operator::Kick(user, WorkerId(id), "too loud".to_owned())));
    }

    /// Whether a client is killed before it carries out its next order.
    pub fn is_its_last(&mut self, client: usize) -> bool {
        let last = self.phase.has_faults() && self.one_in(self.plan.rates.client_dies_between_orders);
        if last {
            self.counts.faults += 1;
            self.mark("killed client", client as u64, 0);
            self.kill_client(client);
        }
        last
    }

    /// Kill -9 of a worker or a chat.
    pub fn kill_client(&mut self, client: usize) {
        self.cut(client);
        self.clients[client].conn = None;
        self.end_client(client);
    }

    /// A client's machine sleeps, and its clock with it or not. Who sleeps for long is found dead by its silence.
    fn sleep(&mut self, client: usize, until: Time) {
        let stands = self.one_in(2);
        let place = &mut self.clients[client];
        if place.asleep > self.now || until <= self.now {
            return;
        }
        place.asleep = until;
        let long = until.since(self.now);
        if stands {
            place.lag += long.as_micros() as u64;
        }
        let conn = place.conn;
        self.rewake(client);
        self.falls_quiet(client, Some(until));
        if let Some(id) = conn.filter(|_| long > limits::SILENCE) {
            let at = self.soon(limits::SILENCE.as_micros() as u64, 10_000_000);
            self.push(at, Event::Gone(id, Side::Coordinator));
            self.push(Time(at.max(until).0 + 1_000_000), Event::Gone(id, Side::Client));
        }
    }

    /// The coordinator's machine sleeps, and its clock with it or not; who waits for it too long gives up.
    fn freeze(&mut self, until: Time) {
        let stands = self.one_in(2);
        let now = self.now;
        let Some(coordinator) = self.coordinator.as_mut().filter(|c| c.frozen <= now && until > now) else { return };
        coordinator.frozen = until;
        let long = until.since(now);
        if stands {
            coordinator.began.0 += long.as_micros() as u64;
        }
        if long > limits::SILENCE {
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

    pub fn drop_sessions(&mut self) {
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
}
