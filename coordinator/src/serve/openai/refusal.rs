//! Why there is no answer, in the form and with the status that OpenAI-style clients know.

use std::fmt;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use hydra_core::limits;
use hydra_core::proto::{Error, ErrorCode, Refused, RefusedCode};
use serde_json::{Value, json};

use super::{BODY, MODEL};

/// The code of what a model could not, or would not, answer.
const FAILED: &str = "failed";
/// By which OpenAI's own clients are told whether to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The headers that say whether and when to ask again: pages in browsers are allowed to see them.
pub const AGAIN: &str = "retry-after, x-should-retry";

/// Why there is no answer.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    /// Which field is at fault.
    param: Option<String>,
    text: String,
    /// Seconds until it makes sense to ask again, where that is known.
    retry_s: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, text: clipped(text.into()), retry_s: None }
    }

    fn unavailable(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", code, text)
    }

    /// The request itself is wrong.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request", text)
    }

    /// One field of it is.
    pub fn field(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { param: Some(clipped(name.into())), ..Self::invalid(text) }
    }

    /// It is a field that means nothing here, or asks for what is not there.
    pub fn unsupported(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: "unsupported_parameter", ..Self::field(name, text) }
    }

    /// The field is part of another.
    pub fn within(mut self, outer: &str) -> Self {
        self.param = self.param.map(|name| clipped(format!("{outer}{name}")));
        self.text = clipped(format!("{outer}{}", self.text));
        self
    }

    pub fn no_model(name: &str) -> Self {
        let text = format!("there is no model {:?} here: the one that is trained is called {MODEL:?}", brief(name));
        let refusal = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", text);
        Self { param: Some("model".to_owned()), ..refusal }
    }

    pub fn no_path() -> Self {
        let text = "there are /v1/chat/completions, /v1/completions and /v1/models here";
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "unknown_url", text)
    }

    pub fn no_method() -> Self {
        let text = "models are asked for with GET, answers with POST";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", text)
    }

    pub fn no_key() -> Self {
        let text =
            "no API key: send `Authorization: Bearer KEY`; `hydra-query USER --api-key new` makes one (docs/openai.md)";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", "invalid_api_key", text)
    }

    pub fn too_long() -> Self {
        let text = format!("the request's body is longer than the {BODY} bytes that are taken");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", text)
    }

    /// The prompt is, before anybody is asked.
    pub fn huge_prompt() -> Self {
        let most = limits::PROMPT_BYTES;
        let text = format!("the prompt, with its template, has more than the {most} bytes that are taken: shorten it");
        Self { code: "context_length_exceeded", ..Self::invalid(text) }
    }

    pub fn too_slow() -> Self {
        let text = "the request's body took too long to come";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "timeout", text)
    }

    pub fn full(text: &str) -> Self {
        Self::unavailable("overloaded", text)
    }

    /// The request came to nothing.
    pub fn stopping() -> Self {
        Self::unavailable("unavailable", "the coordinator is stopping: nothing was charged; ask again later")
    }

    /// What was asked has no end.
    pub fn lost() -> Self {
        let text = "the coordinator is stopping, or the answer was not taken as it came: it is paid if all of it was \
                    drawn by then, which `hydra-query USER --balance` shows; ask again later";
        Self::unavailable("unavailable", text)
    }

    /// The hub refuses the query.
    pub fn refused(refused: &Refused) -> Self {
        let text = refused.text.clone();
        match refused.code {
            // 402 rather than 429: clients send again what got a 429, and that earns nothing.
            RefusedCode::Insufficient => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", "insufficient_quota", text)
            }
            RefusedCode::HugePrompt => Self { code: "context_length_exceeded", ..Self::invalid(text) },
            RefusedCode::EmptyPrompt | RefusedCode::BadSetting => Self::invalid(text),
            RefusedCode::Busy => Self { retry_s: refused.retry_s, ..Self::unavailable("overloaded", text) },
            RefusedCode::Stopping => Self::unavailable("unavailable", text),
            RefusedCode::Duplicate | RefusedCode::Cancelled | RefusedCode::Failed => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                FAILED,
                format!("no answer, and nothing was charged: {text}"),
            ),
        }
    }

    /// The hub refuses the session.
    pub fn error(error: &Error) -> Self {
        let text = error.text.clone();
        match error.code {
            ErrorCode::BadProof => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", "invalid_api_key", text)
            }
            _ => Self::unavailable("overloaded", text),
        }
    }

    /// Which field is at fault.
    #[cfg(test)]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    fn json(&self) -> Value {
        json!({ "error": { "message": self.text, "type": self.kind, "param": self.param, "code": self.code } })
    }

    /// In the middle of a stream.
    pub fn event(&self) -> Event {
        Event::default().data(self.json().to_string())
    }

    /// As an answer of its own.
    pub fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let more = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                Some((header::RETRY_AFTER, HeaderValue::from(self.retry_s.unwrap_or(1))))
            }
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            // Else clients try it again by themselves, and each time counts as one that failed.
            _ if self.code == FAILED => Some((SHOULD_RETRY, HeaderValue::from_static("false"))),
            _ => None,
        };
        response.headers_mut().extend(more);
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Refusals quote what they refuse; they must not grow with it.
fn clipped(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::TEXT_BYTES));
    text
}

/// The beginning of a name, as far as a name goes.
pub fn brief(name: &str) -> &str {
    &name[..name.floor_char_boundary(limits::LABEL_BYTES)]
}
