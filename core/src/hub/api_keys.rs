//! API keys: sessions of programs that speak HTTP and cannot sign.
//!
//! The hub knows only digests. A key opens sessions that may ask at its user's cost, and nothing else: it cannot earn,
//! and it can neither add nor revoke keys. That takes the signature of the user's own key.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::ApiKey;
use super::session::{Peer, Session, Stage};
use super::{Action, Hub, Row, public_key};
use crate::ids::{Digest, SessionId, UserName};
use crate::limits;
use crate::proto::{self, ErrorCode, KeyAct, KnownKey, Role, sign};
use crate::time::Time;

/// All keys, by digest and by user.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    keys: BTreeMap<Digest, ApiKey>,
    users: BTreeMap<UserName, BTreeSet<Digest>>,
}

impl Keyring {
    pub fn of(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        let mut ring = Self::default();
        keys.into_iter().for_each(|key| ring.add(key));
        ring
    }

    fn add(&mut self, key: ApiKey) {
        self.users.entry(key.user.clone()).or_default().insert(key.digest);
        self.keys.insert(key.digest, key);
    }

    /// Forgets one of the user's keys, or all; gives those that there were.
    fn revoke(&mut self, user: &UserName, which: Option<Digest>) -> Vec<Digest> {
        let Some(mine) = self.users.get_mut(user) else { return Vec::new() };
        let gone: Vec<_> = match which {
            Some(digest) => mine.take(&digest).into_iter().collect(),
            None => std::mem::take(mine).into_iter().collect(),
        };
        if mine.is_empty() {
            self.users.remove(user);
        }
        for digest in &gone {
            self.keys.remove(digest);
        }
        gone
    }

    fn user(&self, digest: &Digest) -> Option<&UserName> {
        self.keys.get(digest).map(|key| &key.user)
    }

    fn known(&self, user: &UserName) -> proto::ApiKeys {
        let mine = self.users.get(user).into_iter().flatten().filter_map(|digest| self.keys.get(digest));
        proto::ApiKeys { keys: mine.map(|key| KnownKey { digest: key.digest, at_ms: key.at_ms }).collect() }
    }

    fn count(&self, user: &UserName) -> usize {
        self.users.get(user).map_or(0, BTreeSet::len)
    }
}

impl Hub {
    /// A request brought a key.
    pub(super) fn on_keyed(&mut self, id: SessionId, key: &Digest) {
        if self.sessions.len() >= limits::SESSIONS {
            let text = "the coordinator has no room for another request: try again later";
            return self.refuse(id, ErrorCode::Full, text);
        }
        let Some(user) = self.api_keys.user(key).cloned() else {
            let text =
                "nobody has this API key (it may have been revoked): make one with `hydra-query USER --api-key new`";
            return self.refuse(id, ErrorCode::BadProof, text);
        };
        let stage = Stage::Open(Box::new(Peer { user: user.clone(), role: Role::Chat, seat: None }));
        self.sessions.insert(id, Session { stage, nonce: None, host: None, queries: 0, statements: 0 });
        self.send_welcome(id, &user);
    }

    /// A user says something about keys.
    pub(super) fn on_api_key(&mut self, now: Time, id: SessionId, user: &UserName, asked: &proto::ApiKey) {
        let Some(owner) = self.users.get(user).copied() else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(nonce) = session.nonce else {
            return self.unexpected(id, "an API key can only ask");
        };
        session.statements += 1;
        if session.statements > limits::API_KEY_STATEMENTS {
            return self.end(now, id, ErrorCode::Flood, "too much was said about API keys: go on in another session");
        }
        let server = public_key(&self.key);
        let statement = sign::api_key_statement(&server, &nonce, asked.act, asked.digest.as_ref(), user);
        if !sign::verify(&owner, &statement, &asked.signature) {
            return self.end(now, id, ErrorCode::BadProof, "the signature about an API key is not the user's");
        }
        if self.disk_is_behind() {
            return self.end(now, id, ErrorCode::Full, "the coordinator's disk is behind: try again in a moment");
        }
        let rows = match (asked.act, asked.digest) {
            (KeyAct::Add, None) => return self.end(now, id, ErrorCode::Unexpected, "which key is to be added?"),
            (KeyAct::Add, Some(digest)) => match self.api_keys.user(&digest) {
                Some(owner) if owner == user => Vec::new(),
                // Of two random keys that is beyond chance: somebody tells a key that they were given.
                Some(_) => return self.end(now, id, ErrorCode::Unexpected, "this API key is taken: draw another"),
                None if self.api_keys.count(user) >= limits::API_KEYS => {
                    let text = format!("{user} has {} API keys, as many as can be: revoke one first", limits::API_KEYS);
                    return self.end(now, id, ErrorCode::Unexpected, &text);
                }
                None => {
                    let key = ApiKey { digest, user: user.clone(), at_ms: self.wall_ms(now) };
                    self.api_keys.add(key.clone());
                    vec![Row::ApiKey(key)]
                }
            },
            (KeyAct::Revoke, which) => {
                let gone = self.api_keys.revoke(user, which);
                gone.into_iter().map(|digest| Row::ApiKeyRevoked { digest }).collect()
            }
            (KeyAct::List, _) => Vec::new(),
        };
        self.persist(rows);
        let known = self.api_keys.known(user);
        self.once_durable(now, Action::ApiKeys { session: id, known });
    }

    fn end(&mut self, now: Time, id: SessionId, code: ErrorCode, text: &str) {
        self.refuse(id, code, text);
        self.on_left(now, id, text);
    }
}
