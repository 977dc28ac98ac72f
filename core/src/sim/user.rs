//! A person with a query client: asks, waits, loses patience, goes away in the middle.

use super::net::{Frame, Side};
use super::world::{Event, World};
use crate::chat::{Chat, Event as Shown, Exit, Fact, Order};
use crate::ids::QueryId;
use crate::machine::Machine as _;
use crate::proto;
use crate::time::Time;

/// A person's process.
#[derive(Debug)]
pub struct User {
    pub chat: Chat,
    /// Asked, without an end so far.
    pub asked: Option<(QueryId, Time)>,
}

impl User {
    pub fn new(chat: Chat) -> Self {
        Self { chat, asked: None }
    }

    /// A frame came; gives what the client is told of it.
    pub fn hear(frame: Frame) -> Option<Fact> {
        if let Frame::Server(message) = frame { Some(Fact::Message(message)) } else { None }
    }
}

impl World {
    fn user(&mut self, client: usize) -> Option<&mut User> {
        self.clients[client].user.as_mut()
    }

    pub fn tell_chat(&mut self, client: usize, fact: Fact) {
        let now = self.clients[client].local(self.now);
        if let Some(user) = self.user(client) {
            user.chat.handle(now, fact);
            self.obey_chat(client);
        }
    }

    pub fn wake_chat(&mut self, client: usize) {
        let now = self.clients[client].local(self.now);
        let Some(user) = self.user(client) else { return };
        user.chat.expire(now);
        self.obey_chat(client);
        let due = self.user(client).and_then(|user| user.chat.deadline());
        self.audit.expect(due.is_none_or(|(due, _)| due > now), || format!("chat {client} is due at once for {due:?}"));
    }

    fn obey_chat(&mut self, client: usize) {
        while let Some(order) = self.user(client).and_then(|user| user.chat.poll()) {
            if self.is_its_last(client) {
                return;
            }
            match order {
                Order::Connect => self.dial(client),
                Order::Send(message) => self.send_from(client, Side::Coordinator, Frame::Client(message)),
                Order::Show(event) => self.watch(client, &event),
                Order::Exit(exit) => {
                    self.hang_up(client);
                    if let Exit::Refused(text) = exit {
                        self.audit.fail(format!("chat {client} was refused: {text}"));
                    }
                    return self.end_client(client);
                }
            }
        }
        self.rewake(client);
    }

    fn watch(&mut self, client: usize, event: &Shown) {
        let Some(user) = self.user(client) else { return };
        if let Shown::Answer { .. } | Shown::Refused { .. } | Shown::Lost { .. } = event {
            let ended = user.asked.take();
            self.audit.expect(ended.is_some(), || format!("chat {client} was told an end that it did not wait for"));
        }
        if let Shown::Answer { charged, .. } = event {
            self.mark("answer", client as u64, charged.0);
        }
    }

    /// The person does something, and will do something again.
    pub fn on_whim(&mut self, client: usize) {
        let life = self.clients[client].life;
        let wait = if self.rng.below(3) == 0 { 300_000 } else { 6_000_000 };
        let at = Time(self.now.0 + 10_000 + self.rng.below(wait));
        self.push(at, Event::Whim(client, life));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        let id = QueryId(id);
        let prompt = match self.rng.below(12) {
            0 => " ".to_owned(),
            1 => "x".repeat(crate::limits::PROMPT_BYTES + 1),
            _ => "What is Python?".to_owned(),
        };
        let now = self.now;
        let whim = self.rng.below(10);
        let Some(user) = self.user(client) else { return };
        let fact = match whim {
            0 => Fact::AskBalance,
            1 => Fact::AskStatus,
            2 | 3 => Fact::Cancel,
            _ if user.asked.is_some() => return,
            _ => {
                user.asked = Some((id, now));
                Fact::Ask(proto::Query::new(id, prompt))
            }
        };
        self.tell_chat(client, fact);
    }
}
