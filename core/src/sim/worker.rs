//! A worker's process: the agent and a compute thread that takes virtual time. What liars make of it: `villain`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::audit::next_weights;
use super::net::{Content, Frame, Side};
use super::villain::lie;
use super::world::{Event, World};
use crate::agent::{Agent, Event as Told, Exit, Fact, Order};
use crate::ids::{Digest, LeaseId, VersionNo};
use crate::machine::Machine as _;
use crate::proto::{self, ClientMsg, UnpaidCode};
use crate::time::Time;

/// What the compute thread does, one after the other.
#[derive(Debug, Clone)]
enum Job {
    Install(proto::Version, Option<Content>),
    Train { task: proto::Task, step: u32, base: Option<Digest>, began: Time },
}

/// A worker's process.
#[derive(Debug)]
pub struct Worker {
    pub agent: Agent,
    /// Microseconds for a step.
    step: u64,
    /// Says what is not so.
    pub villain: bool,
    blobs: BTreeMap<Digest, Content>,
    expected: BTreeSet<Digest>,
    jobs: VecDeque<Job>,
    weights: Option<(VersionNo, Digest)>,
    /// The last sign that it is not forgotten: training, a payment, or a connection.
    pub useful: Time,
    /// Trained leases without an answer.
    pub unanswered: BTreeMap<LeaseId, Time>,
}

impl Worker {
    pub fn new(agent: Agent, step: u64, villain: bool, now: Time) -> Self {
        Self {
            agent,
            step,
            villain,
            blobs: BTreeMap::new(),
            expected: BTreeSet::new(),
            jobs: VecDeque::new(),
            weights: None,
            useful: now,
            unanswered: BTreeMap::new(),
        }
    }

    /// A frame came; gives what the agent is told of it.
    pub fn hear(&mut self, frame: Frame) -> Option<Fact> {
        match frame {
            Frame::Server(message) => {
                match &message {
                    proto::ServerMsg::Credited(m) => drop(self.unanswered.remove(&m.lease)),
                    proto::ServerMsg::Unpaid(m) => drop(self.unanswered.remove(&m.lease)),
                    _ => {}
                }
                Some(Fact::Message(message))
            }
            Frame::Blob { digest, content, .. } if self.expected.remove(&digest) => {
                self.blobs.insert(digest, content);
                Some(Fact::Blob { digest })
            }
            _ => None,
        }
    }

    /// The connection ended: nothing is expected of it any more.
    pub fn unplug(&mut self) {
        self.expected.clear();
    }
}

impl World {
    pub fn worker(&mut self, client: usize) -> Option<&mut Worker> {
        self.clients[client].worker.as_mut()
    }

    /// An honest worker, for which nobody else speaks, hears only that it came too late, or that it is all over.
    pub fn judge_refusal(&mut self, client: usize, frame: &Frame) {
        let Frame::Server(proto::ServerMsg::Unpaid(proto::Unpaid { lease, code, text, .. })) = frame else { return };
        let twin = self.clients.iter().any(|other| other.clone_of == Some(client));
        let fair = matches!(
            code,
            UnpaidCode::Stale
                | UnpaidCode::Expired
                | UnpaidCode::Cancelled
                | UnpaidCode::Finished
                | UnpaidCode::UnknownLease
        );
        let fair = fair || twin || self.clients[client].is_villain();
        self.audit.expect(fair, || format!("worker {client} was refused its pay of lease {lease}: {text}"));
    }

    pub fn tell_agent(&mut self, client: usize, fact: Fact) {
        let now = self.clients[client].local(self.now);
        if let Some(worker) = self.worker(client) {
            worker.agent.handle(now, fact);
            self.obey_agent(client);
        }
    }

    pub fn wake_agent(&mut self, client: usize) {
        let now = self.clients[client].local(self.now);
        let Some(worker) = self.worker(client) else { return };
        worker.agent.expire(now);
        self.obey_agent(client);
        let due = self.worker(client).and_then(|worker| worker.agent.deadline());
        self.audit
            .expect(due.is_none_or(|(due, _)| due > now), || format!("agent {client} is due at once for {due:?}"));
    }

    fn obey_agent(&mut self, client: usize) {
        while let Some(order) = self.worker(client).and_then(|worker| worker.agent.poll()) {
            if self.is_its_last(client) {
                return;
            }
            match order {
                Order::Connect => self.dial(client),
                Order::Disconnect => self.hang_up(client),
                Order::Send(message) => self.say(client, message),
                Order::SendBlob { blob } => self.upload(client, blob),
                Order::Expect { blob, .. } => {
                    if let Some(worker) = self.worker(client) {
                        worker.expected.insert(blob);
                    }
                }
                Order::Setup { .. } => {
                    if let Some(worker) = self.worker(client) {
                        worker.weights = None;
                    }
                }
                Order::Install(version) => {
                    let content = self.worker(client).and_then(|worker| worker.blobs.remove(&version.blob));
                    self.compute(client, Job::Install(version, content));
                }
                Order::FindShard { shard } => {
                    let here = self.clients[client].shards.contains(&shard);
                    let fact = if here { Fact::ShardReady { shard } } else { Fact::ShardMissing { shard } };
                    self.later(client, 5_000, fact);
                }
                Order::KeepShard { shard } => {
                    self.clients[client].shards.insert(shard);
                    self.later(client, 5_000, Fact::ShardReady { shard });
                }
                Order::Train(task) => {
                    let job = Job::Train { task: *task, step: 0, base: None, began: self.now };
                    self.compute(client, job);
                }
                Order::StopTraining { lease } => {
                    if let Some(worker) = self.worker(client) {
                        worker.jobs.retain(|job| !matches!(job, Job::Train { task, .. } if task.lease == lease));
                    }
                }
                Order::Drop { blob } => {
                    if let Some(worker) = self.worker(client) {
                        worker.blobs.remove(&blob);
                    }
                }
                Order::Note(event) => self.heed(client, &event),
                Order::Exit(exit) => return self.exit_agent(client, &exit),
            }
        }
        self.rewake(client);
    }

    fn heed(&mut self, client: usize, event: &Told) {
        let now = self.now;
        let Some(worker) = self.worker(client) else { return };
        if matches!(event, Told::Ready { .. } | Told::Task { .. } | Told::Progress { .. } | Told::Credited { .. }) {
            worker.useful = now;
        }
    }

    fn exit_agent(&mut self, client: usize, exit: &Exit) {
        self.mark("exit", client as u64, matches!(exit, Exit::Done).into());
        self.hang_up(client);
        let villain = self.worker(client).is_some_and(|worker| worker.villain);
        if let Exit::Refused(text) = exit
            && !villain
            && !text.contains("kicked by the operator")
        {
            self.audit.fail(format!("worker {client} was refused: {text}"));
        }
        self.end_client(client);
    }

    /// A fact that the agent hears a little later.
    fn later(&mut self, client: usize, micros: u64, fact: Fact) {
        let at = Time(self.now.0 + 1 + self.rng.below(micros));
        let life = self.clients[client].life;
        self.push(at, Event::Agent(client, life, fact));
    }

    fn compute(&mut self, client: usize, job: Job) {
        let Some(worker) = self.worker(client) else { return };
        worker.jobs.push_back(job);
        if worker.jobs.len() == 1 {
            self.next_job(client);
        }
    }

    fn next_job(&mut self, client: usize) {
        let (life, now) = (self.clients[client].life, self.now);
        let Some(worker) = self.worker(client) else { return };
        let micros = match worker.jobs.front() {
            None => return,
            Some(Job::Install(..)) => 30_000,
            Some(Job::Train { .. }) => worker.step,
        };
        let at = Time(now.0 + micros / 2 + self.rng.below(micros));
        self.push(at, Event::Computed(client, life));
    }

    /// The compute thread is done with a step, or would be if its job had not been taken away.
    pub fn on_computed(&mut self, client: usize) {
        let faults = self.phase.has_faults();
        let bad_install = faults && self.rng.below(1000) < self.plan.rates.bad_install;
        let failed = faults && self.rng.below(1000) < self.plan.rates.failed_training;
        let (now, params) = (self.now, self.plan.rules.shape.params());
        let Some(worker) = self.worker(client) else { return };
        let fact = match worker.jobs.pop_front() {
            None => return,
            Some(Job::Install(version, content)) => match worker.install(&version, content, bad_install) {
                Ok(digest) => Some(Fact::Installed { version: version.version, digest }),
                Err(why) => return self.audit.fail(format!("worker {client}: {why}")),
            },
            Some(Job::Train { task, .. }) if failed => {
                Some(Fact::Failed { lease: task.lease, text: "out of memory".to_owned() })
            }
            Some(Job::Train { task, step, base, began }) => {
                let base = base.or(worker.weights.map(|(_, digest)| digest));
                let version = worker.weights.map(|(version, _)| version);
                let (lease, step) = (task.lease, step + 1);
                if step == 1 && version != Some(task.version) {
                    return self
                        .audit
                        .fail(format!("lease {lease} of version {} trains from {version:?}", task.version));
                }
                if step < task.steps {
                    worker.jobs.push_front(Job::Train { task, step, base, began });
                    let speed = 8.0e6 / worker.step as f32;
                    Some(Fact::Step { lease, step, loss: 3.0, tokens_per_s: speed })
                } else {
                    Some(worker.finish(&task, params, base.unwrap_or(Digest([0; 32])), began, now))
                }
            }
        };
        self.next_job(client);
        if let Some(fact) = fact {
            self.tell_agent(client, fact);
        }
    }

    fn upload(&mut self, client: usize, blob: Digest) {
        let damaged = self.phase.has_faults() && self.rng.below(100) == 0 && self.clients[client].is_villain();
        let Some(worker) = self.worker(client) else { return };
        let Some(mut content) = worker.blobs.get(&blob).cloned() else {
            return self.audit.fail(format!("worker {client} is to send a blob that it does not have"));
        };
        if worker.villain {
            match self.rng.below(8) {
                0 => content = Content::Garbage,
                1 => content = Content::Loud,
                2 => content = Content::Noise,
                3 => content = Content::Copy,
                4 => return,
                _ => {}
            }
        }
        let frame = Frame::Blob { digest: blob, content, intact: !damaged };
        self.send_from(client, Side::Coordinator, frame);
    }

    /// Sends what the agent says; a villain changes it first.
    fn say(&mut self, client: usize, message: ClientMsg) {
        let message = if self.clients[client].is_villain() { lie(message, &mut self.rng) } else { message };
        if self.clients[client].is_villain() && self.rng.below(20) == 0 {
            self.send_from(client, Side::Coordinator, Frame::Client(message.clone()));
        }
        self.send_from(client, Side::Coordinator, Frame::Client(message));
    }
}

impl Worker {
    fn install(&mut self, version: &proto::Version, content: Option<Content>, bad: bool) -> Result<Digest, String> {
        let weights = match (version.base, content) {
            (None, Some(Content::Whole(digest))) => digest,
            (Some(base), Some(Content::Delta(delta))) => match self.weights {
                Some((have, digest)) if have == base => next_weights(&digest, &delta),
                have => return Err(format!("version {} is added to {have:?}", version.version)),
            },
            (base, content) => return Err(format!("version {} over {base:?} is {content:?}", version.version)),
        };
        let weights = if bad { Digest::of(b"a bit has flipped") } else { weights };
        self.weights = Some((version.version, weights));
        Ok(weights)
    }

    fn finish(&mut self, task: &proto::Task, params: usize, base: Digest, began: Time, now: Time) -> Fact {
        let blob = Digest::of(&[&base.0[..], &task.seed.to_le_bytes(), &task.lease.0.to_le_bytes()].concat());
        self.blobs.insert(blob, Content::Update { base });
        self.unanswered.insert(task.lease, now);
        let bytes = task.codec.max_len(params) as u64;
        let train_ms = now.since(began).as_millis() as u64;
        Fact::Trained { lease: task.lease, blob, bytes, loss_first: 3.0, loss_last: 2.5, train_ms }
    }
}
