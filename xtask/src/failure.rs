//! What can stop a command, each with one line that names the next step and an exit code of its own.
//!
//! Codes: 1 a bug or an unexpected system error, 2 wrong arguments (clap's), 3 no pip, 4 download failed,
//! 5 no C++ compiler, 6 disk too small, 7 damaged download, 8 unusable `LIBTORCH`, 9 unsupported platform,
//! 10 build failed, 11 tests failed, 12 demo failed, 13 a bench missed its bar, 14 torture broke a promise,
//! 15 simulation failed, 16 fuzzing found something or could not begin, 130 interrupted.

use std::path::PathBuf;

use crate::progress::megabytes;

/// A failure that the user or the world caused; everything else is [`Failure::Other`].
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// None of the ways to start pip works.
    #[error(
        "pip is not installed: install it (Debian and Ubuntu: `sudo apt install python3-pip`, Fedora: `sudo dnf install \
         python3-pip`, macOS: `brew install python`), or set LIBTORCH to a folder with libtorch {0}"
    )]
    NoPip(&'static str),
    /// pip ran and brought nothing.
    #[error("{what} could not be downloaded: {why}")]
    Download {
        /// The wheel's file name.
        what: String,
        /// The cause and the next step.
        why: String,
    },
    /// torch-sys compiles C++.
    #[error("{0}")]
    NoCompiler(String),
    /// Found out before the download starts, or told by pip.
    #[error(
        "{} has {} free and libtorch needs {} while it is set up: make room, or set XDG_CACHE_HOME to a folder on a larger disk",
        .place.display(), megabytes(*.free), megabytes(*.need)
    )]
    DiskFull {
        /// The cache folder.
        place: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// A wheel's bytes are not the pinned ones.
    #[error(
        "{file} is not the file that this version was made with (its SHA-256 is {found}): run the command again, and if \
         it stays, look for a proxy or mirror that changes packages"
    )]
    Damaged {
        /// The wheel's file name.
        file: String,
        /// The digest of what came, in hex.
        found: String,
    },
    /// A libtorch that the user chose, or whatever lies at `.libtorch`.
    #[error("{0}")]
    BadLibtorch(String),
    /// No wheel for this machine.
    #[error("{0}")]
    Unsupported(String),
    /// cargo has printed why.
    #[error("the build failed; the compiler's messages are above")]
    Build,
    /// The names of the failed checks.
    #[error("failed: {0}")]
    Tests(String),
    /// What went wrong in the demo.
    #[error("the demo failed: {0}")]
    Demo(String),
    /// The figures that do not reach their bars.
    #[error("missed: {0}")]
    Bench(String),
    /// The invariants that did not hold.
    #[error("under torture these did not hold: {0}")]
    Torture(String),
    /// What is known of it; the simulator has printed the rest.
    #[error("the simulation failed: {0}")]
    Simulation(String),
    /// No fuzzer, or a finding.
    #[error("{0}")]
    Fuzz(String),
    /// Ctrl-C, or the system asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A bug or an unexpected error of the system.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::NoPip(_) => 3,
            Self::Download { .. } => 4,
            Self::NoCompiler(_) => 5,
            Self::DiskFull { .. } => 6,
            Self::Damaged { .. } => 7,
            Self::BadLibtorch(_) => 8,
            Self::Unsupported(_) => 9,
            Self::Build => 10,
            Self::Tests(_) => 11,
            Self::Demo(_) => 12,
            Self::Bench(_) => 13,
            Self::Torture(_) => 14,
            Self::Simulation(_) => 15,
            Self::Fuzz(_) => 16,
            Self::Interrupted => 130,
        }
    }
}
