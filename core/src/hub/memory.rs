//! Something of each of as many workers as there can be sessions. Where there is no room left, what was used longest ago
//! is forgotten: names and worker ids are free, so whoever makes some up must not choose by them whom they push out.

use std::collections::BTreeMap;

use crate::ids::{UserName, WorkerId};
use crate::limits;

/// Who: the user, and which of the user's workers.
pub(super) type Who = (UserName, WorkerId);

/// What is remembered of each.
#[derive(Debug)]
pub(super) struct Memory<T> {
    all: BTreeMap<Who, (u64, T)>,
    /// Whose is whose turn to be forgotten, by when it was used last, which `uses` counts.
    turns: BTreeMap<u64, Who>,
    uses: u64,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), turns: BTreeMap::new(), uses: 0 }
    }
}

impl<T> Memory<T> {
    pub fn get(&self, who: &Who) -> Option<&T> {
        self.all.get(who).map(|(_, kept)| kept)
    }

    /// To change it, which is no use of it.
    pub fn get_mut(&mut self, who: &Who) -> Option<&mut T> {
        self.all.get_mut(who).map(|(_, kept)| kept)
    }

    /// What is remembered of all workers of a user.
    pub fn of_user(&self, user: &UserName) -> impl Iterator<Item = (&Who, &T)> {
        let all = (user.clone(), WorkerId([0; 8]))..=(user.clone(), WorkerId([255; 8]));
        self.all.range(all).map(|(who, (_, kept))| (who, kept))
    }

    pub fn remove(&mut self, who: &Who) -> Option<T> {
        let (turn, kept) = self.all.remove(who)?;
        self.turns.remove(&turn);
        Some(kept)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.all.len(), self.turns.len());
        self.all.len()
    }
}

impl<T: Default> Memory<T> {
    /// Uses it; nothing known yet is the default.
    pub fn used(&mut self, who: &Who) -> &mut T {
        if self.all.len() >= limits::SESSIONS
            && !self.all.contains_key(who)
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.all.remove(&oldest);
        }
        self.uses += 1;
        let (turn, kept) = self.all.entry(who.clone()).or_default();
        self.turns.remove(turn);
        *turn = self.uses;
        self.turns.insert(self.uses, who.clone());
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_whatever_its_name() {
        let who = |name: &str, n: usize| -> Who {
            let mut worker = [0; 8];
            worker.copy_from_slice(&n.to_le_bytes());
            (name.parse().expect("a plain name"), WorkerId(worker))
        };
        let mut memory = Memory::<u32>::default();
        // The first in the alphabet, and the first to come.
        *memory.used(&who("aaron", 0)) = 7;
        *memory.used(&who("zoe", 0)) = 8;
        for n in 0..3 * limits::SESSIONS {
            memory.used(&who("made-up", n));
            assert_eq!(*memory.used(&who("aaron", 0)), 7, "it is used again and again");
        }
        assert_eq!(memory.get(&who("zoe", 0)), None);
        assert_eq!(memory.len(), limits::SESSIONS);
        assert_eq!(memory.of_user(&"aaron".parse().expect("a plain name")).count(), 1);
        assert_eq!(memory.remove(&who("aaron", 0)), Some(7));
        assert_eq!(memory.len(), limits::SESSIONS - 1);
    }
}
