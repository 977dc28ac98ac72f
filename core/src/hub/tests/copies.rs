//! Second copies at the end of a bounded run.

use super::*;

/// A run of two tasks, and what alice (a second for a task) and bob (so many seconds) have just been given.
fn last_two(bobs_seconds: u64) -> (Lab, [(SessionId, Task); 2]) {
    let settled = vec![
        (lease_row(1, "alice", 1), accepted_row(1, 1_000)),
        (lease_row(2, "bob", 2), accepted_row(2, bobs_seconds * 1_000)),
    ];
    let stop = Stop { after_tasks: Some(2), ..Stop::default() };
    let mut lab = Lab::with(
        Rules { stop, queue: 0, ..rules() },
        Recovered { settled, boot: 2, last_task: TaskId(2), ..recovered() },
    );
    let at_work = [("alice", 1), ("bob", 2)].map(|(user, worker)| {
        let session = lab.worker(user, worker);
        (session, lab.task(session).expect("a task"))
    });
    (lab, at_work)
}

fn merge_if_ordered(lab: &mut Lab) {
    if lab.merge_ordered().is_some() {
        lab.merge();
    }
}

#[test]
fn an_overdue_task_is_copied_to_a_free_worker_and_both_are_paid() {
    let (mut lab, [(alice, first), (bob, late)]) = last_two(1);
    lab.wait(Duration::from_secs(1));
    lab.deliver(alice, &first);
    merge_if_ordered(&mut lab);
    assert!(lab.task(alice).is_none(), "the last task is not overdue, and there is no other");
    lab.wait(Duration::from_millis(1_100));
    let copy = lab.task(alice).expect("the last task is overdue");
    assert_eq!(copy.task, late.task);
    assert!(copy.lease != late.lease && copy.seed != late.seed, "with windows of its own");
    let carol = lab.worker("carol", 3);
    lab.wait(Duration::from_secs(5));
    assert!(lab.task(carol).is_none(), "two are enough");
    lab.upload(bob, Lab::update(&late));
    lab.upload(alice, Lab::update(&copy));
    for (session, task) in [(alice, copy), (bob, late)] {
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))), "{:?}", task.lease);
    }
    assert_eq!(lab.hub.status().tasks, 3);
}

#[test]
fn the_task_of_a_copy_that_is_done_is_not_done_again() {
    let (mut lab, [(alice, first), (bob, late)]) = last_two(1);
    lab.wait(Duration::from_secs(1));
    lab.deliver(alice, &first);
    merge_if_ordered(&mut lab);
    lab.wait(Duration::from_millis(1_100));
    let copy = lab.task(alice).expect("a copy");
    lab.tell(Fact::Left { session: bob, reason: String::new() });
    let carol = lab.worker("carol", 3);
    assert!(lab.task(carol).is_none(), "alice has it");
    lab.tell(Fact::Left { session: alice, reason: String::new() });
    let last = lab.task(carol).expect("nobody has it");
    assert_eq!((last.task, copy.task), (late.task, late.task));
}

#[test]
fn a_worker_that_calls_itself_slow_does_not_hold_up_the_end() {
    let (mut lab, [(alice, first), (bob, late)]) = last_two(1);
    let slow = proto::Progress { lease: late.lease, step: 1, loss: 3.0, tokens_per_s: 1e-6 };
    lab.says(bob, ClientMsg::Progress(slow));
    lab.wait(Duration::from_secs(1));
    lab.deliver(alice, &first);
    merge_if_ordered(&mut lab);
    lab.wait(Duration::from_secs(8));
    assert!(lab.task(alice).is_none(), "bob still has the time that he was given");
    lab.wait(Duration::from_secs(2));
    assert_eq!(lab.task(alice).expect("his lease would have ended").task, late.task);
}

#[test]
fn a_slow_worker_that_does_what_is_expected_of_it_is_not_overtaken() {
    let (mut lab, [(alice, first), (bob, last)]) = last_two(20);
    lab.wait(Duration::from_secs(1));
    lab.deliver(alice, &first);
    merge_if_ordered(&mut lab);
    lab.wait(Duration::from_secs(18));
    assert!(lab.task(alice).is_none());
    lab.deliver(bob, &last);
    assert_eq!(verdict(&lab.heard(bob), last.lease), Some(Ok(Credits::hyd(1))));
}
