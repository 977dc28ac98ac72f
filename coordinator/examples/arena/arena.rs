//! One run: the real hub and learner, and workers on a virtual clock instead of sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hydra_coordinator::average::Average;
use hydra_coordinator::serve::learner::{Check, Command, Learner, Report};
use hydra_core::hub::{Fact, Findings, Hub, MergeInput, Order, Rules};
use hydra_core::ids::{Digest, LeaseId, Nonce, PublicKey, SessionId, VersionNo, WorkerId};
use hydra_core::machine::Machine as _;
use hydra_core::merge;
use hydra_core::proto::{self, ClientMsg, Hello, Role, ServerMsg, sign};
use hydra_core::rng::Rng;
use hydra_core::time::Time;
use hydra_engine::Job;
use serde::Serialize;

use crate::attack::{self, Attack, Loot};
use crate::gym::{Base, Ends, FRESH, Gym, Work};

mod workers;

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
    /// Tasks of the honest together; nothing: the run ends by its own rules.
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
    /// The same in bits a byte, where it is measured.
    pub bits_per_byte: Option<f64>,
    /// That of the last version alone, where `loss` may be that of the average up to it.
    pub own_loss: Option<f64>,
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
    /// Updates by how many versions were newer than theirs when they were handed in.
    pub staleness: BTreeMap<u64, u32>,
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
    /// First steps, by when they are reported, as real workers do.
    steps: BTreeMap<(Time, SessionId), proto::Progress>,
    workers: BTreeMap<SessionId, Worker>,
    /// Seats of those who left, by when they come back.
    away: BTreeSet<(Time, usize)>,
    sessions: u64,
    /// Tasks that the honest have done or will take.
    begun: u32,
    stopped: bool,
    uploads: BTreeMap<(SessionId, Digest), Arc<[u8]>>,
    versions: BTreeMap<VersionNo, Base>,
    /// Of all versions so far, as the coordinator's evaluator keeps it.
    average: Average,
    /// Plain averaging: what was handed in, whatever it is.
    plain: BTreeMap<LeaseId, Vec<f32>>,
    /// The honest update that came last.
    last: Option<Vec<f32>>,
    rng: Rng,
    outcome: Outcome,
}

impl<'a> Arena<'a> {
    pub fn new(plan: &'a Plan, hub: Hub, rules: Rules, learner: Learner, gym: &'a mut Gym) -> Self {
        let weights = learner.checkpoint.weights.clone();
        let average = Average::new(VersionNo(0), weights.clone());
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
            steps: BTreeMap::new(),
            workers: BTreeMap::new(),
            away: BTreeSet::new(),
            sessions: 0,
            begun: 0,
            stopped: false,
            uploads: BTreeMap::new(),
            versions: BTreeMap::from([(VersionNo(0), base)]),
            average,
            plain: BTreeMap::new(),
            last: None,
            rng: Rng::new(11),
            outcome: Outcome::default(),
        }
    }

    /// Runs until the honest have done their tasks and all of that is merged; gives the last weights.
    /// What came of it, the last version's weights, and the average up to it.
    pub fn run(mut self) -> anyhow::Result<(Outcome, Arc<Vec<f32>>, Average)> {
        self.begun = self.plan.honest.len() as u32;
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
            if !over && self.plan.tasks.is_some_and(|tasks| self.outcome.honest_delivered >= tasks) {
                over = true;
                self.dismiss();
                continue;
            }
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let step = self.steps.first_key_value().map(|((at, _), _)| *at);
            let wake = self.hub.deadline().map(|(at, _)| at);
            let earlier = |at: Time| due.into_iter().chain(wake).all(|other| at <= other);
            if let Some((at, seat)) = self.away.first().copied().filter(|(at, _)| earlier(*at)) {
                self.now = self.now.max(at);
                self.away.remove(&(at, seat));
                self.join(seat);
                continue;
            }
            if let Some(at) = step.filter(|at| earlier(*at)) {
                self.now = self.now.max(at);
                self.report_step();
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
        Ok((self.outcome, base.weights.clone(), self.average))
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
                let first = proto::Progress {
                    lease: task.lease,
                    step: 1,
                    loss: 3.0,
                    tokens_per_s: (f64::from(task.steps * task.batch * task.context) / takes.as_secs_f64()) as f32,
                };
                self.steps.insert((self.now.after(takes / task.steps), session), first);
                self.due.insert((self.now.after(takes), session), task);
                if self.plan.tasks.is_some_and(|tasks| self.begun >= tasks) {
                    self.finish(session);
                }
            }
            Order::Stop { .. } => self.stopped = true,
            Order::Persist { seq, .. } => self.facts.push_back(Fact::Persisted { upto: seq }),
            Order::Discard { session, blob } => drop(self.uploads.remove(&(session, blob))),
            Order::Check { lease, session, blob, codec, base, probe } => {
                let Some(bytes) = self.uploads.remove(&(session, blob)) else { return };
                if self.plan.checks {
                    let began = Instant::now();
                    let told = self.told(Command::Check(Check { lease, codec, bytes, blob, base, probe }));
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
                self.average.add(served.version, &served.weights);
                self.outcome.bytes_version += served.delta.as_ref().map_or(0, |delta| delta.bytes.len() as u64);
                self.versions.insert(served.version, base);
                while self.versions.len() > VERSIONS {
                    self.versions.pop_first();
                }
                self.facts.push_back(Fact::Merged { version: served.version, digest: served.digest });
            }
            Some(Report::MergeFailed { version, .. }) => self.facts.push_back(Fact::MergeFailed { version }),
            Some(Report::Waiting(_) | Report::Resumed | Report::Unwritten(_)) | None => {}
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
}
