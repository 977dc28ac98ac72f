//! The listener: the WebSocket, health, readiness and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hydra_core::{limits, proto};
use metrics_exporter_prometheus::PrometheusHandle;

/// Bytes of a socket's read buffer. The library's default of 128 KiB is what most of an idle session would cost.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes of messages that a socket may buffer before it takes no more; above one frame, or none would fit.
const WRITE_BUFFER: usize = 2 * limits::FRAME_BYTES;

/// What the handlers share.
#[derive(Clone)]
pub struct Doors {
    /// Takes an accepted socket.
    pub welcome: Arc<dyn Fn(WebSocket) + Send + Sync>,
    /// Whether the run can be used.
    pub ready: Arc<AtomicBool>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

/// The paths of the coordinator.
pub fn router(doors: Doors) -> Router {
    Router::new()
        .route(proto::PATH, get(socket))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(doors): State<Doors>| async move { doors.metrics.render() }))
        .route("/", get(|| async { concat!("HydraAI coordinator ", env!("CARGO_PKG_VERSION"), "; see /metrics\n") }))
        .with_state(doors)
}

async fn ready(State(doors): State<Doors>) -> (StatusCode, &'static str) {
    if doors.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn socket(
    State(doors): State<Doors>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(limits::FRAME_BYTES)
            .max_frame_size(limits::FRAME_BYTES)
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .on_upgrade(move |socket| async move { (doors.welcome)(socket) }),
        Err(rejection) => rejection.into_response(),
    }
}
