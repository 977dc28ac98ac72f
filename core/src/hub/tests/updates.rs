//! What is paid, what is not and why, and that nothing is paid twice.

use super::*;
use crate::limits;
use crate::proto::{Progress, Release, UnpaidCode};

/// A worker with a task in hand.
fn at_work() -> (Lab, SessionId, Task) {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a free worker gets a task");
    lab.heard(session);
    (lab, session, task)
}

#[track_caller]
fn unpaid(lab: &mut Lab, session: SessionId, lease: LeaseId, code: UnpaidCode) {
    let heard = lab.heard(session);
    assert_eq!(verdict(&heard, lease), Some(Err(code)), "{heard:?}");
    assert_eq!(rewards(&lab.rows), 0);
}

#[test]
fn who_comes_back_with_an_update_does_not_get_its_task_again() {
    let (mut lab, session, task) = at_work();
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.wait(Duration::from_secs(1));
    let session = lab.worker("alice", 1);
    let next = lab.task(session).expect("a task");
    assert_ne!(next.task, task.task);
    lab.deliver(session, &task);
    lab.wait(Duration::from_secs(20));
    let others: Vec<_> = (0..6).map(|n| lab.worker("bob", 2 + n)).collect();
    let tasks: Vec<_> = others.iter().map(|other| lab.task(*other).expect("a task").task).collect();
    assert!(!tasks.contains(&task.task), "it is done: {tasks:?}");
}

#[test]
fn an_accepted_task_is_credited_once_it_is_durable() {
    let (mut lab, session, task) = at_work();
    lab.durable = false;
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), None, "not durable yet");
    lab.sync();
    let heard = lab.heard(session);
    let told = heard.iter().find_map(|m| if let ServerMsg::Credited(c) = m { Some(c) } else { None });
    assert_eq!(told.map(|c| (c.amount, c.balance)), Some((Credits::hyd(1), Credits::hyd(1))));
}

#[test]
fn balances_are_told_from_durable_rows_alone() {
    let (mut lab, session, task) = at_work();
    let chat = lab.chat("alice");
    lab.durable = false;
    lab.deliver(session, &task);
    lab.heard(chat);
    lab.says(chat, ClientMsg::Balance(proto::Empty {}));
    assert!(matches!(lab.heard(chat)[..], [ServerMsg::Balance(b)] if b.balance == Credits::ZERO));
    lab.sync();
    lab.says(chat, ClientMsg::Balance(proto::Empty {}));
    assert!(matches!(lab.heard(chat)[..], [ServerMsg::Balance(b)] if b.balance == Credits::hyd(1)));
}

#[test]
fn a_resent_update_is_credited_again_without_a_second_transfer() {
    let (mut lab, session, task) = at_work();
    lab.deliver(session, &task);
    lab.heard(session);
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    lab.tell(Fact::Left { session, reason: String::new() });
    let session = lab.worker("alice", 1);
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    assert_eq!(rewards(&lab.rows), 1);
}

#[test]
fn who_slept_through_its_payment_is_told_many_versions_later() {
    let (mut lab, session, task) = at_work();
    lab.deliver(session, &task);
    lab.merge();
    for _ in 0..50 {
        let next = lab.task(session).expect("a task");
        lab.deliver(session, &next);
        lab.merge();
    }
    lab.heard(session);
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
    assert_eq!(rewards(&lab.rows), 51);
}

#[test]
fn the_answer_finds_a_worker_that_came_back_while_it_was_checked_or_paid() {
    for leave_before_check in [true, false] {
        let (mut lab, session, task) = at_work();
        lab.durable = false;
        lab.upload(session, Lab::update(&task));
        if !leave_before_check {
            lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        }
        lab.tell(Fact::Left { session, reason: String::new() });
        let again = lab.worker("alice", 1);
        lab.sync();
        lab.says(again, ClientMsg::Update(Lab::update(&task)));
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        lab.sync();
        assert_eq!(verdict(&lab.heard(again), task.lease), Some(Ok(Credits::hyd(1))));
        assert_eq!(rewards(&lab.rows), 1);
    }
}

#[test]
fn a_check_that_fails_without_a_session_ends_the_lease() {
    let (mut lab, session, task) = at_work();
    lab.upload(session, Lab::update(&task));
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.tell(Fact::Checked { lease: task.lease, verdict: Err((UnpaidCode::NotFinite, String::new())) });
    assert!(lab.rows.iter().any(|row| matches!(row, Row::Ended { lease, .. } if *lease == task.lease)));
    let again = lab.worker("alice", 1);
    lab.says(again, ClientMsg::Update(Lab::update(&task)));
    unpaid(&mut lab, again, task.lease, UnpaidCode::NotFinite);
}

#[test]
fn every_lie_of_an_announcement_has_its_code() {
    type Lie = fn(&mut Update);
    let lies: [(UnpaidCode, Lie); 7] = [
        (UnpaidCode::UnknownLease, |u| u.lease = LeaseId(5)),
        (UnpaidCode::WrongVersion, |u| u.version = VersionNo(1)),
        (UnpaidCode::WrongCodec, |u| u.codec = Codec::F32),
        (UnpaidCode::WrongSize, |u| u.bytes += 1),
        (UnpaidCode::WrongWork, |u| u.steps += 1),
        (UnpaidCode::WrongWork, |u| u.tokens -= 1),
        (UnpaidCode::NotFinite, |u| u.loss_last = f32::NAN),
    ];
    for (code, lie) in lies {
        let (mut lab, session, task) = at_work();
        let mut update = Lab::update(&task);
        lie(&mut update);
        let lease = update.lease;
        lab.says(session, ClientMsg::Update(update));
        unpaid(&mut lab, session, lease, code);
    }
}

#[test]
fn somebody_elses_lease_pays_nobody_and_stays_theirs() {
    let (mut lab, alice, task) = at_work();
    let bob = lab.worker("bob", 2);
    let twin = lab.worker("alice", 3);
    for thief in [bob, twin] {
        lab.heard(thief);
        lab.says(thief, ClientMsg::Update(Lab::update(&task)));
        unpaid(&mut lab, thief, task.lease, UnpaidCode::NotYourLease);
        lab.says(thief, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    }
    lab.deliver(alice, &task);
    assert_eq!(verdict(&lab.heard(alice), task.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn bytes_are_looked_at_too() {
    for (found, code) in [
        (Err((UnpaidCode::NotFinite, String::new())), UnpaidCode::NotFinite),
        (Ok(Findings::of_norm(f64::NAN)), UnpaidCode::NotFinite),
        (Ok(Findings::of_norm(0.0)), UnpaidCode::Norm),
    ] {
        let (mut lab, session, task) = at_work();
        lab.upload(session, Lab::update(&task));
        lab.tell(Fact::Checked { lease: task.lease, verdict: found });
        unpaid(&mut lab, session, task.lease, code);
    }
    let (mut lab, session, task) = at_work();
    let update = Lab::update(&task);
    let blob = update.blob;
    lab.says(session, ClientMsg::Update(update));
    lab.tell(Fact::Received { session, blob, intact: false });
    unpaid(&mut lab, session, task.lease, UnpaidCode::Corrupt);
}

#[test]
fn findings_decide_and_what_is_refused_is_forgotten() {
    let (mut lab, session, task) = at_work();
    lab.upload(session, Lab::update(&task));
    let loses = Sample { count: 8, mean: -0.1, deviation: 0.01 };
    let gain = Some(Gain { halves: [loses; 2], held_out: loses });
    let findings = Findings { gain, ..Findings::of_norm(NORM) };
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(findings) });
    unpaid(&mut lab, session, task.lease, UnpaidCode::Useless);
    let forgets = |order: &Order| matches!(order, Order::Forget { lease, .. } if *lease == task.lease);
    assert!(lab.orders.iter().any(forgets));
}

#[test]
fn a_norm_that_training_cannot_give_is_refused() {
    // √1,192 parameters × 1e-3 × 2 steps are about 0.07.
    for (norm, paid) in [(0.05, true), (0.15, true), (0.3, false), (1e-5, true), (1e-6, false)] {
        let (mut lab, session, task) = at_work();
        lab.upload(session, Lab::update(&task));
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(norm)) });
        let expected = if paid { Ok(Credits::hyd(1)) } else { Err(UnpaidCode::Norm) };
        assert_eq!(verdict(&lab.heard(session), task.lease), Some(expected), "a norm of {norm}");
    }
}

#[test]
fn updates_of_few_steps_may_be_like_the_worker_s_own() {
    use crate::hub::findings::{Source, Twin};
    // Two steps a task, and then four.
    for (steps, whose, cosine, paid) in [
        (2, "own", 0.97, true),
        (2, "own", 0.999, false),
        (2, "step", 0.97, true),
        (2, "other", 0.97, false),
        (4, "own", 0.97, false),
        (4, "step", 0.97, false),
    ] {
        let mut lab = Lab::with(Rules { steps, ..rules() }, recovered());
        let (alice, bob) = (lab.worker("alice", 1), lab.worker("bob", 2));
        let (first, other) = (lab.task(alice).expect("a task"), lab.task(bob).expect("a task"));
        lab.deliver(bob, &other);
        lab.deliver(alice, &first);
        lab.merge();
        let task = lab.task(alice).expect("a task");
        let of = match whose {
            "own" => Source::Update(first.lease),
            "other" => Source::Update(other.lease),
            _ => Source::Step(VersionNo(1)),
        };
        lab.upload(alice, Lab::update(&task));
        let findings = Findings { twin: Some(Twin { of, cosine }), ..Findings::of_norm(NORM) };
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(findings) });
        let expected = if paid { Ok(Credits::hyd(1)) } else { Err(UnpaidCode::Copied) };
        assert_eq!(verdict(&lab.heard(alice), task.lease), Some(expected), "{steps} {whose} {cosine}");
    }
}

#[test]
fn a_copy_is_refused_whenever_it_comes() {
    // Announced after the first was paid, and announced before the first had come.
    for early in [false, true] {
        let mut lab = Lab::new();
        let (alice, bob) = (lab.worker("alice", 1), lab.worker("bob", 2));
        let (first, second) = (lab.task(alice).expect("a task"), lab.task(bob).expect("a task"));
        let blob = Lab::update(&first).blob;
        let copy = Update { blob, ..Lab::update(&second) };
        if early {
            lab.says(bob, ClientMsg::Update(copy));
            lab.deliver(alice, &first);
            lab.tell(Fact::Received { session: bob, blob, intact: true });
        } else {
            lab.deliver(alice, &first);
            lab.upload(bob, copy);
        }
        assert_eq!(verdict(&lab.heard(bob), second.lease), Some(Err(UnpaidCode::Copied)));
        assert_eq!((lab.balance("alice"), lab.balance("bob")), (Credits::hyd(1), Credits::ZERO));
    }
}

#[test]
fn a_lease_ends_and_says_so() {
    let (mut lab, session, task) = at_work();
    lab.wait(Duration::from_mins(1));
    let heard = lab.heard(session);
    let revoked = |m: &ServerMsg| matches!(m, ServerMsg::Revoked(r) if r.code == UnpaidCode::Expired);
    assert!(heard.iter().any(revoked), "{heard:?}");
    lab.wait(Duration::from_millis(50));
    let next = lab.task(session).expect("it is free again");
    let other = lab.worker("bob", 2);
    assert_eq!(lab.task(other).expect("a task").task, task.task, "the task goes to somebody else");
    assert_ne!(next.task, task.task);
    assert!(next.deadline_ms > task.deadline_ms, "who is late gets more time");
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    unpaid(&mut lab, session, task.lease, UnpaidCode::Expired);
}

#[test]
fn progress_extends_a_lease_but_words_alone_do_not() {
    let (mut lab, session, task) = at_work();
    let progress = |step| ClientMsg::Progress(Progress { lease: task.lease, step, loss: 3.0, tokens_per_s: 0.1 });
    lab.wait(Duration::from_secs(50));
    lab.says(session, progress(1));
    lab.wait(Duration::from_secs(110));
    assert_eq!(lab.heard(session), [], "8 of 16 tokens at 0.1 a second: two more minutes");
    lab.says(session, progress(1));
    lab.wait(Duration::from_secs(20));
    assert!(matches!(lab.heard(session)[0], ServerMsg::Revoked(_)), "no further step");
}

#[test]
fn bytes_that_never_come_end_the_lease() {
    let (mut lab, session, task) = at_work();
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    lab.wait(Duration::from_mins(3));
    unpaid(&mut lab, session, task.lease, UnpaidCode::Expired);
}

#[test]
fn bytes_that_a_chat_announces_are_not_kept() {
    let (mut lab, _, task) = at_work();
    let chat = lab.chat("mallory");
    let update = Lab::update(&task);
    lab.says(chat, ClientMsg::Update(update.clone()));
    let discards =
        |order: &Order| matches!(order, Order::Discard { session, blob } if (*session, *blob) == (chat, update.blob));
    assert!(lab.orders.iter().any(discards), "{:?}", lab.orders);
}

#[test]
fn a_repeated_announcement_does_not_stop_the_bytes_of_the_first() {
    let (mut lab, session, task) = at_work();
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    lab.orders.clear();
    lab.deliver(session, &task);
    assert!(!lab.orders.iter().any(|order| matches!(order, Order::Discard { .. })));
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn a_worker_that_leaves_has_its_task_done_by_another_at_once_and_may_still_deliver() {
    let mut lab = Lab::with(Rules { queue: 0, ..rules() }, recovered());
    let alice = lab.worker("alice", 1);
    let task = lab.task(alice).expect("a task");
    lab.tell(Fact::Left { session: alice, reason: String::new() });
    let bob = lab.worker("bob", 2);
    let again = lab.task(bob).expect("a task");
    assert_eq!(again.task, task.task);
    assert_ne!((again.lease, again.seed), (task.lease, task.seed), "with windows of its own");
    let alice = lab.worker("alice", 1);
    lab.deliver(alice, &task);
    lab.deliver(bob, &again);
    assert_eq!((lab.balance("alice"), lab.balance("bob")), (Credits::hyd(1), Credits::hyd(1)));
}

#[test]
fn a_refused_update_that_is_sent_again_is_answered_and_not_punished_again() {
    let (mut lab, session, task) = at_work();
    lab.upload(session, Lab::update(&task));
    let useless = Err((UnpaidCode::Useless, String::new()));
    lab.tell(Fact::Checked { lease: task.lease, verdict: useless });
    unpaid(&mut lab, session, task.lease, UnpaidCode::Useless);
    lab.tell(Fact::Left { session, reason: String::new() });
    let session = lab.worker("alice", 1);
    lab.says(session, ClientMsg::Update(Lab::update(&task)));
    unpaid(&mut lab, session, task.lease, UnpaidCode::Useless);
    let record = lab.hub.sessions[&session].seat().expect("a worker").record;
    assert_eq!((record.strikes, record.counts.refused), (1, 1));
    let told = lab.orders.iter().filter(|order| matches!(order, Order::Note(Event::Rejected { .. })));
    assert_eq!(told.count(), 1);
}

#[test]
fn worthless_work_and_releases_slow_a_worker_down() {
    let (mut lab, session, mut task) = at_work();
    let mut given = 0;
    for _ in 0..100 {
        lab.says(session, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
        lab.wait(Duration::from_millis(300));
        if let Some(next) = lab.task(session) {
            given += 1;
            task = next;
        }
    }
    assert!((1..15).contains(&given), "{given} leases in half a minute");
    lab.wait(Duration::from_mins(2));
    assert!(lab.task(session).is_some(), "but not for ever");
}

#[test]
fn a_false_training_time_does_not_stretch_what_others_wait() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    for _ in 0..3 {
        let task = lab.task(session).expect("a task");
        lab.wait(Duration::from_secs(1));
        lab.upload(session, Update { train_ms: u64::MAX, ..Lab::update(&task) });
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
        lab.merge();
    }
    let task = lab.task(session).expect("a task");
    assert_eq!(task.deadline_ms, 10_000, "the shortest lease: it is known to take a second");
}

#[test]
fn a_training_time_is_at_most_the_oldest_age_of_a_lease_where_the_clock_was_set_back() {
    // A lease and an earlier update of the start before, given out when the wall clock was ahead.
    let ahead = |lease| Lease { at_ms: u64::MAX / 2, ..lease_row(lease, "alice", 1) };
    let settled = vec![(ahead(4), Accepted { train_ms: u64::MAX, ..accepted_row(4, 4_000) })];
    let mut lab = Lab::with(rules(), Recovered { settled, open: vec![ahead(5)], boot: 2, ..recovered() });
    let slowest = 16.0 / Duration::from_hours(6).as_secs_f64();
    let session = lab.enter("alice", Hello { lease: Some(LeaseId(5)), ..Lab::hello("alice", Some(1)) });
    let speed = |lab: &Lab| lab.hub.sessions[&session].seat().and_then(|seat| seat.record.speed).expect("delivered");
    assert!(speed(&lab) >= slowest, "{} tokens a second", speed(&lab));
    let other = lab.worker("bob", 2);
    let task = Task { lease: LeaseId(5), ..lab.task(other).expect("a task") };
    lab.upload(session, Update { train_ms: u64::MAX, ..Lab::update(&task) });
    lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(NORM)) });
    assert!(speed(&lab) >= slowest && lab.hub.grace() <= Duration::from_hours(2), "{} tokens a second", speed(&lab));
}

#[test]
fn a_reward_of_nothing_moves_nothing() {
    let mut lab = Lab::with(Rules { reward: Credits::ZERO, ..rules() }, recovered());
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.deliver(session, &task);
    assert_eq!(verdict(&lab.heard(session), task.lease), Some(Ok(Credits::ZERO)));
    assert_eq!(rewards(&lab.rows), 0);
}

#[test]
fn after_a_restart_open_leases_are_taken_and_settled_ones_answered() {
    let mut recovered = recovered();
    recovered.users = vec![("alice".parse().expect("a name"), PublicKey(key_of("alice").verifying_key().to_bytes()))];
    recovered.open = vec![lease_row(5, "alice", 1)];
    recovered.settled = vec![(lease_row(6, "alice", 1), accepted_row(6, 4_000))];
    recovered.boot = 2;
    // What was paid before is told as it was paid, whatever a task pays now.
    let mut lab = Lab::with(Rules { reward: Credits::hyd(3), ..rules() }, recovered);
    let session = lab.worker("alice", 1);
    let mut task = lab.task(session).expect("a task");
    assert!(task.lease.0 > 6, "numbers of another start are not used again");
    for (lease, amount) in [(5, 3), (6, 1)] {
        task.lease = LeaseId(lease);
        lab.deliver(session, &task);
        assert_eq!(verdict(&lab.heard(session), LeaseId(lease)), Some(Ok(Credits::hyd(amount))), "lease {lease}");
        assert_eq!(rewards(&lab.rows), 1);
    }
}

#[test]
fn a_lease_of_an_earlier_start_is_judged_by_what_it_asked_for() {
    let cases = [(NORM, Ok(Credits::hyd(1))), (0.3, Err(UnpaidCode::Stale)), (0.0, Err(UnpaidCode::Norm))];
    for (norm, expected) in cases {
        // With four windows a step, and perhaps a higher rate than now.
        let open = vec![Lease { tokens: 64, ..lease_row(5, "alice", 1) }];
        let mut lab = Lab::with(rules(), Recovered { open, boot: 2, ..recovered() });
        let session = lab.worker("alice", 1);
        let task = Task { lease: LeaseId(5), ..lab.task(session).expect("a task") };
        lab.upload(session, Update { tokens: 64, ..Lab::update(&task) });
        let batches =
            lab.orders.iter().filter_map(|o| if let Order::Check { probe, .. } = o { Some(probe.batch) } else { None });
        assert_eq!(batches.collect::<Vec<_>>(), [4]);
        lab.tell(Fact::Checked { lease: task.lease, verdict: Ok(Findings::of_norm(norm)) });
        assert_eq!(verdict(&lab.heard(session), task.lease), Some(expected), "a norm of {norm}");
    }
}

/// Seconds of a worker that is back at once after a restart while another one, in mid-task at the end before, is not;
/// versions come as fast as the hub lets them.
fn alone_again(lab: &mut Lab, worker: SessionId, seconds: u64) {
    for _ in 0..seconds {
        if let Some(task) = lab.task(worker) {
            lab.deliver(worker, &task);
        }
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
        lab.wait(Duration::from_secs(1));
    }
}

#[test]
fn after_a_restart_nobodys_work_gets_too_old_while_it_waits_to_connect_again() {
    let mut recovered = recovered();
    let user = |name: &str| (name.parse().expect("a name"), PublicKey(key_of(name).verifying_key().to_bytes()));
    recovered.users = vec![user("alice"), user("bob")];
    recovered.open = vec![lease_row(5, "bob", 2)];
    recovered.boot = 2;

    let mut lab = Lab::with(rules(), recovered.clone());
    let alice = lab.worker("alice", 1);
    alone_again(&mut lab, alice, 14);
    assert_eq!(lab.hub.status().version, VersionNo(limits::STALENESS), "she does not stand still");
    assert!(lab.hub.view(lab.now).round.returning, "and it is told for whom the round waits");
    let bob = lab.worker("bob", 2);
    let mut task = lab.task(bob).expect("a task");
    (task.lease, task.version) = (LeaseId(5), VersionNo(0));
    lab.deliver(bob, &task);
    assert_eq!(verdict(&lab.heard(bob), task.lease), Some(Ok(Credits::hyd(1))));
    assert!(!lab.hub.view(lab.now).round.returning);

    let mut lab = Lab::with(rules(), recovered);
    let alice = lab.worker("alice", 1);
    alone_again(&mut lab, alice, 30);
    assert!(lab.hub.status().version.0 > limits::STALENESS + 5, "who does not come back is not waited for");
}

#[test]
fn no_lease_lives_longer_than_six_hours() {
    let (mut lab, mut session, task) = at_work();
    let slow = Progress { lease: task.lease, step: 1, loss: 3.0, tokens_per_s: 1e-9 };
    lab.wait(Duration::from_secs(50));
    lab.says(session, ClientMsg::Progress(slow));
    lab.wait(Duration::from_mins(359));
    assert_eq!(lab.heard(session), [], "it goes on");
    // Neither leaving nor coming back gives it more.
    lab.tell(Fact::Left { session, reason: String::new() });
    session = lab.enter("alice", Hello { lease: Some(task.lease), ..Lab::hello("alice", Some(1)) });
    assert!(!lab.heard(session).iter().any(|m| matches!(m, ServerMsg::Revoked(_))));
    lab.wait(Duration::from_secs(11));
    let revoked = |m: &ServerMsg| matches!(m, ServerMsg::Revoked(r) if r.code == UnpaidCode::Expired);
    assert!(lab.heard(session).iter().any(revoked));
}

#[test]
fn bytes_that_were_merged_before_a_restart_are_not_taken_again() {
    let old = accepted_row(6, 4_000);
    let settled = vec![(lease_row(6, "alice", 1), old.clone())];
    let mut lab = Lab::with(rules(), Recovered { settled, boot: 2, ..recovered() });
    let bob = lab.worker("bob", 2);
    let task = lab.task(bob).expect("a task");
    lab.heard(bob);
    lab.upload(bob, Update { blob: old.blob, ..Lab::update(&task) });
    unpaid(&mut lab, bob, task.lease, UnpaidCode::Copied);
}

#[test]
fn who_says_goodbye_in_mid_task_gives_it_up() {
    let (mut lab, session, task) = at_work();
    lab.says(session, ClientMsg::Bye(proto::Bye { text: "stopped at once".to_owned(), retry: false }));
    let ended =
        |row: &Row| matches!(row, Row::Ended { lease, code: UnpaidCode::Cancelled, .. } if *lease == task.lease);
    assert!(lab.rows.iter().any(ended), "at once, not when the lease ends: {:?}", lab.rows);
    let other = lab.worker("bob", 2);
    assert_eq!(lab.task(other).expect("a task").task, task.task, "somebody else does it");
}
