//! Answers on their way to those who asked: whoever takes text more slowly than the model draws it gets longer pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hydra_core::hub::{Fact, QueryNo};
use hydra_core::limits;

use super::{Driver, Source};

/// While a session's outbox has no more room than this, pieces wait together. What its answers have waiting when they
/// end needs room, too: four of the longest fit in, at 32 bytes a token.
const ROOM: usize = limits::OUTBOX / 2;

/// A part of an answer's text.
pub struct Piece {
    pub text: String,
    /// Tokens of the answer up to its end.
    pub tokens: u32,
}

/// An answer that is being drawn.
#[derive(Default)]
pub struct Running {
    /// Asks the thread that draws it to stop.
    pub stop: Arc<AtomicBool>,
    /// Text that waits for room, in as few pieces as it fits in.
    behind: Vec<Piece>,
}

impl Running {
    /// Adds text; gives what goes out now that there is so much room.
    fn push(&mut self, piece: Piece, room: usize) -> Vec<Piece> {
        match self.behind.last_mut() {
            Some(last) if last.text.len() + piece.text.len() <= limits::PIECE_BYTES => {
                last.text.push_str(&piece.text);
                last.tokens = piece.tokens;
            }
            _ => self.behind.push(piece),
        }
        if room > ROOM { self.rest() } else { Vec::new() }
    }

    fn rest(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.behind)
    }
}

impl Driver {
    /// The model has drawn more of an answer.
    pub(super) fn on_piece(&mut self, query: QueryNo, piece: Piece) {
        let session = self.hub.asker(query);
        let room = session.and_then(|id| self.callers.room(id).or_else(|| Some(self.sessions.get(&id)?.room())));
        // Nobody asks any more for one that is not running.
        let Some(running) = self.running.get_mut(&query) else { return };
        let pieces = running.push(piece, room.unwrap_or(limits::OUTBOX));
        self.say(query, pieces);
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

    fn say(&mut self, query: QueryNo, pieces: Vec<Piece>) {
        for Piece { text, tokens } in pieces {
            self.handle(Fact::Piece { query, text, tokens });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_wait_together_while_there_is_little_room_and_none_is_too_long() {
        let mut running = Running::default();
        let mut tokens = 0;
        let mut push = |text: &str, room| {
            tokens += 1;
            running.push(Piece { text: text.to_owned(), tokens }, room)
        };
        let mut said = push("a", limits::OUTBOX);
        assert_eq!((said.len(), said[0].tokens), (1, 1));
        let words: Vec<_> = (0..3_000).map(|n| format!("{n} é ")).collect();
        for word in &words {
            said.extend(push(word, ROOM));
        }
        assert_eq!(said.len(), 1);
        said.extend(push("b", ROOM + 1));
        assert_eq!(said.last().map(|piece| piece.tokens), Some(3_002), "as many as the text up to its end");
        said.extend(push("c", 0));
        assert!(said.iter().all(|piece| piece.text.len() <= limits::PIECE_BYTES));
        assert!(said.len() < 12, "{}", said.len());
        said.extend(running.rest());
        let text: String = said.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(text, format!("a{}bc", words.concat()));
    }
}
