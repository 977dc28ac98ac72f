//! The coordinator as a program, over real sockets on a free port, spoken to in its protocol.
//!
//! The worker here trains nothing: it sends small steps of its own making, which is all that the coordinator can see
//! of any worker. What the real worker trains is tested where it lives.
#![allow(clippy::unwrap_used)]

mod peer;

use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::ids::{Digest, VersionNo};
use hydra_core::proto::{
    Bye, ClientMsg, Empty, ErrorCode, Finish, Query, RefusedCode, Role, ServerMsg, Unpaid, UnpaidCode,
};

use peer::{Peer, Process, Stranger, key, query};

#[tokio::test]
async fn earn_ask_pay() {
    let coordinator = Process::start(&[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut chat = Peer::join(&coordinator, Role::Chat, "alice", &key(1)).await.unwrap();

    chat.say(query(1, "Hello"));
    let ServerMsg::Refused(refused) = chat.hears().await else { panic!("too poor to be answered") };
    assert_eq!(refused.code, RefusedCode::Insufficient);
    assert!(refused.text.contains("0.0 HYD") && refused.text.contains("hydra-worker earns"), "{}", refused.text);

    let credited = worker.earn().await;
    assert_eq!((credited.amount, credited.balance), (Credits::hyd(1), Credits::hyd(1)));

    chat.say(query(2, "Hello"));
    let mut text = String::new();
    let answer = loop {
        match chat.hears().await {
            ServerMsg::Piece(piece) => text.push_str(&piece.text),
            ServerMsg::Answer(answer) => break answer,
            other => panic!("{other:?}"),
        }
    };
    assert!(!text.is_empty());
    assert_eq!((answer.charged, answer.balance), (Credits(500_000), Credits(500_000)));
    assert_eq!(answer.finish, Finish::Length);

    // The same greedy question to the same version has the same answer.
    chat.say(ClientMsg::Balance(Empty {}));
    let ServerMsg::Balance(balance) = chat.hears().await else { panic!("a balance") };
    assert_eq!((balance.balance, balance.held), (Credits(500_000), Credits::ZERO));

    // What anybody may see names nobody.
    let seen = coordinator.get("/status.json");
    assert!(seen.contains("\"tasks\":1,") && seen.contains("\"workers\":1,") && !seen.contains("alice"), "{seen}");
}

#[tokio::test]
async fn a_name_belongs_to_its_key() {
    let coordinator = Process::start(&[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    worker.earn().await;
    for role in [Role::Worker, Role::Chat] {
        let refused = Peer::join(&coordinator, role, "alice", &key(2)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NameTaken);
        assert!(refused.fatal && refused.text.contains("alice"), "{}", refused.text);
    }
    let refused = Peer::join_with(&coordinator, Role::Chat, "alice", &key(1), true).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::BadProof);
    let mut own = Peer::join(&coordinator, Role::Chat, "alice", &key(1)).await.unwrap();
    own.say(ClientMsg::Balance(Empty {}));
    assert!(matches!(own.hears().await, ServerMsg::Balance(b) if b.balance == Credits::hyd(1)));
}

#[tokio::test]
async fn bad_updates_are_refused_with_their_reason() {
    let coordinator = Process::start(&[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut other = Peer::join(&coordinator, Role::Worker, "bob", &key(2)).await.unwrap();
    let honest = |peer: &Peer| peer.step_bytes();

    let task = worker.task().await;
    let mut theirs = worker.update(&task, &honest(&worker));
    theirs.lease = other.task().await.lease;
    worker.deliver(theirs.clone(), &honest(&worker));
    assert_eq!(worker.unpaid().await, UnpaidCode::NotYourLease);

    let mut update = worker.update(&task, &honest(&worker));
    update.bytes += 1;
    worker.say(ClientMsg::Update(update));
    assert_eq!(worker.unpaid().await, UnpaidCode::WrongSize);

    let task = worker.task().await;
    let mut update = worker.update(&task, &honest(&worker));
    update.version = VersionNo(77);
    worker.say(ClientMsg::Update(update));
    assert_eq!(worker.unpaid().await, UnpaidCode::WrongVersion);

    let task = worker.task().await;
    let nan = task.codec.encode(&vec![f32::NAN; worker.shape().params()]);
    worker.deliver(worker.update(&task, &nan), &nan);
    assert_eq!(worker.unpaid().await, UnpaidCode::NotFinite);

    let task = worker.task().await;
    let zero = task.codec.encode(&vec![0.0; worker.shape().params()]);
    worker.deliver(worker.update(&task, &zero), &zero);
    assert_eq!(worker.unpaid().await, UnpaidCode::Norm);

    let task = worker.task().await;
    let bytes = honest(&worker);
    let mut update = worker.update(&task, &bytes);
    update.blob = Digest::of(b"something else");
    worker.deliver(update, &bytes);
    assert_eq!(worker.unpaid().await, UnpaidCode::Corrupt);

    // After all that an honest update is still welcome, once: sent again it is answered, and paid, only once.
    let task = worker.task().await;
    let update = worker.update(&task, &bytes);
    worker.deliver(update.clone(), &bytes);
    let first = worker.credited().await;
    worker.deliver(update, &bytes);
    assert_eq!(worker.credited().await, first);
    assert_eq!(first.balance, Credits::hyd(1));
}

#[tokio::test]
async fn what_is_no_message_harms_nobody_else() {
    let coordinator = Process::start(&[]);
    let mut honest = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let golden = hydra_core::proto::wire::encode_client(&ClientMsg::Bye(Bye { text: "x".into(), retry: false }));
    for bytes in [vec![], vec![0xc1; 64], vec![0x81, 0xa5], golden[..golden.len() - 1].to_vec(), vec![0x91; 5000]] {
        let mut stranger = Stranger::connect(&coordinator).await;
        stranger.raw(bytes).await;
        let error = stranger.last_word().await.expect("it says why");
        assert_eq!((error.code, error.fatal), (ErrorCode::Malformed, true));
    }
    let mut early = Stranger::connect(&coordinator).await;
    early.raw(hydra_core::proto::wire::encode_client(&query(1, "Hello"))).await;
    assert_eq!(early.last_word().await.unwrap().code, ErrorCode::Unexpected);
    // Larger than any frame: refused by the socket itself.
    let mut huge = Stranger::connect(&coordinator).await;
    huge.raw(vec![0; 2 << 20]).await;
    huge.last_word().await;
    honest.earn().await;
}

#[tokio::test]
async fn odd_prompts_are_refused_before_any_charge() {
    let coordinator = Process::start(&[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    worker.earn().await;
    let mut chat = Peer::join(&coordinator, Role::Chat, "alice", &key(1)).await.unwrap();
    let ask = |n, prompt: &str, change: fn(&mut Query)| {
        let ClientMsg::Query(mut asked) = query(n, prompt) else { unreachable!() };
        change(&mut asked);
        ClientMsg::Query(asked)
    };
    let cases = [
        (ask(1, " \n", |_| {}), RefusedCode::EmptyPrompt),
        (ask(2, &"x".repeat(100_000), |_| {}), RefusedCode::HugePrompt),
        (ask(3, "x", |q| q.max_new_tokens = Some(0)), RefusedCode::BadSetting),
        (ask(4, "x", |q| q.temperature = Some(f32::NAN)), RefusedCode::BadSetting),
        (ask(5, "x", |q| q.top_p = Some(0.0)), RefusedCode::BadSetting),
    ];
    for (asked, code) in cases {
        chat.say(asked);
        let ServerMsg::Refused(refused) = chat.hears().await else { panic!("{code:?}") };
        assert_eq!((refused.code, refused.balance), (code, Credits::hyd(1)));
    }
}

#[tokio::test]
async fn a_killed_coordinator_goes_on_where_it_was() {
    let mut coordinator = Process::start(&[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut paid = Credits::ZERO;
    for _ in 0..3 {
        paid = worker.earn().await.balance;
    }
    let version = worker.newest();
    let task = worker.task().await;
    let bytes = worker.next_bytes();
    let late = worker.update(&task, &bytes);
    // A task goes out before its row is on disk; a new name is welcomed only after it is there, and so is all before.
    drop(Peer::join(&coordinator, Role::Chat, "witness", &key(9)).await.unwrap());
    coordinator.kill();
    coordinator.restart();

    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    assert_eq!(worker.welcome().balance, paid);
    assert!(worker.welcome().version >= version);
    // The task that was in hand when the coordinator died is still welcome, and paid once.
    worker.deliver(late.clone(), &bytes);
    assert_eq!(worker.credited().await.balance, paid.checked_add(Credits::hyd(1)).unwrap());
    worker.deliver(late, &bytes);
    assert_eq!(worker.credited().await.balance, paid.checked_add(Credits::hyd(1)).unwrap());
    // What was merged before the kill is known as a copy.
    let again = worker.earn_or_not().await;
    assert!(matches!(again, ServerMsg::Unpaid(Unpaid { code: UnpaidCode::Copied, .. })), "{again:?}");
    for _ in 0..4 {
        worker.next_bytes();
    }
    worker.earn().await;
    drop(worker);
    coordinator.stop();
    assert!(coordinator.verify().contains("\"ok\":true"));
}

#[tokio::test]
async fn a_task_of_a_vanished_worker_goes_to_another() {
    let mut coordinator = Process::start(&["--stop-after-tasks", "1"]);
    let mut first = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let task = first.task().await;
    let mut second = Peer::join(&coordinator, Role::Worker, "bob", &key(2)).await.unwrap();
    drop(first);
    let again = second.task().await;
    assert_eq!(again.task, task.task);
    assert_ne!(again.lease, task.lease);
    let bytes = again.codec.encode(&vec![1e-3; second.shape().params()]);
    assert_eq!(again.codec, Codec::Int4);
    second.deliver(second.update(&again, &bytes), &bytes);
    assert_eq!(second.credited().await.task, task.task);
    drop(second);
    // Nobody is asked to join a run that has come to its goal.
    let told = coordinator.ends_and_again();
    assert!(told.contains("reached its goal before") && !told.contains("join with"), "{told}");
}
