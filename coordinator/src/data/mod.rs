//! Text in, token shards out: reading files, holding text out, the tokenizer, and a run's prepared data on disk.
//!
//! Invariants: the same inputs give the same shards, byte for byte; documents stay separate (each ends with the
//! tokenizer's end-of-text token); no held-out text reaches the tokenizer's training or a shard; a run that was
//! prepared once needs its original files no more, and notices when its own files were altered.
//!
//! Which shard a task uses, and how windows are drawn from it, is decided elsewhere.

pub mod primer;
pub mod read;
pub mod shards;
pub mod split;
pub mod tokenizer;

pub use read::{ReadError, Source, read};
#[cfg(test)]
pub use shards::prepare;
pub use shards::{DataError, Dataset, Shard, TOKENIZER, is_prepared, load, load_tokenizer, make, save};
pub use split::hold_out;
pub use tokenizer::{PieceDecoder, Tokenizer, TokenizerError};
