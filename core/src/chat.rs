//! The query client as a machine: keeps a session, sends one query at a time, and tells what came of it.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::backoff::Backoff;
use crate::credits::Credits;
use crate::ids::{Nonce, PublicKey, QueryId, UserName, VersionNo};
use crate::machine::Machine;
use crate::proto::sign::{self, Parties};
use crate::proto::{self, ClientMsg, Empty, ErrorCode, Finish, RefusedCode, Role, ServerMsg};
use crate::time::Time;

/// What a client is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose credits.
    pub user: UserName,
    /// The key that owns the name.
    pub key: SigningKey,
    /// Program and version.
    pub agent: String,
    /// Whether to connect again after a loss; a one-shot client does not.
    pub reconnect: bool,
    /// Seeds the jitter of reconnects.
    pub seed: u64,
}

/// Facts for the client.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The connection stands; the nonce is fresh from the system.
    Connected {
        /// For hello.
        nonce: Nonce,
    },
    /// It does not; or it ended.
    Closed {
        /// Why, for people.
        reason: String,
    },
    /// A message came.
    Message(ServerMsg),
    /// The user asks; the query's id is fresh from the system. Waits for the connection if need be.
    Ask(proto::Query),
    /// The user wants the running answer to stop.
    Cancel,
    /// The user wants to know the balance.
    AskBalance,
    /// The user wants to know how the run is.
    AskStatus,
    /// The user leaves.
    Leave,
}

/// Orders for the shell.
#[derive(Debug, Clone)]
pub enum Order {
    /// Connect, and answer [`Fact::Connected`] or [`Fact::Closed`].
    Connect,
    /// Send a message.
    Send(ClientMsg),
    /// Show.
    Show(Event),
    /// End the connection; the program may end.
    Exit(Exit),
}

/// Why a client ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The user left.
    Done,
    /// The coordinator cannot be reached or was lost.
    Unreachable(String),
    /// The coordinator does not want this client.
    Refused(String),
}

/// What happened, for the screen and for scripts; serialises to `{"event": "token", …}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The session stands.
    Connected {
        /// The user's balance.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// What a query costs.
        #[serde(serialize_with = "crate::hub::hyd")]
        price: Credits,
        /// The newest version.
        version: VersionNo,
        /// Its held-out loss.
        val_loss: Option<f64>,
    },
    /// The session is lost; the next try is in so many milliseconds.
    Disconnected {
        /// Milliseconds.
        retry_ms: u64,
        /// Why.
        reason: String,
    },
    /// The next piece of the answer.
    Token {
        /// Its text.
        text: String,
    },
    /// The answer is complete.
    Answer {
        /// All pieces.
        text: String,
        /// New tokens.
        tokens: u32,
        /// Which version answered.
        version: VersionNo,
        /// Its held-out loss, nats a token.
        val_loss: Option<f64>,
        /// What it cost.
        #[serde(serialize_with = "crate::hub::hyd")]
        charged: Credits,
        /// What is left.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// What ended it.
        finish: Finish,
    },
    /// There is no (whole) answer; nothing was charged.
    Refused {
        /// Why, for programs.
        reason: RefusedCode,
        /// Why, for people.
        text: String,
        /// What is there.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
    },
    /// The connection was lost in mid-answer; the hold went back.
    Lost {
        /// What had come.
        text: String,
        /// Why.
        reason: String,
    },
    /// The balance.
    Balance {
        /// Free to spend.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// Held for running queries.
        #[serde(serialize_with = "crate::hub::hyd")]
        held: Credits,
    },
    /// The run in numbers.
    Status(proto::Status),
}

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

/// The query client. See the module's page.
#[derive(Debug)]
pub struct Chat {
    settings: Settings,
    out: VecDeque<Order>,
    backoff: Backoff,
    link: Link,
    /// When the session that stands began.
    opened: Option<Time>,
    /// Asked for before the session stood.
    early: VecDeque<ClientMsg>,
    asked: Option<Asked>,
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
            opened: None,
            early: VecDeque::new(),
            asked: None,
            over: false,
        }
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
        // What was never sent stays for the next session; what was sent died with this one, and its hold went back.
        let unsent =
            |asked: &Asked| self.early.iter().any(|m| matches!(m, ClientMsg::Query(query) if query.id == asked.id));
        if let Some(asked) = self.asked.take_if(|asked| !unsent(asked)) {
            self.show(Event::Lost { text: asked.text, reason: reason.clone() });
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
                let proto::Welcome { balance, price, version, val_loss, .. } = welcome;
                self.show(Event::Connected { balance, price, version, val_loss });
                self.out.extend(self.early.drain(..).map(Order::Send));
            }
            (_, ServerMsg::Error(error)) if error.fatal => match error.code {
                ErrorCode::Slow | ErrorCode::Full => {}
                _ => self.exit(Exit::Refused(error.text)),
            },
            (Link::Open, ServerMsg::Piece(piece)) => {
                if let Some(asked) = self.asked.as_mut().filter(|a| a.id == piece.id && a.pieces == piece.index) {
                    asked.pieces += 1;
                    asked.text.push_str(&piece.text);
                    self.show(Event::Token { text: piece.text });
                }
            }
            (Link::Open, ServerMsg::Answer(answer)) => {
                if let Some(asked) = self.asked.take_if(|asked| asked.id == answer.id) {
                    let proto::Answer { tokens, version, val_loss, charged, balance, finish, .. } = answer;
                    let text = asked.text;
                    self.show(Event::Answer { text, tokens, version, val_loss, charged, balance, finish });
                }
            }
            (Link::Open, ServerMsg::Refused(refused))
                if self.asked.take_if(|asked| asked.id == refused.id).is_some() =>
            {
                let proto::Refused { code: reason, text, balance, .. } = refused;
                self.show(Event::Refused { reason, text, balance });
            }
            (Link::Open, ServerMsg::Balance(proto::Balance { balance, held })) => {
                self.show(Event::Balance { balance, held });
            }
            (Link::Open, ServerMsg::Status(status)) => self.show(Event::Status(status)),
            _ => {}
        }
    }

    fn on_challenge(&mut self, nonce: &Nonce, challenge: &proto::Challenge) {
        let own = PublicKey(self.settings.key.verifying_key().to_bytes());
        let parties =
            Parties { client: &own, server: &challenge.key, client_nonce: nonce, server_nonce: &challenge.nonce };
        if !sign::verify(&challenge.key, &sign::server_statement(&parties), &challenge.signature) {
            return self.exit(Exit::Refused("the coordinator could not prove its own key".to_owned()));
        }
        let statement = sign::client_statement(&parties, Role::Chat, &self.settings.user);
        let signature = sign::sign(&self.settings.key, &statement);
        self.link = Link::Proving;
        self.out.push_back(Order::Send(ClientMsg::Proof(proto::Proof { signature })));
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
                    self.asked = Some(Asked { id: query.id, text: String::new(), pieces: 0 });
                    self.say(ClientMsg::Query(query));
                }
            }
            Fact::Cancel => {
                if let Some(asked) = &self.asked {
                    let cancel = proto::Cancel { id: asked.id };
                    self.say(ClientMsg::Cancel(cancel));
                }
            }
            Fact::AskBalance => self.say(ClientMsg::Balance(Empty {})),
            Fact::AskStatus => self.say(ClientMsg::Status(Empty {})),
            Fact::Leave => {
                if self.link == Link::Open {
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
