//! A run's prepared data: tokenizer, token shards and held-out tokens, as files that are checked when they are opened.
//!
//! `tokenizer.json`, `data/HEX.bin` (token ids, two bytes each, little-endian, named by the beginning of their BLAKE3
//! digest) and, written last, `data/manifest.json`, which names them all with their digests. A folder without a
//! manifest holds no prepared data, whatever else lies in it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(test)]
use hydra_config::TokenizerSpec;
use hydra_core::ids::Digest;
use hydra_core::limits::{PREVIEW_BYTES, SHARD_TOKENS};
use serde::{Deserialize, Serialize};

use super::read::Source;
use super::split::hold_out;
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::store::files::{sync_folder, try_write_whole};

mod error;
#[cfg(test)]
mod tests;

pub use error::DataError;
use error::{corrupt, io_error};

/// The version of the manifest's layout.
const FORMAT: u32 = 1;
/// The tokenizer's file in the run's folder; it outlives a lost `data/`.
pub const TOKENIZER: &str = "tokenizer.json";
const FOLDER: &str = "data";
const MANIFEST: &str = "manifest.json";

/// A part of the training tokens, as it travels to workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// How many tokens.
    pub tokens: u64,
    /// Its first words, for people: no control characters, at most [`PREVIEW_BYTES`] bytes.
    pub preview: String,
    /// Token ids, two bytes each, little-endian.
    pub bytes: Arc<[u8]>,
}

/// Everything that a run trains and measures with.
#[derive(Debug)]
pub struct Dataset {
    /// The training tokens, in order; together all of them, each at most [`SHARD_TOKENS`].
    pub shards: Vec<Shard>,
    /// Tokens in all shards, ends of documents included.
    pub train_tokens: u64,
    /// Bytes of the training text.
    pub train_bytes: u64,
    /// Tokens of the held-out text, ends of documents included.
    pub val_tokens: Vec<u16>,
    /// Bytes of the held-out text: the divisor of *bits per byte* when all of it is scored.
    pub val_bytes: u64,
    /// Turns ids into text and back.
    pub tokenizer: Tokenizer,
}

impl Dataset {
    /// Checks that both parts fill at least one window of `context` tokens and the token after it.
    pub fn check_windows(&self, context: u32) -> Result<(), DataError> {
        let needs = u64::from(context) + 1;
        // Windows are drawn within a shard; shards differ by one token at most.
        let train = self.shards.iter().map(|shard| shard.tokens).min().unwrap_or(0);
        for (part, tokens) in [("training", train), ("held-out", self.val_tokens.len() as u64)] {
            if tokens < needs {
                return Err(DataError::TooLittle { part, tokens, needs });
            }
        }
        Ok(())
    }
}

/// `data/manifest.json`.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    tokenizer: Part,
    train_bytes: u64,
    val_bytes: u64,
    held_out: Part,
    shards: Vec<Part>,
}

/// One file that the manifest vouches for.
#[derive(Serialize, Deserialize)]
struct Part {
    /// Relative to the run's folder.
    file: String,
    /// In hexadecimal.
    blake3: String,
    /// Tokens in it; of the tokenizer, its vocabulary.
    tokens: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    preview: String,
}

/// Whether [`save`] has completed in `dir`.
pub fn is_prepared(dir: &Path) -> bool {
    dir.join(FOLDER).join(MANIFEST).exists()
}

/// [`make`] and [`save`] with a tokenizer that is trained.
#[cfg(test)]
pub fn prepare(
    sources: &[Source],
    val_sources: &[Source],
    spec: TokenizerSpec,
    dir: &Path,
) -> Result<Dataset, DataError> {
    let dataset = make(sources, val_sources, |train| Tokenizer::train(spec, train))?;
    save(&dataset, dir)?;
    Ok(dataset)
}

/// Tokenizes the sources; nothing is written, so that what is made can be looked at first. The tokenizer may look at the
/// training documents.
///
/// Without `val_sources`, the last tenth of each source is held out; with them, sources that are among them are not
/// trained on.
pub fn make(
    sources: &[Source],
    val_sources: &[Source],
    tokenizer: impl FnOnce(&[&str]) -> Result<Tokenizer, TokenizerError>,
) -> Result<Dataset, DataError> {
    let (train, held_out) = parts(sources, val_sources);
    if train.is_empty() {
        return Err(DataError::NothingToTrain);
    }
    let tokenizer = tokenizer(&train)?;
    let ids = tokenizer.encode_documents(&train);
    Ok(Dataset {
        shards: cut(&ids, &tokenizer),
        train_tokens: ids.len() as u64,
        train_bytes: bytes(&train),
        val_tokens: tokenizer.encode_documents(&held_out),
        val_bytes: bytes(&held_out),
        tokenizer,
    })
}

/// The documents to train on and those to measure with.
fn parts<'a>(sources: &'a [Source], val_sources: &'a [Source]) -> (Vec<&'a str>, Vec<&'a str>) {
    if val_sources.is_empty() {
        let (train, held_out): (Vec<_>, Vec<_>) = sources.iter().map(hold_out).unzip();
        return (train.concat(), held_out.concat());
    }
    let held: BTreeSet<&Path> = val_sources.iter().filter_map(|source| source.origin.as_deref()).collect();
    let all = |source: &'a Source| source.documents.iter().map(String::as_str);
    let train = sources.iter().filter(|source| source.origin.as_deref().is_none_or(|origin| !held.contains(origin)));
    (train.flat_map(all).collect(), val_sources.iter().flat_map(all).collect())
}

fn bytes(documents: &[&str]) -> u64 {
    documents.iter().map(|document| document.len() as u64).sum()
}

/// The tokens as shards of equal length, give or take one token.
fn cut(ids: &[u16], tokenizer: &Tokenizer) -> Vec<Shard> {
    let count = ids.len().div_ceil(SHARD_TOKENS);
    let at = |shard: usize| (shard as u128 * ids.len() as u128 / count.max(1) as u128) as usize;
    (0..count)
        .map(|shard| {
            let ids = &ids[at(shard)..at(shard + 1)];
            let bytes = le_bytes(ids);
            Shard {
                digest: Digest::of(&bytes),
                tokens: ids.len() as u64,
                preview: preview(ids, tokenizer),
                bytes: bytes.into(),
            }
        })
        .collect()
}

fn le_bytes(ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// The first words that the ids stand for, safe to print on any terminal.
fn preview(ids: &[u16], tokenizer: &Tokenizer) -> String {
    // A token is one byte or more, except for the ends of documents.
    let text = tokenizer.decode(&ids[..ids.len().min(2 * PREVIEW_BYTES)]);
    let text = String::from_utf8_lossy(&text);
    let mut preview = String::new();
    for word in
        text.trim_start_matches(char::REPLACEMENT_CHARACTER).split(|c: char| c.is_whitespace() || c.is_control())
    {
        let word: String = word.chars().filter(|c| !turns_text(*c)).collect();
        let room = PREVIEW_BYTES - preview.len();
        if word.is_empty() {
            continue;
        }
        if preview.is_empty() {
            preview.push_str(&word[..word.floor_char_boundary(room)]);
        } else if word.len() < room {
            preview.push(' ');
            preview.push_str(&word);
        } else {
            break;
        }
    }
    preview
}

/// Invisible characters that change the direction of what is printed after them.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes the run's data to `dir`, which is made if it is missing.
pub fn save(dataset: &Dataset, dir: &Path) -> Result<(), DataError> {
    if is_prepared(dir) {
        return Err(DataError::Exists { dir: dir.to_owned() });
    }
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(io_error(&folder, "made"))?;
    let write_atomic =
        |folder: &Path, name: &str, bytes: &[u8]| try_write_whole(folder, name, |out| out.write_all(bytes)).map(|_| ());
    let tokenizer = dataset.tokenizer.json().as_bytes();
    write_atomic(dir, TOKENIZER, tokenizer).map_err(io_error(&dir.join(TOKENIZER), "written"))?;

    let mut written = BTreeSet::new();
    let mut keep = |bytes: &[u8], digest: Digest, preview: &str| {
        let blake3 = digest.to_string();
        let name = format!("{}.bin", &blake3[..16]);
        if written.insert(digest) {
            write_atomic(&folder, &name, bytes).map_err(io_error(&folder.join(&name), "written"))?;
        }
        let tokens = bytes.len() as u64 / 2;
        Ok(Part { file: format!("{FOLDER}/{name}"), blake3, tokens, preview: preview.to_owned() })
    };
    let shards = dataset
        .shards
        .iter()
        .map(|shard| keep(&shard.bytes, shard.digest, &shard.preview))
        .collect::<Result<Vec<_>, DataError>>()?;
    let held_out = le_bytes(&dataset.val_tokens);
    let manifest = Manifest {
        format: FORMAT,
        tokenizer: Part {
            file: TOKENIZER.to_owned(),
            blake3: dataset.tokenizer.digest().to_string(),
            tokens: u64::from(dataset.tokenizer.vocab_size()),
            preview: String::new(),
        },
        train_bytes: dataset.train_bytes,
        val_bytes: dataset.val_bytes,
        held_out: keep(&held_out, Digest::of(&held_out), "")?,
        shards,
    };
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
    write_atomic(&folder, MANIFEST, &json).map_err(io_error(&folder.join(MANIFEST), "written"))?;
    sync_folder(dir).map_err(io_error(dir, "written"))
}

/// The tokenizer alone.
pub fn load_tokenizer(dir: &Path) -> Result<Tokenizer, DataError> {
    tokenizer(dir, &manifest(dir)?)
}

fn tokenizer(dir: &Path, manifest: &Manifest) -> Result<Tokenizer, DataError> {
    let json = checked(dir, &manifest.tokenizer)?.0;
    let json = String::from_utf8(json).map_err(|e| corrupt(&dir.join(TOKENIZER), &e))?;
    Ok(Tokenizer::from_json(json)?)
}

fn manifest(dir: &Path) -> Result<Manifest, DataError> {
    let path = dir.join(FOLDER).join(MANIFEST);
    let json = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DataError::Missing { dir: dir.to_owned() },
        _ => io_error(&path, "read")(source),
    })?;
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(|e| corrupt(&path, &e))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(found) if found > u64::from(FORMAT) => return Err(DataError::Newer { path, found: found as u32 }),
        _ => {}
    }
    serde_json::from_value(value).map_err(|e| corrupt(&path, &e))
}

/// Opens what [`save`] wrote to `dir` and checks every byte of it.
pub fn load(dir: &Path) -> Result<Dataset, DataError> {
    let manifest = manifest(dir)?;
    let tokenizer = tokenizer(dir, &manifest)?;
    let shards = manifest.shards.iter().map(|part| shard(dir, part)).collect::<Result<Vec<_>, _>>()?;
    let val_tokens = shard(dir, &manifest.held_out)?
        .bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    Ok(Dataset {
        train_tokens: shards.iter().map(|shard| shard.tokens).sum(),
        train_bytes: manifest.train_bytes,
        val_tokens,
        val_bytes: manifest.val_bytes,
        shards,
        tokenizer,
    })
}

fn shard(dir: &Path, part: &Part) -> Result<Shard, DataError> {
    let (bytes, digest) = checked(dir, part)?;
    if bytes.len() as u64 != 2 * part.tokens {
        return Err(corrupt(&dir.join(&part.file), &format!("{} bytes for {} tokens", bytes.len(), part.tokens)));
    }
    Ok(Shard { digest, tokens: part.tokens, preview: part.preview.clone(), bytes: bytes.into() })
}

/// The content of a file that the manifest names, if it is still what was written.
fn checked(dir: &Path, part: &Part) -> Result<(Vec<u8>, Digest), DataError> {
    let path = dir.join(&part.file);
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => corrupt(&path, &"it is missing"),
        _ => io_error(&path, "read")(source),
    })?;
    let digest = Digest::of(&bytes);
    if digest.to_string() == part.blake3 {
        Ok((bytes, digest))
    } else {
        Err(corrupt(&path, &"its content does not match its digest"))
    }
}
