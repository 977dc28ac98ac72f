//! How sessions are told something; one that does not take it is cut. And how people are told that training waits.

use super::{Driver, Outbox, SendError, ServerMsg, SessionId};
use crate::serve::metrics;

impl Driver {
    pub(super) fn send(&mut self, session: SessionId, message: &ServerMsg) {
        self.with(session, |outbox| outbox.send(message));
    }

    /// Does something with a session's outbox; a session that does not keep up is cut.
    pub(super) fn with(&mut self, session: SessionId, act: impl FnOnce(&Outbox) -> Result<(), SendError>) {
        if let Some(outbox) = self.sessions.get(&session)
            && act(outbox) == Err(SendError::Full)
        {
            cut(session, outbox);
        }
    }
}

/// What finds no room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Update,
    Version,
}

/// What waits for room on the disk. A version can be made while updates find none, so each goes on by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stuck {
    update: bool,
    version: bool,
}

impl Stuck {
    /// Whether anything does.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Puts down whether this waits; says whether training as a whole has begun or ended to wait by that.
    fn set(&mut self, what: What, waits: bool) -> bool {
        let before = self.any();
        match what {
            What::Update => self.update = waits,
            What::Version => self.version = waits,
        }
        before != self.any()
    }
}

impl Driver {
    /// Says once that training waits for the disk.
    pub(super) fn pause(&mut self, what: What, why: &str) {
        if self.stuck.set(what, true) {
            tracing::warn!(why, "training pauses");
            self.events.say(&format!("training pauses: {why}; nothing is lost, trying again"));
        }
    }

    /// The disk takes this again.
    pub(super) fn go_on(&mut self, what: What) {
        if self.stuck.set(what, false) {
            self.events.say("training goes on");
        }
    }
}

/// Ends a session that does not keep up.
pub(super) fn cut(session: SessionId, outbox: &Outbox) {
    tracing::warn!(%session, "a session does not take what it is sent: cut");
    metrics::slow_reader();
    outbox.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_goes_on_when_nothing_waits_any_more() {
        let mut stuck = Stuck::default();
        assert!(!stuck.set(What::Version, false), "nothing has waited");
        assert!(stuck.set(What::Update, true) && !stuck.set(What::Update, true));
        // A version is made of the updates that were there before.
        assert!(!stuck.set(What::Version, false) && stuck.any());
        assert!(!stuck.set(What::Version, true) && !stuck.set(What::Update, false) && stuck.any());
        assert!(stuck.set(What::Version, false) && !stuck.any());
    }
}
