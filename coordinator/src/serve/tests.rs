//! Serving without sockets: the hub, the learner and the store as a start puts them together, with time handed in. A
//! test says how many steps a start may take before it is killed; steps are the hub's orders and what is made durable.

mod average;
mod begin;
mod crash;
mod full;
mod text;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use ed25519_dalek::SigningKey;
use hydra_config::{ConfigFile, Flags, Settings, resolve};
use hydra_core::hub::{Fact, Hub, Operator, Order, Row, public_key};
use hydra_core::ids::{Digest, LeaseId, Nonce, PublicKey, SessionId, VersionNo, WorkerId};
use hydra_core::ledger::Head;
use hydra_core::machine::Machine as _;
use hydra_core::proto::sign::{self, Parties};
use hydra_core::proto::{self, ClientMsg, Hello, Proof, Role, ServerMsg, Task, Update};
use hydra_core::time::Time;
use hydra_shell::events::Events;
use tempfile::TempDir;

use super::learner::{Check, Command, Report};
use super::run;
use crate::store::verify::verify;
use crate::store::{Reader, Store};

const CONFIG: &str = r#"
preset = "tiny"
tokenizer = "bytes"
[model]
width = 8
heads = 1
layers = 1
context = 8
[recipe]
batch = 1
[tasks]
task_tokens = 16
# The updates here are waves: they have a plausible size, and help nobody.
checked_windows = 0
"#;
const EPOCH_MS: u64 = 1_767_225_600_000;
/// The process was killed.
struct Killed;

fn settings(dir: &Path) -> Settings {
    let data = dir.join("text.txt");
    if !data.exists() {
        let line = |n: usize| format!("Line {n} says that {n} and {n} make {}.\n\n", n + n);
        std::fs::write(&data, (0..200).map(line).collect::<String>()).expect("room");
    }
    // A run that has its data needs the text no more.
    let data = if dir.join("run/data").exists() { Vec::new() } else { vec![data] };
    let file = ConfigFile { name: "crash.toml", text: CONFIG };
    let flags = Flags { run: Some(dir.join("run")), data, ..Flags::default() };
    resolve(Some(file), [], &flags).expect("sound settings").settings
}

fn user(worker: u8) -> &'static str {
    ["alice", "bob", "carol"][usize::from(worker) % 3]
}

/// A coordinator without its sockets.
struct Coordinator {
    hub: Hub,
    key: PublicKey,
    store: Store,
    learner: Sender<Command>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
    params: usize,
    now: Time,
    /// Rows that wait for the next commit.
    unwritten: VecDeque<(u64, Vec<Row>)>,
    blobs: BTreeMap<Digest, Arc<[u8]>>,
    sessions: u64,
    heard: Vec<(SessionId, ServerMsg)>,
    tasks: Vec<Task>,
    /// Steps until the kill.
    left: Option<usize>,
}

impl Coordinator {
    fn start(dir: &Path, now: Time, left: Option<usize>) -> Result<Self, Killed> {
        let settings = settings(dir);
        let run = run::open(&settings, None, &Events::new(false, false, Box::new(std::io::sink()))).expect("it opens");
        let rules = run::rules(&settings, run.shape, &run.data, EPOCH_MS);
        let key = public_key(&run.key);
        let (tell, reports) = channel();
        let (learner, thread) =
            run.learner.spawn(move |report| drop(tell.send(report))).expect("a thread for the learner");
        let mut started = Self {
            hub: Hub::new(now, rules, run.key, run.recovered),
            key,
            store: run.store,
            learner,
            reports,
            thread: Some(thread),
            params: run.shape.params(),
            now,
            unwritten: VecDeque::new(),
            blobs: BTreeMap::new(),
            sessions: 0,
            heard: Vec::new(),
            tasks: Vec::new(),
            left,
        };
        started.carry_out()?;
        Ok(started)
    }

    /// One step further, if nobody kills it here.
    fn step(&mut self) -> Result<(), Killed> {
        match &mut self.left {
            Some(0) => return Err(Killed),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn tell(&mut self, fact: Fact) -> Result<(), Killed> {
        self.hub.handle(self.now, fact);
        self.carry_out()
    }

    /// Carries out all orders; rows become durable together, once there is nothing else to do, as in the real writer
    /// at its slowest.
    fn carry_out(&mut self) -> Result<(), Killed> {
        loop {
            while let Some(order) = self.hub.poll() {
                self.step()?;
                if let Some(fact) = self.obey(order)? {
                    self.hub.handle(self.now, fact);
                }
            }
            let Some((upto, _)) = self.unwritten.back() else { return Ok(()) };
            let upto = *upto;
            let rows: Vec<_> = self.unwritten.drain(..).flat_map(|(_, rows)| rows).collect();
            self.step()?;
            self.store.write(&rows).expect("the rows fit");
            self.step()?;
            self.hub.handle(self.now, Fact::Persisted { upto });
        }
    }

    fn obey(&mut self, order: Order) -> Result<Option<Fact>, Killed> {
        match order {
            Order::Send { session, message } => self.heard.push((session, message)),
            Order::Push { task, .. } => self.tasks.push(task),
            Order::Persist { seq, rows } => self.unwritten.push_back((seq, rows)),
            Order::Check { lease, blob, codec, base, probe, .. } => {
                let bytes = self.blobs.remove(&blob).expect("it was received");
                return self.ask(Command::Check(Check { lease, codec, bytes, blob, base, probe })).map(Some);
            }
            Order::Merge { version, inputs, rule } => {
                return self.ask(Command::Merge { version, inputs, rule }).map(Some);
            }
            Order::Forget { lease, blob } => {
                self.learner.send(Command::Forget { lease, blob }).expect("the learner lives");
            }
            Order::Publish { version, merged } => {
                self.learner.send(Command::Published { version, merged }).expect("the learner lives");
            }
            Order::Stop { reason } => panic!("it stopped: {reason}"),
            _ => {}
        }
        Ok(None)
    }

    fn ask(&mut self, command: Command) -> Result<Fact, Killed> {
        self.learner.send(command).expect("the learner lives");
        let fact = match self.reports.recv().expect("the learner answers") {
            Report::Checked { lease, verdict } => Fact::Checked { lease, verdict },
            Report::Merged(served) => Fact::Merged { version: served.version, digest: served.digest },
            Report::MergeFailed { version, error } => panic!("version {version}: {error}"),
            Report::Waiting(error) | Report::Unwritten(error) => panic!("{error}"),
            Report::Resumed => panic!("nothing waited"),
        };
        // The file is on disk, and nobody knows.
        self.step()?;
        Ok(fact)
    }

    /// Time passes, with all deadlines on the way.
    fn wait_until(&mut self, end: Time) -> Result<(), Killed> {
        while let Some((due, _)) = self.hub.deadline().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.hub.expire(self.now);
            self.carry_out()?;
        }
        self.now = end;
        Ok(())
    }

    fn join(&mut self, worker: u8, lease: Option<LeaseId>) -> Result<SessionId, Killed> {
        self.sessions += 1;
        let (session, nonce) = (SessionId(self.sessions), Nonce([self.sessions as u8; 32]));
        let key = SigningKey::from_bytes(&[user(worker).as_bytes()[0]; 32]);
        let hello = Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: user(worker).parse().expect("a plain name"),
            key: public_key(&key),
            nonce: Nonce([1; 32]),
            agent: "test".to_owned(),
            worker: Some(WorkerId([worker; 8])),
            device: String::new(),
            holds: None,
            lease,
            paused: false,
        };
        let parties =
            Parties { client: &hello.key, server: &self.key, client_nonce: &hello.nonce, server_nonce: &nonce };
        let statement = sign::client_statement(&parties, hello.role, &hello.user);
        let proof = ClientMsg::Proof(Proof { signature: sign::sign(&key, &statement) });
        self.tell(Fact::Joined { session, nonce, host: None })?;
        self.tell(Fact::Frame { session, message: ClientMsg::Hello(hello) })?;
        self.tell(Fact::Frame { session, message: proof })?;
        Ok(session)
    }

    /// The update that a worker sends for its task, whenever it is asked: a small step of honest size, in a direction
    /// like nobody else's.
    fn update(&self, worker: u8, task: &Task) -> (Update, Vec<u8>) {
        let wave = |n: usize| 1e-3 * ((n as f32 * (0.7 + 0.11 * f32::from(worker))).sin() + 0.1);
        let bytes = task.codec.encode(&(0..self.params).map(wave).collect::<Vec<_>>());
        let update = Update {
            lease: task.lease,
            version: task.version,
            codec: task.codec,
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            steps: task.steps,
            tokens: u64::from(task.steps) * u64::from(task.batch) * u64::from(task.context),
            loss_first: 5.0,
            loss_last: 4.0,
            train_ms: 100,
            more: false,
        };
        (update, bytes)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // The learner ends with its orders.
        self.learner = channel().0;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the learner does not panic");
        }
    }
}
