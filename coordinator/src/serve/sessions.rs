//! Sessions at the rim: sockets become links, links become facts, received bytes wait here under their digests.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::ws::{Message as AxumMessage, WebSocket};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hydra_core::hub::Fact;
use hydra_core::ids::{Digest, SessionId};
use hydra_shell::link::{self, Connection, Coordinator, LinkStats, Message};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::driver::Input;

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
    pub tasks: TaskTracker,
    pub next: Arc<AtomicU64>,
}

impl Rim {
    /// Runs a session on a task of its own until its end.
    pub fn welcome(&self, socket: WebSocket) {
        let rim = self.clone();
        self.tasks.spawn(async move { rim.run(socket).await });
    }

    async fn run(self, socket: WebSocket) {
        let session = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let side = Coordinator { update_bytes: self.update_bytes };
        let Connection { outbox, mut inbox } = Connection::over(Adapted(socket), side, self.traffic.clone());
        if self.inputs.send(Input::Opened(session, outbox)).await.is_err() {
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
                link::Event::Closed(closed) => Fact::Left { session, reason: closed.to_string() },
            };
            // The channel is bounded: a flood is read no faster than it is dealt with.
            if self.inputs.send(Input::Fact(fact)).await.is_err() {
                return;
            }
        }
    }
}

/// The server's socket in the client library's terms, which the link speaks.
struct Adapted(WebSocket);

impl Stream for Adapted {
    type Item = Result<Message, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx).map(|item| {
            item.map(|message| {
                message.map(|message| match message {
                    AxumMessage::Binary(bytes) => Message::Binary(bytes),
                    AxumMessage::Text(text) => Message::Text(text.as_str().into()),
                    AxumMessage::Ping(bytes) => Message::Ping(bytes),
                    AxumMessage::Pong(bytes) => Message::Pong(bytes),
                    AxumMessage::Close(_) => Message::Close(None),
                })
            })
        })
    }
}

impl Sink<Message> for Adapted {
    type Error = axum::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), axum::Error> {
        self.0.start_send_unpin(match message {
            Message::Binary(bytes) => AxumMessage::Binary(bytes),
            Message::Ping(bytes) => AxumMessage::Ping(bytes),
            Message::Pong(bytes) => AxumMessage::Pong(bytes),
            Message::Text(text) => AxumMessage::Text(text.as_str().into()),
            Message::Close(_) | Message::Frame(_) => AxumMessage::Close(None),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        self.0.poll_close_unpin(cx)
    }
}
