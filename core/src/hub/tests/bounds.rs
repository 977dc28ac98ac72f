//! What peers can make the hub keep or do is bounded, also while the disk takes nothing.

use super::*;
use crate::limits::{NAMES_WITHIN, NEW_NAMES, NEW_NAMES_HOST};
use crate::proto::{ErrorCode, Fetch, Query, Release, UnpaidCode};

/// A hub whose disk takes nothing, and which has more to tell than may wait for it: newcomers wait for their names.
/// A worker whose lease has ended, and a chat; both had their names before.
fn behind() -> (Lab, SessionId, SessionId, Task) {
    let mut lab = Lab::new();
    lab.earn("alice", 2);
    let (worker, chat) = (lab.worker("alice", 1), lab.chat("alice"));
    let task = lab.task(worker).expect("a task");
    lab.durable = false;
    lab.says(worker, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    for name in 0.. {
        if lab.hub.is_behind() {
            break;
        }
        if name % NEW_NAMES == 0 {
            lab.now = lab.now.after(NAMES_WITHIN);
        }
        let newcomer = lab.chat(&format!("newcomer{name}"));
        lab.tell(Fact::Left { session: newcomer, reason: "gone".to_owned() });
    }
    lab.heard(worker);
    lab.heard(chat);
    (lab, worker, chat, task)
}

fn ask(id: u8) -> ClientMsg {
    ClientMsg::Query(Query::new(QueryId([id; 16]), "Hi"))
}

#[test]
fn while_the_disk_is_behind_nothing_is_begun_that_waits_for_it() {
    let (mut lab, worker, chat, task) = behind();
    let waiting = lab.hub.waiting.len();
    lab.says(chat, ask(1));
    assert!(matches!(&lab.heard(chat)[..], [ServerMsg::Refused(r)] if r.code == RefusedCode::Busy));
    let new = lab.chat("bob");
    let full = |m: &ServerMsg| matches!(m, ServerMsg::Error(e) if e.code == ErrorCode::Full && e.fatal);
    assert!(lab.heard(new).iter().any(full));
    // A name that waits to be durable is no way in either, nor is asking after a lease that has ended.
    let again = lab.chat("newcomer0");
    assert!(lab.heard(again).iter().any(full));
    for _ in 0..3 {
        lab.says(worker, ClientMsg::Update(Lab::update(&task)));
    }
    assert_eq!(lab.hub.waiting.len(), waiting + 1, "the first wait for the row alone");
    let waiting = waiting + 1;
    // What no row speaks of is answered at once.
    lab.says(worker, ClientMsg::Update(Update { lease: LeaseId(5), ..Lab::update(&task) }));
    assert_eq!(verdict(&lab.heard(worker), LeaseId(5)), Some(Err(UnpaidCode::UnknownLease)));
    assert_eq!(lab.hub.waiting.len(), waiting);
    lab.durable = true;
    lab.sync();
    lab.says(chat, ask(1));
    assert!(lab.orders.iter().any(|order| matches!(order, Order::Generate { .. })), "it goes on");
}

#[test]
fn one_host_claims_only_so_many_names_and_leaves_some_for_others() {
    let mut lab = Lab::new();
    let host = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
    let full = |m: &ServerMsg| matches!(m, ServerMsg::Error(e) if e.code == ErrorCode::Full && e.fatal);
    let claim = |lab: &mut Lab, from, name: String| {
        lab.host = from;
        let session = lab.chat(&name);
        lab.heard(session).iter().any(full)
    };
    let refused = (0..2 * NEW_NAMES_HOST).filter(|n| claim(&mut lab, host(1), format!("flood{n}"))).count();
    assert_eq!(refused as u32, NEW_NAMES_HOST);
    assert!(!claim(&mut lab, host(2), "bob".to_owned()), "from elsewhere");
    assert!(!claim(&mut lab, host(1), "flood0".to_owned()), "known already");
    lab.now = lab.now.after(NAMES_WITHIN);
    assert!(!claim(&mut lab, host(1), "carol".to_owned()), "a minute later");
}

#[test]
fn a_worker_asks_for_few_shards_between_two_leases() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let fetch = ClientMsg::Fetch(Fetch { shard: Digest::of(b"shard") });
    for _ in 0..3 {
        let task = lab.task(session).expect("a task");
        for _ in 0..crate::limits::FETCHES_PER_LEASE {
            lab.says(session, fetch.clone());
        }
        lab.deliver(session, &task);
        lab.merge();
    }
    let sent = lab.orders.iter().filter(|order| matches!(order, Order::SendShard { .. })).count();
    assert_eq!(sent, 3 * crate::limits::FETCHES_PER_LEASE);
    for _ in 0..=crate::limits::FETCHES_PER_LEASE {
        lab.says(session, fetch.clone());
    }
    let flood = |m: &ServerMsg| matches!(m, ServerMsg::Error(e) if e.code == ErrorCode::Flood && e.fatal);
    assert!(lab.heard(session).iter().any(flood));
    assert_eq!(lab.hub.status().workers, 0);
}

#[test]
fn a_worker_keeps_only_so_many_updates_on_their_way() {
    let mut lab = Lab::new();
    let worker = lab.worker("alice", 1);
    let mut first = None;
    for _ in 0..10 {
        let Some(task) = lab.task(worker) else { break };
        lab.says(worker, ClientMsg::Update(Lab::update(&task)));
        first.get_or_insert(task);
        lab.wait(Duration::from_secs(1));
    }
    assert_eq!(lab.hub.leases.judging(), 4);
    let first = first.expect("a task");
    let blob = Lab::update(&first).blob;
    lab.tell(Fact::Received { session: worker, blob, intact: true });
    assert!(lab.task(worker).is_none(), "it is still looked at");
    lab.tell(Fact::Checked { lease: first.lease, verdict: Ok(Findings::of_norm(NORM)) });
    lab.wait(Duration::from_secs(1));
    assert!(lab.task(worker).is_some());
}

/// Workers of one user, each of which has a task in hand that it got after it had delivered.
fn a_room(count: u8) -> (Lab, Vec<SessionId>) {
    let mut lab = Lab::new();
    let room: Vec<_> = (0..count).map(|n| lab.worker("alice", n)).collect();
    // The second one is given out when the first is announced, and not accepted yet.
    for session in room.iter().chain(&room) {
        let task = lab.task(*session).expect("a task");
        lab.deliver(*session, &task);
        if lab.merge_ordered().is_some() {
            lab.merge();
        }
    }
    lab.wait(Duration::from_secs(5));
    if lab.merge_ordered().is_some() {
        lab.merge();
    }
    assert_eq!(lab.hub.leases.training(), room.len());
    lab.pushed.clear();
    (lab, room)
}

#[test]
fn a_power_cut_in_a_room_holds_nobody_up() {
    let (mut lab, room) = a_room(80);
    for session in room {
        lab.tell(Fact::Left { session, reason: String::new() });
    }
    // Started anew, so that each is another worker.
    let room: Vec<_> = (100..180).map(|n| lab.worker("alice", n)).collect();
    assert!(room.iter().all(|session| lab.task(*session).is_some()));
}

#[test]
fn who_has_delivered_once_does_not_fill_the_ledger_with_leases_either() {
    let (mut lab, room) = a_room(1);
    lab.tell(Fact::Left { session: room[0], reason: String::new() });
    let mut taken = 0;
    for _ in 0..200 {
        let session = lab.worker("alice", 0);
        taken += usize::from(lab.task(session).is_some());
        lab.tell(Fact::Left { session, reason: String::new() });
        lab.wait(Duration::from_millis(2));
    }
    assert!(taken < 75, "{taken} leases");
}

#[test]
fn coming_and_going_does_not_fill_the_ledger_with_leases() {
    let mut lab = Lab::new();
    let mut taken = 0;
    for turn in 0..1000_u32 {
        let session = lab.worker("alice", turn as u8);
        taken += usize::from(lab.task(session).is_some());
        lab.tell(Fact::Left { session, reason: String::new() });
        lab.wait(Duration::from_millis(2));
    }
    assert!((64..100).contains(&taken), "{taken} leases in two seconds");
    lab.wait(Duration::from_mins(5));
    let session = lab.worker("alice", 1);
    assert!(lab.task(session).is_some(), "but not for ever");
}
