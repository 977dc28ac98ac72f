//! A question, the stream of its answer, and its end.

use serde::{Deserialize, Serialize};

use crate::credits::Credits;
use crate::ids::{QueryId, VersionNo};
use crate::limits;

/// See [`ClientMsg::Query`](super::ClientMsg::Query).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Drawn by the client; the same when the same query is sent again.
    pub id: QueryId,
    /// Any text.
    pub prompt: String,
    /// At most this many new tokens; absent: the run's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// 0 is greedy; absent: the run's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Only the k likeliest tokens; absent or 0: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together reach p; absent or 1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Repeats an answer of the same version, or of the same average; absent: drawn from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The model is given the prompt as it is: without the run's template, and without the run's stops.
    #[serde(default, deserialize_with = "super::wire::nil_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
    /// Further texts that end the answer; at most [`crate::limits::STOPS`].
    #[serde(default, deserialize_with = "super::wire::nil_is_default", skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

impl Query {
    /// A prompt, answered as the run thinks best.
    pub fn new(id: QueryId, prompt: impl Into<String>) -> Self {
        Self {
            id,
            prompt: prompt.into(),
            max_new_tokens: None,
            temperature: None,
            top_k: None,
            top_p: None,
            seed: None,
            raw: false,
            stop: Vec::new(),
        }
    }

    /// The first setting that is out of its bounds, by its name, and what it must be.
    pub fn wrong_setting(&self) -> Option<(&'static str, String)> {
        if self.max_new_tokens.is_some_and(|n| n == 0 || n > limits::NEW_TOKENS) {
            return Some(("max_new_tokens", format!("max_new_tokens must be from 1 to {}", limits::NEW_TOKENS)));
        }
        if self.temperature.is_some_and(|t| !(0.0..=10.0).contains(&t)) {
            return Some(("temperature", "temperature must be from 0 (greedy) to 10".to_owned()));
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Some(("top_p", "top_p must be above 0 and at most 1".to_owned()));
        }
        let wrong = |stop: &String| stop.is_empty() || stop.len() > limits::LABEL_BYTES;
        (self.stop.len() > limits::STOPS || self.stop.iter().any(wrong)).then(|| {
            let text = format!("stop: at most {} texts of 1 to {} bytes", limits::STOPS, limits::LABEL_BYTES);
            ("stop", text)
        })
    }
}

/// See [`ClientMsg::Cancel`](super::ClientMsg::Cancel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which query.
    pub id: QueryId,
}

/// See [`ServerMsg::Piece`](super::ServerMsg::Piece).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which query.
    pub id: QueryId,
    /// Counts the pieces from 0.
    pub index: u32,
    /// Whole characters; at most [`crate::limits::PIECE_BYTES`].
    pub text: String,
}

/// See [`ServerMsg::Answer`](super::ServerMsg::Answer).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which query.
    pub id: QueryId,
    /// The version that answered, all of it.
    pub version: VersionNo,
    /// Whether it was the average of the versions up to that one, not its own weights.
    #[serde(default, deserialize_with = "super::wire::nil_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub averaged: bool,
    /// Pieces that were sent; the client can tell whether it has them all.
    pub pieces: u32,
    /// New tokens.
    pub tokens: u32,
    /// Held-out loss of what answered, nats a token, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The version that this is the loss of, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_version: Option<VersionNo>,
    /// Micro-credits charged.
    pub charged: Credits,
    /// The user's balance after it.
    pub balance: Credits,
    /// What ended it.
    pub finish: Finish,
}

/// What ended an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its text, or wrote a stop.
    Stop,
    /// `max_new_tokens` were written.
    Length,
    /// The client cancelled after the first piece; charged.
    Cancelled,
}

/// See [`ServerMsg::Refused`](super::ServerMsg::Refused).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which query.
    pub id: QueryId,
    /// Why, for programs.
    pub code: RefusedCode,
    /// Why, for people, with the next step.
    pub text: String,
    /// The user's balance.
    pub balance: Credits,
    /// Seconds until it makes sense to ask again, where the coordinator knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_s: Option<u32>,
}

/// Every reason for which a query is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// Less than the price.
    Insufficient,
    /// No text in the prompt.
    EmptyPrompt,
    /// More text than [`crate::limits::PROMPT_BYTES`].
    HugePrompt,
    /// A sampling setting is out of bounds.
    BadSetting,
    /// Too many queries are waiting.
    Busy,
    /// This id was already used.
    Duplicate,
    /// Cancelled before the first piece.
    Cancelled,
    /// The model could not answer; the coordinator's log says why.
    Failed,
    /// The coordinator is stopping.
    Stopping,
}
