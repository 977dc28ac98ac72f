//! The command line of `hydra-worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hydra_core::ids::UserName;
use hydra_engine::DeviceChoice;
use hydra_shell::address::{self, Address};
use hydra_shell::numbers;

const EXAMPLES: &str = "\
Examples:
  hydra-worker alice                           train here, earn as alice
  hydra-worker alice lab.example.org:5000      for a coordinator elsewhere
  hydra-worker alice wss://hydra.example.org   encrypted
  hydra-worker alice --tasks 10 --pause 5      ten tasks, 5 s of rest after each
  hydra-worker alice --device cpu --threads 2  leave GPU and other cores alone

Spend what you earned with hydra-query.";

/// Trains what a coordinator pushes; every accepted task earns credits.
#[derive(Debug, Parser)]
#[command(name = "hydra-worker", version, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    /// The name to earn under [default: the first name that a coordinator has taken]
    #[arg(value_parser = user)]
    pub user: Option<UserName>,
    /// The coordinator: HOST:PORT, or a ws://, wss://, http:// or https:// address
    #[arg(default_value = "ws://127.0.0.1:5000")]
    pub coordinator: Address,
    /// Leave after so many paid tasks
    #[arg(long, value_name = "N", value_parser = tasks, allow_negative_numbers = true)]
    pub tasks: Option<u64>,
    /// Rest so long after each task
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0", allow_negative_numbers = true)]
    pub pause: Duration,
    /// What to train on: auto (a GPU if there is one), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// CPU cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<u16>,
    /// File with the key that owns the name; made if there is none [default: in the configuration folder]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Run without a screen (the default where there is no terminal)
    #[arg(long)]
    pub headless: bool,
    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the log to files of this name, one a day, instead of standard error or besides the screen
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", hydra_shell::exit::table())
}

fn seconds(text: &str) -> Result<Duration, String> {
    const DAY: f64 = 86_400.0;
    numbers::number(text, 0.0..=DAY, "seconds").map(Duration::from_secs_f64)
}

fn tasks(text: &str) -> Result<u64, String> {
    numbers::whole(text, 1..=u64::MAX)
}

fn threads(text: &str) -> Result<u16, String> {
    Ok(numbers::whole(text, 1..=256)? as u16)
}

fn user(text: &str) -> Result<UserName, String> {
    address::user_name(text, "hydra-worker NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::error::ErrorKind> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_contract_is_understood() {
        let args =
            parse("hydra-worker alice lab:7 --tasks 3 --pause 1.5 --device cuda:1 --threads 2 --headless --json");
        let args = args.unwrap();
        assert_eq!(args.user.unwrap().as_str(), "alice");
        assert_eq!(args.coordinator.to_string(), "ws://lab:7/ws");
        assert_eq!((args.tasks, args.pause, args.threads), (Some(3), Duration::from_millis(1500), Some(2)));
        assert_eq!(args.device, DeviceChoice::Cuda(1));
        let args = parse("hydra-worker").unwrap();
        assert!(args.user.is_none() && args.tasks.is_none() && args.pause.is_zero());
        assert_eq!(
            (args.device, args.coordinator.to_string().as_str()),
            (DeviceChoice::Auto, "ws://127.0.0.1:5000/ws")
        );
        assert!(parse("hydra-worker bob --key k --log-file l").is_ok());
    }

    #[test]
    fn bad_values_are_bad_usage() {
        for line in [
            "hydra-worker a*b",
            "hydra-worker 192.168.1.20:5000",
            "hydra-worker a ftp://x",
            "hydra-worker a --tasks 0",
            "hydra-worker a --tasks -3",
            "hydra-worker a --threads two",
            "hydra-worker a --pause -1",
            "hydra-worker a --pause nan",
            "hydra-worker a --pause 1e9",
            "hydra-worker a --device tpu",
            "hydra-worker a --threads 0",
            "hydra-worker a b c",
        ] {
            let error = parse(line).unwrap_err();
            // Not as if the value were another argument.
            let value = line.contains(" --") || line.contains(':') || line.contains('*');
            assert_eq!(error == clap::error::ErrorKind::ValueValidation, value, "{line}");
        }
    }

    #[test]
    fn an_address_in_place_of_the_name_is_told_its_place() {
        let told = Args::try_parse_from(["hydra-worker", "192.168.1.20"]).unwrap_err().to_string();
        assert!(told.contains("reads like an address: `hydra-worker NAME 192.168.1.20`"), "{told}");
    }

    #[test]
    fn the_help_names_every_exit_code() {
        let help = <Args as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("  6  no such device"), "{help}");
    }

    #[test]
    fn the_help_fits_80_columns() {
        let help = <Args as clap::CommandFactory>::command().term_width(80).render_long_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        // As it is written, with no line broken by clap.
        assert!(help.contains(long_help().trim_end()), "{help}");
    }
}
