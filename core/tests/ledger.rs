//! A million random operations on the book, against a model that knows nothing of chains and accounts: credits are
//! conserved, nobody goes below zero, an id is good for one transfer, a hold is resolved once, and what is refused
//! changes nothing. The rows replay to the same balances and the same head, and satisfy the auditor.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use hydra_core::credits::Credits;
use hydra_core::ids::{TransferId, UserName};
use hydra_core::ledger::audit::Auditor;
use hydra_core::ledger::{Book, BookError, Kind, Transfer};
use hydra_core::rng::Rng;

const OPERATIONS: u64 = 1_000_000;
const USERS: u64 = 50;
/// Operations between two looks at every account.
const LOOK_EVERY: u64 = 10_000;
/// Holds that may be open at once, and ids that are tried again.
const MEMORY: usize = 200;

/// The truth: plain sums.
#[derive(Default)]
struct Model {
    balances: BTreeMap<UserName, u64>,
    /// Open holds.
    open: Vec<(TransferId, UserName, u64)>,
    /// Holds that were resolved lately.
    resolved: Vec<TransferId>,
    /// Ids of rewards and holds that were made lately.
    made: Vec<TransferId>,
    issued: u64,
    revenue: u64,
}

impl Model {
    fn remember(list: &mut Vec<TransferId>, id: TransferId) {
        if list.len() == MEMORY {
            list.remove(0);
        }
        list.push(id);
    }
}

struct Trial {
    rng: Rng,
    users: Vec<UserName>,
    book: Book,
    model: Model,
    next: u64,
    refused: u64,
}

impl Trial {
    fn pick<T: Clone>(rng: &mut Rng, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| list[rng.below(list.len() as u64) as usize].clone())
    }

    /// An id: nearly always a new one. The flag says whether it is.
    fn id(&mut self) -> (TransferId, bool) {
        if self.rng.below(16) == 0
            && let Some(old) = Self::pick(&mut self.rng, &self.model.made)
        {
            return (old, false);
        }
        self.next += 1;
        (TransferId::derive("trial", &[&self.next.to_le_bytes()]), true)
    }

    fn step(&mut self, at_ms: u64) -> Result<Transfer, BookError> {
        let user = Self::pick(&mut self.rng, &self.users).unwrap();
        match self.rng.below(4) {
            0 => self.reward(&user, at_ms),
            1 | 2 if self.model.open.len() < MEMORY => self.hold(&user, at_ms),
            _ => self.resolve(at_ms),
        }
    }

    fn reward(&mut self, user: &UserName, at_ms: u64) -> Result<Transfer, BookError> {
        let (id, new) = self.id();
        let amount = self.rng.below(2_000_000);
        let made = self.book.reward(id, user, Credits(amount), "task".to_owned(), at_ms);
        match &made {
            Ok(_) => {
                assert!(new && amount > 0);
                *self.model.balances.entry(user.clone()).or_default() += amount;
                self.model.issued += amount;
                Model::remember(&mut self.model.made, id);
            }
            Err(error) => assert!(!new || amount == 0, "{error}"),
        }
        made
    }

    fn hold(&mut self, user: &UserName, at_ms: u64) -> Result<Transfer, BookError> {
        let (id, new) = self.id();
        let amount = 1 + self.rng.below(1_500_000);
        let made = self.book.hold(id, user, Credits(amount), "query".to_owned(), at_ms);
        let balance = self.model.balances.entry(user.clone()).or_default();
        match &made {
            Ok(_) => {
                assert!(new && *balance >= amount);
                *balance -= amount;
                self.model.open.push((id, user.clone(), amount));
                Model::remember(&mut self.model.made, id);
            }
            Err(BookError::Insufficient { balance: told, .. }) => {
                assert!(*balance < amount && told.0 == *balance);
            }
            Err(error) => assert!(!new, "{error}"),
        }
        made
    }

    /// Posts or voids: an open hold, or now and then one that is resolved already or never was.
    fn resolve(&mut self, at_ms: u64) -> Result<Transfer, BookError> {
        let posts = self.rng.below(2) == 0;
        let end = |book: &mut Book, id| if posts { book.post(id, at_ms) } else { book.void(id, at_ms) };
        if self.model.open.is_empty() || self.rng.below(8) == 0 {
            let gone = Self::pick(&mut self.rng, &self.model.resolved);
            let id = gone.unwrap_or_else(|| TransferId::derive("never", &[&at_ms.to_le_bytes()]));
            let made = end(&mut self.book, id);
            assert!(matches!(made, Err(BookError::NoHold(_))), "{made:?}");
            return made;
        }
        let place = self.rng.below(self.model.open.len() as u64) as usize;
        let (id, user, amount) = self.model.open.swap_remove(place);
        let made = end(&mut self.book, id).unwrap();
        assert_eq!(made.amount.0, amount);
        if posts {
            self.model.revenue += amount;
        } else {
            *self.model.balances.get_mut(&user).unwrap() += amount;
        }
        Model::remember(&mut self.model.resolved, id);
        Ok(made)
    }

    fn look(&self) {
        let held: u64 = self.model.open.iter().map(|(_, _, amount)| amount).sum();
        let spread: u64 = self.model.balances.values().sum();
        assert_eq!(self.model.issued, spread + held + self.model.revenue);
        let totals = (Credits(self.model.issued), Credits(held), Credits(self.model.revenue));
        assert_eq!(self.book.totals(), totals);
        for (user, balance) in &self.model.balances {
            assert_eq!(self.book.balance(user).0, *balance, "{user}");
        }
        assert_eq!(self.book.holds().len(), self.model.open.len());
    }
}

#[test]
fn a_million_operations_keep_every_invariant_and_replay() {
    let mut trial = Trial {
        rng: Rng::new(7),
        users: (0..USERS).map(|n| format!("user{n}").parse().unwrap()).collect(),
        book: Book::default(),
        model: Model::default(),
        next: 0,
        refused: 0,
    };
    let (mut replayed, mut auditor) = (Book::default(), Auditor::default());
    let mut kinds = BTreeMap::<Kind, u64>::new();
    for n in 0..OPERATIONS {
        let before = trial.book.head();
        match trial.step(n) {
            Ok(row) => {
                assert_eq!((row.seq, row.prev), (before.seq + 1, before.hash));
                replayed.replay(&row).unwrap();
                auditor.row(&row).unwrap();
                *kinds.entry(row.kind).or_default() += 1;
            }
            Err(_) => {
                assert_eq!(trial.book.head(), before);
                trial.refused += 1;
            }
        }
        if n % LOOK_EVERY == 0 {
            trial.look();
        }
    }
    trial.look();
    assert!(kinds.len() == 4 && kinds.values().all(|count| *count > 50_000), "{kinds:?}");
    assert!(trial.refused > 50_000, "{}", trial.refused);
    assert_eq!(replayed, trial.book);
    let summary = auditor.finish().unwrap();
    assert_eq!(summary.head, trial.book.head());
    for (user, balance) in &trial.model.balances {
        assert_eq!(summary.net.get(&format!("user:{user}")).copied().unwrap_or(0), i128::from(*balance));
    }
    assert_eq!(summary.open.len(), trial.model.open.len());
}
