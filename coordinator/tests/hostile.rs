//! Peers that mean no good, over real sockets: each is told why it is cut, or cut, and harms nobody else.
#![allow(clippy::unwrap_used)]

mod peer;

use std::time::{Duration, Instant};

use hydra_core::limits;
use hydra_core::proto::{ClientMsg, Empty, ErrorCode, Role, wire};

use peer::{Peer, Process, Stranger, key};

fn status() -> Vec<u8> {
    wire::encode_client(&ClientMsg::Status(Empty {}))
}

#[tokio::test]
async fn a_flood_is_cut_and_told_why() {
    let coordinator = Process::start_with("[limits]\nmessages_per_second = 20\n", &[]);
    let mut honest = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut flood = Stranger::join(&coordinator, "mallory", &key(2)).await;
    flood.pour(status(), 5000).await;
    let error = flood.last_word().await.expect("it says why");
    assert_eq!((error.code, error.fatal), (ErrorCode::Flood, true));
    assert!(error.text.contains("20 messages a second"), "{}", error.text);
    honest.earn().await;
    coordinator.counts("hydra_sessions_closed_total{reason=\"flood\"} 1").await;
}

#[tokio::test]
async fn too_long_a_message_is_told_before_the_cut() {
    let coordinator = Process::start(&[]);
    let mut honest = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut huge = Stranger::connect(&coordinator).await;
    huge.raw(vec![0; 8 << 20]).await;
    let error = huge.last_word().await.expect("it says why");
    assert_eq!((error.code, error.fatal), (ErrorCode::TooLarge, true));
    assert!(error.text.contains("8388608 bytes"), "{}", error.text);
    honest.earn().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let coordinator = Process::start_with("[limits]\nmessages_per_second = 1_000_000\n", &[]);
    let mut honest = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let mut slow = Stranger::join(&coordinator, "mallory", &key(2)).await;
    // Many more answers than the network between keeps for one who does not read.
    slow.pour(status(), 100_000).await;
    honest.earn().await;
    // Either more answers wait than may, or the socket takes nothing for a while: it depends on who is faster.
    let is_cut = |metrics: &str| {
        metrics.contains("hydra_slow_readers_total")
            || metrics.contains("hydra_sessions_closed_total{reason=\"stalled\"}")
    };
    let until = Instant::now() + 3 * limits::WRITE_STALL;
    while !is_cut(&coordinator.get("/metrics")) {
        assert!(Instant::now() < until, "who reads nothing is still there");
        honest.earn().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_full_coordinator_says_so() {
    let coordinator = Process::start_with("[limits]\nconnections = 2\n", &[]);
    let mut worker = Peer::join(&coordinator, Role::Worker, "alice", &key(1)).await.unwrap();
    let _chat = Peer::join(&coordinator, Role::Chat, "alice", &key(1)).await.unwrap();
    let error = Stranger::connect(&coordinator).await.last_word().await.expect("it says why");
    assert_eq!((error.code, error.fatal), (ErrorCode::Full, true));
    assert!(coordinator.get("/healthz").starts_with("HTTP/1.1 503"));
    worker.earn().await;
}
