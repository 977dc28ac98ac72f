//! The line to the coordinator: not there, being made, or standing. What happens on it comes out one at a time.
//!
//! A handshake that gets no end is ended here; how often to try again is the machine's matter.

use std::pin::Pin;
use std::sync::Arc;

use hydra_core::ids::Digest;
use hydra_core::limits::HANDSHAKE;
use hydra_core::proto::{ClientMsg, ServerMsg};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::{ConnectError, Connection, Event, Outbox, SendError};

const NEVER: Duration = Duration::from_hours(24 * 365);

type Attempt = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

/// See the module's page.
pub struct Line {
    dial: Box<dyn Fn() -> Attempt + Send>,
    state: State,
    /// Why this side gave the session up, where the session itself cannot know.
    why: Option<&'static str>,
    /// Why the last attempt failed.
    failed: Option<ConnectError>,
    /// To be done when a coordinator has greeted for the first time.
    first: Option<Box<dyn FnOnce() + Send>>,
}

enum State {
    Down,
    Dialling(Attempt),
    Up { connection: Connection, greet_by: Instant },
}

/// What happened.
#[derive(Debug)]
pub enum Heard {
    /// The connection stands.
    Connected,
    /// A message came.
    Message(ServerMsg),
    /// An awaited blob is here; its bytes match the digest.
    Blob(Digest, Vec<u8>),
    /// The last of a blob was handed to the system.
    Sent(Digest),
    /// There is none, or it ended; why, for people.
    Closed(String),
}

impl Line {
    /// A line that is made by `dial`.
    pub fn new<F>(dial: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Connection, ConnectError>> + Send + 'static,
    {
        let dial = Box::new(move || Box::pin(dial()) as Attempt);
        Self { dial, state: State::Down, why: None, failed: None, first: None }
    }

    /// The same, which does this when a coordinator has greeted for the first time.
    #[must_use]
    pub fn on_first_greeting(self, act: impl FnOnce() + Send + 'static) -> Self {
        Self { first: Some(Box::new(act)), ..self }
    }

    /// Begins to make the line anew.
    pub fn connect(&mut self) {
        self.why = None;
        self.state = State::Dialling((self.dial)());
    }

    /// Why the last attempt to connect failed, if it did.
    pub fn failed(&self) -> Option<&ConnectError> {
        self.failed.as_ref()
    }

    /// The handshake is done; the line may now be silent for as long as the session's pings are answered.
    pub fn greeted(&mut self) {
        if let State::Up { greet_by, .. } = &mut self.state {
            *greet_by = Instant::now() + NEVER;
            if let Some(act) = self.first.take() {
                act();
            }
        }
    }

    /// Sends a message; a session that does not take it is ended.
    pub fn send(&mut self, message: &ClientMsg) {
        self.with(|outbox| outbox.send(message));
    }

    /// Sends a blob that a message has announced.
    pub fn send_blob(&mut self, digest: Digest, bytes: Arc<[u8]>) {
        self.with(|outbox| outbox.send_blob(digest, bytes));
    }

    /// Awaits a blob that the next message asks for.
    pub fn expect(&mut self, digest: Digest, bytes: u64) {
        self.with(|outbox| outbox.expect(digest, bytes));
    }

    /// Sends no more of a blob, and awaits it no longer.
    pub fn forget(&mut self, digest: Digest) {
        self.with(|outbox| outbox.forget(digest));
    }

    /// Ends the session after what was sent; [`Heard::Closed`] follows.
    pub fn close(&mut self, why: &'static str) {
        if let State::Up { connection, .. } = &self.state {
            self.why = Some(why);
            connection.outbox.close();
        }
    }

    fn with(&mut self, act: impl FnOnce(&Outbox) -> Result<(), SendError>) {
        if let State::Up { connection, .. } = &self.state
            && act(&connection.outbox) == Err(SendError::Full)
        {
            self.close("the connection does not keep up");
        }
    }

    /// What happens next. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            match &mut self.state {
                State::Down => std::future::pending().await,
                State::Dialling(attempt) => match attempt.await {
                    Ok(connection) => {
                        self.failed = None;
                        self.state = State::Up { connection, greet_by: Instant::now() + HANDSHAKE };
                    }
                    Err(error) => {
                        self.state = State::Down;
                        let reason = error.to_string();
                        self.failed = Some(error);
                        return Heard::Closed(reason);
                    }
                },
                State::Up { connection, greet_by } => match timeout_at(*greet_by, connection.inbox.recv()).await {
                    Ok(Some(Event::Connected)) => return Heard::Connected,
                    Ok(Some(Event::Message(message))) => return Heard::Message(*message),
                    Ok(Some(Event::Closed(closed))) => {
                        self.state = State::Down;
                        return Heard::Closed(self.why.take().map_or_else(|| closed.to_string(), str::to_owned));
                    }
                    Ok(Some(Event::Blob { digest, bytes })) => return Heard::Blob(digest, bytes),
                    Ok(Some(Event::Sent(digest))) => return Heard::Sent(digest),
                    Ok(Some(Event::Damaged(_) | Event::Quiet | Event::Woke)) => {}
                    Ok(None) => {
                        self.state = State::Down;
                        return Heard::Closed("the connection ended".to_owned());
                    }
                    Err(_) => {
                        self.why = Some("the coordinator did not finish the handshake");
                        *greet_by = Instant::now() + NEVER;
                        connection.outbox.close();
                    }
                },
            }
        }
    }

    /// Ends the line after what was sent, for which it waits at most so long.
    pub async fn hang_up(mut self, patience: Duration) {
        if matches!(self.state, State::Up { .. }) {
            self.close("this side left");
            let closed = async { while !matches!(self.next().await, Heard::Closed(_)) {} };
            let _ = timeout(patience, closed).await;
        }
    }
}
