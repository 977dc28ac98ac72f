//! How programs end: one documented exit code for each kind of expected failure, and how it is told to people.
//!
//! A [`Failure`] is the user's or the world's fault and says what to do next. Anything else that reaches
//! [`report`] is a bug of ours and says so.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a bug, or something nobody expected |
//! | 2 | bad usage: see `--help` |
//! | 3 | cannot connect to the coordinator |
//! | 4 | refused by the coordinator (another's name, other protocol, bad proof) |
//! | 5 | too few credits |
//! | 6 | no such device to compute on, or one that fails |
//! | 7 | data or a file cannot be read |
//! | 8 | the address is in use |
//! | 9 | the database was written by a newer version |
//! | 10 | the run folder is missing, damaged or in use, or the disk is full |
//! | 11 | libtorch is missing |
//! | 12 | the configuration is wrong |
//! | 130 | interrupted: stopped at once, or before there was anything to finish |

use std::fmt;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::terminal::{Keep, sanitize};
use crate::writer;

/// A documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A bug, or something nobody expected.
    Bug = 1,
    /// Bad usage; the argument parser exits with it by itself.
    Usage = 2,
    /// No coordinator answers.
    Connect = 3,
    /// The coordinator refuses the session.
    Refused = 4,
    /// Fewer credits than the price.
    TooPoor = 5,
    /// The device that was asked for is not there, or fails.
    NoDevice = 6,
    /// Data, or a file that was named, cannot be read.
    Data = 7,
    /// Somebody listens at the address already.
    AddressInUse = 8,
    /// The database's schema is newer than the program.
    NewerDatabase = 9,
    /// The run folder cannot be used.
    RunFolder = 10,
    /// libtorch is missing.
    Libtorch = 11,
    /// A setting, configuration file or key file is wrong.
    Config = 12,
    /// Told twice to stop.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::Bug,
        Self::Usage,
        Self::Connect,
        Self::Refused,
        Self::TooPoor,
        Self::NoDevice,
        Self::Data,
        Self::AddressInUse,
        Self::NewerDatabase,
        Self::RunFolder,
        Self::Libtorch,
        Self::Config,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for `--help` and the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Bug => "a bug, or something nobody expected",
            Self::Usage => "bad usage: see `--help`",
            Self::Connect => "cannot connect to the coordinator",
            Self::Refused => "refused by the coordinator (another's name, other protocol, bad proof)",
            Self::TooPoor => "too few credits",
            Self::NoDevice => "no such device to compute on, or one that fails",
            Self::Data => "data or a file cannot be read",
            Self::AddressInUse => "the address is in use",
            Self::NewerDatabase => "the database was written by a newer version",
            Self::RunFolder => "the run folder is missing, damaged or in use, or the disk is full",
            Self::Libtorch => "libtorch is missing",
            Self::Config => "the configuration is wrong",
            Self::Interrupted => "interrupted: stopped at once, or before there was anything to finish",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of exit codes as plain text, for the end of `--help`.
pub fn table() -> String {
    Exit::ALL.iter().fold("Exit codes:\n".to_owned(), |mut text, exit| {
        let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
        text
    })
}

/// An expected failure: what happened and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What happened; lower case, without a full stop.
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a next step.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// Who stops a program at once waits no longer for those who read it.
const HASTE: Duration = Duration::from_secs(1);

/// The end of `main`: waits until everything that was said is written, prints what went wrong on standard error and
/// gives the exit code. The terminal must be out of any full-screen mode by then.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    told(result).into()
}

/// The same where a thread is still in libtorch, which must not be taken down under it: nothing else is done.
pub fn leave(result: anyhow::Result<()>) -> ! {
    end(told(result))
}

fn told(result: anyhow::Result<()>) -> Exit {
    let told = result.err().map(|error| explain(&error));
    let hurry = matches!(told, Some((Exit::Interrupted, _)));
    writer::finish(hurry.then_some(HASTE));
    let Some((exit, text)) = told else { return Exit::Ok };
    crate::terminal::complain(&text);
    exit
}

/// Ends the process as it is, with threads that wait or compute: no destructor runs.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) fn end(exit: Exit) -> ! {
    // SAFETY: it takes a number, returns nowhere, and touches no memory of ours.
    unsafe { libc::_exit(i32::from(exit.code())) }
}

/// Ends the process as it is, as far as the system lets it.
#[cfg(not(unix))]
pub(crate) fn end(exit: Exit) -> ! {
    std::process::exit(i32::from(exit.code()))
}

/// The exit code and the lines that [`report`] prints.
fn explain(error: &anyhow::Error) -> (Exit, String) {
    let expected = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let Some(failure) = expected.filter(|failure| failure.exit != Exit::Bug) else {
        let text = format!(
            "bug: {}\nhint: this is ours to repair; please report it with the command, its `--version` and its log \
             (HYDRA_LOG=debug says more)\n",
            sanitize(&format!("{error:#}"), Keep::Lines)
        );
        return (Exit::Bug, text);
    };
    // The chain above the failure, if any, says what was being done.
    let mut text = "error: ".to_owned();
    for cause in error.chain() {
        let _ = write!(text, "{}", sanitize(&cause.to_string(), Keep::Lines));
        if cause.is::<Failure>() {
            break;
        }
        text.push_str(": ");
    }
    text.push('\n');
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "hint: {}", sanitize(hint, Keep::Lines));
    }
    (failure.exit, text)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_table_in_the_documentation_is_the_table() {
        let written: Vec<&str> =
            include_str!("exit.rs").lines().filter_map(|line| line.strip_prefix("//! |")).skip(2).collect();
        let built: Vec<String> = Exit::ALL.iter().map(|e| format!(" {} | {} |", e.code(), e.meaning())).collect();
        assert_eq!(written, built);
        assert!(table().contains("\n  130  interrupted"));
        assert!(Exit::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    }

    #[test]
    fn failures_name_the_next_step() {
        let failure = Failure::new(Exit::Connect, "nobody listens at \u{1b}[1mx").hint("start one");
        let (exit, text) = explain(&failure.clone().into());
        assert_eq!((exit, text.as_str()), (Exit::Connect, "error: nobody listens at ␛[1mx\nhint: start one\n"));
        let wrapped = Err::<(), _>(failure).context("while asking").unwrap_err();
        let (exit, text) = explain(&wrapped);
        assert_eq!(exit, Exit::Connect);
        assert!(text.starts_with("error: while asking: nobody listens"), "{text}");
    }

    #[test]
    fn everything_else_is_a_bug() {
        let (exit, text) = explain(&anyhow::anyhow!("index out of range").context("merging"));
        assert_eq!(exit, Exit::Bug);
        assert!(text.starts_with("bug: merging: index out of range\nhint: "), "{text}");
    }
}
