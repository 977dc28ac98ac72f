//! Who gets in.

use super::*;
use crate::proto::{Empty, ErrorCode, Held, UnpaidCode};

#[track_caller]
fn refused(lab: &mut Lab, session: SessionId, code: ErrorCode) {
    let heard = lab.heard(session);
    let last = heard.last();
    assert!(matches!(last, Some(ServerMsg::Error(e)) if e.code == code && e.fatal), "{code:?} expected: {heard:?}");
    assert!(lab.orders.iter().any(|order| matches!(order, Order::Close { session: closed } if *closed == session)));
}

#[test]
fn a_new_name_is_welcome_once_it_is_durable() {
    let mut lab = Lab::new();
    lab.durable = false;
    let first = lab.worker("alice", 1);
    // A second session of the same name must not overtake the row either.
    let second = lab.chat("alice");
    for session in [first, second] {
        assert!(matches!(lab.heard(session)[..], [ServerMsg::Challenge(_)]), "welcomed too early");
    }
    lab.sync();
    for session in [first, second] {
        assert!(matches!(lab.heard(session)[0], ServerMsg::Welcome(_)));
    }
    assert!(lab.task(first).is_some());
    assert_eq!(lab.rows.iter().filter(|row| matches!(row, Row::User { .. })).count(), 1);
}

#[test]
fn a_bad_proof_is_refused() {
    let mut lab = Lab::new();
    let session = lab.join();
    let hello = Lab::hello("alice", Some(1));
    let proof = Lab::proof(session, &hello, &key_of("mallory"));
    lab.says(session, ClientMsg::Hello(hello));
    lab.says(session, proof);
    refused(&mut lab, session, ErrorCode::BadProof);
    assert!(lab.rows.is_empty(), "the name must not be claimed");
}

#[test]
fn a_proof_for_another_role_is_refused() {
    let mut lab = Lab::new();
    let session = lab.join();
    let proof = Lab::proof(session, &Lab::hello("alice", None), &key_of("alice"));
    lab.says(session, ClientMsg::Hello(Lab::hello("alice", Some(1))));
    lab.says(session, proof);
    refused(&mut lab, session, ErrorCode::BadProof);
}

#[test]
fn a_name_belongs_to_its_first_key() {
    let mut lab = Lab::new();
    lab.worker("alice", 1);
    let session = lab.join();
    let key = key_of("mallory");
    let hello = Hello { key: PublicKey(key.verifying_key().to_bytes()), ..Lab::hello("alice", None) };
    let proof = Lab::proof(session, &hello, &key);
    lab.says(session, ClientMsg::Hello(hello));
    lab.says(session, proof);
    refused(&mut lab, session, ErrorCode::NameTaken);
}

#[test]
fn what_is_no_hello_ends_the_session() {
    let mut lab = Lab::new();
    let session = lab.join();
    lab.says(session, ClientMsg::Balance(Empty {}));
    refused(&mut lab, session, ErrorCode::Unexpected);

    let session = lab.join();
    lab.says(session, ClientMsg::Hello(Hello { protocol: "hydra.v9".to_owned(), ..Lab::hello("alice", None) }));
    refused(&mut lab, session, ErrorCode::Protocol);

    let session = lab.join();
    lab.says(session, ClientMsg::Hello(Hello { worker: None, ..Lab::hello("alice", Some(1)) }));
    refused(&mut lab, session, ErrorCode::Unexpected);

    let session = lab.join();
    lab.says(session, ClientMsg::Hello(Lab::hello("alice", Some(1))));
    lab.says(session, ClientMsg::Hello(Lab::hello("alice", Some(1))));
    refused(&mut lab, session, ErrorCode::Unexpected);
    assert_eq!(lab.hub.status().workers, 0);
}

#[test]
fn a_second_hello_after_the_welcome_is_only_an_error() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    lab.heard(session);
    lab.says(session, ClientMsg::Hello(Lab::hello("alice", Some(1))));
    assert!(matches!(&lab.heard(session)[..], [ServerMsg::Error(e)] if !e.fatal && e.code == ErrorCode::Unexpected));
    assert_eq!(lab.hub.status().workers, 1);
}

#[test]
fn a_slow_handshake_ends_but_a_slow_disk_is_not_the_clients_fault() {
    let mut lab = Lab::new();
    let slow = lab.join();
    lab.wait(Duration::from_secs(11));
    refused(&mut lab, slow, ErrorCode::Slow);
    lab.durable = false;
    let session = lab.chat("alice");
    lab.wait(Duration::from_secs(30));
    lab.sync();
    assert!(matches!(lab.heard(session).last(), Some(ServerMsg::Welcome(_))));
}

#[test]
fn garbage_ends_the_session_and_frees_its_task() {
    let mut lab = Lab::new();
    let (bad, good) = (lab.worker("alice", 1), lab.worker("bob", 2));
    let (task, other) = (lab.task(bad).expect("a task"), lab.task(good).expect("a task"));
    let error = proto::Error { code: ErrorCode::Malformed, text: "no".to_owned(), fatal: true };
    lab.tell(Fact::BadFrame { session: bad, error });
    refused(&mut lab, bad, ErrorCode::Malformed);
    lab.deliver(good, &other);
    lab.merge();
    assert_eq!(lab.task(good).map(|next| next.task), Some(task.task));
}

#[test]
fn the_same_process_replaces_its_older_session_and_keeps_its_lease() {
    let mut lab = Lab::new();
    let old = lab.worker("alice", 1);
    let task = lab.task(old).expect("a task");
    let hello = Hello { lease: Some(task.lease), ..Lab::hello("alice", Some(1)) };
    let new = lab.enter("alice", hello);
    refused_before(&mut lab, old);
    assert_eq!(lab.hub.status().workers, 1);
    assert!(lab.task(new).is_none(), "it has its old task");
    lab.deliver(new, &task);
    assert_eq!(verdict(&lab.heard(new), task.lease), Some(Ok(Credits::hyd(1))));
}

#[test]
fn a_session_that_a_later_one_has_overtaken_does_not_throw_it_out() {
    let mut lab = Lab::new();
    let hello = Lab::hello("alice", Some(1));
    let slow = lab.join();
    lab.says(slow, ClientMsg::Hello(hello.clone()));
    let fast = lab.worker("alice", 1);
    assert!(lab.task(fast).is_some());
    lab.says(slow, Lab::proof(slow, &hello, &key_of("alice")));
    refused_before(&mut lab, slow);
    assert!(!lab.heard(fast).iter().any(|m| matches!(m, ServerMsg::Error(_))));
    assert_eq!(lab.hub.status().workers, 1);
}

#[track_caller]
fn refused_before(lab: &mut Lab, session: SessionId) {
    let heard = lab.heard(session);
    assert!(heard.iter().any(|m| matches!(m, ServerMsg::Error(e) if e.code == ErrorCode::Replaced)), "{heard:?}");
}

#[test]
fn a_lease_that_is_over_is_revoked_at_the_return() {
    let mut lab = Lab::new();
    let session = lab.worker("alice", 1);
    let task = lab.task(session).expect("a task");
    lab.tell(Fact::Left { session, reason: String::new() });
    lab.wait(Duration::from_mins(2));
    // However far the others went on meanwhile.
    let other = lab.worker("bob", 2);
    for version in 1..=10 {
        let task = lab.task(other).expect("a task");
        lab.deliver(other, &task);
        lab.tell(Fact::Operator(Operator::CloseRound));
        lab.merge();
        assert_eq!(lab.hub.status().version, VersionNo(version));
    }
    for (lease, code) in [(task.lease, UnpaidCode::Expired), (LeaseId(77), UnpaidCode::UnknownLease)] {
        let again = lab.enter("alice", Hello { lease: Some(lease), ..Lab::hello("alice", Some(1)) });
        let heard = lab.heard(again);
        let revoked = |m: &ServerMsg| matches!(m, ServerMsg::Revoked(r) if r.lease == lease && r.code == code);
        assert!(heard.iter().any(revoked), "{heard:?}");
        assert!(lab.task(again).is_some(), "it is free for another one");
    }
}

#[test]
fn a_worker_that_holds_the_newest_version_is_not_sent_it_again() {
    let mut lab = Lab::new();
    let digest = Digest::of(b"start");
    for (held, sent) in [(digest, 0), (Digest::of(b"other"), 1)] {
        let holds = Some(Held { version: VersionNo(0), digest });
        let holds = holds.map(|h| Held { digest: held, ..h });
        lab.orders.clear();
        lab.enter("alice", Hello { holds, ..Lab::hello("alice", Some(1)) });
        let count = lab.orders.iter().filter(|order| matches!(order, Order::SendVersion { .. })).count();
        assert_eq!(count, sent);
    }
}

#[test]
fn who_comes_paused_is_left_alone_until_it_is_ready() {
    let mut lab = Lab::new();
    let session = lab.enter("alice", Hello { paused: true, ..Lab::hello("alice", Some(1)) });
    assert!(lab.task(session).is_none());
    lab.says(session, ClientMsg::Ready(proto::Ready::new(true)));
    assert!(lab.task(session).is_some());
}

#[test]
fn roles_do_not_mix() {
    let mut lab = Lab::new();
    let (worker, chat) = (lab.worker("alice", 1), lab.chat("alice"));
    lab.heard(worker);
    lab.heard(chat);
    lab.says(chat, ClientMsg::Ready(proto::Ready::new(true)));
    lab.says(worker, ClientMsg::Cancel(proto::Cancel { id: QueryId([0; 16]) }));
    for session in [worker, chat] {
        assert!(matches!(&lab.heard(session)[..], [ServerMsg::Error(e)] if !e.fatal), "the session goes on");
    }
}

#[test]
fn names_are_claimed_only_so_fast() {
    let mut lab = Lab::new();
    let claim = |lab: &mut Lab, n: u32| lab.chat(&format!("name{n}"));
    for n in 0..crate::limits::NEW_NAMES {
        let session = claim(&mut lab, n);
        assert!(matches!(lab.heard(session).last(), Some(ServerMsg::Welcome(_))), "{n}");
    }
    let late = claim(&mut lab, 9_999);
    refused(&mut lab, late, ErrorCode::Full);
    let known = claim(&mut lab, 0);
    assert!(matches!(lab.heard(known).last(), Some(ServerMsg::Welcome(_))), "a known name is always welcome");
    lab.wait(Duration::from_mins(1));
    let later = claim(&mut lab, 9_999);
    assert!(matches!(lab.heard(later).last(), Some(ServerMsg::Welcome(_))));
}
