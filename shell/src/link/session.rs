//! The task that owns a session's socket: it writes, reads, pings and notices when the other side is gone.
//!
//! One loop, never stuck in a write while there is something to read, so that two ends that both send much cannot
//! wait for each other. Whether the next thing to write is a control message or a chunk is decided in the moment in
//! which the socket takes it.

mod hearing;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hydra_core::limits::{FRAME_BYTES, PING_EVERY, QUIET, SILENCE, WRITE_STALL};
use hydra_core::proto::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_util::sync::CancellationToken;

use super::blobs::Upload;
use super::incoming::Incoming;
use super::{Closed, Command, Control, Event, LinkStats, Note, Pace, RoundTrip, Side, SocketError};
use hearing::{broken, close_code};

/// For the last words in each direction.
const FAREWELL: Duration = Duration::from_secs(2);

/// The session's ends of what it shares with the program.
pub struct Ends<M> {
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event<M>>,
    pub uploads: Arc<AtomicUsize>,
    pub round_trip: Arc<RoundTrip>,
    pub closing: CancellationToken,
}

/// Runs a session to its end, and tells it.
pub async fn drive<P, S, E>(mut socket: S, side: P, ends: Ends<P::In>, stats: Arc<LinkStats>)
where
    P: Side,
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
    E: SocketError,
{
    let mut session = Session::new(side, ends, stats);
    let closed = session.run(&mut socket).await;
    // From here on nothing more is accepted, so that no message is silently lost in the queue.
    session.ends.closing.cancel();
    session.ends.commands.close();
    let complaint = session.complaint.take();
    let broke = matches!(closed, Closed::Protocol(_) | Closed::TooLarge(_) | Closed::Flood(_));
    if broke || matches!(closed, Closed::Local | Closed::Remote(_)) {
        let farewell = async {
            if let Some(bytes) = complaint {
                let _ = socket.send(Message::Binary(bytes.into())).await;
            }
            if let Some(code) = close_code(&closed) {
                let frame = CloseFrame { code, reason: closed.kind().into() };
                let _ = socket.send(Message::Close(Some(frame))).await;
            }
            let _ = socket.close().await;
            // A socket closed with unread data would take back what was written last.
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    drop(socket);
    session.incoming.events.push_back(Event::Closed(closed));
    for event in session.incoming.events {
        if session.ends.events.send(event).await.is_err() {
            return;
        }
    }
}

/// What the socket is ready for.
enum Step<E> {
    Writable(Result<(), E>),
    Flushed(Result<(), E>),
    Read(Option<Result<Message, E>>),
}

struct Session<P: Side> {
    ends: Ends<P::In>,
    stats: Arc<LinkStats>,
    /// The control message that goes next; the others wait in the queue of commands, which is bounded.
    control: Option<Control>,
    uploads: VecDeque<Upload>,
    /// While it holds events for which the program had no room yet, nothing is read.
    incoming: Incoming<P>,
    pace: Option<Pace>,
    /// What to say to an end that broke the protocol.
    complaint: Option<Vec<u8>>,
    unflushed: bool,
    /// Whom to tell once the system has what was written; nothing more is written before.
    notes: Vec<Note>,
    /// Alternates, so that neither reading nor writing starves the other.
    read_first: bool,
    /// When the socket was last asked to write and has not since.
    waiting: Option<Instant>,
    last_sign: Instant,
    next_ping: Instant,
    ping_due: bool,
    /// Number and time of the last ping.
    pinged: (u64, Instant),
    /// The program was told that the other end owes a sign of life.
    quiet: bool,
    /// Since when this side wants to end.
    ending: Option<Instant>,
}

impl<P: Side> Session<P> {
    fn new(side: P, ends: Ends<P::In>, stats: Arc<LinkStats>) -> Self {
        let now = Instant::now();
        stats.begun();
        Self {
            ends,
            stats,
            control: None,
            uploads: VecDeque::new(),
            pace: side.pace(),
            incoming: Incoming::new(side),
            complaint: None,
            unflushed: false,
            notes: Vec::new(),
            read_first: false,
            waiting: None,
            last_sign: now,
            next_ping: now + PING_EVERY,
            ping_due: false,
            pinged: (0, now),
            quiet: false,
            ending: None,
        }
    }

    async fn run<S, E>(&mut self, socket: &mut S) -> Closed
    where
        S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
        E: SocketError,
    {
        let events = self.ends.events.clone();
        loop {
            self.take_commands();
            while !self.incoming.events.is_empty()
                && let Ok(permit) = events.try_reserve()
                && let Some(event) = self.incoming.events.pop_front()
            {
                permit.send(event);
            }
            let now = Instant::now();
            let more = self.control.is_some() || self.ping_due || !self.uploads.is_empty();
            let write = more && self.notes.is_empty();
            let flush = !write && self.unflushed;
            let read = self.incoming.events.is_empty();
            if self.ending.is_some() && !write && !flush {
                return Closed::Local;
            }
            self.waiting = if write || flush { self.waiting.or(Some(now)) } else { None };
            if !read {
                // Not hearing is this side's own doing.
                self.last_sign = now;
            }
            self.read_first = !self.read_first;
            let read_first = self.read_first;
            let step = poll_fn(|cx| {
                for reading in [read_first, !read_first] {
                    if reading
                        && read
                        && let Poll::Ready(item) = socket.poll_next_unpin(cx)
                    {
                        return Poll::Ready(Step::Read(item));
                    }
                    if !reading
                        && write
                        && let Poll::Ready(result) = socket.poll_ready_unpin(cx)
                    {
                        return Poll::Ready(Step::Writable(result));
                    }
                    if !reading
                        && flush
                        && let Poll::Ready(result) = socket.poll_flush_unpin(cx)
                    {
                        return Poll::Ready(Step::Flushed(result));
                    }
                }
                Poll::Pending
            });
            let ending = self.ending.is_some();
            let deadline = self.deadline();
            let outcome = tokio::select! {
                step = step => self.step(socket, step),
                permit = events.reserve(), if !read => match (permit, self.incoming.events.pop_front()) {
                    (Ok(permit), Some(event)) => { permit.send(event); Ok(()) }
                    // Nobody listens any more.
                    _ => { self.incoming.events.clear(); self.end(); Ok(()) }
                },
                () = events.closed(), if read && !ending => { self.end(); Ok(()) }
                () = self.ends.closing.cancelled(), if !ending => { self.end(); Ok(()) }
                command = self.ends.commands.recv(), if self.control.is_none() && !ending => {
                    match command {
                        Some(command) => self.apply(command),
                        None => self.end(),
                    }
                    Ok(())
                }
                () = tokio::time::sleep_until(deadline) => self.expire(Instant::now()),
            };
            if let Err(closed) = outcome {
                return closed;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let stall = self.waiting.map(|since| since + WRITE_STALL);
        [stall, self.ending.map(|since| since + FAREWELL), self.quiet_from()]
            .into_iter()
            .flatten()
            .fold(self.next_ping.min(self.last_sign + SILENCE), Instant::min)
    }

    /// When the program is told that the other end owes a sign of life. A ping behind bytes that wait for the network
    /// says nothing about the other end.
    fn quiet_from(&self) -> Option<Instant> {
        let owed = !self.quiet && self.pinged.0 > 0 && self.pinged.1 > self.last_sign && self.uploads.is_empty();
        owed.then(|| self.pinged.1 + QUIET)
    }

    fn expire(&mut self, now: Instant) -> Result<(), Closed> {
        if self.ending.is_some_and(|since| now >= since + FAREWELL) {
            return Err(Closed::Local);
        }
        if self.waiting.is_some_and(|since| now >= since + WRITE_STALL) {
            return Err(Closed::Stalled);
        }
        if self.incoming.events.is_empty() && now >= self.last_sign + SILENCE {
            return Err(Closed::Silent);
        }
        if self.incoming.events.is_empty() && self.quiet_from().is_some_and(|from| now >= from) {
            self.quiet = true;
            self.incoming.events.push_back(Event::Quiet);
        }
        if now >= self.next_ping {
            self.ping_due = true;
            self.next_ping = now + PING_EVERY;
        }
        Ok(())
    }

    /// This side is done: blobs are given up, messages still go.
    fn end(&mut self) {
        self.ending.get_or_insert_with(Instant::now);
        self.ends.commands.close();
        self.uploads.clear();
    }

    /// Takes commands until a control message is in hand.
    fn take_commands(&mut self) {
        while self.control.is_none()
            && let Ok(command) = self.ends.commands.try_recv()
        {
            self.apply(command);
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Control(control) => self.control = Some(control),
            Command::Blob(..) if self.ending.is_some() => self.uploaded(),
            Command::Blob(digest, bytes) if bytes.is_empty() => {
                self.uploaded();
                self.incoming.events.push_back(Event::Sent(digest));
            }
            Command::Blob(digest, bytes) => self.uploads.push_back(Upload::new(digest, bytes)),
            Command::Expect(digest, bytes) => {
                if !self.incoming.expect(digest, bytes) {
                    tracing::warn!(blob = %digest, "too many blobs are awaited: the session ends");
                    self.end();
                }
            }
            Command::Forget(digest) => {
                self.incoming.forget(&digest);
                let before = self.uploads.len();
                self.uploads.retain(|upload| upload.digest() != digest);
                (self.uploads.len()..before).for_each(|_| self.uploaded());
            }
        }
    }

    fn uploaded(&self) {
        self.ends.uploads.fetch_sub(1, Ordering::Relaxed);
    }

    fn step<S, E>(&mut self, socket: &mut S, step: Step<E>) -> Result<(), Closed>
    where
        S: Sink<Message, Error = E> + Unpin,
        E: SocketError,
    {
        match step {
            Step::Writable(result) => {
                result.map_err(broken)?;
                self.waiting = None;
                let Some((message, sent)) = self.next_message() else { return Ok(()) };
                socket.start_send_unpin(message).map_err(broken)?;
                self.unflushed = true;
                self.notes.extend(sent);
                Ok(())
            }
            Step::Flushed(result) => {
                result.map_err(broken)?;
                self.waiting = None;
                self.unflushed = false;
                if !self.notes.is_empty() {
                    let now = Instant::now();
                    // What is noted is waited for, and a reader on the same machine may wait for this very core.
                    std::thread::yield_now();
                    self.notes.drain(..).for_each(|note| note(now));
                }
                Ok(())
            }
            Step::Read(None) => Err(Closed::Remote(String::new())),
            Step::Read(Some(Err(error))) => match error.too_large() {
                Some(bytes) => {
                    let text = format!("a message has {bytes} bytes where at most {FRAME_BYTES} are allowed");
                    Err(self.broke(ErrorCode::TooLarge, &text))
                }
                None => Err(broken(error)),
            },
            Step::Read(Some(Ok(message))) => {
                self.last_sign = Instant::now();
                self.ends.round_trip.heard();
                self.stats.heard();
                if std::mem::take(&mut self.quiet) {
                    self.incoming.events.push_back(Event::Woke);
                }
                self.hear(message)
            }
        }
    }

    fn next_message(&mut self) -> Option<(Message, Option<Note>)> {
        if std::mem::take(&mut self.ping_due) {
            self.pinged = (self.pinged.0 + 1, Instant::now());
            self.ends.round_trip.ask();
            self.stats.asked();
            return Some((Message::Ping(self.pinged.0.to_be_bytes().to_vec().into()), None));
        }
        self.take_commands();
        let (bytes, sent) = match self.control.take() {
            Some(Control { bytes, sent }) => (bytes, sent),
            None => (self.next_chunk()?, None),
        };
        self.stats.sent(bytes.len());
        Some((Message::Binary(bytes.into()), sent))
    }

    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let upload = self.uploads.front_mut()?;
        let bytes = P::encode(&P::chunk(upload.chunk()));
        if upload.is_done() {
            let digest = upload.digest();
            self.uploads.pop_front();
            self.uploaded();
            self.incoming.events.push_back(Event::Sent(digest));
        }
        Some(bytes)
    }
}
