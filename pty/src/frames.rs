//! Bytes of a program as a screen that only ever shows complete frames.

use vt100::{Parser, Screen};

/// The emulator cannot break a line on a screen of one row, nor put a wide character on one of one column; and what a
/// program had under way for the size before may still come.
const LEAST: u16 = 2;

/// Begins a synchronized update: a frame.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// Ends it.
const END: &[u8] = b"\x1b[?2026l";
/// Behind a program's last output; an escape sequence that terminals pass over and programs do not send.
pub const OVER: &[u8] = b"\x1b_hydra-pty:over\x1b\\";

/// The screen, and what has come of the next frame.
pub struct Frames {
    parser: Parser,
    pending: Vec<u8>,
    /// Within a frame.
    inside: bool,
    count: u64,
    bytes: u64,
    over: bool,
}

impl Frames {
    pub fn new(columns: u16, rows: u16) -> Self {
        let parser = Parser::new(rows.max(LEAST), columns.max(LEAST), 0);
        Self { parser, pending: Vec::new(), inside: false, count: 0, bytes: 0, over: false }
    }

    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// Complete frames so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.over = true;
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.screen_mut().set_size(rows.max(LEAST), columns.max(LEAST));
    }

    /// Takes what came; [`advance`](Self::advance) shows it.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
    }

    /// Goes on to the next screen that what came has made, one frame at a time; whether there was one.
    pub fn advance(&mut self) -> bool {
        while let Some((at, marker)) = first_marker(&self.pending) {
            let piece = self.cut(at + marker.len());
            self.parser.process(&piece[..at]);
            self.inside = marker == BEGIN;
            self.count += u64::from(marker == END);
            self.over |= marker == OVER;
            if at > 0 || marker == OVER {
                return true;
            }
        }
        if self.inside {
            return false;
        }
        let piece = self.cut(self.pending.len() - begun_marker(&self.pending));
        self.parser.process(&piece);
        !piece.is_empty()
    }

    /// Takes the beginning off what is pending.
    fn cut(&mut self, length: usize) -> Vec<u8> {
        let rest = self.pending.split_off(length);
        std::mem::replace(&mut self.pending, rest)
    }
}

/// The first marker in `bytes`, and where it begins.
fn first_marker(bytes: &[u8]) -> Option<(usize, &'static [u8])> {
    let marker_at = |at: usize| [BEGIN, END, OVER].into_iter().find(|marker| bytes[at..].starts_with(marker));
    (0..bytes.len()).find_map(|at| marker_at(at).map(|marker| (at, marker)))
}

/// Bytes at the end that may be the beginning of a marker.
fn begun_marker(bytes: &[u8]) -> usize {
    let most = OVER.len().min(bytes.len());
    let begins = |length: &usize| {
        let tail = &bytes[bytes.len() - length..];
        [BEGIN, END, OVER].into_iter().any(|marker| marker.starts_with(tail))
    };
    (1..=most).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every screen that the bytes make.
    fn screens(frames: &mut Frames, bytes: &[u8]) -> Vec<String> {
        frames.take(bytes);
        let mut seen = Vec::new();
        while frames.advance() {
            seen.push(frames.screen().contents().trim_end().to_owned());
        }
        seen
    }

    #[test]
    fn a_frame_is_seen_whole_or_not_at_all() {
        let mut frames = Frames::new(20, 2);
        assert_eq!(screens(&mut frames, b"before \x1b[?20"), ["before"]);
        assert!(screens(&mut frames, b"26h\x1b[Hhalf a ").is_empty());
        assert_eq!((frames.screen().contents().trim_end(), frames.count()), ("before", 0));
        assert_eq!(screens(&mut frames, b"frame\x1b[?2026lx"), ["half a frame", "half a framex"]);
        assert_eq!(frames.count(), 1);
    }

    #[test]
    fn frames_that_come_together_are_seen_one_by_one() {
        let mut frames = Frames::new(20, 2);
        let both = b"\x1b[?2026h\x1b[Hone\x1b[?2026l\x1b[?2026h\x1b[Htwo\x1b[?2026l\x1b[?2026h\x1b[Hthr";
        assert_eq!(screens(&mut frames, both), ["one", "two"]);
        assert_eq!(frames.count(), 2);
    }

    #[test]
    fn what_was_under_way_for_a_larger_screen_may_come_to_a_tiny_one() {
        let mut frames = Frames::new(80, 24);
        for size in [0, 1] {
            frames.resize(size, size);
            screens(&mut frames, "many words, 宽 ones too\r\n".repeat(3).as_bytes());
        }
    }

    #[test]
    fn every_cut_gives_the_same() {
        let all = [b"a\x1b[?2026h\x1b[31mb\x1b[?2026lc\x1b[m\x1b[?2026hd".as_slice(), OVER].concat();
        for cut in 0..all.len() {
            let mut frames = Frames::new(20, 2);
            screens(&mut frames, &all[..cut]);
            screens(&mut frames, &all[cut..]);
            let got = (frames.screen().contents(), frames.count(), frames.is_over());
            assert_eq!(got, ("abcd".to_owned(), 1, true), "cut at {cut}: a last, broken frame shows at the end");
        }
    }
}
