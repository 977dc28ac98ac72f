//! The hub's rules with facts made by hand: a laboratory in which rows are durable, checks pass and merges succeed as
//! soon as a test lets them.

mod answers;
mod api_keys;
mod away;
mod bounds;
mod codecs;
mod copies;
mod failing;
mod handshake;
mod newcomers;
mod rounds;
mod stopping;
mod updates;
mod view;

use std::net::IpAddr;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::rows::{Accepted, Lease, Version};
use super::*;
use crate::codec::Codec;
use crate::ids::{Nonce, QueryId, TaskId};
use crate::merge::OuterRule;
use crate::model::{Recipe, Shape};
use crate::proto::sign::{self, Parties};
use crate::proto::{ClientMsg, Hello, Proof, Role, Task, Update};
use crate::schedule::Schedule;

const KEY: [u8; 32] = [9; 32];
/// A plausible one.
const NORM: f64 = 0.05;

/// Rules of a small run: two steps a task, 16 tokens.
fn rules() -> Rules {
    Rules {
        shape: Shape::new(16, 8, 1, 1, 8),
        recipe: Recipe { batch: 1, ..Recipe::default() },
        schedule: Schedule { peak: 1e-3, warmup_tokens: 100, horizon: None, final_ratio: 0.1 },
        reward: Credits::hyd(1),
        price: Credits(500_000),
        steps: 2,
        codec: Codec::Int4,
        sparser: false,
        shards: vec![Shard { digest: Digest::of(b"shard"), tokens: 100, preview: "once".to_owned() }],
        queue: 2,
        every: None,
        lease_first: Duration::from_mins(1),
        lease_min: Duration::from_secs(10),
        lease_factor: 3.0,
        quorum: 0.7,
        grace: 0.25,
        round_deadline: Duration::from_mins(2),
        outer: OuterRule::DILOCO,
        checked_windows: 0,
        stop: Stop::default(),
        sampling: Sampling { max_new_tokens: 16, temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 },
        seed: 1,
        epoch_ms: 1_000_000,
    }
}

fn first_version() -> Version {
    let digest = Digest::of(b"start");
    Version { version: VersionNo(0), digest, tokens: 0, tasks: 0, inputs: Vec::new(), at_ms: 0 }
}

fn recovered() -> Recovered {
    Recovered {
        boot: 1,
        users: Vec::new(),
        api_keys: Vec::new(),
        book: Book::default(),
        asked: Asked::default(),
        newest: first_version(),
        evaluated: None,
        open: Vec::new(),
        unmerged: Vec::new(),
        settled: Vec::new(),
        last_task: TaskId(0),
    }
}

fn key_of(user: &str) -> SigningKey {
    SigningKey::from_bytes(&[user.as_bytes()[0]; 32])
}

/// The hub and everything that it ordered.
struct Lab {
    hub: Hub,
    now: Time,
    sessions: u64,
    /// What was sent, in order; taken by [`Lab::heard`].
    sent: Vec<(SessionId, ServerMsg)>,
    pushed: Vec<(SessionId, Task)>,
    /// All other orders.
    orders: Vec<Order>,
    rows: Vec<Row>,
    /// Where sessions come from.
    host: Option<IpAddr>,
    /// Whether rows are durable at once.
    durable: bool,
    last_seq: u64,
}

impl Lab {
    fn new() -> Self {
        Self::with(rules(), recovered())
    }

    fn with(rules: Rules, recovered: Recovered) -> Self {
        let hub = Hub::new(Time(0), rules, SigningKey::from_bytes(&KEY), recovered);
        let mut lab = Self {
            hub,
            now: Time(0),
            sessions: 0,
            sent: Vec::new(),
            pushed: Vec::new(),
            orders: Vec::new(),
            rows: Vec::new(),
            host: None,
            durable: true,
            last_seq: 0,
        };
        lab.drain();
        lab
    }

    fn drain(&mut self) {
        let before = self.last_seq;
        while let Some(order) = self.hub.poll() {
            match order {
                Order::Send { session, message } => self.sent.push((session, message)),
                Order::Push { session, task, .. } => self.pushed.push((session, task)),
                Order::Persist { seq, rows } => {
                    self.rows.extend(rows);
                    self.last_seq = seq;
                }
                other => self.orders.push(other),
            }
        }
        self.hub.check();
        if self.durable && self.last_seq > before {
            self.tell(Fact::Persisted { upto: self.last_seq });
        }
    }

    fn tell(&mut self, fact: Fact) {
        self.hub.handle(self.now, fact);
        self.drain();
    }

    fn says(&mut self, session: SessionId, message: ClientMsg) {
        self.tell(Fact::Frame { session, message });
    }

    /// All that was ordered becomes durable.
    fn sync(&mut self) {
        self.tell(Fact::Persisted { upto: self.last_seq });
    }

    /// Time passes, with all deadlines on the way.
    fn wait(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some((due, _)) = self.hub.deadline().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.hub.expire(self.now);
            self.drain();
            let next = self.hub.deadline();
            assert!(next.is_none_or(|(due, _)| due > self.now), "due at once: {next:?}");
        }
        self.now = end;
    }

    /// What this session was sent since it was last asked.
    fn heard(&mut self, session: SessionId) -> Vec<ServerMsg> {
        let (mine, others) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == session);
        self.sent = others;
        mine.into_iter().map(|(_, message): (_, ServerMsg)| message).collect()
    }

    /// The task that this session was pushed last, if it has not been asked for yet.
    fn task(&mut self, session: SessionId) -> Option<Task> {
        let place = self.pushed.iter().rposition(|(to, _)| *to == session)?;
        Some(self.pushed.remove(place).1)
    }

    fn join(&mut self) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.tell(Fact::Joined { session, nonce: Nonce([self.sessions as u8; 32]), host: self.host });
        session
    }

    fn hello(user: &str, worker: Option<u8>) -> Hello {
        Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: if worker.is_some() { Role::Worker } else { Role::Chat },
            user: user.parse().expect("a plain name"),
            key: PublicKey(key_of(user).verifying_key().to_bytes()),
            nonce: Nonce([1; 32]),
            agent: "test".to_owned(),
            worker: worker.map(|n| WorkerId([n; 8])),
            device: String::new(),
            holds: None,
            lease: None,
            paused: false,
        }
    }

    /// The proof that answers the challenge to `hello`, signed with `key`.
    fn proof(session: SessionId, hello: &Hello, key: &SigningKey) -> ClientMsg {
        let server = PublicKey(SigningKey::from_bytes(&KEY).verifying_key().to_bytes());
        let nonce = Nonce([session.0 as u8; 32]);
        let parties = Parties { client: &hello.key, server: &server, client_nonce: &hello.nonce, server_nonce: &nonce };
        let statement = sign::client_statement(&parties, hello.role, &hello.user);
        ClientMsg::Proof(Proof { signature: sign::sign(key, &statement) })
    }

    fn enter(&mut self, user: &str, hello: Hello) -> SessionId {
        let session = self.join();
        let proof = Self::proof(session, &hello, &key_of(user));
        self.says(session, ClientMsg::Hello(hello));
        self.says(session, proof);
        session
    }

    fn worker(&mut self, user: &str, worker: u8) -> SessionId {
        self.enter(user, Self::hello(user, Some(worker)))
    }

    fn chat(&mut self, user: &str) -> SessionId {
        self.enter(user, Self::hello(user, None))
    }

    fn update(task: &Task) -> Update {
        Update {
            lease: task.lease,
            version: task.version,
            codec: task.codec,
            blob: Digest::of(&task.lease.0.to_le_bytes()),
            bytes: task.codec.max_len(rules().shape.params()) as u64,
            steps: task.steps,
            tokens: u64::from(task.steps) * 8,
            loss_first: 3.0,
            loss_last: 2.0,
            train_ms: 1,
            more: true,
        }
    }

    /// Announces an update and sends its bytes; they wait to be checked.
    fn upload(&mut self, session: SessionId, update: Update) {
        let blob = update.blob;
        self.says(session, ClientMsg::Update(update));
        self.tell(Fact::Received { session, blob, intact: true });
    }

    /// Delivers a task whole, with a check that passes.
    fn deliver(&mut self, session: SessionId, task: &Task) {
        self.upload(session, Self::update(task));
        self.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    }

    /// The inputs of the merge that was ordered last, if there is one that has not been carried out.
    fn merge_ordered(&self) -> Option<(VersionNo, Vec<LeaseId>, OuterRule)> {
        self.orders.iter().rev().find_map(|order| match order {
            Order::Merge { version, inputs, rule } if *version > self.hub.status().version => {
                Some((*version, inputs.iter().map(|input| input.lease).collect(), *rule))
            }
            _ => None,
        })
    }

    /// Carries out the merge that was ordered.
    fn merge(&mut self) {
        let (version, ..) = self.merge_ordered().expect("a merge was ordered");
        self.tell(Fact::Merged { version, digest: Digest::of(&version.0.to_le_bytes()) });
    }

    fn balance(&self, user: &str) -> Credits {
        self.hub.book().balance(&user.parse().expect("a plain name"))
    }

    /// Earns `tasks` credits for a user, with a worker that leaves again.
    fn earn(&mut self, user: &str, tasks: usize) {
        let session = self.worker(user, 200);
        for _ in 0..tasks {
            let task = self.task(session).expect("a free worker gets a task");
            self.deliver(session, &task);
            self.merge();
        }
        self.tell(Fact::Left { session, reason: String::new() });
        self.heard(session);
    }
}

/// What the answer to a delivered task was.
fn verdict(messages: &[ServerMsg], lease: LeaseId) -> Option<Result<Credits, proto::UnpaidCode>> {
    messages.iter().find_map(|message| match message {
        ServerMsg::Credited(credited) if credited.lease == lease => Some(Ok(credited.amount)),
        ServerMsg::Unpaid(unpaid) if unpaid.lease == lease => Some(Err(unpaid.code)),
        _ => None,
    })
}

fn rewards(rows: &[Row]) -> usize {
    rows.iter().filter(|row| matches!(row, Row::Transfer(t) if t.kind == crate::ledger::Kind::Reward)).count()
}

fn lease_row(lease: u64, user: &str, worker: u8) -> Lease {
    Lease {
        lease: LeaseId(lease),
        task: TaskId(lease),
        user: user.parse().expect("a plain name"),
        worker: WorkerId([worker; 8]),
        version: VersionNo(0),
        shard: 0,
        seed: 0,
        steps: 2,
        tokens: 16,
        codec: Codec::Int4,
        at_ms: 0,
    }
}

/// The update of [`lease_row`], accepted after so many milliseconds.
fn accepted_row(lease: u64, at_ms: u64) -> Accepted {
    Accepted {
        lease: LeaseId(lease),
        blob: Digest::of(b"an old update"),
        bytes: 4,
        norm: NORM,
        loss_first: 3.0,
        loss_last: 2.0,
        train_ms: at_ms,
        at_ms,
        paid: Credits::hyd(1),
    }
}
