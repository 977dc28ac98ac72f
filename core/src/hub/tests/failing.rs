//! Workers that keep failing get less work, whatever they do about their connection, and get it back by being right.

use super::*;
use crate::proto::{Release, UnpaidCode};

/// A worker that has just failed six times in a row: it gets nothing for 1.6 seconds.
fn struck() -> (Lab, SessionId) {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    for _ in 0..6 {
        lab.wait(Duration::from_secs(1));
        let task = lab.task(session).expect("its bar is over");
        lab.says(session, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    }
    assert!(lab.task(session).is_none());
    (lab, session)
}

#[test]
fn a_reconnect_clears_nothing() {
    for worker in [1, 2] {
        let (mut lab, session) = struck();
        lab.tell(Fact::Left { session, reason: String::new() });
        let again = lab.worker("alice", worker);
        lab.wait(Duration::from_millis(1_500));
        assert!(lab.task(again).is_none(), "as worker {worker}");
        lab.wait(Duration::from_millis(200));
        let task = lab.task(again).expect("but not for ever");
        lab.says(again, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
        lab.wait(Duration::from_secs(3));
        assert!(lab.task(again).is_none(), "the seventh counts on");
    }
}

#[test]
fn another_worker_of_the_same_user_is_not_slowed_down() {
    let (mut lab, session) = struck();
    let other = lab.worker("alice", 2);
    assert!(lab.task(other).is_some(), "while the one that failed is there");
    lab.tell(Fact::Left { session, reason: String::new() });
    let back = lab.worker("alice", 1);
    assert!(lab.task(back).is_none());
}

#[test]
fn right_work_forgives() {
    let (mut lab, session) = struck();
    lab.wait(Duration::from_secs(2));
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.merge();
    lab.wait(Duration::from_secs(1));
    let task = lab.task(session).expect("a task");
    lab.says(session, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    lab.wait(Duration::from_millis(60));
    assert!(lab.task(session).is_some(), "the first failure after it counts as the first");
}

#[test]
fn a_refusal_after_the_worker_has_left_counts() {
    let mut lab = Lab::new();
    let mut session = lab.worker("alice", 1);
    for _ in 0..8 {
        lab.wait(Duration::from_secs(7));
        let task = lab.task(session).expect("its bar is over");
        lab.upload(session, Lab::update(&task));
        lab.tell(Fact::Left { session, reason: String::new() });
        lab.tell(Fact::Checked { lease: task.lease, verdict: Err((UnpaidCode::NotFinite, String::new())) });
        session = lab.worker("alice", 1);
    }
    lab.wait(Duration::from_secs(6));
    assert!(lab.task(session).is_none());
}

#[test]
fn leases_that_end_without_an_update_count() {
    let mut lab = Lab::new();
    let mut session = lab.worker("alice", 1);
    for _ in 0..6 {
        lab.wait(Duration::from_secs(5));
        assert!(lab.task(session).is_some());
        lab.tell(Fact::Left { session, reason: String::new() });
        lab.wait(Duration::from_mins(1));
        session = lab.worker("alice", 1);
    }
    assert!(lab.task(session).is_none(), "it took six tasks and delivered none");
}

#[test]
fn after_a_restart_a_worker_is_known_to_be_as_fast_as_it_was() {
    let settled = vec![(lease_row(1, "alice", 1), accepted_row(1, 8_000))];
    let unmerged = vec![(lease_row(2, "alice", 1), accepted_row(2, 4_000))];
    let mut lab = Lab::with(rules(), Recovered { settled, unmerged, boot: 2, ..recovered() });
    let alice = lab.worker("alice", 1);
    // 16 tokens in 8 and in 4 seconds: 3 a second; three times as long as expected.
    assert!((15_990..=16_010).contains(&lab.task(alice).expect("a task").deadline_ms));
    let other = lab.worker("alice", 2);
    assert_eq!(lab.task(other).expect("a task").deadline_ms, 60_000, "nothing is known of it");
}

#[test]
fn right_work_ends_a_bar_at_once() {
    let (mut lab, session) = struck();
    lab.wait(Duration::from_secs(2));
    let first = lab.task(session).expect("a task");
    lab.upload(session, Lab::update(&first));
    lab.wait(Duration::from_secs(1));
    let second = lab.task(session).expect("the next one, while the first is checked");
    lab.says(session, ClientMsg::Release(Release { lease: second.lease, text: String::new() }));
    assert!(lab.task(session).is_none(), "barred for three seconds");
    lab.tell(Fact::Checked { lease: first.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert!(lab.task(session).is_some());
}

#[test]
fn after_a_clock_that_was_set_back_a_worker_is_not_a_thousand_times_too_fast() {
    let lease = Lease { at_ms: 20_000, ..lease_row(1, "alice", 1) };
    let settled = vec![(lease, accepted_row(1, 8_000))];
    let mut lab = Lab::with(rules(), Recovered { settled, boot: 2, ..recovered() });
    let alice = lab.worker("alice", 1);
    // As long as it said that it trained; three times that.
    assert!((23_990..=24_010).contains(&lab.task(alice).expect("a task").deadline_ms));
}
