//! The query client as a machine: keeps a session, sends one query at a time, and tells what came of it.

mod api;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::api::{Cost, Event, Exit, Fact, Known, Order, Settings};
use crate::backoff::Backoff;
use crate::ids::{Digest, Nonce, PublicKey, QueryId};
use crate::machine::Machine;
use crate::proto::{self, ClientMsg, Empty, ErrorCode, KeyAct, Role, ServerMsg, sign};
use crate::time::Time;

#[derive(Debug, Clone, PartialEq)]
enum Link {
    Waiting { until: Time },
    Connecting,
    Greeting { nonce: Nonce },
    Proving,
    Open,
}

#[derive(Debug, Clone)]
struct Asked {
    id: QueryId,
    text: String,
    pieces: u32,
}

/// How many answers are due of what anybody may ask for at any time.
#[derive(Debug, Default)]
struct Asking {
    balance: u32,
    status: u32,
}

/// Takes one of the answers that are due.
fn is_due(due: &mut u32) -> bool {
    let asked = *due > 0;
    *due = due.saturating_sub(1);
    asked
}

/// The query client. See the module's page.
#[derive(Debug)]
pub struct Chat {
    settings: Settings,
    out: VecDeque<Order>,
    backoff: Backoff,
    link: Link,
    /// The coordinator's key and nonce of this session, for what is signed later.
    server: Option<(PublicKey, Nonce)>,
    asking: Asking,
    /// When the session that stands began.
    opened: Option<Time>,
    /// Asked for before the session stood.
    early: VecDeque<ClientMsg>,
    asked: Option<Asked>,
    /// Why the coordinator is about to close the session, in its words.
    why: Option<String>,
    over: bool,
}

impl Chat {
    /// A client that connects as soon as it is polled.
    pub fn new(settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.seed),
            settings,
            out: VecDeque::from([Order::Connect]),
            link: Link::Connecting,
            server: None,
            asking: Asking::default(),
            opened: None,
            early: VecDeque::new(),
            asked: None,
            why: None,
            over: false,
        }
    }

    /// The run that it has talked to last: its coordinator's key.
    pub fn run(&self) -> Option<PublicKey> {
        self.server.map(|(key, _)| key)
    }

    /// Whether an answer is awaited.
    pub fn is_busy(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the session stands.
    pub fn is_open(&self) -> bool {
        self.link == Link::Open
    }

    fn exit(&mut self, exit: Exit) {
        if !self.over {
            self.over = true;
            self.out.push_back(Order::Exit(exit));
        }
    }

    fn say(&mut self, message: ClientMsg) {
        if self.link == Link::Open {
            self.out.push_back(Order::Send(message));
        } else {
            self.early.push_back(message);
        }
    }

    fn show(&mut self, event: Event) {
        self.out.push_back(Order::Show(event));
    }

    fn on_connected(&mut self, nonce: Nonce) {
        self.link = Link::Greeting { nonce };
        self.why = None;
        let hello = proto::Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Chat,
            user: self.settings.user.clone(),
            key: PublicKey(self.settings.key.verifying_key().to_bytes()),
            nonce,
            agent: self.settings.agent.clone(),
            worker: None,
            device: String::new(),
            holds: None,
            lease: None,
            paused: false,
        };
        self.out.push_back(Order::Send(ClientMsg::Hello(hello)));
    }

    fn on_closed(&mut self, now: Time, reason: String) {
        if matches!(self.link, Link::Waiting { .. }) {
            return;
        }
        if let Some(opened) = self.opened.take() {
            self.backoff.ended(now.since(opened));
        }
        let reason = self.why.take().unwrap_or(reason);
        // What was asked for and not answered yet will not be, unless it still waits to be sent.
        let waiting = |wanted: fn(&ClientMsg) -> bool| self.early.iter().filter(|m| wanted(m)).count() as u32;
        self.asking = Asking {
            balance: waiting(|m| matches!(m, ClientMsg::Balance(_))),
            status: waiting(|m| matches!(m, ClientMsg::Status(_))),
        };
        // What was never sent stays for the next session; what was sent died with this one.
        if self.unsent().is_none() {
            self.lose(reason.clone());
        }
        if !self.settings.reconnect {
            return self.exit(Exit::Unreachable(reason));
        }
        let wait = self.backoff.wait();
        self.link = Link::Waiting { until: now.after(wait) };
        self.show(Event::Disconnected { retry_ms: wait.as_millis() as u64, reason });
    }

    fn on_message(&mut self, now: Time, message: ServerMsg) {
        match (self.link.clone(), message) {
            (Link::Greeting { nonce }, ServerMsg::Challenge(challenge)) => self.on_challenge(&nonce, &challenge),
            (Link::Proving, ServerMsg::Welcome(welcome)) => {
                self.link = Link::Open;
                self.opened = Some(now);
                let proto::Welcome { balance, price, version, val_loss, val_version, .. } = welcome;
                self.show(Event::Connected { balance, price, version, val_loss, val_version });
                self.out.extend(self.early.drain(..).map(Order::Send));
            }
            (_, ServerMsg::Error(error)) if error.fatal => match error.code {
                ErrorCode::Slow | ErrorCode::Full | ErrorCode::Flood => self.why = Some(error.text),
                _ => self.refuse(error.text),
            },
            (_, ServerMsg::Bye(bye)) if !bye.retry => {
                self.lose(bye.text.clone());
                self.exit(Exit::Over(bye.text));
            }
            // Says why the session is about to end.
            (_, ServerMsg::Bye(bye)) => self.why = Some(bye.text),
            (Link::Open, ServerMsg::Piece(piece)) => {
                if let Some(asked) = self.asked.as_mut().filter(|a| a.id == piece.id && a.pieces == piece.index) {
                    asked.pieces += 1;
                    asked.text.push_str(&piece.text);
                    self.show(Event::Token { text: piece.text });
                }
            }
            (Link::Open, ServerMsg::Answer(answer)) => {
                if let Some(asked) = self.asked.take_if(|asked| asked.id == answer.id) {
                    self.show(Event::Answer {
                        text: asked.text,
                        tokens: answer.tokens,
                        version: answer.version,
                        averaged: answer.averaged,
                        val_loss: answer.val_loss,
                        val_version: answer.val_version,
                        charged: answer.charged,
                        balance: answer.balance,
                        finish: answer.finish,
                    });
                }
            }
            (Link::Open, ServerMsg::Refused(refused)) => self.on_refused(refused),
            (Link::Open, ServerMsg::Balance(proto::Balance { balance, held })) => {
                let asked = is_due(&mut self.asking.balance);
                self.show(if asked { Event::Balance { balance, held } } else { Event::LastBalance { balance, held } });
            }
            (Link::Open, ServerMsg::ApiKeys(known)) => {
                let shown = |key: proto::KnownKey| Known {
                    id: Known::id_of(&key.digest),
                    made_ms: key.at_ms,
                    digest: key.digest,
                };
                self.show(Event::ApiKeys { keys: known.keys.into_iter().map(shown).collect() });
            }
            (Link::Open, ServerMsg::Status(status)) => {
                let asked = is_due(&mut self.asking.status);
                self.show(if asked { Event::Status(status) } else { Event::LastStatus(status) });
            }
            _ => {}
        }
    }

    /// Where the query in hand waits to be sent, if it still does.
    fn unsent(&self) -> Option<usize> {
        let asked = self.asked.as_ref()?;
        self.early.iter().position(|message| matches!(message, ClientMsg::Query(query) if query.id == asked.id))
    }

    /// The query in hand, if there is one, will have no answer here.
    fn lose(&mut self, reason: String) {
        // Of one that was sent, the answer may have been complete by then, and charged.
        let cost = if self.unsent().is_some() { Cost::Nothing } else { Cost::Unknown };
        if let Some(Asked { text, .. }) = self.asked.take() {
            self.show(Event::Lost { text, reason, cost });
        }
    }

    /// The coordinator does not want this client.
    fn refuse(&mut self, text: String) {
        // A conversation must know what became of its question; of a client that asks once, the refusal says it.
        if self.settings.reconnect {
            self.lose(text.clone());
        }
        self.exit(Exit::Refused(text));
    }

    fn on_cancel(&mut self) {
        let Some(id) = self.asked.as_ref().map(|asked| asked.id) else { return };
        if let Some(at) = self.unsent() {
            // It waits for the connection still: nobody else knows of it.
            self.lose("stopped before it was sent".to_owned());
            self.early.remove(at);
            return;
        }
        self.say(ClientMsg::Cancel(proto::Cancel { id }));
    }

    fn on_refused(&mut self, refused: proto::Refused) {
        if self.asked.take_if(|asked| asked.id == refused.id).is_some() {
            let proto::Refused { code: reason, text, balance, .. } = refused;
            self.show(Event::Refused { reason, text, balance });
        }
    }

    fn on_api_key(&mut self, act: KeyAct, digest: Option<Digest>) {
        let (Link::Open, Some((server, nonce))) = (&self.link, &self.server) else { return };
        let Settings { key, user, .. } = &self.settings;
        let signature = sign::sign(key, &sign::api_key_statement(server, nonce, act, digest.as_ref(), user));
        self.out.push_back(Order::Send(ClientMsg::ApiKey(proto::ApiKey { act, digest, signature })));
    }

    fn on_challenge(&mut self, nonce: &Nonce, challenge: &proto::Challenge) {
        let Settings { key, user, .. } = &self.settings;
        let Some(proof) = sign::answer(key, nonce, challenge, Role::Chat, user) else {
            return self.refuse("the coordinator could not prove its own key".to_owned());
        };
        let before = self.run().or(self.settings.run);
        self.server = Some((challenge.key, challenge.nonce));
        if before.is_some_and(|run| run != challenge.key) {
            self.show(Event::OtherRun);
        }
        self.link = Link::Proving;
        self.out.push_back(Order::Send(ClientMsg::Proof(proof)));
    }
}

impl Machine for Chat {
    type In = Fact;
    type Out = Order;

    fn handle(&mut self, now: Time, fact: Fact) {
        if self.over {
            return;
        }
        match fact {
            Fact::Connected { nonce } => self.on_connected(nonce),
            Fact::Closed { reason } => self.on_closed(now, reason),
            Fact::Message(message) => self.on_message(now, message),
            Fact::Ask(query) => {
                // One at a time; a shell asks again when this one has its end.
                if self.asked.is_none() {
                    // Somebody waits for it now: one more try costs the coordinator little.
                    if let Link::Waiting { until } = &mut self.link {
                        *until = now;
                    }
                    self.asked = Some(Asked { id: query.id, text: String::new(), pieces: 0 });
                    self.say(ClientMsg::Query(query));
                }
            }
            Fact::Cancel => self.on_cancel(),
            Fact::AskBalance => {
                self.asking.balance += 1;
                self.say(ClientMsg::Balance(Empty {}));
            }
            Fact::ApiKey { act, key } => self.on_api_key(act, key),
            Fact::AskStatus => {
                self.asking.status += 1;
                self.say(ClientMsg::Status(Empty {}));
            }
            Fact::Leave => {
                if self.link == Link::Open {
                    // Who leaves in mid-answer stops it: what has been read is paid as if it had been stopped by hand.
                    self.on_cancel();
                    let bye = proto::Bye { text: "the user left".to_owned(), retry: false };
                    self.out.push_back(Order::Send(ClientMsg::Bye(bye)));
                }
                self.exit(Exit::Done);
            }
        }
    }

    fn poll(&mut self) -> Option<Order> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<(Time, &'static str)> {
        match self.link {
            Link::Waiting { until } if !self.over => Some((until, "time to connect again")),
            _ => None,
        }
    }

    fn expire(&mut self, now: Time) {
        if !self.over && matches!(self.link, Link::Waiting { until } if until <= now) {
            self.link = Link::Connecting;
            self.out.push_back(Order::Connect);
        }
    }
}
