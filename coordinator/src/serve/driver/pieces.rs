//! Answers on their way to those who asked: whoever takes text more slowly than the model draws it gets longer pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hydra_core::hub::{Fact, QueryNo};
use hydra_core::limits;

use super::{Driver, Source};

/// While a session's outbox has no more room than this, pieces wait together. What its answers have waiting when they
/// end needs room, too: four of the longest fit in, at 32 bytes a token.
const ROOM: usize = limits::OUTBOX / 2;

/// An answer that is being drawn.
#[derive(Default)]
pub struct Running {
    /// Asks the thread that draws it to stop.
    pub stop: Arc<AtomicBool>,
    /// Text that waits for room, in as few pieces as it fits in.
    behind: Vec<String>,
}

impl Running {
    /// Adds text; gives what goes out now that there is so much room.
    fn push(&mut self, text: String, room: usize) -> Vec<String> {
        match self.behind.last_mut() {
            Some(last) if last.len() + text.len() <= limits::PIECE_BYTES => last.push_str(&text),
            _ => self.behind.push(text),
        }
        if room > ROOM { self.rest() } else { Vec::new() }
    }

    fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.behind)
    }
}

impl Driver {
    /// The model has drawn more of an answer.
    pub(super) fn on_piece(&mut self, query: QueryNo, text: String) {
        let session = self.hub.asker(query);
        let room = session.and_then(|id| self.callers.room(id).or_else(|| Some(self.sessions.get(&id)?.room())));
        // Nobody asks any more for one that is not running.
        let Some(running) = self.running.get_mut(&query) else { return };
        let texts = running.push(text, room.unwrap_or(limits::OUTBOX));
        self.say(query, texts);
    }

    /// An answer has ended: nothing of it waits any longer.
    pub(super) fn end(&mut self, query: QueryNo) {
        if let Some(mut running) = self.running.remove(&query) {
            self.say(query, running.rest());
        }
    }

    /// Nobody wants the answer any more.
    pub(super) fn abandon(&mut self, query: QueryNo) {
        if let Some(running) = self.running.remove(&query) {
            running.stop.store(true, Ordering::Relaxed);
            self.answers.cancel(query);
        }
    }

    /// Has answers that are still to begin drawn from what is best by now.
    pub(super) fn answer_from_best(&mut self) {
        let averaged = self.averaged.clone().filter(|source| self.hub.averaged() == Some(source.version));
        self.answers.answer_from(averaged.unwrap_or_else(|| Source::from(&*self.newest)));
    }

    fn say(&mut self, query: QueryNo, texts: Vec<String>) {
        for text in texts {
            self.handle(Fact::Piece { query, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_wait_together_while_there_is_little_room_and_none_is_too_long() {
        let mut running = Running::default();
        let mut said = running.push("a".to_owned(), limits::OUTBOX);
        assert_eq!(said, ["a"]);
        let words: Vec<_> = (0..3_000).map(|n| format!("{n} é ")).collect();
        for word in &words {
            said.extend(running.push(word.clone(), ROOM));
        }
        assert_eq!(said.len(), 1);
        said.extend(running.push("b".to_owned(), ROOM + 1));
        said.extend(running.push("c".to_owned(), 0));
        assert!(said.iter().all(|text| text.len() <= limits::PIECE_BYTES));
        assert!(said.len() < 12, "{}", said.len());
        said.extend(running.rest());
        assert_eq!(said.concat(), format!("a{}bc", words.concat()));
    }
}
