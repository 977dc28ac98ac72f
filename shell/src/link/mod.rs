//! One end of a session: one task owns the socket, the program holds an [`Outbox`] and an inbox of [`Event`]s. Which
//! end it is, the [`Side`] says; clients and coordinator share everything else.
//!
//! - Sending never waits: the outbox is bounded, and a full one is an answer.
//! - Control messages overtake the chunks of blobs, in whose middle they may arrive; what is sent before a blob
//!   arrives before it.
//! - What a coordinator gives as a reason (`error`, `bye`, `unpaid`, `revoked`, `refused`) is one line, safe to show.
//! - Every byte that is kept for the peer is bounded: by the frame limit, by the sizes that the program or the
//!   `welcome` named for blobs, by a socket that is not read while the program does not take its events.
//! - [`Event::Closed`] is the last event and always comes.
//!
//! The handshake's meaning, retries and the order of messages are the machines' matter, not this module's.

mod blobs;
mod incoming;
mod pace;
mod session;
mod side;
mod socket;
mod stats;

#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Sink, Stream};
use hydra_core::ids::Digest;
use hydra_core::limits::{self, SILENCE, WRITE_STALL};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use pace::Pace;
pub use side::{Client, Coordinator, Side};
pub use socket::{Socket, SocketError};
pub use stats::{LinkStats, RoundTrip};
pub use tokio_tungstenite::tungstenite::Message;

/// Events that wait for the program; beyond them the socket is not read.
const INBOX: usize = 256;
/// Blobs that wait to be sent.
const UPLOADS: usize = 16;

/// What the session tells the program; `M` is what the other end says.
#[derive(Debug, PartialEq)]
pub enum Event<M> {
    /// The socket is open; the first event.
    Connected,
    /// A message, but never a `chunk`.
    Message(Box<M>),
    /// An awaited blob is here, whole and with this digest.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// All bytes of an awaited blob came, but their digest is another.
    Damaged(Digest),
    /// The last chunk of a blob was handed to the system; not yet that the other end has it.
    Sent(Digest),
    /// A ping has been without an answer for [`limits::QUIET`], and nothing else came.
    Quiet,
    /// A sign of life came after that; told before what came.
    Woke,
    /// The session is over; the last event.
    Closed(Closed),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// This side closed it.
    Local,
    /// The other end closed it; its words, if any, safe to show.
    Remote(String),
    /// The other end gave no sign of life.
    Silent,
    /// The network took no data.
    Stalled,
    /// What the other end sent is not of this protocol.
    Protocol(String),
    /// The other end sent something past a bound.
    TooLarge(String),
    /// The other end sent messages faster than allowed.
    Flood(String),
    /// The connection failed.
    Broken(String),
}

impl Closed {
    /// A word for counting.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote(_) => "remote",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Protocol(_) => "protocol",
            Self::TooLarge(_) => "too_large",
            Self::Flood(_) => "flood",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this side closed the connection"),
            Self::Remote(text) if text.is_empty() => f.write_str("the other end closed the connection"),
            Self::Remote(text) => write!(f, "the other end closed the connection: {text}"),
            Self::Silent => write!(f, "no sign of life from the other end for {} s", SILENCE.as_secs()),
            Self::Stalled => write!(f, "the network took no data for {} s", WRITE_STALL.as_secs()),
            Self::Protocol(text) | Self::TooLarge(text) | Self::Flood(text) => {
                write!(f, "the other end broke the protocol: {text}")
            }
            Self::Broken(text) => write!(f, "the connection broke: {text}"),
        }
    }
}

/// Why something cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much waits already; the other end or the network is too slow.
    #[error("the connection does not keep up")]
    Full,
    /// The session is over or closing.
    #[error("the connection is closed")]
    Closed,
}

/// A session. Dropping both parts closes it.
#[derive(Debug)]
pub struct Connection<S: Side> {
    /// For sending.
    pub outbox: Outbox<S>,
    /// What happens.
    pub inbox: mpsc::Receiver<Event<S::In>>,
}

impl<P: Side> Connection<P> {
    /// A session over any pair of message streams, driven by a task of the current tokio runtime. Traffic is counted
    /// in `stats`, which may outlive the session and serve the next, or others beside it.
    pub fn over<S, E>(socket: S, side: P, stats: Arc<LinkStats>) -> Self
    where
        S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin + Send + 'static,
        E: SocketError,
    {
        let (commands, taken) = mpsc::channel(limits::OUTBOX);
        let (events, inbox) = mpsc::channel(INBOX);
        let closing = CancellationToken::new();
        let round_trip = Arc::default();
        let outbox = Outbox { commands, uploads: Arc::default(), round_trip, closing, side: PhantomData };
        let ends = session::Ends {
            commands: taken,
            events,
            uploads: outbox.uploads.clone(),
            round_trip: outbox.round_trip.clone(),
            closing: outbox.closing.clone(),
        };
        tokio::spawn(session::drive(socket, side, ends, stats));
        Self { outbox, inbox }
    }
}

/// Where messages to the other end are put; copies lead to the same session.
#[derive(Debug)]
pub struct Outbox<S> {
    commands: mpsc::Sender<Command>,
    /// Blobs on their way, so that they too are bounded.
    uploads: Arc<AtomicUsize>,
    round_trip: Arc<RoundTrip>,
    closing: CancellationToken,
    side: PhantomData<fn(S)>,
}

impl<S> Clone for Outbox<S> {
    fn clone(&self) -> Self {
        let Self { commands, uploads, round_trip, closing, side } = self;
        let (uploads, round_trip) = (uploads.clone(), round_trip.clone());
        Self { commands: commands.clone(), uploads, round_trip, closing: closing.clone(), side: *side }
    }
}

/// What is to be done when the system has a message, told when that was.
type Note = Box<dyn FnOnce(Instant) + Send>;

/// An encoded message.
struct Control {
    bytes: Vec<u8>,
    sent: Option<Note>,
}

/// What the session is told, in order.
enum Command {
    Control(Control),
    Blob(Digest, Arc<[u8]>),
    Expect(Digest, u64),
    Forget(Digest),
}

impl<S: Side> Outbox<S> {
    /// Sends a message after the messages, and before the remaining chunks, that were put here earlier.
    pub fn send(&self, message: &S::Out) -> Result<(), SendError> {
        self.put(Command::Control(Control { bytes: S::encode(message), sent: None }))
    }

    /// The same, and calls `sent`, which must be quick, once the system has taken the message, with the moment of that.
    pub fn send_noting(&self, message: &S::Out, sent: impl FnOnce(Instant) + Send + 'static) -> Result<(), SendError> {
        self.put(Command::Control(Control { bytes: S::encode(message), sent: Some(Box::new(sent)) }))
    }

    /// Sends `bytes` as chunks whenever nothing else waits; [`Event::Sent`] tells the end. Announce the blob by a
    /// message first.
    pub fn send_blob(&self, digest: Digest, bytes: Arc<[u8]>) -> Result<(), SendError> {
        if self.uploads.fetch_add(1, Ordering::Relaxed) >= UPLOADS {
            self.uploads.fetch_sub(1, Ordering::Relaxed);
            return Err(SendError::Full);
        }
        self.put(Command::Blob(digest, bytes)).inspect_err(|_| {
            self.uploads.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Whether blobs are on their way.
    pub fn is_sending(&self) -> bool {
        self.uploads.load(Ordering::Relaxed) > 0
    }

    /// Awaits the chunks of a blob of exactly so many `bytes`; [`Event::Blob`] brings it. To be called before the
    /// message that asks for it is sent; with too many awaited the session ends. Blobs that messages announce
    /// (`version`, `update`) are awaited without being told.
    pub fn expect(&self, digest: Digest, bytes: u64) -> Result<(), SendError> {
        self.put(Command::Expect(digest, bytes))
    }

    /// Gives a blob up: chunks of it that wait are not sent, chunks that arrive are dropped.
    pub fn forget(&self, digest: Digest) -> Result<(), SendError> {
        self.put(Command::Forget(digest))
    }

    /// How many messages could be put here now.
    pub fn room(&self) -> usize {
        self.commands.capacity()
    }

    /// How long the last ping of this session took to come back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    /// How long nothing has come in this session, where a ping has been without an answer for some seconds.
    pub fn silent(&self) -> Option<Duration> {
        self.round_trip.silent()
    }

    /// Ends the session: messages that wait are sent, blobs are not; then the socket is closed.
    pub fn close(&self) {
        self.closing.cancel();
    }

    fn put(&self, command: Command) -> Result<(), SendError> {
        if self.closing.is_cancelled() {
            return Err(SendError::Closed);
        }
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }
}
