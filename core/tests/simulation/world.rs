//! The virtual world: a clock, a network, a coordinator's shell, and everybody who talks to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::hub::rows::{Row, Version};
use hydra_core::hub::{self, Fact, Findings, Hub, Order, QueryNo, Rules, Sampling, Shard, Stop};
use hydra_core::ids::{Digest, LeaseId, Nonce, SessionId, VersionNo};
use hydra_core::machine::Machine as _;
use hydra_core::merge::OuterRule;
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto::{ClientMsg, Finish, ServerMsg, UnpaidCode};
use hydra_core::rng::Rng;
use hydra_core::schedule::Schedule;
use hydra_core::time::Time;

use super::auditor::Auditor;
use super::clients::{Client, Kind};
use super::disk::Disk;

mod client_side;

/// Mistakes made on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bugs {
    /// Rows are reported durable when they are handed in.
    pub early_ack: bool,
    /// A restart forgets one accepted update.
    pub lose_accepted: bool,
    /// A restart does not write down that it returned the holds.
    pub forget_holds: bool,
    /// A restart takes leases that were paid for open ones.
    pub forget_settled: bool,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Report {
    pub restarts: u64,
    pub cuts: u64,
    pub deaths: u64,
    pub credited: u64,
    pub unpaid: u64,
    pub answers: u64,
    pub refunds: u64,
    pub versions: u64,
    /// A digest of everything in order.
    pub trace: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.restarts += other.restarts;
        self.cuts += other.cuts;
        self.deaths += other.deaths;
        self.credited += other.credited;
        self.unpaid += other.unpaid;
        self.answers += other.answers;
        self.refunds += other.refunds;
        self.versions += other.versions;
    }
}

/// Something that will happen.
pub enum Soon {
    /// A message reaches the hub, or the end of its connection does.
    ToHub(SessionId, Option<ClientMsg>),
    /// All bytes of an update reach the hub.
    Upload(SessionId, Digest),
    /// A message reaches a client, or the end of its connection does.
    ToClient(usize, u64, SessionId, Option<Box<ServerMsg>>),
    /// All bytes of a version or shard reach a client.
    Download(usize, u64, SessionId, Digest),
    /// An attempt to connect has its answer.
    Dialled(usize, u64),
    /// Rows reach the disk.
    Synced(u64, u64, Vec<Row>),
    /// A fact for the hub's present life.
    Hub(u64, Fact),
    /// An answer goes on.
    Answer(u64, QueryNo, u32),
    /// A worker's compute thread goes on.
    Work(usize, u64),
    /// It has finished training.
    Trained(usize, u64, Box<hydra_core::agent::Fact>),
    /// Somebody looks at their clock.
    Tick(Option<(usize, u64)>),
    /// A chat's user does something.
    User(usize, u64),
    /// A fault strikes.
    Fault,
    /// The coordinator starts again, or a client does.
    Start(Option<usize>),
    /// No more faults.
    Heal,
}

/// A connection, as the network sees it.
pub struct Wire {
    pub client: usize,
    pub life: u64,
    /// When the last message in each direction arrives; the next comes after it.
    pub last: [Time; 2],
    pub open: bool,
}

pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub bugs: Bugs,
    pub report: Report,
    agenda: BTreeMap<(Time, u64), Soon>,
    order: u64,
    pub hub: Option<Hub>,
    pub life: u64,
    rules: Rules,
    key: SigningKey,
    pub disk: Disk,
    auditor: Auditor,
    pub wires: BTreeMap<SessionId, Wire>,
    next_session: u64,
    pub clients: Vec<Client>,
    uploads: BTreeSet<(SessionId, Digest)>,
    merging: Option<(VersionNo, Digest)>,
    answering: BTreeSet<QueryNo>,
    /// Updates whose content is nonsense.
    pub nonsense: BTreeSet<Digest>,
    last_sync: Time,
    cutting: f64,
    killing: f64,
    healed: bool,
    pub finished: bool,
}

const END: Duration = Duration::from_hours(2);

impl World {
    pub fn new(seed: u64, bugs: Bugs) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let shape = Shape::new(64, 16, 2, 1, 16);
        let shards =
            (0..3).map(|n: u8| Shard { digest: Digest::of(&[n]), tokens: 1000, preview: String::new() }).collect();
        let rules = Rules {
            shape,
            recipe: Recipe { batch: 2, ..Recipe::default() },
            schedule: Schedule { peak: 1e-3, warmup_tokens: 100, horizon: None, final_ratio: 0.1 },
            reward: Credits::hyd(1),
            price: Credits(500_000),
            steps: 10,
            codec: Codec::Int4,
            sparser: false,
            shards,
            queue: rng.below(5) as usize,
            every: (rng.below(4) == 0).then(|| Duration::from_millis(50)),
            lease_first: Duration::from_mins(1),
            lease_min: Duration::from_secs(5),
            lease_factor: 3.0,
            quorum: 0.7,
            grace: 0.25,
            round_deadline: Duration::from_mins(1),
            outer: OuterRule::DILOCO,
            checked_windows: 0,
            stop: Stop { after_tasks: Some(60 + rng.below(60)), ..Stop::default() },
            sampling: Sampling { max_new_tokens: 8, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 },
            seed,
            epoch_ms: 1_700_000_000_000,
        };
        let mut clients = Vec::new();
        for n in 0..(2 + rng.below(10)) {
            let user = format!("user{}", n % 7).parse().unwrap();
            let key = SigningKey::from_bytes(&[(n % 7) as u8 + 1; 32]);
            clients.push(Client { user, key, kind: Kind::Dead, session: None, life: 0 });
        }
        Self {
            now: Time(1_000_000),
            bugs,
            report: Report::default(),
            agenda: BTreeMap::new(),
            order: 0,
            hub: None,
            life: 0,
            rules,
            key: SigningKey::from_bytes(&[99; 32]),
            disk: Disk::default(),
            auditor: Auditor::default(),
            wires: BTreeMap::new(),
            next_session: 1,
            clients,
            uploads: BTreeSet::new(),
            merging: None,
            answering: BTreeSet::new(),
            nonsense: BTreeSet::new(),
            last_sync: Time(0),
            cutting: rng.unit() * 0.02,
            killing: if rng.below(3) == 0 { 0.0 } else { rng.unit() * 0.006 },
            healed: false,
            finished: false,
            rng,
        }
    }

    /// Runs to the end; the error says which rule was broken.
    pub fn run(mut self) -> Result<Report, String> {
        let digest = Digest::of(b"version 0");
        self.disk.weights.insert(VersionNo(0), digest);
        let first = Version { version: VersionNo(0), digest, tokens: 0, tasks: 0, inputs: Vec::new(), at_ms: 0 };
        self.disk.rows.push(Row::Version(first));
        self.plan(Duration::ZERO, Soon::Start(None));
        for client in 0..self.clients.len() {
            let delay = self.delay(3_000);
            self.plan(delay, Soon::Start(Some(client)));
        }
        self.plan(Duration::from_secs(1), Soon::Fault);
        self.plan(Duration::from_secs(40), Soon::Heal);
        let limit = self.now.after(END);
        while !self.finished {
            let Some(((at, order), soon)) = self.agenda.pop_first() else {
                return Err("everything has stopped".into());
            };
            if at > limit {
                return Err("the run does not come to its end".into());
            }
            self.now = at;
            let mixed = self.report.trace ^ at.0 ^ order.rotate_left(40) ^ self.order;
            self.report.trace = Rng::new(mixed).next_u64();
            self.happen(soon)?;
        }
        self.auditor.read(&self.disk.rows)?;
        self.auditor.finish()?;
        Ok(self.report)
    }

    pub fn plan(&mut self, after: Duration, soon: Soon) {
        self.plan_at(self.now.after(after), soon);
    }

    pub fn plan_at(&mut self, at: Time, soon: Soon) {
        self.order += 1;
        self.agenda.insert((at, self.order), soon);
    }

    /// Up to so many milliseconds.
    pub fn delay(&mut self, most_ms: u64) -> Duration {
        Duration::from_micros(self.rng.below(most_ms * 1000))
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.unit() < probability
    }

    fn happen(&mut self, soon: Soon) -> Result<(), String> {
        match soon {
            Soon::ToHub(session, message) => {
                if !self.wires.contains_key(&session) {
                    return Ok(());
                }
                let fact = match message {
                    Some(message) => Fact::Frame { session, message },
                    None => {
                        self.wires.remove(&session);
                        Fact::Left { session, reason: "the connection ended".to_owned() }
                    }
                };
                self.tell_hub(fact)
            }
            Soon::Upload(session, blob) => {
                if !self.wires.contains_key(&session) {
                    return Ok(());
                }
                self.uploads.insert((session, blob));
                self.tell_hub(Fact::Received { session, blob, intact: true })
            }
            Soon::Synced(life, seq, rows) => {
                if life != self.life {
                    return Ok(());
                }
                self.disk.rows.extend(rows);
                self.auditor.read(&self.disk.rows)?;
                if self.bugs.early_ack { Ok(()) } else { self.tell_hub(Fact::Persisted { upto: seq }) }
            }
            Soon::Hub(life, fact) if life == self.life => {
                if let Fact::Merged { version, digest } = &fact {
                    self.disk.weights.insert(*version, *digest);
                }
                self.tell_hub(fact)
            }
            Soon::Answer(life, query, piece) if life == self.life && self.answering.contains(&query) => {
                if piece < 5 {
                    let delay = self.delay(80);
                    self.plan(delay, Soon::Answer(life, query, piece + 1));
                    self.tell_hub(Fact::Piece { query, text: "word ".to_owned() })
                } else {
                    self.answering.remove(&query);
                    self.tell_hub(Fact::Answered { query, tokens: 5, finish: Finish::Stop })
                }
            }
            Soon::Tick(None) => {
                let now = self.now;
                if let Some(hub) = &mut self.hub
                    && hub.deadline().is_some_and(|(at, _)| at <= now)
                {
                    hub.expire(now);
                    if let Some((at, why)) = hub.deadline().filter(|(at, _)| *at <= now) {
                        return Err(format!("a deadline at {at:?} stays in the past: {why}"));
                    }
                    return self.obey();
                }
                Ok(())
            }
            Soon::Fault => {
                self.strike();
                Ok(())
            }
            Soon::Start(None) => self.start_hub(),
            Soon::Heal => {
                self.healed = true;
                (self.cutting, self.killing) = (0.0, 0.0);
                for client in 0..self.clients.len() {
                    if matches!(self.clients[client].kind, Kind::Dead) {
                        self.plan(Duration::ZERO, Soon::Start(Some(client)));
                    }
                }
                Ok(())
            }
            Soon::Hub(..) | Soon::Answer(..) => Ok(()),
            other => self.happen_to_client(other),
        }
    }

    fn strike(&mut self) {
        if self.healed {
            return;
        }
        let delay = self.delay(2_000);
        self.plan(delay, Soon::Fault);
        let client = self.rng.below(self.clients.len() as u64) as usize;
        match self.rng.below(8) {
            0 if self.hub.is_some() && self.killing > 0.0 => self.crash(),
            1 | 2 => {
                self.kill_client(client);
                let delay = self.delay(5_000);
                self.plan(delay, Soon::Start(Some(client)));
            }
            3 => {
                let sessions: Vec<_> = self.wires.keys().copied().collect();
                if let Some(session) = sessions.get(client) {
                    self.cut(*session);
                }
            }
            _ => {}
        }
    }

    /// kill -9 of the coordinator: what was not synced is gone, connections end.
    pub fn crash(&mut self) {
        self.report.restarts += 1;
        self.hub = None;
        self.life += 1;
        self.uploads.clear();
        self.merging = None;
        self.answering.clear();
        let sessions: Vec<_> = self.wires.keys().copied().collect();
        for session in sessions {
            self.cut(session);
        }
        self.wires.clear();
        let delay = self.delay(3_000);
        self.plan(delay, Soon::Start(None));
    }

    fn start_hub(&mut self) -> Result<(), String> {
        if self.hub.is_some() {
            return Ok(());
        }
        self.life += 1;
        self.auditor.read(&self.disk.rows)?;
        let recovered = self.disk.recover(self.life, self.bugs);
        let mut hub = Hub::new(self.now, self.rules.clone(), self.key.clone(), recovered);
        if self.bugs.forget_holds {
            // The first orders of a start return the holds.
            let mut orders = Vec::new();
            while let Some(order) = hub.poll() {
                orders.push(order);
            }
            for order in orders {
                if let Order::Persist { seq, rows } = order {
                    let rows = rows.into_iter().filter(|row| !matches!(row, Row::Transfer(_))).collect();
                    self.plan(Duration::from_millis(1), Soon::Synced(self.life, seq, rows));
                }
            }
        }
        self.hub = Some(hub);
        self.last_sync = self.now;
        self.obey()
    }

    fn tell_hub(&mut self, fact: Fact) -> Result<(), String> {
        let now = self.now;
        if let Some(hub) = &mut self.hub {
            hub.handle(now, fact);
            self.obey()?;
        }
        Ok(())
    }

    /// Carries out what the hub ordered, with a crash possible between any two orders.
    fn obey(&mut self) -> Result<(), String> {
        let mut acknowledged = None;
        while let Some(order) = self.hub.as_mut().and_then(hub::Hub::poll) {
            if self.chance(self.killing) {
                self.crash();
                return Ok(());
            }
            if let Order::Persist { seq, .. } = &order {
                acknowledged = Some(*seq);
            }
            self.carry_out(order)?;
        }
        if let Some((at, _)) = self.hub.as_ref().and_then(hydra_core::machine::Machine::deadline) {
            self.plan_at(at.max(self.now.after(Duration::from_micros(1))), Soon::Tick(None));
        }
        match acknowledged {
            Some(upto) if self.bugs.early_ack => self.tell_hub(Fact::Persisted { upto }),
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), String> {
        let life = self.life;
        match order {
            Order::Send { session, message } => self.send(session, message)?,
            Order::Push { session, task, .. } => self.send(session, ServerMsg::Task(task))?,
            Order::SendVersion { session, version, base } => {
                let digest = self.disk.weights[&version];
                let blob = match base {
                    Some(base) => delta(base, self.disk.weights[&base], digest),
                    None => digest,
                };
                let codec = if base.is_some() { Codec::Int4 } else { Codec::F32 };
                let announced = hydra_core::proto::Version { version, digest, base, codec, blob, bytes: 9 };
                self.send(session, ServerMsg::Version(announced))?;
                self.send_blob(session, blob);
            }
            Order::SendShard { session, shard } => self.send_blob(session, self.rules.shards[shard as usize].digest),
            Order::Discard { session, blob } => drop(self.uploads.remove(&(session, blob))),
            Order::Close { session } => self.cut(session),
            Order::Persist { seq, rows } => {
                let at = self.last_sync.max(self.now).after(self.delay(20));
                self.last_sync = at;
                self.plan_at(at, Soon::Synced(life, seq, rows));
            }
            Order::Check { lease, session, blob, .. } => {
                if !self.uploads.remove(&(session, blob)) {
                    return Err("a check of bytes that are not there".to_owned());
                }
                let verdict = if self.nonsense.contains(&blob) {
                    Err((UnpaidCode::NotFinite, "nonsense".to_owned()))
                } else {
                    self.disk.updates.insert((lease, blob));
                    Ok(Findings::of_norm(0.01))
                };
                let delay = self.delay(30);
                self.plan(delay, Soon::Hub(life, Fact::Checked { lease, verdict }));
            }
            Order::Forget { lease, blob } => drop(self.disk.updates.remove(&(lease, blob))),
            Order::Merge { version, inputs, .. } => self.merge(version, &inputs)?,
            Order::Publish { version, .. } => {
                self.report.versions += 1;
                let fact = Fact::Evaluated { version, loss: 1.0, bits_per_byte: 1.0, bytes_up: 0, bytes_down: 0 };
                let delay = self.delay(200);
                self.plan(delay, Soon::Hub(life, fact));
            }
            Order::Generate { query, .. } => {
                self.answering.insert(query);
                let delay = self.delay(50);
                self.plan(delay, Soon::Answer(life, query, 0));
            }
            Order::StopGenerating { query } => drop(self.answering.remove(&query)),
            Order::Note(_) => {}
            Order::Stop { .. } => self.finished = true,
        }
        Ok(())
    }

    pub fn params(&self) -> usize {
        self.rules.shape.params()
    }

    /// Weights are a chain of digests: the same inputs make the same version.
    fn merge(&mut self, version: VersionNo, inputs: &[hub::MergeInput]) -> Result<(), String> {
        let base = self.disk.weights[&VersionNo(version.0 - 1)];
        let mut content = base.0.to_vec();
        for input in inputs {
            if !self.disk.updates.contains(&(input.lease, input.blob)) {
                return Err(format!("lease {} is merged without its bytes", input.lease));
            }
            content.extend_from_slice(&input.blob.0);
        }
        let fact = if self.chance(0.03) && !self.healed {
            Fact::MergeFailed { version }
        } else {
            Fact::Merged { version, digest: Digest::of(&content) }
        };
        let delay = self.delay(60);
        self.plan(delay, Soon::Hub(self.life, fact));
        Ok(())
    }

    fn send(&mut self, session: SessionId, message: ServerMsg) -> Result<(), String> {
        let Some(wire) = self.wires.get(&session) else { return Ok(()) };
        let user = self.clients[wire.client].user.to_string();
        self.auditor.promise(Some(&user), &message)?;
        let (client, life) = (wire.client, wire.life);
        let at = self.arrival(session, 1);
        self.plan_at(at, Soon::ToClient(client, life, session, Some(Box::new(message))));
        Ok(())
    }

    fn send_blob(&mut self, session: SessionId, blob: Digest) {
        let Some(wire) = self.wires.get(&session) else { return };
        let (client, life) = (wire.client, wire.life);
        // Bulk takes longer and lets messages overtake it.
        let at = self.arrival(session, 1).after(self.delay(100));
        self.plan_at(at, Soon::Download(client, life, session, blob));
    }

    /// When what is sent now arrives: after what was sent before.
    pub fn arrival(&mut self, session: SessionId, direction: usize) -> Time {
        let cutting = self.cutting;
        if self.chance(cutting) {
            self.cut(session);
        }
        let slow = if self.rng.below(15) == 0 { 1_500 } else { 20 };
        let at = self.now.after(self.delay(slow)).after(Duration::from_micros(50));
        match self.wires.get_mut(&session) {
            Some(wire) => {
                wire.last[direction] = wire.last[direction].after(Duration::from_micros(1)).max(at);
                wire.last[direction]
            }
            None => at,
        }
    }

    /// Ends a connection; each side learns of it in its own time, after what is on the way or before it.
    pub fn cut(&mut self, session: SessionId) {
        let Some(wire) = self.wires.get_mut(&session) else { return };
        if !std::mem::replace(&mut wire.open, false) {
            return;
        }
        let (client, life, last) = (wire.client, wire.life, wire.last);
        self.report.cuts += 1;
        let up = self.now.after(self.delay(500)).max(last[0].after(Duration::from_micros(1)));
        let down = self.now.after(self.delay(500)).max(last[1].after(Duration::from_micros(1)));
        self.plan_at(up, Soon::ToHub(session, None));
        self.plan_at(down, Soon::ToClient(client, life, session, None));
    }

    /// A new connection, if somebody listens.
    pub fn connect(&mut self, client: usize, life: u64) -> Result<Option<SessionId>, String> {
        if self.hub.is_none() {
            return Ok(None);
        }
        let session = SessionId(self.next_session);
        self.next_session += 1;
        let wire = Wire { client, life, last: [self.now; 2], open: true };
        self.wires.insert(session, wire);
        let nonce = self.nonce();
        self.tell_hub(Fact::Joined { session, nonce })?;
        Ok(Some(session))
    }

    pub fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        Nonce(nonce)
    }
}

/// The blob that leads from one version to the next.
pub fn delta(base: VersionNo, from: Digest, to: Digest) -> Digest {
    let mut content = base.0.to_le_bytes().to_vec();
    content.extend_from_slice(&from.0);
    content.extend_from_slice(&to.0);
    Digest::of(&content)
}

/// The update that a worker makes of a lease.
pub fn update(lease: LeaseId, salt: u64) -> Digest {
    Digest::of(&[lease.0.to_le_bytes(), salt.to_le_bytes()].concat())
}
