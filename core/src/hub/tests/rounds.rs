//! When rounds close, and who waits for them.

use super::*;
use crate::limits;
use crate::proto::{Progress, Release, UnpaidCode};

/// Workers that need so many seconds for a task, at work for a minute: their speeds are known, and who can is in step
/// with the others. All have just begun a task, which they are still to be asked for.
pub(super) fn known(seconds: &[u64]) -> (Lab, Vec<SessionId>) {
    let mut lab = Lab::new();
    let sessions: Vec<_> = (0..seconds.len()).map(|n| lab.worker(&format!("user{n}"), n as u8)).collect();
    let mut hands: Vec<Option<(Time, Task)>> = vec![None; sessions.len()];
    for second in 0..=60 {
        lab.wait(Time(second * 1_000_000).since(lab.now));
        for (n, session) in sessions.iter().enumerate() {
            if let Some((_, task)) = hands[n].take_if(|(due, _)| *due <= lab.now) {
                lab.deliver(*session, &task);
            }
            if lab.merge_ordered().is_some() {
                lab.merge();
            }
        }
        for (n, session) in sessions.iter().enumerate() {
            if second < 60
                && let Some(task) = lab.task(*session)
            {
                hands[n] = Some((lab.now.after(Duration::from_secs(seconds[n])), task));
            }
        }
    }
    (lab, sessions)
}

#[test]
fn a_single_workers_update_closes_the_round_as_continued_training() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    assert!(lab.task(session).is_none(), "it waits for its own version");
    let (version, inputs, rule) = lab.merge_ordered().expect("the round is closed");
    assert_eq!((version, inputs, rule), (VersionNo(1), vec![task.lease], OuterRule::MEAN));
    lab.merge();
    assert_eq!(lab.task(session).map(|next| next.version), Some(VersionNo(1)));
    assert!(lab.orders.iter().any(|o| matches!(o, Order::SendVersion { base: Some(VersionNo(0)), .. })));
}

#[test]
fn the_second_of_two_equal_workers_closes_the_round_and_the_first_is_held() {
    let (mut lab, sessions) = known(&[10, 10]);
    let (a, b) = (sessions[0], sessions[1]);
    let (of_a, of_b) = (lab.task(a), lab.task(b));
    let (of_a, of_b) = (of_a.expect("a task"), of_b.expect("a task"));
    let newest = lab.hub.status().version;
    assert_eq!((of_a.version, of_b.version), (newest, newest), "they are in step");
    lab.wait(Duration::from_secs(9));
    lab.deliver(a, &of_a);
    assert!(lab.merge_ordered().is_none(), "one of two is no quorum");
    assert!(lab.task(a).is_none(), "the version is close: the first waits for it");
    lab.wait(Duration::from_secs(1));
    lab.deliver(b, &of_b);
    let (_, inputs, rule) = lab.merge_ordered().expect("the second closes the round");
    assert_eq!((inputs, rule), (vec![of_a.lease, of_b.lease], OuterRule::DILOCO));
    lab.merge();
    for session in [a, b] {
        assert_eq!(lab.task(session).map(|task| task.version), Some(VersionNo(newest.0 + 1)));
    }
}

#[test]
fn a_held_worker_does_not_wait_for_ever() {
    let (mut lab, sessions) = known(&[10, 10]);
    let task = lab.task(sessions[0]).expect("a task");
    lab.wait(Duration::from_secs(9));
    lab.deliver(sessions[0], &task);
    assert!(lab.task(sessions[0]).is_none());
    lab.wait(Duration::from_secs(10));
    let next = lab.task(sessions[0]).expect("the other one is too late");
    assert_eq!(next.version, task.version);
}

#[test]
fn a_much_slower_workers_update_is_still_taken() {
    let mut lab = Lab::new();
    let (fast, slow) = (lab.worker("fast", 1), lab.worker("slow", 2));
    let (mut task, long) = (lab.task(fast).expect("a task"), lab.task(slow).expect("a task"));
    for second in 1..=38 {
        lab.wait(Duration::from_secs(1));
        let progress = Progress { lease: long.lease, step: 1, loss: 3.0, tokens_per_s: 0.4 };
        if second == 20 {
            lab.says(slow, ClientMsg::Progress(progress));
        }
        if second % 10 == 0 {
            lab.deliver(fast, &task);
            if lab.merge_ordered().is_some() {
                lab.merge();
            }
            lab.wait(Duration::from_secs(1));
            task = lab.task(fast).expect("the fast one does not stand still");
        }
    }
    lab.deliver(slow, &long);
    assert_eq!(verdict(&lab.heard(slow), long.lease), Some(Ok(Credits::hyd(1))));
    assert!(lab.hub.status().version.0 >= 1, "the slow one stops nobody");
}

#[test]
fn a_round_closes_at_its_deadline_with_what_there_is() {
    let (mut lab, sessions) = known(&[10, 10, 10]);
    let task = lab.task(sessions[0]).expect("a task");
    lab.deliver(sessions[0], &task);
    assert!(lab.merge_ordered().is_none(), "the others are still there, but never done");
    lab.wait(Duration::from_secs(125));
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.contains(&task.lease)));
}

#[test]
fn an_announcement_without_bytes_holds_a_round_up_only_briefly() {
    let mut lab = Lab::new();
    let good: Vec<_> = (0..3).map(|n| lab.worker("good", n)).collect();
    let bad = lab.worker("bad", 9);
    let other = lab.task(bad).expect("a task");
    lab.says(bad, ClientMsg::Update(Lab::update(&other)));
    for session in good {
        let task = lab.task(session).expect("a task");
        lab.deliver(session, &task);
    }
    assert!(lab.merge_ordered().is_none(), "it may come in a moment");
    lab.wait(Duration::from_secs(6));
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.len() == 3));
}

#[test]
fn the_last_round_is_made_by_all_who_are_at_work() {
    let stop = Stop { after_tasks: Some(4), ..Stop::default() };
    let mut lab = Lab::with(Rules { stop, ..rules() }, recovered());
    let workers: Vec<_> = (0..4).map(|n| lab.worker("alice", n)).collect();
    let tasks: Vec<_> = workers.iter().map(|session| lab.task(*session).expect("a task")).collect();
    for (session, task) in workers.iter().zip(&tasks).take(3) {
        lab.wait(Duration::from_millis(100));
        lab.deliver(*session, task);
    }
    lab.wait(Duration::from_secs(2));
    assert!(lab.merge_ordered().is_none(), "nobody would train on it");
    lab.deliver(workers[3], &tasks[3]);
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.len() == 4));
}

#[test]
fn before_the_last_round_every_round_is_as_always() {
    let stop = Stop { after_tasks: Some(5), ..Stop::default() };
    let mut lab = Lab::with(Rules { stop, queue: 3, ..rules() }, recovered());
    let session = lab.worker("alice", 1);
    for version in 1..=5 {
        let task = lab.task(session).expect("a task");
        assert_eq!(task.version, VersionNo(version - 1));
        lab.deliver(session, &task);
        lab.merge();
    }
}

#[test]
fn who_only_rests_between_tasks_is_no_end() {
    let mut lab = Lab::new();
    let workers: Vec<_> = (0..4).map(|n| lab.worker("alice", n)).collect();
    for session in workers.iter().take(3) {
        let task = lab.task(*session).expect("a task");
        lab.upload(*session, Update { more: false, ..Lab::update(&task) });
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    }
    assert!(lab.merge_ordered().is_some(), "the fourth goes on");
}

#[test]
fn a_failed_merge_is_tried_again_with_what_came_since() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.tell(Fact::MergeFailed { version: VersionNo(1) });
    lab.wait(Duration::from_millis(600));
    let second = lab.task(session).expect("training goes on");
    lab.deliver(session, &second);
    lab.orders.clear();
    lab.wait(Duration::from_secs(5));
    let (version, inputs, _) = lab.merge_ordered().expect("another try");
    assert_eq!((version, inputs), (VersionNo(1), vec![task.lease, second.lease]));
}

#[test]
fn what_is_too_old_is_refused_as_stale() {
    let mut lab = Lab::new();
    let (away, here) = (lab.worker("away", 1), lab.worker("here", 2));
    let old = lab.task(away).expect("a task");
    lab.tell(Fact::Left { session: away, reason: String::new() });
    for _ in 0..3 {
        let task = lab.task(here).expect("a task");
        lab.deliver(here, &task);
        lab.merge();
    }
    let away = lab.worker("away", 1);
    lab.says(away, ClientMsg::Update(Lab::update(&old)));
    assert_eq!(verdict(&lab.heard(away), old.lease), Some(Err(proto::UnpaidCode::Stale)));
}

/// A worker in the middle of a task from the first version, and another one by which the operator has had versions made,
/// by asking for them, up to the last that the task survives, with an update of a further one in.
fn asked_for_versions() -> (Lab, [SessionId; 2], Task) {
    let mut lab = Lab::new();
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    let task = lab.task(slow).expect("a task");
    for version in 1..=limits::STALENESS + 1 {
        let task = lab.task(fast).expect("a task");
        lab.deliver(fast, &task);
        lab.tell(Fact::Operator(Operator::CloseRound));
        if version <= limits::STALENESS {
            lab.merge();
        }
    }
    assert_eq!(lab.hub.status().version, VersionNo(limits::STALENESS));
    (lab, [slow, fast], task)
}

#[test]
fn no_task_in_hand_gets_too_old_because_the_operator_asks_for_versions() {
    let (mut lab, [slow, fast], task) = asked_for_versions();
    assert!(lab.merge_ordered().is_none(), "another version would make it too old");
    let round = lab.hub.view(lab.now).round;
    assert!(round.asked && round.closes.is_some(), "and the operator is told until when: {round:?}");
    lab.tell(Fact::Operator(Operator::CloseRound));
    assert!(lab.merge_ordered().is_none(), "however often it is asked for");
    let more = lab.task(fast).expect("a task");
    lab.upload(slow, Lab::update(&task));
    assert!(lab.merge_ordered().is_none(), "its update is being checked");
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(verdict(&lab.heard(slow), task.lease), Some(Ok(Credits::hyd(1))));
    let (version, inputs, _) = lab.merge_ordered().expect("what was asked for");
    assert_eq!((version, inputs.len()), (VersionNo(limits::STALENESS + 1), 2), "at once, without the others");
    lab.merge();
    // It was asked for one version.
    lab.deliver(fast, &more);
    assert!(lab.merge_ordered().is_none(), "the other one is waited for again");
}

/// The worker delivers once more.
fn next(lab: &mut Lab, worker: SessionId) {
    // It may wait for a version.
    lab.wait(Duration::from_secs(2));
    let task = lab.task(worker).expect("a task");
    lab.deliver(worker, &task);
}

/// A slow worker and a fast one: the next version would make the slow one's task too old.
fn nearly_too_old() -> (Lab, [SessionId; 2], Task) {
    let mut lab = Lab::new();
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    let task = lab.task(slow).expect("a task");
    while lab.hub.status().version.0 < limits::STALENESS {
        next(&mut lab, fast);
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    (lab, [slow, fast], task)
}

#[test]
fn an_update_whose_check_takes_long_is_not_made_too_old_meanwhile() {
    let (mut lab, [slow, fast], task) = nearly_too_old();
    lab.upload(slow, Lab::update(&task));
    (0..2).for_each(|_| next(&mut lab, fast));
    lab.wait(Duration::from_mins(1));
    assert!(lab.merge_ordered().is_none(), "the disk may have no room for it yet");
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(verdict(&lab.heard(slow), task.lease), Some(Ok(Credits::hyd(1))));
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.contains(&task.lease)));
}

#[test]
fn workers_that_a_version_sets_free_run_the_rate_down_alike() {
    let schedule = Schedule { horizon: Some(10_000), warmup_tokens: 0, ..rules().schedule };
    let mut lab = Lab::with(Rules { schedule, ..rules() }, recovered());
    let sessions: Vec<_> = (0..4).map(|n| lab.worker(&format!("user{n}"), n)).collect();
    let mut tasks: Vec<_> = sessions.iter().map(|session| lab.task(*session).expect("a task")).collect();
    for round in 0..6 {
        lab.wait(Duration::from_secs(10));
        for (session, task) in sessions.iter().zip(&tasks) {
            lab.deliver(*session, task);
        }
        lab.merge();
        let done = lab.hub.status().tokens;
        tasks = sessions.iter().map(|session| lab.task(*session).expect("a task")).collect();
        let ends: Vec<_> = tasks.iter().map(|task| (task.version, task.lr_start, task.lr_end)).collect();
        let rate = |tokens| schedule.rate(tokens);
        let all = (VersionNo(round + 1), rate(done), rate(done + 4 * rules().task_tokens()));
        // Once it is known how long their tasks take, all wait for the version.
        assert!(round < 2 || ends == [all; 4], "round {round}: {ends:?} in place of {all:?}");
    }
}

#[test]
fn who_does_not_come_does_not_keep_the_operator_waiting() {
    let (mut lab, [slow, _], _) = asked_for_versions();
    lab.tell(Fact::Left { session: slow, reason: String::new() });
    assert!(lab.merge_ordered().is_some(), "a worker that is gone is not waited for");
    let (mut lab, ..) = asked_for_versions();
    lab.wait(rules().round_deadline);
    assert!(lab.merge_ordered().is_some(), "nor is one that is silent, for ever");
}

#[test]
fn a_version_is_sent_once_its_row_is_durable() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    lab.durable = false;
    lab.merge();
    lab.orders.clear();
    assert!(lab.orders.is_empty(), "{:?}", lab.orders);
    assert_eq!(lab.hub.status().version, VersionNo(0));
    lab.sync();
    assert!(matches!(lab.orders[0], Order::Publish { version: VersionNo(1), .. }));
    assert!(matches!(lab.orders[1], Order::SendVersion { version: VersionNo(1), .. }));
}

#[test]
fn a_worker_that_cannot_keep_up_is_not_buried_in_versions() {
    let mut lab = Lab::new();
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    lab.task(slow).expect("a task");
    for _ in 0..20 {
        let task = lab.task(fast).expect("a task");
        lab.deliver(fast, &task);
        if lab.merge_ordered().is_none() {
            lab.wait(Duration::from_secs(130));
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
        lab.wait(Duration::from_secs(1));
        lab.heard(slow);
    }
    assert!(lab.hub.status().version.0 >= 15);
    let to_slow = |order: &&Order| matches!(order, Order::SendVersion { session, .. } if *session == slow);
    let leases = lab.pushed.iter().filter(|(to, _)| *to == slow).count();
    let sent = lab.orders.iter().filter(to_slow).count();
    assert!(sent <= 4 + leases, "{sent} versions for {leases} further leases");
}

#[test]
fn a_round_that_a_kill_interrupted_waits_for_its_workers() {
    let accepted = rows::Accepted {
        lease: LeaseId(1),
        blob: Digest::of(b"update"),
        bytes: 8,
        norm: NORM,
        loss_first: 3.0,
        loss_last: 2.0,
        train_ms: 1,
        at_ms: 0,
        paid: Credits::hyd(1),
    };
    let recovered = Recovered {
        boot: 2,
        users: ["alice", "bob"].map(|name| (name.parse().expect("a name"), public_key(&key_of(name)))).to_vec(),
        unmerged: vec![(lease_row(1, "alice", 1), accepted)],
        open: vec![lease_row(2, "bob", 2)],
        ..recovered()
    };
    let mut alone = Lab::with(rules(), recovered.clone());
    let mut together = Lab::with(rules(), recovered.clone());
    let mut lab = Lab::with(rules(), recovered);
    assert!(lab.merge_ordered().is_none(), "bob may come back");
    let hello = Hello { lease: Some(LeaseId(2)), ..Lab::hello("bob", Some(2)) };
    let bob = lab.enter("bob", hello);
    let update = Update {
        lease: LeaseId(2),
        version: VersionNo(0),
        codec: Codec::Int4,
        blob: Digest::of(b"bob's"),
        bytes: Codec::Int4.max_len(rules().shape.params()) as u64,
        steps: 2,
        tokens: 16,
        loss_first: 3.0,
        loss_last: 2.0,
        train_ms: 1,
        more: false,
    };
    lab.upload(bob, update);
    lab.tell(Fact::Checked { lease: LeaseId(2), verdict: Ok(Findings::of_norm(NORM)) });
    assert!(lab.merge_ordered().is_none(), "others may come back");
    assert!(lab.hub.view(lab.now).round.returning);
    lab.wait(Duration::from_secs(4));
    assert!(!lab.hub.view(lab.now).round.returning);
    let (_, inputs, _) = lab.merge_ordered().expect("both are in");
    assert_eq!(inputs, [LeaseId(1), LeaseId(2)]);
    // Both come back: there is nobody to wait for.
    together.enter("bob", Hello { lease: Some(LeaseId(2)), ..Lab::hello("bob", Some(2)) });
    assert!(together.hub.view(together.now).round.returning);
    together.worker("alice", 1);
    assert!(!together.hub.view(together.now).round.returning);
    // Nobody comes back: it goes on all the same.
    alone.wait(Duration::from_secs(4));
    assert_eq!(alone.merge_ordered().expect("one is in").1, [LeaseId(1)]);
}

#[test]
fn silence_does_not_hold_the_run_up_again_and_again() {
    let mut lab = Lab::new();
    let (fast, silent) = (lab.worker("fast", 1), lab.worker("silent", 2));
    let mut hand = lab.task(fast);
    let (mut last, mut longest) = (lab.now, Duration::ZERO);
    for _ in 0..90 {
        lab.wait(Duration::from_secs(10));
        if let Some(task) = hand.take().or_else(|| lab.task(fast)) {
            lab.deliver(fast, &task);
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
            longest = longest.max(lab.now.since(last));
            last = lab.now;
        }
        hand = lab.task(fast);
    }
    assert!(longest < Duration::from_secs(75), "{longest:?} without a version");
    assert!(lab.pushed.iter().filter(|(to, _)| *to == silent).count() >= 3, "it goes on taking leases");
    let versions = lab.hub.status().version.0;
    assert!(versions > 50, "{versions} versions of 90");
}

#[test]
fn nor_does_silence_that_ends_with_updates_too_old() {
    // As the presets have it, a first lease is longer than a round's deadline.
    let mut lab = Lab::with(Rules { lease_first: Duration::from_mins(5), ..rules() }, recovered());
    let (fast, silent) = (lab.worker("fast", 1), lab.worker("silent", 2));
    let mut lease = lab.task(silent).expect("a task");
    let (mut last, mut longest, mut too_old) = (lab.now, Duration::ZERO, 0);
    for _ in 0..90 {
        lab.wait(Duration::from_secs(10));
        if let Some(task) = lab.task(fast) {
            lab.deliver(fast, &task);
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
            // It is waited for once.
            if too_old > 0 {
                longest = longest.max(lab.now.since(last));
            }
            last = lab.now;
        }
        if lab.hub.status().version.0 > lease.version.0 + limits::STALENESS {
            lab.says(silent, ClientMsg::Update(Lab::update(&lease)));
            too_old += u32::from(verdict(&lab.heard(silent), lease.lease) == Some(Err(UnpaidCode::Stale)));
        }
        lease = lab.task(silent).unwrap_or(lease);
    }
    assert!(too_old > 10, "{too_old}");
    assert!(longest <= Duration::from_secs(20), "{longest:?} without a version");
}

#[test]
fn a_slow_worker_that_failed_once_is_not_too_late_for_ever() {
    let (mut lab, sessions) = known(&[10, 30]);
    let (fast, slow) = (sessions[0], sessions[1]);
    let task = lab.task(slow).expect("a task");
    lab.says(slow, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    lab.heard(slow);
    let (mut hand, mut paid) = (None, 0);
    let mut due = None;
    for second in 0..200 {
        lab.wait(Duration::from_secs(1));
        if second % 10 == 0
            && let Some(task) = lab.task(fast)
        {
            lab.deliver(fast, &task);
        }
        if hand.is_none() {
            hand = lab.task(slow);
            due = Some(second + 30);
        }
        if due == Some(second)
            && let Some(task) = hand.take()
        {
            lab.upload(slow, Lab::update(&task));
            lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
            paid += u32::from(matches!(verdict(&lab.heard(slow), task.lease), Some(Ok(_))));
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    assert!(paid >= 3, "paid {paid} times");
}

#[test]
fn a_worker_that_was_right_again_is_waited_for_while_it_trains_its_next_task() {
    let (mut lab, sessions) = known(&[10, 10]);
    let (good, other) = (sessions[0], sessions[1]);
    let (mine, theirs) = (lab.task(good).expect("a task"), lab.task(other).expect("a task"));
    lab.wait(Duration::from_secs(1));
    lab.upload(other, Lab::update(&theirs));
    lab.tell(Fact::Checked { lease: theirs.lease, verdict: Err((UnpaidCode::NotFinite, String::new())) });
    lab.wait(Duration::from_secs(2));
    // It has its next task before the update that is right is looked at.
    let right = lab.task(other).expect("it may try again");
    lab.upload(other, Lab::update(&right));
    lab.wait(Duration::from_secs(5));
    let in_hand = lab.task(other).expect("the next task");
    let doubt = |lab: &Lab| lab.hub.leases.get(in_hand.lease).expect("it trains").doubt;
    assert_ne!(doubt(&lab), crate::hub::leases::Doubt::None);
    lab.tell(Fact::Checked { lease: right.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert_eq!(doubt(&lab), crate::hub::leases::Doubt::None);
    lab.deliver(good, &mine);
    assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.len() == 2));
}

#[test]
fn an_update_on_a_slow_link_is_not_made_too_old_on_its_way() {
    // Also that of one who takes no further task.
    for more in [true, false] {
        let (mut lab, [slow, fast], task) = nearly_too_old();
        let update = Update { more, ..Lab::update(&task) };
        let link = update.bytes as f64 / 15.0;
        lab.hub.sessions.get_mut(&slow).and_then(|session| session.seat_mut()).expect("a worker").record.link =
            Some(link);
        lab.says(slow, ClientMsg::Update(update.clone()));
        (0..2).for_each(|_| next(&mut lab, fast));
        lab.wait(Duration::from_secs(15));
        assert!(lab.merge_ordered().is_none(), "its bytes take so long");
        lab.tell(Fact::Received { session: slow, blob: update.blob, intact: true });
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        assert_eq!(verdict(&lab.heard(slow), task.lease), Some(Ok(Credits::hyd(1))));
    }
}

#[test]
fn a_lease_that_was_taken_up_again_is_expected() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    assert_eq!(lab.hub.leases.expected().collect::<Vec<_>>(), [crate::hub::leases::NEVER]);
    lab.wait(Duration::from_secs(5));
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.enter("alice", Hello { lease: Some(task.lease), ..Lab::hello("alice", Some(1)) });
    assert_eq!(lab.hub.leases.expected().collect::<Vec<_>>(), [lab.now.after(rules().lease_first)]);
}

#[test]
fn a_known_worker_that_took_its_task_up_again_is_expected_after_one_at_most() {
    let (mut lab, sessions) = known(&[10, 10]);
    let task = lab.task(sessions[0]).expect("a task");
    // Its old session still stands: it comes back before that was found dead.
    lab.enter("user0", Hello { lease: Some(task.lease), ..Lab::hello("user0", Some(0)) });
    let held = lab.hub.leases.get(task.lease).expect("it goes on");
    let crate::hub::leases::State::Running { session: Some(_), expected: Some(at), .. } = held.state else {
        panic!("{held:?}");
    };
    let seconds = at.since(lab.now).as_secs_f64();
    assert!((9.0..=11.0).contains(&seconds), "{seconds}");
}

#[test]
fn no_round_closes_over_a_worker_that_connects_again() {
    let (mut lab, [slow, fast], task) = nearly_too_old();
    let seat = |lab: &mut Lab| {
        lab.hub.sessions.get_mut(&slow).and_then(|session| session.seat_mut()).map(|seat| seat.record.speed = Some(0.2))
    };
    seat(&mut lab).expect("a worker");
    (0..2).for_each(|_| next(&mut lab, fast));
    assert!(lab.merge_ordered().is_none(), "the slow one is waited for");
    let back = lab.enter("slow", Hello { lease: Some(task.lease), ..Lab::hello("slow", Some(1)) });
    assert!(lab.merge_ordered().is_none(), "it is waited for still");
    lab.deliver(back, &task);
    assert_eq!(verdict(&lab.heard(back), task.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn whose_update_is_too_old_already_is_none_of_those_at_work() {
    let mut lab = Lab::new();
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    let long = lab.task(slow).expect("a task");
    // Later than any round ends.
    lab.says(slow, ClientMsg::Progress(Progress { lease: long.lease, step: 1, loss: 3.0, tokens_per_s: 0.02 }));
    while lab.hub.status().version.0 <= limits::STALENESS {
        next(&mut lab, fast);
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    for _ in 0..3 {
        next(&mut lab, fast);
        assert!(lab.merge_ordered().is_some_and(|(_, inputs, _)| inputs.len() == 1), "each update is a round again");
        lab.merge();
    }
}

#[test]
fn who_returns_with_a_task_that_became_too_old_does_not_go_on_with_it() {
    let mut lab = Lab::new();
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    let old = lab.task(slow).expect("a task");
    lab.tell(Fact::Left { session: slow, reason: String::new() });
    while lab.hub.status().version.0 <= limits::STALENESS {
        next(&mut lab, fast);
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    let back = lab.enter("slow", Hello { lease: Some(old.lease), ..Lab::hello("slow", Some(1)) });
    let heard = lab.heard(back);
    let stale =
        |m: &ServerMsg| matches!(m, ServerMsg::Revoked(u) if (u.lease, u.code) == (old.lease, UnpaidCode::Stale));
    assert!(heard.iter().any(stale), "{heard:?}");
}

#[test]
fn a_large_fleet_makes_one_version_of_its_updates_though_they_fill_the_memory() {
    // 34 MB an update.
    let mut lab = Lab::with(Rules { shape: Shape::new(65_535, 1024, 1, 1, 8), ..rules() }, recovered());
    let sessions: Vec<_> = (1..=60).map(|n| lab.worker(&format!("user{n}"), n)).collect();
    let tasks: Vec<_> = sessions.iter().map(|session| lab.task(*session).expect("a task")).collect();
    let params = lab.hub.rules.shape.params();
    let enough = lab.hub.needed(60);
    for (count, (session, task)) in sessions.into_iter().zip(tasks).enumerate().take(enough) {
        assert!(lab.merge_ordered().is_none(), "a version of {count} would make others too old");
        lab.upload(session, Update { bytes: task.codec.max_len(params) as u64, ..Lab::update(&task) });
        let norm = 0.5 * (params as f64).sqrt() * 1e-3;
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(norm)) });
    }
}

#[test]
fn a_round_ends_before_its_updates_fill_the_memory() {
    // 34 MB an update.
    let mut lab = Lab::with(Rules { shape: Shape::new(65_535, 1024, 1, 1, 8), ..rules() }, recovered());
    let (slow, fast) = (lab.worker("slow", 1), lab.worker("fast", 2));
    lab.task(slow).expect("a task");
    let params = lab.hub.rules.shape.params();
    let (mut made, mut most) = (0, 0);
    for _ in 0..100 {
        lab.wait(Duration::from_millis(10));
        let Some(task) = lab.task(fast) else { continue };
        made += 1;
        lab.upload(fast, Update { bytes: task.codec.max_len(params) as u64, ..Lab::update(&task) });
        let norm = 0.5 * (params as f64).sqrt() * 1e-3;
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(norm)) });
        if let Some((_, inputs, _)) = lab.merge_ordered() {
            most = most.max(inputs.len());
            lab.merge();
        }
    }
    assert!(made > 60 && (20..=32).contains(&most), "{made} updates, {most} in a round");
}

/// Seconds that a worker may still wait.
fn patience(lab: &Lab, session: SessionId) -> f64 {
    let seat = lab.hub.sessions[&session].seat().expect("a worker");
    seat.record.patience.expect("it has delivered")
}

#[test]
fn waiting_costs_patience_and_waiting_in_vain_costs_more() {
    let (mut lab, sessions) = known(&[10, 10]);
    let (a, b) = (sessions[0], sessions[1]);
    let (of_a, of_b) = (lab.task(a).expect("a task"), lab.task(b).expect("a task"));
    lab.wait(Duration::from_secs(8));
    lab.deliver(a, &of_a);
    let before = patience(&lab, a);
    lab.wait(Duration::from_secs(2));
    lab.deliver(b, &of_b);
    // The merge takes a while, which nobody is to blame for.
    lab.wait(Duration::from_secs(2));
    lab.merge();
    let of_a = lab.task(a).expect("the next task");
    assert!((before - patience(&lab, a) - 2.0).abs() < 0.01, "from {before} to {}", patience(&lab, a));

    // The other one does not come, and then there is no task for an hour.
    lab.wait(Duration::from_secs(9));
    lab.deliver(a, &of_a);
    let before = patience(&lab, a);
    assert!(lab.task(a).is_none(), "it waits, with {before} s of patience");
    lab.tell(Fact::Operator(Operator::Pause));
    lab.wait(Duration::from_hours(1));
    lab.tell(Fact::Operator(Operator::Resume));
    assert!(lab.task(a).is_some());
    let paid = before - patience(&lab, a);
    assert!((4.0..40.0).contains(&paid), "{paid} s for some seconds in vain");
}

/// What a worker has saved up after a task of 10 s, beside one whose tasks take four times as long.
fn saved_up(before: f64) -> f64 {
    let (mut lab, sessions) = known(&[10, 40]);
    let fast = sessions[0];
    let task = lab.task(fast).expect("a task");
    lab.hub.sessions.get_mut(&fast).and_then(|s| s.seat_mut()).expect("a worker").record.patience = Some(before);
    lab.wait(Duration::from_secs(10));
    lab.deliver(fast, &task);
    patience(&lab, fast)
}

#[test]
fn what_a_worker_saves_up_is_a_share_of_its_own_time() {
    let saved = saved_up(0.0);
    assert!((0.55..0.65).contains(&saved), "{saved} s of 10");
    let most = saved_up(9.0);
    assert!((4.5..5.5).contains(&most), "{most} s, not half of a task of 10");
}

#[test]
fn who_takes_no_tasks_for_a_while_loses_no_patience() {
    let (mut lab, sessions) = known(&[10, 10]);
    let task = lab.task(sessions[0]).expect("a task");
    lab.wait(Duration::from_secs(9));
    lab.upload(sessions[0], Update { more: false, ..Lab::update(&task) });
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    let before = patience(&lab, sessions[0]);
    lab.wait(Duration::from_hours(1));
    lab.says(sessions[0], ClientMsg::Ready(proto::Ready::new(true)));
    assert!(lab.task(sessions[0]).is_some());
    assert!((patience(&lab, sessions[0]) - before).abs() < 1e-9);
}

#[test]
fn nobody_waits_for_a_worker_whose_last_update_was_worth_nothing() {
    // Neither while it trains again, nor while its next update is looked at.
    for looked_at in [false, true] {
        let (mut lab, sessions) = known(&[10, 10]);
        let (good, bad) = (sessions[0], sessions[1]);
        let (mine, theirs) = (lab.task(good).expect("a task"), lab.task(bad).expect("a task"));
        lab.wait(Duration::from_secs(1));
        lab.upload(bad, Lab::update(&theirs));
        let verdict = Err((UnpaidCode::NotFinite, "numbers that are none".to_owned()));
        lab.tell(Fact::Checked { lease: theirs.lease, verdict });
        lab.wait(Duration::from_secs(8));
        let again = lab.task(bad).expect("it may try again");
        lab.wait(Duration::from_secs(1));
        if looked_at {
            lab.upload(bad, Lab::update(&again));
        }
        lab.deliver(good, &mine);
        let view = lab.hub.view(lab.now).round;
        assert_eq!(view.judging, usize::from(looked_at));
        assert!(lab.merge_ordered().is_some(), "the round is the good one's: {view:?}");
        lab.merge();
        assert!(lab.task(good).is_some());
    }
}
