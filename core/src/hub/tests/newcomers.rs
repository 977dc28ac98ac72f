//! What is expected of workers of which little is known: those that have just come, and all of them after a restart.

use super::rounds::known;
use super::*;
use crate::proto::Progress;

#[test]
fn newcomers_that_say_nothing_do_not_make_every_round_last_its_deadline() {
    let (mut lab, sessions) = known(&[10]);
    // As the presets have it, a first lease is longer than a round's deadline.
    lab.hub.rules.lease_first = Duration::from_mins(5);
    let (mut last, mut longest, mut newcomer) = (lab.now, Duration::ZERO, None);
    for turn in 0..60 {
        lab.wait(Duration::from_secs(10));
        // One goes after two and a half minutes, and another one comes.
        if turn % 15 == 0 {
            if let Some(gone) = newcomer {
                lab.tell(Fact::Left { session: gone, reason: String::new() });
            }
            newcomer = Some(lab.worker("silent", 100 + turn));
        }
        if let Some(task) = lab.task(sessions[0]) {
            lab.deliver(sessions[0], &task);
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
            longest = longest.max(lab.now.since(last));
            last = lab.now;
        }
    }
    assert!(longest <= Duration::from_secs(40), "{longest:?} without a version");
}

#[test]
fn a_newcomer_that_reports_a_step_in_time_is_waited_for_however_slow_it_is() {
    let (mut lab, sessions) = known(&[10]);
    let slow = lab.worker("slow", 100);
    let long = lab.task(slow).expect("a task");
    for second in 1..=100 {
        lab.wait(Duration::from_secs(1));
        if second == 25 {
            let progress = Progress { lease: long.lease, step: 1, loss: 3.0, tokens_per_s: 0.107 };
            lab.says(slow, ClientMsg::Progress(progress));
        }
        if second % 10 == 0
            && let Some(task) = lab.task(sessions[0])
        {
            lab.deliver(sessions[0], &task);
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    lab.deliver(slow, &long);
    assert_eq!(verdict(&lab.heard(slow), long.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn the_first_round_after_a_restart_has_a_grace() {
    let settled = [("alice", 1), ("bob", 2)].map(|(user, worker)| {
        let lease = u64::from(worker);
        (lease_row(lease, user, worker), accepted_row(lease, 10_000))
    });
    let recovered = Recovered { settled: settled.to_vec(), boot: 2, ..recovered() };
    let mut lab = Lab::with(Rules { quorum: 0.5, ..rules() }, recovered);
    let (alice, bob) = (lab.worker("alice", 1), lab.worker("bob", 2));
    let (first, second) = (lab.task(alice).expect("a task"), lab.task(bob).expect("a task"));
    lab.wait(Duration::from_secs(9));
    lab.deliver(alice, &first);
    lab.wait(Duration::from_secs(1));
    assert!(lab.merge_ordered().is_none(), "the other is expected at this moment");
    lab.deliver(bob, &second);
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.len() == 2));
}
