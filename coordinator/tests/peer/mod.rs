//! A coordinator process, and a client of it that does exactly what a test tells it.
// Each test program uses a part of it, and a test reads better when a peer says a message and makes an update than when
// it borrows them.
#![allow(dead_code, clippy::needless_pass_by_value, clippy::unused_self)]

mod stranger;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use hydra_core::codec::Codec;
use hydra_core::ids::{Digest, Nonce, PublicKey, QueryId, VersionNo, WorkerId};
use hydra_core::model::Shape;
use hydra_core::proto::sign::{self, Parties};
use hydra_core::proto::{
    self, ClientMsg, Credited, Error, Hello, KeyAct, Query, Role, ServerMsg, Task, UnpaidCode, Update, Welcome,
};
use hydra_shell::client::{Connection, Event, LinkStats, connect};
use tempfile::TempDir;

#[allow(unused_imports)]
pub use stranger::Stranger;

const CONFIG: &str = r#"
preset = "tiny"
tokenizer = "bytes"
[model]
width = 32
heads = 2
layers = 1
context = 32
[tasks]
# What these peers hand in is no training.
checked_windows = 0
"#;

/// For what must come: many times what it takes on a busy machine, since only a fault reaches it.
const PATIENCE: Duration = Duration::from_mins(3);

async fn in_time<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("the coordinator says something, or hangs up")
}

/// The program, with nothing of the person who runs the test.
fn program(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-coordinator-engine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HYDRA_") {
            command.env_remove(name);
        }
    }
    command.env("HYDRA_CONFIG_DIR", folder.path().join("config")).env("HYDRA_CACHE_DIR", folder.path().join("cache"));
    command
}

/// A coordinator in a folder of its own.
pub struct Process {
    child: Child,
    address: String,
    folder: TempDir,
    flags: Vec<String>,
}

impl Process {
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with("", flags)
    }

    /// A coordinator with further settings.
    pub fn start_with(settings: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), format!("{CONFIG}{settings}")).unwrap();
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let (child, address) = Self::spawn(&folder, &flags);
        Self { child, address, folder, flags }
    }

    fn serving(folder: &TempDir, flags: &[String]) -> Command {
        let mut command = program(folder);
        command.args(["--headless", "--json", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(folder.path().join("config.toml")).arg("--run").arg(folder.path().join("run")).args(flags);
        command
    }

    fn spawn(folder: &TempDir, flags: &[String]) -> (Child, String) {
        let mut child = Self::serving(folder, flags).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(ready["event"], "ready");
        // Read on, so that the coordinator never waits for its reader.
        std::thread::spawn(move || lines.for_each(drop));
        (child, ready["addr"].as_str().unwrap().to_owned())
    }

    /// What it answers to `GET path`, head and all.
    pub fn get(&self, path: &str) -> String {
        let mut tcp = std::net::TcpStream::connect(&self.address).unwrap();
        write!(tcp, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until the metrics show `line`: an end is counted a little after its peer knows of it.
    pub async fn counts(&self, line: &str) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let metrics = self.get("/metrics");
            if metrics.contains(line) {
                return;
            }
            assert!(Instant::now() < give_up, "no {line} in {metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The run's folder.
    pub fn run_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("run")
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        (self.child, self.address) = Self::spawn(&self.folder, &self.flags);
    }

    /// Waits until it has ended by itself, starts it once more, and gives what that says to people until its end.
    pub fn ends_and_again(&mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        let output = Self::serving(&self.folder, &self.flags).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// What `ledger verify --json` prints.
    pub fn verify(&self) -> String {
        self.command(&["ledger", "verify"])
    }

    /// What another command prints about this run with `--json`.
    pub fn command(&self, command: &[&str]) -> String {
        let output =
            program(&self.folder).args(command).args(["--json", "--run"]).arg(self.run_dir()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn query(n: u8, prompt: &str) -> ClientMsg {
    let query = Query::new(QueryId([n; 16]), prompt);
    ClientMsg::Query(Query { max_new_tokens: Some(8), temperature: Some(0.0), ..query })
}

fn hello(role: Role, user: &str, key: &SigningKey) -> Hello {
    Hello {
        protocol: proto::PROTOCOL.to_owned(),
        role,
        user: user.parse().unwrap(),
        key: PublicKey(key.verifying_key().to_bytes()),
        nonce: Nonce([3; 32]),
        agent: "test".to_owned(),
        worker: (role == Role::Worker).then_some(WorkerId([key.to_bytes()[0]; 8])),
        device: String::new(),
        holds: None,
        lease: None,
        paused: false,
    }
}

/// Checks the coordinator's signature and makes the client's.
fn proof(hello: &Hello, challenge: &proto::Challenge, key: &SigningKey, forged: bool) -> proto::Proof {
    let parties = Parties {
        client: &hello.key,
        server: &challenge.key,
        client_nonce: &hello.nonce,
        server_nonce: &challenge.nonce,
    };
    assert!(sign::verify(&challenge.key, &sign::server_statement(&parties), &challenge.signature));
    let mut statement = sign::client_statement(&parties, hello.role, &hello.user);
    if forged {
        statement.push(0);
    }
    proto::Proof { signature: sign::sign(key, &statement) }
}

/// A client.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    welcome: Option<Welcome>,
    /// The coordinator's key and nonce of this session.
    server: Option<(PublicKey, Nonce)>,
    newest: VersionNo,
    /// Tasks come whenever the coordinator has one, also between other messages.
    tasks: VecDeque<Task>,
    steps: f32,
}

impl Peer {
    pub async fn connect(to: &Process) -> Self {
        let address = to.address.parse().unwrap();
        let mut connection = connect(&address, Arc::new(LinkStats::default())).await.unwrap();
        assert_eq!(connection.inbox.recv().await, Some(Event::Connected));
        Self { connection, welcome: None, server: None, newest: VersionNo(0), tasks: VecDeque::new(), steps: 0.0 }
    }

    pub async fn join(to: &Process, role: Role, user: &str, key: &SigningKey) -> Result<Self, Error> {
        Self::join_with(to, role, user, key, false).await
    }

    /// Joins, or is refused; `forged` signs something else.
    pub async fn join_with(
        to: &Process,
        role: Role,
        user: &str,
        key: &SigningKey,
        forged: bool,
    ) -> Result<Self, Error> {
        let mut peer = Self::connect(to).await;
        let hello = hello(role, user, key);
        peer.say(ClientMsg::Hello(hello.clone()));
        let ServerMsg::Challenge(challenge) = peer.hears().await else { panic!("a challenge") };
        peer.server = Some((challenge.key, challenge.nonce));
        peer.say(ClientMsg::Proof(proof(&hello, &challenge, key, forged)));
        match peer.hears().await {
            ServerMsg::Welcome(welcome) => {
                peer.newest = welcome.version;
                peer.welcome = Some(welcome);
                Ok(peer)
            }
            ServerMsg::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Says something about the API key of this text; how many keys there are then.
    pub async fn api_key(&mut self, user: &str, key: &SigningKey, act: KeyAct, text: Option<&str>) -> usize {
        let (server, nonce) = self.server.as_ref().unwrap();
        let digest = text.map(|text| Digest::of(text.as_bytes()));
        let statement = sign::api_key_statement(server, nonce, act, digest.as_ref(), &user.parse().unwrap());
        let signature = sign::sign(key, &statement);
        self.say(ClientMsg::ApiKey(proto::ApiKey { act, digest, signature }));
        let ServerMsg::ApiKeys(known) = self.hears().await else { panic!("the keys") };
        known.keys.len()
    }

    pub fn say(&mut self, message: ClientMsg) {
        self.connection.outbox.send(&message).unwrap();
    }

    /// The next message that is neither a version nor a task.
    pub async fn hears(&mut self) -> ServerMsg {
        loop {
            match self.next().await {
                Some(ServerMsg::Task(task)) => self.tasks.push_back(task),
                Some(message) => return message,
                None => {}
            }
        }
    }

    async fn next(&mut self) -> Option<ServerMsg> {
        match in_time(self.connection.inbox.recv()).await.expect("the session lives") {
            Event::Message(message) => match *message {
                ServerMsg::Version(version) => {
                    self.newest = version.version;
                    None
                }
                message => Some(message),
            },
            Event::Closed(closed) => panic!("{closed}"),
            _ => None,
        }
    }

    pub fn welcome(&self) -> &Welcome {
        self.welcome.as_ref().unwrap()
    }

    pub fn shape(&self) -> Shape {
        self.welcome().shape
    }

    pub fn newest(&self) -> VersionNo {
        self.newest
    }

    pub async fn task(&mut self) -> Task {
        loop {
            if let Some(task) = self.tasks.pop_front() {
                return task;
            }
            if let Some(ServerMsg::Task(task)) = self.next().await {
                return task;
            }
        }
    }

    /// A small step of honest size, in another direction after each [`Peer::next_bytes`].
    pub fn step_bytes(&self) -> Vec<u8> {
        let wave = |n: usize| 1e-3 * ((n as f32 * (0.7 + 0.11 * self.steps)).sin() + 0.1);
        Codec::Int4.encode(&(0..self.shape().params()).map(wave).collect::<Vec<_>>())
    }

    /// The next one.
    pub fn next_bytes(&mut self) -> Vec<u8> {
        self.steps += 1.0;
        self.step_bytes()
    }

    pub fn update(&self, task: &Task, bytes: &[u8]) -> Update {
        Update {
            lease: task.lease,
            version: task.version,
            codec: task.codec,
            blob: Digest::of(bytes),
            bytes: bytes.len() as u64,
            steps: task.steps,
            tokens: u64::from(task.steps) * u64::from(task.batch) * u64::from(task.context),
            loss_first: 5.0,
            loss_last: 4.0,
            train_ms: 100,
            more: true,
        }
    }

    pub fn deliver(&mut self, update: Update, bytes: &[u8]) {
        let blob = update.blob;
        self.say(ClientMsg::Update(update));
        self.connection.outbox.send_blob(blob, bytes.into()).unwrap();
    }

    pub async fn credited(&mut self) -> Credited {
        match self.hears().await {
            ServerMsg::Credited(credited) => credited,
            other => panic!("{other:?}"),
        }
    }

    pub async fn unpaid(&mut self) -> UnpaidCode {
        match self.hears().await {
            ServerMsg::Unpaid(unpaid) => unpaid.code,
            other => panic!("{other:?}"),
        }
    }

    /// Takes a task and is paid for it.
    pub async fn earn(&mut self) -> Credited {
        match self.earn_or_not().await {
            ServerMsg::Credited(credited) => credited,
            other => panic!("{other:?}"),
        }
    }

    /// Hands the next task in; gives the answer, whatever it is.
    pub async fn earn_or_not(&mut self) -> ServerMsg {
        let task = self.task().await;
        let bytes = self.next_bytes();
        self.deliver(self.update(&task, &bytes), &bytes);
        self.hears().await
    }
}
