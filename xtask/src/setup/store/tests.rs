use super::super::wheels::Platform;
use super::*;

/// Three small wheels with true digests; the contents are "a", "bb", "ccc".
const SMALL: &[Wheel] = &[
    Wheel {
        file: "a-1-py3-none-any.whl",
        size: 1,
        sha256: "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    },
    Wheel {
        file: "b-1-py3-none-any.whl",
        size: 2,
        sha256: "3b64db95cb55c763391c707108489ae18b4112d783300de38e033b4c98c3deaf",
    },
];

fn plan() -> Plan {
    Plan { platform: Platform::LinuxX86, cuda: false, wheels: SMALL, unpacked: 100 }
}

fn store(cache: &Path, run: u32) -> (Store, Folders) {
    let store = Store::below(cache, &plan(), run);
    let folders = store.prepare(true).unwrap();
    (store, folders)
}

fn download(folders: &Folders, wheel: &Wheel, bytes: &[u8]) -> PathBuf {
    let path = folders.incoming.join(wheel.file);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn unpack(store: &Store) {
    std::fs::create_dir_all(store.tree().join("lib")).unwrap();
    std::fs::write(store.tree().join("lib/libtorch_cpu.so"), "library").unwrap();
}

#[test]
fn an_interrupted_set_up_keeps_its_checked_wheels_and_nothing_else() {
    let cache = tempfile::tempdir().unwrap();
    let (first, folders) = store(cache.path(), 1);
    first.accept(&SMALL[0], &download(&folders, &SMALL[0], b"a")).unwrap();
    download(&folders, &SMALL[1], b"b");
    std::fs::write(folders.temporary.join("half"), "half").unwrap();
    unpack(&first);

    let (again, folders) = store(cache.path(), 2);
    assert!(again.has(&SMALL[0]) && !again.has(&SMALL[1]));
    for folder in [&folders.temporary, &folders.incoming, &again.tree()] {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "{}", folder.display());
    }
    assert_eq!(std::fs::read_dir(again.partial()).unwrap().count(), 4, "the wheels and three empty folders");
    again.prepare(false).unwrap();
    assert!(!again.has(&SMALL[0]), "--force starts clean");
}

#[test]
fn a_wheel_with_other_bytes_is_refused_and_removed() {
    let cache = tempfile::tempdir().unwrap();
    let (store, folders) = store(cache.path(), 1);
    let path = download(&folders, &SMALL[1], b"bx");
    let refused = store.accept(&SMALL[1], &path);
    assert!(matches!(refused, Err(Failure::Damaged { ref file, .. }) if file == SMALL[1].file), "{refused:?}");
    assert!(!path.exists() && !store.has(&SMALL[1]));
}

#[test]
fn a_finished_folder_is_whole_until_a_library_changes() {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = store(cache.path(), 1);
    unpack(&store);
    assert!(!is_whole(&store.finished(), &plan()));
    store.finish(&plan()).unwrap();
    assert!(is_whole(&store.finished(), &plan()));
    assert!(!store.partial().exists());

    let other = Plan { wheels: &SMALL[..1], ..plan() };
    assert!(!is_whole(&store.finished(), &other), "other wheels are another set-up");
    std::fs::write(store.finished().join("lib/libtorch_cpu.so"), "cut").unwrap();
    assert!(!is_whole(&store.finished(), &plan()));
}

#[test]
fn finishing_replaces_an_older_folder() {
    let cache = tempfile::tempdir().unwrap();
    let (first, _) = store(cache.path(), 1);
    unpack(&first);
    first.finish(&plan()).unwrap();
    std::fs::write(first.finished().join("old"), "").unwrap();

    let (again, _) = store(cache.path(), 2);
    unpack(&again);
    again.finish(&plan()).unwrap();
    assert!(is_whole(&again.finished(), &plan()) && !again.finished().join("old").exists());
}

#[test]
fn the_lock_holds_off_a_second_set_up() {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = store(cache.path(), 1);
    let held = store.lock(|| panic!("nobody holds it yet")).unwrap();
    let second = File::open(cache.path().join("setup.lock")).unwrap();
    assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
    drop(held);
    store.lock(|| panic!("it was released")).unwrap();
}

#[test]
fn the_need_for_room_shrinks_with_what_is_there() {
    assert_eq!(needed_bytes(&plan(), |_| false), 103);
    assert_eq!(needed_bytes(&plan(), |wheel| wheel.size == 1), 102);
    assert_eq!(needed_bytes(&plan(), |_| true), 100);
}
