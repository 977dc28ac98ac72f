//! Accepting connections: each on a task of its own, counted at the gate, with little time for its request.

mod noting;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use hydra_core::limits::HANDSHAKE;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use self::noting::Noting;
use super::gate::{Gate, Pass};
use super::metrics;

/// Bytes of a request's head; a browser's longest cookies would fit.
const HEAD: usize = 16 * 1024;
/// Between attempts while the system has no file or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that becomes no session takes no further request after so long. It lasts as long as it is owed an answer,
/// or as its client takes what it is sent.
const PLAIN: Duration = Duration::from_mins(1);

/// The command with which a worker joins a coordinator that listens on `addr`, on a machine that others know as `own`.
pub fn join(addr: SocketAddr, own: Option<IpAddr>) -> String {
    match (addr.port(), own) {
        (port, Some(own)) if addr.ip().is_unspecified() => format!("hydra-worker NAME {}", SocketAddr::new(own, port)),
        // It listens on all of its addresses, and workers elsewhere know one of them.
        (port, None) if addr.ip().is_unspecified() => format!("hydra-worker NAME THIS-HOST:{port}"),
        (5000, _) if addr.ip() == Ipv4Addr::LOCALHOST => "hydra-worker NAME".to_owned(),
        _ => format!("hydra-worker NAME {addr}"),
    }
}

/// This machine's address in its network, if it is in one: that from which it would reach the world. Nothing is sent.
pub fn own_address() -> Option<IpAddr> {
    /// An address of nobody (RFC 5737).
    const AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(AWAY).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

/// The connection that a request came through; kept by what outlives the request, such as a session.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub pass: Arc<Pass>,
    /// Answers that are still to come; while there are any, the connection is not an idle one.
    pub owed: TaskTracker,
}

/// Serves `router` until the task that runs this is aborted.
pub async fn serve(listener: TcpListener, router: Router, gate: Gate) {
    loop {
        match listener.accept().await {
            Ok((tcp, from)) => admit(tcp, from, &router, &gate),
            // The client was faster to leave; the next one is not concerned.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                tracing::warn!(%error, "no further connection can be taken: trying again");
                metrics::refused("system");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn admit(tcp: TcpStream, from: SocketAddr, router: &Router, gate: &Gate) {
    let pass = match gate.enter(from) {
        Ok(pass) => pass,
        Err(full) => {
            metrics::refused(full.kind());
            return;
        }
    };
    if let Some(full) = pass.full() {
        tracing::debug!(%from, reason = full.kind(), "a connection is turned away");
        metrics::refused(full.kind());
    }
    // Control messages are small and wait for nobody.
    let _ = tcp.set_nodelay(true);
    tokio::spawn(attend(tcp, Visitor { pass: Arc::new(pass), owed: TaskTracker::new() }, router.clone()));
}

/// Answers the requests of a connection; ends when it is upgraded.
async fn attend(tcp: TcpStream, visitor: Visitor, router: Router) {
    let router = TowerToHyperService::new(router);
    let owed = visitor.owed.clone();
    let (tcp, taken) = Noting::new(tcp);
    let begun = Instant::now();
    let asked = Arc::new(AtomicBool::new(false));
    let noted = asked.clone();
    let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        noted.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(visitor.clone());
        let answering = router.call(request);
        async move {
            let mut response = answering.await?;
            // The client is told in time: a connection that is closed while it is idle may have a request on its way.
            if begun.elapsed() >= PLAIN && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also for the head of the next request of a connection that is kept.
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let mut stalls = false;
    let served = loop {
        match tokio::time::timeout(PLAIN, serving.as_mut()).await {
            Ok(served) => break served,
            Err(_) if !owed.is_empty() || taken.swap(false, Ordering::Relaxed) => stalls = false,
            // What it was owed may only just have come.
            Err(_) if !std::mem::replace(&mut stalls, true) => {}
            // A session leaves this at its upgrade, and an idle connection ends by itself; whoever asks for pages and does
            // not read them holds a place no longer.
            Err(_) => {
                tracing::debug!("the client of a connection without a session does not take its answer");
                refused(&asked, "slow_request");
                return;
            }
        }
    };
    if let Err(error) = served {
        let reason = if error.is_timeout() { "slow_request" } else { "bad_request" };
        tracing::debug!(%error, reason, "a connection ended before its request or the answer was whole");
        refused(&asked, reason);
    }
}

/// Counts a connection that never came to ask anything. One that was kept after its answers and then fell silent, or
/// whose client left in the middle of an answer, was not refused.
fn refused(asked: &AtomicBool, reason: &'static str) {
    if !asked.load(Ordering::Relaxed) {
        metrics::refused(reason);
    }
}

/// Lets this process have as many files, and so sockets, as the system allows; gives how many that are.
#[cfg(unix)]
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            current
        }
    }
}

/// Windows sets no such limit.
#[cfg(not(unix))]
pub fn raise_open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests;
