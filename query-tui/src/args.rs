//! The command line of `hydra-query`.

use std::path::PathBuf;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use hydra_core::ids::UserName;
use hydra_shell::address::{self, Address};

use crate::api_keys::Wish;
use crate::sampling::Sampling;

const EXAMPLES: &str = "\
Examples:
  hydra-query alice \"What is Python?\"       answer on standard output
  hydra-query alice - < question.txt        prompt from standard input
  hydra-query alice                         a chat; in a pipe: line after line
  hydra-query alice --balance               what alice has
  hydra-query alice --api-key new           a key for OpenAI-style clients
  hydra-query alice \"Once\" --temperature 0  always the likeliest next token
  hydra-query alice \"Hello\" --coordinator lab.example.org:5000 --json

Credits are earned with hydra-worker. Every question stands alone: the model
knows of none before. Of one that is longer than its window it reads the end.";

/// Asks the model that is being trained; an answer costs credits.
#[derive(Debug, Parser)]
#[command(name = "hydra-query", version, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Args {
    /// Whose credits are spent [default: the first name that a coordinator has taken]
    #[arg(value_parser = user)]
    pub user: Option<UserName>,
    /// What to ask; - reads it from standard input; without it, a chat
    pub prompt: Option<String>,
    /// The coordinator: HOST:PORT, or a ws://, wss://, http:// or https:// address
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:5000")]
    pub coordinator: Address,
    /// Print the balance and end
    #[arg(long, conflicts_with = "prompt")]
    pub balance: bool,
    /// Make, list or revoke API keys for OpenAI-style clients, and end: new, list, revoke (all) or revoke:ID
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["prompt", "balance"])]
    pub api_key: Option<Wish>,
    #[command(flatten)]
    pub sampling: Sampling,
    /// File with the key that owns the name; made if there is none [default: in the configuration folder]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Run without a screen (the default where there is no terminal)
    #[arg(long)]
    pub headless: bool,
    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", hydra_shell::exit::table())
}

/// Who writes a question without quotes is told of them.
pub fn with_quotes(mut error: clap::Error) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => !word.starts_with('-'),
        _ => false,
    };
    if error.kind() == ErrorKind::UnknownArgument && word {
        let tip = "put the question in quotes: hydra-query NAME \"What is a token?\"";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn user(text: &str) -> Result<UserName, String> {
    let named = address::user_name(text, "hydra-query NAME --coordinator");
    // A question by itself.
    named.map_err(|why| if text.contains(' ') { format!("{why}; the name comes before the question") } else { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_quotes_is_told_of_them() {
        let told = |line: &str| with_quotes(Args::try_parse_from(line.split(' ')).unwrap_err()).to_string();
        assert!(told("hydra-query alice What is a token").contains("in quotes"));
        assert!(!told("hydra-query alice What --is").contains("in quotes"));
    }

    fn parse(line: &str) -> Result<Args, clap::error::ErrorKind> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_contract_is_understood() {
        let args =
            parse("hydra-query alice hello --max-new-tokens 5 --temperature 0 --top-k 3 --top-p 0.9 --seed 7 --json");
        let args = args.unwrap();
        assert_eq!((args.user.unwrap().as_str(), args.prompt.as_deref()), ("alice", Some("hello")));
        let query = args.sampling.query("x").unwrap();
        assert_eq!((query.max_new_tokens, query.temperature, query.seed), (Some(5), Some(0.0), Some(7)));
        assert_eq!((query.top_k, query.top_p), (Some(3), Some(0.9)));
        assert_eq!(args.coordinator.to_string(), "ws://127.0.0.1:5000/ws");
        assert!(args.json && !args.headless);
        assert_eq!(parse("hydra-query alice -").unwrap().prompt.as_deref(), Some("-"));
        assert!(parse("hydra-query").unwrap().user.is_none());
        assert!(user("What is a token?").unwrap_err().ends_with("the name comes before the question"));
        assert_eq!(parse("hydra-query a --api-key new").unwrap().api_key, Some(Wish::New));
        let one = Wish::Revoke(Some("0f".to_owned()));
        assert_eq!(parse("hydra-query a --api-key revoke:0F").unwrap().api_key, Some(one));
        assert!(parse("hydra-query bob --balance --key k --coordinator wss://x.example").unwrap().balance);
    }

    #[test]
    fn bad_values_are_bad_usage() {
        for line in [
            "hydra-query a*b",
            "hydra-query 192.168.1.20 hello",
            "hydra-query a x --temperature -1",
            "hydra-query a x --temperature nan",
            "hydra-query a x --temperature 11",
            "hydra-query a x --top-p 0",
            "hydra-query a x --top-p 1.5",
            "hydra-query a x --max-new-tokens 0",
            "hydra-query a x --max-new-tokens 4097",
            "hydra-query a x --seed -3",
            "hydra-query a x --coordinator ftp://x",
            "hydra-query a x --balance",
            "hydra-query a x --api-key new",
            "hydra-query a --balance --api-key new",
            "hydra-query a --api-key",
            "hydra-query a --api-key make",
            "hydra-query a --api-key revoke:xyz",
            "hydra-query a --api-key revoke:",
            "hydra-query a x y",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_names_every_exit_code() {
        let help = <Args as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("  5  too few credits"), "{help}");
    }

    #[test]
    fn the_help_fits_80_columns() {
        let help = <Args as clap::CommandFactory>::command().term_width(80).render_long_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        // As it is written, with no line broken by clap.
        assert!(help.contains(long_help().trim_end()), "{help}");
    }
}
