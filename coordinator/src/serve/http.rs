//! The paths of the one port: the WebSocket, the page, health, readiness and metrics. Those of OpenAI-style clients are
//! in `openai`.

use std::sync::Arc;

use axum::extract::{FromRef, Request, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hydra_core::proto;
use hydra_shell::link::Socket;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::board::{self, Board};
use super::listen::{Noting, Visitor};

/// Takes an accepted socket.
pub type Welcome = Arc<dyn Fn(Socket<TcpStream>, Visitor) + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
pub struct Doors {
    /// Takes an accepted socket.
    pub welcome: Welcome,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// What the page shows.
    pub board: Arc<Board>,
}

impl FromRef<Doors> for Arc<Board> {
    fn from_ref(doors: &Doors) -> Self {
        doors.board.clone()
    }
}

/// The paths of the coordinator.
pub fn router(doors: Doors) -> Router {
    let plain = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(doors): State<Doors>| async move { doors.metrics.render() }))
        .route("/", get(board::page))
        .route("/status.json", get(board::status))
        .layer(from_fn(with_room));
    // A session that has no room is told so in its own protocol.
    plain.route(proto::PATH, get(socket)).with_state(doors)
}

async fn ready(State(board): State<Arc<Board>>) -> (StatusCode, &'static str) {
    if board.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ready\n") }
}

/// Turns requests of connections away for which there is no room.
async fn with_room(Extension(visitor): Extension<Visitor>, request: Request, next: Next) -> Response {
    match visitor.pass.full() {
        Some(full) => (StatusCode::SERVICE_UNAVAILABLE, [(CONNECTION, "close")], full.text()).into_response(),
        None => next.run(request).await,
    }
}

async fn socket(State(doors): State<Doors>, Extension(visitor): Extension<Visitor>, mut request: Request) -> Response {
    let Some(accept) = accept_key(request.headers()) else {
        return (StatusCode::BAD_REQUEST, "this path takes WebSockets (version 13) alone\n").into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (StatusCode::BAD_REQUEST, "this connection cannot become a WebSocket\n").into_response();
    };
    tokio::spawn(async move {
        // Without the response's last byte on its way there is no upgrade, and nobody to welcome.
        let Ok(upgraded) = upgrade.await else { return };
        let parts = upgraded.downcast::<TokioIo<Noting>>().expect("the listener serves TCP streams alone");
        let socket = Socket::accepted(parts.io.into_inner().into_inner(), parts.read_buf.into()).await;
        (doors.welcome)(socket, visitor);
    });
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The answer to the key of a WebSocket's request (RFC 6455, 4.2.1); nothing if it is no such request.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let says = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let asks = says(CONNECTION, "upgrade") && says(UPGRADE, "websocket") && says(SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    asks.then(|| derive_accept_key(key.as_bytes()))
}
