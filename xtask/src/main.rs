//! `cargo xtask`: set-up, build, tests, demo and measurements of this repository.
//!
//! Nothing in the workspace depends on it, and it depends on nothing of the workspace: it must compile within seconds
//! on a machine that has no libtorch yet. Exit codes are listed in `failure.rs`. Windows needs WSL.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(unix)]
mod bench;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod demo;
#[cfg(unix)]
mod failure;
#[cfg(unix)]
mod floors;
#[cfg(unix)]
mod progress;
#[cfg(unix)]
mod repo;
#[cfg(unix)]
mod setup;
#[cfg(unix)]
mod test;
#[cfg(unix)]
mod torture;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    match unix::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            std::process::ExitCode::from(failure.code())
        }
    }
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("error: cargo xtask runs on Linux and macOS; on Windows, use WSL");
    std::process::ExitCode::from(9)
}

#[cfg(unix)]
mod unix {
    use clap::{Parser, Subcommand};

    use crate::failure::Failure;
    use crate::repo::Repo;
    use crate::{bench, child, demo, setup, test, torture};

    /// Set-up, build, tests, demo and measurements of HydraAI.
    #[derive(Parser)]
    #[command(name = "cargo xtask", bin_name = "cargo xtask")]
    struct Args {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        /// Bring libtorch into the cache folder and point this checkout at it
        Setup {
            /// Bring the CUDA libraries too (about 2.5 GB to download, 4 GB on disk)
            #[arg(long)]
            cuda: bool,
            /// Download again, whatever is there
            #[arg(long)]
            force: bool,
        },
        /// Set up, then build every program at the release level
        Build,
        /// Set up, then run every check: format, dependencies, lints, tests
        Test {
            /// Leave out clippy
            #[arg(long)]
            fast: bool,
        },
        /// Set up, build, then let a coordinator and two workers train a small model and answer two questions
        Demo {
            /// How long to train
            #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(5..))]
            seconds: u64,
            /// Keep the run in hydra-run/, to go on with it
            #[arg(long)]
            keep: bool,
        },
        /// Set up, then measure: a table for people, one line of JSON, and failure where a bar is missed
        Bench {
            #[command(subcommand)]
            bench: bench::Bench,
        },
        /// Set up, build, then kill and cut off a coordinator and its workers for minutes, and judge every promise
        Torture(torture::Options),
        /// Become another program that ends when this one's parent ends
        #[command(hide = true)]
        Leash {
            parent: i32,
            #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
            command: Vec<std::ffi::OsString>,
        },
    }

    pub fn run() -> Result<(), Failure> {
        let command = Args::parse().command;
        if let Command::Leash { parent, command } = &command {
            return Err(child::become_leashed(*parent, command).into());
        }
        let repo = Repo::find()?;
        match command {
            Command::Setup { cuda, force } => setup::run(&repo, setup::Options { cuda, force }),
            Command::Build => {
                setup::run(&repo, setup::Options::default())?;
                repo.build()
            }
            Command::Test { fast } => {
                setup::run(&repo, setup::Options::default())?;
                test::run(&repo, fast)
            }
            Command::Demo { seconds, keep } => {
                setup::run(&repo, setup::Options::default())?;
                repo.build()?;
                demo::run(&repo, std::time::Duration::from_secs(seconds), keep)
            }
            Command::Bench { bench } => {
                setup::run(&repo, setup::Options::default())?;
                bench::run(&repo, &bench)
            }
            Command::Torture(options) => {
                setup::run(&repo, setup::Options::default())?;
                repo.build()?;
                torture::run(&repo, &options)
            }
            Command::Leash { .. } => unreachable!("handled above"),
        }
    }
}
