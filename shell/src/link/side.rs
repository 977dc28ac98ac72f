//! What differs between the two ends of a session: which messages go which way, and which of them announce blobs.

use std::borrow::Cow;

use hydra_core::ids::Digest;
use hydra_core::limits::SENT_CHUNK_BYTES;
use hydra_core::proto::wire::{self, WireError};
use hydra_core::proto::{Bye, Chunk, ClientMsg, Error, ErrorCode, ServerMsg};

use super::Pace;
use crate::terminal::{Keep, sanitize};

/// A message as the session sorts it.
#[derive(Debug)]
pub enum Sorted<M> {
    /// A part of a blob.
    Chunk(Chunk),
    /// A message for the program, with the blob that it announces.
    Message(M, Option<(Digest, u64)>),
}

/// One end of a session.
pub trait Side: Send + Unpin + 'static {
    /// What this end says.
    type Out: Send + 'static;
    /// What it hears.
    type In: Send + 'static;
    /// How people call the other end.
    const PEER: &'static str;
    /// Whether a blob with the wrong digest is told to the program; otherwise it ends the session.
    const TELLS_DAMAGE: bool;

    /// A message as bytes.
    fn encode(message: &Self::Out) -> Vec<u8>;
    /// The message that carries a chunk.
    fn chunk(chunk: Chunk) -> Self::Out;
    /// Bytes as a message.
    fn decode(bytes: &[u8]) -> Result<Self::In, WireError>;
    /// Takes chunks from messages, and finds the blob that a message announces; an error breaks the protocol.
    fn sort(&mut self, message: Self::In) -> Result<Sorted<Self::In>, String>;
    /// How fast messages may come; nothing: as fast as they like.
    fn pace(&self) -> Option<Pace> {
        None
    }
    /// Whether the message carries so much that its bytes are limit enough for how many come.
    fn is_bulk(_: &Self::In) -> bool {
        false
    }
    /// The last word to an end that broke the protocol.
    fn complaint(code: ErrorCode, text: &str) -> Self::Out;
}

/// A worker's or chat's end.
#[derive(Debug, Default)]
pub struct Client {
    /// What the largest version may take: known from `welcome`.
    version_bytes: u64,
}

impl Side for Client {
    type Out = ClientMsg;
    type In = ServerMsg;
    const PEER: &'static str = "the coordinator";
    const TELLS_DAMAGE: bool = false;

    fn encode(message: &ClientMsg) -> Vec<u8> {
        wire::encode_client(message)
    }

    fn chunk(chunk: Chunk) -> ClientMsg {
        ClientMsg::Chunk(chunk)
    }

    fn decode(bytes: &[u8]) -> Result<ServerMsg, WireError> {
        wire::decode_server(bytes)
    }

    fn sort(&mut self, mut message: ServerMsg) -> Result<Sorted<ServerMsg>, String> {
        one_line(&mut message);
        let announced = match &message {
            // f32 is the largest way to write a number.
            ServerMsg::Welcome(welcome) => {
                self.version_bytes = 4 * welcome.shape.params() as u64;
                None
            }
            ServerMsg::Version(version) if version.bytes > self.version_bytes => {
                return Err("a version is larger than its model".to_owned());
            }
            ServerMsg::Version(version) => Some((version.blob, version.bytes)),
            _ => None,
        };
        match message {
            ServerMsg::Chunk(chunk) => Ok(Sorted::Chunk(chunk)),
            message => Ok(Sorted::Message(message, announced)),
        }
    }

    fn complaint(_: ErrorCode, text: &str) -> ClientMsg {
        // It comes back, with its lease.
        ClientMsg::Bye(Bye { text: text.to_owned(), retry: true })
    }
}

/// What the coordinator gives as a reason becomes part of sentences of ours: with line ends in it, it could add lines that
/// look like our own.
fn one_line(message: &mut ServerMsg) {
    let text = match message {
        ServerMsg::Error(error) => &mut error.text,
        ServerMsg::Bye(bye) => &mut bye.text,
        ServerMsg::Unpaid(unpaid) | ServerMsg::Revoked(unpaid) => &mut unpaid.text,
        ServerMsg::Refused(refused) => &mut refused.text,
        _ => return,
    };
    if let Cow::Owned(safe) = sanitize(text, Keep::Nothing) {
        *text = safe;
    }
}

/// The coordinator's end.
#[derive(Debug)]
pub struct Coordinator {
    /// Bytes of the largest update that is taken; of a larger one the chunks are dropped.
    pub update_bytes: u64,
    /// How fast a client's messages may come.
    pub pace: Option<Pace>,
}

impl Side for Coordinator {
    type Out = ServerMsg;
    type In = ClientMsg;
    const PEER: &'static str = "the client";
    const TELLS_DAMAGE: bool = true;

    fn encode(message: &ServerMsg) -> Vec<u8> {
        wire::encode_server(message)
    }

    fn chunk(chunk: Chunk) -> ServerMsg {
        ServerMsg::Chunk(chunk)
    }

    fn decode(bytes: &[u8]) -> Result<ClientMsg, WireError> {
        wire::decode_client(bytes)
    }

    fn sort(&mut self, message: ClientMsg) -> Result<Sorted<ClientMsg>, String> {
        let announced = match &message {
            ClientMsg::Update(update) if update.bytes <= self.update_bytes => Some((update.blob, update.bytes)),
            _ => None,
        };
        match message {
            ClientMsg::Chunk(chunk) => Ok(Sorted::Chunk(chunk)),
            message => Ok(Sorted::Message(message, announced)),
        }
    }

    fn pace(&self) -> Option<Pace> {
        self.pace
    }

    fn is_bulk(message: &ClientMsg) -> bool {
        matches!(message, ClientMsg::Chunk(chunk) if chunk.data.len() >= SENT_CHUNK_BYTES)
    }

    fn complaint(code: ErrorCode, text: &str) -> ServerMsg {
        ServerMsg::Error(Error { code, text: text.to_owned(), fatal: true })
    }
}
