//! A WebSocket as sessions use it: small buffers, and a too long message does not cost the last word.
//!
//! A message past the limit is found from its length, before it has come. To be able to tell the other end, the rest
//! of it must be read (and is thrown away): a socket that is closed with unread data takes back what was written last.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hydra_core::limits::FRAME_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes of a socket's read buffer. The library's default of 128 KiB is what most of an idle session would cost; a
/// long message gets a buffer of its own size anyway.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes of messages that a socket may buffer before it takes no more; above one frame, or none would fit.
const WRITE_BUFFER: usize = 2 * FRAME_BYTES;
/// Bytes thrown away at a time.
const SCRAP: usize = 8 * 1024;

/// Why a socket failed.
pub trait SocketError: Display + Send + 'static {
    /// How many bytes a message has or would have that is past the limit.
    fn too_large(&self) -> Option<usize> {
        None
    }

    /// The system's own reason, if it was that.
    fn io_kind(&self) -> Option<io::ErrorKind>;
}

impl SocketError for io::Error {
    fn io_kind(&self) -> Option<io::ErrorKind> {
        Some(self.kind())
    }
}

impl SocketError for Error {
    fn too_large(&self) -> Option<usize> {
        match self {
            Self::Capacity(CapacityError::MessageTooLong { size, .. }) => Some(*size),
            _ => None,
        }
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error) => Some(error.kind()),
            _ => None,
        }
    }
}

/// One end of a WebSocket.
#[derive(Debug)]
pub struct Socket<T> {
    inner: WebSocketStream<T>,
    /// The rest of what comes is thrown away.
    scrapped: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket<T> {
    /// The coordinator's end, after the upgrade; `read` came behind the request.
    pub async fn accepted(tcp: T, read: Vec<u8>) -> Self {
        let inner = WebSocketStream::from_partially_read(tcp, read, Role::Server, Some(Self::config())).await;
        Self::new(inner)
    }

    /// The client's end; made with [`Socket::config`].
    pub fn new(inner: WebSocketStream<T>) -> Self {
        Self { inner, scrapped: false }
    }

    /// Buffers and limits of either end.
    pub fn config() -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(FRAME_BYTES))
            .max_frame_size(Some(FRAME_BYTES))
    }

    fn scrap(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut scrap = [0; SCRAP];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            let read = ready!(Pin::new(self.inner.get_mut()).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(None);
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for Socket<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.scrapped {
            return self.scrap(cx);
        }
        let item = ready!(self.inner.poll_next_unpin(cx));
        self.scrapped = matches!(&item, Some(Err(error)) if error.too_large().is_some());
        Poll::Ready(item)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Sink<Message> for Socket<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.inner.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_close_unpin(cx)
    }
}
