//! A request as a session of the hub: its two ends, one with the request, one with the driver.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hydra_core::hub::Fact;
use hydra_core::ids::{Digest, SessionId};
use hydra_core::limits;
use hydra_core::proto::{Answer, ClientMsg, Query, ServerMsg};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::driver::Input;
use super::super::listen::Visitor;
use super::super::metrics;
use super::Desk;
use super::refusal::Refusal;

/// The request's end. Dropping it leaves: what is not answered by then costs nothing.
pub struct Session {
    id: SessionId,
    inputs: mpsc::Sender<Input>,
    messages: mpsc::Receiver<ServerMsg>,
    runtime: Handle,
    _token: TaskTrackerToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        let (inputs, session) = (self.inputs.clone(), self.id);
        self.runtime.spawn(async move {
            let left = Fact::Left { session, reason: "the request ended".to_owned() };
            // A driver that is gone has left every session.
            inputs.send(Input::Fact(left)).await.ok();
        });
    }
}

/// What a request hears.
pub enum Heard {
    Text(String),
    Done(Answer),
    Refused(Refusal),
}

impl Session {
    /// Opens a session of the key's user.
    pub async fn open(desk: &Desk, key: Digest, visitor: &Visitor) -> Result<Self, Refusal> {
        let id = SessionId(desk.next.fetch_add(1, Ordering::Relaxed));
        let (sender, messages) = mpsc::channel(limits::OUTBOX);
        let (inputs, runtime) = (desk.inputs.clone(), Handle::current());
        let mut session = Self { id, inputs, messages, runtime, _token: desk.tasks.token() };
        let caller = Caller { messages: sender, _owed: visitor.owed.token() };
        desk.inputs.send(Input::Asked(id, key, caller)).await.map_err(|_| Refusal::stopping())?;
        match session.messages.recv().await {
            Some(ServerMsg::Welcome(_)) => Ok(session),
            Some(ServerMsg::Error(error)) => Err(Refusal::error(&error)),
            _ => Err(Refusal::stopping()),
        }
    }

    /// Asks.
    pub async fn ask(&mut self, query: Query) -> Result<(), Refusal> {
        let fact = Fact::Frame { session: self.id, message: ClientMsg::Query(query) };
        self.inputs.send(Input::Fact(fact)).await.map_err(|_| Refusal::stopping())
    }

    /// What comes next of the answer.
    pub async fn next(&mut self) -> Heard {
        loop {
            match self.messages.recv().await {
                Some(ServerMsg::Piece(piece)) => return Heard::Text(piece.text),
                Some(ServerMsg::Answer(answer)) => return Heard::Done(answer),
                Some(ServerMsg::Refused(refused)) => return Heard::Refused(Refusal::refused(&refused)),
                Some(ServerMsg::Error(error)) => return Heard::Refused(Refusal::error(&error)),
                Some(message) if !matches!(message, ServerMsg::Bye(_)) => {}
                Some(_) | None => return Heard::Refused(Refusal::lost()),
            }
        }
    }
}

/// The driver's end.
pub struct Caller {
    messages: mpsc::Sender<ServerMsg>,
    /// While the hub owes something, the connection is not taken for an idle one.
    _owed: TaskTrackerToken,
}

/// All requests that wait for something.
#[derive(Default)]
pub struct Callers {
    waiting: BTreeMap<SessionId, Caller>,
    /// Sessions that are over, until the hub is told.
    left: Vec<SessionId>,
}

impl Callers {
    pub fn add(&mut self, session: SessionId, caller: Caller) {
        self.waiting.insert(session, caller);
    }

    /// Passes a message on; gives it back if its session is no request's. A request that does not keep up is cut.
    pub fn pass(&mut self, session: SessionId, message: ServerMsg) -> Option<ServerMsg> {
        let Some(caller) = self.waiting.get(&session) else { return Some(message) };
        let last =
            matches!(message, ServerMsg::Answer(_) | ServerMsg::Refused(_) | ServerMsg::Error(_) | ServerMsg::Bye(_));
        // Room is kept for the last word: once that is said, it is paid for.
        let passed = if !last && caller.messages.capacity() < 2 {
            Err(mpsc::error::TrySendError::Full(message))
        } else {
            caller.messages.try_send(message)
        };
        if matches!(passed, Err(mpsc::error::TrySendError::Full(_))) {
            tracing::warn!(%session, "a request does not take its answer: cut");
            metrics::slow_reader();
        }
        if last || passed.is_err() {
            self.forget(session);
            self.left.push(session);
        }
        None
    }

    /// How many messages the session's client could be behind yet.
    pub fn room(&self, session: SessionId) -> Option<usize> {
        self.waiting.get(&session).map(|caller| caller.messages.capacity())
    }

    /// Nothing more goes to this session.
    pub fn forget(&mut self, session: SessionId) {
        self.waiting.remove(&session);
    }

    /// A session that has ended from this side.
    pub fn left(&mut self) -> Option<SessionId> {
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use hydra_core::ids::QueryId;
    use hydra_core::proto::Piece;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn piece() -> ServerMsg {
        ServerMsg::Piece(Piece { id: QueryId([0; 16]), index: 0, text: "x".to_owned() })
    }

    #[test]
    fn a_request_that_does_not_keep_up_is_cut_and_its_connection_owed_nothing() {
        let (owed, mut callers) = (TaskTracker::new(), Callers::default());
        let (messages, mut inbox) = mpsc::channel(limits::OUTBOX);
        callers.add(SessionId(1), Caller { messages, _owed: owed.token() });
        assert_eq!(callers.pass(SessionId(2), piece()), Some(piece()), "of a session that is no request's");
        for _ in 1..limits::OUTBOX {
            assert_eq!(callers.pass(SessionId(1), piece()), None);
        }
        assert!(callers.left().is_none() && !owed.is_empty());
        assert_eq!(callers.pass(SessionId(1), piece()), None);
        assert_eq!((callers.left(), callers.left(), owed.is_empty()), (Some(SessionId(1)), None, true));
        inbox.close();
    }

    #[test]
    fn the_last_word_has_room_behind_all_pieces() {
        let mut callers = Callers::default();
        let (messages, mut inbox) = mpsc::channel(limits::OUTBOX);
        callers.add(SessionId(1), Caller { messages, _owed: TaskTracker::new().token() });
        for _ in 1..limits::OUTBOX {
            callers.pass(SessionId(1), piece());
        }
        let bye = ServerMsg::Bye(hydra_core::proto::Bye { text: String::new(), retry: true });
        callers.pass(SessionId(1), bye.clone());
        let heard: Vec<_> = std::iter::from_fn(|| inbox.try_recv().ok()).collect();
        assert_eq!((heard.len(), heard.last()), (limits::OUTBOX, Some(&bye)));
    }

    #[test]
    fn a_request_whose_client_is_gone_or_that_has_its_answer_is_left() {
        let bye = || ServerMsg::Bye(hydra_core::proto::Bye { text: String::new(), retry: true });
        for (gone, message) in [(true, piece()), (false, bye())] {
            let mut callers = Callers::default();
            let (messages, mut inbox) = mpsc::channel(4);
            if gone {
                inbox.close();
            }
            callers.add(SessionId(1), Caller { messages, _owed: TaskTracker::new().token() });
            callers.pass(SessionId(1), message);
            assert_eq!(callers.left(), Some(SessionId(1)));
        }
    }
}
