//! Whole versions on their way to workers that lack them.
//!
//! Each is as large as the model and lies in memory until the last session that it goes to has all of it, long after
//! the version is kept for anything else. Many slow readers of as many versions would be more than any memory: beyond
//! [`MOST`] versions those of the oldest are given up, and may connect again for the newest.

use std::sync::{Arc, Weak};

/// Versions that travel at a time.
const MOST: usize = 16;

/// What travels, the oldest first, and to whom.
pub struct Wholes<Reader> {
    all: Vec<(Weak<[u8]>, Vec<Reader>)>,
}

impl<Reader> Default for Wholes<Reader> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<Reader> Wholes<Reader> {
    /// These `bytes` go to one more; gives those that are to be given up. A reader that `reads` no more has them all.
    pub fn add(&mut self, bytes: &Arc<[u8]>, reader: Reader, reads: impl Fn(&Reader) -> bool) -> Vec<Reader> {
        for (_, readers) in &mut self.all {
            readers.retain(&reads);
        }
        self.all.retain(|(bytes, readers)| bytes.strong_count() > 0 && !readers.is_empty());
        let these = Arc::downgrade(bytes);
        match self.all.iter_mut().find(|(bytes, _)| bytes.ptr_eq(&these)) {
            Some((_, readers)) => readers.push(reader),
            None => self.all.push((these, vec![reader])),
        }
        let many = self.all.len().saturating_sub(MOST);
        self.all.drain(..many).flat_map(|(_, readers)| readers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_the_oldest_of_too_many_are_given_up_unless_they_are_done() {
        let versions: Vec<Arc<[u8]>> = (0..40).map(|n| Arc::from([n])).collect();
        let mut wholes = Wholes::default();
        // The first three share a version, and the second of them is quick.
        for reader in 0..3 {
            assert_eq!(wholes.add(&versions[0], reader, |_| true), [0; 0]);
        }
        let reads = |reader: &usize| *reader != 1;
        for (reader, bytes) in (3..).zip(&versions[1..MOST]) {
            assert_eq!(wholes.add(bytes, reader, reads), [0; 0]);
        }
        assert_eq!(wholes.add(&versions[MOST], 99, reads), [0, 2]);
        // All have everything: there is room again.
        for (reader, bytes) in (100..).zip(&versions[17..33]) {
            assert_eq!(wholes.add(bytes, reader, |reader| *reader >= 100), [0; 0]);
        }
    }
}
