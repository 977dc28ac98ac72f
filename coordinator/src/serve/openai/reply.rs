//! Answers in the forms that OpenAI-style clients read.

use axum::response::sse::Event;
use hydra_core::ids::QueryId;
use hydra_core::proto::{Answer, Finish};
use hydra_shell::clock::wall_ms;
use serde_json::{Value, json};

use super::MODEL;

/// `GET /v1/models/hydra`.
pub fn model() -> Value {
    json!({ "id": MODEL, "object": "model", "created": 0, "owned_by": "hydra-ai" })
}

/// `GET /v1/models`.
pub fn models() -> Value {
    json!({ "object": "list", "data": [model()] })
}

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Completion,
}

/// The form of one answer.
pub struct Shape {
    kind: Kind,
    id: String,
    created: u64,
    /// Whether a stream ends with a count of tokens.
    usage: bool,
    begun: bool,
}

impl Shape {
    pub fn new(kind: Kind, id: QueryId, usage: bool) -> Self {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        Self { kind, id: format!("{prefix}-{id}"), created: wall_ms() / 1000, usage, begun: false }
    }

    fn object(&self, chunk: bool, choices: &Value) -> Value {
        let object = match (self.kind, chunk) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Completion, _) => "text_completion",
        };
        let mut value =
            json!({ "id": self.id, "object": object, "created": self.created, "model": MODEL, "choices": choices });
        if chunk && self.usage {
            value["usage"] = Value::Null;
        }
        value
    }

    fn chunk(&mut self, text: Option<&str>, finish: Option<&str>) -> Value {
        let choice = match self.kind {
            Kind::Completion => {
                json!({ "index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish })
            }
            Kind::Chat => {
                let mut delta = json!({});
                if !std::mem::replace(&mut self.begun, true) {
                    delta["role"] = json!("assistant");
                }
                if let Some(text) = text {
                    delta["content"] = json!(text);
                }
                json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish })
            }
        };
        self.object(true, &json!([choice]))
    }

    /// The next text of a stream.
    pub fn piece(&mut self, text: &str) -> Event {
        event(&self.chunk(Some(text), None))
    }

    /// The end of a stream, `[DONE]` and all.
    pub fn end(&mut self, answer: &Answer, prompt: usize) -> Vec<Event> {
        let mut last = self.chunk(None, Some(finish(answer.finish)));
        last["hydra"] = paid(answer);
        let mut events = vec![event(&last)];
        if self.usage {
            let mut counted = self.object(true, &json!([]));
            counted["usage"] = usage(prompt, answer);
            events.push(event(&counted));
        }
        events.push(Event::default().data("[DONE]"));
        events
    }

    /// The answer in one piece.
    pub fn whole(&self, text: &str, answer: &Answer, prompt: usize) -> Value {
        let finish = finish(answer.finish);
        let choice = match self.kind {
            Kind::Completion => json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }),
            Kind::Chat => json!({ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null, "finish_reason": finish }),
        };
        let mut whole = self.object(false, &json!([choice]));
        whole["usage"] = usage(prompt, answer);
        whole["hydra"] = paid(answer);
        whole
    }
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Cancelled => "stop",
        Finish::Length => "length",
    }
}

fn usage(prompt: usize, answer: &Answer) -> Value {
    let completion = answer.tokens as usize;
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

/// What no other service has: which version answered, and what it cost.
fn paid(answer: &Answer) -> Value {
    json!({ "version": answer.version, "averaged": answer.averaged, "val_loss": answer.val_loss,
        "val_version": answer.val_version, "charged": answer.charged.as_hyd(), "balance": answer.balance.as_hyd() })
}
