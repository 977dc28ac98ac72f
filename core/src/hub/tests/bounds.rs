//! What peers can make the hub keep or do is bounded, also while the disk takes nothing.

use super::*;
use crate::proto::{ErrorCode, Fetch, Query, Release, UnpaidCode};

/// A hub whose disk takes nothing, and which has more to tell than may wait for it.
fn behind() -> (Lab, SessionId, SessionId, Task) {
    let mut lab = Lab::new();
    lab.earn("alice", 2);
    let (worker, chat) = (lab.worker("alice", 1), lab.chat("alice"));
    let task = lab.task(worker).expect("a task");
    lab.durable = false;
    lab.says(worker, ClientMsg::Release(Release { lease: task.lease, text: String::new() }));
    while !lab.hub.is_behind() {
        lab.says(worker, ClientMsg::Update(Lab::update(&task)));
    }
    lab.heard(worker);
    lab.heard(chat);
    (lab, worker, chat, task)
}

fn ask(id: u8) -> ClientMsg {
    let (id, prompt) = (QueryId([id; 16]), "Hi".to_owned());
    ClientMsg::Query(Query {
        id,
        prompt,
        max_new_tokens: None,
        temperature: None,
        top_k: None,
        top_p: None,
        seed: None,
        raw: false,
        stop: Vec::new(),
    })
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
