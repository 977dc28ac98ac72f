//! The coordinator's shell: carries out the hub's orders with a disk, a learner and a voice that take virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Bug;
use super::inside::Inside;
use super::net::{Content, Frame, Side};
use super::world::{Event, World};
use crate::codec::Codec;
use crate::hub::rows::Version;
use crate::hub::{self, Fact, Hub, Order, QueryNo, Row};
use crate::ids::{Digest, LeaseId, SessionId, VersionNo};
use crate::machine::Machine as _;
use crate::proto::{self, ClientMsg, ServerMsg};
use crate::time::Time;

/// One in so many tasks goes to two, with [`Bug::LeasedTwice`].
const SELDOM: u64 = 50;
/// Steps between two self-checks of the hub.
const CHECK_EVERY: u64 = 128;

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    pub hub: Hub,
    pub boot: u64,
    /// When it began; its clock's zero.
    pub began: Time,
    /// Does nothing until then, as on a laptop that sleeps.
    pub frozen: Time,
    pub writer: VecDeque<(u64, Vec<Row>)>,
    pub syncing: bool,
    /// The learner does one thing at a time.
    pub learner_free: Time,
    /// Versions told since the last but one whose file is on disk, oldest first, each with the updates to be removed
    /// when two files are newer: the newest file may be that of a version whose row gets lost.
    pub unwritten: Vec<(VersionNo, Vec<LeaseId>)>,
    /// The newest version whose file is on disk.
    pub file: VersionNo,
    pub versions: BTreeMap<VersionNo, (Digest, Option<Digest>)>,
    pub sessions: BTreeMap<SessionId, u64>,
    /// Those that owe a sign of life.
    pub quiet: BTreeSet<SessionId>,
    pub expected: BTreeSet<(SessionId, Digest)>,
    pub received: BTreeMap<(SessionId, Digest), Content>,
    pub answers: BTreeMap<QueryNo, Answer>,
}

/// An answer that is drawn.
#[derive(Debug)]
pub struct Answer {
    pub begun: bool,
    /// Words that are left to be said.
    pub left: u64,
}

impl Coordinator {
    /// The coordinator's own time.
    pub fn local(&self, now: Time) -> Time {
        Time(now.0.saturating_sub(self.began.0))
    }

    /// When it wants to be woken, in the world's time.
    pub fn wake(&self, now: Time) -> Option<Time> {
        let (due, _) = self.hub.deadline()?;
        Some(Time(self.began.0.saturating_add(due.0)).max(now).max(self.frozen))
    }
}

impl World {
    /// Starts the coordinator from what is on the disk.
    pub fn start_coordinator(&mut self) -> Result<(), String> {
        if self.coordinator.is_some() {
            return Ok(());
        }
        let mut rules = self.plan.rules.clone();
        // The wall clock may have been set, forwards or back, by seconds or by days.
        let far = if self.one_in(4) { 200_000_000 } else { 100_000 };
        rules.epoch_ms = 1_000_000_000 + self.now.0 / 1000 + self.rng.below(far);
        if self.disk.is_new() {
            let digest = Digest::of(b"the random start");
            let first = Version { version: VersionNo(0), digest, tokens: 0, tasks: 0, inputs: Vec::new(), at_ms: 0 };
            self.disk.weights.insert(VersionNo(0), digest);
            self.commit(&[Row::Version(first)]);
        }
        let recovered = self.disk.recover(self.options.bug)?;
        self.audit.restarted();
        let (boot, newest) = (recovered.boot, recovered.newest.clone());
        self.mark("boot", boot, newest.version.0);
        let hub = Hub::new(Time(0), rules, self.key.clone(), recovered);
        self.coordinator = Some(Coordinator {
            hub,
            boot,
            began: self.now,
            frozen: Time(0),
            writer: VecDeque::new(),
            syncing: false,
            learner_free: self.now,
            unwritten: Vec::new(),
            file: newest.version,
            versions: BTreeMap::from([(newest.version, (newest.digest, None))]),
            sessions: BTreeMap::new(),
            quiet: BTreeSet::new(),
            expected: BTreeSet::new(),
            received: BTreeMap::new(),
            answers: BTreeMap::new(),
        });
        self.inside(50_000, Inside::Measured(newest.version));
        self.carry_out();
        Ok(())
    }

    /// Updates are needed no more once the file of their version is on disk.
    fn merged(&mut self, version: VersionNo, merged: Vec<LeaseId>) {
        let early = self.options.bug == Some(Bug::EarlyForget);
        let unwritten = self.coordinator.as_mut().filter(|_| !early).map(|coordinator| &mut coordinator.unwritten);
        match unwritten.and_then(|unwritten| unwritten.iter_mut().find(|(of, _)| *of == version)) {
            Some((_, updates)) => *updates = merged,
            None => self.disk.updates.retain(|lease, _| !merged.contains(lease)),
        }
    }

    /// Something will happen inside the coordinator within some microseconds.
    pub fn inside(&mut self, micros: u64, what: Inside) {
        let at = Time(self.now.0 + 1 + self.rng.below(micros.max(1)));
        self.inside_at(at, what);
    }

    pub fn inside_at(&mut self, at: Time, what: Inside) {
        if let Some(coordinator) = &self.coordinator {
            let boot = coordinator.boot;
            self.push(at, Event::Inside(boot, what));
        }
    }

    pub fn tell_hub(&mut self, fact: Fact) {
        let now = self.now;
        if let Some(coordinator) = &mut self.coordinator {
            let local = coordinator.local(now);
            coordinator.hub.handle(local, fact);
            self.carry_out();
        }
    }

    pub fn wake_hub(&mut self) {
        let now = self.now;
        let Some(coordinator) = &mut self.coordinator else { return };
        let local = coordinator.local(now);
        let why = coordinator.hub.deadline();
        coordinator.hub.expire(local);
        self.carry_out();
        if let Some(coordinator) = &self.coordinator
            && let Some((due, again)) = coordinator.hub.deadline()
        {
            let moved = due > local;
            self.audit.expect(moved, || format!("the hub, woken for {why:?}, is due at once for {again:?}"));
        }
    }

    fn carry_out(&mut self) {
        while let Some(order) = self.coordinator.as_mut().and_then(|c| c.hub.poll()) {
            if self.phase.has_faults() && self.one_in(self.plan.rates.dies_between_orders) {
                return self.kill_coordinator();
            }
            self.obey(order);
        }
        if let Some(coordinator) = &self.coordinator
            && self.counts.steps.is_multiple_of(CHECK_EVERY)
        {
            coordinator.hub.check();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Send { session, message } => {
                self.audit.sent(session, &message);
                self.send_client(session, Frame::Server(message));
            }
            Order::Push { session, task, .. } => {
                self.mark("push", task.lease.0, session.0);
                self.push_task(session, &task);
                if self.options.bug == Some(Bug::LeasedTwice)
                    && self.one_in(SELDOM)
                    && let Some(other) = self.somebody_else(session)
                {
                    self.push_task(other, &task);
                }
            }
            Order::SendVersion { session, version, base } => self.send_version(session, version, base),
            Order::SendShard { session, shard } => {
                let digest = self.plan.rules.shards[shard as usize].digest;
                self.send_client(session, Frame::Blob { digest, content: Content::Shard, intact: true });
            }
            Order::Discard { session, blob } => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.expected.remove(&(session, blob));
                    coordinator.received.remove(&(session, blob));
                }
            }
            Order::Close { session } => {
                self.audit.left(session);
                self.send_client(session, Frame::Fin);
                let conn = self.coordinator.as_mut().and_then(|c| c.sessions.remove(&session));
                if let Some(conn) = conn.and_then(|id| self.net.get_mut(&id)) {
                    conn.open[Side::Coordinator as usize] = false;
                }
                // The session's task tells of its end when the hub has forgotten it.
                self.inside(50_000, Inside::SessionOver(session));
            }
            Order::Persist { seq, rows } => self.persist(seq, rows),
            Order::Check { lease, session, blob, codec, probe, .. } => {
                let content = self.coordinator.as_mut().and_then(|c| c.received.remove(&(session, blob)));
                match content {
                    Some(content) => {
                        let asked = (codec, probe.windows);
                        self.learn(Inside::Checked { lease, blob, content, asked });
                    }
                    None => self.audit.fail(format!("the bytes of lease {lease} are to be checked, but are not there")),
                }
            }
            Order::Forget { lease, .. } => drop(self.disk.updates.remove(&lease)),
            Order::Merge { version, inputs, .. } => self.learn(Inside::Merge { version, inputs }),
            Order::Publish { version, merged } => {
                if self.options.bug != Some(Bug::MergedTwice) {
                    self.merged(version, merged);
                }
                self.inside(400_000, Inside::Measured(version));
            }
            Order::Generate { query, .. } => {
                let words = 1 + self.rng.below(4);
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.answers.insert(query, Answer { begun: false, left: words });
                }
                self.inside(900_000, Inside::Word(query));
            }
            Order::StopGenerating { query } => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.answers.remove(&query);
                }
            }
            Order::Note(event) => self.noted(&event),
            Order::Stop { reason } => self.stopped = Some(reason),
        }
    }

    fn push_task(&mut self, session: SessionId, task: &proto::Task) {
        self.audit.pushed(session, task);
        self.send_client(session, Frame::Server(ServerMsg::Task(task.clone())));
    }

    fn somebody_else(&self, session: SessionId) -> Option<SessionId> {
        self.coordinator.as_ref()?.sessions.keys().copied().find(|other| *other != session)
    }

    fn noted(&mut self, event: &hub::Event) {
        match event {
            hub::Event::Accepted { .. } => self.counts.paid += 1,
            hub::Event::Rejected { .. } => self.counts.unpaid += 1,
            hub::Event::Query { .. } => self.counts.answers += 1,
            hub::Event::Refused { .. } => self.counts.unanswered += 1,
            _ => {}
        }
    }

    fn send_client(&mut self, session: SessionId, frame: Frame) {
        let conn = self.coordinator.as_ref().and_then(|c| c.sessions.get(&session)).copied();
        if let Some(conn) = conn {
            self.send(conn, Side::Client, frame);
        }
    }

    fn send_version(&mut self, session: SessionId, version: VersionNo, base: Option<VersionNo>) {
        let Some((digest, delta)) = self.coordinator.as_ref().and_then(|c| c.versions.get(&version)).copied() else {
            return self.audit.fail(format!("version {version} is to be sent, but is not at hand"));
        };
        let (blob, content) = match (base, delta) {
            (None, _) => (digest, Content::Whole(digest)),
            (Some(_), Some(delta)) => (Digest::of(&delta.0), Content::Delta(delta)),
            (Some(_), None) => return self.audit.fail(format!("version {version} has no delta at hand")),
        };
        let message = ServerMsg::Version(proto::Version { version, digest, base, codec: Codec::F32, blob, bytes: 4 });
        self.audit.sent(session, &message);
        self.send_client(session, Frame::Server(message));
        self.send_client(session, Frame::Blob { digest: blob, content, intact: true });
    }

    /// A frame arrived at the coordinator.
    pub fn hub_hears(&mut self, session: SessionId, frame: Frame) {
        self.woke(session);
        match frame {
            Frame::Client(message) => {
                if let ClientMsg::Update(update) = &message
                    && let Some(coordinator) = &mut self.coordinator
                {
                    coordinator.expected.insert((session, update.blob));
                }
                self.audit.heard(session, &message);
                self.tell_hub(Fact::Frame { session, message });
            }
            Frame::Blob { digest: blob, content, intact } => {
                let Some(coordinator) = &mut self.coordinator else { return };
                if coordinator.expected.remove(&(session, blob)) {
                    coordinator.received.insert((session, blob), content);
                    self.tell_hub(Fact::Received { session, blob, intact });
                }
            }
            Frame::Bad => {
                let text = "not a message".to_owned();
                let error = proto::Error { code: proto::ErrorCode::Malformed, text, fatal: true };
                self.tell_hub(Fact::BadFrame { session, error });
            }
            Frame::Fin => self.session_over(session),
            Frame::Open | Frame::Server(_) => {}
        }
    }

    /// A session's ping was not answered in time.
    pub fn quiet(&mut self, session: SessionId) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if coordinator.sessions.contains_key(&session) && coordinator.quiet.insert(session) {
            self.tell_hub(Fact::Quiet { session });
        }
    }

    /// A sign of life came.
    pub fn woke(&mut self, session: SessionId) {
        if self.coordinator.as_mut().is_some_and(|coordinator| coordinator.quiet.remove(&session)) {
            self.tell_hub(Fact::Woke { session });
        }
    }

    /// The session's task has ended.
    pub fn session_over(&mut self, session: SessionId) {
        self.audit.left(session);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.sessions.remove(&session);
            coordinator.quiet.remove(&session);
            coordinator.expected.retain(|(owner, _)| *owner != session);
            coordinator.received.retain(|(owner, _), _| *owner != session);
        }
        self.tell_hub(Fact::Left { session, reason: "it closed the connection".to_owned() });
    }
}
