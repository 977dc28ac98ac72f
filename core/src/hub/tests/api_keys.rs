//! API keys: made by the account alone, good for asking alone, worth nothing once revoked.

use super::super::rows::ApiKey;
use super::*;
use crate::limits;
use crate::proto::{Empty, ErrorCode, KeyAct, Query};

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// What the user of session `of` says about a key, signed with the key of `signer`.
fn about(of: SessionId, act: KeyAct, key: Option<Digest>, signer: &str) -> proto::ApiKey {
    let server = PublicKey(SigningKey::from_bytes(&KEY).verifying_key().to_bytes());
    let nonce = Nonce([of.0 as u8; 32]);
    let statement = sign::api_key_statement(&server, &nonce, act, key.as_ref(), &"alice".parse().expect("a name"));
    proto::ApiKey { act, digest: key, signature: sign::sign(&key_of(signer), &statement) }
}

impl Lab {
    /// Alice says something about a key; the keys that she is told to have, if she is told.
    fn key(&mut self, chat: SessionId, act: KeyAct, key: Option<Digest>) -> Option<Vec<Digest>> {
        self.says(chat, ClientMsg::ApiKey(about(chat, act, key, "alice")));
        known(&self.heard(chat))
    }

    fn keyed(&mut self, key: Digest) -> SessionId {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.tell(Fact::Keyed { session, key });
        session
    }

    /// Whether a session was told a fatal error of this kind.
    fn is_refused(&mut self, session: SessionId, code: ErrorCode) -> bool {
        self.heard(session).iter().any(|m| matches!(m, ServerMsg::Error(e) if e.code == code && e.fatal))
    }
}

fn known(messages: &[ServerMsg]) -> Option<Vec<Digest>> {
    let last = messages.iter().rev().find_map(|m| if let ServerMsg::ApiKeys(k) = m { Some(k) } else { None });
    last.map(|known| known.keys.iter().map(|key| key.digest).collect())
}

fn ask(id: u8) -> ClientMsg {
    let query = Query::new(QueryId([id; 16]), "Hi");
    ClientMsg::Query(Query { raw: true, stop: vec!["END".into()], ..query })
}

/// Alice with a credit, her chat, and a key.
fn keyed_alice() -> (Lab, SessionId) {
    let mut lab = Lab::new();
    lab.earn("alice", 1);
    let chat = lab.chat("alice");
    assert_eq!(lab.key(chat, KeyAct::Add, Some(digest(1))), Some(vec![digest(1)]));
    (lab, chat)
}

#[test]
fn a_key_asks_at_the_cost_of_the_account_that_made_it() {
    let (mut lab, _chat) = keyed_alice();
    let request = lab.keyed(digest(1));
    assert!(matches!(&lab.heard(request)[..], [ServerMsg::Welcome(w)] if w.balance == Credits::hyd(1)));
    lab.says(request, ask(1));
    let Some(Order::Generate { query, raw: true, stop, .. }) = lab.orders.last().cloned() else { panic!("it asks") };
    assert_eq!(stop, ["END"]);
    lab.tell(Fact::Piece { query, text: "x".into(), tokens: 1 });
    lab.tell(Fact::Answered { query, tokens: 1, finish: Finish::Stop });
    let heard = lab.heard(request);
    assert!(matches!(&heard[..], [ServerMsg::Piece(_), ServerMsg::Answer(a)] if a.balance == Credits(500_000)));
    // Each request is a session of its own; what the account does not cover is refused as anywhere.
    lab.tell(Fact::Left { session: request, reason: String::new() });
    let request = lab.keyed(digest(1));
    lab.says(request, ask(2));
    lab.says(request, ask(3));
    let poor = |m: &ServerMsg| matches!(m, ServerMsg::Refused(r) if r.code == RefusedCode::Insufficient);
    assert!(lab.heard(request).iter().any(poor));
}

#[test]
fn nothing_is_told_before_it_is_durable() {
    let mut lab = Lab::new();
    let chat = lab.chat("alice");
    lab.durable = false;
    assert_eq!(lab.key(chat, KeyAct::Add, Some(digest(1))), None);
    lab.sync();
    assert_eq!(known(&lab.heard(chat)), Some(vec![digest(1)]));
    // Said twice it is one key, with one row.
    assert_eq!(lab.key(chat, KeyAct::Add, Some(digest(1))), Some(vec![digest(1)]));
    assert_eq!(lab.rows.iter().filter(|row| matches!(row, Row::ApiKey(_))).count(), 1);
    assert_eq!(lab.key(chat, KeyAct::Revoke, None), None);
    lab.sync();
    assert_eq!(known(&lab.heard(chat)), Some(Vec::new()));
}

#[test]
fn who_hangs_up_pays_nothing() {
    let (mut lab, chat) = keyed_alice();
    let request = lab.keyed(digest(1));
    lab.says(request, ask(1));
    let Some(Order::Generate { query, .. }) = lab.orders.last().cloned() else { panic!("it asks") };
    lab.tell(Fact::Piece { query, text: "x".into(), tokens: 1 });
    assert_eq!(lab.hub.book().held_of(&"alice".parse().expect("a name")), Credits(500_000));
    lab.tell(Fact::Left { session: request, reason: String::new() });
    assert!(lab.orders.iter().any(|order| matches!(order, Order::StopGenerating { .. })));
    lab.says(chat, ClientMsg::Balance(Empty {}));
    let heard = lab.heard(chat);
    assert!(matches!(&heard[..], [ServerMsg::Balance(b)] if b.balance == Credits::hyd(1) && b.held == Credits::ZERO));
}

#[test]
fn a_key_is_revoked_alone_or_with_all_others() {
    let (mut lab, chat) = keyed_alice();
    for n in 2..=3 {
        lab.key(chat, KeyAct::Add, Some(digest(n)));
    }
    assert_eq!(lab.key(chat, KeyAct::Revoke, Some(digest(2))), Some(vec![digest(1), digest(3)]));
    let revoked = lab.keyed(digest(2));
    assert!(lab.is_refused(revoked, ErrorCode::BadProof));
    let other = lab.keyed(digest(3));
    assert!(!lab.is_refused(other, ErrorCode::BadProof));
    // Somebody else's key, or none, is nothing to revoke.
    assert_eq!(lab.key(chat, KeyAct::Revoke, Some(digest(9))), Some(vec![digest(1), digest(3)]));
    assert_eq!(lab.key(chat, KeyAct::Revoke, None), Some(Vec::new()));
    let revoked = lab.keyed(digest(1));
    assert!(lab.is_refused(revoked, ErrorCode::BadProof));
    let gone = lab.rows.iter().filter(|row| matches!(row, Row::ApiKeyRevoked { .. })).count();
    assert_eq!(gone, 3);
}

#[test]
fn only_the_account_s_own_signature_over_this_session_counts() {
    let good = |chat| about(chat, KeyAct::Add, Some(digest(9)), "alice");
    let forgeries: [fn(SessionId, proto::ApiKey) -> proto::ApiKey; 4] = [
        |chat, _| about(chat, KeyAct::Add, Some(digest(9)), "mallory"),
        |chat, _| about(SessionId(chat.0 + 1), KeyAct::Add, Some(digest(9)), "alice"),
        |_, signed| proto::ApiKey { digest: Some(digest(8)), ..signed },
        |_, signed| proto::ApiKey { act: KeyAct::Revoke, ..signed },
    ];
    for forge in forgeries {
        let (mut lab, chat) = keyed_alice();
        lab.says(chat, ClientMsg::ApiKey(forge(chat, good(chat))));
        assert!(lab.is_refused(chat, ErrorCode::BadProof));
        let added = lab.keyed(digest(9));
        assert!(lab.is_refused(added, ErrorCode::BadProof));
        let kept = lab.keyed(digest(1));
        assert!(!lab.is_refused(kept, ErrorCode::BadProof));
    }
}

#[test]
fn a_session_says_only_so_much_about_keys() {
    let (mut lab, _chat) = keyed_alice();
    let chat = lab.chat("alice");
    for _ in 0..limits::API_KEY_STATEMENTS {
        assert_eq!(lab.key(chat, KeyAct::List, None), Some(vec![digest(1)]));
    }
    lab.says(chat, ClientMsg::ApiKey(about(chat, KeyAct::List, None, "alice")));
    assert!(lab.is_refused(chat, ErrorCode::Flood));
    let chat = lab.chat("alice");
    assert_eq!(lab.key(chat, KeyAct::List, None), Some(vec![digest(1)]), "another session goes on");
}

#[test]
fn a_user_has_so_many_keys_and_none_of_another_s() {
    let mut lab = Lab::new();
    let chat = lab.chat("alice");
    for n in 1..=limits::API_KEYS as u8 {
        assert_eq!(lab.key(chat, KeyAct::Add, Some(digest(n))).map(|keys| keys.len()), Some(n as usize));
    }
    assert_eq!(lab.key(chat, KeyAct::Add, Some(digest(99))), None);
    let chat = lab.chat("alice");
    assert_eq!(lab.key(chat, KeyAct::List, None).map(|keys| keys.len()), Some(limits::API_KEYS));
    let bob = lab.chat("bob");
    let server = public_key(&SigningKey::from_bytes(&KEY));
    let nonce = Nonce([bob.0 as u8; 32]);
    let statement =
        sign::api_key_statement(&server, &nonce, KeyAct::Add, Some(&digest(1)), &"bob".parse().expect("a name"));
    let signature = sign::sign(&key_of("bob"), &statement);
    lab.heard(bob);
    lab.says(bob, ClientMsg::ApiKey(proto::ApiKey { act: KeyAct::Add, digest: Some(digest(1)), signature }));
    assert!(lab.is_refused(bob, ErrorCode::Unexpected));
}

#[test]
fn a_key_survives_a_restart_and_may_only_ask() {
    let user: UserName = "alice".parse().expect("a name");
    let users = vec![(user.clone(), PublicKey(key_of("alice").verifying_key().to_bytes()))];
    let api_keys = vec![ApiKey { digest: digest(1), user, at_ms: 7 }];
    let mut lab = Lab::with(rules(), Recovered { users, api_keys, ..recovered() });
    let chat = lab.chat("alice");
    assert_eq!(lab.key(chat, KeyAct::List, None), Some(vec![digest(1)]));
    let request = lab.keyed(digest(1));
    assert!(matches!(&lab.heard(request)[..], [ServerMsg::Welcome(_)]));
    // Nobody has told its session a nonce, so nothing that is signed can be meant for it.
    lab.says(request, ClientMsg::ApiKey(about(SessionId(0), KeyAct::Add, Some(digest(2)), "alice")));
    assert!(matches!(&lab.heard(request)[..], [ServerMsg::Error(e)] if e.text.contains("only ask")));
    assert_eq!(lab.key(chat, KeyAct::List, None), Some(vec![digest(1)]));
}
