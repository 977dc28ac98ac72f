//! The door for OpenAI-style clients: `/v1/chat/completions`, `/v1/completions`, `/v1/models`.
//!
//! A request with an API key becomes a session of the hub that asks one query: who pays, what it costs, and when it
//! costs nothing are the hub's rules, the same as for a chat over the socket. A client that hangs up before the end has
//! left its session, and pays nothing. Nothing of a request but its head is read before its key is known.
//! `docs/openai.md` says what is understood.

mod refusal;
mod reply;
mod request;
mod session;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, stream};
use hydra_core::ids::{Digest, QueryId};
use hydra_core::limits;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, timeout};
use tokio_util::task::TaskTracker;

use self::refusal::Refusal;
use self::reply::{Kind, Shape};
pub use self::session::{Caller, Callers};
use self::session::{Heard, Session};
use super::driver::Input;
use super::listen::Visitor;
use super::metrics;

/// The model's name in requests; which version answers is the coordinator's choice.
const MODEL: &str = "hydra";
/// Bytes of a request's body: a prompt with its JSON around it, each of its characters escaped.
const BODY: usize = 8 * limits::PROMPT_BYTES;
/// Of a body that is longer, so much is read and thrown away, so that the refusal is not lost with the connection.
const OVERLONG: usize = 8 * BODY;
/// A body may take so long to come.
const COMING: Duration = Duration::from_secs(20);
/// Before a refusal is told: it costs the hub a session and its client nothing, so it shall not be had any faster.
const PAUSE: Duration = Duration::from_millis(100);

/// Counts the tokens of a text.
pub type Count = Arc<dyn Fn(&str) -> usize + Send + Sync>;

/// What requests need.
pub struct Desk {
    pub inputs: mpsc::Sender<Input>,
    /// Numbers of sessions.
    pub next: Arc<AtomicU64>,
    /// Requests that are being answered; an end of the program waits for them.
    pub tasks: TaskTracker,
    /// What the run dresses a prompt in.
    pub template: String,
    pub count: Count,
}

/// The paths.
pub fn router(desk: Arc<Desk>) -> Router {
    let paths = Router::new()
        .route("/models", get(|| async { Json(reply::models()) }))
        .route("/models/{model}", get(one_model))
        .route("/chat/completions", post(chat))
        .route("/completions", post(complete))
        .fallback(|request: Request| turn_away(request, Refusal::no_path()))
        .method_not_allowed_fallback(|request: Request| turn_away(request, Refusal::no_method()))
        .layer(from_fn(with_room))
        .with_state(desk);
    Router::new().nest("/v1", paths)
}

/// Counts requests, and turns those of connections away for which there is no room.
async fn with_room(Extension(visitor): Extension<Visitor>, request: Request, next: Next) -> Response {
    let mut response = match visitor.pass.full() {
        Some(full) => {
            let response = turn_away(request, Refusal::full(full.text())).await;
            ([(header::CONNECTION, "close")], response).into_response()
        }
        None if request.method() == Method::OPTIONS => may_ask(request.headers()),
        None => next.run(request).await,
    };
    // Any page may ask: who pays is told by a key in a header, which no browser adds by itself.
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(refusal::AGAIN));
    metrics::requested(response.status().as_u16());
    response
}

/// What a browser wants to know before it lets a page ask.
fn may_ask(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

async fn turn_away(request: Request, refusal: Refusal) -> Response {
    discard(request.into_body()).await;
    refusal.into_response()
}

async fn one_model(model: Result<Path<String>, PathRejection>) -> Response {
    match model {
        Ok(Path(model)) if model == MODEL => Json(reply::model()).into_response(),
        Ok(Path(model)) => Refusal::no_model(&model).into_response(),
        Err(_) => Refusal::no_path().into_response(),
    }
}

async fn chat(desk: State<Arc<Desk>>, visitor: Extension<Visitor>, request: Request) -> Response {
    answer(&desk, &visitor, request, Kind::Chat).await
}

async fn complete(desk: State<Arc<Desk>>, visitor: Extension<Visitor>, request: Request) -> Response {
    answer(&desk, &visitor, request, Kind::Completion).await
}

async fn answer(desk: &Desk, visitor: &Visitor, request: Request, kind: Kind) -> Response {
    // Also while a refusal waits for its moment.
    let _token = desk.tasks.token();
    let (head, body) = request.into_parts();
    let opened = match key(&head.headers) {
        Ok(key) => Session::open(desk, key, visitor).await,
        Err(refusal) => Err(refusal),
    };
    let answered = match opened {
        Ok(session) => ask(desk, session, body, kind).await,
        Err(refusal) => {
            discard(body).await;
            Err(refusal)
        }
    };
    match answered {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(%refusal, "a request is refused");
            sleep(PAUSE).await;
            refusal.into_response()
        }
    }
}

async fn ask(desk: &Desk, mut session: Session, body: Body, kind: Kind) -> Result<Response, Refusal> {
    let body = read(body).await?;
    let mut asked = match kind {
        Kind::Chat => request::chat(&body, &desk.template)?,
        Kind::Completion => request::completion(&body)?,
    };
    drop(body);
    asked.query.id = QueryId(hydra_shell::keys::random().map_err(|_| Refusal::stopping())?);
    let shape = Shape::new(kind, asked.query.id, asked.usage);
    let prompt = match kind {
        Kind::Chat => desk.template.replace("{prompt}", &asked.query.prompt),
        Kind::Completion => asked.query.prompt.clone(),
    };
    session.ask(asked.query).await?;
    // A refusal before the first text is a plain error with a status of its own.
    let first = match session.next().await {
        Heard::Refused(refusal) => return Err(refusal),
        heard => heard,
    };
    // Not before: who is refused pays nothing, and so shall have nothing done for him either.
    let counted = (asked.usage || !asked.stream).then(|| count(desk, prompt));
    if asked.stream {
        return Ok(streamed(session, first, shape, counted));
    }
    let (mut text, mut heard) = (String::new(), first);
    loop {
        match heard {
            Heard::Text(piece) => text.push_str(&piece),
            Heard::Done(answer) => {
                let whole = shape.whole(&text, &answer, tokens(counted).await);
                return Ok((StatusCode::OK, Json(whole)).into_response());
            }
            Heard::Refused(refusal) => return Err(refusal),
        }
        heard = session.next().await;
    }
}

/// Server-sent events, one as soon as there is another piece of text. Whoever stops reading drops the session with it.
fn streamed(session: Session, first: Heard, shape: Shape, counted: Option<Counted>) -> Response {
    let batches = stream::unfold(Some((session, Some(first), shape, counted)), move |state| async move {
        let (mut session, first, mut shape, counted) = state?;
        let heard = match first {
            Some(first) => first,
            None => session.next().await,
        };
        Some(match heard {
            Heard::Text(text) => (vec![shape.piece(&text)], Some((session, None, shape, counted))),
            Heard::Done(answer) => (shape.end(&answer, tokens(counted).await), None),
            Heard::Refused(refusal) => (vec![refusal.event()], None),
        })
    });
    let events = batches.flat_map(|events| stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    // Proxies that would rather collect an answer are told not to.
    let headers = [("x-accel-buffering", "no")];
    (headers, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}

/// The digest of the request's API key.
fn key(headers: &HeaderMap) -> Result<Digest, Refusal> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = header.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let key = key.map(|(_, key)| key.trim()).filter(|key| !key.is_empty()).ok_or_else(Refusal::no_key)?;
    Ok(Digest::of(key.as_bytes()))
}

/// The whole body, if it is short enough.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let mut pieces = body.into_data_stream();
    let reading = async {
        let (mut taken, mut length) = (Vec::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| Refusal::invalid("the request's body ended before its end"))?;
            length += piece.len();
            if length <= BODY {
                taken.extend_from_slice(&piece);
            } else if length > OVERLONG {
                break;
            }
        }
        if length <= BODY { Ok(taken) } else { Err(Refusal::too_long()) }
    };
    timeout(COMING, reading).await.unwrap_or_else(|_| Err(Refusal::too_slow()))
}

/// Reads on for a refusal, which a connection with unread bytes might take with it into its grave.
async fn discard(body: Body) {
    let mut pieces = body.into_data_stream();
    let reading = async {
        let mut length = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            length += piece.len();
            if length > OVERLONG {
                return;
            }
        }
    };
    timeout(COMING, reading).await.ok();
}

/// Tokens of a prompt in the making.
type Counted = JoinHandle<usize>;

/// Counts off the asynchronous threads, since a long prompt takes a while; nobody waits for it before the answer's end.
fn count(desk: &Desk, prompt: String) -> Counted {
    let count = desk.count.clone();
    tokio::task::spawn_blocking(move || count(&prompt))
}

async fn tokens(counted: Option<Counted>) -> usize {
    match counted {
        Some(counted) => counted.await.unwrap_or(0),
        None => 0,
    }
}
