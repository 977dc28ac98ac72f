//! What happens at the clients' ends.

use std::time::Duration;

use hydra_core::agent::{self, Order as AgentOrder};
use hydra_core::chat::{self, Order as ChatOrder};
use hydra_core::ids::QueryId;
use hydra_core::machine::Machine as _;
use hydra_core::proto::{ClientMsg, Query, ServerMsg};

use super::{Soon, World, delta, update};
use crate::clients::{Kind, Work};

/// What a client is told; the same words for both kinds.
enum Told {
    Connected,
    Closed,
    Message(Box<ServerMsg>),
}

impl World {
    pub(super) fn happen_to_client(&mut self, soon: Soon) -> Result<(), String> {
        match soon {
            Soon::Start(Some(client)) => {
                if matches!(self.clients[client].kind, Kind::Dead) {
                    let now = self.now;
                    if client % 3 == 2 {
                        self.clients[client].chat(&mut self.rng);
                        let (life, delay) = (self.clients[client].life, self.delay(2_000));
                        self.plan(delay, Soon::User(client, life));
                    } else {
                        self.clients[client].worker(now, &mut self.rng);
                    }
                    self.obey_client(client);
                }
            }
            Soon::ToClient(client, life, session, message) => {
                if self.lives(client, life) && self.clients[client].session == Some(session) {
                    match message {
                        Some(message) => self.tell(client, Told::Message(message))?,
                        None => {
                            self.clients[client].session = None;
                            self.tell(client, Told::Closed)?;
                        }
                    }
                }
            }
            Soon::Dialled(client, life) if self.lives(client, life) => {
                let session = self.connect(client, life)?;
                self.clients[client].session = session;
                self.tell(client, if session.is_some() { Told::Connected } else { Told::Closed })?;
            }
            Soon::Download(client, life, session, digest) => {
                if self.lives(client, life) && self.clients[client].session == Some(session) {
                    self.agent_fact(client, agent::Fact::Blob { digest });
                }
            }
            Soon::Trained(client, life, fact) if self.lives(client, life) => self.agent_fact(client, *fact),
            Soon::Work(client, life) if self.lives(client, life) => self.work(client)?,
            Soon::Tick(Some((client, life))) if self.lives(client, life) => {
                let now = self.now;
                match &mut self.clients[client].kind {
                    Kind::Worker(worker) => worker.agent.expire(now),
                    Kind::Chat(talker) => talker.chat.expire(now),
                    Kind::Dead => {}
                }
                self.obey_client(client);
            }
            Soon::User(client, life) if self.lives(client, life) => self.user(client, life),
            _ => {}
        }
        Ok(())
    }

    fn lives(&self, client: usize, life: u64) -> bool {
        self.clients[client].life == life && !matches!(self.clients[client].kind, Kind::Dead)
    }

    /// kill -9 of a client.
    pub(super) fn kill_client(&mut self, client: usize) {
        if matches!(self.clients[client].kind, Kind::Dead) {
            return;
        }
        self.report.deaths += 1;
        self.clients[client].kind = Kind::Dead;
        if let Some(session) = self.clients[client].session.take() {
            self.cut(session);
        }
    }

    fn tell(&mut self, client: usize, told: Told) -> Result<(), String> {
        let now = self.now;
        let nonce = self.nonce();
        if let Told::Message(message) = &told {
            match **message {
                ServerMsg::Credited(_) => self.report.credited += 1,
                ServerMsg::Unpaid(_) => self.report.unpaid += 1,
                ServerMsg::Answer(_) => self.report.answers += 1,
                ServerMsg::Refused(_) => self.report.refunds += 1,
                ServerMsg::Error(ref error) if error.fatal => {
                    return Err(format!("an honest client was refused: {error:?}"));
                }
                _ => {}
            }
        }
        let reason = "the connection ended".to_owned();
        match &mut self.clients[client].kind {
            Kind::Worker(worker) => worker.agent.handle(
                now,
                match told {
                    Told::Connected => agent::Fact::Connected { nonce },
                    Told::Closed => agent::Fact::Closed { reason },
                    Told::Message(message) => agent::Fact::Message(*message),
                },
            ),
            Kind::Chat(talker) => talker.chat.handle(
                now,
                match told {
                    Told::Connected => chat::Fact::Connected { nonce },
                    Told::Closed => chat::Fact::Closed { reason },
                    Told::Message(message) => chat::Fact::Message(*message),
                },
            ),
            Kind::Dead => {}
        }
        self.obey_client(client);
        Ok(())
    }

    fn agent_fact(&mut self, client: usize, fact: agent::Fact) {
        let now = self.now;
        if let Kind::Worker(worker) = &mut self.clients[client].kind {
            worker.agent.handle(now, fact);
            self.obey_client(client);
        }
    }

    fn obey_client(&mut self, client: usize) {
        let life = self.clients[client].life;
        let deadline = match &mut self.clients[client].kind {
            Kind::Worker(worker) => {
                let mut orders = Vec::new();
                while let Some(order) = worker.agent.poll() {
                    orders.push(order);
                }
                let deadline = worker.agent.deadline();
                for order in orders {
                    self.carry_out_worker(client, order);
                }
                deadline
            }
            Kind::Chat(talker) => {
                let mut orders = Vec::new();
                while let Some(order) = talker.chat.poll() {
                    orders.push(order);
                }
                let deadline = talker.chat.deadline();
                for order in orders {
                    self.carry_out_chat(client, order);
                }
                deadline
            }
            Kind::Dead => None,
        };
        if let Some((at, _)) = deadline {
            self.plan_at(at.max(self.now.after(Duration::from_micros(1))), Soon::Tick(Some((client, life))));
        }
    }

    fn dial(&mut self, client: usize) {
        let (life, delay) = (self.clients[client].life, self.delay(50));
        self.plan(delay, Soon::Dialled(client, life));
    }

    fn say(&mut self, client: usize, message: ClientMsg) {
        let Some(session) = self.clients[client].session else { return };
        let at = self.arrival(session, 0);
        self.plan_at(at, Soon::ToHub(session, Some(message)));
    }

    fn carry_out_worker(&mut self, client: usize, order: AgentOrder) {
        let life = self.clients[client].life;
        match order {
            AgentOrder::Connect => self.dial(client),
            AgentOrder::Disconnect => {
                if let Some(session) = self.clients[client].session {
                    self.cut(session);
                }
            }
            AgentOrder::Send(message) => {
                // Resending is always allowed, and a network may make it look as if it had happened.
                if matches!(message, ClientMsg::Update(_)) && self.rng.below(20) == 0 {
                    self.say(client, message.clone());
                }
                self.say(client, message);
            }
            AgentOrder::SendBlob { blob } => {
                if let Some(session) = self.clients[client].session {
                    let at = self.arrival(session, 0).after(self.delay(200));
                    if let Some(wire) = self.wires.get_mut(&session) {
                        wire.last[0] = wire.last[0].max(at);
                    }
                    self.plan_at(at, Soon::Upload(session, blob));
                }
            }
            AgentOrder::FindShard { shard } => {
                let Kind::Worker(worker) = &self.clients[client].kind else { return };
                let fact = if worker.shards.contains(&shard) {
                    agent::Fact::ShardReady { shard }
                } else {
                    agent::Fact::ShardMissing { shard }
                };
                self.agent_fact(client, fact);
            }
            AgentOrder::KeepShard { shard } => {
                if let Kind::Worker(worker) = &mut self.clients[client].kind {
                    worker.shards.insert(shard);
                }
                self.agent_fact(client, agent::Fact::ShardReady { shard });
            }
            AgentOrder::Install(version) => self.enqueue(client, life, Work::Install(version)),
            AgentOrder::Train(task) => self.enqueue(client, life, Work::Train(task)),
            AgentOrder::StopTraining { lease } => {
                if let Kind::Worker(worker) = &mut self.clients[client].kind {
                    worker.stop.insert(lease.0);
                }
            }
            AgentOrder::Exit(_) => {
                self.clients[client].kind = Kind::Dead;
                if let Some(session) = self.clients[client].session.take() {
                    self.cut(session);
                }
            }
            AgentOrder::Setup { .. } | AgentOrder::Expect { .. } | AgentOrder::Drop { .. } | AgentOrder::Note(_) => {}
        }
    }

    fn enqueue(&mut self, client: usize, life: u64, work: Work) {
        let Kind::Worker(worker) = &mut self.clients[client].kind else { return };
        worker.queue.push_back(work);
        if !std::mem::replace(&mut worker.busy, true) {
            self.plan(Duration::from_micros(10), Soon::Work(client, life));
        }
    }

    /// The compute thread takes its next order.
    fn work(&mut self, client: usize) -> Result<(), String> {
        let life = self.clients[client].life;
        let salt = self.rng.next_u64();
        let Kind::Worker(worker) = &mut self.clients[client].kind else { return Ok(()) };
        let Some(work) = worker.queue.pop_front() else {
            worker.busy = false;
            return Ok(());
        };
        let mut pause = Duration::from_millis(1);
        match work {
            Work::Install(version) => {
                let right = match version.base {
                    None => true,
                    Some(base) => worker.weights.is_some_and(|held| delta(base, held, version.digest) == version.blob),
                };
                if !right {
                    return Err("a delta was added to other weights than those it was made for".to_owned());
                }
                worker.weights = Some(version.digest);
                let (version, digest) = (version.version, version.digest);
                self.agent_fact(client, agent::Fact::Installed { version, digest });
            }
            Work::Train(task) => {
                if worker.weights != self.disk.weights.get(&task.version).copied() {
                    return Err(format!("task {} was trained from another version than its own", task.task));
                }
                if worker.stop.remove(&task.lease.0) {
                    self.plan(pause, Soon::Work(client, life));
                    return Ok(());
                }
                pause = worker.step * task.steps;
                let blob = update(task.lease, salt);
                let (lies, lease, step) = (worker.lies, task.lease, worker.step);
                if self.chance(lies) {
                    self.nonsense.insert(blob);
                }
                let tokens = f64::from(task.batch * task.context) / step.as_secs_f64();
                self.agent_fact(client, agent::Fact::Step { lease, step: 1, loss: 2.0, tokens_per_s: tokens as f32 });
                let bytes = hydra_core::codec::Codec::Int4.max_len(self.params()) as u64;
                let train_ms = pause.as_millis() as u64;
                let fact = agent::Fact::Trained { lease, blob, bytes, loss_first: 3.0, loss_last: 2.0, train_ms };
                self.plan(pause, Soon::Trained(client, life, Box::new(fact)));
            }
        }
        self.plan(pause, Soon::Work(client, life));
        Ok(())
    }

    fn carry_out_chat(&mut self, client: usize, order: ChatOrder) {
        match order {
            ChatOrder::Connect => self.dial(client),
            ChatOrder::Send(message) => self.say(client, message),
            ChatOrder::Show(_) => {}
            ChatOrder::Exit(_) => self.clients[client].kind = Kind::Dead,
        }
    }

    /// The user asks, cancels, looks at the balance, or does nothing.
    fn user(&mut self, client: usize, life: u64) {
        let (now, draw) = (self.now, self.rng.below(4));
        let Kind::Chat(talker) = &mut self.clients[client].kind else { return };
        if talker.chat.is_busy() {
            let cancels = talker.cancels;
            if self.rng.unit() < cancels {
                self.chat_fact(client, chat::Fact::Cancel);
            }
        } else if draw == 0 {
            talker.chat.handle(now, chat::Fact::AskBalance);
            self.obey_client(client);
        } else {
            talker.next += 1;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&talker.next.to_le_bytes());
            let query = Query {
                id: QueryId(id),
                prompt: "why".to_owned(),
                max_new_tokens: None,
                temperature: None,
                top_k: None,
                top_p: None,
                seed: None,
            };
            self.chat_fact(client, chat::Fact::Ask(query));
        }
        let delay = self.delay(1_500);
        self.plan(delay, Soon::User(client, life));
    }

    fn chat_fact(&mut self, client: usize, fact: chat::Fact) {
        let now = self.now;
        if let Kind::Chat(talker) = &mut self.clients[client].kind {
            talker.chat.handle(now, fact);
            self.obey_client(client);
        }
    }
}
