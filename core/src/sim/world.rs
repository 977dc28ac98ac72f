//! The world: the clock, what will happen, who takes part, and the wires between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use ed25519_dalek::SigningKey;

use super::audit::Audit;
use super::client::Client;
use super::coordinator::Coordinator;
use super::disk::Disk;
use super::inside::Inside;
use super::net::{Conn, ConnId, Frame, Side};
use super::plan::Plan;
use super::{Counts, Options, Report};
use crate::agent;
use crate::ids::Digest;
use crate::rng::Rng;
use crate::time::Time;

/// More steps than any run needs.
const STEPS: u64 = 3_000_000;
/// Lines of the log that are kept.
const LINES: usize = 200_000;

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Things go wrong.
    Faults,
    /// Nothing goes wrong any more; the coordinator is to stop once and come back.
    Draining,
    /// Everybody works undisturbed.
    Calm,
    /// The coordinator is to stop for good.
    Closing,
    /// It is to stop once more and come back with a goal.
    Pausing,
    /// The coordinator is to reach its goal and stop.
    Finishing,
}

impl Phase {
    pub fn has_faults(self) -> bool {
        self == Self::Faults
    }
}

/// What will happen.
#[derive(Debug, Clone)]
pub enum Event {
    Dial(ConnId),
    Arrive(ConnId, Side, Frame),
    /// One end notices that its connection is gone.
    Gone(ConnId, Side),
    Inside(u64, Inside),
    Computed(usize, u64),
    Agent(usize, u64, agent::Fact),
    Whim(usize, u64),
    Live(usize, u64),
    Fault(super::faults::Fault),
    StartCoordinator,
    Heal,
    Goal,
}

pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub plan: Plan,
    pub phase: Phase,
    pub audit: Audit,
    pub disk: Disk,
    pub key: SigningKey,
    pub coordinator: Option<Coordinator>,
    pub net: BTreeMap<ConnId, Conn>,
    pub clients: Vec<Client>,
    /// When each client wants to be woken.
    pub wakes: BTreeSet<(Time, usize)>,
    pub counts: Counts,
    /// The coordinator has ended by itself.
    pub stopped: Option<&'static str>,
    pub options: Options,
    seed: u64,
    /// Boxed: events are large, and a tree moves its entries about.
    queue: BTreeMap<(Time, u64), Box<Event>>,
    next: u64,
    pub next_session: u64,
    /// A running hash of everything that happened.
    hash: [u64; 2],
    log: VecDeque<String>,
}

impl World {
    pub fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, options);
        Self {
            now: Time(0),
            audit: Audit::new(plan.rules.reward, plan.rules.price),
            rng,
            plan,
            phase: Phase::Faults,
            disk: Disk::default(),
            key: SigningKey::from_bytes(&[200; 32]),
            coordinator: None,
            net: BTreeMap::new(),
            clients: Vec::new(),
            wakes: BTreeSet::new(),
            counts: Counts::default(),
            stopped: None,
            options: options.clone(),
            seed,
            queue: BTreeMap::new(),
            next: 0,
            next_session: 0,
            hash: [seed, 0],
            log: VecDeque::new(),
        }
    }

    pub fn report(mut self, failure: Option<String>) -> Report {
        let (_, versions) = self.audit.counts();
        self.counts.boots = self.disk.boots();
        self.counts.versions = versions;
        self.counts.seconds = self.now.0 / 1_000_000;
        let digest = Digest::of(self.hash.map(u64::to_le_bytes).as_flattened());
        Report { seed: self.seed, failure, digest, log: self.log.into(), counts: self.counts }
    }

    /// Writes something into the log, of which the digest is made.
    pub fn mark(&mut self, what: &str, a: u64, b: u64) {
        let what_number = what.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for number in [what_number, self.now.0, a, b] {
            let [low, high] = self.hash;
            self.hash = [Rng::new(low ^ number).next_u64(), high.rotate_left(23) ^ low];
        }
        if self.options.trace {
            let mut line = format!("{:>12.6} ", self.now.0 as f64 / 1e6);
            write!(line, "{what} {a} {b}").expect("a string takes text");
            self.trace(line);
        }
    }

    fn trace(&mut self, line: String) {
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    pub fn push(&mut self, at: Time, event: Event) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), Box::new(event));
    }

    pub fn after(&self, micros: u64) -> Time {
        Time(self.now.0 + micros)
    }

    /// A moment from `from` microseconds on, within `below` more.
    pub fn soon(&mut self, from: u64, below: u64) -> Time {
        let micros = from + self.rng.below(below);
        self.after(micros)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.rng.below(n) == 0
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Result<(), String> {
        self.populate();
        self.start_coordinator()?;
        loop {
            if let Some(breach) = self.audit.breach.take() {
                return Err(breach);
            }
            self.counts.steps += 1;
            if self.counts.steps > STEPS {
                return Err("it never comes to an end".to_owned());
            }
            if let Some(reason) = self.stopped.take()
                && self.on_stop(reason)?
            {
                return self.audit.breach.take().map_or(Ok(()), Err);
            }
            self.step()?;
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let event = self.queue.first_key_value().map_or(Time(u64::MAX), |((at, _), _)| *at);
        let now = self.now;
        let hub = self.coordinator.as_ref().and_then(|c| c.wake(now)).unwrap_or(Time(u64::MAX));
        let client = self.wakes.first().map(|(at, client)| ((*at).max(now), *client));
        if let Some((at, client)) = client.filter(|(at, _)| *at <= event.min(hub)) {
            self.now = at;
            self.mark("wake", client as u64, 0);
            if self.clients[client].worker.is_some() {
                self.wake_agent(client);
            } else {
                self.wake_chat(client);
            }
            return Ok(());
        }
        if hub <= event {
            if hub == Time(u64::MAX) {
                return Err("nothing will ever happen again".to_owned());
            }
            self.now = hub;
            self.mark("wake hub", 0, 0);
            self.wake_hub();
            return Ok(());
        }
        let ((at, _), event) = self.queue.pop_first().expect("it was looked at");
        self.now = at;
        self.happen(*event)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if let Some(frozen) = self.coordinator.as_ref().map(|c| c.frozen).filter(|frozen| *frozen > self.now)
            && matches!(
                event,
                Event::Dial(_)
                    | Event::Arrive(_, Side::Coordinator, _)
                    | Event::Gone(_, Side::Coordinator)
                    | Event::Inside(..)
            )
        {
            self.push(frozen, event);
            return Ok(());
        }
        if let Some(asleep) = self.sleeper(&event).map(|client| self.clients[client].asleep).filter(|at| *at > self.now)
        {
            self.push(asleep, event);
            return Ok(());
        }
        if self.options.trace {
            let line = format!("{:>12.6} {event:?}", self.now.0 as f64 / 1e6);
            self.trace(line.chars().take(700).collect());
        }
        match event {
            Event::Dial(conn) => self.on_dial(conn),
            Event::Arrive(conn, side, frame) => self.arrive(conn, side, frame),
            Event::Gone(conn, side) => self.gone(conn, side),
            Event::Inside(boot, what) => {
                if self.coordinator.as_ref().is_some_and(|c| c.boot == boot) {
                    self.mark("inside", boot, 0);
                    self.on_inside(what);
                }
            }
            Event::Computed(client, life) if self.clients[client].life == life => self.on_computed(client),
            Event::Agent(client, life, fact) if self.clients[client].life == life => self.tell_agent(client, fact),
            Event::Whim(client, life) if self.clients[client].life == life => self.on_whim(client),
            Event::Live(client, life) if self.clients[client].life == life => self.begin_life(client),
            Event::Computed(..) | Event::Agent(..) | Event::Whim(..) | Event::Live(..) => {}
            Event::Fault(fault) => self.on_fault(fault),
            Event::StartCoordinator => self.start_coordinator()?,
            Event::Heal => self.heal(),
            Event::Goal => self.on_goal()?,
        }
        Ok(())
    }

    /// The client on whose machine an event happens.
    fn sleeper(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Arrive(conn, Side::Client, _) | Event::Gone(conn, Side::Client) => {
                self.net.get(conn).map(|conn| conn.client)
            }
            Event::Computed(client, _) | Event::Agent(client, ..) | Event::Whim(client, _) => Some(*client),
            _ => None,
        }
    }

    /// A lease that somebody has or had.
    pub fn some_lease(&mut self) -> u64 {
        let back = self.rng.below(12);
        self.audit.last_pushed().saturating_sub(back)
    }
}
