//! Workers that owe a sign of life, and what becomes of their leases.

use super::super::leases::State;
use super::*;
use crate::proto::UnpaidCode;

/// A worker with a task whose time was up while it was quiet.
fn suspended() -> (Lab, SessionId, Task) {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a free worker gets a task");
    lab.wait(Duration::from_secs(1));
    lab.tell(Fact::Quiet { session });
    lab.wait(Duration::from_millis(task.deadline_ms));
    lab.heard(session);
    (lab, session, task)
}

/// Ended without a word about it: nobody counts it as unpaid.
#[track_caller]
fn dropped(lab: &Lab, lost: &Task) {
    let held = lab.hub.leases.get(lost.lease).expect("it is remembered");
    assert!(matches!(held.state, State::Ended(UnpaidCode::Cancelled)), "{held:?}");
    let told = |order: &Order| matches!(order, Order::Note(Event::Rejected { task, .. }) if *task == lost.task);
    assert!(!lab.orders.iter().any(told));
}

#[test]
fn who_sleeps_past_its_lease_goes_on_and_is_paid() {
    let (mut lab, session, task) = suspended();
    lab.tell(Fact::Woke { session });
    assert_eq!(lab.heard(session), [], "nothing is revoked");
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    lab.merge();
    assert!(lab.task(session).is_some(), "and it gets the next");
    lab.wait(Duration::from_mins(10));
    assert_eq!(lab.hub.leases.get(task.lease).map(|held| held.state.is_over()), Some(true));
}

#[test]
fn who_is_dropped_first_is_paid_when_it_is_back() {
    let (mut lab, session, task) = suspended();
    lab.tell(Fact::Left { session, reason: String::new() });
    let mut hello = Lab::hello("alice", Some(1));
    hello.lease = Some(task.lease);
    let session = lab.enter("alice", hello);
    assert!(lab.task(session).is_none(), "it has one");
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn its_task_goes_to_somebody_else_meanwhile() {
    let (mut lab, session, task) = suspended();
    let bob = lab.worker("bob", 2);
    let copy = lab.task(bob).expect("a task");
    assert_eq!(copy.task, task.task);
    lab.deliver(bob, &copy);
    lab.tell(Fact::Woke { session });
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    assert_eq!(rewards(&lab.rows), 2);
}

#[test]
fn a_quiet_worker_gets_no_task() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.tell(Fact::Quiet { session });
    lab.merge();
    lab.wait(Duration::from_secs(5));
    assert!(lab.task(session).is_none());
    lab.tell(Fact::Woke { session });
    assert!(lab.task(session).is_some());
}

/// A worker that is back and knows nothing of the task that it was pushed before.
fn back_without() -> (Lab, SessionId, Task) {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let lost = lab.task(session).expect("a task");
    lab.tell(Fact::Left { session, reason: String::new() });
    let session = lab.worker("alice", 1);
    (lab, session, lost)
}

#[test]
fn a_task_that_never_reached_a_worker_is_not_held_against_it() {
    let (mut lab, session, lost) = back_without();
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.merge();
    lab.wait(Duration::from_mins(6));
    dropped(&lab, &lost);
}

#[test]
fn who_says_goodbye_gives_up_what_it_had_before_too() {
    let (mut lab, session, lost) = back_without();
    lab.says(session, ClientMsg::Bye(proto::Bye { text: String::new(), retry: false }));
    dropped(&lab, &lost);
}

#[test]
fn who_means_to_come_back_keeps_its_task() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.says(session, ClientMsg::Bye(proto::Bye { text: "a version came damaged".to_owned(), retry: true }));
    assert!(lab.orders.iter().any(|order| matches!(order, Order::Close { session: closed } if *closed == session)));
    let session = lab.enter("alice", Hello { lease: Some(task.lease), ..Lab::hello("alice", Some(1)) });
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    lab.merge();
    assert!(lab.task(session).is_some(), "at once: it has done nothing wrong");
}
