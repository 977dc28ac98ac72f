//! The thin launcher: finds libtorch, then becomes the real program beside it.
//!
//! A program that links libtorch cannot even say that libtorch is missing: the system's loader ends it before
//! `main`. So `hydra-worker` links no libtorch; it looks for one, says what to do if there is none, and otherwise
//! runs `hydra-worker-engine` from its own folder with the same arguments. On Unix it becomes that program (same
//! process, same signals); elsewhere it waits for it and passes its exit code on.
//!
//! What the user named wins (`LIBTORCH_USE_PYTORCH`, `LIBTORCH`, the loader's own path), then the checkout's
//! `.libtorch`, then what `cargo xtask setup` left in the cache. The loader is always told: the engine's run path names
//! `.libtorch` too, but only if no `RUSTFLAGS` in the environment took the place of the checkout's own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::exit::{Exit, Failure, report};

/// The folder in the user's cache that `cargo xtask setup` unpacks into begins with this.
const CACHED: &str = "libtorch-2.11.0-";
/// And ends with this if it is made for NVIDIA cards.
const CUDA: &str = "-cuda";

#[cfg(target_os = "windows")]
mod names {
    pub const LIBRARIES: [&str; 2] = ["torch_cpu.dll", "c10.dll"];
    pub const LOADER_PATH: &str = "PATH";
    pub const PYTHON: &str = "python";
}
#[cfg(target_os = "macos")]
mod names {
    pub const LIBRARIES: [&str; 2] = ["libtorch_cpu.dylib", "libc10.dylib"];
    pub const LOADER_PATH: &str = "DYLD_LIBRARY_PATH";
    pub const PYTHON: &str = "python3";
}
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
mod names {
    pub const LIBRARIES: [&str; 2] = ["libtorch_cpu.so", "libc10.so"];
    pub const LOADER_PATH: &str = "LD_LIBRARY_PATH";
    pub const PYTHON: &str = "python3";
}

/// All of `main` of a launcher: runs `{name}-engine` with this process's arguments. Returns only if that failed, or
/// where a process cannot become another.
pub fn launch(name: &str) -> ExitCode {
    match prepare(name, &Places::of_this_process()) {
        Ok(command) => run(command),
        Err(failure) => report(Err(failure.into())),
    }
}

/// Where to look.
struct Places {
    /// The launcher itself.
    exe: PathBuf,
    /// The user's cache folder.
    cache: Option<PathBuf>,
    libtorch: Option<OsString>,
    loader_path: OsString,
    /// Asked only if the user wants Python's PyTorch: the folder of the package `torch`.
    python: Option<fn() -> Option<PathBuf>>,
}

impl Places {
    fn of_this_process() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            exe: std::env::current_exe().and_then(|exe| exe.canonicalize()).unwrap_or_default(),
            cache: cache_folder(set("XDG_CACHE_HOME"), set("HOME")),
            libtorch: set("LIBTORCH"),
            loader_path: std::env::var_os(names::LOADER_PATH).unwrap_or_default(),
            python: set("LIBTORCH_USE_PYTORCH").filter(|value| value != "0").map(|_| torch_of_python as fn() -> _),
        }
    }

    fn folder(&self) -> &Path {
        self.exe.parent().unwrap_or(Path::new("."))
    }

    /// The checkout's `.libtorch`, of a program in `target/release/` and of one a folder deeper.
    fn beside(&self) -> impl Iterator<Item = PathBuf> {
        self.folder().ancestors().skip(2).take(2).map(|root| root.join(".libtorch"))
    }
}

/// The cache folder by the rule of `cargo xtask setup`, which is the same on every system.
fn cache_folder(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".cache")))
}

/// The engine's command, with an environment in which the loader finds libtorch.
fn prepare(name: &str, places: &Places) -> Result<Command, Failure> {
    let engine = places.folder().join(format!("{name}-engine{}", std::env::consts::EXE_SUFFIX));
    if !engine.is_file() {
        return Err(Failure::new(Exit::Libtorch, format!("{} is not there", engine.display()))
            .hint(format!("build it with: cargo build --release -p {name}; and keep both programs in one folder")));
    }
    let found = find(places)?;
    let mut command = Command::new(&engine);
    command.args(std::env::args_os().skip(1));
    // The engine's usage lines should name the program that the user typed.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    if let Some(path) = found.loader_path(places) {
        command.env(names::LOADER_PATH, path);
    }
    check_dependencies(&engine, &command, &found.lib)?;
    Ok(command)
}

/// A folder with libtorch's libraries, and whether the loader finds it without help.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    lib: PathBuf,
    by_itself: bool,
}

impl Found {
    /// What to set the loader's path to.
    fn loader_path(&self, places: &Places) -> Option<OsString> {
        if self.by_itself {
            return None;
        }
        let old = std::env::split_paths(&places.loader_path).filter(|path| !path.as_os_str().is_empty());
        // Fails only for a folder whose name holds the separator; the engine then says what it lacks.
        std::env::join_paths(std::iter::once(self.lib.clone()).chain(old)).ok()
    }
}

fn find(places: &Places) -> Result<Found, Failure> {
    let needs_path = |lib: PathBuf| holds_libtorch(&lib).then_some(Found { lib, by_itself: false });
    let finds_itself = |lib: PathBuf| holds_libtorch(&lib).then_some(Found { lib, by_itself: true });
    if let Some(torch) = places.python {
        let python = names::PYTHON;
        return torch().and_then(|torch| needs_path(torch.join("lib"))).ok_or_else(|| {
            Failure::new(Exit::Libtorch, format!("LIBTORCH_USE_PYTORCH is set, but {python} finds no PyTorch"))
                .hint("activate the environment that holds PyTorch 2.11, or unset LIBTORCH_USE_PYTORCH")
        });
    }
    let named = places.libtorch.as_deref().map(Path::new);
    named
        .into_iter()
        .flat_map(|named| [named.join("lib"), named.to_owned()])
        .find_map(needs_path)
        .or_else(|| std::env::split_paths(&places.loader_path).find_map(finds_itself))
        .or_else(|| places.beside().find_map(|libtorch| needs_path(libtorch.join("lib"))))
        .or_else(|| cached(places.cache.as_deref()?).find_map(|folder| needs_path(folder.join("lib"))))
        .ok_or_else(|| missing(places))
}

/// Why there is no libtorch: a link of the checkout that does not lead to one, or none anywhere.
fn missing(places: &Places) -> Failure {
    let named = places.libtorch.as_deref().map(Path::new);
    let named = named.map_or_else(String::new, |path| format!(" (LIBTORCH={} holds none)", path.display()));
    if let Some(fault) = places.beside().find_map(|libtorch| fault(&libtorch)) {
        return Failure::new(Exit::Libtorch, format!("{fault}{named}")).hint(
            "remove .libtorch and set up again where this user may read: XDG_CACHE_HOME=FOLDER cargo xtask setup; or \
             name the folder of libtorch 2.11 with LIBTORCH=FOLDER",
        );
    }
    Failure::new(Exit::Libtorch, format!("libtorch is missing{named}"))
        .hint("get it with: cargo xtask setup; or name the folder of libtorch 2.11 with LIBTORCH=FOLDER")
}

/// What is wrong with a `.libtorch` that is there; nothing if there is none.
fn fault(libtorch: &Path) -> Option<String> {
    std::fs::symlink_metadata(libtorch).ok()?;
    let place = match std::fs::read_link(libtorch) {
        Ok(target) => format!("{} leads to {}, which", libtorch.display(), target.display()),
        Err(_) => libtorch.display().to_string(),
    };
    // Set-up links into the cache of whoever ran it, and a service's user may not look into another's home.
    let errors = names::LIBRARIES.map(|name| std::fs::metadata(libtorch.join("lib").join(name)).err());
    let denied = errors.iter().flatten().any(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    Some(if denied {
        format!("{place} this user cannot read")
    } else if libtorch.exists() {
        format!("{place} does not hold libtorch")
    } else {
        format!("{place} is not there")
    })
}

fn holds_libtorch(lib: &Path) -> bool {
    // An empty entry of a path list means the working folder, from which nothing should be loaded.
    !lib.as_os_str().is_empty() && names::LIBRARIES.iter().all(|name| lib.join(name).is_file())
}

/// The versions in the cache, in the order of their names, those for graphics cards first: they know the CPU, too.
fn cached(cache: &Path) -> impl Iterator<Item = PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(cache.join("hydra"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(CACHED)))
        .collect();
    folders.sort_by_key(|path| (!path.to_string_lossy().ends_with(CUDA), path.clone()));
    folders.into_iter()
}

/// Where Python keeps PyTorch; without importing it, which takes seconds.
fn torch_of_python() -> Option<PathBuf> {
    let script = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    let output = Command::new(names::PYTHON).args(["-c", script]).output().ok().filter(|out| out.status.success())?;
    String::from_utf8(output.stdout).ok().map(|path| PathBuf::from(path.trim_end()))
}

/// Asks the loader, as `ldd` does, what it would not find: the loader's own message names neither cause nor remedy.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn check_dependencies(engine: &Path, command: &Command, lib: &Path) -> Result<(), Failure> {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let is_elf = std::fs::File::open(engine).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    // Only the loader understands the question; anything else would simply run.
    if !is_elf || magic != *b"\x7fELF" {
        return Ok(());
    }
    let mut ask = Command::new(engine);
    ask.env("LD_TRACE_LOADED_OBJECTS", "1");
    for (key, value) in command.get_envs() {
        ask.env(key, value.unwrap_or_default());
    }
    let Ok(output) = ask.output() else { return Ok(()) };
    let missing = missing_libraries(&String::from_utf8_lossy(&output.stdout));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Libtorch, format!("libtorch in {} needs {}, not found", lib.display(), missing.join(", ")))
        .hint("get a complete libtorch with: cargo xtask setup; or install the missing library"))
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn check_dependencies(_engine: &Path, _command: &Command, _lib: &Path) -> Result<(), Failure> {
    Ok(())
}

/// The names in the loader's list that lead nowhere.
#[cfg(any(test, all(target_os = "linux", target_env = "gnu")))]
fn missing_libraries(list: &str) -> Vec<String> {
    let mut names: Vec<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_suffix("=> not found"))
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(unix)]
fn run(mut command: Command) -> ExitCode {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    report(Err(cannot_run(&command, &error).into()))
}

#[cfg(not(unix))]
fn run(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => status.code().map_or(Exit::Bug.into(), |code| ExitCode::from(code as u8)),
        Err(error) => report(Err(cannot_run(&command, &error).into())),
    }
}

fn cannot_run(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Libtorch, format!("cannot run {}: {error}", command.get_program().display()))
        .hint("build both programs again, for this machine: cargo build --release -p hydra-worker -p hydra-coordinator")
}

#[cfg(test)]
mod tests;
