//! The worker's work: versions in order, one task at a time, and updates until they are answered.

use super::{
    AFTER_FAILURE, ANNOUNCED, Agent, Event, Finished, INSTALLING, InHand, Installing, Link, Order, PROGRESS_EVERY,
};
use crate::ids::{Digest, LeaseId, TaskId, VersionNo};
use crate::proto::{self, ClientMsg, UnpaidCode};
use crate::time::Time;

impl Agent {
    pub(super) fn on_version(&mut self, version: proto::Version) {
        self.out.push_back(Order::Expect { blob: version.blob, bytes: version.bytes });
        self.versions.push_back((version, false));
        if self.versions.len() > ANNOUNCED {
            self.start_over();
        }
    }

    pub(super) fn on_blob(&mut self, now: Time, digest: Digest) {
        if let Some((_, here)) = self.versions.iter_mut().find(|(version, here)| version.blob == digest && !here) {
            *here = true;
            self.advance(now);
        } else if let Some(hand) = self.hand.as_ref().filter(|hand| hand.task.shard == digest && !hand.shard_ready) {
            self.out.push_back(Order::KeepShard { shard: hand.task.shard });
        } else {
            self.out.push_back(Order::Drop { blob: digest });
        }
    }

    /// Installs what is next in line and starts the task when its version and shard are there. A version newer than
    /// the task in hand waits until the task has begun: it trains from its own.
    pub(super) fn advance(&mut self, now: Time) {
        self.install(now);
        let Some(hand) = &mut self.hand else { return };
        if hand.training || !hand.shard_ready {
            return;
        }
        if self.ordered == Some(hand.task.version) {
            hand.training = true;
            let task = hand.task.clone();
            let tokens = task.tokens();
            self.note(Event::Task { task: task.task, version: task.version, steps: task.steps, tokens });
            self.out.push_back(Order::Train(Box::new(task)));
            self.install(now);
        }
    }

    fn install(&mut self, now: Time) {
        loop {
            let waiting = self.hand.as_ref().filter(|hand| !hand.training).map(|hand| hand.task.version);
            if waiting.is_some() && waiting == self.ordered {
                return;
            }
            let Some((version, true)) = self.versions.front().copied() else { break };
            let whole = version.base.is_none();
            // Behind a long training one after the other would wait in memory: each session may begin with all weights.
            // The next waits here instead, where it ends with its session.
            if self.installing.len() >= INSTALLING || whole && self.installing.iter().any(|before| before.whole) {
                break;
            }
            self.versions.pop_front();
            if version.base.is_some() && version.base != self.ordered {
                // A gap: what we have is not what the coordinator believes. Begin afresh.
                return self.start_over();
            }
            self.ordered = Some(version.version);
            self.installing.push_back(Installing { version: version.version, digest: Some(version.digest), whole });
            self.out.push_back(Order::Install(version));
        }
        let ordered = self.ordered;
        let passed = |hand: &InHand| !hand.training && ordered.is_some_and(|v| v > hand.task.version);
        if let Some(hand) = self.take_hand(passed) {
            self.release(now, hand.task.lease, "its version has passed");
        }
    }

    fn start_over(&mut self) {
        self.forget_versions();
        if !matches!(self.link, Link::Waiting { .. }) {
            self.out.push_back(Order::Disconnect);
        }
    }

    /// What the compute thread has is of no use.
    pub(super) fn forget_versions(&mut self) {
        self.ordered = None;
        self.installed = None;
        self.installing.iter_mut().for_each(|one| one.digest = None);
        self.drop_versions();
    }

    /// What was announced and is not installed will not be.
    pub(super) fn drop_versions(&mut self) {
        for (version, _) in self.versions.drain(..).filter(|(_, here)| *here) {
            self.out.push_back(Order::Drop { blob: version.blob });
        }
    }

    /// What the compute thread will have when it has carried out its orders, for a hello: it may train for long before it
    /// installs what waits, and the coordinator would send all of it again. If something else comes out than was
    /// announced, [`Self::on_installed`] begins afresh.
    pub(super) fn holds(&self) -> Option<proto::Held> {
        let version = self.ordered?;
        match self.installing.back() {
            Some(last) => last.digest.map(|digest| proto::Held { version, digest }),
            None => self.installed.filter(|held| held.version == version),
        }
    }

    pub(super) fn on_installed(&mut self, now: Time, version: VersionNo, digest: Digest) {
        let Some(place) = self.installing.iter().position(|one| one.version == version) else { return };
        let expected = self.installing.drain(..=place).next_back().and_then(|one| one.digest);
        match expected {
            Some(expected) if expected != digest => self.on_other_weights(),
            Some(_) => self.installed = Some(proto::Held { version, digest }),
            None => {}
        }
        // Weights may have waited for these to be done with.
        self.advance(now);
    }

    fn on_other_weights(&mut self) {
        // The thread does one thing after the other: what trains was ordered later, and trains from these weights.
        if let Some(hand) = self.hand.take_if(|hand| hand.training) {
            self.out.push_back(Order::StopTraining { lease: hand.task.lease });
        }
        self.start_over();
    }

    pub(super) fn on_task(&mut self, now: Time, task: proto::Task) {
        if self.hand.is_some() || !self.accepting(now) {
            // The coordinator believes otherwise, one that does not know the word `paused` in hello for instance.
            self.told = true;
            return self.release(now, task.lease, "this worker takes no task at the moment");
        }
        self.out.push_back(Order::FindShard { shard: task.shard });
        self.hand = Some(InHand { task, shard_ready: false, fetched: false, training: false, last_progress: None });
        self.advance(now);
    }

    /// Takes the task in hand if it is like that. A shard that is on its way for it is awaited no longer: tasks that are
    /// revoked one after the other would leave any number of them awaited.
    pub(super) fn take_hand(&mut self, which: impl FnOnce(&InHand) -> bool) -> Option<InHand> {
        let hand = self.hand.take_if(|hand| which(hand))?;
        if !hand.shard_ready {
            self.out.push_back(Order::Drop { blob: hand.task.shard });
        }
        Some(hand)
    }

    pub(super) fn on_shard(&mut self, now: Time, shard: Digest, ready: bool) {
        let Some(hand) = self.hand.as_mut().filter(|hand| hand.task.shard == shard && !hand.shard_ready) else {
            return;
        };
        if ready {
            hand.shard_ready = true;
            return self.advance(now);
        }
        // Without a session it is looked for again after the next welcome.
        if self.link == Link::Open {
            hand.fetched = true;
            let bytes = hand.task.shard_tokens.saturating_mul(2);
            self.out.push_back(Order::Expect { blob: shard, bytes });
            self.say(ClientMsg::Fetch(proto::Fetch { shard }));
        }
    }

    pub(super) fn on_step(&mut self, now: Time, progress: proto::Progress) {
        let trained = |hand: &&mut InHand| hand.training && hand.task.lease == progress.lease;
        let Some(hand) = self.hand.as_mut().filter(trained) else { return };
        let last = progress.step >= hand.task.steps;
        if !last && hand.last_progress.is_some_and(|at| now.since(at) < PROGRESS_EVERY) {
            return;
        }
        hand.last_progress = Some(now);
        let proto::Progress { step, loss, tokens_per_s, .. } = progress;
        let task = hand.task.task;
        self.note(Event::Progress { task, step, loss, tokens_per_s });
        self.say(ClientMsg::Progress(progress));
    }

    pub(super) fn on_trained(&mut self, now: Time, update: proto::Update) {
        // A task that has not begun was trained by nobody: another run may have given its lease the same number.
        let Some(hand) = self.hand.take_if(|hand| hand.training && hand.task.lease == update.lease) else {
            return self.out.push_back(Order::Drop { blob: update.blob });
        };
        if !self.settings.pause.is_zero() {
            self.rest_until = Some(now.after(self.settings.pause));
        }
        let task = hand.task;
        let mut finished = Finished { task: task.task, update, sent: false, gone: false };
        finished.update.version = task.version;
        finished.update.codec = task.codec;
        finished.update.steps = task.steps;
        finished.update.tokens = task.tokens();
        self.outbox.push(finished);
        if self.link == Link::Open {
            self.deliver(now, self.outbox.len() - 1);
        }
        self.advance(now);
    }

    /// Sends an update of the outbox. Whether a task may follow is said as it is now, however old the update.
    pub(super) fn deliver(&mut self, now: Time, place: usize) {
        let more = self.accepting(now);
        self.outbox[place].sent = true;
        let Finished { task, mut update, .. } = self.outbox[place].clone();
        let (blob, bytes) = (update.blob, update.bytes);
        update.more = more;
        self.told = more;
        self.say(ClientMsg::Update(update));
        self.out.push_back(Order::SendBlob { blob });
        self.note(Event::Submitted { task, bytes });
    }

    pub(super) fn on_sent(&mut self, blob: Digest) {
        self.outbox
            .iter_mut()
            .filter(|finished| finished.update.blob == blob)
            .for_each(|finished| finished.gone = true);
    }

    /// What was handed in for the lease is done with; of which task it was, unless that was known before.
    fn settle(&mut self, lease: LeaseId) -> Option<TaskId> {
        let place = self.outbox.iter().position(|finished| finished.update.lease == lease)?;
        let finished = self.outbox.remove(place);
        // A coordinator that answers is worth waiting for.
        self.lonely = None;
        self.out.push_back(Order::Drop { blob: finished.update.blob });
        Some(finished.task)
    }

    /// Another run knows none of this worker's leases, and gives their numbers to others.
    pub(super) fn forget_leases(&mut self) {
        if let Some(hand) = self.take_hand(|_| true).filter(|hand| hand.training) {
            self.out.push_back(Order::StopTraining { lease: hand.task.lease });
        }
        self.claimed = None;
        while let Some(Finished { task, update, .. }) = self.outbox.first().cloned() {
            self.settle(update.lease);
            let text = "it was a task of the run before".to_owned();
            self.note(Event::Unpaid { task, reason: UnpaidCode::UnknownLease, text });
        }
    }

    pub(super) fn on_credited(&mut self, credited: &proto::Credited) {
        self.balance = credited.balance;
        // A second answer to a resent update pays nothing new.
        if self.settle(credited.lease).is_some() {
            // A coordinator that pays is worth coming back to at once, even if it is killed every few seconds.
            self.backoff.succeeded();
            self.paid += 1;
            self.earned = self.earned.checked_add(credited.amount).unwrap_or(self.earned);
            let proto::Credited { task, amount, balance, .. } = *credited;
            self.note(Event::Credited { task, amount, balance });
        }
        self.leave_if_done();
    }

    pub(super) fn on_unpaid(&mut self, unpaid: proto::Unpaid) {
        // A coordinator that does not know the lease does not know the task either.
        if let Some(task) = self.settle(unpaid.lease) {
            let proto::Unpaid { code: reason, text, .. } = unpaid;
            self.note(Event::Unpaid { task, reason, text });
        }
        self.leave_if_done();
    }

    pub(super) fn on_revoked(&mut self, now: Time, revoked: proto::Unpaid) {
        if let Some(hand) = self.take_hand(|hand| hand.task.lease == revoked.lease) {
            if hand.training {
                self.out.push_back(Order::StopTraining { lease: revoked.lease });
            }
            let proto::Unpaid { code: reason, text, .. } = revoked;
            self.note(Event::Unpaid { task: hand.task.task, reason, text });
            self.advance(now);
            self.leave_if_done();
        }
    }

    /// The text of a task is not in the run any more, which was given other text meanwhile.
    pub(super) fn on_no_shard(&mut self, now: Time, text: &str) {
        if let Some(hand) = self.hand.as_ref().filter(|hand| hand.fetched && !hand.shard_ready) {
            self.on_failed(now, hand.task.lease, text);
        }
    }

    pub(super) fn on_failed(&mut self, now: Time, lease: LeaseId, text: &str) {
        if let Some(hand) = self.take_hand(|hand| hand.task.lease == lease) {
            self.note(Event::Unpaid { task: hand.task.task, reason: UnpaidCode::Cancelled, text: text.to_owned() });
            self.rest_until = Some(now.after(AFTER_FAILURE));
            self.release(now, lease, text);
            self.advance(now);
            self.leave_if_done();
        }
    }
}
