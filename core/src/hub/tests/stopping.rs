//! How a run ends, and what is finished before it does.

use super::*;
use crate::proto::{Query, UnpaidCode};

fn stopped(lab: &Lab) -> Option<&'static str> {
    lab.orders.iter().find_map(|o| if let Order::Stop { reason } = o { Some(*reason) } else { None })
}

fn measured(lab: &mut Lab, loss: f64) {
    let version = lab.hub.status().version;
    lab.tell(Fact::Evaluated { version, averaged: false, loss, bits_per_byte: loss, bytes_up: 0, bytes_down: 0 });
}

#[test]
fn a_run_of_eighty_tasks_worth_of_tokens_takes_exactly_eighty() {
    let stop = Stop { after_tokens: Some(80 * rules().task_tokens()), ..Stop::default() };
    let mut lab = Lab::with(Rules { stop, ..rules() }, recovered());
    let sessions: Vec<_> = (0..3).map(|n| lab.worker(&format!("user{n}"), n)).collect();
    let mut accepted = 0;
    while stopped(&lab).is_none() {
        let before = accepted;
        for session in &sessions {
            if let Some(task) = lab.task(*session) {
                lab.deliver(*session, &task);
                accepted += 1;
            }
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
            measured(&mut lab, 2.0);
        }
        assert!(accepted > before || stopped(&lab).is_some(), "stuck after {accepted}");
    }
    assert_eq!((stopped(&lab), accepted, lab.hub.status().tasks), (Some("tokens"), 80, 80));
    assert_eq!(rewards(&lab.rows), 80);
    let merged: u64 =
        lab.rows.iter().filter_map(|r| if let Row::Version(v) = r { Some(v.tasks) } else { None }).max().unwrap_or(0);
    assert_eq!(merged, 80, "all of them are in the last version");
}

#[test]
fn a_run_that_is_over_makes_no_further_version_when_it_is_started_again() {
    let stop = Stop { after_rounds: Some(1), ..Stop::default() };
    let newest = Version { version: VersionNo(1), ..first_version() };
    let unmerged = vec![(lease_row(1, "alice", 1), accepted_row(1, 10))];
    let mut lab = Lab::with(Rules { stop, ..rules() }, Recovered { newest, unmerged, boot: 2, ..recovered() });
    lab.wait(rules().round_deadline);
    assert_eq!((lab.merge_ordered(), stopped(&lab)), (None, Some("rounds")));
}

#[test]
fn other_ends_are_seen_too() {
    for (stop, reason) in [
        (Stop { after_tasks: Some(1), ..Stop::default() }, "tasks"),
        (Stop { after_rounds: Some(1), ..Stop::default() }, "rounds"),
        (Stop { at_loss: Some(2.5), ..Stop::default() }, "loss"),
    ] {
        let mut lab = Lab::with(Rules { stop, ..rules() }, recovered());
        let session = lab.worker("alice", 1);
        let task = lab.task(session).expect("a task");
        lab.deliver(session, &task);
        lab.merge();
        measured(&mut lab, 2.0);
        assert_eq!(stopped(&lab), Some(reason));
        let heard = lab.heard(session);
        assert!(matches!(heard.last(), Some(ServerMsg::Bye(bye)) if !bye.retry), "{heard:?}");
    }
}

#[test]
fn a_run_whose_credits_are_all_issued_ends_and_pays_nothing_more() {
    let rules = Rules { reward: Credits::MAX, ..rules() };
    let mut lab = Lab::with(rules.clone(), recovered());
    let (alice, bob) = (lab.worker("alice", 1), lab.worker("bob", 2));
    let (first, second) = (lab.task(alice).expect("a task"), lab.task(bob).expect("a task"));
    lab.upload(bob, Lab::update(&second));
    lab.deliver(alice, &first);
    assert_eq!(verdict(&lab.heard(alice), first.lease), Some(Ok(Credits::MAX)));
    lab.tell(Fact::Checked { lease: second.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(verdict(&lab.heard(bob), second.lease), Some(Err(UnpaidCode::Finished)));
    lab.merge();
    measured(&mut lab, 2.0);
    assert_eq!((stopped(&lab), rewards(&lab.rows)), (Some("credits"), 1));
    // So it does at the next start, with an update that was on its way.
    let (book, open) = (lab.hub.book().clone(), vec![lease_row(5, "bob", 2)]);
    let lab = Lab::with(rules, Recovered { book, open, boot: 2, ..recovered() });
    assert_eq!(stopped(&lab), Some("credits"));
}

#[test]
fn who_asks_is_told_how_it_ended() {
    let stop = Stop { after_tasks: Some(1), ..Stop::default() };
    let mut lab = Lab::with(Rules { stop, ..rules() }, recovered());
    let chat = lab.chat("alice");
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.merge();
    measured(&mut lab, 2.0);
    let heard = lab.heard(chat);
    let [.., ServerMsg::Balance(balance), ServerMsg::Status(status), ServerMsg::Bye(_)] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((balance.balance, status.version, status.val_loss), (Credits::hyd(1), VersionNo(1), Some(2.0)));
}

#[test]
fn a_finished_run_that_is_started_again_stops_at_once() {
    let newest = Version { tasks: 5, ..first_version() };
    let stop = Stop { after_tasks: Some(5), ..Stop::default() };
    let lab = Lab::with(Rules { stop, ..rules() }, Recovered { newest, ..recovered() });
    assert_eq!(stopped(&lab), Some("tasks"));
}

#[test]
fn draining_lets_answers_and_checks_end_and_leaves_tasks_with_their_workers() {
    let mut lab = Lab::new();
    lab.earn("alice", 1);
    measured(&mut lab, 2.0);
    let chat = lab.chat("alice");
    let (idle, busy) = (lab.worker("bob", 2), lab.worker("carol", 3));
    let (open, done) = (lab.task(idle).expect("a task"), lab.task(busy).expect("a task"));
    lab.upload(busy, Lab::update(&done));
    let query = Query::new(QueryId([1; 16]), "Hi");
    lab.says(chat, ClientMsg::Query(query.clone()));
    lab.heard(idle);
    lab.tell(Fact::Operator(Operator::Drain));
    let heard = lab.heard(idle);
    assert!(!heard.iter().any(|m| matches!(m, ServerMsg::Revoked(_))), "{heard:?}");
    assert_eq!(stopped(&lab), None);
    lab.tell(Fact::Checked { lease: done.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(verdict(&lab.heard(busy), done.lease), Some(Ok(Credits::hyd(1))));
    assert_eq!(stopped(&lab), None, "the answer is not complete");
    let round = lab.hub.view(lab.now).round;
    assert!(round.kept && round.accepted == 1, "no version is made of it before the next start: {round:?}");
    lab.says(chat, ClientMsg::Query(Query { id: QueryId([2; 16]), ..query }));
    lab.tell(Fact::Piece { query: QueryNo(1), text: "a".to_owned(), tokens: 1 });
    lab.tell(Fact::Answered { query: QueryNo(1), tokens: 1, finish: Finish::Stop });
    let heard = lab.heard(chat);
    assert!(heard.iter().any(|m| matches!(m, ServerMsg::Refused(r) if r.code == RefusedCode::Stopping)));
    assert!(heard.iter().any(|m| matches!(m, ServerMsg::Answer(_))));
    assert!(matches!(heard.last(), Some(ServerMsg::Bye(bye)) if bye.retry));
    assert_eq!(stopped(&lab), Some("drained"));
    let over = |row: &Row| matches!(row, Row::Ended { lease, .. } if *lease == open.lease);
    assert!(!lab.rows.iter().any(over), "its worker may deliver it after the next start");
}

#[test]
fn stopping_does_not_take_for_ever_and_leaves_no_hold() {
    let mut lab = Lab::new();
    lab.earn("alice", 1);
    measured(&mut lab, 2.0);
    let chat = lab.chat("alice");
    let query = Query::new(QueryId([1; 16]), "Hi");
    lab.says(chat, ClientMsg::Query(query));
    lab.tell(Fact::Operator(Operator::Drain));
    lab.wait(Duration::from_secs(9));
    assert_eq!(stopped(&lab), None);
    lab.wait(Duration::from_secs(2));
    assert_eq!(stopped(&lab), Some("drained"));
    assert!(lab.hub.book().holds().is_empty());
}

#[test]
fn answers_end_when_their_time_is_over_whatever_else_an_end_waits_for() {
    let mut lab = Lab::new();
    lab.earn("alice", 1);
    measured(&mut lab, 2.0);
    let chat = lab.chat("alice");
    let worker = lab.worker("bob", 2);
    let task = lab.task(worker).expect("a task");
    lab.upload(worker, Lab::update(&task));
    lab.says(chat, ClientMsg::Query(Query::new(QueryId([1; 16]), "Hi")));
    lab.tell(Fact::Operator(Operator::Drain));
    lab.wait(Duration::from_secs(11));
    let heard = lab.heard(chat);
    assert!(
        matches!(heard.last(), Some(ServerMsg::Refused(refused)) if refused.code == RefusedCode::Stopping),
        "{heard:?}"
    );
    assert_eq!(stopped(&lab), None, "an update is still being checked");
    assert!(lab.hub.book().holds().is_empty());
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(stopped(&lab), Some("drained"));
}

#[test]
fn the_operator_pauses_resizes_and_cuts() {
    let mut lab = Lab::with(Rules { queue: 0, ..rules() }, recovered());
    lab.tell(Fact::Operator(Operator::Pause));
    let session = lab.worker("alice", 1);
    assert!(lab.task(session).is_none());
    lab.tell(Fact::Operator(Operator::Resume));
    assert!(lab.task(session).is_some());
    let alice: UserName = "alice".parse().expect("a name");
    let kick = |worker| Fact::Operator(Operator::Kick(alice.clone(), worker, "too loud".to_owned()));
    lab.tell(kick(WorkerId([1; 8])));
    let heard = lab.heard(session);
    let told = "kicked by the operator (it may be started again): too loud";
    assert!(
        matches!(heard.last(), Some(ServerMsg::Error(e)) if e.code == proto::ErrorCode::Removed && e.fatal && e.text == told),
        "{heard:?}"
    );
    assert_eq!(lab.hub.status().workers, 0);
    // One that heard nothing of it connects again: it hears it now, and only one that is started anew is let in.
    let again = lab.worker("alice", 1);
    let heard = lab.heard(again);
    assert!(matches!(heard.last(), Some(ServerMsg::Error(e)) if e.fatal && e.text == told), "{heard:?}");
    assert_eq!(lab.hub.status().workers, 0);
    let second = lab.worker("alice", 2);
    lab.worker("bob", 1);
    assert_eq!(lab.hub.status().workers, 2);
    // One that is not connected just now stays out as well.
    lab.tell(Fact::Left { session: second, reason: String::new() });
    lab.tell(kick(WorkerId([2; 8])));
    lab.worker("alice", 2);
    assert_eq!(lab.hub.status().workers, 1);
}

#[test]
fn nothing_is_waited_for_of_a_worker_that_was_kicked() {
    let mut lab = Lab::new();
    let alice: UserName = "alice".parse().expect("a name");
    let kick = |lab: &mut Lab, n| {
        lab.tell(Fact::Operator(Operator::Kick(alice.clone(), WorkerId([n; 8]), "too loud".to_owned())));
    };
    // In the middle of a task; while it sends; while it is away.
    let [trains, sends, away] = [1, 2, 3].map(|n| lab.worker("alice", n));
    let tasks = [trains, sends, away].map(|session| lab.task(session).expect("a task"));
    lab.says(sends, ClientMsg::Update(Update { more: true, ..Lab::update(&tasks[1]) }));
    lab.tell(Fact::Left { session: away, reason: String::new() });
    (1..=3).for_each(|n| kick(&mut lab, n));
    let ended = |lab: &Lab, code| {
        let of = |row: &&Row| matches!(row, Row::Ended { code: found, .. } if *found == code);
        lab.rows.iter().filter(of).count()
    };
    assert!(ended(&lab, UnpaidCode::Cancelled) >= 3);
    lab.wait(rules().lease_first * 2);
    assert_eq!(ended(&lab, UnpaidCode::Expired), 0);
    // Somebody else does the tasks, and the user's next worker has a clean record.
    let next = lab.worker("alice", 4);
    assert!(lab.task(next).is_some());
}

#[test]
fn tasks_come_no_faster_than_the_rate() {
    let every = Some(Duration::from_secs(6));
    let mut lab = Lab::with(Rules { every, queue: 1, ..rules() }, recovered());
    let sessions: Vec<_> = (0..3).map(|n| lab.worker(&format!("user{n}"), n)).collect();
    lab.wait(Duration::from_millis(11_900));
    let given = sessions.iter().filter(|s| lab.pushed.iter().any(|(to, _)| to == *s)).count();
    assert_eq!(given, 2, "one at the beginning and one after six seconds");
}

#[test]
fn an_end_waits_for_measurements_under_way_and_for_no_others() {
    for fact in [
        Fact::Unmeasured { version: VersionNo(1) },
        Fact::Evaluated {
            version: VersionNo(1),
            averaged: false,
            loss: 2.0,
            bits_per_byte: 2.0,
            bytes_up: 0,
            bytes_down: 0,
        },
    ] {
        let mut lab = Lab::new();
        let session = lab.worker("alice", 1);
        let task = lab.task(session).expect("a task");
        lab.deliver(session, &task);
        lab.merge();
        lab.tell(Fact::Operator(Operator::Drain));
        assert_eq!(stopped(&lab), None, "version 1 may be on the scales");
        lab.tell(fact);
        assert_eq!(stopped(&lab), Some("drained"));
    }
}

#[test]
fn a_restart_near_the_end_hands_out_no_task_too_many() {
    let stop = Stop { after_tasks: Some(4), ..Stop::default() };
    // Four at work when the last start ended, each on a task of its own.
    let leases = (1..=4).map(|n| lease_row(n, &format!("user{n}"), n as u8)).collect();
    let mut lab = Lab::with(Rules { stop, ..rules() }, Recovered { open: leases, last_task: TaskId(4), ..recovered() });
    let back = |lab: &mut Lab, n: u64| {
        let user = format!("user{n}");
        lab.enter(&user, Hello { lease: Some(LeaseId(n)), ..Lab::hello(&user, Some(n as u8)) })
    };
    let sessions: Vec<_> = (1..=4).map(|n| back(&mut lab, n)).collect();
    for (session, lease) in sessions.into_iter().zip((1..).map(LeaseId)) {
        let called_off = |message: &ServerMsg| matches!(message, ServerMsg::Revoked(unpaid) if unpaid.lease == lease);
        assert!(!lab.heard(session).iter().any(called_off), "{lease} goes on");
        assert!(lab.task(session).is_none(), "each goes on with its own");
    }
    let late = lab.worker("late", 9);
    assert!(lab.task(late).is_none(), "nothing is left to do");
}
