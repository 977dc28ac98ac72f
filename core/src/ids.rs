//! Names and numbers of things, each its own type so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers that the coordinator gives out; each prints as the plain number.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// One connection to the coordinator; never reused while the coordinator runs.
    SessionId,
    /// A fixed amount of training work; never reused in one run.
    TaskId,
    /// A task in one worker's hands; never reused in one run. A task that is leased again gets a new lease.
    LeaseId,
    /// The number of a version of the model; 0 is the random start.
    VersionNo,
}

/// Reads `N` raw bytes, and not the text or array of numbers that serde's own byte arrays take too.
struct Bin<const N: usize>;

impl<const N: usize> serde::de::Visitor<'_> for Bin<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

/// Byte strings of a fixed length: raw bytes in MessagePack, lower-case hex where people read.
macro_rules! bytes {
    ($($(#[$doc:meta])* $name:ident [$len:literal]),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_bytes::serialize(&self.0[..], serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(Bin).map(Self)
            }
        }
    )*};
}

bytes! {
    /// A BLAKE3 digest: of a version's weights, a shard, a delta, an update, a transfer.
    Digest[32],
    /// An ed25519 public key.
    PublicKey[32],
    /// Random bytes that make a handshake unique.
    Nonce[32],
    /// An ed25519 signature.
    Signature[64],
    /// A query's id, drawn by the client, so that a resent query is known again.
    QueryId[16],
    /// A transfer's id in the ledger, derived from what it is for, so that it cannot be made twice.
    TransferId[16],
    /// What a worker process calls itself, drawn when it starts; the same over its reconnects.
    WorkerId[8],
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl TransferId {
    /// An id from a purpose and what identifies it; the same inputs always give the same id.
    pub fn derive(purpose: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

/// A user's name: 1 to 32 of `a-z A-Z 0-9 - _ .`, not beginning with a dot or dash. ASCII, so that no two names
/// look alike and none can carry control characters to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

/// Why a text is not a user's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a user name has 1 to 32 of the characters a-z A-Z 0-9 - _ . and begins with a letter, a digit or _")]
pub struct UserNameError;

impl UserName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !text.starts_with(['-', '.']);
        fits.then(|| Self(text.to_owned())).ok_or(UserNameError)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["alice", "Bob-2", "a", "_x.y", "01234567890123456789012345678901"] {
            assert_eq!(good.parse::<UserName>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-rf", ".hidden", "a b", "é", "a\u{1b}[2J", "012345678901234567890123456789012"] {
            assert_eq!(bad.parse::<UserName>(), Err(UserNameError), "{bad:?}");
        }
    }

    #[test]
    fn derived_ids_tell_their_parts_apart() {
        let id = |parts: &[&[u8]]| TransferId::derive("t", parts);
        assert_eq!(id(&[b"ab", b"c"]), id(&[b"ab", b"c"]));
        assert_ne!(id(&[b"ab", b"c"]), id(&[b"a", b"bc"]));
    }
}
