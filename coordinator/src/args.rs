//! The command line of `hydra-coordinator`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use hydra_core::ids::UserName;
use hydra_shell::numbers;

const EXAMPLES: &str = "\
Examples:
  hydra-coordinator                                train on the built-in primer
  hydra-coordinator --data book.txt --data notes/  train on your own text
  hydra-coordinator --preset tiny --data book.txt --stop-after-tasks 200
  hydra-coordinator --listen 0.0.0.0:5000          for workers elsewhere, too
  hydra-coordinator balance alice                  what a user has
  hydra-coordinator ledger verify                  check every transfer

Settings come from a preset, then --config FILE, then HYDRA_* variables, then
flags; --print-config shows them all.";

/// HydraAI's coordinator: pushes training tasks to workers, merges what they learn, pays them, answers queries.
#[derive(Debug, Parser)]
#[command(name = "hydra-coordinator", version, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
    /// Folder of the run [default: ./hydra-run]
    #[arg(long, global = true, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Print one JSON object a line on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", hydra_shell::exit::table())
}

/// What else it can do; without any of these it serves.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the coordinator (the default)
    Serve,
    /// The run in numbers
    Status,
    /// Every user with key, balance and accepted tasks
    Users,
    /// What a user has
    Balance {
        /// The user's name
        user: UserName,
    },
    /// Look at the ledger itself
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Write the model that answers as a folder that Python's transformers loads
    Export {
        /// Folder to write to
        #[arg(value_name = "FOLDER")]
        dir: PathBuf,
    },
    /// Measure the model that answers on a text
    Eval {
        /// The text: files or folders
        #[arg(long, value_name = "FILE", num_args = 1..)]
        data: Vec<PathBuf>,
    },
}

/// Questions about the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Recompute every balance from the transfers and check the chain; names the first bad row
    Verify,
    /// Print every transfer as one JSON object a line
    Export,
}

/// Flags of serving.
#[derive(Debug, ClapArgs)]
pub struct Serve {
    /// Address to accept connections on [default: 127.0.0.1:5000]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Text to train on: a file or folder (.txt .md .jsonl, plain, .gz, .zst); may be repeated [default: the primer]
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Text to measure on [default: the last tenth of each training file]
    #[arg(long, value_name = "PATH")]
    pub val_data: Vec<PathBuf>,
    /// Sizes and recipe: tiny, small, shakespeare, base, large [default: small]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// How text becomes tokens: bpe:N or bytes [default: the preset's]
    #[arg(long, value_name = "bpe:N|bytes")]
    pub tokenizer: Option<String>,
    /// Begin from this model instead of random weights: a folder with config.json, model.safetensors, tokenizer.json
    #[arg(long, value_name = "DIR", conflicts_with = "tokenizer")]
    pub init: Option<PathBuf>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Decides the first weights and the order of the data
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Run without a screen (the default where there is no terminal)
    #[arg(long)]
    pub headless: bool,
    /// Write the log to files of this name, one a day, instead of standard error or besides the screen
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Stop after so many accepted tasks
    #[arg(long, value_name = "N", value_parser = many, allow_negative_numbers = true)]
    pub stop_after_tasks: Option<u64>,
    /// Stop after so many trained tokens; the learning rate falls towards it
    #[arg(long, value_name = "N", value_parser = many, allow_negative_numbers = true)]
    pub stop_after_tokens: Option<u64>,
    /// Stop after so many rounds
    #[arg(long, value_name = "N", value_parser = many, allow_negative_numbers = true)]
    pub stop_after_rounds: Option<u64>,
    /// Stop at this held-out loss (nats a token)
    #[arg(long, value_name = "X", value_parser = loss, allow_negative_numbers = true)]
    pub stop_at_loss: Option<f64>,
    /// Print every setting with where it comes from, as TOML, and end
    #[arg(long)]
    pub print_config: bool,
}

// What each may be is the configuration's to say; so much is known of it here.

fn seed(text: &str) -> Result<u64, String> {
    numbers::whole(text, 0..=u64::MAX)
}

fn many(text: &str) -> Result<u64, String> {
    numbers::whole(text, 1..=u64::MAX)
}

fn loss(text: &str) -> Result<f64, String> {
    numbers::number(text, 0.0..=100.0, "nats a token")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn serve_takes_its_flags_on_either_side() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(std::ffi::OsString::from);
            Args::try_parse_from(crate::without_serve(words)).unwrap()
        };
        for words in [
            &["hydra-coordinator", "serve", "--preset", "tiny", "--run", "serve"][..],
            &["hydra-coordinator", "--preset", "tiny", "--run", "serve", "serve"],
            &["hydra-coordinator", "--preset", "tiny", "--run", "serve"],
            &["hydra-coordinator", "--json", "serve", "--preset", "tiny", "--run", "serve"],
            &["hydra-coordinator", "--run", "serve", "--headless", "serve", "--preset=tiny"],
            &["hydra-coordinator", "--run=serve", "--preset", "tiny", "serve", "--seed", "1"],
        ] {
            let args = parse(words);
            assert_eq!((args.serve.preset.as_deref(), args.run), (Some("tiny"), Some(PathBuf::from("serve"))));
        }
    }

    #[test]
    fn eval_takes_several_texts() {
        for words in [&["--data", "a", "b", "--json"][..], &["--json", "--data", "a", "--data", "b"]] {
            let args = Args::try_parse_from(["hydra-coordinator", "eval"].iter().chain(words)).unwrap();
            let Some(Command::Eval { data }) = args.command else { panic!("it is eval") };
            assert_eq!(data, ["a", "b"].map(PathBuf::from));
        }
        let args = Args::try_parse_from(["hydra-coordinator", "--data", "a", "eval"]).unwrap();
        assert_eq!(args.serve.data, [PathBuf::from("a")], "before the command");
    }

    #[test]
    fn a_wrong_number_is_told_what_would_do() {
        for (flag, value, words) in [
            ("--seed", "x", "it must be a whole number, 0 or more"),
            ("--stop-after-tasks", "0", "it must be a whole number, 1 or more"),
            ("--stop-after-rounds", "-3", "it must be a whole number, 1 or more"),
            ("--stop-at-loss", "-1", "it must be a number of nats a token from 0 to 100"),
        ] {
            let error = Args::try_parse_from(["hydra-coordinator", flag, value]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_help_fits_80_columns() {
        let mut command = Args::command().term_width(80);
        command.build();
        let help = command.render_long_help().to_string();
        // As it is written, with no line broken by clap.
        assert!(help.contains(long_help().trim_end()), "{help}");
        let others = command.get_subcommands_mut().map(|command| command.render_long_help().to_string());
        for help in std::iter::once(help).chain(others) {
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }
}
