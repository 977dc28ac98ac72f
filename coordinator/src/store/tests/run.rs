//! Opening, reopening and loading a run.

use hydra_core::hub::reward_id;
use hydra_core::hub::rows::Recovered;

use super::*;

fn same(a: &Recovered, b: &Recovered) {
    let parts = |r: &Recovered| {
        format!("{:?}", (&r.users, &r.newest, r.evaluated, &r.open, &r.unmerged, &r.settled, r.last_task))
    };
    assert_eq!(parts(a), parts(b));
    assert_eq!(a.book, b.book);
}

#[test]
fn a_new_run_has_nothing_and_then_its_first_version() {
    let dir = folder();
    let mut store = open(dir.path());
    let loaded = load(&mut store);
    assert!(loaded.recovered.is_none() && loaded.repairs.is_empty());
    store.write(&[Row::Version(version(0, &[]))]).expect("the first version");
    let found = recovered(&mut store);
    assert_eq!((found.boot, &found.newest, found.last_task), (1, &version(0, &[]), TaskId(0)));
}

#[test]
fn a_run_comes_back_as_it_was() {
    let (dir, book) = sample_run();
    let found = recovered(&mut open(dir.path()));
    assert_eq!(found.book, book);
    assert_eq!((found.boot, found.last_task), (2, TaskId(3)));
    assert_eq!((&found.newest, found.evaluated), (&version(2, &[4, 3]), Some((4.5, 2.25))));
    assert_eq!(found.open, [lease(6, "bob", 2)]);
    assert_eq!(found.unmerged, [(lease(5, "alice", 2), accepted(5))]);
    assert_eq!(found.settled.iter().map(|(l, _)| l.lease.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(found.settled[0], (lease(1, "alice", 0), accepted(1)));
    assert_eq!(found.users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    let again = recovered(&mut open(dir.path()));
    same(&found, &again);
    assert_eq!(again.boot, 3);
}

#[test]
fn what_was_paid_is_what_its_transfer_says() {
    let (dir, mut book) = sample_run();
    let mut store = open(dir.path());
    let (lease_of, more) = (LeaseId(8), Credits::hyd(7));
    let transfer = book.reward(reward_id(lease_of), &user("bob"), more, String::new(), 208).expect("it can be paid");
    store
        .write(&[Row::Lease(lease(8, "bob", 2)), Row::Accepted(accepted(8)), Row::Transfer(transfer)])
        .expect("it fits");
    let paid =
        |rows: &[(Lease, Accepted)]| rows.iter().map(|(lease, row)| (lease.lease.0, row.paid)).collect::<Vec<_>>();
    let found = recovered(&mut store);
    assert_eq!(paid(&found.unmerged), [(5, Credits::ZERO), (8, more)]);
    store.write(&[Row::Version(version(3, &[5, 8]))]).expect("it fits");
    assert_eq!(paid(&recovered(&mut store).settled)[4..], [(5, Credits::ZERO), (8, more)]);
}

#[test]
fn open_leases_beyond_the_staleness_window_are_left_out_and_paid_ones_are_not() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let more: Vec<_> = (3..=6).map(|n| Row::Version(version(n, if n == 3 { &[5] } else { &[] }))).collect();
    store.write(&more).expect("they fit");
    let found = recovered(&mut store);
    // Version 6 - (2 + 2) = 2 is the oldest that matters: leases 5 and 6 are of version 2.
    let settled = |found: &Recovered| found.settled.iter().map(|(l, _)| l.lease.0).collect::<Vec<_>>();
    assert_eq!(settled(&found), [1, 2, 3, 4, 5]);
    assert_eq!(found.open, [lease(6, "bob", 2)]);
    store.write(&[Row::Version(version(7, &[]))]).expect("it fits");
    let found = recovered(&mut store);
    assert!(found.open.is_empty());
    assert_eq!(settled(&found), [1, 2, 3, 4, 5], "a worker may not have heard yet that it was paid");
    assert_eq!(found.last_task, TaskId(3));
}

#[test]
fn numbers_that_are_not_finite_are_kept_as_unknown() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let lying = Accepted { loss_first: f32::NAN, loss_last: f32::INFINITY, ..accepted(6) };
    let diverged = Row::Evaluated { version: VersionNo(2), loss: f64::NAN, bits_per_byte: f64::NAN };
    store.write(&[Row::Accepted(lying), diverged]).expect("a peer's claim must not stop the ledger");
    let found = recovered(&mut store);
    let (_, last) = found.unmerged.last().expect("two wait");
    assert!(last.loss_first.is_nan() && last.loss_last.is_infinite());
    assert_eq!(found.evaluated, None);
}

#[test]
fn a_second_coordinator_is_kept_out() {
    let (dir, _) = sample_run();
    let first = open(dir.path());
    let second = Store::open(dir.path(), &opening()).expect_err("in use");
    assert_eq!(second, StoreError::InUse { dir: dir.path().to_owned() });
    drop(first);
    open(dir.path());
}

#[test]
fn a_run_stays_with_its_key() {
    let (dir, _) = sample_run();
    let other = Opening { key: SigningKey::from_bytes(&[8; 32]), ..opening() };
    let refused = Store::open(dir.path(), &other).expect_err("another key");
    let [stored, given] = [opening(), other].map(|opening| public_key(&opening.key));
    assert_eq!(refused, StoreError::OtherKey { stored, given });
    assert_eq!(open(dir.path()).boot(), 2, "the refused start does not count");
}

#[test]
fn a_newer_database_is_refused_and_untouched() {
    for in_log in [false, true] {
        let (dir, _) = sample_run();
        // Kept open, so that the change stays in the write-ahead log.
        let newer = raw(dir.path());
        newer.pragma_update(None, "user_version", 99).expect("writable");
        let dir = if in_log { snapshot(dir.path()) } else { dir };
        drop(newer);
        let path = dir.path().join(schema::FILE);
        let before = std::fs::read(&path).expect("it is there");
        let expected = StoreError::NewerThanProgram { path: path.clone(), found: 99, known: schema::LAYOUT };
        assert_eq!(Store::open(dir.path(), &opening()).expect_err("newer"), expected);
        assert_eq!(Reader::open(dir.path()).expect_err("newer"), expected);
        assert!(std::fs::read(&path).expect("it is there") == before);
    }
}

#[test]
fn foreign_files_are_refused_and_untouched() {
    let text: &dyn Fn(&Path) = &|path| std::fs::write(path, "dear diary").expect("writable");
    let table: &dyn Fn(&Path) = &|path| {
        Connection::open(path).expect("new").execute_batch("CREATE TABLE diary (page TEXT)").expect("new");
    };
    let marked: &dyn Fn(&Path) = &|path| {
        Connection::open(path).expect("new").pragma_update(None, "application_id", 1234).expect("new");
    };
    for make in [text, table, marked] {
        let dir = folder();
        let path = dir.path().join(schema::FILE);
        make(&path);
        let before = std::fs::read(&path).expect("it is there");
        assert!(matches!(Store::open(dir.path(), &opening()), Err(StoreError::NotOurs { .. })));
        assert!(matches!(Reader::open(dir.path()), Err(StoreError::NotOurs { .. })) || before.starts_with(b"SQLite"));
        assert!(std::fs::read(&path).expect("it is there") == before);
    }
}

#[test]
fn a_start_cut_short_before_its_first_commit_is_begun_again() {
    let dir = folder();
    std::fs::write(dir.path().join(schema::FILE), "").expect("writable");
    assert!(matches!(Reader::open(dir.path()), Err(StoreError::NoRun { .. })));
    assert_eq!(open(dir.path()).boot(), 1);
    assert!(matches!(Reader::open(folder().path()), Err(StoreError::NoRun { .. })));
}

/// Without them another program that reads, the `sqlite3` of a backup say, takes itself for the only one when it ends, and
/// removes the log.
#[cfg(target_os = "linux")]
#[test]
fn a_look_at_the_ledger_leaves_the_locks_of_its_writer() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = folder();
    let store = open(dir.path());
    let inode = std::fs::metadata(dir.path().join(schema::FILE)).expect("it is there").ino();
    let locks = || {
        let all = std::fs::read_to_string("/proc/locks").expect("readable");
        all.lines().filter(|lock| lock.contains(&format!(":{inode} "))).count()
    };
    let held = locks();
    assert!(held > 0, "an open database is locked");
    // As a start does for its screen.
    drop(Reader::open(dir.path()).expect("readable"));
    assert_eq!(locks(), held);
    drop(store);
}

fn damaged(version: &Version, bad: &[u64]) -> Result<(), FileError> {
    let path = format!("v{}", version.version).into();
    if bad.contains(&version.version.0) { Err(FileError::Damaged { path, why: "a test" }) } else { Ok(()) }
}

#[test]
fn damaged_weights_fall_back_and_their_updates_wait_again() {
    let (dir, book) = sample_run();
    let mut store = open(dir.path());
    let loaded = store.load(&mut |v| damaged(v, &[2]), &mut never, &mut |_, _| Ok(true)).expect("version 1 is whole");
    let found = loaded.recovered.expect("a version");
    assert_eq!((found.newest, found.evaluated), (version(1, &[1, 2]), Some((5.0, 2.5))));
    assert_eq!(found.book, book, "what was paid stays paid");
    assert_eq!(found.unmerged.iter().map(|(l, _)| l.lease.0).collect::<Vec<_>>(), [3, 4]);
    assert!(found.open.is_empty());
    let leases = |numbers: &[u64]| numbers.iter().copied().map(LeaseId).collect::<Vec<_>>();
    let repairs = loaded.repairs;
    assert_eq!(repairs.superseded, [(VersionNo(2), "v2 is damaged: a test".to_owned())]);
    // 5 and 6 trained from the lost weights.
    assert_eq!((repairs.reopened, repairs.lost, repairs.ended), (leases(&[3, 4]), leases(&[5]), leases(&[6])));

    // The number is used again, by other weights that merge what waits.
    store.write(&[Row::Version(Version { digest: Digest::of(b"other"), ..version(2, &[3, 4]) })]).expect("it is free");
    let found = recovered(&mut store);
    assert_eq!(found.newest.digest, Digest::of(b"other"));
    assert!(found.unmerged.is_empty());
    assert_eq!(found.settled.iter().map(|(l, _)| l.lease.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let versions = Reader::open(dir.path()).expect("readable").versions().expect("readable");
    let shown: Vec<_> = versions.iter().map(|v| (v.version.0, v.updates, v.superseded)).collect();
    assert_eq!(shown, [(2, 2, false), (2, 2, true), (1, 2, false), (0, 0, false)]);
}

#[test]
fn the_best_version_is_the_one_measured_lowest_of_those_that_count() {
    let (dir, _) = sample_run();
    let best = |store: &mut Store, rows: &[Row]| {
        store.write(rows).expect("they fit");
        Reader::open(dir.path()).expect("readable").best_version().expect("readable")
    };
    let measured = |n, loss| Row::Evaluated { version: VersionNo(n), loss, bits_per_byte: loss / 2.0 };
    let mut store = open(dir.path());
    load(&mut store);
    assert_eq!(best(&mut store, &[]), Some((VersionNo(2), 4.5)), "the newest");
    assert_eq!(best(&mut store, &[measured(2, 5.5)]), Some((VersionNo(1), 5.0)), "an older one");
    assert_eq!(best(&mut store, &[measured(2, 5.0)]), Some((VersionNo(2), 5.0)), "of two alike the newer");
    store.load(&mut |v| damaged(v, &[2]), &mut never, &mut |_, _| Ok(true)).expect("version 1 is whole");
    assert_eq!(best(&mut store, &[]), Some((VersionNo(1), 5.0)), "the superseded one does not count");

    let empty = folder();
    let mut store = open(empty.path());
    store.write(&[Row::Version(version(0, &[]))]).expect("it fits");
    load(&mut store);
    assert_eq!(Reader::open(empty.path()).expect("readable").best_version().expect("readable"), None, "none measured");
}

#[test]
fn damaged_weights_are_made_again_from_the_newest_whole_ones_on() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let mut made = Vec::new();
    let mut remake = |version: &Version, before: &Version, inputs: &[MergeInput]| {
        let updates = inputs.iter().map(|input| (input.lease, input.share)).collect::<Vec<_>>();
        made.push((version.version, before.version, updates == version.inputs));
        Ok(true)
    };
    let loaded = store.load(&mut |v| damaged(v, &[1, 2]), &mut remake, &mut |_, _| Ok(true)).expect("0 is whole");
    assert_eq!(made, [(VersionNo(1), VersionNo(0), true), (VersionNo(2), VersionNo(1), true)]);
    let remade: Vec<_> = loaded.repairs.remade.iter().map(|(version, _)| version.0).collect();
    assert_eq!((loaded.recovered.expect("a version").newest.version, remade), (VersionNo(2), vec![1, 2]));
    assert!(loaded.repairs.superseded.is_empty() && loaded.repairs.reopened.is_empty());

    let mut first_only = |version: &Version, _: &Version, _: &[MergeInput]| Ok(version.version == VersionNo(1));
    let loaded = store.load(&mut |v| damaged(v, &[1, 2]), &mut first_only, &mut |_, _| Ok(true)).expect("0 is whole");
    assert_eq!(loaded.recovered.expect("a version").newest.version, VersionNo(1));
    assert_eq!(loaded.repairs.superseded.iter().map(|(v, _)| v.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn updates_whose_bytes_are_gone_are_written_off() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let mut has = |lease: LeaseId, _: &Digest| Ok(lease.0 != 3);
    let loaded = store.load(&mut |v| damaged(v, &[1, 2]), &mut never, &mut has).expect("version 0 is whole");
    assert_eq!(loaded.repairs.superseded.iter().map(|(v, _)| v.0).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(loaded.repairs.reopened, [LeaseId(1), LeaseId(2), LeaseId(4)]);
    assert_eq!(loaded.repairs.lost, [LeaseId(3), LeaseId(5)]);
    assert_eq!(recovered(&mut store).unmerged.len(), 3, "nothing is repaired twice");
}

#[test]
fn with_no_whole_version_nothing_is_changed() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let refused =
        store.load(&mut |v| damaged(v, &[0, 1, 2]), &mut never, &mut |_, _| Ok(true)).expect_err("none is whole");
    assert!(matches!(refused, StoreError::NoGoodVersion { newest: VersionNo(2), .. }), "{refused}");
    assert_eq!(recovered(&mut store).newest.version, VersionNo(2));
}

#[test]
fn weights_that_cannot_be_read_for_another_reason_are_not_given_up() {
    let (dir, _) = sample_run();
    let mut store = open(dir.path());
    let denied = FileError::io("read", "v2".as_ref(), &std::io::ErrorKind::PermissionDenied.into());
    let refused = store.load(&mut |_| Err(denied.clone()), &mut never, &mut |_, _| Ok(true)).expect_err("denied");
    assert_eq!(refused.trouble(), Trouble::Denied);
    assert_eq!(recovered(&mut store).newest.version, VersionNo(2));
}
