//! The network: connections whose frames arrive in order, late, or not at all.
//!
//! A connection that is cut loses everything on its way and everything after; each end notices in its own time.
//! Blobs travel beside messages, as chunks do that are overtaken by them: in order among themselves, after what
//! announced them.

use crate::ids::{Digest, SessionId};
use crate::proto::{ClientMsg, ServerMsg};
use crate::rng::Rng;
use crate::time::Time;

pub type ConnId = u64;

/// The two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Coordinator,
}

/// What a blob holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// What was merged, hashed: added to a version it gives the next.
    Delta(Digest),
    /// A version, hashed.
    Whole(Digest),
    Shard,
    /// Trained from weights with this digest.
    Update {
        base: Digest,
    },
    /// Plausible numbers that were not trained.
    Noise,
    /// Somebody else's work, disguised.
    Copy,
    /// Numbers that are none.
    Garbage,
    /// A thousand times too much.
    Loud,
}

/// What travels.
#[derive(Debug, Clone)]
pub enum Frame {
    /// The connection stands.
    Open,
    Client(ClientMsg),
    Server(ServerMsg),
    Blob {
        digest: Digest,
        content: Content,
        intact: bool,
    },
    /// Bytes that are no message.
    Bad,
    /// The other end closed the connection.
    Fin,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    pub client: usize,
    /// The start of the coordinator that accepted it; 0: none has.
    pub boot: u64,
    pub session: SessionId,
    /// Whether each end believes in it.
    pub open: [bool; 2],
    pub cut: bool,
    /// Microseconds of delay, at least.
    lag: u64,
    /// Microseconds that a blob takes, at least.
    blob: u64,
    messages: [Time; 2],
    blobs: [Time; 2],
}

impl Conn {
    /// A connection of the usual kind, or, if the world is bad, sometimes a slow one.
    pub fn new(client: usize, rng: &mut Rng, bad: bool) -> Self {
        let slow = bad && rng.below(5) == 0;
        let lag = 100 + rng.below(if slow { 800_000 } else { 20_000 });
        let blob = 500 + rng.below(if slow { 8_000_000 } else { 100_000 });
        let (never, session) = ([Time(0); 2], SessionId(0));
        Self { client, boot: 0, session, open: [true, false], cut: false, lag, blob, messages: never, blobs: never }
    }

    /// When a frame that is sent now arrives; never, if the connection is cut.
    pub fn arrival(&mut self, now: Time, to: Side, frame: &Frame, rng: &mut Rng) -> Option<Time> {
        if self.cut {
            return None;
        }
        let to = to as usize;
        let at = Time(now.0 + self.lag + rng.below(self.lag)).max(self.messages[to]);
        if !matches!(frame, Frame::Blob { .. }) {
            self.messages[to] = at;
            return Some(at);
        }
        let at = Time(at.max(self.blobs[to]).0 + self.blob + rng.below(self.blob));
        self.blobs[to] = at;
        Some(at)
    }

    /// Nothing that is sent from here on arrives before `until`.
    pub fn stall(&mut self, until: Time) {
        for lane in self.messages.iter_mut().chain(&mut self.blobs) {
            *lane = (*lane).max(until);
        }
    }
}
