//! Beginning, and beginning again after any kind of end: the hub from what was durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;

use super::api_keys::Keyring;
use super::bench::Bench;
use super::leases::{Doubt, Leases, State};
use super::records::Records;
use super::rounds::{Entry, Round};
use super::trust::Trust;
use super::{Hub, Recovered, Row, Rules, rounds};
use crate::ids::LeaseId;
use crate::rng::Rng;
use crate::time::Time;

/// Lease numbers of each start begin at a multiple of this, so that a lease whose row was lost with the power can never
/// be mistaken for another. Keeps numbers below 2^53 for 2^23 starts. Task numbers simply go on, since people read them:
/// that of a task whose rows were all lost is given again, but nothing is decided by it across a restart.
const NUMBERS_PER_BOOT: u64 = 1 << 30;

impl Hub {
    /// A hub that goes on where `recovered` ended. Its first orders return the holds of queries that died with the
    /// coordinator.
    pub fn new(now: Time, rules: Rules, key: SigningKey, recovered: Recovered) -> Self {
        let Recovered { boot, users, api_keys, book, asked, newest, evaluated, open, unmerged, settled, last_task } =
            recovered;
        let mut round = Round::begin(now);
        // Bytes that were merged are no news either.
        for (_, accepted) in &settled {
            round.remember(accepted.blob);
        }
        for (lease, accepted) in &unmerged {
            round.take(Entry::new(lease, accepted));
        }
        if !open.is_empty() {
            let trained = unmerged.iter().map(|(lease, _)| lease).chain(&open);
            round.await_workers(now, trained.map(|lease| (lease.user.clone(), lease.worker)).collect());
        }
        let (tasks, tokens) =
            unmerged.iter().fold((newest.tasks, newest.tokens), |(n, t), (lease, _)| (n + 1, t + lease.tokens));
        let deadline = now.after(rules.lease_first);
        let mut leases = Leases::default();
        let expected = Some(now.after(rounds::RETURN));
        let mut records =
            Records::from_rows(settled.iter().chain(&unmerged).map(|(lease, accepted)| (lease, accepted)));
        for row in open {
            let proven = records.leads(&row.user, row.worker);
            leases.insert(
                row,
                State::Running { session: None, deadline, expected, step: 0 },
                Doubt::None,
                proven,
                None,
            );
        }
        for (row, accepted) in settled.into_iter().chain(unmerged) {
            leases.insert(row, State::Paid(accepted.paid), Doubt::None, true, None);
        }
        let mut hub = Self {
            rng: Rng::new(rules.seed ^ boot.rotate_left(32)),
            key,
            boot,
            out: VecDeque::new(),
            sessions: BTreeMap::new(),
            handshakes: VecDeque::new(),
            seats: BTreeMap::new(),
            users: users.into_iter().collect(),
            new_names: BTreeSet::new(),
            api_keys: Keyring::of(api_keys),
            naming: super::session::Naming::default(),
            given_up: super::queries::GivenUp::default(),
            team: 0,
            kicked: super::kicked::Kicked::default(),
            records,
            durable: book.clone(),
            book,
            unwritten: VecDeque::new(),
            newest_transfers: super::view::Newest::default(),
            persist_seq: 0,
            persisted: 0,
            waiting: VecDeque::new(),
            queue: VecDeque::new(),
            next_task: last_task.0,
            next_lease: boot * NUMBERS_PER_BOOT,
            next_generation: now,
            paused: false,
            bench: Bench::default(),
            leases,
            measured: evaluated.map(|_| newest.version),
            deltas_since: newest.version,
            recent: BTreeMap::from([(newest.version, newest.digest)]),
            newest,
            evaluated,
            // Until this start has measured it, its own weights answer.
            averaged: false,
            round,
            trust: Trust::default(),
            check_seconds: 0.0,
            unevaluated: BTreeMap::new(),
            queries: BTreeMap::new(),
            next_query: 0,
            asked,
            accepted_tasks: tasks,
            accepted_tokens: tokens,
            stopping: None,
            rules,
        };
        hub.return_holds(now);
        // A run that has reached its end makes no version of what was not to be merged.
        hub.check_stop(now);
        hub.consider_round(now);
        hub.dispatch(now);
        hub.finish_if_done(now);
        hub
    }

    /// Whether this start of the run gave a lease out.
    pub(super) fn is_of_this_start(&self, lease: LeaseId) -> bool {
        lease.0 > self.boot * NUMBERS_PER_BOOT
    }

    fn return_holds(&mut self, now: Time) {
        let open: Vec<_> = self.book.holds().keys().copied().collect();
        let at_ms = self.wall_ms(now);
        let rows: Vec<_> = open
            .into_iter()
            .map(|hold| Row::Transfer(self.book.void(hold, at_ms).expect("an open hold can be returned")))
            .collect();
        self.persist(rows);
    }
}
