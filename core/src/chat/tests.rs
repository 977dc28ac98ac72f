//! The query client's rules with facts made by hand.

use super::*;
use crate::credits::Credits;
use crate::ids::VersionNo;
use crate::model::{Recipe, Shape};
use crate::proto::sign::Parties;
use crate::proto::{Answer, Bye, Challenge, Finish, Piece, Query, Refused, RefusedCode, Welcome};
use ed25519_dalek::SigningKey;
use std::time::Duration;

const NONCE: Nonce = Nonce([4; 32]);

struct Lab {
    chat: Chat,
    /// Of the coordinator.
    key: SigningKey,
    now: Time,
    orders: Vec<Order>,
}

fn query(id: u8) -> Query {
    Query::new(QueryId([id; 16]), "Hi")
}

fn piece(id: u8, index: u32) -> ServerMsg {
    ServerMsg::Piece(Piece { id: QueryId([id; 16]), index, text: format!("{index} ") })
}

fn answer(id: u8) -> ServerMsg {
    ServerMsg::Answer(Answer {
        id: QueryId([id; 16]),
        version: VersionNo(3),
        averaged: false,
        pieces: 2,
        tokens: 2,
        val_loss: None,
        val_version: None,
        charged: Credits(500_000),
        balance: Credits(500_000),
        finish: Finish::Stop,
    })
}

impl Lab {
    fn new(reconnect: bool) -> Self {
        let key = SigningKey::from_bytes(&[1; 32]);
        let user = "alice".parse().expect("a plain name");
        let chat = Chat::new(Settings { user, key, agent: "test".to_owned(), reconnect, seed: 1, run: None });
        Self { chat, key: SigningKey::from_bytes(&[9; 32]), now: Time(0), orders: Vec::new() }
    }

    fn open(reconnect: bool) -> Self {
        let mut lab = Self::new(reconnect);
        lab.connect();
        lab.shown();
        lab
    }

    fn tell(&mut self, fact: Fact) {
        self.chat.handle(self.now, fact);
        self.orders.extend(std::iter::from_fn(|| self.chat.poll()));
    }

    fn hear(&mut self, message: ServerMsg) {
        self.tell(Fact::Message(message));
    }

    fn take(&mut self) -> Vec<Order> {
        self.orders.extend(std::iter::from_fn(|| self.chat.poll()));
        std::mem::take(&mut self.orders)
    }

    fn shown(&mut self) -> Vec<Event> {
        self.take().into_iter().filter_map(|o| if let Order::Show(event) = o { Some(event) } else { None }).collect()
    }

    fn said(&mut self) -> Vec<ClientMsg> {
        self.take()
            .into_iter()
            .filter_map(|o| if let Order::Send(message) = o { Some(message) } else { None })
            .collect()
    }

    fn connect(&mut self) {
        self.take();
        self.tell(Fact::Connected { nonce: Nonce([3; 32]) });
        let ClientMsg::Hello(hello) = self.said().remove(0) else { panic!("a hello") };
        assert_eq!((hello.role, hello.worker), (Role::Chat, None));
        let server = self.key.clone();
        let key = PublicKey(server.verifying_key().to_bytes());
        let parties = Parties { client: &hello.key, server: &key, client_nonce: &hello.nonce, server_nonce: &NONCE };
        let signature = sign::sign(&server, &sign::server_statement(&parties));
        self.hear(ServerMsg::Challenge(Challenge { key, nonce: NONCE, signature }));
        let mut orders = self.take();
        let Some(Order::Send(ClientMsg::Proof(proof))) = orders.pop() else { panic!("a proof") };
        self.orders = orders;
        let statement = sign::client_statement(&parties, Role::Chat, &hello.user);
        assert!(sign::verify(&hello.key, &statement, &proof.signature));
        self.hear(ServerMsg::Welcome(Welcome {
            session: 1,
            balance: Credits::hyd(1),
            reward: Credits::hyd(1),
            price: Credits(500_000),
            version: VersionNo(3),
            shape: Shape::new(16, 8, 1, 1, 8),
            recipe: Recipe::default(),
            val_loss: None,
            val_version: None,
        }));
    }

    fn lose(&mut self) {
        self.tell(Fact::Closed { reason: "cut".to_owned() });
    }

    fn connect_again(&mut self) -> Vec<Event> {
        self.lose();
        self.shown();
        let (due, _) = self.chat.deadline().expect("it tries again");
        self.now = due;
        self.chat.expire(due);
        self.connect();
        self.shown()
    }
}

#[test]
fn what_is_told_unasked_answers_nothing() {
    let mut lab = Lab::open(true);
    let balance = || ServerMsg::Balance(crate::proto::Balance { balance: Credits::hyd(2), held: Credits::ZERO });
    lab.tell(Fact::AskBalance);
    lab.hear(balance());
    lab.hear(balance());
    let shown = lab.shown();
    assert!(matches!(&shown[..], [Event::Balance { .. }, Event::LastBalance { .. }]), "{shown:?}");
    // An answer that was due when the session was lost is not due in the next one.
    lab.tell(Fact::AskBalance);
    lab.connect_again();
    lab.hear(balance());
    assert!(matches!(&lab.shown()[..], [Event::LastBalance { .. }]));
}

#[test]
fn another_run_at_the_address_is_told() {
    let mut lab = Lab::open(true);
    assert!(matches!(lab.connect_again()[..], [Event::Connected { .. }]));
    lab.key = SigningKey::from_bytes(&[8; 32]);
    assert!(matches!(lab.connect_again()[..], [Event::OtherRun, Event::Connected { .. }]));
    // Also by one that begins anew, as after the end of a run.
    let run = lab.chat.run();
    let mut next = Lab::new(true);
    next.chat = Chat::new(Settings { run, ..next.chat.settings.clone() });
    next.connect();
    assert!(matches!(next.shown()[..], [Event::OtherRun, Event::Connected { .. }]));
}

#[test]
fn pieces_make_the_answer() {
    let mut lab = Lab::open(true);
    lab.tell(Fact::Ask(query(1)));
    assert!(lab.chat.is_busy());
    lab.tell(Fact::Ask(query(2)));
    assert_eq!(lab.said(), [ClientMsg::Query(query(1))], "one at a time");
    for message in [piece(1, 0), piece(2, 1), piece(1, 1), piece(1, 1), answer(2), answer(1), answer(1)] {
        lab.hear(message);
    }
    let shown = lab.shown();
    assert!(
        matches!(&shown[..], [Event::Token { .. }, Event::Token { .. }, Event::Answer { text, .. }] if text == "0 1 ")
    );
    assert!(!lab.chat.is_busy());
}

#[test]
fn what_is_asked_before_the_welcome_is_sent_after_it() {
    let mut lab = Lab::new(true);
    lab.tell(Fact::Ask(query(1)));
    lab.lose();
    assert!(lab.chat.is_busy(), "it was never sent, and so not lost");
    let (due, _) = lab.chat.deadline().expect("it tries again");
    lab.now = due;
    lab.chat.expire(due);
    lab.connect();
    assert!(matches!(&lab.said()[..], [ClientMsg::Query(_)]));
}

#[test]
fn what_was_not_sent_is_taken_back_at_once() {
    let mut lab = Lab::new(true);
    lab.tell(Fact::Ask(query(1)));
    lab.tell(Fact::Cancel);
    assert!(matches!(&lab.shown()[..], [.., Event::Lost { text, cost: Cost::Nothing, .. }] if text.is_empty()));
    assert!(!lab.chat.is_busy());
    lab.connect();
    assert!(lab.said().is_empty(), "nobody hears of it");
}

#[test]
fn the_coordinators_words_are_the_reason_once() {
    for code in [ErrorCode::Full, ErrorCode::Slow, ErrorCode::Flood] {
        let mut lab = Lab::open(true);
        lab.tell(Fact::Ask(query(1)));
        lab.hear(ServerMsg::Error(proto::Error { code, text: "too many of you".to_owned(), fatal: true }));
        lab.shown();
        lab.lose();
        let shown = lab.shown();
        let [Event::Lost { reason: lost, .. }, Event::Disconnected { reason, .. }] = &shown[..] else {
            panic!("{shown:?}")
        };
        assert_eq!((lost.as_str(), reason.as_str()), ("too many of you", "too many of you"));
        lab.connect();
        lab.shown();
        lab.lose();
        assert!(matches!(&lab.shown()[..], [Event::Disconnected { reason, .. }] if reason == "cut"));
    }
}

#[test]
fn what_was_sent_is_lost_with_the_session() {
    let mut lab = Lab::open(true);
    lab.tell(Fact::Ask(query(1)));
    lab.hear(piece(1, 0));
    lab.shown();
    lab.lose();
    let shown = lab.shown();
    assert!(matches!(&shown[..], [Event::Lost { text, .. }, Event::Disconnected { .. }] if text == "0 "), "{shown:?}");
    lab.lose();
    assert_eq!(lab.shown(), [], "one end has one notice");
    assert!(!lab.chat.is_busy());
}

#[test]
fn nobody_knows_what_an_answer_cost_whose_session_is_lost() {
    // The coordinator may have drawn all of it by then, whether it was told to stop or not.
    for cancel in [false, true] {
        let mut lab = Lab::open(true);
        lab.tell(Fact::Ask(query(1)));
        if cancel {
            lab.tell(Fact::Cancel);
        }
        lab.shown();
        lab.lose();
        let shown = lab.shown();
        assert!(matches!(&shown[..], [Event::Lost { cost: Cost::Unknown, .. }, ..]), "{shown:?}");
    }
}

#[test]
fn what_was_not_sent_by_the_end_of_a_run_costs_nothing() {
    for (mut lab, cost) in [(Lab::new(true), Cost::Nothing), (Lab::open(true), Cost::Unknown)] {
        lab.tell(Fact::Ask(query(1)));
        lab.hear(ServerMsg::Bye(Bye { text: "the run is complete".to_owned(), retry: false }));
        let shown = lab.shown();
        assert!(matches!(&shown[..], [Event::Lost { cost: found, .. }] if *found == cost), "{shown:?}");
    }
}

#[test]
fn a_conversation_that_is_refused_knows_what_became_of_its_question() {
    let refusal = || {
        let (code, text) = (ErrorCode::NameTaken, "the name alice belongs to another key".to_owned());
        ServerMsg::Error(proto::Error { code, text, fatal: true })
    };
    for (mut lab, cost) in [(Lab::new(true), Cost::Nothing), (Lab::open(true), Cost::Unknown)] {
        lab.tell(Fact::Ask(query(1)));
        lab.take();
        lab.hear(refusal());
        let orders = lab.take();
        let [Order::Show(Event::Lost { cost: found, .. }), Order::Exit(Exit::Refused(_))] = &orders[..] else {
            panic!("{orders:?}")
        };
        assert_eq!(*found, cost);
    }
    let mut once = Lab::open(false);
    once.tell(Fact::Ask(query(1)));
    once.take();
    once.hear(refusal());
    assert!(matches!(once.take()[..], [Order::Exit(Exit::Refused(_))]));
}

#[test]
fn a_refusal_is_shown_with_its_reason() {
    let mut lab = Lab::open(true);
    lab.tell(Fact::Ask(query(1)));
    let (code, text) = (RefusedCode::Insufficient, "poor".to_owned());
    lab.hear(ServerMsg::Refused(Refused { id: QueryId([1; 16]), code, text, balance: Credits::ZERO, retry_s: None }));
    assert!(matches!(lab.shown()[..], [Event::Refused { reason: RefusedCode::Insufficient, .. }]));
}

#[test]
fn a_one_shot_client_ends_with_its_connection() {
    let mut lab = Lab::open(false);
    lab.tell(Fact::Ask(query(1)));
    lab.lose();
    let orders = lab.take();
    assert!(matches!(&orders[..], [.., Order::Show(Event::Lost { .. }), Order::Exit(Exit::Unreachable(_))]));
    assert_eq!(lab.chat.deadline(), None);
}

#[test]
fn good_bye_for_good_ends_it_and_a_restart_does_not() {
    let mut lab = Lab::open(true);
    lab.hear(ServerMsg::Bye(Bye { text: "back soon".to_owned(), retry: true }));
    assert!(lab.take().is_empty());
    lab.lose();
    let said =
        |order: &Order| matches!(order, Order::Show(Event::Disconnected { reason, .. }) if reason == "back soon");
    assert!(lab.take().iter().any(said));
    let mut lab = Lab::open(true);
    lab.tell(Fact::Ask(query(1)));
    lab.hear(ServerMsg::Bye(Bye { text: "the run is complete".to_owned(), retry: false }));
    let orders = lab.take();
    assert!(matches!(&orders[..], [.., Order::Show(Event::Lost { .. }), Order::Exit(Exit::Over(_))]));
}

#[test]
fn leaving_says_good_bye() {
    let mut lab = Lab::open(true);
    lab.tell(Fact::Leave);
    assert!(matches!(lab.take()[..], [Order::Send(ClientMsg::Bye(_)), Order::Exit(Exit::Done)]));
    lab.lose();
    assert!(lab.take().is_empty());
}

#[test]
fn leaving_in_mid_answer_stops_it_first() {
    let mut lab = Lab::open(true);
    lab.tell(Fact::Ask(query(1)));
    lab.hear(piece(1, 0));
    lab.take();
    lab.tell(Fact::Leave);
    assert!(matches!(&lab.said()[..], [ClientMsg::Cancel(stopped), ClientMsg::Bye(_)] if stopped.id.0 == [1; 16]));
}

#[test]
fn waits_between_connections_grow() {
    let mut lab = Lab::new(true);
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        lab.lose();
        let (due, _) = lab.chat.deadline().expect("it tries again");
        assert!(due.since(lab.now) * 2 > last);
        last = due.since(lab.now);
        lab.now = due;
        lab.chat.expire(due);
        assert!(lab.take().iter().any(|order| matches!(order, Order::Connect)));
    }
    assert!(last > Duration::from_millis(900));
}

#[test]
fn a_question_does_not_wait_for_the_next_try() {
    let mut lab = Lab::open(true);
    for _ in 0..6 {
        lab.tell(Fact::Closed { reason: "nobody there".to_owned() });
        let (until, _) = lab.chat.deadline().expect("it tries again");
        lab.now = until;
        lab.chat.expire(until);
    }
    lab.tell(Fact::Closed { reason: "nobody there".to_owned() });
    lab.take();
    lab.tell(Fact::Ask(query(1)));
    assert_eq!(lab.chat.deadline().map(|(at, _)| at), Some(lab.now));
    lab.chat.expire(lab.now);
    assert!(matches!(lab.take()[..], [Order::Connect]));
    // In vain: it waits as long as before.
    lab.tell(Fact::Closed { reason: "nobody there".to_owned() });
    assert!(lab.chat.deadline().is_some_and(|(at, _)| at.since(lab.now) > Duration::from_secs(5)));
    assert!(lab.chat.is_busy(), "and sends it when there is a session");
}
