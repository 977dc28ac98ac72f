//! The worker's session: the handshake, what is said again after it, and how a session ends.

use super::{Agent, Event, Exit, FIRST_CONTACT, Link, Order, Settings, Why};
use crate::credits::Credits;
use crate::ids::{Nonce, PublicKey};
use crate::proto::{self, ClientMsg, ErrorCode, Role, ServerMsg, sign};
use crate::time::Time;

impl Agent {
    pub(super) fn on_connected(&mut self, now: Time, nonce: Nonce) {
        self.link = Link::Greeting { nonce };
        self.why = None;
        self.claimed = self.lease();
        self.renamed = false;
        let holds = self.holds();
        self.named = holds.is_some();
        self.told = self.accepting(now);
        let hello = proto::Hello {
            protocol: proto::PROTOCOL.to_owned(),
            role: Role::Worker,
            user: self.settings.user.clone(),
            key: PublicKey(self.settings.key.verifying_key().to_bytes()),
            nonce,
            agent: self.settings.agent.clone(),
            worker: Some(self.settings.worker),
            device: self.settings.device.clone(),
            holds,
            lease: self.claimed,
            paused: !self.told,
        };
        self.out.push_back(Order::Send(ClientMsg::Hello(hello)));
    }

    pub(super) fn on_closed(&mut self, now: Time, reason: String) {
        if matches!(self.link, Link::Waiting { .. }) {
            return;
        }
        // What the coordinator said says more than that the connection ended.
        let reason = self.why.take().unwrap_or(reason);
        // Versions that were on their way will be sent again; what was ordered is what the thread will have.
        self.drop_versions();
        // Updates without an answer will be sent once more.
        self.outbox.iter_mut().for_each(|finished| finished.gone = false);
        if !self.greeted && now.since(self.started) >= FIRST_CONTACT {
            return self.exit(Exit::Unreachable(reason), Why::Unreachable);
        }
        if self.finishing && self.hand.is_none() && self.outbox.is_empty() {
            return self.exit(Exit::Done, Why::Asked);
        }
        if let Some(opened) = self.opened.take() {
            self.backoff.ended(now.since(opened));
        }
        let wait = self.backoff.wait();
        // The last try before it gives up is made in time.
        let left = self.started.after(FIRST_CONTACT).since(now);
        let wait = if self.greeted { wait } else { wait.min(left) };
        self.link = Link::Waiting { until: now.after(wait) };
        self.note(Event::Disconnected { retry_ms: wait.as_millis() as u64, reason });
    }

    pub(super) fn on_message(&mut self, now: Time, message: ServerMsg) {
        match (self.link.clone(), message) {
            (Link::Greeting { nonce }, ServerMsg::Challenge(challenge)) => self.on_challenge(&nonce, &challenge),
            (Link::Proving, ServerMsg::Welcome(welcome)) => self.on_welcome(now, &welcome),
            (_, ServerMsg::Error(error)) if error.fatal => self.on_fatal(&error),
            (Link::Open, ServerMsg::Error(error)) if error.code == ErrorCode::UnknownShard => {
                self.on_no_shard(now, &error.text);
            }
            (_, ServerMsg::Bye(bye)) if !bye.retry => self.exit(Exit::Done, Why::Complete),
            // Says why the session is about to end.
            (_, ServerMsg::Bye(bye)) => self.why = Some(bye.text),
            (Link::Open, ServerMsg::Version(version)) => self.on_version(version),
            (Link::Open, ServerMsg::Task(task)) => self.on_task(now, task),
            (Link::Open, ServerMsg::Credited(credited)) => self.on_credited(&credited),
            (Link::Open, ServerMsg::Unpaid(unpaid)) => self.on_unpaid(unpaid),
            (Link::Open, ServerMsg::Revoked(revoked)) => self.on_revoked(now, revoked),
            (Link::Open, ServerMsg::Balance(balance)) => self.balance = balance.balance,
            // What a later version of the protocol may add, and answers to questions that a worker does not ask.
            _ => {}
        }
    }

    fn on_challenge(&mut self, nonce: &Nonce, challenge: &proto::Challenge) {
        let Settings { key, user, .. } = &self.settings;
        let Some(proof) = sign::answer(key, nonce, challenge, Role::Worker, user) else {
            let text = "the coordinator could not prove its own key".to_owned();
            return self.exit(Exit::Refused(text), Why::Refused);
        };
        if self.server.replace(challenge.key).is_some_and(|before| before != challenge.key) {
            // What is left of the run before is not the other's to count.
            self.forget_leases();
            // Nor is its balance, if this one refuses the worker and tells none.
            self.balance = Credits::ZERO;
            self.note(Event::OtherRun);
        }
        self.link = Link::Proving;
        self.out.push_back(Order::Send(ClientMsg::Proof(proof)));
    }

    fn on_welcome(&mut self, now: Time, welcome: &proto::Welcome) {
        self.link = Link::Open;
        self.opened = Some(now);
        self.greeted = true;
        self.balance = welcome.balance;
        // Proven before the welcome.
        let Some(run) = self.server else { return };
        let model = (run, welcome.shape, welcome.recipe);
        if self.model != Some(model) {
            self.model = Some(model);
            self.forget_versions();
            // Another model's task cannot be trained.
            if let Some(hand) = self.hand.take_if(|hand| hand.training) {
                self.out.push_back(Order::StopTraining { lease: hand.task.lease });
            }
            self.out.push_back(Order::Setup { run, shape: welcome.shape, recipe: welcome.recipe });
            // The coordinator may have known the version by its digest, and would send only what comes after it. Another
            // hello names none.
            if self.named {
                self.backoff.succeeded();
                self.out.push_back(Order::Disconnect);
            }
        }
        self.note(Event::Ready {
            worker: self.settings.worker,
            user: self.settings.user.clone(),
            device: self.settings.device.clone(),
        });
        for place in 0..self.outbox.len() {
            self.deliver(now, place);
        }
        // A task that ended between hello and welcome otherwise than by being trained.
        let claimed = self.claimed.take().filter(|lease| self.lease() != Some(*lease));
        if let Some(lease) = claimed.filter(|lease| self.outbox.iter().all(|f| f.update.lease != *lease)) {
            self.release(now, lease, "this worker has given it up");
        }
        if let Some(hand) = self.hand.as_ref().filter(|hand| !hand.shard_ready) {
            // What was fetched before may be lost with the session that it came through.
            self.out.push_back(Order::FindShard { shard: hand.task.shard });
        }
        self.leave_if_done();
    }

    fn on_fatal(&mut self, error: &proto::Error) {
        match error.code {
            // Another session of this very process may have been cut off by a late one; the coordinator knows best,
            // and the waits between connections grow.
            ErrorCode::Slow | ErrorCode::Full | ErrorCode::Replaced | ErrorCode::Flood => {
                self.why = Some(error.text.clone());
            }
            _ => self.exit(Exit::Refused(error.text.clone()), Why::Refused),
        }
    }
}
