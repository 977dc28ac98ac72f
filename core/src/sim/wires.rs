//! The wires: how connections are made, carry frames, and end, differently for their two ends.

use super::net::{Conn, ConnId, Frame, Side};
use super::user::User;
use super::world::{Event, World};
use crate::ids::{Nonce, SessionId};
use crate::{agent, chat, hub};

impl World {
    /// A client connects anew; an older connection is closed.
    pub fn dial(&mut self, client: usize) {
        self.hang_up_quietly(client);
        self.counts.connections += 1;
        let id = self.counts.connections;
        let bad = self.phase.has_faults();
        let conn = Conn::new(client, &mut self.rng, bad);
        self.net.insert(id, conn);
        self.clients[client].conn = Some(id);
        let at = self.soon(1_000, 20_000);
        self.push(at, Event::Dial(id));
    }

    pub fn on_dial(&mut self, id: ConnId) {
        let Some(conn) = self.net.get_mut(&id) else { return };
        let client = conn.client;
        if self.clients[client].apart > self.now {
            let at = self.soon(1_000_000, 9_000_000);
            return self.push(at, Event::Gone(id, Side::Client));
        }
        let Some(coordinator) = &mut self.coordinator else {
            let at = self.soon(1_000, 1_000_000);
            return self.push(at, Event::Gone(id, Side::Client));
        };
        self.next_session += 1;
        let session = SessionId(self.next_session);
        (conn.boot, conn.session, conn.open[Side::Coordinator as usize]) = (coordinator.boot, session, true);
        coordinator.sessions.insert(session, id);
        self.mark("joined", client as u64, session.0);
        let nonce = self.nonce();
        self.tell_hub(hub::Fact::Joined { session, nonce, host: None });
        self.send(id, Side::Client, Frame::Open);
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.rng.next_u64().to_le_bytes());
        Nonce(nonce)
    }

    /// Sends a frame over a connection, to one of its ends.
    pub fn send(&mut self, id: ConnId, to: Side, frame: Frame) {
        let Some(conn) = self.net.get_mut(&id) else { return };
        if let Some(at) = conn.arrival(self.now, to, &frame, &mut self.rng) {
            self.push(at, Event::Arrive(id, to, frame));
        }
    }

    /// Sends a frame over a client's connection, if it has one.
    pub fn send_from(&mut self, client: usize, to: Side, frame: Frame) {
        if let Some(id) = self.clients[client].conn {
            self.send(id, to, frame);
        }
    }

    pub fn arrive(&mut self, id: ConnId, side: Side, frame: Frame) {
        let Some(conn) = self.net.get(&id).filter(|conn| !conn.cut && conn.open[side as usize]) else { return };
        let (client, boot, session) = (conn.client, conn.boot, conn.session);
        self.mark("arrive", id, side as u64);
        if matches!(frame, Frame::Fin) {
            return self.gone(id, side);
        }
        if side == Side::Coordinator {
            if self.coordinator.as_ref().is_some_and(|c| c.boot == boot) {
                self.hub_hears(session, frame);
            }
            return;
        }
        if self.clients[client].conn != Some(id) {
            return;
        }
        if matches!(frame, Frame::Open) {
            let nonce = self.nonce();
            self.clients[client].since = self.now;
            if self.clients[client].worker.is_some() {
                return self.tell_agent(client, agent::Fact::Connected { nonce });
            }
            return self.tell_chat(client, chat::Fact::Connected { nonce });
        }
        self.judge_refusal(client, &frame);
        if let Some(worker) = &mut self.clients[client].worker {
            if let Some(fact) = worker.hear(frame) {
                self.tell_agent(client, fact);
            }
        } else if let Some(fact) = User::hear(frame) {
            self.tell_chat(client, fact);
        }
    }

    /// One end of a connection learns that it is over.
    pub fn gone(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.net.get_mut(&id) else { return };
        let (client, boot, session) = (conn.client, conn.boot, conn.session);
        if !std::mem::replace(&mut conn.open[side as usize], false) {
            return;
        }
        conn.cut |= conn.open == [false, false];
        if side == Side::Coordinator {
            if self.coordinator.as_ref().is_some_and(|c| c.boot == boot) {
                self.session_over(session);
            }
            return;
        }
        if self.clients[client].conn == Some(id) {
            self.clients[client].conn = None;
            let reason = "the connection is gone".to_owned();
            if let Some(worker) = &mut self.clients[client].worker {
                worker.unplug();
                self.tell_agent(client, agent::Fact::Closed { reason });
            } else {
                self.tell_chat(client, chat::Fact::Closed { reason });
            }
        }
    }

    /// The client closes its connection, and hears of it.
    pub fn hang_up(&mut self, client: usize) {
        let Some(id) = self.clients[client].conn else { return };
        self.send(id, Side::Coordinator, Frame::Fin);
        let at = self.soon(1, 10_000);
        self.push(at, Event::Gone(id, Side::Client));
    }

    fn hang_up_quietly(&mut self, client: usize) {
        if let Some(id) = self.clients[client].conn.take() {
            self.send(id, Side::Coordinator, Frame::Fin);
            if let Some(conn) = self.net.get_mut(&id) {
                conn.open[Side::Client as usize] = false;
            }
        }
    }
}
