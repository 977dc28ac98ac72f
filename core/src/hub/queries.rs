//! Queries: the hold, the stream of pieces, and the payment for a complete answer alone.

use std::collections::BTreeMap;

use super::{Action, Event, Hub, Order, QueryNo, Row, Sampling, asked};
use crate::ids::{QueryId, SessionId, TransferId, UserName, VersionNo};
use crate::ledger::BookError;
use crate::limits;
use crate::proto::{self, Finish, RefusedCode, ServerMsg};
use crate::time::Time;

/// A query without an end.
#[derive(Debug, Clone)]
pub(super) struct Running {
    id: QueryId,
    session: SessionId,
    user: UserName,
    prompt: String,
    raw: bool,
    stop: Vec<String>,
    sampling: Sampling,
    /// Nothing if queries are free.
    hold: Option<TransferId>,
    asked: Time,
    first: Option<Time>,
    pieces: u32,
    tokens: u32,
    version: VersionNo,
    averaged: bool,
    val_loss: Option<f64>,
    val_version: Option<VersionNo>,
    /// Its end is on the way to the disk.
    ending: bool,
}

/// Queries that lately cost their askers nothing after all: given up, or with an answer that was none. Both are the
/// asker's choice: a stop may be what the model says first.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    since: Time,
    users: BTreeMap<UserName, u32>,
}

impl GivenUp {
    fn count(&mut self, now: Time, user: &UserName) {
        if now.since(self.since) >= limits::GIVEN_UP_WITHIN {
            *self = Self { since: now, users: BTreeMap::new() };
        }
        *self.users.entry(user.clone()).or_default() += 1;
    }

    /// For how many seconds yet nothing is taken of who has too many of them.
    fn keeps_out(&self, now: Time, user: &UserName) -> Option<u32> {
        let left = limits::GIVEN_UP_WITHIN.saturating_sub(now.since(self.since));
        let too_often = self.users.get(user).is_some_and(|count| *count >= limits::GIVEN_UP);
        (too_often && !left.is_zero()).then(|| left.as_millis().div_ceil(1000) as u32)
    }
}

impl Hub {
    pub(super) fn on_query(&mut self, now: Time, session: SessionId, user: &UserName, query: proto::Query) {
        if let Err((code, text)) = self.admit(now, session, user, &query) {
            return self.refuse_query(now, session, user, query.id, code, text);
        }
        self.next_query += 1;
        let number = QueryNo(self.next_query);
        let sampling = self.sampling(&query);
        let at_ms = self.wall_ms(now);
        let mut rows = Vec::new();
        let mut hold = None;
        if self.rules.price.0 > 0 {
            // The hub's own number makes the id fresh whatever the client draws: an id that it used long ago must not
            // meet its old transfer in the database.
            let number = [self.boot, number.0].map(u64::to_le_bytes);
            let id = TransferId::derive("query", &[user.as_str().as_bytes(), &query.id.0, number.as_flattened()]);
            match self.book.hold(id, user, self.rules.price, asked::memo(query.id), at_ms) {
                Ok(transfer) => rows.push(Row::Transfer(transfer)),
                Err(BookError::Insufficient { balance, amount }) => {
                    let text = format!(
                        "the balance of {balance} HYD does not cover a query for {amount} HYD: \
                         hydra-worker earns {} HYD a task",
                        self.rules.reward
                    );
                    return self.refuse_query(now, session, user, query.id, RefusedCode::Insufficient, text);
                }
                Err(BookError::Repeated(_)) => {
                    let text = "this query was asked before".to_owned();
                    return self.refuse_query(now, session, user, query.id, RefusedCode::Duplicate, text);
                }
                // Anything else is wrong books: better to stop than to go on with them.
                Err(error) => unreachable!("a price can be held of a balance that covers it: {error}"),
            }
            hold = Some(id);
            self.asked.note(user, query.id);
        }
        let running = Running {
            id: query.id,
            session,
            user: user.clone(),
            prompt: query.prompt,
            raw: query.raw,
            stop: query.stop,
            sampling,
            hold,
            asked: now,
            first: None,
            pieces: 0,
            tokens: 0,
            version: self.newest.version,
            averaged: false,
            val_loss: None,
            val_version: None,
            ending: false,
        };
        self.queries.insert(number, running);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.queries += 1;
        }
        self.persist(rows);
        self.once_durable(now, Action::Ask(number));
    }

    /// Whether a query may be tried at all; the money is looked at last.
    fn admit(
        &self,
        now: Time,
        session: SessionId,
        user: &UserName,
        query: &proto::Query,
    ) -> Result<(), (RefusedCode, String)> {
        let refuse = |code, text: &str| Err((code, text.to_owned()));
        if self.stopping.is_some() {
            return refuse(RefusedCode::Stopping, "the coordinator is stopping: ask again when it is back");
        }
        let theirs = || self.queries.values().filter(|running| running.user == *user);
        if theirs().any(|running| running.id == query.id) || self.asked.knows(user, query.id) {
            return refuse(RefusedCode::Duplicate, "this query was asked before");
        }
        // White space is no question, but a text that begins with it can be continued.
        if query.prompt.is_empty() || (!query.raw && query.prompt.trim().is_empty()) {
            return refuse(RefusedCode::EmptyPrompt, "the prompt is empty: ask something");
        }
        if query.prompt.len() > limits::PROMPT_BYTES {
            // How many there are, a client that reads no further does not know itself.
            let text =
                format!("the prompt has more than the {} bytes that are taken: shorten it", limits::PROMPT_BYTES);
            return Err((RefusedCode::HugePrompt, text));
        }
        if let Some((_, text)) = query.wrong_setting() {
            return Err((RefusedCode::BadSetting, text));
        }
        let mine = self.sessions.get(&session).map_or(0, |s| s.queries);
        let full = mine >= limits::QUERIES_PER_SESSION
            || theirs().count() >= limits::QUERIES_PER_USER
            || self.queries.len() >= limits::QUERIES;
        if full || self.disk_is_behind() {
            return refuse(RefusedCode::Busy, "too many queries are waiting: ask again in a moment");
        }
        if self.given_up.keeps_out(now, user).is_some() {
            let text = "too many of your queries were given up or failed in the last minute: ask again in a minute";
            return refuse(RefusedCode::Busy, text);
        }
        Ok(())
    }

    fn sampling(&self, query: &proto::Query) -> Sampling {
        let default = self.rules.sampling;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&query.id.0[..8]);
        Sampling {
            max_new_tokens: query.max_new_tokens.unwrap_or(default.max_new_tokens),
            temperature: query.temperature.unwrap_or(default.temperature),
            top_k: query.top_k.unwrap_or(default.top_k),
            top_p: query.top_p.unwrap_or(default.top_p),
            seed: query.seed.unwrap_or(u64::from_le_bytes(bytes)),
        }
    }

    fn refuse_query(
        &mut self,
        now: Time,
        session: SessionId,
        user: &UserName,
        id: QueryId,
        code: RefusedCode,
        text: String,
    ) {
        let balance = self.balance(user);
        let retry_s = if code == RefusedCode::Busy { self.given_up.keeps_out(now, user) } else { None };
        self.send(session, ServerMsg::Refused(proto::Refused { id, code, text, balance, retry_s }));
        self.note(Event::Refused { id, user: user.clone(), reason: code, begun: false });
    }

    /// The hold is durable: answer.
    pub(super) fn on_held(&mut self, number: QueryNo) {
        let Some(query) = self.queries.get_mut(&number).filter(|q| !q.ending) else { return };
        self.out.push_back(Order::Generate {
            query: number,
            user: query.user.clone(),
            prompt: std::mem::take(&mut query.prompt),
            raw: query.raw,
            stop: std::mem::take(&mut query.stop),
            sampling: query.sampling,
        });
    }

    /// An answer begins. Only now is it known what it is drawn from, since a query may have waited for its turn.
    pub(super) fn on_begun(&mut self, number: QueryNo, version: VersionNo, averaged: bool) {
        // A version and the average up to it have losses of their own.
        let known = self.measured != Some(version) || self.averaged == averaged;
        let val_loss = self.evaluated.filter(|_| known).map(|(loss, _)| loss);
        let val_version = self.measured.filter(|measured| *measured != version);
        let Some(query) = self.queries.get_mut(&number).filter(|q| !q.ending) else { return };
        (query.version, query.averaged) = (version, averaged);
        (query.val_loss, query.val_version) = (val_loss, val_version);
    }

    /// Whom the pieces of an answer go to.
    pub fn asker(&self, query: QueryNo) -> Option<SessionId> {
        self.queries.get(&query).map(|query| query.session)
    }

    pub(super) fn on_piece(&mut self, now: Time, number: QueryNo, text: String, tokens: u32) {
        let Some(query) = self.queries.get_mut(&number).filter(|q| !q.ending) else { return };
        query.first.get_or_insert(now);
        let piece = proto::Piece { id: query.id, index: query.pieces, text };
        query.pieces += 1;
        query.tokens = tokens;
        let session = query.session;
        self.send(session, ServerMsg::Piece(piece));
    }

    pub(super) fn on_answered(&mut self, now: Time, number: QueryNo, tokens: u32, finish: Finish) {
        let Some(query) = self.queries.get(&number).filter(|q| !q.ending) else { return };
        let hold = query.hold;
        self.resolve(now, number, hold, true, Action::Charge { query: number, tokens, finish });
    }

    pub(super) fn on_answer_failed(&mut self, now: Time, number: QueryNo, text: String) {
        self.give_back(now, number, RefusedCode::Failed, text);
    }

    pub(super) fn on_cancel(&mut self, now: Time, session: SessionId, user: &UserName, id: QueryId) {
        let found = self.queries.iter().find(|(_, q)| q.id == id && q.user == *user && q.session == session);
        let Some((number, query)) = found.map(|(number, query)| (*number, query.clone())) else { return };
        if query.ending {
            return;
        }
        self.out.push_back(Order::StopGenerating { query: number });
        if query.pieces == 0 {
            self.give_back(now, number, RefusedCode::Cancelled, "cancelled before the first piece".to_owned());
        } else {
            let action = Action::Charge { query: number, tokens: query.tokens, finish: Finish::Cancelled };
            self.resolve(now, number, query.hold, true, action);
        }
    }

    /// A session ended: nobody reads its answers, so nobody pays for them.
    pub(super) fn drop_queries(&mut self, now: Time, session: SessionId) {
        let mine: Vec<_> =
            self.queries.iter().filter(|(_, q)| q.session == session && !q.ending).map(|(n, _)| *n).collect();
        for number in mine {
            self.out.push_back(Order::StopGenerating { query: number });
            self.give_back(now, number, RefusedCode::Cancelled, "the connection ended".to_owned());
        }
    }

    /// All ends before these answers do: their holds go back at once, not at the next start.
    pub(super) fn abort_queries(&mut self, now: Time) {
        let running: Vec<_> = self.queries.iter().filter(|(_, q)| !q.ending).map(|(n, _)| *n).collect();
        for number in running {
            self.out.push_back(Order::StopGenerating { query: number });
            self.give_back(now, number, RefusedCode::Stopping, "the coordinator stopped".to_owned());
        }
    }

    fn give_back(&mut self, now: Time, number: QueryNo, code: RefusedCode, text: String) {
        let Some(query) = self.queries.get(&number).filter(|q| !q.ending) else { return };
        let hold = query.hold;
        if matches!(code, RefusedCode::Cancelled | RefusedCode::Failed) && hold.is_some() {
            self.given_up.count(now, &query.user);
        }
        self.resolve(now, number, hold, false, Action::Refund { query: number, code, text });
    }

    fn resolve(&mut self, now: Time, number: QueryNo, hold: Option<TransferId>, paid: bool, then: Action) {
        let at_ms = self.wall_ms(now);
        if let Some(query) = self.queries.get_mut(&number) {
            query.ending = true;
        }
        let transfer = hold.map(|hold| if paid { self.book.post(hold, at_ms) } else { self.book.void(hold, at_ms) });
        let rows = transfer.map(|made| Row::Transfer(made.expect("a running query's hold is open")));
        self.persist(rows.into_iter().collect());
        self.once_durable(now, then);
    }

    fn forget(&mut self, number: QueryNo) -> Option<Running> {
        let query = self.queries.remove(&number)?;
        if let Some(session) = self.sessions.get_mut(&query.session) {
            session.queries = session.queries.saturating_sub(1);
        }
        Some(query)
    }

    pub(super) fn on_charged(&mut self, now: Time, number: QueryNo, tokens: u32, finish: Finish) {
        let Some(query) = self.forget(number) else { return };
        let charged = query.hold.map_or_else(Default::default, |_| self.rules.price);
        let answer = proto::Answer {
            id: query.id,
            version: query.version,
            averaged: query.averaged,
            pieces: query.pieces,
            tokens,
            val_loss: query.val_loss,
            val_version: query.val_version,
            charged,
            balance: self.balance(&query.user),
            finish,
        };
        self.send_open(query.session, ServerMsg::Answer(answer));
        let ms = |since: std::time::Duration| since.as_millis() as u64;
        self.note(Event::Query {
            id: query.id,
            user: query.user,
            version: query.version,
            averaged: query.averaged,
            tokens,
            first_ms: ms(query.first.unwrap_or(now).since(query.asked)),
            total_ms: ms(now.since(query.asked)),
            charged,
        });
    }

    pub(super) fn on_refunded(&mut self, number: QueryNo, code: RefusedCode, text: String) {
        let Some(query) = self.forget(number) else { return };
        let balance = self.balance(&query.user);
        let refused = proto::Refused { id: query.id, code, text, balance, retry_s: None };
        self.send_open(query.session, ServerMsg::Refused(refused));
        self.note(Event::Refused { id: query.id, user: query.user, reason: code, begun: query.pieces > 0 });
    }
}
