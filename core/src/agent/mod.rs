//! The worker as a machine: keeps a session, installs versions in order, trains one task at a time, and delivers every
//! update until it is answered, over as many connections as that takes.
//!
//! Bytes (versions, shards, updates) stay with the shell under their digests; training runs on the shell's compute
//! thread, which carries out [`Order::Install`] and [`Order::Train`] strictly in the order given. Nothing but the
//! handshake is sent before `welcome`.

mod api;
mod session;
mod work;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::api::{Event, Exit, Fact, Order, Settings, Why};
use crate::backoff::Backoff;
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey, TaskId, VersionNo};
use crate::limits::TEXT_BYTES;
use crate::machine::Machine;
use crate::model::{Recipe, Shape};
use crate::proto::{self, ClientMsg};
use crate::time::Time;

/// Between two progress messages of one task.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A coordinator that was never reached is given up after this.
pub const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// With so many updates unanswered, no further task is taken: behind a slow link they would pile up until they are late.
const OUTBOX: usize = 4;
/// So many versions wait for the compute thread behind a long training. Those after them wait here, and end with their
/// session.
const INSTALLING: usize = 8;
/// With more versions announced and waiting here the worker begins afresh: all weights take less room.
const ANNOUNCED: usize = 16;
/// Who leaves, and has an update that nobody takes or answers, goes without after this.
pub const LINGER: Duration = Duration::from_mins(1);
/// After a task that could not be trained here: it would be pushed again at once.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq)]
enum Link {
    Waiting {
        until: Time,
    },
    Connecting,
    /// Hello is sent.
    Greeting {
        nonce: Nonce,
    },
    /// Proof is sent.
    Proving,
    Open,
}

#[derive(Debug, Clone)]
struct InHand {
    task: proto::Task,
    shard_ready: bool,
    /// Whether the coordinator was asked for its shard.
    fetched: bool,
    training: bool,
    last_progress: Option<Time>,
}

#[derive(Debug, Clone)]
struct Finished {
    task: TaskId,
    update: proto::Update,
    /// Whether it was ever sent; the coordinator may have it, and may have paid it.
    sent: bool,
    /// Whether all of it was handed to the network in this session.
    gone: bool,
}

/// A version that the compute thread was told to install and has not answered.
#[derive(Debug, Clone, Copy)]
struct Installing {
    version: VersionNo,
    /// What must come out; none for one that does not matter any more.
    digest: Option<Digest>,
    /// All of its weights, and not what differs from the one before.
    whole: bool,
}

/// The worker. See the module's page.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    out: VecDeque<Order>,
    backoff: Backoff,
    link: Link,
    /// The key of the coordinator that it spoke with last: each run has its own.
    server: Option<PublicKey>,
    /// When the session that stands began.
    opened: Option<Time>,
    /// Why the coordinator is about to close it, in its words.
    why: Option<String>,
    started: Time,
    greeted: bool,
    /// Whether the coordinator believes that this worker takes tasks.
    told: bool,
    /// It trains on another device than the coordinator knows.
    renamed: bool,
    /// The lease that the last hello named.
    claimed: Option<LeaseId>,
    /// Whether this session's hello named a version as held.
    named: bool,
    /// What the compute thread was told to get ready for, and of which run.
    model: Option<(PublicKey, Shape, Recipe)>,
    /// The version that the compute thread has, or will have after the orders given.
    ordered: Option<VersionNo>,
    /// What it is known to have.
    installed: Option<proto::Held>,
    /// Versions being installed, in order.
    installing: VecDeque<Installing>,
    /// Versions announced in this session, in order; the flag says whether the bytes are here.
    versions: VecDeque<(proto::Version, bool)>,
    hand: Option<InHand>,
    outbox: Vec<Finished>,
    rest_until: Option<Time>,
    paused: bool,
    finishing: bool,
    /// Since when it would leave and has no coordinator that takes its last updates, or none that answers them.
    lonely: Option<Time>,
    over: bool,
    paid: u64,
    earned: Credits,
    balance: Credits,
}

impl Agent {
    /// A worker that connects as soon as it is polled.
    pub fn new(now: Time, settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.seed),
            settings,
            out: VecDeque::from([Order::Connect]),
            link: Link::Connecting,
            server: None,
            opened: None,
            started: now,
            greeted: false,
            told: true,
            renamed: false,
            claimed: None,
            named: false,
            model: None,
            ordered: None,
            installed: None,
            installing: VecDeque::new(),
            versions: VecDeque::new(),
            hand: None,
            outbox: Vec::new(),
            rest_until: None,
            paused: false,
            finishing: false,
            lonely: None,
            over: false,
            why: None,
            paid: 0,
            earned: Credits::ZERO,
            balance: Credits::ZERO,
        }
    }

    /// Credits of the user as last told.
    pub fn balance(&self) -> Credits {
        self.balance
    }

    /// Whether a session stands.
    pub fn is_open(&self) -> bool {
        self.link == Link::Open
    }

    /// Until when it takes no task, because it rests after one.
    pub fn rest_until(&self) -> Option<Time> {
        self.rest_until
    }

    /// The lease in hand.
    pub fn lease(&self) -> Option<LeaseId> {
        self.hand.as_ref().map(|hand| hand.task.lease)
    }

    /// The shard of the task in hand.
    pub fn shard(&self) -> Option<Digest> {
        self.hand.as_ref().map(|hand| hand.task.shard)
    }

    /// Sends within a session; without one, what is said has no meaning any more.
    fn say(&mut self, message: ClientMsg) {
        if self.link == Link::Open {
            self.out.push_back(Order::Send(message));
        }
    }

    fn note(&mut self, event: Event) {
        self.out.push_back(Order::Note(event));
    }

    fn exit(&mut self, exit: Exit, reason: Why) {
        if self.over {
            return;
        }
        self.over = true;
        if let Some(hand) = self.hand.take_if(|hand| hand.training) {
            self.out.push_back(Order::StopTraining { lease: hand.task.lease });
        }
        self.note(self.stopped(reason));
        self.out.push_back(Order::Exit(exit));
    }

    /// The event of an end now.
    pub fn stopped(&self, reason: Why) -> Event {
        let unanswered = self.outbox.iter().filter(|finished| finished.sent).count() as u64;
        let undelivered = self.outbox.len() as u64 - unanswered;
        Event::Stopped { reason, tasks: self.paid, earned: self.earned, balance: self.balance, unanswered, undelivered }
    }

    /// Whether another task is welcome.
    fn accepting(&self, now: Time) -> bool {
        let enough = self.settings.tasks.is_some_and(|n| self.paid + self.outbox.len() as u64 >= n);
        let rested = self.rest_until.is_none_or(|until| until <= now);
        !self.finishing && !self.paused && !enough && rested && self.outbox.len() < OUTBOX
    }

    /// Keeps the coordinator's belief true.
    fn tell_ready(&mut self, now: Time) {
        let accepting = self.accepting(now);
        if self.link == Link::Open && !self.over && (self.told != accepting || self.renamed) {
            self.told = accepting;
            let renamed = std::mem::take(&mut self.renamed);
            let device = if renamed { self.settings.device.clone() } else { String::new() };
            self.say(ClientMsg::Ready(proto::Ready { accepting, device }));
        }
    }

    /// Gives a task back; whether it may come straight back is said first. Texts of libtorch and of drivers may be of any
    /// length, and the coordinator ends the session of who sends a longer one than it takes.
    fn release(&mut self, now: Time, lease: LeaseId, text: &str) {
        self.tell_ready(now);
        let text = text[..text.floor_char_boundary(TEXT_BYTES)].to_owned();
        self.say(ClientMsg::Release(proto::Release { lease, text }));
    }

    /// Leaves without a coordinator, or without its answer, if it waits for that too long: perhaps nobody is there any
    /// more to stop it. What a slow link still takes is waited for.
    fn leave_if_lonely(&mut self, now: Time) {
        let sending = self.link == Link::Open && self.outbox.iter().any(|finished| !finished.gone);
        let waits = self.finishing && self.hand.is_none() && !sending;
        self.lonely = if waits { self.lonely.or(Some(now)) } else { None };
        if !self.over && self.lonely.is_some_and(|since| since.after(LINGER) <= now) {
            self.say_goodbye();
            self.exit(Exit::Undelivered(self.outbox.len()), Why::Asked);
        }
    }

    fn say_goodbye(&mut self) {
        self.say(ClientMsg::Bye(proto::Bye { text: "left by itself".to_owned(), retry: false }));
    }

    fn leave_if_done(&mut self) {
        let enough = self.settings.tasks.is_some_and(|n| self.paid >= n);
        if (self.finishing || enough) && self.hand.is_none() && self.outbox.is_empty() && !self.over {
            self.say_goodbye();
            self.exit(Exit::Done, if enough { Why::Tasks } else { Why::Asked });
        }
    }
}

impl Machine for Agent {
    type In = Fact;
    type Out = Order;

    fn handle(&mut self, now: Time, fact: Fact) {
        if self.over {
            return;
        }
        match fact {
            Fact::Connected { nonce } => self.on_connected(now, nonce),
            Fact::Closed { reason } => self.on_closed(now, reason),
            Fact::Message(message) => self.on_message(now, message),
            Fact::Blob { digest } => self.on_blob(now, digest),
            Fact::ShardMissing { shard } => self.on_shard(now, shard, false),
            Fact::ShardReady { shard } => self.on_shard(now, shard, true),
            Fact::Installed { version, digest } => self.on_installed(now, version, digest),
            Fact::Sent { blob } => self.on_sent(blob),
            Fact::Step { lease, step, loss, tokens_per_s } => {
                self.on_step(now, proto::Progress { lease, step, loss, tokens_per_s });
            }
            Fact::Trained { lease, blob, bytes, loss_first, loss_last, train_ms } => {
                // The task fills in what is its own.
                let update = proto::Update {
                    lease,
                    version: VersionNo(0),
                    codec: crate::codec::Codec::F32,
                    blob,
                    bytes,
                    steps: 0,
                    tokens: 0,
                    loss_first,
                    loss_last,
                    train_ms,
                    more: false,
                };
                self.on_trained(now, update);
            }
            Fact::Failed { lease, text } => self.on_failed(now, lease, &text),
            Fact::Finish => {
                self.finishing = true;
                // A task that has not begun is not worth waiting for.
                if let Some(hand) = self.take_hand(|hand| !hand.training) {
                    self.release(now, hand.task.lease, "this worker is leaving");
                }
                self.leave_if_done();
            }
            Fact::Device { device } => {
                self.renamed |= device != self.settings.device;
                self.settings.device = device;
            }
            Fact::Pause => {
                self.paused = true;
                // One whose weights or text are still on their way has not begun.
                if let Some(hand) = self.take_hand(|hand| !hand.training) {
                    self.release(now, hand.task.lease, "this worker pauses");
                }
            }
            Fact::Resume => self.paused = false,
        }
        self.tell_ready(now);
        self.leave_if_lonely(now);
    }

    fn poll(&mut self) -> Option<Order> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.over {
            return None;
        }
        let retry = match self.link {
            Link::Waiting { until } => Some((until, "time to connect again")),
            _ => None,
        };
        let rest = self.rest_until.map(|until| (until, "the rest between tasks ends"));
        let lonely = self.lonely.map(|since| (since.after(LINGER), "the patience of who leaves ends"));
        [retry, rest, lonely].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn expire(&mut self, now: Time) {
        if self.over {
            return;
        }
        if matches!(self.link, Link::Waiting { until } if until <= now) {
            self.link = Link::Connecting;
            self.out.push_back(Order::Connect);
        }
        self.rest_until = self.rest_until.filter(|until| *until > now);
        self.tell_ready(now);
        self.leave_if_lonely(now);
    }
}
