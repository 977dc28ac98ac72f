//! What the query client's machine takes and gives.

use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::credits::Credits;
use crate::ids::{Digest, Nonce, PublicKey, UserName, VersionNo};
use crate::proto::{self, ClientMsg, Finish, KeyAct, RefusedCode, ServerMsg};

/// What a client is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose credits.
    pub user: UserName,
    /// The key that owns the name.
    pub key: SigningKey,
    /// Program and version.
    pub agent: String,
    /// Whether to connect again after a loss; a one-shot client does not.
    pub reconnect: bool,
    /// Seeds the jitter of reconnects.
    pub seed: u64,
    /// The run that the session before was of, if there was one: another is told of.
    pub run: Option<PublicKey>,
}

/// Facts for the client.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The connection stands; the nonce is fresh from the system.
    Connected {
        /// For hello.
        nonce: Nonce,
    },
    /// It does not; or it ended.
    Closed {
        /// Why, for people.
        reason: String,
    },
    /// A message came.
    Message(ServerMsg),
    /// The user asks; the query's id is fresh from the system. Waits for the connection if need be.
    Ask(proto::Query),
    /// The user wants the running answer to stop.
    Cancel,
    /// The user wants to know the balance.
    AskBalance,
    /// The user wants something about API keys: of `key`, or of all. Only while the session stands.
    ApiKey {
        /// What.
        act: KeyAct,
        /// BLAKE3 of the key's text.
        key: Option<Digest>,
    },
    /// The user wants to know how the run is.
    AskStatus,
    /// The user leaves.
    Leave,
}

/// Orders for the shell.
#[derive(Debug, Clone)]
pub enum Order {
    /// Connect, and answer [`Fact::Connected`] or [`Fact::Closed`].
    Connect,
    /// Send a message.
    Send(ClientMsg),
    /// Show.
    Show(Event),
    /// End the connection; the program may end.
    Exit(Exit),
}

/// Why a client ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The user left.
    Done,
    /// The coordinator cannot be reached or was lost.
    Unreachable(String),
    /// The coordinator said goodbye for good.
    Over(String),
    /// The coordinator does not want this client.
    Refused(String),
}

/// What happened, for the screen and for scripts; serialises to `{"event": "token", …}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another run than before answers at the address: its credits are others. The session is about to stand.
    OtherRun,
    /// The session stands.
    Connected {
        /// The user's balance.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// What a query costs.
        #[serde(serialize_with = "crate::hub::hyd")]
        price: Credits,
        /// The newest version.
        version: VersionNo,
        /// Its held-out loss.
        val_loss: Option<f64>,
        /// The version that this is the loss of, if it is another one.
        #[serde(skip_serializing_if = "Option::is_none")]
        val_version: Option<VersionNo>,
    },
    /// The session is lost; the next try is in so many milliseconds.
    Disconnected {
        /// Milliseconds.
        retry_ms: u64,
        /// Why.
        reason: String,
    },
    /// The next piece of the answer.
    Token {
        /// Its text.
        text: String,
    },
    /// The answer is complete.
    Answer {
        /// All pieces.
        text: String,
        /// New tokens.
        tokens: u32,
        /// Which version answered.
        version: VersionNo,
        /// Whether it was the average of the versions up to that one.
        averaged: bool,
        /// Its held-out loss, nats a token.
        val_loss: Option<f64>,
        /// The version that this is the loss of, if it is another one.
        #[serde(skip_serializing_if = "Option::is_none")]
        val_version: Option<VersionNo>,
        /// What it cost.
        #[serde(serialize_with = "crate::hub::hyd")]
        charged: Credits,
        /// What is left.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// What ended it.
        finish: Finish,
    },
    /// There is no (whole) answer; nothing was charged.
    Refused {
        /// Why, for programs.
        reason: RefusedCode,
        /// Why, for people.
        text: String,
        /// What is there.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
    },
    /// There is no (whole) answer: the connection was lost, or the question was taken back before it was sent.
    Lost {
        /// What had come.
        text: String,
        /// Why.
        reason: String,
        /// What is known of its charge.
        cost: Cost,
    },
    /// The balance.
    Balance {
        /// Free to spend.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// Held for running queries.
        #[serde(serialize_with = "crate::hub::hyd")]
        held: Credits,
    },
    /// What was wanted about API keys is done.
    ApiKeys {
        /// Those that the user has then.
        keys: Vec<Known>,
    },
    /// The run in numbers.
    Status(proto::Status),
    /// At the run's end, unasked: as `balance`.
    LastBalance {
        /// Free to spend.
        #[serde(serialize_with = "crate::hub::hyd")]
        balance: Credits,
        /// Held for running queries.
        #[serde(serialize_with = "crate::hub::hyd")]
        held: Credits,
    },
    /// At the run's end, unasked: as `status`.
    LastStatus(proto::Status),
}

impl Event {
    /// Whether it answers something that was asked; all else is about the session.
    pub fn answers(&self) -> bool {
        !matches!(
            self,
            Self::OtherRun
                | Self::Connected { .. }
                | Self::Disconnected { .. }
                | Self::LastBalance { .. }
                | Self::LastStatus(_)
        )
    }
}

/// An API key of the user, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its name: the first digits of its digest.
    pub id: String,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// BLAKE3 of its text.
    #[serde(skip)]
    pub digest: Digest,
}

impl Known {
    /// The name by which people tell keys apart.
    pub fn id_of(digest: &Digest) -> String {
        let mut id = digest.to_string();
        id.truncate(ID_DIGITS);
        id
    }
}

/// Hexadecimal digits of a key's name; the coordinator keeps 16 keys a user, so these never meet by chance.
const ID_DIGITS: usize = 16;

/// What is known of the charge of an answer that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nothing: it was never sent.
    Nothing,
    /// It was sent. Whether its answer was complete when the session ended, and so is paid, only the balance tells.
    Unknown,
}
