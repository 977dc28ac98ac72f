//! The coordinator as a machine: sessions, tasks, rounds, payments and queries, without socket, clock, file or tensor.
//!
//! Facts come in as [`Fact`], orders go out as [`Order`]. Two rules hold everywhere:
//!
//! - *Write before you promise.* Whatever tells a peer about money, names or versions is sent only after the rows
//!   behind it were reported durable ([`Fact::Persisted`]); until then it waits as an [`Action`]. Balances are told
//!   from the durable rows alone.
//! - *No heavy bytes.* The hub sees digests, sizes and verdicts; the shell holds the bytes and does the arithmetic.

mod api_keys;
mod asked;
mod away;
mod bench;
mod codecs;
mod copies;
mod event;
mod fact;
mod findings;
mod kicked;
mod leases;
mod memory;
mod order;
mod patience;
mod pay;
mod queries;
mod records;
mod recover;
mod rounds;
pub mod rows;
mod rules;
mod session;
mod stopping;
mod tasks;
mod trust;
mod updates;
mod versions;
mod view;

#[cfg(any(test, feature = "sim"))]
mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;

pub use self::asked::Asked;
pub use self::event::{Event, hyd};
pub use self::fact::{Fact, Operator, QueryNo};
pub use self::findings::{Findings, Gain, Probe, Sample, Source, Twin};
pub use self::order::{MergeInput, Order};
pub use self::pay::reward_id;
pub use self::rows::{Recovered, Row};
pub use self::rules::{Rules, Sampling, Shard, Stop};
pub use self::session::public_key;
pub use self::view::{LedgerView, RoundView, TransferView, View, WorkerState, WorkerView};
use crate::credits::Credits;
use crate::ids::{Digest, LeaseId, PublicKey, SessionId, UserName, VersionNo, WorkerId};
use crate::ledger::{Book, Transfer};
use crate::machine::Machine;
use crate::proto::{self, Finish, RefusedCode, ServerMsg, Unpaid};
use crate::rng::Rng;
use crate::time::Time;

/// What waits for rows to be durable.
#[derive(Debug, Clone)]
enum Action {
    /// A new name is registered.
    Welcome { session: SessionId, name: UserName },
    /// Which API keys the user has can be told.
    ApiKeys { session: SessionId, known: proto::ApiKeys },
    /// A payment can be told.
    Credit { lease: LeaseId, amount: Credits },
    /// That there is none can be told.
    Refuse { session: SessionId, unpaid: proto::Unpaid },
    /// A hold stands: generate.
    Ask(QueryNo),
    /// A hold ended in payment: tell.
    Charge { query: QueryNo, tokens: u32, finish: Finish },
    /// A hold was returned: tell.
    Refund { query: QueryNo, code: RefusedCode, text: String },
    /// A version can be served.
    Publish { version: rows::Version, opened: Time },
}

/// The coordinator. See the module's page.
#[derive(Debug)]
pub struct Hub {
    rules: Rules,
    key: SigningKey,
    /// Which start of the run this is.
    boot: u64,
    rng: Rng,
    out: VecDeque<Order>,

    sessions: BTreeMap<SessionId, session::Session>,
    handshakes: VecDeque<(Time, SessionId)>,
    /// The open sessions of workers.
    seats: BTreeMap<(UserName, WorkerId), SessionId>,
    users: BTreeMap<UserName, PublicKey>,
    /// Names whose row is not durable yet.
    new_names: BTreeSet<UserName>,
    api_keys: api_keys::Keyring,
    naming: session::Naming,
    given_up: queries::GivenUp,
    /// Workers that trained, or waited for it, when the newest version came.
    team: usize,
    kicked: kicked::Kicked,
    records: records::Records,

    book: Book,
    /// The book as far as its transfers are durable: what may be told.
    durable: Book,
    /// Transfers on their way to the disk.
    unwritten: VecDeque<(u64, Transfer)>,
    newest_transfers: view::Newest,
    persist_seq: u64,
    /// Orders up to this are durable.
    persisted: u64,
    waiting: VecDeque<(u64, Action)>,

    queue: VecDeque<tasks::Spec>,
    next_task: u64,
    next_lease: u64,
    next_generation: Time,
    paused: bool,
    bench: bench::Bench,
    leases: leases::Leases,

    newest: rows::Version,
    /// The oldest version from which the shell can send deltas up to the newest.
    deltas_since: VersionNo,
    recent: BTreeMap<VersionNo, Digest>,
    /// Of the newest version that was measured: loss and bits a byte.
    evaluated: Option<(f64, f64)>,
    /// Whether that was the average of the versions up to it, which then answers.
    averaged: bool,
    /// Which version that is.
    measured: Option<VersionNo>,
    round: rounds::Round,
    trust: trust::Trust,
    /// Seconds that the check of an update's numbers takes, rather more than less.
    check_seconds: f64,
    unevaluated: BTreeMap<VersionNo, versions::Unevaluated>,

    queries: BTreeMap<QueryNo, queries::Running>,
    next_query: u64,
    /// What was asked lately, so that a resent query is known.
    asked: Asked,

    accepted_tasks: u64,
    accepted_tokens: u64,
    stopping: Option<stopping::Stopping>,
}

impl Machine for Hub {
    type In = Fact;
    type Out = Order;

    fn handle(&mut self, now: Time, fact: Fact) {
        match fact {
            Fact::Joined { session, nonce, host } => self.on_joined(now, session, nonce, host),
            Fact::Keyed { session, key } => self.on_keyed(session, &key),
            Fact::Frame { session, message } => self.on_frame(now, session, message),
            Fact::BadFrame { session, error } => {
                self.send(session, ServerMsg::Error(error));
                self.out.push_back(Order::Close { session });
                self.on_left(now, session, "sent something that is no message");
            }
            Fact::Quiet { session } => self.on_quiet(now, session),
            Fact::Woke { session } => self.on_woke(now, session),
            Fact::Left { session, reason } => self.on_left(now, session, &reason),
            Fact::Received { session, blob, intact } => self.on_received(now, session, blob, intact),
            Fact::Checked { lease, verdict } => self.on_checked(now, lease, verdict),
            Fact::Persisted { upto } => self.on_persisted(now, upto),
            Fact::Merged { version, digest } => self.on_merged(now, version, digest),
            Fact::MergeFailed { version } => self.on_merge_failed(now, version),
            Fact::Evaluated { version, averaged, loss, bits_per_byte, bytes_up, bytes_down } => {
                self.on_evaluated(now, (version, averaged), (loss, bits_per_byte), (bytes_up, bytes_down));
            }
            Fact::Unmeasured { version } => drop(self.unevaluated.remove(&version)),
            Fact::Begun { query, version, averaged } => self.on_begun(query, version, averaged),
            Fact::Piece { query, text, tokens } => self.on_piece(now, query, text, tokens),
            Fact::Answered { query, tokens, finish } => self.on_answered(now, query, tokens, finish),
            Fact::AnswerFailed { query, text } => self.on_answer_failed(now, query, text),
            Fact::Operator(word) => self.on_operator(now, word),
        }
        self.finish_if_done(now);
    }

    fn poll(&mut self) -> Option<Order> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        let handshake = self.handshakes.front().map(|(due, _)| (*due, "a handshake is slow"));
        let stop = self.stopping.filter(|s| !s.done).map(|s| (s.until, "stopping must not take for ever"));
        [handshake, stop, self.task_deadline(), self.round_deadline()].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn expire(&mut self, now: Time) {
        self.expire_handshakes(now);
        self.expire_leases(now);
        self.expire_places(now);
        self.consider_round(now);
        self.dispatch(now);
        self.finish_if_done(now);
    }
}

impl Hub {
    fn send(&mut self, session: SessionId, message: ServerMsg) {
        self.out.push_back(Order::Send { session, message });
    }

    /// Sends to a session that may be gone.
    fn send_open(&mut self, session: SessionId, message: ServerMsg) {
        if self.sessions.contains_key(&session) {
            self.send(session, message);
        }
    }

    fn note(&mut self, event: Event) {
        self.out.push_back(Order::Note(event));
    }

    fn wall_ms(&self, now: Time) -> u64 {
        self.rules.epoch_ms.saturating_add(now.0 / 1000)
    }

    /// Orders rows to be made durable.
    fn persist(&mut self, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        self.persist_seq += 1;
        for row in &rows {
            if let Row::Transfer(transfer) = row {
                self.unwritten.push_back((self.persist_seq, transfer.clone()));
            }
        }
        self.out.push_back(Order::Persist { seq: self.persist_seq, rows });
    }

    /// Does something as soon as all that was ordered so far is durable; at once, if it is.
    fn once_durable(&mut self, now: Time, action: Action) {
        if self.persisted < self.persist_seq {
            self.waiting.push_back((self.persist_seq, action));
        } else {
            self.perform(now, action);
        }
    }

    /// Tells why there is no pay as soon as the row that says so is durable. Who asks again and again waits once.
    fn refuse_once_durable(&mut self, now: Time, session: SessionId, unpaid: Unpaid) {
        let lease = unpaid.lease;
        let asked = self.waiting.iter_mut().rev().find_map(|(_, action)| match action {
            Action::Refuse { session, unpaid } if unpaid.lease == lease => Some((session, unpaid)),
            _ => None,
        });
        match asked {
            Some(waits) => (*waits.0, *waits.1) = (session, unpaid),
            None => self.once_durable(now, Action::Refuse { session, unpaid }),
        }
    }

    fn on_persisted(&mut self, now: Time, upto: u64) {
        while let Some((_, transfer)) = self.unwritten.pop_front_if(|(seq, _)| *seq <= upto) {
            self.durable.replay(&transfer).expect("the book's own transfers follow one another");
            self.newest_transfers.take(&transfer);
        }
        let behind = self.is_behind();
        self.persisted = self.persisted.max(upto);
        while let Some((_, action)) = self.waiting.pop_front_if(|(seq, _)| *seq <= upto) {
            self.perform(now, action);
        }
        if behind {
            self.dispatch(now);
        }
    }

    fn perform(&mut self, now: Time, action: Action) {
        match action {
            Action::Welcome { session, name } => self.on_registered(now, session, &name),
            Action::ApiKeys { session, known } => self.send_open(session, ServerMsg::ApiKeys(known)),
            Action::Credit { lease, amount } => self.on_paid(lease, amount),
            Action::Refuse { session, unpaid } => self.send_open(session, ServerMsg::Unpaid(unpaid)),
            Action::Ask(query) => self.on_held(query),
            Action::Charge { query, tokens, finish } => self.on_charged(now, query, tokens, finish),
            Action::Refund { query, code, text } => self.on_refunded(query, code, text),
            Action::Publish { version, opened } => self.on_durable(now, version, opened),
        }
    }

    fn on_operator(&mut self, now: Time, word: Operator) {
        match word {
            Operator::Drain => self.stop(now, "drained", true),
            Operator::Pause => self.paused = true,
            Operator::Resume => {
                self.paused = false;
                self.dispatch(now);
            }
            Operator::Queue(length) => {
                self.rules.queue = length;
                self.dispatch(now);
            }
            Operator::CloseRound => self.close_round_now(now),
            Operator::Kick(user, worker, text) => self.kick(now, user, worker, &text),
        }
    }

    /// Whether so much waits for the disk or to be checked that no further task may be handed out: work must not pile
    /// up unpaid, nor its bytes in memory.
    fn is_behind(&self) -> bool {
        self.disk_is_behind() || self.leases.checking() > tasks::CHECKS
    }

    /// Whether so much waits for the disk that nothing may be begun that would wait for it too.
    fn disk_is_behind(&self) -> bool {
        self.waiting.len() > tasks::BACKLOG
    }

    /// The run in numbers.
    pub fn status(&self) -> proto::Status {
        proto::Status {
            version: self.newest.version,
            workers: self.seats.len() as u32,
            tasks: self.accepted_tasks,
            tokens: self.accepted_tokens,
            params: self.rules.shape.params() as u64,
            queries: self.queries.len() as u32,
            val_loss: self.evaluated.map(|(loss, _)| loss),
            val_version: self.measured_before(),
            val_bits_per_byte: self.evaluated.map(|(_, bits)| bits),
            paused: self.paused,
        }
    }

    /// What a peer may be told that `user` has.
    fn balance(&self, user: &UserName) -> Credits {
        self.durable.balance(user)
    }

    /// The ledger's live state.
    pub fn book(&self) -> &Book {
        &self.book
    }
}
