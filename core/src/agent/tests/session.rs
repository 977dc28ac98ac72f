//! How a worker comes and goes.

use super::*;

#[test]
fn nothing_but_the_handshake_is_said_before_the_welcome() {
    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    lab.tell(Fact::Closed { reason: "cut".to_owned() });
    lab.wait(Duration::from_secs(20));
    lab.take();
    lab.tell(Fact::Connected { nonce: Nonce([3; 32]) });
    let ClientMsg::Hello(hello) = &lab.said()[0] else { panic!("a hello") };
    assert_eq!(hello.lease, Some(LeaseId(1)));
    lab.tell(Fact::Failed { lease: LeaseId(1), text: "out of memory".to_owned() });
    lab.tell(Fact::ShardMissing { shard: SHARD });
    lab.tell(Fact::Pause);
    assert_eq!(lab.said(), []);
    let hello = hello.clone();
    lab.challenge(&hello, &SigningKey::from_bytes(&SERVER));
    lab.take();
    lab.hear(ServerMsg::Welcome(welcome()));
    let said = lab.said();
    let ready = said.iter().position(|m| *m == ClientMsg::Ready(proto::Ready::new(false)));
    let release = said.iter().position(|m| matches!(m, ClientMsg::Release(r) if r.lease == LeaseId(1)));
    assert!(ready.is_some() && ready < release, "{said:?}");
}

#[test]
fn a_long_reason_is_cut_to_what_the_coordinator_takes() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Failed { lease: LeaseId(1), text: format!("x{}", "é".repeat(1_000)) });
    let said = lab.said();
    let release = said.iter().find(|m| matches!(m, ClientMsg::Release(_))).expect("it goes back");
    assert_eq!(proto::wire::decode_client(&proto::wire::encode_client(release)).as_ref(), Ok(release));
    let ClientMsg::Release(release) = release else { panic!("{release:?}") };
    assert_eq!(release.text.len(), crate::limits::TEXT_BYTES - 1, "whole characters");
}

#[test]
fn after_so_many_paid_tasks_it_leaves() {
    let mut lab = Lab::open(Settings { tasks: Some(2), ..settings() });
    lab.begin(1, 0);
    lab.train(1);
    assert_eq!(updates(&lab.said()), [(1, true)]);
    lab.begin(2, 0);
    lab.train(2);
    assert_eq!(updates(&lab.said()), [(2, false)]);
    lab.hear(ServerMsg::Unpaid(over(1, UnpaidCode::Stale)));
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(true))], "one more, then");
    lab.begin(3, 0);
    lab.hear(credited(2));
    lab.train(3);
    assert_eq!(updates(&lab.said()), [(3, false)]);
    lab.hear(credited(3));
    let orders = lab.take();
    assert_eq!((exit(&orders), why(&orders)), (Some(&Exit::Done), Some(Why::Tasks)));
    assert!(orders.iter().any(|o| matches!(o, Order::Send(ClientMsg::Bye(_)))));
}

#[test]
fn finishing_delivers_first() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Finish);
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(false))]);
    lab.train(1);
    assert_eq!(updates(&lab.said()), [(1, false)]);
    lab.hear(credited(1));
    let orders = lab.take();
    assert_eq!((exit(&orders), why(&orders)), (Some(&Exit::Done), Some(Why::Asked)));

    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    lab.tell(Fact::Finish);
    let orders = lab.take();
    assert_eq!(exit(&orders), Some(&Exit::Done), "a task that has not begun goes back");
}

#[test]
fn a_pause_gives_back_what_has_not_begun() {
    let goes_back = |said: &[ClientMsg]| {
        let ready = said.iter().position(|m| *m == ClientMsg::Ready(proto::Ready::new(false)));
        ready < said.iter().position(|m| matches!(m, ClientMsg::Release(r) if r.lease == LeaseId(1)))
    };
    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    lab.tell(Fact::Pause);
    let said = lab.said();
    assert!(goes_back(&said), "{said:?}");
    // One that was on its way at that moment goes back as well.
    let mut lab = Lab::open(settings());
    lab.tell(Fact::Pause);
    lab.hear(task(1, 0));
    let said = lab.said();
    assert!(goes_back(&said), "{said:?}");
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Pause);
    assert_eq!(lab.said(), [ClientMsg::Ready(proto::Ready::new(false))], "one that is trained stays");
}

#[test]
fn who_leaves_waits_for_nobody_for_ever() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Closed { reason: "gone".to_owned() });
    lab.tell(Fact::Finish);
    lab.wait(Duration::from_mins(2));
    assert_eq!(exit(&lab.take()), None, "while it trains it waits for itself");
    lab.train(1);
    lab.wait(Duration::from_secs(59));
    assert_eq!(exit(&lab.take()), None);
    lab.wait(Duration::from_secs(1));
    let orders = lab.take();
    assert_eq!((exit(&orders), why(&orders)), (Some(&Exit::Undelivered(1)), Some(Why::Asked)));
}

#[test]
fn who_leaves_does_not_wait_for_ever_for_a_coordinator_that_does_not_answer() {
    let mut lab = Lab::open(settings());
    for lease in [1, 2] {
        lab.begin(lease, 0);
        lab.train(lease);
    }
    lab.tell(Fact::Finish);
    let sent = |lab: &mut Lab, lease: u64| lab.tell(Fact::Sent { blob: Digest::of(&(2000 + lease).to_le_bytes()) });
    sent(&mut lab, 1);
    lab.wait(Duration::from_mins(10));
    assert_eq!(exit(&lab.take()), None, "a slow link takes its time");
    sent(&mut lab, 2);
    lab.wait(Duration::from_secs(59));
    lab.hear(credited(1));
    lab.wait(Duration::from_secs(59));
    assert_eq!(exit(&lab.take()), None, "it still answers");
    lab.wait(Duration::from_secs(1));
    let orders = lab.take();
    assert_eq!((exit(&orders), why(&orders)), (Some(&Exit::Undelivered(1)), Some(Why::Asked)));
    assert!(orders.iter().any(|o| matches!(o, Order::Send(ClientMsg::Bye(_)))), "{orders:?}");
    assert!(orders.iter().any(|o| matches!(o, Order::Note(Event::Stopped { unanswered: 1, .. }))), "{orders:?}");
}

#[test]
fn an_end_tells_of_what_was_not_answered_and_of_what_was_never_sent() {
    let open = |lab: &Lab| match lab.agent.stopped(Why::AtOnce) {
        Event::Stopped { unanswered, undelivered, .. } => (unanswered, undelivered),
        other => panic!("{other:?}"),
    };
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    assert_eq!(open(&lab), (0, 0));
    lab.train(1);
    assert_eq!(open(&lab), (1, 0));
    lab.tell(Fact::Closed { reason: "gone".to_owned() });
    assert_eq!(open(&lab), (1, 0), "the coordinator may have it");
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.tell(Fact::Closed { reason: "gone".to_owned() });
    lab.train(1);
    assert_eq!(open(&lab), (0, 1), "never sent");
}

#[test]
fn who_never_reaches_a_coordinator_gives_up_in_time() {
    let mut lab = Lab::new(settings());
    let exit = loop {
        lab.tell(Fact::Closed { reason: "nobody there".to_owned() });
        let orders = lab.take();
        if let Some(exit) = exit(&orders) {
            break exit.clone();
        }
        let (due, _) = lab.agent.deadline().expect("another try");
        lab.wait(due.since(lab.now));
    };
    assert_eq!((exit, lab.now), (Exit::Unreachable("nobody there".to_owned()), Time(0).after(FIRST_CONTACT)));
}

#[test]
fn who_is_told_good_bye_for_good_goes() {
    for (retry, gone) in [(false, true), (true, false)] {
        let mut lab = Lab::open(settings());
        lab.begin(1, 0);
        lab.hear(ServerMsg::Bye(Bye { text: String::new(), retry }));
        let orders = lab.take();
        assert_eq!((exit(&orders).is_some(), why(&orders)), (gone, gone.then_some(Why::Complete)));
    }
}

#[test]
fn a_coordinator_that_cannot_prove_its_key_is_left() {
    let mut lab = Lab::new(settings());
    lab.tell(Fact::Connected { nonce: Nonce([3; 32]) });
    let ClientMsg::Hello(hello) = lab.said().remove(0) else { panic!("a hello") };
    lab.challenge(&hello, &SigningKey::from_bytes(&[8; 32]));
    assert!(matches!(exit(&lab.take()), Some(Exit::Refused(_))));
}

#[test]
fn a_refusal_ends_it_and_a_full_house_does_not() {
    let codes =
        [(ErrorCode::NameTaken, true), (ErrorCode::Removed, true), (ErrorCode::Full, false), (ErrorCode::Slow, false)];
    for (code, gone) in codes {
        let mut lab = Lab::new(settings());
        lab.tell(Fact::Connected { nonce: Nonce([3; 32]) });
        lab.hear(ServerMsg::Error(proto::Error { code, text: String::new(), fatal: true }));
        assert_eq!(exit(&lab.take()).is_some(), gone, "{code:?}");
    }
}

#[test]
fn the_coordinators_words_are_the_reason_once() {
    for code in [ErrorCode::Full, ErrorCode::Slow, ErrorCode::Flood, ErrorCode::Replaced] {
        let mut lab = Lab::new(settings());
        for (text, reason) in [(Some("no room for one more"), "no room for one more"), (None, "cut")] {
            lab.tell(Fact::Connected { nonce: Nonce([3; 32]) });
            if let Some(text) = text {
                lab.hear(ServerMsg::Error(proto::Error { code, text: text.to_owned(), fatal: true }));
            }
            lab.tell(Fact::Closed { reason: "cut".to_owned() });
            let told = lab.take().into_iter().find_map(|order| match order {
                Order::Note(Event::Disconnected { reason, .. }) => Some(reason),
                _ => None,
            });
            assert_eq!(told.as_deref(), Some(reason), "{code:?}");
            lab.wait(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_coordinator_that_is_never_reached_is_given_up() {
    let mut lab = Lab::new(settings());
    let mut tries = 0;
    while exit(&lab.take()).is_none() {
        lab.tell(Fact::Closed { reason: "refused".to_owned() });
        lab.wait(Duration::from_secs(4));
        tries += 1;
    }
    assert_eq!(tries, 4, "after ten seconds");
}

#[test]
fn a_coordinator_that_pays_is_found_again_at_once_however_often_it_is_killed() {
    let mut lab = Lab::open(settings());
    for lease in 1..=8 {
        lab.begin(lease, 0);
        lab.train(lease);
        lab.hear(credited(lease));
        lab.tell(Fact::Closed { reason: "killed".to_owned() });
        let waits = lab.take().into_iter().find_map(|order| match order {
            Order::Note(Event::Disconnected { retry_ms, .. }) => Some(retry_ms),
            _ => None,
        });
        assert!(waits.is_some_and(|ms| ms <= 250), "{waits:?} after {lease} payments");
        lab.reconnect();
    }
}

#[test]
fn an_update_is_not_taken_for_that_of_a_task_which_has_not_begun() {
    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    // Its number is that of another run's lease, whose training was stopped too late.
    lab.train(1);
    let orders = lab.take();
    assert!(matches!(&orders[..], [Order::FindShard { .. }, Order::Drop { .. }]), "{orders:?}");
    lab.tell(Fact::ShardReady { shard: SHARD });
    assert!(lab.take().iter().any(|order| matches!(order, Order::Train(_))), "it is in hand still");
    lab.train(1);
    assert_eq!(updates(&lab.said()), [(1, true)]);
}
