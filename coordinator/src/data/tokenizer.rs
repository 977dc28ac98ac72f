//! Text to token ids and back: plain bytes, or byte-level BPE trained on the run's own text.
//!
//! Invariants: every sequence of bytes comes back from its ids exactly; no text, whatever it says, encodes to the
//! end-of-text token of a BPE tokenizer; ids are below [`Tokenizer::vocab_size`]; `tokenizer.json` is what Hugging
//! Face's libraries read, and its BLAKE3 digest names the tokenizer.
//!
//! With `bytes`, an id *is* the byte, and the end of a text is the NUL byte, which reading refuses in documents.

use std::collections::{HashMap, HashSet};
use std::fmt;

use hydra_config::TokenizerSpec;
use hydra_core::ids::Digest;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::pre_tokenizer::PreTokenizedString;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizer};

mod file;
mod piece;
#[cfg(test)]
mod tests;
mod words;

pub use piece::PieceDecoder;
use words::words;

/// The text of the token that ends each document.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// BPE learns from at most this much text, taken evenly from everywhere: more changes the pieces little.
pub const TRAIN_TEXT: usize = 64 << 20;
/// A run of text without whitespace is encoded in parts of at most this many bytes: the library needs a hundred bytes
/// of memory a token.
const RUN: usize = 64 * 1024;
/// Words whose ids are remembered while a text is encoded: most of a text is made of few words.
const REMEMBERED: usize = 1 << 18;
/// Pieces are shorter than this many bytes: a repeated line of dashes shall not become one piece.
const PIECE: usize = 64;
/// A run of letters longer than this is learned from in parts; training is quadratic in a word's length.
const WORD: usize = 256;

/// Why there is no tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Nothing to learn pieces from.
    #[error("there is no text to train a tokenizer on; give more data")]
    NoText,
    /// The file is no tokenizer, or not one of ours.
    #[error("not a tokenizer of HydraAI: {0}; restore the run's tokenizer.json from a backup, or start a new run")]
    Foreign(String),
    /// The training library failed.
    #[error("training the tokenizer failed: {0}")]
    Training(String),
}

/// A tokenizer in use. Cheap to share behind an `Arc`; all methods take `&self`.
pub struct Tokenizer {
    /// Absent for plain bytes, which need no library.
    bpe: Option<Box<tokenizers::Tokenizer>>,
    /// What each id stands for; nothing for end-of-text.
    pieces: Vec<Box<[u8]>>,
    /// The ids of the single bytes.
    bytes: [u16; 256],
    end_of_text: u16,
    json: String,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("kind", &self.kind())
            .field("vocab", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer that `spec` asks for; BPE learns its pieces from `documents`. Small text gives fewer pieces than
    /// asked for: only pairs that occur at least twice are joined.
    pub fn train(spec: TokenizerSpec, documents: &[&str]) -> Result<Self, TokenizerError> {
        match spec {
            TokenizerSpec::Bytes => Ok(Self::plain_bytes()),
            TokenizerSpec::Bpe { vocab } => Self::train_bpe(vocab, documents),
        }
    }

    /// The tokenizer of plain bytes.
    pub fn plain_bytes() -> Self {
        let chars = byte_chars();
        let vocab: [(String, u32); 256] = std::array::from_fn(|byte| (chars[byte].to_string(), byte as u32));
        let model =
            BPE::builder().vocab_and_merges(vocab, Vec::new()).build().expect("bytes without merges are a model");
        let json = wrap(model, false).to_string(true).expect("a built tokenizer can be written");
        Self::from_json(json).expect("what was just written can be read")
    }

    fn train_bpe(size: u32, documents: &[&str]) -> Result<Self, TokenizerError> {
        let failed = |e: tokenizers::Error| TokenizerError::Training(e.to_string());
        let words = learned_words(&sample(documents, TRAIN_TEXT)).map_err(failed)?;
        if words.is_empty() {
            return Err(TokenizerError::NoText);
        }
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size as usize)
            .min_frequency(2)
            .max_token_length(Some(PIECE))
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<_>>())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build();
        let words = words.iter().map(|(word, count)| (word.as_str().into(), *count)).collect();
        let mut model = BPE::default();
        let special = trainer.do_train(&words, &mut model).map_err(failed)?;
        let mut library = wrap(model, true);
        library.add_special_tokens(special).map_err(failed)?;
        Self::from_json(library.to_string(true).map_err(failed)?)
    }

    /// The tokenizer from the text of a `tokenizer.json` that [`Tokenizer::json`] gave.
    pub fn from_json(json: String) -> Result<Self, TokenizerError> {
        let foreign = |what: &str| TokenizerError::Foreign(what.to_owned());
        let mut library = file::read(&json)?;
        let size = library.get_vocab_size(true);
        if size > TokenizerSpec::MAX_VOCAB as usize {
            return Err(foreign("it has more than 65,536 tokens"));
        }
        let end_of_text = library.token_to_id(END_OF_TEXT);
        let chars = byte_chars();
        let pieces = (0..size as u32)
            .map(|id| match library.id_to_token(id) {
                _ if Some(id) == end_of_text => Some(Box::default()),
                token => token?.chars().map(|c| chars.iter().position(|known| *known == c).map(|b| b as u8)).collect(),
            })
            .collect::<Option<Vec<Box<[u8]>>>>()
            .ok_or_else(|| foreign("a token is no sequence of bytes"))?;
        let mut bytes = [0; 256];
        for (byte, c) in chars.iter().enumerate() {
            let id = library.token_to_id(&c.to_string()).ok_or_else(|| foreign("a byte has no token"))?;
            bytes[byte] = id as u16;
        }
        let identity = bytes.iter().enumerate().all(|(byte, id)| byte == usize::from(*id));
        let (bpe, end_of_text) = match end_of_text {
            Some(id) => {
                // The mark's spelling inside a text is text; only `encode_documents` ends a text.
                library.set_encode_special_tokens(true);
                (Some(Box::new(library)), id as u16)
            }
            None if identity && size == 256 => (None, 0),
            None => return Err(foreign("it has no end-of-text token")),
        };
        Ok(Self { bpe, pieces, bytes, end_of_text, json })
    }

    /// The content of `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// BLAKE3 of [`Tokenizer::json`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.json.as_bytes())
    }

    /// How people call it: `bytes` or `bpe:N` with the N that was reached.
    pub fn kind(&self) -> TokenizerSpec {
        if self.bpe.is_some() { TokenizerSpec::Bpe { vocab: self.vocab_size() } } else { TokenizerSpec::Bytes }
    }

    /// Tokens that exist; less than asked for if the text was small. A model's vocabulary may be larger: the ids
    /// beyond stand for nothing and are never encoded.
    pub fn vocab_size(&self) -> u32 {
        self.pieces.len() as u32
    }

    /// The token that ends each document; generation stops at it.
    pub fn end_of_text(&self) -> u16 {
        self.end_of_text
    }

    /// Whether [`END_OF_TEXT`] is one of its tokens; plain bytes end a text with NUL.
    pub fn has_end_mark(&self) -> bool {
        self.bpe.is_some()
    }

    /// The ids of a text, without end-of-text.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        let mut ids = Vec::new();
        self.encode_each(std::iter::once((text, false)), &mut ids);
        ids
    }

    /// The ids of any bytes: like [`Tokenizer::encode`] where they are UTF-8, byte by byte where not.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Vec<u16> {
        let mut ids = Vec::new();
        for part in bytes.utf8_chunks() {
            ids.extend(self.encode(part.valid()));
            ids.extend(part.invalid().iter().map(|byte| self.bytes[usize::from(*byte)]));
        }
        ids
    }

    /// The ids of all documents in a row, each followed by end-of-text; empty ones are left out.
    pub fn encode_documents(&self, documents: &[&str]) -> Vec<u16> {
        let mut ids = Vec::new();
        let filled = documents.iter().filter(|document| !document.is_empty());
        self.encode_each(filled.map(|document| (*document, true)), &mut ids);
        ids
    }

    /// Appends the ids of the texts, with end-of-text after those that say so.
    fn encode_each<'a>(&self, texts: impl Iterator<Item = (&'a str, bool)>, ids: &mut Vec<u16>) {
        // Where in `ids` a word's own begin and end.
        let mut known: HashMap<&str, (usize, usize)> = HashMap::new();
        for (text, ends) in texts {
            match &self.bpe {
                None => ids.extend(text.bytes().map(u16::from)),
                Some(library) => {
                    for word in words(text, RUN) {
                        if let Some((from, to)) = known.get(word) {
                            ids.extend_from_within(*from..*to);
                            continue;
                        }
                        let from = ids.len();
                        let encoding = library
                            .encode_fast(word, false)
                            .expect("a byte-level tokenizer has a piece for every byte");
                        ids.extend(encoding.get_ids().iter().map(|id| *id as u16));
                        if known.len() < REMEMBERED {
                            known.insert(word, (from, ids.len()));
                        }
                    }
                }
            }
            ids.extend(ends.then_some(self.end_of_text));
        }
    }

    /// The bytes that an id stands for; none for the end-of-text of a BPE tokenizer and for ids that do not exist.
    pub fn piece(&self, id: u16) -> &[u8] {
        self.pieces.get(usize::from(id)).map_or(&[], |piece| piece)
    }

    /// The bytes that the ids stand for.
    pub fn decode(&self, ids: &[u16]) -> Vec<u8> {
        ids.iter().flat_map(|id| self.piece(*id)).copied().collect()
    }

    /// How many bytes of text the ids stand for, end-of-text counting as none: the divisor of *bits per byte*.
    pub fn bytes_of(&self, ids: &[u16]) -> u64 {
        ids.iter().filter(|id| **id != self.end_of_text).map(|id| self.piece(*id).len() as u64).sum()
    }
}

/// A model as a tokenizer of Hugging Face's library; `words`: whether pieces stay within words.
fn wrap(model: BPE, words: bool) -> tokenizers::Tokenizer {
    let level = ByteLevel::new(false, false, words);
    let mut library = tokenizers::Tokenizer::new(model);
    library.with_pre_tokenizer(Some(level)).with_decoder(Some(level));
    library
}

/// The words that pieces are learned from, in the byte-level alphabet, and how often each occurs.
fn learned_words(sample: &HashMap<&str, u64>) -> tokenizers::Result<HashMap<String, u64>> {
    let level = ByteLevel::new(false, false, true);
    let mut counts = HashMap::new();
    for (text, count) in sample {
        let mut split = PreTokenizedString::from(*text);
        level.pre_tokenize(&mut split)?;
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            let mut rest = word;
            while !rest.is_empty() {
                let (part, left) = rest.split_at(rest.floor_char_boundary(WORD));
                *counts.entry(part.to_owned()).or_default() += count;
                rest = left;
            }
        }
    }
    Ok(counts)
}

/// How often each word occurs in about `bound` bytes of the documents, taken evenly from the whole.
fn sample<'a>(documents: &[&'a str], bound: usize) -> HashMap<&'a str, u64> {
    let total: usize = documents.iter().map(|document| document.len()).sum();
    let share = |seen: usize| if total <= bound { seen as u128 } else { seen as u128 * bound as u128 / total as u128 };
    let (mut seen, mut taken) = (0, 0);
    let mut counts = HashMap::new();
    for word in documents.iter().flat_map(|document| words(document, RUN)) {
        seen += word.len();
        // Whether a word is taken must not depend on its own length, or short ones would be favoured.
        if taken < share(seen) {
            taken += word.len() as u128;
            *counts.entry(word).or_default() += 1;
        }
    }
    counts
}

/// The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019, GPT-2's encoder): the
/// printable ones for themselves, the others in order from U+0100.
fn byte_chars() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
            return char::from(byte as u8);
        }
        next += 1;
        char::from_u32(next - 1).expect("below the surrogates")
    })
}
