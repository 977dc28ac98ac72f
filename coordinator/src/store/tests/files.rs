//! Files of versions and updates: whole or recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use hydra_core::merge::{OuterState, weights_digest};
use hydra_core::model::Shape;

use super::*;

fn shape() -> Shape {
    Shape::new(12, 8, 1, 1, 8)
}

fn state(seed: u64) -> Checkpoint {
    let momentum = shape().initial_weights(seed + 1);
    Checkpoint {
        weights: Arc::new(shape().initial_weights(seed)),
        outer: Arc::new(OuterState { residual: momentum.clone(), momentum }),
    }
}

fn of(n: u64, checkpoint: &Checkpoint) -> Version {
    Version { digest: weights_digest(&checkpoint.weights), ..version(n, &[]) }
}

fn write(files: &VersionFiles, n: u64) -> Version {
    let checkpoint = state(n);
    let row = of(n, &checkpoint);
    files.write(row.version, &row.digest, &checkpoint.weights, &checkpoint.outer).expect("room");
    row
}

#[test]
fn a_version_comes_back_bit_for_bit() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    let row = write(&files, 12);
    assert_eq!(files.path(row.version), dir.path().join("versions/v00000012.safetensors"));
    assert_eq!(files.check(&row), Ok(()));
    assert_eq!(files.read(&row), Ok(state(12)));
    let missing = files.read(&of(13, &state(13)));
    assert!(matches!(missing, Err(FileError::Missing { .. })), "{missing:?}");
}

#[test]
fn every_flipped_byte_of_a_version_is_found() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    let row = write(&files, 1);
    let path = files.path(row.version);
    let good = fs::read(&path).expect("written");
    let mut file = fs::File::options().write(true).open(&path).expect("writable");
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.write_all(&[byte])).expect("room");
    };
    for (at, byte) in good.iter().enumerate() {
        put(at, byte ^ (1 << (at % 8)));
        assert!(matches!(files.check(&row), Err(FileError::Damaged { .. })), "byte {at} of {}", good.len());
        put(at, *byte);
    }
    assert_eq!(files.check(&row), Ok(()));
    let longer = [&good[..], b"x"].concat();
    for bad in [&good[..0], &good[..7], &good[..200], &good[..good.len() - 1], &longer] {
        fs::write(&path, bad).expect("room");
        assert!(matches!(files.read(&row), Err(FileError::Damaged { .. })), "{} bytes", bad.len());
    }
    fs::write(&path, &good).expect("room");
    assert_eq!(files.check(&row), Ok(()));
    let other = VersionFiles::open(dir.path(), Shape::new(13, 8, 1, 1, 8)).expect("a folder");
    assert!(matches!(other.check(&row), Err(FileError::Damaged { .. })));
}

#[test]
fn the_header_is_one_that_other_tools_read() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    let row = write(&files, 1);
    let bytes = fs::read(files.path(row.version)).expect("written");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
    assert_eq!(length % 8, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length as usize]).expect("JSON");
    let tensors = header.as_object().expect("a map");
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (_, tensor) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        let numbers = |key: &str| -> Vec<u64> { serde_json::from_value(tensor[key].clone()).expect("numbers") };
        let range = numbers("data_offsets");
        assert_eq!(range[1] - range[0], 4 * numbers("shape").iter().product::<u64>());
        ranges.push((range[0], range[1]));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gaps");
    assert_eq!(ranges.last().expect("tensors").1 + 8 + length, bytes.len() as u64);
    assert_eq!(tensors.len(), shape().layout().len() + 3);
    assert_eq!(header["__metadata__"]["hydra.weights"], row.digest.to_string());
}

#[test]
fn old_versions_go_and_the_newest_stays() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    // Not every version has a file.
    for n in [1, 2, 5, 7, 8, 9] {
        write(&files, n);
    }
    assert_eq!(files.keep(VersionNo(8), 3), Ok(Some(VersionNo(5))));
    assert_eq!(files.list().expect("readable").iter().map(|v| v.0).collect::<Vec<_>>(), [5, 7, 8, 9]);
    assert_eq!(files.keep(VersionNo(8), 0), Ok(Some(VersionNo(8))));
    assert_eq!(files.list().expect("readable").iter().map(|v| v.0).collect::<Vec<_>>(), [8, 9]);
}

#[test]
fn a_damaged_version_is_set_aside_not_overwritten() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    for n in [1, 2] {
        let row = write(&files, 3);
        fs::write(files.path(row.version), format!("damage {n}")).expect("room");
        let aside = files.set_aside(row.version).expect("room").expect("there was a file");
        assert_eq!(fs::read_to_string(aside).expect("kept"), format!("damage {n}"));
    }
    assert_eq!(files.set_aside(VersionNo(3)), Ok(None));
    assert!(files.list().expect("readable").is_empty());
}

#[test]
fn versions_that_the_run_does_not_know_are_left_out() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    for n in [3, 4, 6] {
        write(&files, n);
    }
    assert_eq!(files.leave_out(VersionNo(4)), Ok(vec![VersionNo(6)]));
    assert_eq!(files.leave_out(VersionNo(4)), Ok(Vec::new()));
    assert_eq!(files.list().expect("readable"), [VersionNo(3), VersionNo(4)]);
    assert!(dir.path().join("versions/v00000006.safetensors.unknown-1").exists(), "and nothing is lost");
}

#[test]
fn half_written_files_are_cleared_away_and_nothing_else() {
    let dir = folder();
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    let row = write(&files, 1);
    let half = dir.path().join("versions/.v00000002.safetensors.tmp");
    fs::write(&half, "half").expect("room");
    let files = VersionFiles::open(dir.path(), shape()).expect("a folder");
    assert!(!half.exists());
    assert_eq!(files.check(&row), Ok(()));
}

#[test]
fn what_looks_half_written_and_is_somebody_else_s_stays() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    drop(open(dir.path()));
    VersionFiles::open(dir.path(), shape()).expect("a folder");
    UpdateFiles::open(dir.path()).expect("a folder");
    let update = format!("updates/.3-{}.bin.tmp", Digest::of(b"x"));
    let ours = [".begun.json.tmp", ".average.safetensors.tmp", "versions/.v00000002.safetensors.tmp", &update];
    let theirs = [".notes.tmp", ".tmp", "begun.json.tmp", "versions/.mine.safetensors.tmp", "updates/.mine.bin.tmp"];
    for name in ours.iter().chain(&theirs) {
        fs::write(path(name), "half").expect("room");
    }
    fs::create_dir(path(".run.toml.tmp")).expect("room");
    drop(open(dir.path()));
    VersionFiles::open(dir.path(), shape()).expect("a folder");
    UpdateFiles::open(dir.path()).expect("a folder");
    assert_eq!(ours.map(|name| path(name).exists()), [false; 4]);
    assert_eq!(theirs.map(|name| path(name).exists()), [true; 5]);
    assert!(path(".run.toml.tmp").is_dir());
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_says_why() {
    let dir = folder();
    super::super::files::write_whole(dir.path(), "a", |out| out.write_all(b"old")).expect("room");
    let kinds = [
        (io::ErrorKind::StorageFull, Trouble::DiskFull),
        (io::ErrorKind::ReadOnlyFilesystem, Trouble::ReadOnly),
        (io::ErrorKind::PermissionDenied, Trouble::Denied),
        (io::ErrorKind::Other, Trouble::Io),
    ];
    for (kind, trouble) in kinds {
        let failed = super::super::files::write_whole(dir.path(), "a", |out| {
            out.write_all(b"new")?;
            Err(kind.into())
        });
        assert_eq!(failed.expect_err("it failed").trouble(), trouble);
        assert_eq!(fs::read(dir.path().join("a")).expect("still there"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "no half-written file stays");
    }
}

#[test]
fn updates_come_back_checked() {
    let dir = folder();
    let files = UpdateFiles::open(dir.path()).expect("a folder");
    let digest = Digest::of(b"an update");
    let lease = LeaseId(3);
    files.put(lease, &digest, b"an update").expect("room");
    assert_eq!(files.get(lease, &digest).as_deref(), Ok(&b"an update"[..]));
    assert_eq!((files.has(lease, &digest), files.has(LeaseId(4), &digest)), (Ok(true), Ok(false)));
    fs::write(dir.path().join(format!("updates/3-{digest}.bin")), "an updaTe").expect("room");
    assert!(matches!(files.get(lease, &digest), Err(FileError::Damaged { .. })));
    assert_eq!(files.has(lease, &digest), Ok(false));
    files.remove(lease, &digest).expect("there");
    files.remove(lease, &digest).expect("gone already");
    assert!(matches!(files.get(lease, &digest), Err(FileError::Missing { .. })));
}

#[test]
fn sweeping_keeps_what_is_named_and_what_is_not_ours() {
    let dir = folder();
    let files = UpdateFiles::open(dir.path()).expect("a folder");
    let digest = Digest::of(b"x");
    for lease in 1..=4 {
        files.put(LeaseId(lease), &digest, b"x").expect("room");
    }
    fs::write(dir.path().join("updates/notes.txt"), "mine").expect("room");
    let stay = BTreeSet::from([LeaseId(2), LeaseId(3), LeaseId(9)]);
    assert_eq!(files.sweep(&stay), Ok(BTreeMap::from([(LeaseId(2), digest), (LeaseId(3), digest)])));
    let left: Vec<_> = (1..=4).filter(|lease| files.has(LeaseId(*lease), &digest) == Ok(true)).collect();
    assert_eq!(left, [2, 3]);
    assert!(dir.path().join("updates/notes.txt").exists());
}
