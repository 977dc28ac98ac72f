//! The events that the programs print with `--json`, one object a line, as far as the demo reads them.
//!
//! Unknown events and unknown fields are passed over, so that programs may say more; a line that is no event is an
//! error, because standard output promises nothing else.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What `hydra-coordinator` says. Ids may be numbers or text.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Coordinator {
    /// It listens.
    Ready { addr: String, params: u64, vocab: u64, train_tokens: u64 },
    /// A worker's session is open.
    Joined { worker: Value, user: String },
    /// A task has been handed to the worker's socket, so long after both were there.
    Pushed { worker: Value, wait_us: f64 },
    /// An update was good, and is paid.
    Accepted { user: String, amount: f64 },
    /// An update was not good.
    Rejected { user: String, reason: String },
    /// A new version of the model. Losses are in nats a token on held-out text, absent where not measured.
    Round {
        version: u64,
        #[serde(default)]
        val_loss: Option<f64>,
        #[serde(default)]
        val_bits_per_byte: Option<f64>,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What `hydra-worker` says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Worker {
    /// It is connected.
    Ready { device: String },
    /// Work was paid.
    Credited { amount: f64, balance: f64 },
    /// Work was not paid.
    Unpaid { reason: String },
    /// The connection is lost; it tries again.
    Disconnected {},
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What `hydra-query` says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Query {
    /// A piece of the answer.
    Token { text: String },
    /// The whole answer is there, and paid.
    Answer {
        tokens: u64,
        version: u64,
        #[serde(default)]
        val_loss: Option<f64>,
        charged: f64,
        balance: f64,
    },
    /// What the user has.
    Balance { balance: f64 },
    /// No answer, and why.
    Refused { reason: String },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// One line as an event; the error quotes the line.
pub fn read<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let start: String = line.chars().take(200).collect();
        format!("a line that is not an event of the contract ({error}): {start}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_more_is_passed_over() {
        let ready = r#"{"event":"ready","addr":"127.0.0.1:5000","run":"r","params":1480000,"vocab":5000,"train_tokens":9,"val_tokens":1,"version":0}"#;
        assert_eq!(
            read(ready),
            Ok(Coordinator::Ready {
                addr: "127.0.0.1:5000".to_owned(),
                params: 1_480_000,
                vocab: 5000,
                train_tokens: 9
            })
        );
        assert_eq!(read(r#"{"event":"left","worker":"w1"}"#), Ok(Coordinator::Other));
        assert_eq!(
            read(r#"{"event":"pushed","task":3,"worker":7,"wait_us":250}"#),
            Ok(Coordinator::Pushed { worker: Value::from(7), wait_us: 250.0 })
        );
    }

    #[test]
    fn a_round_without_a_measured_loss_is_still_a_round() {
        let expected = Coordinator::Round { version: 4, val_loss: None, val_bits_per_byte: None };
        assert_eq!(read(r#"{"event":"round","version":4,"val_loss":null,"updates":2}"#), Ok(expected));
    }

    #[test]
    fn credits_are_whole_hyd_with_or_without_decimals() {
        assert_eq!(
            read(r#"{"event":"credited","task":1,"amount":1,"balance":12.5}"#),
            Ok(Worker::Credited { amount: 1.0, balance: 12.5 })
        );
        assert_eq!(
            read(
                r#"{"event":"answer","text":"x","tokens":9,"version":3,"val_loss":6.5,"charged":0.5,"balance":0,"id":"q"}"#
            ),
            Ok(Query::Answer { tokens: 9, version: 3, val_loss: Some(6.5), charged: 0.5, balance: 0.0 })
        );
    }

    #[test]
    fn anything_else_is_an_error_that_quotes_the_line() {
        for line in ["", "hello", "{}", r#"{"event":"ready"}"#, "[1]"] {
            let error = read::<Coordinator>(line).unwrap_err();
            assert!(error.ends_with(line), "{error}");
        }
    }
}
