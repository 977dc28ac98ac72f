//! A `tokenizer.json` read by ourselves: the library that tokenizes panics on some files that are none, and takes
//! many that would not give every byte back. Taken are byte-level BPE files without anything that changes text.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};

use super::{END_OF_TEXT, TokenizerError, wrap};

/// The parts of the file that decide how text is tokenized; others (truncation, padding) concern nobody here.
#[derive(Deserialize)]
struct File {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Level>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: String,
    dropout: Option<Value>,
    unk_token: Option<Value>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
}

/// Two pieces that are joined, in the library's own and in the older spelling.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

fn yes() -> bool {
    true
}

impl Model {
    /// What would make it other than plain byte-level BPE.
    fn oddity(&self) -> Option<&'static str> {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let odd = self.dropout.is_some()
            || self.unk_token.is_some()
            || filled(&self.continuing_subword_prefix)
            || filled(&self.end_of_word_suffix)
            || self.byte_fallback
            || self.ignore_merges;
        odd.then_some("its model has dropout, an unknown token, affixes or fallbacks")
    }
}

impl Merge {
    fn pair(self) -> Option<(String, String)> {
        match self {
            Self::Pair(first, second) => Some((first, second)),
            Self::Line(line) => line.split_once(' ').map(|(first, second)| (first.to_owned(), second.to_owned())),
        }
    }
}

/// The library's tokenizer for this file.
pub fn read(json: &str) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let foreign = |what: &str| TokenizerError::Foreign(what.to_owned());
    let other = |error: tokenizers::Error| TokenizerError::Foreign(error.to_string());
    let file: Value = serde_json::from_str(json).map_err(|error| TokenizerError::Foreign(error.to_string()))?;
    if file["model"]["type"] != "BPE" {
        return Err(foreign("it is not byte-level BPE"));
    }
    let File { normalizer, pre_tokenizer, added_tokens, model } =
        serde_json::from_value(file).map_err(|error| TokenizerError::Foreign(error.to_string()))?;
    let level = pre_tokenizer.filter(|level| level.kind == "ByteLevel" && !level.add_prefix_space);
    let Some(level) = level.filter(|_| normalizer.is_none() && model.kind == "BPE") else {
        return Err(foreign("it changes text before it is cut, or does not work on bytes"));
    };
    if let Some(what) = model.oddity() {
        return Err(foreign(what));
    }
    let merges = model.merges.into_iter().map(Merge::pair).collect::<Option<Vec<_>>>();
    let merges = merges.ok_or_else(|| foreign("a merge does not join two pieces"))?;
    if !level.use_regex && !merges.is_empty() {
        return Err(foreign("its pieces span words"));
    }
    let vocab: Vocab = model.vocab.into_iter().collect();
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(other)?;
    let mut library = wrap(bpe, level.use_regex);
    for added in added_tokens {
        if added.content != END_OF_TEXT {
            return Err(foreign("it has other special tokens than the end of a text"));
        }
        library.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).map_err(other)?;
        if library.token_to_id(END_OF_TEXT) != Some(added.id) {
            return Err(foreign("its special token has another number than it says"));
        }
    }
    Ok(library)
}
