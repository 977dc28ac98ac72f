//! What a session makes of what it hears, and what it says to an end that broke the protocol.

use std::io::ErrorKind;

use hydra_core::proto::ErrorCode;
use hydra_core::proto::wire::WireError;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Closed, Session, Side, SocketError};
use crate::terminal::{Keep, sanitize};

/// The WebSocket's own word for why a session ends; the protocol's is in the message before.
pub(super) fn close_code(closed: &Closed) -> Option<CloseCode> {
    match closed {
        Closed::TooLarge(_) => Some(CloseCode::Size),
        Closed::Flood(_) => Some(CloseCode::Policy),
        Closed::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// A socket's failure as the reason of an end, safe to show.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(super) fn broken(error: impl SocketError) -> Closed {
    let text = error.to_string();
    // The library's words for a process that was killed, or a cable that was pulled, are about the protocol and errno.
    let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
    if text.contains("without closing handshake") || error.io_kind().is_some_and(|kind| gone.contains(&kind)) {
        return Closed::Broken("the other side is gone without a goodbye".to_owned());
    }
    Closed::Broken(sanitize(&text, Keep::Nothing).into_owned())
}

impl<P: Side> Session<P> {
    /// Takes a message from the socket; an error ends the session.
    pub(super) fn hear(&mut self, message: Message) -> Result<(), Closed> {
        match message {
            Message::Binary(bytes) => {
                self.stats.received(bytes.len());
                let message = P::decode(&bytes).map_err(|error| {
                    let large = matches!(error, WireError::TooLarge { .. });
                    (if large { ErrorCode::TooLarge } else { ErrorCode::Malformed }, error.to_string())
                });
                let message = message.map_err(|(code, text)| self.broke(code, &text))?;
                if !P::is_bulk(&message) {
                    self.paced()?;
                }
                self.incoming.take(message).map_err(|(code, text)| self.broke(code, &text))
            }
            Message::Pong(payload) => {
                if payload[..] == self.pinged.0.to_be_bytes() {
                    let round_trip = self.pinged.1.elapsed();
                    self.ends.round_trip.set(round_trip);
                    self.stats.ponged(round_trip);
                }
                self.paced()
            }
            Message::Close(frame) => {
                let text = frame.map(|frame| sanitize(&frame.reason, Keep::Nothing).into_owned());
                Err(Closed::Remote(text.unwrap_or_default()))
            }
            Message::Text(_) => {
                Err(self.broke(ErrorCode::Malformed, "it sent text where only binary messages are known"))
            }
            // The socket answers pings by itself.
            Message::Ping(_) | Message::Frame(_) => self.paced(),
        }
    }

    /// Whether another message is welcome so soon.
    fn paced(&mut self) -> Result<(), Closed> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        if pace.take(Instant::now()) {
            return Ok(());
        }
        let text = format!("more than {} messages a second, and that for a while", pace.per_second());
        Err(self.broke(ErrorCode::Flood, &text))
    }

    /// The other end broke the protocol: it is told before the session ends.
    pub(super) fn broke(&mut self, code: ErrorCode, text: &str) -> Closed {
        let text = sanitize(text, Keep::Nothing).into_owned();
        tracing::debug!(peer = P::PEER, text, "the other end broke the protocol");
        self.complaint = Some(P::encode(&P::complaint(code, &text)));
        match code {
            ErrorCode::TooLarge => Closed::TooLarge(text),
            ErrorCode::Flood => Closed::Flood(text),
            _ => Closed::Protocol(text),
        }
    }
}
