//! What was heard and sent: every promise has durable rows behind it, and nobody holds what another holds.

use super::{Audit, Money, Seen};
use crate::credits::Credits;
use crate::ids::{LeaseId, QueryId, SessionId, UserName, WorkerId};
use crate::limits;
use crate::proto::{ClientMsg, Hello, RefusedCode, ServerMsg, Task, UnpaidCode};

impl Audit {
    /// The coordinator heard this.
    pub fn heard(&mut self, session: SessionId, message: &ClientMsg) {
        match message {
            ClientMsg::Hello(Hello { user, worker, key, lease, .. }) => {
                let seen = Seen { user: user.clone(), worker: *worker, key: *key, lease: *lease };
                self.sessions.entry(session).or_insert(seen);
            }
            ClientMsg::Update(update) => self.put_down(session, update.lease),
            ClientMsg::Release(release) => self.put_down(session, release.lease),
            _ => {}
        }
    }

    fn put_down(&mut self, session: SessionId, lease: LeaseId) {
        if let Some(seen) = self.sessions.get_mut(&session) {
            seen.lease.take_if(|held| *held == lease);
        }
    }

    /// The session is over for the coordinator.
    pub fn left(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// The coordinator pushed a task.
    pub fn pushed(&mut self, session: SessionId, task: &Task) {
        let lease = task.lease;
        let new = self.pushed.insert(lease, task.version).is_none();
        self.expect(new, || format!("lease {lease} is held by two"));
        let Some(seen) = self.sessions.get_mut(&session) else {
            return self.fail(format!("lease {lease} was pushed to nobody"));
        };
        if let Some(other) = seen.lease.replace(lease) {
            self.fail(format!("lease {lease} was pushed to a worker that trains {other}"));
        }
        // The newest may be durable without the coordinator knowing it yet.
        let newest = self.versions.len() as u64;
        let right = (task.version.0 + 1..=task.version.0 + 2).contains(&newest);
        self.expect(right, || format!("lease {lease} trains from version {}", task.version));
    }

    /// The coordinator sent this.
    pub fn sent(&mut self, session: SessionId, message: &ServerMsg) {
        let Some(Seen { user, worker, key, .. }) = self.sessions.get(&session) else { return };
        let (user, worker, key) = (user.clone(), *worker, *key);
        let balance = self.known.get(&user).copied().unwrap_or_default();
        let mut told = None;
        match message {
            ServerMsg::Welcome(welcome) => {
                told = Some(welcome.balance);
                let durable = self.users.get(&user) == Some(&key);
                self.expect(durable, || format!("{user} was welcomed before its name was durable"));
            }
            ServerMsg::Version(version) => {
                let row = self.versions.get(version.version.0 as usize);
                let right = row.is_some_and(|row| row.digest == version.digest);
                self.expect(right, || format!("version {} was sent before it was durable", version.version));
            }
            ServerMsg::Credited(credited) => {
                told = Some(credited.balance);
                let lease = credited.lease;
                let paid = self.rewarded.contains(&lease) || self.reward == Credits::ZERO;
                let durable = self.accepted.contains_key(&lease) && paid;
                self.expect(durable, || format!("lease {lease} was acknowledged before it was durable"));
                let right = credited.amount == self.reward;
                self.expect(right, || format!("lease {lease} was credited with {}", credited.amount));
                self.answered(worker, lease, None);
            }
            ServerMsg::Unpaid(unpaid) => {
                self.put_down(session, unpaid.lease);
                self.answered(worker, unpaid.lease, Some(unpaid.code));
            }
            ServerMsg::Revoked(revoked) => self.put_down(session, revoked.lease),
            ServerMsg::Balance(reply) => told = Some(reply.balance),
            ServerMsg::Answer(answer) => {
                told = Some(answer.balance);
                let money = self.money(&user, answer.id);
                let right = if self.price > Credits::ZERO {
                    money == Some(Money::Posted) && answer.charged == self.price
                } else {
                    money.is_none() && answer.charged == Credits::ZERO
                };
                self.expect(right, || format!("query {} was answered, its money is {money:?}", answer.id));
                let first = self.ends.insert((user.clone(), answer.id));
                self.expect(first, || format!("query {} ended twice", answer.id));
            }
            ServerMsg::Refused(refused) => {
                told = Some(refused.balance);
                let money = self.money(&user, refused.id);
                let free = matches!(money, None | Some(Money::Void));
                let again = refused.code == RefusedCode::Duplicate;
                self.expect(free || again, || format!("query {} was refused, its money is {money:?}", refused.id));
            }
            _ => {}
        }
        if let Some(told) = told {
            let right = i128::from(told.0) == balance;
            self.expect(right, || format!("{user} was told {told} HYD and has {balance} micro-credits"));
        }
    }

    fn money(&self, user: &UserName, query: QueryId) -> Option<Money> {
        self.queries.get(&(user.clone(), format!("query {query}"))).map(|(_, money)| *money)
    }

    /// One lease, one answer: it may be repeated, but not changed.
    fn answered(&mut self, worker: Option<WorkerId>, lease: LeaseId, code: Option<UnpaidCode>) {
        let Some(worker) = worker.filter(|_| code != Some(UnpaidCode::NotYourLease)) else { return };
        if code == Some(UnpaidCode::UnknownLease) {
            let row = self.leases.get(&lease).filter(|row| row.worker == worker && self.accepted.contains_key(&lease));
            let old = row.is_none() || self.accepted.range(lease..).count() > limits::PAID;
            return self.expect(old, || format!("the accepted lease {lease} was forgotten"));
        }
        let row = self.leases.get(&lease).filter(|row| row.worker == worker);
        let ended = code.is_none() || row.is_none() || self.ended.contains(&lease);
        self.expect(ended, || format!("lease {lease} was refused before that was durable"));
        let before = *self.answers.entry((worker, lease)).or_insert(code.is_none());
        self.expect(before == code.is_none(), || format!("lease {lease} was answered both ways"));
    }
}
