//! Sessions: the handshake, who may do what, and how a session ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ed25519_dalek::SigningKey;

use super::bench::Place;
use super::records::Record;
use super::view::Tally;
use super::{Action, Hub, Order, Row};
use crate::ids::{LeaseId, Nonce, PublicKey, SessionId, UserName, VersionNo, WorkerId};
use crate::limits;
use crate::proto::sign::{self, Parties};
use crate::proto::{self, ClientMsg, ErrorCode, Role, ServerMsg};
use crate::time::Time;

/// One connection.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub stage: Stage,
    /// For signatures of this session. Nothing where an API key opened it: there is nobody who could sign.
    pub nonce: Option<Nonce>,
    /// Where it comes from, for what each host may claim.
    pub host: Option<IpAddr>,
    /// Queries of this session that have no end yet.
    pub queries: usize,
    /// What it has said about API keys.
    pub statements: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Nothing heard yet.
    Fresh,
    /// Challenged.
    Challenged(Box<proto::Hello>),
    /// Proved; the name's row is not durable yet.
    Registering(Box<proto::Hello>),
    /// In.
    Open(Box<Peer>),
}

/// Who is behind an open session.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub user: UserName,
    pub role: Role,
    /// Present exactly for workers.
    pub seat: Option<Seat>,
}

/// What the hub knows of a connected worker.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub worker: WorkerId,
    /// The last version that was sent to it.
    pub has: Option<VersionNo>,
    /// The last one of which it is known, or was assumed at the beginning, that it has arrived.
    pub got: VersionNo,
    /// Whether tasks may be pushed.
    pub accepting: bool,
    /// Where it is among those that could train; see [`Hub::place`].
    pub place: Place,
    /// Whether it owes a sign of life; see `away`.
    pub quiet: bool,
    /// The lease it trains now.
    pub lease: Option<LeaseId>,
    /// The lease whose time was up while it was quiet.
    pub aside: Option<LeaseId>,
    /// What is known of it, this session and before.
    pub record: Record,
    /// Since when it has waited for the version about to come.
    pub waits_since: Option<Time>,
    /// Held back for the version about to come, at the latest until then.
    pub hold_until: Option<Time>,
    /// Shards that it has asked for since its last lease.
    pub fetches: usize,
    /// For people.
    pub tally: Box<Tally>,
}

/// How many names were claimed lately.
#[derive(Debug, Default)]
pub(super) struct Naming {
    since: Time,
    names: u32,
    /// By each host.
    hosts: BTreeMap<IpAddr, u32>,
}

impl Session {
    pub fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Open(peer) => Some(peer),
            _ => None,
        }
    }

    pub fn seat(&self) -> Option<&Seat> {
        self.peer().and_then(|peer| peer.seat.as_ref())
    }

    pub fn seat_mut(&mut self) -> Option<&mut Seat> {
        match &mut self.stage {
            Stage::Open(peer) => peer.seat.as_mut(),
            _ => None,
        }
    }
}

impl Hub {
    pub(super) fn on_joined(&mut self, now: Time, id: SessionId, nonce: Nonce, host: Option<IpAddr>) {
        if self.sessions.len() >= limits::SESSIONS {
            self.refuse(id, ErrorCode::Full, "the coordinator has no room for another session: try again later");
            return;
        }
        self.sessions.insert(id, Session { stage: Stage::Fresh, nonce: Some(nonce), host, queries: 0, statements: 0 });
        self.handshakes.push_back((now.after(limits::HANDSHAKE), id));
    }

    pub(super) fn on_frame(&mut self, now: Time, id: SessionId, message: ClientMsg) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (role, user) = match &session.stage {
            Stage::Fresh => return self.on_hello(id, message),
            Stage::Challenged(_) => return self.on_proof(now, id, &message),
            // A pipelining client may speak before its welcome; what it says then is simply too early.
            Stage::Registering(_) => return self.decline(id, &message, "wait for the welcome before you say more"),
            Stage::Open(peer) => (peer.role, peer.user.clone()),
        };
        match (role, message) {
            (Role::Worker, ClientMsg::Ready(ready)) => self.on_ready(now, id, &ready),
            (Role::Worker, ClientMsg::Fetch(fetch)) => self.on_fetch(now, id, fetch.shard),
            (Role::Worker, ClientMsg::Progress(progress)) => self.on_progress(now, id, progress),
            (Role::Worker, ClientMsg::Update(update)) => self.on_update(now, id, update),
            (Role::Worker, ClientMsg::Release(release)) => self.on_release(now, id, &release),
            // Chunks are put together by the session's shell; one that reaches the hub belongs to nothing.
            (Role::Worker, ClientMsg::Chunk(_)) => {}
            (Role::Chat, ClientMsg::Query(query)) => self.on_query(now, id, &user, query),
            (Role::Chat, ClientMsg::Cancel(cancel)) => self.on_cancel(now, id, &user, cancel.id),
            (_, ClientMsg::Balance(_)) => self.send_balance(id, &user),
            (_, ClientMsg::Status(_)) => {
                let status = self.status();
                self.send(id, ServerMsg::Status(status));
            }
            (Role::Chat, ClientMsg::ApiKey(asked)) => self.on_api_key(now, id, &user, &asked),
            (_, ClientMsg::Bye(bye)) => self.on_bye(now, id, &bye),
            (_, ClientMsg::Hello(_) | ClientMsg::Proof(_)) => self.unexpected(id, "the handshake is over"),
            (Role::Worker, ClientMsg::Query(_) | ClientMsg::Cancel(_) | ClientMsg::ApiKey(_)) => {
                self.unexpected(id, "queries and API keys belong to sessions with the role chat");
            }
            (Role::Chat, out) => self.decline(id, &out, "that message belongs to sessions with the role worker"),
        }
    }

    /// A message out of place. The shell takes in the bytes that it announces as soon as it hears of them: they are not kept.
    fn decline(&mut self, id: SessionId, message: &ClientMsg, why: &str) {
        if let ClientMsg::Update(update) = message {
            self.out.push_back(Order::Discard { session: id, blob: update.blob });
        }
        self.unexpected(id, why);
    }

    fn on_hello(&mut self, id: SessionId, message: ClientMsg) {
        let ClientMsg::Hello(hello) = message else {
            return self.fail(id, ErrorCode::Unexpected, "the first message must be hello");
        };
        if hello.protocol != proto::PROTOCOL {
            let text = format!("this coordinator speaks {}, not {}", proto::PROTOCOL, hello.protocol.escape_default());
            return self.fail(id, ErrorCode::Protocol, &text);
        }
        if (hello.role == Role::Worker) != hello.worker.is_some() {
            return self.fail(id, ErrorCode::Unexpected, "a worker, and nobody else, names its worker id in hello");
        }
        let server = PublicKey(self.key.verifying_key().to_bytes());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(nonce) = session.nonce else { return };
        let parties = Parties { client: &hello.key, server: &server, client_nonce: &hello.nonce, server_nonce: &nonce };
        let signature = sign::sign(&self.key, &sign::server_statement(&parties));
        let challenge = proto::Challenge { key: server, nonce, signature };
        session.stage = Stage::Challenged(Box::new(hello));
        self.send(id, ServerMsg::Challenge(challenge));
    }

    fn on_proof(&mut self, now: Time, id: SessionId, message: &ClientMsg) {
        let ClientMsg::Proof(proof) = message else {
            return self.fail(id, ErrorCode::Unexpected, "after the challenge comes proof");
        };
        let at_ms = self.wall_ms(now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(nonce) = session.nonce else { return };
        let Stage::Challenged(hello) = std::mem::replace(&mut session.stage, Stage::Fresh) else { return };
        let server = PublicKey(self.key.verifying_key().to_bytes());
        let parties = Parties { client: &hello.key, server: &server, client_nonce: &hello.nonce, server_nonce: &nonce };
        if !sign::verify(&hello.key, &sign::client_statement(&parties, hello.role, &hello.user), &proof.signature) {
            return self.fail(id, ErrorCode::BadProof, "the signature does not fit the key of the hello");
        }
        match self.users.get(&hello.user) {
            Some(owner) if *owner != hello.key => {
                let text = format!(
                    "the name {} belongs to another key: choose another name, or use the key that claimed it (--key FILE)",
                    hello.user
                );
                self.fail(id, ErrorCode::NameTaken, &text);
            }
            Some(_) if !self.new_names.contains(&hello.user) => self.open(now, id, *hello),
            claimed => {
                // The name is taken from this instant on; every welcome waits until that is durable.
                let name = hello.user.clone();
                let claimed = claimed.is_some();
                if let Some(text) = self.no_new_name(now, id, claimed) {
                    return self.fail(id, ErrorCode::Full, text);
                }
                let user = Row::User { name: name.clone(), key: hello.key, at_ms };
                let rows = if claimed { Vec::new() } else { vec![user] };
                self.users.insert(name.clone(), hello.key);
                self.new_names.insert(name.clone());
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.stage = Stage::Registering(hello);
                }
                self.persist(rows);
                self.once_durable(now, Action::Welcome { session: id, name });
            }
        }
    }

    /// Why nobody can be welcomed under a name that is not durable yet, if so: a new one, or one that was `claimed` a
    /// moment ago. Names cost nothing and are kept for ever.
    fn no_new_name(&mut self, now: Time, id: SessionId, claimed: bool) -> Option<&'static str> {
        if self.disk_is_behind() {
            return Some("the coordinator's disk is behind, so it takes no new names: try again in a moment");
        }
        if claimed {
            return None;
        }
        if now.since(self.naming.since) >= limits::NAMES_WITHIN {
            self.naming = Naming { since: now, ..Naming::default() };
        }
        if self.naming.names >= limits::NEW_NAMES {
            return Some("too many new names were claimed in the last minute: try again in a minute");
        }
        if let Some(host) = self.sessions.get(&id).and_then(|session| session.host) {
            let names = self.naming.hosts.entry(host).or_default();
            if *names >= limits::NEW_NAMES_HOST {
                return Some(
                    "too many new names were claimed from this address in the last minute: try again in a minute",
                );
            }
            *names += 1;
        }
        self.naming.names += 1;
        None
    }

    /// The name's row is durable.
    pub(super) fn on_registered(&mut self, now: Time, id: SessionId, name: &UserName) {
        self.new_names.remove(name);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Stage::Registering(hello) = std::mem::replace(&mut session.stage, Stage::Fresh) {
            self.open(now, id, *hello);
        }
    }

    fn open(&mut self, now: Time, id: SessionId, hello: proto::Hello) {
        let kicked = hello.worker.and_then(|worker| self.kicked.told(&hello.user, worker));
        if let Some(told) = kicked.map(str::to_owned) {
            return self.fail(id, ErrorCode::Removed, &told);
        }
        if let Some(worker) = hello.worker
            && !self.replace_older(now, id, &hello.user, worker)
        {
            return self.fail(id, ErrorCode::Replaced, "this worker has connected again");
        }
        let has = hello.holds.filter(|held| self.recognises(*held)).map(|held| held.version);
        let seat = hello.worker.map(|worker| Seat {
            worker,
            has,
            got: self.newest.version,
            accepting: !hello.paused,
            place: Place::Busy,
            quiet: false,
            lease: None,
            aside: None,
            record: self.records.take(&hello.user, worker),
            waits_since: None,
            hold_until: None,
            fetches: 0,
            tally: Box::new(Tally::begin(now, &hello.device)),
        });
        let peer = Peer { user: hello.user.clone(), role: hello.role, seat };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.stage = Stage::Open(Box::new(peer));
        self.send_welcome(id, &hello.user);
        if let Some(worker) = hello.worker {
            self.seats.insert((hello.user.clone(), worker), id);
            self.round.is_back(&hello.user, worker);
            self.note(super::Event::Joined { worker, user: hello.user });
            self.send_newest(id);
            if let Some(lease) = hello.lease {
                self.resume(now, id, lease);
            }
            self.place(now, id);
            self.consider_round(now);
            self.dispatch(now);
        }
    }

    pub(super) fn send_welcome(&mut self, id: SessionId, user: &UserName) {
        let welcome = proto::Welcome {
            session: id.0,
            balance: self.balance(user),
            reward: self.rules.reward,
            price: self.rules.price,
            version: self.newest.version,
            shape: self.rules.shape,
            recipe: self.rules.recipe,
            val_loss: self.evaluated.map(|(loss, _)| loss),
            val_version: self.measured_before(),
        };
        self.send(id, ServerMsg::Welcome(welcome));
    }

    /// The same process came back before its old session was found dead: the newest session stays. False if that is
    /// another one than `id`.
    fn replace_older(&mut self, now: Time, id: SessionId, user: &UserName, worker: WorkerId) -> bool {
        let Some(other) = self.seats.get(&(user.clone(), worker)).copied() else { return true };
        if other > id {
            return false;
        }
        self.refuse(other, ErrorCode::Replaced, "this worker has connected again");
        // Nobody is to take its task, nor a round to close over it, before it has said that it goes on with it.
        self.leave(now, other, "connected again");
        true
    }

    /// Whose worker an open session is, and which.
    pub fn worker_of(&self, id: SessionId) -> Option<(&UserName, WorkerId)> {
        let peer = self.sessions.get(&id)?.peer()?;
        Some((&peer.user, peer.seat.as_ref()?.worker))
    }

    pub(super) fn on_left(&mut self, now: Time, id: SessionId, reason: &str) {
        if self.leave(now, id, reason) {
            self.consider_round(now);
            self.dispatch(now);
        }
    }

    /// A session is over; whether it was a worker's.
    fn leave(&mut self, now: Time, id: SessionId, reason: &str) -> bool {
        let Some(session) = self.sessions.remove(&id) else { return false };
        let Stage::Open(peer) = session.stage else { return false };
        self.drop_queries(now, id);
        let Some(mut seat) = peer.seat else { return false };
        self.bench.shift(id, seat.place, Place::Busy);
        self.seats.remove(&(peer.user.clone(), seat.worker));
        self.measure_left(now, id, &mut seat.record);
        self.records.keep(&peer.user, seat.worker, seat.record);
        self.abandon(now, id, seat.lease);
        self.note(super::Event::Left { worker: seat.worker, user: peer.user, reason: reason.to_owned() });
        true
    }

    /// Handshakes that took too long. Waiting for the disk to take a new name is not the client's doing.
    pub(super) fn expire_handshakes(&mut self, now: Time) {
        while let Some((due, id)) = self.handshakes.front().copied() {
            let pending = |s: &Session| matches!(s.stage, Stage::Fresh | Stage::Challenged(_));
            let pending = self.sessions.get(&id).is_some_and(pending);
            if pending && due > now {
                break;
            }
            self.handshakes.pop_front();
            if pending {
                self.fail(id, ErrorCode::Slow, "the handshake took too long");
            }
        }
    }

    pub(super) fn send_balance(&mut self, id: SessionId, user: &UserName) {
        let balance = proto::Balance { balance: self.balance(user), held: self.durable.held_of(user) };
        self.send(id, ServerMsg::Balance(balance));
    }

    /// Says what was wrong; the session goes on.
    pub(super) fn unexpected(&mut self, id: SessionId, text: &str) {
        let error = proto::Error { code: ErrorCode::Unexpected, text: text.to_owned(), fatal: false };
        self.send(id, ServerMsg::Error(error));
    }

    /// Says what was wrong and forgets the session.
    pub(super) fn fail(&mut self, id: SessionId, code: ErrorCode, text: &str) {
        self.refuse(id, code, text);
        self.sessions.remove(&id);
    }

    pub(super) fn refuse(&mut self, id: SessionId, code: ErrorCode, text: &str) {
        let error = proto::Error { code, text: text.to_owned(), fatal: true };
        self.send(id, ServerMsg::Error(error));
        self.out.push_back(Order::Close { session: id });
    }
}

/// The coordinator's public key, as clients see it.
pub fn public_key(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}
