//! Drives the [`Agent`]: one fact, then all of its orders, then the next fact. Holds the bytes that the agent knows
//! only by their digests; nothing here takes long.
//!
//! Screens are fed through [`Sink`] and steer with [`Request`]s; neither knows of the agent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hydra_core::agent::{Agent, Event, Exit, Fact, Order};
use hydra_core::credits::Credits;
use hydra_core::ids::{Digest, LeaseId, Nonce};
use hydra_core::machine::Machine as _;
use hydra_core::proto::{self, ClientMsg, Empty, ServerMsg};
use hydra_core::time::Time;
use hydra_shell::clock::Clock;
use hydra_shell::exit::Failure;
use hydra_shell::keys;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::cache::{Cache, SHARD_BYTES};
use crate::compute::{Command, Report, Work};
use hydra_shell::client::line::{Heard, Line};

mod end;
mod news;
#[cfg(test)]
mod tests;

use self::end::{failure, settle};
pub use self::news::{News, Request};

/// For the last words in both directions.
const FAREWELL: Duration = Duration::from_secs(3);
/// Shards that may be on their way to the disk.
const WRITES: usize = 4;

/// Who is told what happens.
pub trait Sink {
    /// Shows an event.
    fn show(&mut self, event: &Event);

    /// Takes what only a screen wants; by default nobody does.
    fn tell(&mut self, news: News) {
        let _ = news;
    }
}

/// What the compute thread was told to train.
struct Training {
    /// Of the [`Work`]; the thread's answers name it.
    work: u64,
    lease: LeaseId,
    stop: Arc<AtomicBool>,
}

/// All that is needed to work.
pub struct Driver<S> {
    agent: Agent,
    line: Line,
    clock: Clock,
    cache: Arc<Cache>,
    commands: mpsc::UnboundedSender<Command>,
    sink: S,
    /// What the driver itself has to say to the agent.
    own: VecDeque<Fact>,
    /// Blobs that came and that the agent has not used yet.
    received: BTreeMap<Digest, Vec<u8>>,
    /// Blobs of versions: the session awaits them by itself, and the agent may use them long after they came.
    announced: BTreeSet<Digest>,
    /// Shards for the task in hand.
    shards: BTreeMap<Digest, Arc<[u8]>>,
    /// Looking for shards on disk.
    searches: JoinSet<(Digest, Option<Vec<u8>>)>,
    /// Putting shards on disk.
    writes: JoinSet<()>,
    /// Updates until they are answered.
    updates: BTreeMap<Digest, Arc<[u8]>>,
    training: Option<Training>,
    /// Tasks that training has begun with.
    works: u64,
    /// Why the device is of no use, once it is not.
    useless: Option<String>,
    /// As last told.
    balance: Option<Credits>,
    rest: Option<Time>,
}

impl<S: Sink> Driver<S> {
    /// A driver for `agent` over `line`, with its compute thread behind `commands`.
    pub fn new(
        agent: Agent,
        line: Line,
        clock: Clock,
        cache: Cache,
        commands: mpsc::UnboundedSender<Command>,
        sink: S,
    ) -> Self {
        Self {
            agent,
            line,
            clock,
            cache: Arc::new(cache),
            commands,
            sink,
            own: VecDeque::new(),
            received: BTreeMap::new(),
            announced: BTreeSet::new(),
            shards: BTreeMap::new(),
            searches: JoinSet::new(),
            writes: JoinSet::new(),
            updates: BTreeMap::new(),
            training: None,
            works: 0,
            useless: None,
            balance: None,
            rest: None,
        }
    }

    /// Works until the agent, or somebody in a hurry, ends it.
    pub async fn run(
        mut self,
        reports: &mut mpsc::Receiver<Report>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> anyhow::Result<()> {
        let exit = loop {
            if let Some(exit) = self.carry_out() {
                break exit;
            }
            if let Some(fact) = self.own.pop_front() {
                self.handle(fact);
                continue;
            }
            let deadline = self.agent.deadline().map(|(at, _)| at);
            tokio::select! {
                heard = self.line.next() => self.on_heard(heard)?,
                report = reports.recv() => match report {
                    Some(report) => self.on_report(report),
                    None => anyhow::bail!("the compute thread has ended"),
                },
                Some(found) = self.searches.join_next() => {
                    // A search that panicked found nothing that could be named; the bug is in the log.
                    if let Ok((shard, bytes)) = found {
                        self.on_found(shard, bytes);
                    }
                }
                Some(request) = requests.recv() => match request {
                    Request::Finish => self.handle(Fact::Finish),
                    Request::Stop => return Err(self.stop().await.into()),
                    Request::Pause => self.handle(Fact::Pause),
                    Request::Resume => self.handle(Fact::Resume),
                    Request::Threads(threads) => self.command(Command::Threads(threads)),
                    Request::AskStatus if self.agent.is_open() => {
                        self.line.send(&ClientMsg::Status(Empty {}));
                        // The same name may earn and spend elsewhere.
                        self.line.send(&ClientMsg::Balance(Empty {}));
                    }
                    Request::AskStatus => {}
                },
                () = self.clock.sleep_until(deadline) => self.agent.expire(self.clock.now()),
            }
        };
        self.stop_training(None);
        let ended = failure(exit, self.useless.take(), &self.line);
        self.line.hang_up(FAREWELL).await;
        settle(self.writes).await;
        Ok(ended?)
    }

    fn handle(&mut self, fact: Fact) {
        self.agent.handle(self.clock.now(), fact);
    }

    fn on_heard(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Connected => {
                let nonce = Nonce(keys::random()?);
                self.handle(Fact::Connected { nonce });
            }
            Heard::Message(message) => {
                if let ServerMsg::Version(version) = &message {
                    self.announced.insert(version.blob);
                }
                self.tell_status(&message);
                self.handle(Fact::Message(message));
                if self.agent.is_open() {
                    self.line.greeted();
                    self.tell_balance();
                }
            }
            Heard::Blob(digest, bytes) => {
                // A shard that was revoked on its way is of use to nobody here.
                self.received.retain(|blob, _| self.announced.contains(blob));
                self.received.insert(digest, bytes);
                self.handle(Fact::Blob { digest });
            }
            Heard::Sent(blob) => self.handle(Fact::Sent { blob }),
            Heard::Closed(reason) => {
                // The agent forgets what was on its way, too.
                self.received.clear();
                self.announced.clear();
                self.handle(Fact::Closed { reason });
            }
        }
        Ok(())
    }

    fn on_report(&mut self, report: Report) {
        let fact = match report {
            Report::Installed { version, digest } => Fact::Installed { version, digest },
            // Of work that was stopped nothing is wanted; its lease may be another run's by then.
            Report::Step { work, step, loss, tokens_per_s } => {
                let Some(Training { lease, .. }) = self.training.as_ref().filter(|now| now.work == work) else {
                    return;
                };
                let lease = *lease;
                self.sink.tell(News::Step { step, loss, tokens_per_s });
                Fact::Step { lease, step, loss, tokens_per_s }
            }
            Report::Trained { work, blob, bytes, loss_first, loss_last, train_ms } => {
                let Some(lease) = self.end_training(work) else { return };
                let length = bytes.len() as u64;
                self.updates.insert(blob, bytes);
                Fact::Trained { lease, blob, bytes: length, loss_first, loss_last, train_ms }
            }
            Report::Failed { work, text } => {
                let Some(lease) = self.end_training(work) else { return };
                tracing::warn!(%lease, text, "a task cannot be trained");
                Fact::Failed { lease, text }
            }
            Report::Useless(why) => {
                self.useless = Some(why);
                self.sink.tell(News::Useless);
                // What is trained already is still delivered.
                Fact::Finish
            }
            Report::Opened { device, threads } => self.tell_device(device, threads),
            // Told before there is a driver.
            Report::Unopened(_) => return,
        };
        self.handle(fact);
    }

    fn on_found(&mut self, shard: Digest, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => {
                // Its task may be gone: then nothing would ever take it away.
                if self.agent.shard() == Some(shard) {
                    self.shards.insert(shard, bytes.into());
                }
                self.handle(Fact::ShardReady { shard });
            }
            None => self.handle(Fact::ShardMissing { shard }),
        }
    }

    fn carry_out(&mut self) -> Option<Exit> {
        while let Some(order) = self.agent.poll() {
            match order {
                Order::Connect => {
                    self.line.connect();
                    self.sink.tell(News::Connecting);
                }
                Order::Disconnect => self.line.close("the version held here is of no use; fetching it anew"),
                Order::Send(message) => self.line.send(&message),
                Order::SendBlob { blob } => match self.updates.get(&blob) {
                    Some(bytes) => self.line.send_blob(blob, bytes.clone()),
                    None => tracing::error!(%blob, "an update's bytes are not at hand"),
                },
                Order::Expect { blob, bytes } => self.expect(blob, bytes),
                Order::Setup { run, shape, recipe } => {
                    self.command(Command::Setup { run, shape, recipe });
                    self.sink.tell(News::Model);
                }
                Order::Install(version) => self.install(version),
                Order::FindShard { shard } => self.find(shard),
                Order::KeepShard { shard } => self.keep(shard),
                Order::Train(task) => self.train(*task),
                Order::StopTraining { lease } => {
                    self.stop_training(Some(lease));
                    self.sink.tell(News::Stopped);
                }
                Order::Drop { blob } => {
                    self.updates.remove(&blob);
                    self.received.remove(&blob);
                    self.line.forget(blob);
                }
                Order::Note(event) => {
                    self.heed(&event);
                    self.sink.show(&event);
                }
                Order::Exit(exit) => return Some(exit),
            }
        }
        self.tell_rest();
        None
    }

    fn command(&self, command: Command) {
        // A thread that is gone has closed its reports, which ends the program.
        let _ = self.commands.send(command);
    }

    fn expect(&mut self, blob: Digest, bytes: u64) {
        if self.announced.contains(&blob) {
            return;
        }
        if bytes <= SHARD_BYTES {
            self.line.expect(blob, bytes);
        } else if let Some(lease) = self.agent.lease() {
            let text = format!("a shard of {bytes} bytes is larger than the {SHARD_BYTES} that are taken");
            self.own.push_back(Fact::Failed { lease, text });
        }
    }

    fn install(&mut self, version: proto::Version) {
        self.announced.remove(&version.blob);
        // Without its bytes the thread answers that it failed, and the agent begins afresh.
        let bytes = self.received.remove(&version.blob).unwrap_or_default();
        self.command(Command::Install { version, bytes });
    }

    fn find(&mut self, shard: Digest) {
        // Of tasks that never begin, each with another shard, only the last one's is kept.
        self.shards.retain(|kept, _| *kept == shard);
        if self.shards.contains_key(&shard) {
            return self.own.push_back(Fact::ShardReady { shard });
        }
        let cache = self.cache.clone();
        self.searches.spawn_blocking(move || (shard, cache.get(&shard)));
    }

    fn keep(&mut self, shard: Digest) {
        let Some(bytes) = self.received.remove(&shard) else { return };
        let bytes: Arc<[u8]> = bytes.into();
        self.shards.insert(shard, bytes.clone());
        self.own.push_back(Fact::ShardReady { shard });
        while self.writes.try_join_next().is_some() {}
        // Behind a disk that hangs they would pile up; one that is not kept is fetched again.
        if self.writes.len() < WRITES {
            let cache = self.cache.clone();
            self.writes.spawn_blocking(move || cache.put(&shard, &bytes));
        }
    }

    fn train(&mut self, task: proto::Task) {
        // The next task may well use the same shard; others are on disk.
        self.shards.retain(|shard, _| *shard == task.shard);
        let shard = self.shards.get(&task.shard).cloned().unwrap_or_default();
        let stop = Arc::new(AtomicBool::new(false));
        self.works += 1;
        let number = self.works;
        self.training = Some(Training { work: number, lease: task.lease, stop: stop.clone() });
        self.sink.tell(News::Preview(task.preview.clone()));
        self.command(Command::Train(Work { number, task, shard, stop }));
    }

    /// The lease of work that has come to its end, unless it was stopped before.
    fn end_training(&mut self, work: u64) -> Option<LeaseId> {
        self.training.take_if(|now| now.work == work).map(|ended| ended.lease)
    }

    /// Stops a lease, or whatever is being trained.
    fn stop_training(&mut self, lease: Option<LeaseId>) {
        if let Some(Training { stop, .. }) = self.training.take_if(|now| lease.is_none_or(|lease| lease == now.lease)) {
            stop.store(true, Ordering::Relaxed);
        }
    }
}
