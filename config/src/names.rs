//! Names that settings and flags share: presets, tokenizers, codecs.

use std::fmt;
use std::str::FromStr;

use hydra_core::codec::Codec;

use crate::suggest;

/// A named set of sizes with the recipe that fits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// For trying things out: bpe:5000, width 128, 4 heads, 1 layer, context 256.
    Tiny,
    /// The default, for laptops: bpe:10000, width 256, 4 heads, 2 layers, context 512.
    Small,
    /// The shape of nanoGPT's recipe for a CPU: bytes, width 128, 4 heads, 4 layers, context 64.
    Shakespeare,
    /// About 30 M parameters.
    Base,
    /// About 100 M parameters.
    Large,
}

impl Preset {
    /// Every preset, smallest first but for the comparison's.
    pub const ALL: [Self; 5] = [Self::Tiny, Self::Small, Self::Shakespeare, Self::Base, Self::Large];
    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] = &["tiny", "small", "shakespeare", "base", "large"];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Its settings, as a configuration file would write them.
    pub fn toml(self) -> &'static str {
        match self {
            Self::Tiny => include_str!("../presets/tiny.toml"),
            Self::Small => include_str!("../presets/small.toml"),
            Self::Shakespeare => include_str!("../presets/shakespeare.toml"),
            Self::Base => include_str!("../presets/base.toml"),
            Self::Large => include_str!("../presets/large.toml"),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no preset has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset {0:?}{hint}: the presets are {known}", hint = did_you_mean(.0, Preset::NAMES), known = Preset::NAMES.join(", "))]
pub struct UnknownPreset(String);

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| UnknownPreset(text.to_owned()))
    }
}

/// `, did you mean …?` in parentheses, or nothing.
pub(crate) fn did_you_mean(found: &str, known: &[&'static str]) -> String {
    suggest::nearest(found, known.iter().copied()).map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// How text becomes token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenizerSpec {
    /// Each byte is a token.
    Bytes,
    /// Byte-level BPE, trained on the run's data.
    Bpe {
        /// Pieces to train; text that is too short for so many gives fewer.
        vocab: u32,
    },
}

impl TokenizerSpec {
    /// The least pieces of a BPE: one more than the bytes.
    pub const MIN_VOCAB: u32 = 257;
    /// The most: token ids travel as two bytes.
    pub const MAX_VOCAB: u32 = 65_536;

    /// Tokens in the vocabulary as asked for; a trained tokenizer may have fewer.
    pub fn vocab(self) -> u32 {
        match self {
            Self::Bytes => 256,
            Self::Bpe { vocab } => vocab,
        }
    }
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Bpe { vocab } => write!(f, "bpe:{vocab}"),
        }
    }
}

/// Why a text names no tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tokenizer is bytes, or bpe:N with N from {} to {}", TokenizerSpec::MIN_VOCAB, TokenizerSpec::MAX_VOCAB)]
pub struct TokenizerSpecError;

impl FromStr for TokenizerSpec {
    type Err = TokenizerSpecError;

    fn from_str(text: &str) -> Result<Self, TokenizerSpecError> {
        if text == "bytes" {
            return Ok(Self::Bytes);
        }
        let digits = text.strip_prefix("bpe:").ok_or(TokenizerSpecError)?;
        let vocab: u32 = digits.parse().map_err(|_| TokenizerSpecError)?;
        let fits = digits.bytes().all(|b| b.is_ascii_digit()) && (Self::MIN_VOCAB..=Self::MAX_VOCAB).contains(&vocab);
        fits.then_some(Self::Bpe { vocab }).ok_or(TokenizerSpecError)
    }
}

/// The choice by a worker's link, then the codecs in the order of [`Codec::ALL`].
pub(crate) const CODEC_CHOICES: &[&str] = &["auto", "f32", "bf16", "int8", "int4", "sparse256", "sparse64"];
/// The codecs' names, in the order of [`Codec::ALL`].
pub(crate) const CODEC_NAMES: &[&str] = CODEC_CHOICES.split_at(1).1;

/// The codec with this name.
pub(crate) fn codec(name: &str) -> Option<Codec> {
    CODEC_NAMES.iter().position(|known| *known == name).map(|at| Codec::ALL[at])
}
