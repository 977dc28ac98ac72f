//! What a coordinator without manners can make the driver hold; the test plays the coordinator, and there is no line.

use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use hydra_core::agent::Settings;
use hydra_core::codec::Codec;
use hydra_core::ids::{PublicKey, TaskId, VersionNo, WorkerId};
use hydra_core::model::{Recipe, Shape};
use hydra_core::proto::sign::{self, Parties};
use hydra_core::proto::{Challenge, Unpaid, UnpaidCode, Welcome};
use tempfile::TempDir;

use super::*;
use crate::cache::LIMIT;

const NONCE: Nonce = Nonce([4; 32]);

/// Keeps the balances that it is told.
#[derive(Clone, Default)]
struct Balances(Arc<Mutex<Vec<Credits>>>);

impl Sink for Balances {
    fn show(&mut self, _: &Event) {}

    fn tell(&mut self, news: News) {
        if let News::Balance(balance) = news {
            self.0.lock().unwrap().push(balance);
        }
    }
}

struct Rig {
    driver: Driver<Balances>,
    told: Balances,
    _commands: mpsc::UnboundedReceiver<Command>,
    _cache: TempDir,
}

impl Rig {
    fn new() -> Self {
        let (told, cache, clock) = (Balances::default(), tempfile::tempdir().unwrap(), Clock::start());
        let (sender, commands) = mpsc::unbounded_channel();
        let settings = Settings {
            user: "alice".parse().unwrap(),
            key: SigningKey::from_bytes(&[1; 32]),
            worker: WorkerId([7; 8]),
            device: "test".to_owned(),
            agent: "test".to_owned(),
            tasks: None,
            pause: Duration::ZERO,
            seed: 1,
        };
        let (agent, line) = (Agent::new(clock.now(), settings), Line::new(std::future::pending));
        let driver = Driver::new(agent, line, clock, Cache::at(cache.path(), LIMIT), sender, told.clone());
        Self { driver, told, _commands: commands, _cache: cache }
    }

    /// What comes over the line, with all that follows from it; what is not on disk is looked for.
    async fn hear(&mut self, heard: Heard) {
        self.driver.on_heard(heard).unwrap();
        loop {
            assert_eq!(self.driver.carry_out(), None);
            if let Some(fact) = self.driver.own.pop_front() {
                self.driver.handle(fact);
            } else if let Some(found) = self.driver.searches.join_next().await {
                let (shard, bytes) = found.unwrap();
                self.driver.on_found(shard, bytes);
            } else {
                return;
            }
        }
    }

    async fn say(&mut self, message: ServerMsg) {
        self.hear(Heard::Message(message)).await;
    }

    /// A session with the coordinator that has this key.
    async fn welcome(&mut self, key: u8) {
        // As the agent makes it from the nonce that the driver draws, which the test does not see.
        self.driver.handle(Fact::Connected { nonce: NONCE });
        assert_eq!(self.driver.carry_out(), None);
        let key = SigningKey::from_bytes(&[key; 32]);
        let server = PublicKey(key.verifying_key().to_bytes());
        let client = PublicKey(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());
        let parties = Parties { client: &client, server: &server, client_nonce: &NONCE, server_nonce: &NONCE };
        let signature = sign::sign(&key, &sign::server_statement(&parties));
        self.say(ServerMsg::Challenge(Challenge { key: server, nonce: NONCE, signature })).await;
        self.say(ServerMsg::Welcome(Welcome {
            session: 1,
            balance: Credits::hyd(3),
            reward: Credits::hyd(1),
            price: Credits::ZERO,
            version: VersionNo(0),
            shape: Shape::new(64, 16, 2, 1, 16),
            recipe: Recipe::default(),
            val_loss: None,
            val_version: None,
        }))
        .await;
        assert!(self.driver.agent.is_open());
    }

    /// A task from a version that never comes.
    async fn task(&mut self, lease: u64, shard: Digest) {
        self.say(ServerMsg::Task(proto::Task {
            lease: LeaseId(lease),
            task: TaskId(lease),
            version: VersionNo(99),
            shard,
            shard_tokens: 4,
            steps: 1,
            batch: 1,
            context: 2,
            seed: 0,
            lr_start: 1e-3,
            lr_end: 1e-3,
            codec: Codec::Int4,
            deadline_ms: 1000,
            preview: String::new(),
        }))
        .await;
    }

    async fn revoke(&mut self, lease: u64) {
        let unpaid =
            Unpaid { lease: LeaseId(lease), task: TaskId(lease), code: UnpaidCode::Expired, text: String::new() };
        self.say(ServerMsg::Revoked(unpaid)).await;
    }
}

fn shard(number: u64) -> (Digest, Vec<u8>) {
    let bytes = number.to_le_bytes().to_vec();
    (Digest::of(&bytes), bytes)
}

#[tokio::test]
async fn tasks_that_never_begin_leave_one_shard_at_most() {
    let mut rig = Rig::new();
    rig.welcome(9).await;
    for lease in 1..9 {
        let (digest, bytes) = shard(lease);
        rig.task(lease, digest).await;
        rig.hear(Heard::Blob(digest, bytes.clone())).await;
        assert_eq!(rig.driver.shards.get(&digest).map(|kept| kept.to_vec()), Some(bytes));
        rig.revoke(lease).await;
        assert_eq!((rig.driver.shards.len(), rig.driver.received.len()), (1, 0), "after {lease} tasks");
    }
    // One that was looked for on disk while its task went.
    let (digest, bytes) = shard(1);
    rig.driver.on_found(digest, Some(bytes));
    assert!(!rig.driver.shards.contains_key(&digest));
}

#[tokio::test]
async fn shards_do_not_pile_up_before_a_disk_that_hangs() {
    let mut rig = Rig::new();
    rig.welcome(9).await;
    for _ in 0..WRITES {
        rig.driver.writes.spawn(std::future::pending());
    }
    let (digest, bytes) = shard(1);
    rig.task(1, digest).await;
    rig.hear(Heard::Blob(digest, bytes)).await;
    assert_eq!((rig.driver.writes.len(), rig.driver.shards.len()), (WRITES, 1));
}

#[tokio::test]
async fn a_blob_that_comes_too_late_is_not_held() {
    let mut rig = Rig::new();
    rig.welcome(9).await;
    let (digest, bytes) = shard(1);
    rig.task(1, digest).await;
    rig.revoke(1).await;
    rig.hear(Heard::Blob(digest, bytes)).await;
    assert_eq!((rig.driver.shards.len(), rig.driver.received.len()), (0, 0));
}

#[tokio::test]
async fn another_runs_balance_is_told_also_if_it_is_the_same() {
    let mut rig = Rig::new();
    rig.welcome(9).await;
    for key in [9, 8] {
        rig.hear(Heard::Closed("cut".to_owned())).await;
        rig.welcome(key).await;
    }
    assert_eq!(*rig.told.0.lock().unwrap(), [Credits::hyd(3); 2]);
}
