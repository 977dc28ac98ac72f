//! Bytes to messages and back, with every length and depth checked before anything is built from them.
//!
//! A frame is read three times: a scan that allocates nothing and walks the MessagePack (sizes, nesting, one value,
//! no extension types, text in UTF-8, maps with text as keys), then serde, then the bounds of single fields. So memory is
//! bounded by the frame's own length, and no input can panic or recurse deeply.
//!
//! Numbers are taken as MessagePack libraries write them: an integer or a 64-bit float where a 32-bit float is
//! meant. Ids, digests and data are `bin` only. A prompt may be as long as the frame allows, and there may be more stops
//! than a query takes, so that the hub can answer `huge_prompt` or `bad_setting` to it; whether a field makes sense at
//! this moment is the machines' matter too.

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};

use super::{ClientMsg, ServerMsg};
use crate::limits::{
    API_KEYS, CHUNK_BYTES, DEPTH, FRAME_BYTES, LABEL_BYTES, PIECE_BYTES, PREVIEW_BYTES, STOPS_READ, TEXT_BYTES,
};

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Something is past its bound in [`crate::limits`].
    #[error("{what} has {size} where at most {limit} are allowed")]
    TooLarge {
        /// What is too large, such as `frame bytes`.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Not MessagePack, not of the form `{kind: {field: value, …}}`, or a field is wrong or lacking.
    #[error("not a message of this protocol: {0}")]
    Malformed(String),
    /// A message that this side does not know or does not take.
    #[error("unknown kind of message {0:?}: the two programs may be of different versions")]
    UnknownKind(String),
}

pub(super) const CLIENT_KINDS: &[&str] = &[
    "hello", "proof", "ready", "fetch", "progress", "update", "chunk", "release", "query", "cancel", "balance",
    "status", "api_key", "bye",
];
pub(super) const SERVER_KINDS: &[&str] = &[
    "challenge",
    "welcome",
    "version",
    "task",
    "chunk",
    "credited",
    "unpaid",
    "revoked",
    "piece",
    "answer",
    "refused",
    "balance",
    "status",
    "api_keys",
    "bye",
    "error",
];

/// A client's message as bytes. Longer than [`FRAME_BYTES`] only if its texts or data are: the sender bounds them.
pub fn encode_client(message: &ClientMsg) -> Vec<u8> {
    rmp_serde::to_vec_named(message).expect("messages hold only what MessagePack can carry")
}

/// The coordinator's message as bytes; see [`encode_client`].
pub fn encode_server(message: &ServerMsg) -> Vec<u8> {
    rmp_serde::to_vec_named(message).expect("messages hold only what MessagePack can carry")
}

/// A client's message from the bytes of one frame.
pub fn decode_client(bytes: &[u8]) -> Result<ClientMsg, WireError> {
    let message = decode(bytes, CLIENT_KINDS)?;
    match &message {
        ClientMsg::Hello(hello) => {
            bound("protocol bytes", hello.protocol.len(), LABEL_BYTES)?;
            bound("agent bytes", hello.agent.len(), LABEL_BYTES)?;
            bound("device bytes", hello.device.len(), LABEL_BYTES)?;
        }
        ClientMsg::Chunk(chunk) => bound("data bytes", chunk.data.len(), CHUNK_BYTES)?,
        ClientMsg::Query(query) => bound("stops", query.stop.len(), STOPS_READ)?,
        ClientMsg::Release(release) => bound("text bytes", release.text.len(), TEXT_BYTES)?,
        ClientMsg::Bye(bye) => bound("text bytes", bye.text.len(), TEXT_BYTES)?,
        ClientMsg::Ready(ready) => bound("device bytes", ready.device.len(), LABEL_BYTES)?,
        ClientMsg::Proof(_)
        | ClientMsg::Fetch(_)
        | ClientMsg::Progress(_)
        | ClientMsg::Update(_)
        | ClientMsg::Cancel(_)
        | ClientMsg::Balance(_)
        | ClientMsg::Status(_)
        | ClientMsg::ApiKey(_) => {}
    }
    Ok(message)
}

/// The coordinator's message from the bytes of one frame. The shape in `welcome` has passed [`crate::model::Shape::check`].
pub fn decode_server(bytes: &[u8]) -> Result<ServerMsg, WireError> {
    let message = decode(bytes, SERVER_KINDS)?;
    match &message {
        ServerMsg::Welcome(welcome) => {
            welcome.shape.check().map_err(|error| WireError::Malformed(format!("shape: {error}")))?;
        }
        ServerMsg::Task(task) => bound("preview bytes", task.preview.len(), PREVIEW_BYTES)?,
        ServerMsg::Chunk(chunk) => bound("data bytes", chunk.data.len(), CHUNK_BYTES)?,
        ServerMsg::Unpaid(unpaid) | ServerMsg::Revoked(unpaid) => bound("text bytes", unpaid.text.len(), TEXT_BYTES)?,
        ServerMsg::Piece(piece) => bound("text bytes", piece.text.len(), PIECE_BYTES)?,
        ServerMsg::Refused(refused) => bound("text bytes", refused.text.len(), TEXT_BYTES)?,
        ServerMsg::ApiKeys(known) => bound("keys", known.keys.len(), API_KEYS)?,
        ServerMsg::Bye(bye) => bound("text bytes", bye.text.len(), TEXT_BYTES)?,
        ServerMsg::Error(error) => bound("text bytes", error.text.len(), TEXT_BYTES)?,
        ServerMsg::Challenge(_)
        | ServerMsg::Version(_)
        | ServerMsg::Credited(_)
        | ServerMsg::Answer(_)
        | ServerMsg::Balance(_)
        | ServerMsg::Status(_) => {}
    }
    Ok(message)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], kinds: &[&str]) -> Result<T, WireError> {
    let kind = scan(bytes)?;
    if !kinds.contains(&kind) {
        return Err(WireError::UnknownKind(clipped(kind, LABEL_BYTES)));
    }
    rmp_serde::from_slice(bytes).map_err(|error| malformed(&format!("{kind}: {error}")))
}

fn bound(what: &'static str, size: usize, limit: usize) -> Result<(), WireError> {
    if size <= limit { Ok(()) } else { Err(WireError::TooLarge { what, size, limit }) }
}

/// Serde's texts can quote what the peer sent; they must not grow with it.
fn malformed(text: &str) -> WireError {
    WireError::Malformed(clipped(text, TEXT_BYTES / 2))
}

fn clipped(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// Reads `bin`, and not the text or array of numbers that serde's own byte buffers take too.
pub(super) fn bin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bin;

    impl Visitor<'_> for Bin {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }

    deserializer.deserialize_bytes(Bin)
}

/// Reads a field that may be absent; `nil` says the same.
pub(super) fn nil_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Checks that `bytes` are one well-formed message as far as MessagePack goes, and finds its kind.
fn scan(bytes: &[u8]) -> Result<&str, WireError> {
    bound("frame bytes", bytes.len(), FRAME_BYTES)?;
    let mut scan = Scan { rest: bytes };
    let outer = scan.marker()?;
    if !matches!(outer, 0x80..=0x8f | 0xde | 0xdf) || scan.count(outer)? != 1 {
        return Err(malformed("a message is a map with one entry, its kind"));
    }
    let kind = scan.key()?;
    if !matches!(scan.rest.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(malformed("the fields of a message are a map"));
    }
    scan.value(2)?;
    if scan.rest.is_empty() { Ok(kind) } else { Err(malformed("bytes follow the message")) }
}

/// What is left of a frame.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or_else(|| malformed("it ends before its last value does"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn marker(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, WireError> {
        Ok(self.take(bytes)?.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)))
    }

    /// How many entries or elements the map or array with this marker has; never more than bytes are left.
    fn count(&mut self, marker: u8) -> Result<usize, WireError> {
        let count = match marker {
            0x80..=0x9f => usize::from(marker & 0x0f),
            0xdc | 0xde => self.length(2)?,
            _ => self.length(4)?,
        };
        let least = if matches!(marker, 0x80..=0x8f | 0xde | 0xdf) { 2 * count } else { count };
        if least <= self.rest.len() { Ok(count) } else { Err(malformed("a map or array is longer than the frame")) }
    }

    fn text(&mut self, marker: u8) -> Result<&'a str, WireError> {
        let length = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            _ => self.length(1 << (marker - 0xd9))?,
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| malformed("a text is not UTF-8"))
    }

    /// A map's key.
    fn key(&mut self) -> Result<&'a str, WireError> {
        match self.marker()? {
            marker @ (0xa0..=0xbf | 0xd9..=0xdb) => self.text(marker),
            _ => Err(malformed("a map's key is not text")),
        }
    }

    /// One value; `depth` counts the maps and arrays from the outermost to it, if it is one itself.
    fn value(&mut self, depth: usize) -> Result<(), WireError> {
        let marker = self.marker()?;
        match marker {
            // Small integers, nil, false, true.
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => {}
            0x80..=0x8f | 0xde | 0xdf => {
                bound("nesting", depth, DEPTH)?;
                for _ in 0..self.count(marker)? {
                    self.key()?;
                    self.value(depth + 1)?;
                }
            }
            0x90..=0x9f | 0xdc | 0xdd => {
                bound("nesting", depth, DEPTH)?;
                for _ in 0..self.count(marker)? {
                    self.value(depth + 1)?;
                }
            }
            0xa0..=0xbf | 0xd9..=0xdb => {
                self.text(marker)?;
            }
            0xc4..=0xc6 => {
                let length = self.length(1 << (marker - 0xc4))?;
                self.take(length)?;
            }
            // Floats of 4 and 8 bytes, integers of 1, 2, 4 and 8.
            0xca | 0xcb => {
                self.take(4 << (marker - 0xca))?;
            }
            0xcc..=0xd3 => {
                self.take(1 << (marker & 3))?;
            }
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(malformed("extension types have no place in it")),
        }
        Ok(())
    }
}
