//! Queries: what they cost, and when they cost nothing.

use super::*;
use crate::ledger::Kind;
use crate::proto::{Cancel, Query};

fn ask(id: u8, prompt: &str) -> ClientMsg {
    ClientMsg::Query(Query::new(QueryId([id; 16]), prompt))
}

/// Alice with two credits, and her chat.
fn rich() -> (Lab, SessionId) {
    let mut lab = Lab::new();
    lab.earn("alice", 2);
    let chat = lab.chat("alice");
    lab.heard(chat);
    lab.rows.clear();
    lab.orders.clear();
    (lab, chat)
}

fn moves(lab: &Lab) -> Vec<Kind> {
    lab.rows.iter().filter_map(|row| if let Row::Transfer(t) = row { Some(t.kind) } else { None }).collect()
}

fn number(lab: &Lab) -> Option<QueryNo> {
    lab.orders.iter().rev().find_map(|o| if let Order::Generate { query, .. } = o { Some(*query) } else { None })
}

fn refusal(messages: &[ServerMsg]) -> Option<RefusedCode> {
    messages.iter().find_map(|m| if let ServerMsg::Refused(r) = m { Some(r.code) } else { None })
}

#[test]
fn a_query_is_held_answered_and_charged_in_that_order() {
    let (mut lab, chat) = rich();
    lab.durable = false;
    lab.says(chat, ask(1, "Hi"));
    assert_eq!((moves(&lab), number(&lab)), (vec![Kind::Hold], None), "nothing is drawn before the hold is durable");
    lab.sync();
    let query = number(&lab).expect("the answer begins");
    for text in ["a", "b"] {
        lab.tell(Fact::Piece { query, text: text.to_owned(), tokens: 1 });
    }
    lab.tell(Fact::Answered { query, tokens: 5, finish: Finish::Stop });
    let heard = lab.heard(chat);
    assert!(matches!(&heard[..], [ServerMsg::Piece(a), ServerMsg::Piece(b)] if (a.index, b.index) == (0, 1)));
    lab.sync();
    let heard = lab.heard(chat);
    let [ServerMsg::Answer(answer)] = &heard[..] else { panic!("an answer: {heard:?}") };
    assert_eq!((answer.pieces, answer.tokens, answer.finish), (2, 5, Finish::Stop));
    assert_eq!((answer.charged, answer.balance), (Credits(500_000), Credits(1_500_000)));
    assert_eq!(moves(&lab), [Kind::Hold, Kind::Post]);
}

#[test]
fn too_poor_is_refused_before_any_work_with_the_next_step() {
    let mut lab = Lab::new();
    let chat = lab.chat("bob");
    lab.heard(chat);
    lab.says(chat, ask(1, "Hi"));
    let heard = lab.heard(chat);
    assert_eq!(refusal(&heard), Some(RefusedCode::Insufficient));
    assert!(matches!(&heard[0], ServerMsg::Refused(r) if r.text.contains("hydra-worker earns 1.0 HYD a task")));
    assert_eq!((moves(&lab), number(&lab)), (vec![], None));
}

#[test]
fn senseless_queries_are_refused_for_free() {
    let (mut lab, chat) = rich();
    let long = "x".repeat(crate::limits::PROMPT_BYTES + 1);
    for (prompt, code) in [(" \n", RefusedCode::EmptyPrompt), (&long, RefusedCode::HugePrompt)] {
        lab.says(chat, ask(1, prompt));
        assert_eq!(refusal(&lab.heard(chat)), Some(code));
    }
    lab.says(chat, ClientMsg::Query(Query { raw: true, ..Query::new(QueryId([1; 16]), "") }));
    assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::EmptyPrompt));
    for change in [
        |q: &mut Query| q.max_new_tokens = Some(0),
        |q: &mut Query| q.temperature = Some(f32::NAN),
        |q: &mut Query| q.top_p = Some(0.0),
    ] {
        let ClientMsg::Query(mut query) = ask(1, "Hi") else { unreachable!() };
        change(&mut query);
        lab.says(chat, ClientMsg::Query(query));
        assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::BadSetting));
    }
    assert_eq!(moves(&lab), []);
}

#[test]
fn white_space_is_no_question_but_can_be_continued() {
    let (mut lab, chat) = rich();
    lab.says(chat, ClientMsg::Query(Query { raw: true, ..Query::new(QueryId([1; 16]), "\n") }));
    assert_eq!((refusal(&lab.heard(chat)), number(&lab).is_some()), (None, true));
}

#[test]
fn an_id_is_good_for_one_query_and_a_session_for_four() {
    let (mut lab, chat) = rich();
    for id in [1, 1, 2, 3, 4] {
        lab.says(chat, ask(id, "Hi"));
    }
    assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::Duplicate));
    lab.says(chat, ask(5, "Hi"));
    let heard = lab.heard(chat);
    assert_eq!(refusal(&heard), Some(RefusedCode::Busy));
    assert!(matches!(&heard[..], [ServerMsg::Refused(refused)] if refused.retry_s.is_none()), "{heard:?}");
    assert_eq!(moves(&lab), [Kind::Hold; 4]);
}

#[test]
fn a_cancelled_query_is_free_before_its_first_piece_and_charged_after_it() {
    for begun in [false, true] {
        let (mut lab, chat) = rich();
        lab.says(chat, ask(1, "Hi"));
        let query = number(&lab).expect("an answer");
        if begun {
            lab.tell(Fact::Piece { query, text: "a".to_owned(), tokens: 3 });
        }
        let cancel = ClientMsg::Cancel(Cancel { id: QueryId([1; 16]) });
        lab.says(chat, cancel.clone());
        lab.says(chat, cancel);
        lab.tell(Fact::Piece { query, text: "late".to_owned(), tokens: 4 });
        lab.tell(Fact::Answered { query, tokens: 1, finish: Finish::Stop });
        let heard = lab.heard(chat);
        let last = heard.last();
        if begun {
            assert!(
                matches!(last, Some(ServerMsg::Answer(a)) if (a.finish, a.pieces, a.tokens) == (Finish::Cancelled, 1, 3)),
                "{heard:?}"
            );
            assert_eq!(moves(&lab), [Kind::Hold, Kind::Post]);
        } else {
            assert_eq!(refusal(&heard), Some(RefusedCode::Cancelled));
            assert_eq!(moves(&lab), [Kind::Hold, Kind::Void]);
        }
        assert!(lab.orders.iter().any(|o| matches!(o, Order::StopGenerating { query: q } if *q == query)));
    }
}

#[test]
fn a_hold_returns_if_the_stream_dies_or_fails() {
    for how in 0..3 {
        let (mut lab, chat) = rich();
        lab.durable = how != 2;
        lab.says(chat, ask(1, "Hi"));
        let query = number(&lab).unwrap_or(QueryNo(1));
        match how {
            0 => lab.tell(Fact::Piece { query, text: "a".to_owned(), tokens: 1 }),
            1 => lab.tell(Fact::AnswerFailed { query, text: "no".to_owned() }),
            _ => {}
        }
        if how == 1 {
            assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::Failed));
        } else {
            lab.tell(Fact::Left { session: chat, reason: String::new() });
        }
        lab.sync();
        assert_eq!(moves(&lab), [Kind::Hold, Kind::Void], "case {how}");
        assert_eq!(lab.balance("alice"), Credits::hyd(2));
        let begun = lab.orders.iter().rev().find_map(|order| match order {
            Order::Note(Event::Refused { begun, .. }) => Some(*begun),
            _ => None,
        });
        assert_eq!(begun, Some(how == 0), "case {how}");
        assert_eq!(number(&lab).is_some(), how != 2, "who left before the hold was durable is not answered");
    }
}

#[test]
fn who_gives_up_again_and_again_fills_no_ledger() {
    use crate::limits::{GIVEN_UP, GIVEN_UP_WITHIN};
    let (mut lab, chat) = rich();
    let bob = {
        lab.earn("bob", 1);
        lab.chat("bob")
    };
    let give_up = |lab: &mut Lab, id: u32| {
        let id = QueryId(u128::from(id).to_le_bytes());
        lab.says(chat, ClientMsg::Query(Query::new(id, "Hi")));
        lab.says(chat, ClientMsg::Cancel(Cancel { id }));
        refusal(&lab.heard(chat))
    };
    // With a stop that the model begins with there is no answer either.
    let fail = |lab: &mut Lab, id: u32| {
        lab.says(chat, ClientMsg::Query(Query::new(QueryId(u128::from(id).to_le_bytes()), "Hi")));
        if let Some(query) = number(lab) {
            lab.tell(Fact::AnswerFailed { query, text: "nothing to say".to_owned() });
        }
        refusal(&lab.heard(chat))
    };
    lab.rows.clear();
    for id in 0..GIVEN_UP / 2 {
        assert_eq!(give_up(&mut lab, id), Some(RefusedCode::Cancelled));
        assert_eq!(fail(&mut lab, 100 + id), Some(RefusedCode::Failed));
    }
    assert_eq!(fail(&mut lab, 1_000), Some(RefusedCode::Busy));
    assert_eq!(give_up(&mut lab, 1_000), Some(RefusedCode::Busy));
    lab.wait(GIVEN_UP_WITHIN / 4);
    lab.says(chat, ask(1, "Hi"));
    let left = (GIVEN_UP_WITHIN * 3 / 4).as_secs() as u32;
    assert!(matches!(&lab.heard(chat)[..], [ServerMsg::Refused(refused)] if refused.retry_s == Some(left)));
    assert_eq!(moves(&lab).len(), 2 * GIVEN_UP as usize);
    lab.heard(bob);
    lab.says(bob, ask(1, "Hi"));
    assert_eq!(refusal(&lab.heard(bob)), None, "nobody else is kept out");
    lab.wait(GIVEN_UP_WITHIN);
    assert_eq!(give_up(&mut lab, 1_001), Some(RefusedCode::Cancelled));
}

#[test]
fn one_user_does_not_take_every_place() {
    use crate::limits::{QUERIES, QUERIES_PER_SESSION, QUERIES_PER_USER};
    let mut lab = Lab::with(Rules { price: Credits::ZERO, ..rules() }, recovered());
    let mut taken = 0;
    for session in 0..QUERIES / QUERIES_PER_SESSION {
        let chat = lab.chat("alice");
        lab.heard(chat);
        for n in 0..QUERIES_PER_SESSION {
            let id = QueryId(((1 + session * QUERIES_PER_SESSION + n) as u128).to_le_bytes());
            lab.says(chat, ClientMsg::Query(Query::new(id, "Hi")));
            taken += usize::from(refusal(&lab.heard(chat)) != Some(RefusedCode::Busy));
        }
    }
    assert_eq!(taken, QUERIES_PER_USER);
    let bob = lab.chat("bob");
    lab.heard(bob);
    lab.says(bob, ask(1, "Hi"));
    assert_eq!(refusal(&lab.heard(bob)), None);
}

#[test]
fn holds_of_a_dead_coordinator_return_at_the_next_start() {
    let (mut lab, chat) = rich();
    lab.says(chat, ask(1, "Hi"));
    let book = lab.hub.book().clone();
    assert_eq!(book.holds().len(), 1);
    let lab = Lab::with(rules(), Recovered { book, boot: 2, ..recovered() });
    assert_eq!(moves(&lab), [Kind::Void]);
    assert_eq!(lab.balance("alice"), Credits::hyd(2));
}

#[test]
fn free_queries_move_nothing() {
    let mut lab = Lab::with(Rules { price: Credits::ZERO, ..rules() }, recovered());
    let chat = lab.chat("bob");
    lab.heard(chat);
    lab.says(chat, ask(1, "Hi"));
    let query = number(&lab).expect("an answer");
    lab.tell(Fact::Piece { query, text: "a".to_owned(), tokens: 1 });
    lab.tell(Fact::Answered { query, tokens: 1, finish: Finish::Length });
    assert!(matches!(lab.heard(chat)[..], [_, ServerMsg::Answer(a)] if a.charged == Credits::ZERO));
    assert_eq!(moves(&lab), []);
}

#[test]
fn a_query_that_is_sent_again_after_a_restart_is_not_charged_twice() {
    let (mut lab, chat) = rich();
    lab.says(chat, ask(1, "Hi"));
    let query = number(&lab).expect("an answer");
    lab.tell(Fact::Piece { query, text: "a".to_owned(), tokens: 1 });
    lab.tell(Fact::Answered { query, tokens: 1, finish: Finish::Stop });
    let book = lab.hub.book().clone();
    let mut asked = Asked::default();
    for row in &lab.rows {
        if let Row::Transfer(transfer) = row {
            asked.take(transfer);
        }
    }
    let mut lab = Lab::with(rules(), Recovered { book, asked, boot: 2, ..recovered() });
    let (chat, bob) = (lab.chat("alice"), lab.chat("bob"));
    lab.heard(chat);
    lab.says(chat, ask(1, "Hi"));
    assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::Duplicate));
    lab.says(bob, ask(1, "Hi"));
    assert_eq!(refusal(&lab.heard(bob)), Some(RefusedCode::Insufficient), "an id is one user's");
    assert_eq!(moves(&lab), []);
    lab.says(chat, ask(2, "Hi"));
    assert_eq!(moves(&lab), [Kind::Hold]);
}

#[test]
fn a_free_query_that_runs_is_not_answered_twice() {
    let mut lab = Lab::with(Rules { price: Credits::ZERO, ..rules() }, recovered());
    let chat = lab.chat("bob");
    lab.says(chat, ask(1, "Hi"));
    lab.heard(chat);
    lab.says(chat, ask(1, "Hi"));
    assert_eq!(refusal(&lab.heard(chat)), Some(RefusedCode::Duplicate));
}

/// A measurement of `version` that says 2.5 nats.
fn measured(version: VersionNo, averaged: bool) -> Fact {
    Fact::Evaluated { version, averaged, loss: 2.5, bits_per_byte: 1.5, bytes_up: 0, bytes_down: 0 }
}

/// What a hub answers from now.
fn best(lab: &Lab) -> (VersionNo, bool) {
    let averaged = lab.hub.averaged();
    (averaged.unwrap_or(lab.hub.status().version), averaged.is_some())
}

/// Asks and has it answered from this; the answer.
fn answered_from(
    lab: &mut Lab,
    chat: SessionId,
    id: u8,
    from: impl FnOnce(&mut Lab) -> (VersionNo, bool),
) -> proto::Answer {
    lab.heard(chat);
    lab.says(chat, ask(id, "Hi"));
    let query = number(lab).expect("an answer is wanted");
    let (version, averaged) = from(lab);
    lab.tell(Fact::Begun { query, version, averaged });
    lab.tell(Fact::Answered { query, tokens: 1, finish: Finish::Stop });
    let told = |m| if let ServerMsg::Answer(answer) = m { Some(answer) } else { None };
    let answer = lab.heard(chat).into_iter().find_map(told).expect("an answer");
    assert_eq!((answer.version, answer.averaged), (version, averaged), "what it was drawn from");
    answer
}

/// Asks and has it answered from what is best; whether from an average, and the answer.
fn answered(lab: &mut Lab, chat: SessionId, id: u8) -> (bool, proto::Answer) {
    let answer = answered_from(lab, chat, id, |lab| best(lab));
    (answer.averaged, answer)
}

/// Has a worker bring a new version about.
fn new_version(lab: &mut Lab, worker: u8) -> VersionNo {
    let worker = lab.worker("bob", worker);
    let task = lab.task(worker).expect("a task");
    lab.deliver(worker, &task);
    lab.merge();
    lab.hub.status().version
}

#[test]
fn an_average_that_is_better_answers_until_a_newer_version_is_better() {
    let (mut lab, chat) = rich();
    let first = lab.hub.status().version;
    lab.tell(measured(first, true));
    let (averaged, answer) = answered(&mut lab, chat, 1);
    assert!(averaged);
    assert_eq!((answer.version, answer.val_loss, answer.val_version), (first, Some(2.5), None));
    let second = new_version(&mut lab, 7);
    let (averaged, answer) = answered(&mut lab, chat, 2);
    assert!(averaged, "nobody knows yet what the newest is worth");
    assert_eq!((answer.version, answer.val_loss, answer.val_version), (first, Some(2.5), None));
    lab.tell(measured(second, false));
    let (averaged, answer) = answered(&mut lab, chat, 3);
    assert!(!averaged);
    assert_eq!((answer.version, answer.val_loss, answer.val_version), (second, Some(2.5), None));
    // Late news of an older version change nothing.
    lab.tell(measured(first, true));
    assert!(!answered(&mut lab, chat, 4).0);
    // The newest, measured again.
    lab.tell(Fact::Evaluated {
        version: second,
        averaged: true,
        loss: 2.0,
        bits_per_byte: 1.0,
        bytes_up: 0,
        bytes_down: 0,
    });
    assert_eq!((lab.hub.status().val_loss, lab.hub.averaged()), (Some(2.0), Some(second)));
}

#[test]
fn an_answer_that_had_to_wait_is_stamped_with_what_it_begins_with() {
    let (mut lab, chat) = rich();
    let first = lab.hub.status().version;
    lab.tell(measured(first, false));
    let answer = answered_from(&mut lab, chat, 1, |lab| {
        let second = new_version(lab, 7);
        lab.tell(measured(second, true));
        best(lab)
    });
    assert!(answer.version > first && answer.averaged);
    assert_eq!((answer.val_loss, answer.val_version), (Some(2.5), None));
    // It began a moment before its version's average was found to be better: that loss is not its own.
    let answer = answered_from(&mut lab, chat, 2, |lab| (lab.hub.status().version, false));
    assert_eq!((answer.val_loss, answer.val_version), (None, None));
}

#[test]
fn a_loss_of_an_earlier_version_says_whose_it_is() {
    let (mut lab, chat) = rich();
    let first = lab.hub.status().version;
    lab.tell(measured(first, false));
    assert_eq!((lab.hub.status().val_loss, lab.hub.status().val_version), (Some(2.5), None), "the newest's own");
    let second = new_version(&mut lab, 7);
    let status = lab.hub.status();
    assert_eq!((status.version, status.val_loss, status.val_version), (second, Some(2.5), Some(first)));
    let (_, answer) = answered(&mut lab, chat, 1);
    assert_eq!((answer.version, answer.val_loss, answer.val_version), (second, Some(2.5), Some(first)));
    let other = lab.chat("bob");
    let heard = lab.heard(other);
    let welcome = heard.iter().find_map(|m| if let ServerMsg::Welcome(welcome) = m { Some(welcome) } else { None });
    assert_eq!(welcome.map(|welcome| (welcome.val_loss, welcome.val_version)), Some((Some(2.5), Some(first))));
}
