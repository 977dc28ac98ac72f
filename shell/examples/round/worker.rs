//! A worker that trains nothing: it holds the model, installs every version, and hands in random numbers.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use hydra_core::codec::Codec;
use hydra_core::ids::{Digest, Nonce, PublicKey, VersionNo, WorkerId};
use hydra_core::merge;
use hydra_core::proto::sign::{self, Parties};
use hydra_core::proto::{self, ClientMsg, Hello, Proof, Role, ServerMsg, Task, Update};
use hydra_core::rng::Rng;
use hydra_shell::link::{Client, Connection, Event, LinkStats, Socket};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;

type Stream = Socket<MaybeTlsStream<TcpStream>>;

/// How many updates of a worker differ.
const STRETCHES: usize = 4096;

/// A version that is in place, with the bytes of all workers so far.
pub struct Installed {
    pub version: VersionNo,
    pub at: Instant,
    /// Up and down.
    pub bytes: (u64, u64),
}

pub struct Worker {
    link: Connection<Client>,
    weights: Vec<f32>,
    version: Option<VersionNo>,
    announced: Vec<proto::Version>,
    /// A task whose version is still on its way.
    task: Option<Task>,
    /// Each update is another stretch of it.
    noise: Vec<f32>,
    /// What it was multiplied with.
    scale: f32,
    /// Updates so far.
    handed: usize,
    versions: usize,
    stats: Arc<LinkStats>,
    seen: Vec<Installed>,
}

impl Worker {
    /// Passes the handshake; the worker is to see so many versions.
    pub async fn join(url: &str, place: usize, versions: usize, stats: Arc<LinkStats>) -> anyhow::Result<Self> {
        let key = SigningKey::from_bytes(&[1 + place as u8; 32]);
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(Stream::config()), true).await?;
        let mut link = Connection::over(Stream::new(socket), Client::default(), stats.clone());
        let hello = Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: format!("bench{place}").parse()?,
            key: PublicKey(key.verifying_key().to_bytes()),
            nonce: Nonce([place as u8; 32]),
            agent: "bench".to_owned(),
            worker: Some(WorkerId([1 + place as u8; 8])),
            device: String::new(),
            holds: None,
            lease: None,
            paused: false,
        };
        link.outbox.send(&ClientMsg::Hello(hello.clone()))?;
        let params = loop {
            match link.inbox.recv().await.context("the session ended")? {
                Event::Message(message) => match *message {
                    ServerMsg::Challenge(challenge) => {
                        let parties = Parties {
                            client: &hello.key,
                            server: &challenge.key,
                            client_nonce: &hello.nonce,
                            server_nonce: &challenge.nonce,
                        };
                        let statement = sign::client_statement(&parties, Role::Worker, &hello.user);
                        let signature = sign::sign(&key, &statement);
                        link.outbox.send(&ClientMsg::Proof(Proof { signature }))?;
                    }
                    ServerMsg::Welcome(welcome) => break welcome.shape.params(),
                    other => bail!("no welcome came but {other:?}"),
                },
                Event::Closed(closed) => bail!("{closed}"),
                _ => {}
            }
        };
        let mut rng = Rng::new(place as u64);
        // Drawing millions of numbers takes longer than a round.
        let noise = (0..params + STRETCHES).map(|_| rng.normal() as f32).collect();
        let (weights, announced, seen) = (vec![0.0; params], Vec::new(), Vec::new());
        Ok(Self {
            link,
            weights,
            version: None,
            announced,
            task: None,
            noise,
            scale: 1.0,
            handed: 0,
            versions,
            stats,
            seen,
        })
    }

    /// Works until enough versions were seen.
    pub async fn run(mut self) -> anyhow::Result<Vec<Installed>> {
        while self.seen.len() < self.versions {
            match self.link.inbox.recv().await.context("the session ended")? {
                Event::Message(message) => match *message {
                    ServerMsg::Version(version) => self.announced.push(version),
                    ServerMsg::Task(task) => self.task = Some(task),
                    ServerMsg::Unpaid(unpaid) => bail!("unpaid: {}", unpaid.text),
                    ServerMsg::Error(error) => bail!("{}", error.text),
                    _ => {}
                },
                Event::Blob { digest, bytes } => self.install(digest, &bytes)?,
                Event::Closed(closed) => bail!("{closed}"),
                _ => {}
            }
            if self.task.as_ref().is_some_and(|task| Some(task.version) == self.version) {
                let task = self.task.take().context("just seen")?;
                self.hand_in(&task)?;
            }
        }
        Ok(self.seen)
    }

    fn install(&mut self, blob: Digest, bytes: &[u8]) -> anyhow::Result<()> {
        let place = self.announced.iter().position(|version| version.blob == blob).context("an announced blob")?;
        let version = self.announced.remove(place);
        if version.base.is_some() {
            merge::apply(&mut self.weights, version.codec, bytes)?;
        } else {
            self.weights = version.codec.decode(bytes, self.weights.len())?;
        }
        if merge::weights_digest(&self.weights) != version.digest {
            bail!("version {} has other weights here", version.version);
        }
        self.version = Some(version.version);
        let bytes = (self.stats.bytes_up(), self.stats.bytes_down());
        self.seen.push(Installed { version: version.version, at: Instant::now(), bytes });
        Ok(())
    }

    fn hand_in(&mut self, task: &Task) -> anyhow::Result<()> {
        // About as long as an honest update would be; made anew only when that has changed, since what is handed in must
        // be made in less time than what is measured.
        let scale = 0.3 * task.lr_end.max(task.lr_start).max(1e-4) * task.steps as f32;
        if !(0.8..1.25).contains(&(scale / self.scale)) {
            self.noise.iter_mut().for_each(|x| *x *= scale / self.scale);
            self.scale = scale;
        }
        // Stretches of independent numbers point elsewhere from each other.
        let from = self.handed % STRETCHES;
        self.handed += 1;
        let values = &self.noise[from..from + self.weights.len()];
        let codec: Codec = task.codec;
        let bytes: Arc<[u8]> = codec.encode(values).into();
        let blob = Digest::of(&bytes);
        let update = Update {
            lease: task.lease,
            version: task.version,
            codec,
            blob,
            bytes: bytes.len() as u64,
            steps: task.steps,
            tokens: task.tokens(),
            loss_first: 5.0,
            loss_last: 5.0,
            train_ms: 1,
            more: true,
        };
        self.link.outbox.send(&ClientMsg::Update(update))?;
        self.link.outbox.send_blob(blob, bytes)?;
        Ok(())
    }
}
