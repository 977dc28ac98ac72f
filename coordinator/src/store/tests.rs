//! The store against stops, damage, full disks and other programs. Here: a small run to play with.

mod bytes;
mod files;
mod layouts;
mod ledger;
mod run;
mod writer;

use std::path::{Path, PathBuf};

use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::hub::MergeInput;
use hydra_core::hub::rows::{Accepted, ApiKey, Lease, Recovered, Row, Version};
use hydra_core::ids::{Digest, LeaseId, PublicKey, TaskId, TransferId, UserName, VersionNo, WorkerId};
use hydra_core::ledger::{Book, Transfer};
use tempfile::TempDir;

use super::*;

/// No version can be made again.
#[allow(clippy::unnecessary_wraps)]
fn never(_: &Version, _: &Version, _: &[MergeInput]) -> Result<bool, FileError> {
    Ok(false)
}

fn opening() -> Opening {
    Opening { key: SigningKey::from_bytes(&[7; 32]), at_ms: 1_000 }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn user(name: &str) -> UserName {
    name.parse().expect("a plain name")
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &opening()).expect("a sound run")
}

/// Loads with every file in place.
fn load(store: &mut Store) -> Loaded {
    store.load(&mut |_| Ok(()), &mut never, &mut |_, _| Ok(true)).expect("a sound run")
}

fn recovered(store: &mut Store) -> Recovered {
    let loaded = load(store);
    assert!(loaded.repairs.is_empty(), "{:?}", loaded.repairs);
    loaded.recovered.expect("a version")
}

fn named(name: &str) -> Row {
    Row::User { name: user(name), key: PublicKey([name.len() as u8; 32]), at_ms: 5 }
}

fn lease(n: u64, name: &str, version: u64) -> Lease {
    Lease {
        lease: LeaseId(n),
        task: TaskId(n / 2),
        user: user(name),
        worker: WorkerId([n as u8; 8]),
        version: VersionNo(version),
        shard: 3,
        // Past what SQLite can hold as a positive number.
        seed: u64::MAX - n,
        steps: 10,
        tokens: 10 * 2048,
        codec: Codec::Int4,
        at_ms: 100 + n,
    }
}

fn accepted(n: u64) -> Accepted {
    Accepted {
        lease: LeaseId(n),
        blob: Digest::of(&n.to_le_bytes()),
        bytes: 8,
        norm: 0.1 + n as f64,
        loss_first: 5.5,
        loss_last: 4.25,
        train_ms: 900,
        at_ms: 200 + n,
        paid: Credits::ZERO,
    }
}

fn version(n: u64, inputs: &[u64]) -> Version {
    Version {
        version: VersionNo(n),
        digest: Digest::of(&[n as u8]),
        tokens: n * 1000,
        tasks: n * 2,
        inputs: inputs.iter().map(|lease| (LeaseId(*lease), 1.0 / (1.0 + *lease as f32).sqrt())).collect(),
        at_ms: 300 + n,
    }
}

fn id(n: u64) -> TransferId {
    TransferId::derive("test", &[&n.to_le_bytes()])
}

fn api_key(name: &str, n: u8) -> Row {
    Row::ApiKey(ApiKey { digest: Digest([n; 32]), user: user(name), at_ms: 6 })
}

/// A lease that is taken, fulfilled and paid.
fn paid(book: &mut Book, n: u64, name: &str, of: u64) -> Vec<Row> {
    let transfer = book.reward(id(n), &user(name), Credits::hyd(1), format!("task {}", n / 2), 200 + n);
    vec![
        Row::Lease(lease(n, name, of)),
        Row::Accepted(accepted(n)),
        Row::Transfer(transfer.expect("a reward is always possible")),
    ]
}

/// Two users, versions 0 to 2 with four updates merged, one accepted update waiting, one lease open, one ended, one
/// query answered, one failed, one still running, one API key of two left.
fn sample() -> (Book, Vec<Row>) {
    let mut book = Book::default();
    let mut rows = vec![Row::Version(version(0, &[])), named("alice"), named("bob")];
    rows.extend(paid(&mut book, 1, "alice", 0));
    rows.extend(paid(&mut book, 2, "bob", 0));
    rows.push(Row::Version(version(1, &[1, 2])));
    rows.push(Row::Evaluated { version: VersionNo(1), loss: 5.0, bits_per_byte: 2.5 });
    rows.extend(paid(&mut book, 3, "alice", 1));
    rows.extend(paid(&mut book, 4, "bob", 0));
    rows.push(Row::Version(version(2, &[4, 3])));
    rows.push(Row::Evaluated { version: VersionNo(2), loss: 4.5, bits_per_byte: 2.25 });
    rows.extend(paid(&mut book, 5, "alice", 2));
    rows.push(Row::Lease(lease(6, "bob", 2)));
    rows.push(Row::Lease(lease(7, "bob", 2)));
    let code = hydra_core::proto::UnpaidCode::Expired;
    rows.push(Row::Ended { lease: LeaseId(7), code, at_ms: 400 });
    let price = Credits(500_000);
    for query in [100, 101, 102] {
        let hold = book.hold(id(query), &user("alice"), price, format!("query {query}"), 500);
        rows.push(Row::Transfer(hold.expect("alice earned three")));
    }
    rows.push(Row::Transfer(book.post(id(100), 501).expect("open")));
    rows.push(Row::Transfer(book.void(id(101), 502).expect("open")));
    rows.extend([api_key("alice", 1), api_key("bob", 3), Row::ApiKeyRevoked { digest: Digest([3; 32]) }]);
    (book, rows)
}

/// A run of the sample, closed.
fn sample_run() -> (TempDir, Book) {
    let dir = folder();
    let (book, rows) = sample();
    open(dir.path()).write(&rows).expect("the sample fits");
    (dir, book)
}

fn transfers(rows: &[Row]) -> Vec<Transfer> {
    rows.iter().filter_map(|row| if let Row::Transfer(made) = row { Some(made.clone()) } else { None }).collect()
}

/// The database through another program's eyes: without this program's settings.
fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join(schema::FILE)).expect("a database")
}

/// What a power cut at this instant leaves, in a folder of its own.
fn snapshot(dir: &Path) -> TempDir {
    let copy = folder();
    for name in [schema::FILE.to_owned(), format!("{}-wal", schema::FILE)] {
        let from: PathBuf = dir.join(&name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).expect("room for a copy");
        }
    }
    copy
}
