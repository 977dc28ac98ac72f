//! What a screen is shown of the hub.

use super::*;
use crate::hub::bench::Place;
use crate::hub::{WorkerState, WorkerView};
use crate::ledger::Kind;
use crate::proto::{Progress, UnpaidCode};

fn worker(lab: &Lab, session: SessionId) -> WorkerView {
    let view = lab.hub.view(lab.now);
    view.workers.into_iter().find(|worker| worker.session == session).expect("it is connected")
}

fn progress(task: &Task, step: u32) -> ClientMsg {
    ClientMsg::Progress(Progress { lease: task.lease, step, loss: 2.5, tokens_per_s: 4.0 })
}

#[test]
fn a_worker_is_followed_from_task_to_pay() {
    let mut lab = Lab::new();
    lab.wait(Duration::from_secs(5));
    let session = lab.enter("alice", Hello { device: "cpu ×2".to_owned(), ..Lab::hello("alice", Some(1)) });
    let task = lab.task(session).expect("a free worker gets a task");
    lab.says(session, progress(&task, 1));
    let seen = worker(&lab, session);
    assert!(matches!(seen.state, WorkerState::Training { step: 1, steps: 2, .. }), "{:?}", seen.state);
    assert_eq!((&*seen.device, seen.since, seen.loss, seen.tokens_per_s), ("cpu ×2", lab.now, Some(2.5), Some(4.0)));
    assert_eq!((seen.accepted, seen.refused, seen.earned), (0, 0, Credits::ZERO));

    lab.says(session, ClientMsg::Update(Update { more: false, ..Lab::update(&task) }));
    assert_eq!(worker(&lab, session).state, WorkerState::Sending(task.task));
    lab.tell(Fact::Received { session, blob: Lab::update(&task).blob, intact: true });
    lab.durable = false;
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(worker(&lab, session).earned, Credits::ZERO, "a payment counts once it is on disk");
    lab.sync();
    let seen = worker(&lab, session);
    assert_eq!((seen.accepted, seen.earned, seen.state), (1, Credits::hyd(1), WorkerState::Resting));

    lab.says(session, ClientMsg::Update(Lab::update(&Task { lease: LeaseId(77), ..task })));
    let seen = worker(&lab, session);
    assert_eq!((seen.refused, seen.refusal), (1, Some(UnpaidCode::UnknownLease)));
    lab.says(session, ClientMsg::Ready(proto::Ready { accepting: false, device: "cpu ×3".to_owned() }));
    assert_eq!(&*worker(&lab, session).device, "cpu ×3");
    lab.tell(Fact::Left { session, reason: String::new() });
    assert!(lab.hub.view(lab.now).workers.is_empty());

    // What became of its updates is counted on when it comes back.
    let session = lab.enter("alice", Lab::hello("alice", Some(1)));
    let seen = worker(&lab, session);
    assert_eq!((seen.accepted, seen.earned, seen.refused), (1, Credits::hyd(1), 1));
    assert_eq!(seen.refusal, Some(UnpaidCode::UnknownLease));
}

#[test]
fn a_lease_that_ended_without_an_update_counts_as_not_paid() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    lab.task(session).expect("a task");
    lab.wait(rules().lease_first);
    let counts = |seen: &WorkerView| (seen.refused, seen.refusal);
    assert_eq!(counts(&worker(&lab, session)), (1, Some(UnpaidCode::Expired)));

    // So it does when it ends while the worker is away.
    let session = lab.worker("bob", 2);
    let task = lab.task(session).expect("a task");
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.wait(rules().lease_first);
    let session = lab.enter("bob", Hello { lease: Some(task.lease), ..Lab::hello("bob", Some(2)) });
    assert_eq!(counts(&worker(&lab, session)), (1, Some(UnpaidCode::Expired)));
}

#[test]
fn what_ends_a_hold_is_for_the_same() {
    let mut lab = Lab::new();
    lab.earn("alice", 1);
    let chat = lab.chat("alice");
    lab.says(chat, ClientMsg::Query(proto::Query::new(QueryId([1; 16]), "Hi")));
    lab.says(chat, ClientMsg::Cancel(proto::Cancel { id: QueryId([1; 16]) }));
    let seen = lab.hub.view(lab.now).ledger.newest;
    assert_eq!((seen[0].kind, seen[1].kind, &seen[0].memo), (Kind::Void, Kind::Hold, &seen[1].memo));
    assert!(seen[0].memo.starts_with("query "), "{}", seen[0].memo);
}

#[test]
fn the_ledger_is_shown_as_it_is_on_disk() {
    let mut lab = Lab::new();
    lab.earn("alice", 2);
    lab.earn("bob", 1);
    lab.durable = false;
    let chat = lab.chat("alice");
    let id = QueryId([1; 16]);
    let query = proto::Query::new(id, "hi");
    lab.says(chat, ClientMsg::Query(query));
    let before = lab.hub.view(lab.now).ledger;
    assert_eq!((before.issued, before.held, before.transfers), (Credits::hyd(3), Credits::ZERO, 3));
    let top: Vec<_> = before.top.iter().map(|(user, balance)| (user.as_str(), balance.0 / 1_000_000)).collect();
    assert_eq!(top, [("alice", 2), ("bob", 1)]);
    lab.sync();
    let view = lab.hub.view(lab.now);
    assert_eq!((view.ledger.held, view.ledger.holds, view.chats), (Credits(500_000), 1, 1));
    let newest = &view.ledger.newest[0];
    assert_eq!((newest.kind, newest.debit.as_str(), newest.credit.as_str()), (Kind::Hold, "user:alice", "holds"));
    assert_eq!(view.ledger.newest.len(), 4);
}

#[test]
fn the_round_shows_what_it_waits_for_and_can_be_closed_at_once() {
    let mut lab = Lab::new();
    let sessions: Vec<_> = (1..=4).map(|n| lab.worker("alice", n)).collect();
    let task = lab.task(sessions[0]).expect("a free worker gets a task");
    lab.tell(Fact::Operator(Operator::CloseRound));
    assert!(lab.merge_ordered().is_none(), "there is nothing to merge");
    lab.deliver(sessions[0], &task);
    let view = lab.hub.view(lab.now);
    let made = lab.hub.rules.epoch_ms + lab.now.0 / 1000 - lab.hub.newest.at_ms;
    assert_eq!(view.version_age, Duration::from_millis(made), "as old as its row says");
    assert_eq!(lab.hub.worker_of(sessions[0]).map(|(user, _)| user.as_str()), Some("alice"));
    let round = view.round;
    assert_eq!((round.accepted, round.needed, round.merging), (1, 3, false));
    assert!(round.closes.is_some() && round.enough.is_none());
    lab.tell(Fact::Operator(Operator::CloseRound));
    assert_eq!(lab.merge_ordered().expect("the round was closed").1, [task.lease]);
    assert!(lab.hub.view(lab.now).round.merging);
    lab.tell(Fact::Operator(Operator::CloseRound));
    lab.merge();
    assert_eq!(lab.hub.view(lab.now).status.version, VersionNo(1));
}

#[test]
fn a_free_worker_whose_update_is_on_its_way_sends() {
    let mut lab = Lab::with(Rules { queue: 0, ..rules() }, recovered());
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.tell(Fact::Operator(Operator::Pause));
    lab.says(session, ClientMsg::Update(Update { more: true, ..Lab::update(&task) }));
    // Longer than it is held for a version.
    lab.wait(Duration::from_secs(3));
    let seat = lab.hub.sessions[&session].seat().expect("a worker's");
    assert!(matches!(seat.place, Place::Idle(_)), "{:?}", seat.place);
    assert_eq!(worker(&lab, session).state, WorkerState::Sending(task.task));
}

#[test]
fn a_round_that_needs_more_since_somebody_came_does_not_have_enough() {
    let mut lab = Lab::new();
    let sessions: Vec<_> = (1..=4).map(|n| lab.worker("alice", n)).collect();
    let deliver = |lab: &mut Lab, sessions: &[SessionId]| {
        for session in sessions {
            let task = lab.task(*session).expect("a task");
            lab.deliver(*session, &task);
        }
    };
    lab.wait(Duration::from_secs(10));
    deliver(&mut lab, &sessions);
    lab.merge();
    // Three suffice: the last of before, and these two. The others are due.
    lab.wait(Duration::from_secs(10));
    deliver(&mut lab, &sessions[..2]);
    let seen = |lab: &Lab| lab.hub.view(lab.now).round;
    let before = seen(&lab);
    assert!(before.accepted == before.needed && before.enough.is_some(), "{before:?}");
    lab.worker("carol", 9);
    let round = seen(&lab);
    assert!(round.accepted < round.needed && round.enough.is_none() && round.closes > before.closes, "{round:?}");
}

#[test]
fn workers_that_are_overdue_are_counted_as_late() {
    let mut lab = Lab::new();
    let sessions: Vec<_> = (1..=2).map(|n| lab.worker("alice", n)).collect();
    for _ in 0..3 {
        for session in &sessions {
            let task = lab.task(*session).expect("a task");
            lab.wait(Duration::from_secs(1));
            lab.deliver(*session, &task);
        }
        lab.tell(Fact::Operator(Operator::CloseRound));
        lab.merge();
    }
    let round = lab.hub.view(lab.now).round;
    assert_eq!((round.training, round.needed, round.late), (2, 2, 0));
    lab.wait(Duration::from_secs(4));
    let round = lab.hub.view(lab.now).round;
    assert_eq!((round.training, round.needed, round.late), (2, 2, 2));
    // Their leases have ended, and they have others: until one is right again the round does not ask for theirs.
    lab.wait(Duration::from_secs(16));
    let round = lab.hub.view(lab.now).round;
    assert_eq!((round.training, round.needed, round.late), (2, 1, 2));
}

#[test]
fn the_queue_and_a_pause_are_shown() {
    let mut lab = Lab::new();
    lab.tell(Fact::Operator(Operator::Pause));
    lab.tell(Fact::Operator(Operator::Queue(5)));
    let view = lab.hub.view(lab.now);
    assert_eq!((view.paused, view.queued, view.queue), (true, 2, 5));
    lab.tell(Fact::Operator(Operator::Resume));
    assert_eq!(lab.hub.view(lab.now).queued, 5);
}
