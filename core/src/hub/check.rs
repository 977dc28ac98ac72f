//! The hub's self-check for simulations and tests: everything kept at hand agrees with what it is derived from.

use super::Hub;
use super::bench::{JUDGED, Place};
use super::leases::State;

impl Hub {
    /// Panics, saying what is wrong, if the hub contradicts itself.
    pub fn check(&self) {
        assert!(self.leases.is_sound(), "the leases' indexes are off: {:?}", self.leases);
        let mut places: Vec<_> = self.bench.all();
        places.sort_by_key(|(id, _)| *id);
        let mut expected = Vec::new();
        for (id, session) in &self.sessions {
            let Some(peer) = session.peer() else { continue };
            let Some(seat) = &peer.seat else { continue };
            assert_eq!(self.seats.get(&(peer.user.clone(), seat.worker)), Some(id), "a seat is not listed");
            let judged = self.leases.judged(*id) >= JUDGED;
            let free = seat.accepting && !seat.quiet && seat.lease.is_none() && !judged;
            assert_eq!(free, seat.place != Place::Busy, "session {id} sits in the wrong place: {seat:?}");
            if free {
                expected.push((*id, seat.place));
            }
            if let Some(lease) = seat.lease {
                let state = self.leases.get(lease).map(|held| &held.state);
                let trains = matches!(state, Some(State::Running { session: Some(s), .. }) if s == id);
                assert!(trains, "session {id} should train lease {lease}, which is {state:?}");
            }
        }
        assert_eq!(places, expected, "the bench is off");
        let open = self.sessions.values().filter(|s| s.seat().is_some()).count();
        assert_eq!(self.seats.len(), open, "a seat without a session");
        for held in self.leases.iter() {
            if let State::Running { session: Some(id), .. } = held.state {
                let seat = self.sessions.get(&id).and_then(|s| s.seat());
                assert_eq!(seat.and_then(|s| s.lease), Some(held.row.lease), "nobody trains lease {}", held.row.lease);
            }
            if let State::Receiving { session, .. } = held.state {
                assert!(
                    self.sessions.contains_key(&session),
                    "the update of lease {} comes from nowhere",
                    held.row.lease
                );
            }
        }
        let running = self.queries.len();
        let counted: usize = self.sessions.values().map(|s| s.queries).sum();
        assert!(counted <= running, "sessions count {counted} queries, there are {running}");
        let (issued, held, revenue) = self.book.totals();
        let balances: u64 = self.book.balances().values().map(|b| b.0).sum();
        assert_eq!(issued.0, balances + held.0 + revenue.0, "credits were made or lost");
    }
}
