//! The coordinator: everything around the pure [`hydra_core::hub::Hub`] that a run needs.
//!
//! [`data`] turns text into shards, [`store`] keeps what must survive, [`serve`] runs the hub with its sockets and
//! threads, [`commands`] answers questions about a run from its folder, [`average`] is what answers where it is better
//! than the newest version, [`pretrained`] writes and reads models as other tools have them. The rules (who gets which
//! task, when a round closes, who is paid) are the hub's and not here.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
// Public for `examples/arena` alone, which measures what would answer.
#[doc(hidden)]
pub mod average;
mod commands;
pub mod data;
mod fail;
mod pretrained;
mod readers;
// Public for `examples/pages` alone, which times the pages.
#[doc(hidden)]
pub mod screen;
// Public for `examples/arena` and `examples/merge` alone, which need the learner and a run without sockets.
#[doc(hidden)]
pub mod serve;
pub mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

/// The command line, for completions and man pages.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// The command line without `serve`, which may stand after flags, too: what is served is said by the same flags with and
/// without it, and clap would take them only before a subcommand.
fn without_serve(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let command = command();
    let takes =
        |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag) && arg.get_action().takes_values());
    let mut words: Vec<_> = words.collect();
    let mut place = 1;
    while let Some(flag) = words.get(place).and_then(|word| word.to_str()?.strip_prefix("--")) {
        // A value may be called `serve`, too.
        place += 1 + usize::from(takes(flag));
    }
    if words.get(place).is_some_and(|word| word == "serve") {
        words.remove(place);
    }
    words
}

/// The program.
pub fn run() -> ExitCode {
    let args = Args::parse_from(without_serve(std::env::args_os()));
    let result = match args.command {
        None | Some(Command::Serve) => serve::serve(&args),
        Some(ref command) => commands::run(command, &args),
    };
    if matches!(args.command, None | Some(Command::Serve)) {
        // A thread that still measures or checks must not have libtorch taken down under it.
        hydra_shell::exit::leave(result)
    }
    hydra_shell::exit::report(result)
}
