//! One run: the real hub and learner, and workers on a virtual clock instead of sockets.

use std::collections::{BTreeMap, VecDeque};
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

/// How a run is to be.
pub struct Plan {
    pub honest: usize,
    /// What each attacker does.
    pub attackers: Vec<Attack>,
    /// Tasks of each worker.
    pub tasks: u32,
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
    /// Seconds that the checks took, in all, and for how many updates.
    pub check_seconds: f64,
    pub checked: u32,
}

struct Worker {
    key: SigningKey,
    attack: Option<Attack>,
    /// Which of the attackers.
    place: usize,
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
        for place in 0..self.plan.honest + self.plan.attackers.len() {
            self.join(place);
        }
        let mut over = false;
        loop {
            while let Some(order) = self.hub.poll() {
                self.obey(order);
            }
            if let Some(fact) = self.facts.pop_front() {
                self.hub.handle(self.now, fact);
                continue;
            }
            let honest = |worker: &Worker| worker.attack.is_some() || worker.delivered >= self.plan.tasks;
            if !over && self.workers.values().all(honest) {
                over = true;
                self.dismiss();
                continue;
            }
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let wake = self.hub.deadline().map(|(at, _)| at);
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

    fn join(&mut self, place: usize) {
        let session = SessionId(1 + place as u64);
        let attack = place.checked_sub(self.plan.honest).map(|attacker| self.plan.attackers[attacker]);
        let key = SigningKey::from_bytes(&[1 + place as u8; 32]);
        let place = place.saturating_sub(self.plan.honest);
        let worker = Worker { key, attack, place, past: FRESH, delivered: 0, before: None };
        self.workers.insert(session, worker);
        self.facts.push_back(Fact::Joined { session, nonce: Nonce([session.0 as u8; 32]) });
        let message = ClientMsg::Hello(self.hello(session));
        self.facts.push_back(Fact::Frame { session, message });
    }

    fn hello(&self, session: SessionId) -> Hello {
        let key = PublicKey(self.workers[&session].key.verifying_key().to_bytes());
        Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: format!("worker{session}").parse().expect("a plain name"),
            key,
            nonce: Nonce([1; 32]),
            agent: "attacks".to_owned(),
            worker: Some(WorkerId([session.0 as u8; 8])),
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
                let late = if self.workers[&session].attack == Some(Attack::Copy) { LATER } else { Duration::ZERO };
                self.due.insert((self.now.after(jitter + late), session), task);
            }
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
            Order::Publish { version, merged } if self.plan.checks => {
                self.told(Command::Published { version, merged });
            }
            _ => {}
        }
    }

    fn report(&mut self, told: Option<Report>) {
        match told {
            Some(Report::Checked { lease, verdict }) => self.facts.push_back(Fact::Checked { lease, verdict }),
            Some(Report::Merged(served)) => {
                let base = Base { digest: served.digest, weights: served.weights.clone() };
                self.versions.insert(served.version, base);
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
            ServerMsg::Credited(_) if self.workers[&session].attack.is_some() => self.outcome.attackers_paid += 1,
            ServerMsg::Unpaid(unpaid) => {
                let code = serde_json::to_value(unpaid.code).ok();
                let code = code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
                let reasons = if self.workers[&session].attack.is_some() {
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
        let more = worker.attack.is_some() || worker.delivered < self.plan.tasks;
        worker.before = Some(values.clone());
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
            train_ms: TASK.as_millis() as u64,
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
        let work = Work { base: self.versions[&version].clone(), shard: task.shard, job };
        let done = self.gym.train(session.0 as usize - 1, past, work)?;
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
