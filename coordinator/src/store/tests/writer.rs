//! The writer's thread: order, stops, and disks that fail and recover.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hydra_core::ids::UserName;
use rusqlite::TransactionBehavior;

use super::super::writer::{Keeper, Saved};
use super::*;

fn spawn(store: Store) -> (Writer, Receiver<Saved>) {
    let (tell, told) = channel();
    let writer = store.spawn(move |saved| tell.send(saved).expect("the test listens")).expect("a thread");
    (writer, told)
}

/// An event to wait for; the limit only ends a test that has already failed.
fn next(told: &Receiver<Saved>) -> Saved {
    told.recv_timeout(Duration::from_mins(1)).expect("the thread says something")
}

fn keeper(store: Store) -> Keeper {
    let Store { connection, seal, lock, .. } = store;
    Keeper { connection, seal, pending: std::collections::VecDeque::new(), lock }
}

fn names(store: &mut Store) -> Vec<UserName> {
    recovered(store).users.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn orders_become_durable_in_order_and_all_of_them() {
    let dir = folder();
    let mut store = open(dir.path());
    store.write(&[Row::Version(version(0, &[])), named("alice")]).expect("they fit");
    let (writer, told) = spawn(store);
    let mut book = Book::default();
    for n in 1..=500 {
        writer.persist(n, paid(&mut book, n, "alice", 0));
    }
    writer.shutdown().expect("all fits");
    let reports: Vec<u64> =
        told.try_iter().map(|saved| if let Saved::Upto(n) = saved { n } else { panic!("{saved:?}") }).collect();
    assert!(reports.is_sorted_by(|a, b| a < b) && reports.last() == Some(&500), "{reports:?}");
    let log = dir.path().join(format!("{}-wal", schema::FILE));
    assert!(!log.exists() || log.metadata().expect("it exists").len() == 0, "the log is folded in");
    let found = recovered(&mut open(dir.path()));
    assert_eq!(found.book, book);
    assert_eq!(found.unmerged.len(), 500);
}

#[test]
fn one_transaction_takes_what_waits_up_to_its_bound() {
    let dir = folder();
    let mut keeper = keeper(open(dir.path()));
    let rows = |n: u64, count: u64| (0..count).map(|k| named(&format!("u{n}-{k}"))).collect::<Vec<_>>();
    for (n, count) in [(1, 4000), (2, 96), (3, 1), (4, 5000), (5, 1)] {
        keeper.pending.push_back((n, rows(n, count)));
    }
    // 4,096 rows fit; an order that alone has more goes alone.
    let upto: Vec<_> = (0..4).map(|_| keeper.commit().expect("they fit")).collect();
    assert_eq!(upto, [2, 3, 4, 5]);
    assert!(keeper.pending.is_empty());
}

#[test]
fn what_was_reported_survives_a_kill_at_any_point() {
    let dir = folder();
    let (_, rows) = sample();
    let mut keeper = keeper(open(dir.path()));
    for (n, row) in rows.iter().enumerate() {
        keeper.pending.push_back((n as u64, vec![row.clone()]));
        keeper.commit().expect("it fits");
        let cut = snapshot(dir.path());
        let found = recovered(&mut open(cut.path()));
        let mut book = Book::default();
        for row in transfers(&rows[..=n]) {
            book.replay(&row).expect("the sample's own");
        }
        assert_eq!(found.book, book, "after row {n}");
        let users = rows[..=n].iter().filter(|row| matches!(row, Row::User { .. })).count();
        assert_eq!(found.users.len(), users);
    }
}

#[test]
fn a_log_that_ends_in_the_middle_of_a_commit_gives_the_state_before_it() {
    let dir = folder();
    let mut store = open(dir.path());
    store.write(&[Row::Version(version(0, &[])), named("alice")]).expect("they fit");
    let log = format!("{}-wal", schema::FILE);
    let whole = std::fs::metadata(dir.path().join(&log)).expect("a log").len();
    store.write(&[named("bob")]).expect("it fits");
    let longer = std::fs::metadata(dir.path().join(&log)).expect("a log").len();
    assert!(longer > whole);
    for (length, expected) in [(whole, 1), (whole + 100, 1), (longer - 1, 1), (longer, 2)] {
        let cut = snapshot(dir.path());
        let file = std::fs::File::options().write(true).open(cut.path().join(&log)).expect("the copy");
        file.set_len(length).expect("shorter");
        assert_eq!(names(&mut open(cut.path())).len(), expected, "{length} of {longer} bytes");
    }
}

#[test]
fn a_full_disk_keeps_the_rows_until_there_is_room() {
    let dir = folder();
    let mut store = open(dir.path());
    store.write(&[Row::Version(version(0, &[])), named("alice")]).expect("they fit");
    let mut keeper = keeper(store);
    let pages: i64 = keeper.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
    let limit = |keeper: &Keeper, pages: i64| {
        let set =
            keeper.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0));
        assert_eq!(set, Ok(pages));
    };
    limit(&keeper, pages);
    let mut book = Book::default();
    let mut done = 0;
    let full = loop {
        keeper.pending.push_back((done + 1, paid(&mut book, done + 1, "alice", 0)));
        match keeper.commit() {
            Ok(upto) => done = upto,
            Err(error) => break error,
        }
    };
    assert_eq!(full.trouble(), Trouble::DiskFull, "{full}");
    assert!(full.trouble().passes() && keeper.pending.len() == 1);
    keeper.pending.push_back((done + 2, paid(&mut book, done + 2, "alice", 0)));
    assert_eq!(keeper.commit().expect_err("still full").trouble(), Trouble::DiskFull);
    let early = recovered(&mut open(snapshot(dir.path()).path()));
    assert_eq!(early.book.head().seq, done, "only what was reported is there");

    limit(&keeper, pages + 1000);
    assert_eq!(keeper.commit(), Ok(done + 2));
    drop(keeper);
    assert_eq!(recovered(&mut open(dir.path())).book, book);
}

#[test]
fn trouble_that_passes_is_told_once_and_then_it_goes_on() {
    let (dir, _) = sample_run();
    let store = open(dir.path());
    store.connection.busy_timeout(Duration::ZERO).expect("a setting");
    let mut other = raw(dir.path());
    let held = other.transaction_with_behavior(TransactionBehavior::Immediate).expect("free");
    let (writer, told) = spawn(store);
    writer.persist(1, vec![named("carol")]);
    let Saved::Waiting(error) = next(&told) else { panic!("it should wait") };
    assert_eq!(error.trouble(), Trouble::Busy);
    writer.persist(2, vec![named("dave")]);
    drop(held);
    let mut upto = 0;
    while upto < 2 {
        let Saved::Upto(n) = next(&told) else { panic!("told twice") };
        upto = n;
    }
    writer.shutdown().expect("all fits");
    assert_eq!(names(&mut open(dir.path())).len(), 4);
}

#[test]
fn a_row_that_cannot_be_breaks_the_writer_and_nothing_after_it_is_written() {
    let (dir, _) = sample_run();
    let (writer, told) = spawn(open(dir.path()));
    writer.persist(1, vec![named("carol")]);
    assert_eq!(next(&told), Saved::Upto(1));
    writer.persist(2, vec![named("carol")]);
    let Saved::Broken(error) = next(&told) else { panic!("carol exists") };
    assert_eq!(error.trouble(), Trouble::Bug);
    writer.persist(3, vec![named("dave")]);
    assert_eq!(writer.shutdown().map(drop), Err(error));
    assert_eq!(names(&mut open(dir.path())), ["alice", "bob", "carol"].map(user));
}
