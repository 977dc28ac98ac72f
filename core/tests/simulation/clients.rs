//! Simulated workers and chats: the real machines, with computing and people replaced by numbers.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hydra_core::agent::{self, Agent};
use hydra_core::chat::{self, Chat};
use hydra_core::ids::{Digest, SessionId, UserName, WorkerId};
use hydra_core::proto;
use hydra_core::rng::Rng;
use hydra_core::time::Time;

/// One client, or the place of a dead one.
pub struct Client {
    pub user: UserName,
    pub key: SigningKey,
    pub kind: Kind,
    /// The session that it believes in.
    pub session: Option<SessionId>,
    /// Counts lives, so that what was meant for an earlier one is recognised.
    pub life: u64,
}

pub enum Kind {
    Worker(Box<Worker>),
    Chat(Box<Talker>),
    Dead,
}

pub struct Worker {
    pub agent: Agent,
    /// Weights, as their digest.
    pub weights: Option<Digest>,
    pub shards: BTreeSet<Digest>,
    /// Orders for the compute thread, done one after the other.
    pub queue: VecDeque<Work>,
    pub busy: bool,
    pub stop: BTreeSet<u64>,
    pub step: Duration,
    /// Sends nonsense with this probability.
    pub lies: f64,
}

pub enum Work {
    Install(proto::Version),
    Train(Box<proto::Task>),
}

pub struct Talker {
    pub chat: Chat,
    pub next: u64,
    pub cancels: f64,
}

impl Client {
    pub fn worker(&mut self, now: Time, rng: &mut Rng) {
        self.life += 1;
        self.session = None;
        let settings = agent::Settings {
            user: self.user.clone(),
            key: self.key.clone(),
            worker: WorkerId(rng.next_u64().to_le_bytes()),
            device: "sim".to_owned(),
            agent: "sim".to_owned(),
            tasks: None,
            pause: Duration::ZERO,
            seed: rng.next_u64(),
        };
        self.kind = Kind::Worker(Box::new(Worker {
            agent: Agent::new(now, settings),
            weights: None,
            shards: BTreeSet::new(),
            queue: VecDeque::new(),
            busy: false,
            stop: BTreeSet::new(),
            // Some machines are many times slower than others.
            step: Duration::from_millis(20 + rng.below(60) * (1 + rng.below(8))),
            lies: if rng.below(6) == 0 { 0.3 } else { 0.0 },
        }));
    }

    pub fn chat(&mut self, rng: &mut Rng) {
        self.life += 1;
        self.session = None;
        let settings = chat::Settings {
            user: self.user.clone(),
            key: self.key.clone(),
            agent: "sim".to_owned(),
            reconnect: true,
            seed: rng.next_u64(),
        };
        let cancels = if rng.below(3) == 0 { 0.3 } else { 0.0 };
        self.kind = Kind::Chat(Box::new(Talker { chat: Chat::new(settings), next: rng.next_u64(), cancels }));
    }
}
