//! Tokenizers from any `tokenizer.json`, and any bytes through tokenizers: what is encoded comes back exactly.
//!
//! The first byte of an input says which: 0 the whole rest is a `tokenizer.json`; 1 the rest is text for the tokenizer
//! of plain bytes; else text for a small BPE tokenizer.

use std::sync::LazyLock;

use hydra_config::TokenizerSpec;

// The coordinator's own, without the rest of the coordinator, which needs libtorch.
#[allow(dead_code, unused_imports, missing_docs)]
#[path = "../../coordinator/src/data"]
mod data {
    pub mod tokenizer;
}

use data::tokenizer::{PieceDecoder, Tokenizer};

static BYTES: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::plain_bytes);
static BPE: LazyLock<Tokenizer> = LazyLock::new(small_bpe);

/// What the small BPE tokenizer learned its pieces from, and a good text to begin with.
pub const TEXT: &str = include_str!("../../coordinator/primer/hydra.md");

fn small_bpe() -> Tokenizer {
    let spec = TokenizerSpec::Bpe { vocab: 400 };
    Tokenizer::train(spec, &[TEXT, "été 東京 🙂🙂"]).expect("the text is enough for 400 pieces")
}

/// `tokenizer.json` of the tokenizers that are fuzzed.
pub fn files() -> [String; 2] {
    [&BYTES, &BPE].map(|tokenizer| tokenizer.json().to_owned())
}

/// Reads a tokenizer, or encodes a text.
pub fn run(data: &[u8]) {
    match data.split_first() {
        None => {}
        Some((0, json)) => {
            let Ok(json) = std::str::from_utf8(json) else { return };
            if let Ok(tokenizer) = Tokenizer::from_json(json.to_owned()) {
                round_trip(&tokenizer, json.as_bytes());
                round_trip(&tokenizer, "An été:\n\n\t🙂 \u{7f}<|endoftext|> it's".as_bytes());
                round_trip(&tokenizer, &(0..=255).collect::<Vec<u8>>());
            }
        }
        Some((1, text)) => round_trip(&BYTES, text),
        Some((_, text)) => round_trip(&BPE, text),
    }
}

fn round_trip(tokenizer: &Tokenizer, bytes: &[u8]) {
    let ids = tokenizer.encode_bytes(bytes);
    assert!(ids.iter().all(|id| u32::from(*id) < tokenizer.vocab_size()), "an id is beyond the vocabulary");
    assert!(tokenizer.decode(&ids) == bytes, "the bytes do not come back");
    let mut decoder = PieceDecoder::new();
    let mut text: String = ids.iter().map(|id| decoder.push(tokenizer, *id)).collect();
    text.push_str(&decoder.flush());
    assert!(text == String::from_utf8_lossy(bytes), "streaming gives another text");
    // Ids that come from a model, which may draw any.
    let drawn: Vec<u16> = bytes.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect();
    let decoded = tokenizer.decode(&drawn).len() as u64;
    assert!(tokenizer.bytes_of(&drawn) <= decoded);
}
