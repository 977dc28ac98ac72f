//! Why there is no dataset: what the user or the disk has to do with it, and the next step.

use std::io;
use std::path::{Path, PathBuf};

use crate::data::read::ReadError;
use crate::data::tokenizer::TokenizerError;

/// Why there is no dataset.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Text cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No tokenizer can be made of the text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// All training files are held out.
    #[error("no text is left to train on: every training file is also a validation file; name other files")]
    NothingToTrain,
    /// A part is too small for the model's window.
    #[error(
        "the {part} text has {tokens} tokens, but one window of the model takes {needs}; give more text, or a model \
         with a shorter context"
    )]
    TooLittle {
        /// `training` or `held-out`.
        part: &'static str,
        /// Tokens there are.
        tokens: u64,
        /// Tokens that one window needs.
        needs: u64,
    },
    /// The folder was prepared before.
    #[error("{dir} already holds prepared data; open it without giving data, or start a new run in another folder")]
    Exists {
        /// The run's folder.
        dir: PathBuf,
    },
    /// The folder was never prepared.
    #[error("{dir} holds no prepared data; start a run there first")]
    Missing {
        /// The run's folder.
        dir: PathBuf,
    },
    /// A prepared file is not what was written.
    #[error("{path} is damaged: {what}; restore it from a backup, or start a new run in another folder")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// Prepared by a newer program.
    #[error("{path} has format {found}, newer than this program's {}; install a newer HydraAI", super::FORMAT)]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The disk is full, or the like.
    #[error("{path} cannot be {doing}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) fn corrupt(path: &Path, what: &dyn ToString) -> DataError {
    DataError::Corrupt { path: path.to_owned(), what: what.to_string() }
}

pub(super) fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { path, doing, source }
}
