//! First use, second use, two at once, and files that must be refused.

use std::sync::Barrier;

use super::*;

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

#[test]
fn the_first_use_makes_a_key_and_the_second_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = ConfigDir::at(dir.path().join("deep/hydra"));
    let made = config.identity(Some(user("alice")), None).unwrap();
    let found = config.identity(Some(user("alice")), None).unwrap();
    assert_eq!(made.public(), found.public());
    assert_eq!(made.path, dir.path().join("deep/hydra/keys/alice.key"));
    assert_ne!(config.identity(Some(user("bob")), None).unwrap().public(), made.public());
    let left: Vec<_> = fs::read_dir(made.path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 2, "no draft is left behind: {left:?}");
}

#[test]
fn a_key_file_of_ones_own_is_used_and_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = ConfigDir::at(dir.path());
    let file = dir.path().join("my.key");
    let made = config.identity(Some(user("alice")), Some(&file)).unwrap();
    assert_eq!(load_or_create(&file, Remedy::FILE).unwrap().to_bytes(), made.key.to_bytes());
    assert!(!config.key_path(&user("alice")).exists());
}

#[test]
fn the_default_user_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let config = ConfigDir::at(dir.path());
    let made = config.default_user().unwrap();
    assert!(!dir.path().join("default-user").exists(), "a coordinator has taken none");
    assert!(made.as_str().starts_with("user-") && made.as_str().len() == 11, "{made}");
    assert_eq!(config.default_user().unwrap(), made);
    fs::write(dir.path().join("default-user"), "carol\n").unwrap();
    assert_eq!(config.default_user().unwrap(), user("carol"));
    fs::write(dir.path().join("default-user"), "not a name\n").unwrap();
    assert_eq!(config.default_user().unwrap_err().exit, Exit::Config);
}

#[test]
fn the_first_name_that_a_coordinator_takes_is_the_default_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = ConfigDir::at(dir.path());
    let refused = config.identity(Some(user("taken")), None).unwrap();
    assert_eq!(refused.user, user("taken"));
    for name in ["alice", "bob"] {
        let identity = config.identity(Some(user(name)), None).unwrap();
        assert_eq!(identity.user, user(name));
        identity.remember.keep();
        assert_eq!(config.identity(None, None).unwrap().user, user("alice"));
    }
}

#[test]
fn who_gives_a_key_alone_has_a_name_of_that_key_and_leaves_the_folder_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (config, [one, two]) = (ConfigDir::at(dir.path()), ["one", "two"].map(|name| dir.path().join(name)));
    let with = |file: &Path| config.identity(None, Some(file)).unwrap();
    let first = with(&one);
    first.remember.keep();
    assert_eq!(with(&one).user, first.user);
    assert_ne!(with(&two).user, first.user);
    assert!(!dir.path().join("default-user").exists() && !dir.path().join("made-up-user").exists());
    config.identity(Some(user("hugo")), None).unwrap().remember.keep();
    assert_eq!(with(&two).user, user("hugo"));
}

#[test]
fn many_that_start_at_once_share_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/alice.key");
    let barrier = Barrier::new(8);
    let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            load_or_create(&path, Remedy::FILE).unwrap().to_bytes()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/alice.key");
    load_or_create(&path, Remedy::FILE).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    for open in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let failure = load_or_create(&path, Remedy::FILE).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        let hint = failure.hint.unwrap();
        assert!(hint.contains("chmod 600") && hint.contains("with --key FILE, on another disk"), "{hint}");
    }
}

#[test]
fn wrong_content_is_refused_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.key");
    let digits = "ab".repeat(32);
    write_private(&path, &format!("  {KEY_LABEL} {}\n", digits.to_uppercase())).unwrap();
    assert_eq!(load_or_create(&path, Remedy::FILE).unwrap().to_bytes(), [0xab; 32]);
    for wrong in [
        String::new(),
        digits.clone(),
        format!("{KEY_LABEL}{digits}"),
        format!("{KEY_LABEL} {}", &digits[1..]),
        format!("{KEY_LABEL} {digits}00"),
        format!("{KEY_LABEL} {}zz", &digits[2..]),
        format!("{KEY_LABEL} {}é", &digits[2..]),
        format!("{KEY_LABEL} {}", "+a".repeat(32)),
        format!("{KEY_LABEL} {digits}\nmore"),
    ] {
        fs::remove_file(&path).unwrap();
        write_private(&path, &wrong).unwrap();
        let failure = load_or_create(&path, Remedy::FILE).expect_err(&wrong);
        assert_eq!(failure.exit, Exit::Config);
        assert!(!failure.to_string().contains("abab"), "{failure}");
        assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
    }
    fs::write(&path, [0xff; 2000]).unwrap();
    assert_eq!(load_or_create(&path, Remedy::FILE).unwrap_err().exit, Exit::Config);
}

#[test]
fn a_folder_that_cannot_be_made_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let run = Remedy { exit: Exit::RunFolder, elsewhere: "choose another folder with --run DIR" };
    for remedy in [Remedy::FILE, Remedy::FOLDER, run] {
        let failure = load_or_create(&dir.path().join("file/keys/a.key"), remedy).unwrap_err();
        assert_eq!(failure.exit, remedy.exit);
    }
    let failure = load_or_create(dir.path(), Remedy::FILE).unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
}

#[cfg(target_os = "linux")]
#[test]
fn who_chose_the_place_is_told_how_to_choose_another() {
    let hint = |config: &Path, key: Option<&Path>| {
        ConfigDir::at(config).identity(Some(user("alice")), key).unwrap_err().hint.unwrap()
    };
    // Nobody can make a folder there, not even root.
    let nowhere = Path::new("/proc/hydra");
    assert!(hint(nowhere, None).contains("HYDRA_CONFIG_DIR"));
    assert!(hint(nowhere, Some(&nowhere.join("a.key"))).contains("--key FILE"));
}

#[test]
fn debugging_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let identity = ConfigDir::at(dir.path()).identity(Some(user("alice")), None).unwrap();
    let shown = format!("{identity:?} {:?}", identity.key);
    assert!(!shown.contains(&hex(&identity.key.to_bytes())), "{shown}");
    assert!(!shown.contains(&format!("{:?}", identity.key.to_bytes())), "{shown}");
}

#[test]
fn random_bytes_differ() {
    assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
}
