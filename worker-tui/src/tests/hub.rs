//! A coordinator in memory: the real hub, sessions over pipes instead of sockets, and a learner without evaluation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::hub::rows;
use hydra_core::hub::{Asked, Event, Fact, Findings, Hub, Order, Recovered, Rules, Sampling, Shard, Stop};
use hydra_core::ids::{Digest, LeaseId, Nonce, SessionId, TaskId, VersionNo};
use hydra_core::ledger::Book;
use hydra_core::machine::Machine as _;
use hydra_core::merge::{self, OuterRule, OuterState};
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto::{self, ServerMsg};
use hydra_core::schedule::Schedule;
use hydra_shell::client;
use hydra_shell::clock::Clock;
use hydra_shell::link::{self, Coordinator, LinkStats};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

type Session = link::Connection<Coordinator>;
type Outbox = link::Outbox<Coordinator>;

/// What a test does to the coordinator.
#[derive(Debug)]
pub enum Meddle {
    /// Cut every session without a word.
    Cut,
    /// Send the next delta with a wrong number in it.
    Garble,
    /// Send this to everybody.
    Say(Box<ServerMsg>),
}

/// The coordinator as a test sees it.
#[derive(Clone)]
pub struct Handle {
    doors: mpsc::UnboundedSender<Session>,
    pub meddle: mpsc::UnboundedSender<Meddle>,
    /// What it told people.
    pub events: Arc<Mutex<Vec<Event>>>,
}

impl Handle {
    pub async fn connect(self) -> client::Connection {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let stats = || Arc::new(LinkStats::default());
        let side = Coordinator { update_bytes: 4 * shape().params() as u64, pace: None };
        self.doors.send(link::Connection::over(far, side, stats())).unwrap();
        client::Connection::over(near, link::Client::default(), stats())
    }

    /// How many sessions of workers began.
    pub fn joined(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|event| matches!(event, Event::Joined { .. })).count()
    }
}

pub fn shape() -> Shape {
    Shape::new(64, 16, 2, 1, 16)
}

pub fn shard() -> Arc<[u8]> {
    (0..200u16).flat_map(|at| (at * at % 7).to_le_bytes()).collect()
}

/// Starts one.
pub fn start() -> Handle {
    start_with(200)
}

/// Starts one that says that its shard has so many tokens.
pub fn start_with(shard_tokens: u64) -> Handle {
    let (doors, sessions) = mpsc::unbounded_channel();
    let (meddle, meddled) = mpsc::unbounded_channel();
    let events = Arc::default();
    let weights = shape().initial_weights(3);
    let newest = rows::Version {
        version: VersionNo(0),
        digest: merge::weights_digest(&weights),
        tokens: 0,
        tasks: 0,
        inputs: Vec::new(),
        at_ms: 0,
    };
    let recovered = Recovered {
        boot: 1,
        users: Vec::new(),
        api_keys: Vec::new(),
        book: Book::default(),
        asked: Asked::default(),
        newest,
        evaluated: None,
        open: Vec::new(),
        unmerged: Vec::new(),
        settled: Vec::new(),
        last_task: TaskId(0),
    };
    let clock = Clock::start();
    let coordinator = Fake {
        hub: Hub::new(clock.now(), rules(shard_tokens), SigningKey::from_bytes(&[9; 32]), recovered),
        clock,
        outboxes: BTreeMap::new(),
        received: BTreeMap::new(),
        updates: BTreeMap::new(),
        state: OuterState::new(weights.len()),
        versions: BTreeMap::from([(VersionNo(0), (weights, Vec::new()))]),
        garble: false,
        events: Arc::clone(&events),
    };
    tokio::spawn(coordinator.run(sessions, meddled));
    Handle { doors, meddle, events }
}

fn rules(shard_tokens: u64) -> Rules {
    Rules {
        shape: shape(),
        recipe: Recipe { batch: 2, ..Recipe::default() },
        schedule: Schedule { peak: 1e-2, warmup_tokens: 0, horizon: None, final_ratio: 1.0 },
        reward: Credits::hyd(1),
        price: Credits(500_000),
        steps: 5,
        codec: Codec::Int4,
        sparser: false,
        shards: vec![Shard { digest: Digest::of(&shard()), tokens: shard_tokens, preview: "text".to_owned() }],
        queue: 2,
        every: None,
        lease_first: Duration::from_mins(1),
        lease_min: Duration::from_secs(10),
        lease_factor: 3.0,
        quorum: 0.7,
        grace: 0.1,
        round_deadline: Duration::from_mins(1),
        outer: OuterRule::MEAN,
        checked_windows: 0,
        stop: Stop::default(),
        sampling: Sampling { max_new_tokens: 9, temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 },
        seed: 1,
        epoch_ms: 0,
    }
}

struct Fake {
    hub: Hub,
    clock: Clock,
    outboxes: BTreeMap<SessionId, Outbox>,
    received: BTreeMap<Digest, Vec<u8>>,
    /// Accepted updates, decoded.
    updates: BTreeMap<LeaseId, Vec<f32>>,
    state: OuterState,
    /// Weights, and the delta that leads to them.
    versions: BTreeMap<VersionNo, (Vec<f32>, Vec<u8>)>,
    garble: bool,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Fake {
    async fn run(mut self, mut doors: mpsc::UnboundedReceiver<Session>, mut meddled: mpsc::UnboundedReceiver<Meddle>) {
        let (sender, mut heard) = mpsc::unbounded_channel();
        let mut own = VecDeque::new();
        let mut next = 0;
        loop {
            while let Some(order) = self.hub.poll() {
                own.extend(self.carry_out(order));
            }
            if let Some(fact) = own.pop_front() {
                self.hub.handle(self.clock.now(), fact);
                continue;
            }
            let deadline = self.hub.deadline().map(|(at, _)| at);
            tokio::select! {
                Some(link::Connection { outbox, mut inbox }) = doors.recv() => {
                    next += 1;
                    let session = SessionId(next);
                    self.outboxes.insert(session, outbox);
                    own.push_back(Fact::Joined { session, nonce: Nonce([next as u8; 32]), host: None });
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        while let Some(event) = inbox.recv().await {
                            let _ = sender.send((session, event));
                        }
                    });
                }
                Some((session, event)) = heard.recv() => own.extend(self.on_event(session, event)),
                Some(meddle) = meddled.recv() => match meddle {
                    Meddle::Cut => std::mem::take(&mut self.outboxes).values().for_each(Outbox::close),
                    Meddle::Garble => self.garble = true,
                    Meddle::Say(message) => self.outboxes.values().for_each(|outbox| outbox.send(&message).unwrap()),
                },
                () = self.clock.sleep_until(deadline) => self.hub.expire(self.clock.now()),
                else => return,
            }
        }
    }

    fn on_event(&mut self, session: SessionId, event: link::Event<proto::ClientMsg>) -> Option<Fact> {
        match event {
            link::Event::Message(message) => Some(Fact::Frame { session, message: *message }),
            link::Event::Blob { digest: blob, bytes } => {
                self.received.insert(blob, bytes);
                Some(Fact::Received { session, blob, intact: true })
            }
            link::Event::Closed(closed) => Some(Fact::Left { session, reason: closed.to_string() }),
            _ => None,
        }
    }

    fn carry_out(&mut self, order: Order) -> Option<Fact> {
        match order {
            Order::Send { session, message } => self.send(session, &message),
            Order::Push { session, task, .. } => self.send(session, &ServerMsg::Task(task)),
            Order::SendVersion { session, version, base } => self.send_version(session, version, base),
            Order::SendShard { session, .. } => {
                let _ = self.outboxes.get(&session).map(|outbox| outbox.send_blob(Digest::of(&shard()), shard()));
            }
            Order::Close { session } => {
                self.outboxes.remove(&session).inspect(Outbox::close);
            }
            Order::Persist { seq, .. } => return Some(Fact::Persisted { upto: seq }),
            Order::Check { lease, blob, codec, .. } => {
                let values = codec.decode(&self.received.remove(&blob).unwrap(), shape().params()).unwrap();
                let verdict = Ok(Findings::of_norm(merge::norm(&values)));
                self.updates.insert(lease, values);
                return Some(Fact::Checked { lease, verdict });
            }
            Order::Merge { version, inputs, rule } => {
                let mut weights = self.versions.last_key_value().unwrap().1.0.clone();
                let inputs: Vec<_> = inputs
                    .iter()
                    .map(|input| merge::Input { share: input.share, delta: &self.updates[&input.lease] })
                    .collect();
                let bytes = merge::outer_step(&mut weights, &mut self.state, &inputs, rule, Codec::Int4);
                let digest = merge::weights_digest(&weights);
                self.versions.insert(version, (weights, bytes));
                return Some(Fact::Merged { version, digest });
            }
            Order::Note(event) => self.events.lock().unwrap().push(event),
            _ => {}
        }
        None
    }

    fn send(&self, session: SessionId, message: &ServerMsg) {
        let _ = self.outboxes.get(&session).map(|outbox| outbox.send(message));
    }

    fn send_version(&mut self, session: SessionId, number: VersionNo, base: Option<VersionNo>) {
        let (weights, delta) = &self.versions[&number];
        let mut bytes = if base.is_some() { delta.clone() } else { merge::weights_to_bytes(weights) };
        if base.is_some() && std::mem::take(&mut self.garble) {
            bytes[2] ^= 1;
        }
        let blob = Digest::of(&bytes);
        let version = proto::Version {
            version: number,
            digest: merge::weights_digest(weights),
            base,
            codec: if base.is_some() { Codec::Int4 } else { Codec::F32 },
            blob,
            bytes: bytes.len() as u64,
        };
        self.send(session, &ServerMsg::Version(version));
        let _ = self.outboxes.get(&session).map(|outbox| outbox.send_blob(blob, bytes.into()));
    }
}
