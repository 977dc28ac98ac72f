//! One run: the real hub and learner, and workers on a virtual clock instead of sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hydra_coordinator::serve::learner::{Command, Learner, Report};
use hydra_core::hub::{Fact, Findings, Hub, MergeInput, Order, Rules};
use hydra_core::ids::{Digest, LeaseId, Nonce, PublicKey, SessionId, VersionNo, WorkerId};
use hydra_core::machine::Machine as _;
use hydra_core::merge;
use hydra_core::proto::{self, ClientMsg, Hello, Proof, Role, ServerMsg, sign};
use hydra_core::rng::Rng;
use hydra_core::time::Time;
use hydra_engine::Job;
use serde::Serialize;

use crate::attack::{self, Attack, Loot};
use crate::gym::{Base, Ends, FRESH, Gym, Work};

/// An update's bytes, if somebody looks at them.
type Seen = Option<Arc<[u8]>>;

/// A worker takes so long for a task, give or take a tenth.
const TASK: Duration = Duration::from_secs(10);
/// Who copies must come after whom it copies.
const LATER: Duration = Duration::from_millis(1500);
/// Versions at hand: more than a worker or an attacker may go back.
const VERSIONS: usize = 16;

/// How a run is to be.
pub struct Plan {
    /// How long each honest worker takes for a task, as a multiple of the usual.
    pub honest: Vec<f64>,
    /// What each attacker does.
    pub attackers: Vec<Attack>,
    /// Tasks of each worker; nothing: the run ends by its own rules.
    pub tasks: Option<u32>,
    /// How likely a worker leaves at each new version, to come back a while later as somebody who knows nothing.
    pub leave: f64,
    /// Whether updates are checked, clipped and capped, or just averaged.
    pub checks: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    pub loss: Option<f64>,
    pub versions: u64,
    pub honest_delivered: u32,
    pub honest_refused: u32,
    pub attackers_delivered: u32,
    pub attackers_paid: u32,
    /// Why attackers' and honest updates were not paid.
    pub reasons: BTreeMap<String, u32>,
    pub honest_reasons: BTreeMap<String, u32>,
    /// Virtual seconds that workers of the usual speed trained, and waited for a task.
    pub fast_busy: f64,
    pub fast_idle: f64,
    /// Bytes of updates and of versions.
    pub bytes_up: u64,
    pub bytes_version: u64,
    pub departures: u32,
    /// Seconds that the checks took, in all, and for how many updates.
    pub check_seconds: f64,
    pub checked: u32,
}

struct Worker {
    /// Which one it is, whatever its session.
    seat: usize,
    key: SigningKey,
    attack: Option<Attack>,
    /// Which of the attackers.
    place: usize,
    /// How long it takes.
    pace: f64,
    /// Since when it has had nothing to do.
    free: Option<Time>,
    past: Digest,
    delivered: u32,
    /// What it handed in last.
    before: Option<Vec<f32>>,
}

pub struct Arena<'a> {
    plan: &'a Plan,
    hub: Hub,
    rules: Rules,
    learner: Learner,
    gym: &'a mut Gym,
    now: Time,
    facts: VecDeque<Fact>,
    /// Tasks under way, by when they are handed in.
    due: BTreeMap<(Time, SessionId), proto::Task>,
    workers: BTreeMap<SessionId, Worker>,
    /// Seats of those who left, by when they come back.
    away: BTreeSet<(Time, usize)>,
    sessions: u64,
    stopped: bool,
    uploads: BTreeMap<(SessionId, Digest), Arc<[u8]>>,
    versions: BTreeMap<VersionNo, Base>,
    /// Plain averaging: what was handed in, whatever it is.
    plain: BTreeMap<LeaseId, Vec<f32>>,
    /// The honest update that came last.
    last: Option<Vec<f32>>,
    rng: Rng,
    outcome: Outcome,
}

impl<'a> Arena<'a> {
    pub fn new(plan: &'a Plan, hub: Hub, rules: Rules, learner: Learner, gym: &'a mut Gym) -> Self {
        let weights = Arc::new(learner.checkpoint.weights.clone());
        let base = Base { digest: merge::weights_digest(&weights), weights };
        Self {
            plan,
            hub,
            rules,
            learner,
            gym,
            now: Time(0),
            facts: VecDeque::new(),
            due: BTreeMap::new(),
            workers: BTreeMap::new(),
            away: BTreeSet::new(),
            sessions: 0,
            stopped: false,
            uploads: BTreeMap::new(),
            versions: BTreeMap::from([(VersionNo(0), base)]),
            plain: BTreeMap::new(),
            last: None,
            rng: Rng::new(11),
            outcome: Outcome::default(),
        }
    }

    /// Runs until the honest have done their tasks and all of that is merged; gives the last weights.
    pub fn run(mut self) -> anyhow::Result<(Outcome, Arc<Vec<f32>>)> {
        for seat in 0..self.plan.honest.len() + self.plan.attackers.len() {
            self.join(seat);
        }
        let mut over = false;
        while !self.stopped {
            while let Some(order) = self.hub.poll() {
                self.obey(order);
            }
            if let Some(fact) = self.facts.pop_front() {
                self.hub.handle(self.now, fact);
                continue;
            }
            let done = |worker: &Worker| {
                worker.attack.is_some() || self.plan.tasks.is_some_and(|tasks| worker.delivered >= tasks)
            };
            if !over && !self.workers.is_empty() && self.workers.values().all(done) {
                over = true;
                self.dismiss();
                continue;
            }
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let wake = self.hub.deadline().map(|(at, _)| at);
            let earlier = |at: Time| due.into_iter().chain(wake).all(|other| at <= other);
            if let Some((at, seat)) = self.away.first().copied().filter(|(at, _)| earlier(*at)) {
                self.now = self.now.max(at);
                self.away.remove(&(at, seat));
                self.join(seat);
                continue;
            }
            match (due, wake) {
                (Some(due), wake) if wake.is_none_or(|wake| due <= wake) => self.deliver()?,
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.hub.expire(self.now);
                }
                (_, None) => break,
            }
            if self.is_lost() {
                break;
            }
        }
        let (version, base) = self.versions.last_key_value().expect("there is a first version");
        self.outcome.versions = version.0;
        Ok((self.outcome, base.weights.clone()))
    }

    fn is_lost(&self) -> bool {
        self.versions.last_key_value().is_some_and(|(_, base)| base.weights.iter().any(|weight| !weight.is_finite()))
    }

    /// The honest are done: nobody goes on alone.
    fn dismiss(&mut self) {
        self.due.clear();
        let left = |session: &SessionId| Fact::Left { session: *session, reason: "the run is over".to_owned() };
        self.facts.extend(self.workers.keys().map(left));
    }

    fn join(&mut self, seat: usize) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let attacker = seat.checked_sub(self.plan.honest.len());
        let attack = attacker.map(|attacker| self.plan.attackers[attacker]);
        let key = SigningKey::from_bytes(&[1 + seat as u8; 32]);
        let pace = self.plan.honest.get(seat).copied().unwrap_or(1.0);
        let place = attacker.unwrap_or(seat);
        let worker = Worker { seat, key, attack, place, pace, free: None, past: FRESH, delivered: 0, before: None };
        self.workers.insert(session, worker);
        self.facts.push_back(Fact::Joined { session, nonce: Nonce([session.0 as u8; 32]) });
        let message = ClientMsg::Hello(self.hello(session));
        self.facts.push_back(Fact::Frame { session, message });
    }

    /// Some leave, and come back after about a task.
    fn scatter(&mut self) {
        if self.plan.leave <= 0.0 {
            return;
        }
        let leaving: Vec<_> = self.workers.keys().copied().filter(|_| self.rng.unit() < self.plan.leave).collect();
        for session in leaving {
            let Some(worker) = self.workers.remove(&session) else { continue };
            self.due.retain(|(_, whose), _| *whose != session);
            self.facts.push_back(Fact::Left { session, reason: "gone".to_owned() });
            self.away.insert((self.now.after(TASK), worker.seat));
            self.outcome.departures += 1;
        }
    }

    fn hello(&self, session: SessionId) -> Hello {
        let Worker { key, seat, .. } = &self.workers[&session];
        Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: format!("worker{}", seat + 1).parse().expect("a plain name"),
            key: PublicKey(key.verifying_key().to_bytes()),
            nonce: Nonce([1; 32]),
            agent: "arena".to_owned(),
            worker: Some(WorkerId([*seat as u8 + 1; 8])),
            device: String::new(),
            holds: None,
            lease: None,
        }
    }

    /// What the learner answers to a command.
    fn told(&mut self, command: Command) -> Option<Report> {
        let mut told = None;
        self.learner.obey(command, &mut |report| told = Some(report));
        told
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Send { session, message } => self.hear(session, message),
            Order::Push { session, task, .. } => {
                let jitter = TASK.mul_f64(0.9 + 0.2 * self.rng.unit());
                let Some(worker) = self.workers.get_mut(&session) else { return };
                let late = if worker.attack == Some(Attack::Copy) { LATER } else { Duration::ZERO };
                let takes = jitter.mul_f64(worker.pace) + late;
                if let Some(since) = worker.free.take().filter(|_| worker.pace <= 1.0) {
                    self.outcome.fast_idle += self.now.since(since).as_secs_f64();
                    self.outcome.fast_busy += takes.as_secs_f64();
                }
                self.due.insert((self.now.after(takes), session), task);
            }
            Order::Stop { .. } => self.stopped = true,
            Order::Persist { seq, .. } => self.facts.push_back(Fact::Persisted { upto: seq }),
            Order::Discard { session, blob } => drop(self.uploads.remove(&(session, blob))),
            Order::Check { lease, session, blob, codec, base, probe } => {
                let Some(bytes) = self.uploads.remove(&(session, blob)) else { return };
                if self.plan.checks {
                    let began = Instant::now();
                    let told = self.told(Command::Check { lease, codec, bytes, blob, base, probe });
                    self.outcome.check_seconds += began.elapsed().as_secs_f64();
                    self.outcome.checked += 1;
                    self.report(told);
                } else {
                    // Any plausible norm: nobody looks.
                    let reach = (self.rules.shape.params() as f64).sqrt() * f64::from(self.rules.schedule.peak);
                    self.facts.push_back(Fact::Checked { lease, verdict: Ok(Findings::of_norm(reach)) });
                }
            }
            Order::Forget { lease, blob } => drop(self.told(Command::Forget { lease, blob })),
            Order::Merge { version, inputs, .. } if !self.plan.checks => self.average(version, &inputs),
            Order::Merge { version, inputs, rule } => {
                let told = self.told(Command::Merge { version, inputs, rule });
                self.report(told);
            }
            Order::Publish { version, merged } => {
                if self.plan.checks {
                    self.told(Command::Published { version, merged });
                }
                self.scatter();
            }
            _ => {}
        }
    }

    fn report(&mut self, told: Option<Report>) {
        match told {
            Some(Report::Checked { lease, verdict }) => self.facts.push_back(Fact::Checked { lease, verdict }),
            Some(Report::Merged(served)) => {
                let base = Base { digest: served.digest, weights: served.weights.clone() };
                self.outcome.bytes_version += served.delta.as_ref().map_or(0, |delta| delta.bytes.len() as u64);
                self.versions.insert(served.version, base);
                while self.versions.len() > VERSIONS {
                    self.versions.pop_first();
                }
                self.facts.push_back(Fact::Merged { version: served.version, digest: served.digest });
            }
            Some(Report::MergeFailed { version, .. }) => self.facts.push_back(Fact::MergeFailed { version }),
            Some(Report::Waiting(_) | Report::Resumed) | None => {}
        }
    }

    /// What a coordinator without checks does.
    fn average(&mut self, version: VersionNo, inputs: &[MergeInput]) {
        let mut weights = self.versions[&VersionNo(version.0 - 1)].weights.to_vec();
        let share = 1.0 / inputs.len() as f32;
        for delta in inputs.iter().filter_map(|input| self.plain.remove(&input.lease)) {
            for (weight, delta) in weights.iter_mut().zip(delta) {
                *weight -= share * delta;
            }
        }
        let digest = merge::weights_digest(&weights);
        self.versions.insert(version, Base { digest, weights: Arc::new(weights) });
        self.facts.push_back(Fact::Merged { version, digest });
    }

    fn hear(&mut self, session: SessionId, message: ServerMsg) {
        match message {
            ServerMsg::Challenge(challenge) => {
                if !self.workers.contains_key(&session) {
                    return;
                }
                let hello = self.hello(session);
                let parties = sign::Parties {
                    client: &hello.key,
                    server: &challenge.key,
                    client_nonce: &hello.nonce,
                    server_nonce: &challenge.nonce,
                };
                let statement = sign::client_statement(&parties, hello.role, &hello.user);
                let signature = sign::sign(&self.workers[&session].key, &statement);
                self.facts.push_back(Fact::Frame { session, message: ClientMsg::Proof(Proof { signature }) });
            }
            ServerMsg::Credited(_) if self.is_attacker(session) => self.outcome.attackers_paid += 1,
            // It was called off while it trained.
            ServerMsg::Unpaid(unpaid) if self.due.values().any(|task| task.lease == unpaid.lease) => {
                self.due.retain(|_, task| task.lease != unpaid.lease);
            }
            ServerMsg::Unpaid(unpaid) => {
                let code = serde_json::to_value(unpaid.code).ok();
                let code = code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
                let reasons = if self.is_attacker(session) {
                    &mut self.outcome.reasons
                } else {
                    self.outcome.honest_refused += 1;
                    eprintln!("    honest {session} refused: {}", unpaid.text);
                    &mut self.outcome.honest_reasons
                };
                *reasons.entry(code).or_default() += 1;
            }
            _ => {}
        }
    }

    fn is_attacker(&self, session: SessionId) -> bool {
        self.workers.get(&session).is_some_and(|worker| worker.attack.is_some())
    }

    /// The next task is handed in.
    fn deliver(&mut self) -> anyhow::Result<()> {
        let Some(((at, session), task)) = self.due.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        let params = self.rules.shape.params();
        let (values, bytes, losses) = self.work(session, &task)?;
        let blob = match &bytes {
            Some(bytes) => Digest::of(bytes),
            // Without checks there are no copies either.
            None => Digest::of(&task.lease.0.to_le_bytes()),
        };
        let worker = self.workers.get_mut(&session).expect("who has a task is here");
        worker.delivered += 1;
        if worker.attack.is_some() {
            self.outcome.attackers_delivered += 1;
        } else {
            self.outcome.honest_delivered += 1;
            self.last = Some(values.clone());
        }
        let more = worker.attack.is_some() || self.plan.tasks.is_none_or(|tasks| worker.delivered < tasks);
        worker.free = Some(at);
        let worker_pace = worker.pace;
        worker.before = Some(values.clone());
        self.outcome.bytes_up += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let size = bytes.as_ref().map_or_else(|| task.codec.max_len(params), |bytes| bytes.len());
        let update = proto::Update {
            lease: task.lease,
            version: task.version,
            codec: task.codec,
            blob,
            bytes: size as u64,
            steps: task.steps,
            tokens: u64::from(task.steps) * u64::from(task.batch) * u64::from(task.context),
            loss_first: losses.0,
            loss_last: losses.1,
            train_ms: (1000.0 * worker_pace * TASK.as_secs_f64()) as u64,
            more,
        };
        self.uploads.insert((session, blob), bytes.unwrap_or_else(|| Arc::from([])));
        self.plain.insert(task.lease, values);
        self.facts.push_back(Fact::Frame { session, message: ClientMsg::Update(update) });
        self.facts.push_back(Fact::Received { session, blob, intact: true });
        Ok(())
    }

    /// What a worker hands in: numbers, and their bytes if somebody will look at them.
    fn work(&mut self, session: SessionId, task: &proto::Task) -> anyhow::Result<(Vec<f32>, Seen, Ends)> {
        let params = self.rules.shape.params();
        let Worker { attack, place, .. } = self.workers[&session];
        let Some(attack) = attack else {
            let (values, bytes, losses) = self.train(session, task, None)?;
            return Ok((values, self.plan.checks.then_some(bytes), losses));
        };
        let own = if attack.trains() { Some(self.train(session, task, Some(attack))?.0) } else { None };
        let step = self.step();
        let before = self.workers[&session].before.clone();
        let loot = Loot { own, before: before.as_deref(), others: self.last.as_deref(), step: step.as_deref() };
        if let Some(values) = attack::forge(attack, place, params, loot, &mut self.rng) {
            let bytes = self.plan.checks.then(|| task.codec.encode(&values).into());
            return Ok((values, bytes, (3.0, 2.5)));
        }
        // Nothing to take yet: it has to work for once.
        let (values, bytes, losses) = self.train(session, task, None)?;
        Ok((values, self.plan.checks.then_some(bytes), losses))
    }

    fn train(
        &mut self,
        session: SessionId,
        task: &proto::Task,
        attack: Option<Attack>,
    ) -> anyhow::Result<(Vec<f32>, Arc<[u8]>, Ends)> {
        let proto::Task { mut steps, batch, context, seed, lr_start, lr_end, mut version, codec, .. } = *task;
        match attack {
            Some(Attack::Half) => steps /= 2,
            Some(Attack::Stale) => version = VersionNo(version.0.saturating_sub(5)),
            _ => {}
        }
        let job = Job { steps, batch, context, seed, lr_start, lr_end };
        let past = self.workers[&session].past;
        let work = Work { base: self.versions[&version].clone(), shard: task.shard, job, codec };
        let seat = self.workers[&session].seat;
        let done = self.gym.train(seat, past, work)?;
        if let Some(worker) = self.workers.get_mut(&session) {
            worker.past = done.past;
        }
        let values = attack::seen(codec, &done.bytes, self.rules.shape.params()).expect("what was encoded decodes");
        Ok((values, done.bytes, done.losses))
    }

    /// The last step, as everybody saw it.
    fn step(&self) -> Option<Vec<f32>> {
        let mut newest = self.versions.values().rev();
        let (new, old) = (newest.next()?, newest.next()?);
        Some(old.weights.iter().zip(new.weights.iter()).map(|(old, new)| old - new).collect())
    }
}
