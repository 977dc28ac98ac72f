//! How sessions are told something; one that does not take it is cut.

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

/// Ends a session that does not keep up.
pub(super) fn cut(session: SessionId, outbox: &Outbox) {
    tracing::warn!(%session, "a session does not take what it is sent: cut");
    metrics::slow_reader();
    outbox.close();
}
