//! A coordinator in memory: the real hub, sessions over pipes instead of sockets, a script instead of a model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::hub::rows::Version;
use hydra_core::hub::{Asked, Fact, Hub, Order, Recovered, Rules, Sampling, Stop};
use hydra_core::ids::{Digest, Nonce, SessionId, TaskId, TransferId, UserName, VersionNo};
use hydra_core::ledger::Book;
use hydra_core::machine::Machine as _;
use hydra_core::merge::OuterRule;
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto::{Bye, Error, ErrorCode, Finish, ServerMsg};
use hydra_core::schedule::Schedule;
use hydra_shell::client;
use hydra_shell::clock::Clock;
use hydra_shell::link::{self, Coordinator, LinkStats};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

type Session = link::Connection<Coordinator>;

/// What the "model" does with a prompt.
#[derive(Debug, Clone, Copy)]
pub enum Script {
    /// Says all of it.
    Say(&'static [&'static str]),
    /// Says this and never comes to an end.
    Hang(&'static [&'static str]),
    /// Says this; then the coordinator dies.
    Die(&'static [&'static str]),
    /// Says this; then the coordinator says goodbye for good.
    Part(&'static [&'static str]),
    /// Says this; then the coordinator refuses its user.
    Refuse(&'static [&'static str]),
}

/// Reaches the coordinator.
#[derive(Clone)]
pub struct Door(mpsc::UnboundedSender<Session>);

impl Door {
    pub async fn connect(self) -> client::Connection {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let stats = || Arc::new(LinkStats::default());
        self.0.send(link::Connection::over(far, Coordinator { update_bytes: 0, pace: None }, stats())).unwrap();
        client::Connection::over(near, link::Client::default(), stats())
    }
}

/// Starts one in which `user` has `balance`; prompts are answered by the scripts, the last one again and again.
pub fn start(user: &UserName, balance: Credits, scripts: &[Script]) -> Door {
    let (door, sessions) = mpsc::unbounded_channel();
    let mut book = Book::default();
    if balance.0 > 0 {
        let id = TransferId::derive("gift", &[]);
        book.reward(id, user, balance, "task 1".to_owned(), 0).unwrap();
    }
    let newest =
        Version { version: VersionNo(12), digest: Digest([0; 32]), tokens: 0, tasks: 0, inputs: Vec::new(), at_ms: 0 };
    let recovered = Recovered {
        boot: 1,
        users: Vec::new(),
        api_keys: Vec::new(),
        book,
        asked: Asked::default(),
        newest,
        evaluated: Some((2.31, 1.5)),
        open: Vec::new(),
        unmerged: Vec::new(),
        settled: Vec::new(),
        last_task: TaskId(0),
    };
    let clock = Clock::start();
    let hub = Hub::new(clock.now(), rules(), SigningKey::from_bytes(&[9; 32]), recovered);
    tokio::spawn(run(hub, clock, sessions, scripts.to_vec()));
    Door(door)
}

fn rules() -> Rules {
    Rules {
        shape: Shape::new(256, 16, 2, 1, 16),
        recipe: Recipe::default(),
        schedule: Schedule { peak: 1e-3, warmup_tokens: 0, horizon: None, final_ratio: 1.0 },
        reward: Credits::hyd(1),
        price: Credits(500_000),
        steps: 1,
        codec: Codec::F32,
        sparser: false,
        shards: Vec::new(),
        queue: 0,
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

async fn run(mut hub: Hub, clock: Clock, mut doors: mpsc::UnboundedReceiver<Session>, scripts: Vec<Script>) {
    let mut scripts = VecDeque::from(scripts);
    let mut outboxes = BTreeMap::new();
    let (facts, mut heard) = mpsc::unbounded_channel();
    // What the coordinator's own threads would answer.
    let mut own = VecDeque::new();
    let (mut dying, mut parting) = (false, None);
    loop {
        while let Some(order) = hub.poll() {
            match order {
                Order::Send { session, message } => {
                    let outbox: Option<&link::Outbox<Coordinator>> = outboxes.get(&session);
                    let _ = outbox.map(|outbox| outbox.send(&message));
                }
                Order::Close { session } => {
                    outboxes.remove(&session).inspect(link::Outbox::close);
                }
                Order::Persist { seq, .. } => own.push_back(Fact::Persisted { upto: seq }),
                Order::Generate { query, .. } => {
                    let script = if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().copied() };
                    let script = script.unwrap();
                    let (Script::Say(pieces)
                    | Script::Hang(pieces)
                    | Script::Die(pieces)
                    | Script::Part(pieces)
                    | Script::Refuse(pieces)) = script;
                    own.push_back(Fact::Begun { query, version: hub.status().version, averaged: false });
                    own.extend(pieces.iter().zip(1..).map(|(text, tokens)| Fact::Piece {
                        query,
                        text: (*text).to_owned(),
                        tokens,
                    }));
                    if matches!(script, Script::Say(_)) {
                        own.push_back(Fact::Answered { query, tokens: pieces.len() as u32, finish: Finish::Stop });
                    }
                    dying |= matches!(script, Script::Die(_));
                    parting = last_words(script);
                }
                _ => {}
            }
        }
        if let Some(fact) = own.pop_front() {
            hub.handle(clock.now(), fact);
            continue;
        }
        for outbox in outboxes.values() {
            let _ = parting.as_ref().map(|words| outbox.send(words));
        }
        if dying || parting.is_some() {
            return outboxes.values().for_each(link::Outbox::close);
        }
        tokio::select! {
            Some(link::Connection { outbox, mut inbox }) = doors.recv() => {
                let session = SessionId(outboxes.len() as u64 + 1);
                outboxes.insert(session, outbox);
                hub.handle(clock.now(), Fact::Joined { session, nonce: Nonce([session.0 as u8; 32]), host: None });
                let facts = facts.clone();
                tokio::spawn(async move {
                    while let Some(event) = inbox.recv().await {
                        let fact = match event {
                            link::Event::Message(message) => Fact::Frame { session, message: *message },
                            link::Event::Closed(closed) => Fact::Left { session, reason: closed.to_string() },
                            _ => continue,
                        };
                        let _ = facts.send(fact);
                    }
                });
            }
            Some(fact) = heard.recv() => hub.handle(clock.now(), fact),
            else => return,
        }
    }
}

fn last_words(script: Script) -> Option<ServerMsg> {
    match script {
        Script::Part(_) => Some(ServerMsg::Bye(Bye { text: "the run is complete".to_owned(), retry: false })),
        Script::Refuse(_) => {
            let (code, text) = (ErrorCode::NameTaken, "the name alice belongs to another key".to_owned());
            Some(ServerMsg::Error(Error { code, text, fatal: true }))
        }
        Script::Say(_) | Script::Hang(_) | Script::Die(_) => None,
    }
}

/// A coordinator that accepts sessions, here to be held, and says nothing.
pub fn mute() -> (Door, mpsc::UnboundedReceiver<Session>) {
    let (door, sessions) = mpsc::unbounded_channel();
    (Door(door), sessions)
}
