//! What the page at `/` shows of a run: its state, its losses and the newest sample; nobody's name or balance.
//!
//! The driver writes it, requests read it. The page (`board/page.html`) is one file without anything from elsewhere; it
//! asks for `/status.json` every other second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use hydra_core::hub::Event;
use hydra_core::proto::Status;
use serde::Serialize;

use crate::screen::{Point, Sample};

/// Losses that the page has; of a longer run every second is left out, again and again.
const POINTS: usize = 512;
/// Somebody who has not asked for so long looks at it no more.
const WATCHED: Duration = Duration::from_secs(30);

/// The page, and what it may do: nothing but look and ask here.
const PAGE: &str = include_str!("board/page.html");
const ALLOWED: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                       img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A run as anybody may see it.
pub struct Board {
    shown: Mutex<Shown>,
    /// When somebody asked last.
    asked: Mutex<Option<Instant>>,
    /// The run takes nothing new.
    stopping: AtomicBool,
}

/// The body of `/status.json`.
#[derive(Clone, Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    /// Tokens to train on.
    train_tokens: u64,
    /// Versions and their losses in nats a token, oldest first.
    losses: Vec<(u64, f64)>,
    /// The question of the samples.
    prompt: String,
    sample: Option<Sample>,
}

impl Board {
    /// A board that shows what is known from before this start.
    pub fn new(status: Status, train_tokens: u64, prompt: &str, points: &[Point], sample: Option<Sample>) -> Self {
        let shown = Shown { status, train_tokens, losses: Vec::new(), prompt: prompt.trim().to_owned(), sample };
        let board = Self { shown: Mutex::new(shown), asked: Mutex::default(), stopping: AtomicBool::new(false) };
        for point in points {
            board.shown().add(point.version.0, point.loss);
        }
        board
    }

    /// How the run stands.
    pub fn show(&self, status: Status) {
        self.shown().status = status;
    }

    /// The same after an event.
    pub fn note(&self, event: &Event, status: Status) {
        if let Event::Round { version, val_loss, .. } = event {
            self.shown().add(version.0, *val_loss);
        }
        self.show(status);
    }

    /// A version has answered.
    pub fn sample(&self, sample: Sample) {
        self.shown().sample = Some(sample);
    }

    /// Nothing new is taken from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether somebody looks at it.
    pub fn is_watched(&self) -> bool {
        self.asked().is_some_and(|asked| asked.elapsed() < WATCHED)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn add(&mut self, version: u64, loss: f64) {
        self.losses.push((version, loss));
        if self.losses.len() > POINTS {
            let mut number = 0;
            self.losses.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }
}

/// `/`: the page for browsers, a line for everybody else.
pub async fn page(headers: HeaderMap) -> Response {
    let wants = |accept: &str| accept.contains("text/html");
    if !headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(wants) {
        return concat!(
            "HydraAI coordinator ",
            env!("CARGO_PKG_VERSION"),
            "; see /status.json, /metrics and, for OpenAI-style clients, /v1\n"
        )
        .into_response();
    }
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, ALLOWED),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

/// `/status.json`.
pub async fn status(State(board): State<Arc<Board>>) -> Response {
    *board.asked() = Some(Instant::now());
    // The driver waits for this lock, so nothing long is done under it.
    let shown = board.shown().clone();
    let text = serde_json::to_string(&shown).expect("plain values are JSON");
    let headers: [(HeaderName, &str); 3] =
        [(CONTENT_TYPE, "application/json"), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-store")];
    (headers, text).into_response()
}

#[cfg(test)]
pub mod tests {
    use hydra_core::ids::VersionNo;

    use super::*;

    fn state(version: u64) -> Status {
        Status {
            version: VersionNo(version),
            workers: 2,
            tasks: 7,
            tokens: 4096,
            params: 800,
            queries: 0,
            val_loss: Some(2.5),
            val_version: None,
            val_bits_per_byte: Some(1.5),
            paused: false,
        }
    }

    pub fn board() -> Arc<Board> {
        Arc::new(Board::new(state(0), 0, "", &[], None))
    }

    async fn seen(board: &Arc<Board>) -> serde_json::Value {
        let response = status(State(board.clone())).await;
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn it_shows_the_run_from_before_and_of_now() {
        let point = Point { version: VersionNo(1), loss: 3.5, bits_per_byte: 2.0, updates: None };
        let board = Arc::new(Board::new(state(1), 1000, " What? ", &[point], None));
        assert!(!board.is_watched());
        let round = Event::Round {
            version: VersionNo(2),
            averaged: false,
            updates: 2,
            tokens: 4096,
            val_loss: 2.5,
            val_bits_per_byte: 1.5,
            bytes_up: 0,
            bytes_down: 0,
            seconds: 1.0,
        };
        board.note(&round, state(2));
        board.sample(Sample { version: VersionNo(2), loss: 2.5, text: "<b>".to_owned(), at_ms: 5 });
        let seen = seen(&board).await;
        assert_eq!(seen["version"], 2);
        assert_eq!(seen["losses"], serde_json::json!([[1, 3.5], [2, 2.5]]));
        assert_eq!((&seen["prompt"], &seen["sample"]["text"]), (&"What?".into(), &"<b>".into()));
        assert!(board.is_watched());
    }

    #[tokio::test]
    async fn a_long_run_has_no_more_points_than_a_page_can_show() {
        let board = board();
        (0..10_000).for_each(|version| board.shown().add(version, 1.0));
        let losses = seen(&board).await["losses"].as_array().unwrap().clone();
        assert!((POINTS / 2..=POINTS).contains(&losses.len()), "{}", losses.len());
        assert_eq!((&losses[0][0], &losses[losses.len() - 1][0]), (&0.into(), &9_999.into()));
    }

    #[tokio::test]
    async fn browsers_get_the_page_and_others_a_line() {
        let html = HeaderMap::from_iter([(ACCEPT, "text/html,*/*".parse().unwrap())]);
        for (headers, kind) in [(html, "text/html"), (HeaderMap::new(), "text/plain")] {
            let response = page(headers).await;
            assert!(response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with(kind));
        }
        // What a model or a run says is text, never markup.
        assert!(!PAGE.contains("innerHTML") && !PAGE.contains("http://") && !PAGE.contains("https://"));
    }
}
