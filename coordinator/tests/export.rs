//! A run handed on: exported by one coordinator, the beginning of another.
#![allow(clippy::unwrap_used)]

mod peer;

use std::fs;

use hydra_core::ids::VersionNo;
use hydra_core::proto::Role;

use peer::{Peer, Process, key};

#[tokio::test]
async fn an_exported_model_begins_another_run() {
    let first = Process::start(&[]);
    let mut worker = Peer::join(&first, Role::Worker, "alice", &key(1)).await.unwrap();
    worker.earn().await;
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let exported = first.command(&["export", one.to_str().unwrap()]);
    assert!(exported.contains("\"event\":\"exported\""), "{exported}");

    let mut second = Process::start(&["--init", one.to_str().unwrap()]);
    let fresh = Peer::join(&second, Role::Worker, "bob", &key(2)).await.unwrap();
    assert_eq!(fresh.welcome().version, VersionNo(0));
    assert_eq!(fresh.shape(), worker.shape());
    second.command(&["export", two.to_str().unwrap()]);
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        assert!(fs::read(one.join(file)).unwrap() == fs::read(two.join(file)).unwrap(), "{file} differs");
    }
    // What has begun goes on without it, started by the same words.
    fs::remove_dir_all(&one).unwrap();
    second.stop();
    second.restart();
    second.stop();
    fs::remove_dir_all(second.run_dir().join("data")).unwrap();
    second.restart();
}
