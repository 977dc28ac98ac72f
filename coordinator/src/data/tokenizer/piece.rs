//! Ids to text while they come: a character is given out when its last byte is here, never in parts.

use super::Tokenizer;

/// Turns ids into text one at a time. All texts given out, joined, are the lossy UTF-8 reading of all bytes.
#[derive(Debug, Default)]
pub struct PieceDecoder {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl PieceDecoder {
    /// A decoder at the beginning of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The characters that `id` completes, often none; bytes that can be no character become U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u16) -> String {
        self.pending.extend_from_slice(tokenizer.piece(id));
        let mut text = String::new();
        loop {
            let (valid, skip) = match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(e) => (e.valid_up_to(), e.error_len()),
            };
            text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
            self.pending.drain(..valid + skip.unwrap_or(0));
            if skip.is_none() {
                return text;
            }
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// What is left at the end of a text: nothing, or U+FFFD for a character that was never finished.
    pub fn flush(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
