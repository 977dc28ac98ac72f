//! `cargo xtask`: set-up, build, tests, demo and measurements of this repository.
//!
//! Nothing in the workspace depends on it, and of the workspace it uses `hydra-pty` alone: it must compile within
//! seconds on a machine that has no libtorch yet. Exit codes are listed in `failure.rs`. Windows needs WSL.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(unix)]
mod bench;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod demo;
#[cfg(unix)]
mod dist;
#[cfg(unix)]
mod failure;
#[cfg(unix)]
mod floors;
#[cfg(unix)]
mod fuzz;
#[cfg(unix)]
mod progress;
#[cfg(unix)]
mod repo;
#[cfg(unix)]
mod screenshots;
#[cfg(unix)]
mod setup;
#[cfg(unix)]
mod sim;
#[cfg(unix)]
mod terminals;
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
    use crate::{bench, child, demo, dist, fuzz, screenshots, setup, sim, test, torture};

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
            /// Keep the run in demo-run/, to go on with it
            #[arg(long)]
            keep: bool,
        },
        /// Set up, then write shell completions and man pages of the three programs into target/dist/
        Dist,
        /// Set up, build, let a real run train for a minute, and draw its screens into docs/screenshots/
        Screenshots {
            /// Take the programs in this folder instead of building them
            #[arg(long, value_name = "DIR")]
            programs: Option<std::path::PathBuf>,
        },
        /// Set up, then measure: a table for people, one line of JSON, and failure where a bar is missed
        Bench {
            #[command(subcommand)]
            bench: bench::Bench,
        },
        /// Set up, build, then kill and cut off a coordinator and its workers for minutes, and judge every promise
        Torture(torture::Options),
        /// Run the whole system in one thread on a virtual clock, from a seed (docs/simulation.md)
        Sim {
            /// Run one seed, and print what happened
            #[arg(long, value_name = "N", required_unless_present = "sweep", conflicts_with = "sweep")]
            seed: Option<u64>,
            /// Run this many seeds on all cores, and name those that fail
            #[arg(long, value_name = "N")]
            sweep: Option<u64>,
            /// The first seed of a sweep
            #[arg(long, value_name = "N", default_value_t = 0)]
            from: u64,
            /// Workers and people who ask, in all
            #[arg(long, value_name = "N")]
            agents: Option<u64>,
            /// How long things go wrong, on the virtual clock
            #[arg(long, value_name = "N")]
            seconds: Option<u64>,
            /// Print the whole log of a seed
            #[arg(long)]
            trace: bool,
            /// Switch a mistake on, to see that it is found
            #[arg(long, value_name = "NAME")]
            bug: Option<String>,
        },
        /// Look for inputs that break what reads bytes of strangers, files and flags (needs cargo-fuzz)
        Fuzz {
            /// Only this one: frames, updates, tokenizer or settings
            target: Option<String>,
            /// How long each
            #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
            minutes: u64,
        },
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
            Command::Dist => {
                setup::run(&repo, setup::Options::default())?;
                dist::run(&repo)
            }
            Command::Screenshots { programs } => {
                setup::run(&repo, setup::Options::default())?;
                screenshots::run(&repo, programs.as_deref())
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
            Command::Sim { seed, sweep, from, agents, seconds, trace, bug } => {
                sim::run(&repo, &sim::Options { seed, sweep, from, agents, seconds, trace, bug })
            }
            Command::Fuzz { target, minutes } => fuzz::run(&repo, target.as_deref(), minutes),
            Command::Leash { .. } => unreachable!("handled above"),
        }
    }
}
