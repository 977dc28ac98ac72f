//! The client's end of a session, over a real connection to a coordinator.

mod connect;
pub mod line;

pub use crate::link::{Closed, LinkStats, SendError};
pub use connect::{CONNECT_TIMEOUT, ConnectError, connect};

use crate::link;

/// A session with a coordinator.
pub type Connection = link::Connection<link::Client>;
/// Where messages to the coordinator are put.
pub type Outbox = link::Outbox<link::Client>;
/// What the session tells the program.
pub type Event = link::Event<hydra_core::proto::ServerMsg>;
