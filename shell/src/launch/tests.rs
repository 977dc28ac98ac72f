//! Every place that can hold libtorch, in order, in folders made for the test.

use std::fs;

use super::*;

struct Tree {
    dir: tempfile::TempDir,
    places: Places,
}

impl Tree {
    /// A checkout with a launcher and an engine (a text file: no loader is asked), and nothing else.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap().join("checkout/target/release");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("hydra-test-engine{}", std::env::consts::EXE_SUFFIX)), "#!/bin/sh\n").unwrap();
        let places = Places {
            exe: folder.join("hydra-test"),
            cache: Some(dir.path().join("cache")),
            libtorch: None,
            loader_path: OsString::new(),
            python: None,
        };
        Self { dir, places }
    }

    /// A folder with libtorch's libraries below the tree.
    fn libtorch(&self, path: &str) -> PathBuf {
        let lib = self.dir.path().canonicalize().unwrap().join(path);
        fs::create_dir_all(&lib).unwrap();
        for name in names::LIBRARIES {
            fs::write(lib.join(name), "").unwrap();
        }
        lib
    }

    fn found(&self) -> (PathBuf, bool) {
        let found = find(&self.places).unwrap();
        (found.lib.canonicalize().unwrap(), found.by_itself)
    }

    /// What the engine would get as the loader's path.
    fn path(&self) -> Option<OsString> {
        let command = prepare("hydra-test", &self.places).unwrap();
        command.get_envs().find(|(key, _)| *key == names::LOADER_PATH).and_then(|(_, value)| Some(value?.to_owned()))
    }
}

#[test]
fn nothing_anywhere_names_the_next_step() {
    let mut tree = Tree::new();
    let failure = find(&tree.places).unwrap_err();
    assert_eq!(failure.exit, Exit::Libtorch);
    assert!(failure.hint.unwrap().contains("cargo xtask setup"));
    tree.places.libtorch = Some("/nowhere".into());
    assert!(find(&tree.places).unwrap_err().message.contains("LIBTORCH=/nowhere"));
    // Half a libtorch is none.
    let lib = tree.libtorch("half/lib");
    fs::remove_file(lib.join(names::LIBRARIES[1])).unwrap();
    tree.places.libtorch = Some(lib.parent().unwrap().into());
    assert!(find(&tree.places).is_err());
}

#[test]
fn the_cache_the_checkout_the_loader_and_the_user_in_rising_order() {
    let mut tree = Tree::new();
    tree.libtorch("cache/hydra/libtorch-1.0-old/lib");
    let cache = tree.libtorch("cache/hydra/libtorch-2.11.0-cpu/lib");
    assert_eq!(tree.found(), (cache.clone(), false));
    assert_eq!(tree.path(), Some(cache.into()));
    let cuda = tree.libtorch("cache/hydra/libtorch-2.11.0-cuda/lib");
    assert_eq!(tree.found(), (cuda, false));

    // A build with RUSTFLAGS of one's own has no run path, so this place is told to the loader too.
    let beside = tree.libtorch("checkout/.libtorch/lib");
    assert_eq!(tree.found(), (beside.clone(), false));
    assert_eq!(tree.path(), Some(beside.clone().into()));
    // Cargo's settings in the checkout name the same folder.
    tree.places.libtorch = Some(beside.parent().unwrap().into());
    assert_eq!(tree.found(), (beside, false));
    tree.places.libtorch = None;

    let loader = tree.libtorch("loader");
    tree.places.loader_path = std::env::join_paths([Path::new("/nowhere"), &loader]).unwrap();
    assert_eq!(tree.found(), (loader.clone(), true));
    assert_eq!(tree.path(), None);

    let own = tree.libtorch("own/lib");
    tree.places.libtorch = Some(own.parent().unwrap().into());
    assert_eq!(tree.found(), (own.clone(), false));
    assert_eq!(tree.path(), Some(std::env::join_paths([&own, Path::new("/nowhere"), &loader]).unwrap()));
    // The folder of the libraries itself is understood too.
    tree.places.libtorch = Some(own.clone().into());
    assert_eq!(tree.found(), (own, false));
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_to_no_libtorch_is_named() {
    let tree = Tree::new();
    let root = tree.dir.path().canonicalize().unwrap();
    let (link, cache) = (root.join("checkout/.libtorch"), root.join("home/libtorch"));
    std::os::unix::fs::symlink(&cache, &link).unwrap();
    let place = format!("{} leads to {}, which", link.display(), cache.display());
    assert_eq!(find(&tree.places).unwrap_err().message, format!("{place} is not there"));
    fs::create_dir_all(&cache).unwrap();
    let failure = find(&tree.places).unwrap_err();
    assert_eq!(failure.message, format!("{place} does not hold libtorch"));
    assert!(failure.hint.unwrap().contains("XDG_CACHE_HOME"));

    tree.libtorch("home/libtorch/lib");
    assert!(find(&tree.places).is_ok());
    let shut = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(root.join("home"), mode).unwrap();
    };
    shut(0);
    // Root may read everything.
    if fs::read_dir(root.join("home")).is_err() {
        assert_eq!(find(&tree.places).unwrap_err().message, format!("{place} this user cannot read"));
    }
    shut(0o700);
}

#[test]
fn the_cache_is_where_set_up_puts_it() {
    let folder = |xdg: &str, home: &str| cache_folder(Some(xdg.into()), Some(home.into()));
    let (one, two) = if cfg!(windows) { (r"C:\one", r"C:\two") } else { ("/one", "/two") };
    assert_eq!(folder(one, two), Some(one.into()));
    assert_eq!(folder("relative", two), Some(Path::new(two).join(".cache")));
    assert_eq!(cache_folder(None, None), None);
}

#[test]
fn pythons_pytorch_is_used_or_its_lack_told() {
    let mut tree = Tree::new();
    tree.libtorch("checkout/.libtorch/lib");
    tree.places.python = Some(|| None);
    assert!(find(&tree.places).unwrap_err().message.contains("LIBTORCH_USE_PYTORCH"));
    tree.places.python = Some(|| Some(PathBuf::from("/nowhere")));
    assert!(find(&tree.places).is_err());
}

#[test]
fn a_missing_engine_names_the_build() {
    let tree = Tree::new();
    let failure = prepare("hydra-other", &tree.places).unwrap_err();
    assert_eq!(failure.exit, Exit::Libtorch);
    assert!(failure.hint.unwrap().contains("cargo build --release -p hydra-other"));
}

#[test]
fn the_loaders_list_is_read() {
    let list = "\tlinux-vdso.so.1 (0x1)\n\tlibcudart.so.13 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\
                \tlibcudart.so.13 => not found\n";
    assert_eq!(missing_libraries(list), ["libcudart.so.13"]);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_program_that_lacks_nothing_passes_without_being_run() {
    // This test program itself: run for real, it would run all tests again.
    let exe = std::env::current_exe().unwrap();
    assert_eq!(check_dependencies(&exe, &Command::new(&exe), Path::new("lib")), Ok(()));
}
