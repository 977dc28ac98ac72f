//! How an answer is drawn: flags at the start, slash commands later, the same names and bounds for both.
//!
//! What is not set is the run's choice. The bounds are the coordinator's, checked here so that a slip is told before
//! anything is sent.

use clap::Args;
use hydra_core::ids::QueryId;
use hydra_core::limits::NEW_TOKENS;
use hydra_core::proto::Query;
use hydra_shell::exit::Failure;
use hydra_shell::keys;
use hydra_shell::numbers::{self, MUST};

/// Wishes about answers.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Sampling {
    /// At most so many new tokens [default: the run's]
    #[arg(long, value_name = "N", value_parser = max_new_tokens, allow_negative_numbers = true)]
    pub max_new_tokens: Option<u32>,
    /// 0 always takes the likeliest token, 1 draws as the model says, more is wilder [default: the run's]
    #[arg(long, value_name = "X", value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Only the N likeliest tokens; 0: all [default: the run's]
    #[arg(long, value_name = "N", value_parser = top_k, allow_negative_numbers = true)]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together reach X [default: the run's]
    #[arg(long, value_name = "X", value_parser = top_p, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Repeats an answer of the same version of the model, or of the same average of versions [default: random]
    #[arg(long, value_name = "N", value_parser = seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

impl Sampling {
    /// The question, with an id of its own.
    pub fn query(&self, prompt: &str) -> Result<Query, Failure> {
        Ok(Query {
            id: QueryId(keys::random()?),
            prompt: prompt.to_owned(),
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
            raw: false,
            stop: Vec::new(),
        })
    }

    /// Sets what a slash command names (`temp`, `topk`, `topp`, `max`, `seed`); `off` leaves it to the run, no value
    /// only asks. Gives the line to show; nothing if no setting has this name.
    pub fn command(&mut self, name: &str, value: &str) -> Option<Result<String, String>> {
        let (told, result) = match name {
            "temp" | "temperature" => ("temperature", change(&mut self.temperature, value, temperature)),
            "topk" => ("top-k", change(&mut self.top_k, value, top_k)),
            "topp" => ("top-p", change(&mut self.top_p, value, top_p)),
            "max" => ("max-new-tokens", change(&mut self.max_new_tokens, value, max_new_tokens)),
            "seed" => ("seed", change(&mut self.seed, value, seed)),
            _ => return None,
        };
        // Not "it must be", but what the command wants.
        let wants = |why: String| {
            let what = why.strip_prefix(MUST).map(|what| format!("/{name} wants {what}, or off"));
            what.unwrap_or(why)
        };
        let value = |value: Option<String>| match value {
            Some(value) if value == "0" && told == "top-k" => "0, any token may be drawn".to_owned(),
            Some(value) => value,
            // Without one, the coordinator draws a seed for each answer.
            None if name == "seed" => "a new one for each answer".to_owned(),
            None => "the run's default".to_owned(),
        };
        Some(result.map(|set| format!("{told}: {}", value(set))).map_err(wants))
    }
}

fn change<T: Copy + ToString>(
    slot: &mut Option<T>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<String>, String> {
    match text {
        "" => {}
        "off" | "default" => *slot = None,
        text => *slot = Some(parse(text)?),
    }
    Ok(slot.map(|value| value.to_string()))
}

fn top_k(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{MUST}a whole number from 0 (all) to {}", u32::MAX))
}

fn seed(text: &str) -> Result<u64, String> {
    numbers::whole(text, 0..=u64::MAX)
}

fn max_new_tokens(text: &str) -> Result<u32, String> {
    Ok(numbers::whole(text, 1..=u64::from(NEW_TOKENS))? as u32)
}

fn temperature(text: &str) -> Result<f32, String> {
    let bounds = 0.0..=10.0;
    text.parse().ok().filter(|t| bounds.contains(t)).ok_or_else(|| format!("{MUST}a number from 0 (greedy) to 10"))
}

fn top_p(text: &str) -> Result<f32, String> {
    let wrong = || format!("{MUST}a number above 0 and at most 1");
    text.parse().ok().filter(|p| *p > 0.0 && *p <= 1.0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_set_ask_and_unset() {
        let mut sampling = Sampling::default();
        assert_eq!(sampling.command("temp", "0.5"), Some(Ok("temperature: 0.5".to_owned())));
        assert_eq!(sampling.command("temp", ""), Some(Ok("temperature: 0.5".to_owned())));
        assert!(sampling.command("temp", "hot").unwrap().is_err());
        assert_eq!(sampling.command("topk", "0"), Some(Ok("top-k: 0, any token may be drawn".to_owned())));
        assert!(sampling.command("topk", "off").unwrap().is_ok());
        assert_eq!(sampling.temperature, Some(0.5));
        assert_eq!(sampling.command("temp", "off"), Some(Ok("temperature: the run's default".to_owned())));
        assert_eq!(sampling, Sampling::default());
        for (name, value) in [("topk", "3"), ("topp", "0.5"), ("max", "9"), ("seed", "18446744073709551615")] {
            assert!(sampling.command(name, value).unwrap().is_ok(), "{name}");
        }
        assert_eq!((sampling.top_k, sampling.max_new_tokens, sampling.seed), (Some(3), Some(9), Some(u64::MAX)));
        assert_eq!(sampling.command("colour", "red"), None);
        for (name, value, want) in [
            ("seed", "-1", "/seed wants a whole number, 0 or more, or off"),
            ("seed", "18446744073709551616", "/seed wants at most 18446744073709551615, or off"),
            ("topk", "4294967296", "/topk wants a whole number from 0 (all) to 4294967295, or off"),
            ("max", "0", "/max wants a whole number from 1 to 4096, or off"),
            ("topp", "7", "/topp wants a number above 0 and at most 1, or off"),
        ] {
            assert_eq!(sampling.command(name, value), Some(Err(want.to_owned())));
        }
    }

    #[test]
    fn every_question_has_its_own_id() {
        let ask = || Sampling::default().query("x").unwrap().id;
        assert_ne!(ask(), ask());
    }
}
