//! A request as a session of the hub: its two ends, one with the request, one with the driver.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hydra_core::hub::Fact;
use hydra_core::ids::{Digest, SessionId};
use hydra_core::limits;
use hydra_core::proto::{Answer, ClientMsg, Piece, Query, ServerMsg};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::driver::Input;
use super::super::listen::Visitor;
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
        let caller = Caller::new(sender, visitor.owed.token());
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
                Some(_) | None => return Heard::Refused(Refusal::stopping()),
            }
        }
    }
}

/// The driver's end.
pub struct Caller {
    messages: mpsc::Sender<ServerMsg>,
    /// Pieces of text as one, for which there was no room yet. No longer than an answer.
    behind: Option<Piece>,
    /// While the hub owes something, the connection is not taken for an idle one.
    _owed: TaskTrackerToken,
}

impl Caller {
    fn new(messages: mpsc::Sender<ServerMsg>, owed: TaskTrackerToken) -> Self {
        Self { messages, behind: None, _owed: owed }
    }

    /// Passes a message on; whether the session goes on. A client that is slower than the model gets longer pieces.
    fn pass(&mut self, message: ServerMsg) -> bool {
        let message = match (message, self.behind.take()) {
            (ServerMsg::Piece(piece), Some(mut behind)) => {
                behind.text.push_str(&piece.text);
                ServerMsg::Piece(behind)
            }
            (message, behind) => {
                if let Some(piece) = behind {
                    self.messages.try_send(ServerMsg::Piece(piece)).ok();
                }
                message
            }
        };
        match message {
            // Room is kept for what is behind and for the last word: once that is said, it is paid for.
            ServerMsg::Piece(piece) if self.messages.capacity() <= 2 => {
                self.behind = Some(piece);
                !self.messages.is_closed()
            }
            message => {
                let last = matches!(
                    message,
                    ServerMsg::Answer(_) | ServerMsg::Refused(_) | ServerMsg::Error(_) | ServerMsg::Bye(_)
                );
                self.messages.try_send(message).is_ok() && !last
            }
        }
    }
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

    /// Passes a message on; gives it back if its session is no request's.
    pub fn pass(&mut self, session: SessionId, message: ServerMsg) -> Option<ServerMsg> {
        let Some(caller) = self.waiting.get_mut(&session) else { return Some(message) };
        if !caller.pass(message) {
            self.forget(session);
            self.left.push(session);
        }
        None
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
    use hydra_core::proto::Bye;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn piece(index: u32) -> ServerMsg {
        ServerMsg::Piece(Piece { id: QueryId([0; 16]), index, text: format!("{index} ") })
    }

    fn bye() -> ServerMsg {
        ServerMsg::Bye(Bye { text: String::new(), retry: true })
    }

    fn with_one(room: usize) -> (Callers, mpsc::Receiver<ServerMsg>, TaskTracker) {
        let (owed, mut callers) = (TaskTracker::new(), Callers::default());
        let (messages, inbox) = mpsc::channel(room);
        callers.add(SessionId(1), Caller::new(messages, owed.token()));
        (callers, inbox, owed)
    }

    fn heard(inbox: &mut mpsc::Receiver<ServerMsg>) -> Vec<ServerMsg> {
        std::iter::from_fn(|| inbox.try_recv().ok()).collect()
    }

    fn text(heard: &[ServerMsg]) -> String {
        let pieces = heard.iter().filter_map(|message| match message {
            ServerMsg::Piece(piece) => Some(piece.text.as_str()),
            _ => None,
        });
        pieces.collect()
    }

    #[test]
    fn what_a_request_is_behind_with_comes_as_one_piece_and_nothing_is_lost() {
        let (mut callers, mut inbox, owed) = with_one(6);
        assert_eq!(callers.pass(SessionId(2), piece(0)), Some(piece(0)), "of a session that is no request's");
        for index in 0..50 {
            assert_eq!(callers.pass(SessionId(1), piece(index)), None);
        }
        let mut all = heard(&mut inbox);
        assert_eq!(all.len(), 4, "there is room for what is behind and for the last word");
        for index in 50..100 {
            callers.pass(SessionId(1), piece(index));
        }
        assert!(callers.left().is_none() && !owed.is_empty());
        callers.pass(SessionId(1), bye());
        assert_eq!((callers.left(), callers.left(), owed.is_empty()), (Some(SessionId(1)), None, true));
        all.extend(heard(&mut inbox));
        let whole: Vec<_> = (0..100).map(|index| format!("{index} ")).collect();
        assert_eq!((text(&all), all.last()), (whole.concat(), Some(&bye())));
    }

    #[test]
    fn a_request_whose_client_is_gone_or_that_has_its_answer_is_left() {
        for (gone, message) in [(true, piece(0)), (false, bye())] {
            let (mut callers, mut inbox, _owed) = with_one(4);
            if gone {
                inbox.close();
            }
            callers.pass(SessionId(1), message);
            assert_eq!(callers.left(), Some(SessionId(1)));
        }
        // Also while it is behind.
        let (mut callers, mut inbox, _owed) = with_one(4);
        (0..9).for_each(|index| drop(callers.pass(SessionId(1), piece(index))));
        inbox.close();
        callers.pass(SessionId(1), piece(9));
        assert_eq!(callers.left(), Some(SessionId(1)));
    }
}
