//! Sessions at the rim: sockets become links, links become facts, received bytes wait here under their digests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use hydra_core::hub::Fact;
use hydra_core::ids::{Digest, SessionId};
use hydra_core::proto::{Error, ErrorCode, ServerMsg, wire};
use hydra_shell::link::{self, Connection, Coordinator, LinkStats, Message, Pace, Socket};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};
use tokio_util::task::TaskTracker;

use super::driver::Input;
use super::gate::Full;
use super::listen::Visitor;
use super::metrics;

/// For telling somebody that there is no room.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where messages to a client are put.
pub type Outbox = link::Outbox<Coordinator>;

type Kept = BTreeMap<(SessionId, Digest), Arc<[u8]>>;

/// Updates that came in full and wait for the hub's word.
#[derive(Clone, Default)]
pub struct Uploads {
    kept: Arc<Mutex<Kept>>,
}

impl Uploads {
    fn put(&self, session: SessionId, blob: Digest, bytes: Vec<u8>) {
        self.lock().insert((session, blob), bytes.into());
    }

    /// Takes the bytes away.
    pub fn take(&self, session: SessionId, blob: Digest) -> Option<Arc<[u8]>> {
        self.lock().remove(&(session, blob))
    }

    /// Forgets everything of a session.
    pub fn forget(&self, session: SessionId) {
        self.lock().retain(|(owner, _), _| *owner != session);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns accepted sockets into sessions.
#[derive(Clone)]
pub struct Rim {
    pub inputs: mpsc::Sender<Input>,
    pub uploads: Uploads,
    pub traffic: Arc<LinkStats>,
    pub update_bytes: u64,
    pub pace: Pace,
    pub tasks: TaskTracker,
    pub next: Arc<AtomicU64>,
}

impl Rim {
    /// Runs a session on a task of its own until its end.
    pub fn welcome(&self, socket: Socket<TcpStream>, visitor: Visitor) {
        match visitor.pass.full() {
            Some(full) => {
                self.tasks.spawn(async move { timeout(FAREWELL, turn_away(socket, full, visitor)).await });
            }
            None => {
                let rim = self.clone();
                self.tasks.spawn(async move { rim.run(socket, visitor).await });
            }
        }
    }

    /// The visitor's pass is given back when the session is over.
    async fn run(self, socket: Socket<TcpStream>, visitor: Visitor) {
        let session = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let side = Coordinator { update_bytes: self.update_bytes, pace: Some(self.pace) };
        let Connection { outbox, mut inbox } = Connection::over(socket, side, self.traffic.clone());
        metrics::opened();
        if self.inputs.send(Input::Opened(session, outbox, visitor.pass.host())).await.is_err() {
            return;
        }
        while let Some(event) = inbox.recv().await {
            let fact = match event {
                link::Event::Connected | link::Event::Sent(_) => continue,
                link::Event::Message(message) => Fact::Frame { session, message: *message },
                link::Event::Blob { digest: blob, bytes } => {
                    self.uploads.put(session, blob, bytes);
                    Fact::Received { session, blob, intact: true }
                }
                link::Event::Damaged(blob) => Fact::Received { session, blob, intact: false },
                link::Event::Quiet => Fact::Quiet { session },
                link::Event::Woke => Fact::Woke { session },
                link::Event::Closed(closed) => {
                    metrics::closed(closed.kind());
                    Fact::Left { session, reason: closed.to_string() }
                }
            };
            // The channel is bounded: a flood is read no faster than it is dealt with.
            if self.inputs.send(Input::Fact(fact)).await.is_err() {
                return;
            }
        }
    }
}

/// Says that there is no room, and listens no further.
async fn turn_away(mut socket: Socket<TcpStream>, full: Full, _visitor: Visitor) {
    let error = ServerMsg::Error(Error { code: ErrorCode::Full, text: full.text().to_owned(), fatal: true });
    let _ = socket.send(Message::Binary(wire::encode_server(&error).into())).await;
    let _ = socket.close().await;
    // A socket closed with unread data would take back what was written last.
    while let Some(Ok(_)) = socket.next().await {}
}
