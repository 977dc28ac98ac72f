//! A coordinator, workers and chats as people start them, each in a terminal of its own.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hydra_pty::{Screen, Terminal};
use tempfile::TempDir;

/// A model so small that a task takes a moment, and answers that never are empty.
const CONFIG: &str = r#"
preset = "tiny"
tokenizer = "bytes"
[model]
width = 32
heads = 2
layers = 1
context = 32
[answers]
template = "{prompt}"
stop = []
"#;

/// The programs that can be made to panic, as examples: `panic_coordinator` and so on.
const BUGGY: [&str; 3] = ["coordinator", "worker", "query"];

/// A bug that waits for its moment in a program of [`Stage::buggy`].
pub struct Bug(TcpListener);

impl Bug {
    pub fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Now: a thread of the program panics.
    pub fn strike(self) {
        drop(self.0.accept().unwrap());
    }
}

/// Where the run and the keys are, and the coordinator's address.
pub struct Stage {
    folder: TempDir,
    address: String,
}

impl Stage {
    /// Starts the coordinator in a terminal and waits until it listens.
    pub fn open() -> (Self, Terminal) {
        Self::open_with(|stage| stage.program("hydra-coordinator"))
    }

    /// The same with another program in the coordinator's place.
    pub fn open_with(program: impl FnOnce(&Self) -> Command) -> (Self, Terminal) {
        let mut stage = Self { folder: tempfile::tempdir().unwrap(), address: String::new() };
        std::fs::write(stage.path("config.toml"), CONFIG).unwrap();
        let mut command = program(&stage);
        command.args(["--listen", "127.0.0.1:0", "--config"]).arg(stage.path("config.toml"));
        command.arg("--run").arg(stage.path("run"));
        let terminal = Terminal::start("coordinator", &command, (120, 40)).unwrap();
        let (address, _) = terminal.wait("its address", |screen| address(&screen.contents())).unwrap();
        stage.address = address;
        (stage, terminal)
    }

    /// A worker, with the key of its user.
    pub fn worker(&self, user: &str, size: (u16, u16)) -> Terminal {
        self.worker_with(self.program("hydra-worker"), user, size)
    }

    /// The same with another program in the worker's place.
    pub fn worker_with(&self, mut command: Command, user: &str, size: (u16, u16)) -> Terminal {
        command.args([user, &self.address, "--device", "cpu", "--threads", "1", "--key"]).arg(self.key(user));
        let terminal = Terminal::start(user, &command, size).unwrap();
        terminal.wait_for("connected").unwrap();
        terminal
    }

    /// The command of a chat.
    pub fn chat_command(&self, user: &str) -> Command {
        self.asking(self.program("hydra-query"), user)
    }

    fn asking(&self, mut command: Command, user: &str) -> Command {
        command.args([user, "--coordinator", &self.address, "--max-new-tokens", "60", "--key"]).arg(self.key(user));
        command
    }

    /// A chat that is connected.
    pub fn chat(&self, user: &str) -> Terminal {
        self.chat_with(self.program("hydra-query"), user)
    }

    /// The same with another program in the chat's place.
    pub fn chat_with(&self, command: Command, user: &str) -> Terminal {
        let terminal = Terminal::start("chat", &self.asking(command, user), (80, 24)).unwrap();
        terminal.wait_for("✓ connected").unwrap();
        terminal
    }

    /// A single question to a coordinator elsewhere, whose answer goes to a file.
    pub fn question(&self, user: &str, address: SocketAddr) -> Terminal {
        let mut command = self.command("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >answer"]).arg(programs().join("hydra-query"));
        command.args([user, "Anything?", "--coordinator", &address.to_string(), "--key"]).arg(self.key(user));
        Terminal::start("question", &command, (80, 24)).unwrap()
    }

    /// A shell that waits for a line.
    pub fn shell(&self) -> Terminal {
        // Where `sh` is a bash, this keeps it from changing the terminal at its prompt.
        std::fs::write(self.path("inputrc"), "set enable-bracketed-paste off\n").unwrap();
        let mut command = self.command("sh");
        command.arg("-i").env("PS1", "shell> ").env("INPUTRC", self.path("inputrc")).env_remove("ENV");
        let terminal = Terminal::start("shell", &command, (80, 24)).unwrap();
        terminal.wait_for("shell> ").unwrap();
        terminal
    }

    /// One of [`BUGGY`]: the real program and a thread that panics when `bug` strikes.
    pub fn buggy(&self, name: &str, bug: &Bug) -> Command {
        let mut command = self.program(&format!("examples/panic_{name}"));
        // A trace would push the message out of sight.
        command.env("PANIC_AT", bug.address().to_string()).env("RUST_BACKTRACE", "0");
        command
    }

    fn program(&self, name: &str) -> Command {
        self.command(programs().join(name))
    }

    /// A command that sees nothing of the person who runs the test.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HYDRA_") {
                command.env_remove(name);
            }
        }
        command.env("HYDRA_CONFIG_DIR", self.path("config")).env("HYDRA_CACHE_DIR", self.path("cache"));
        command.current_dir(self.folder.path());
        command
    }

    fn key(&self, user: &str) -> PathBuf {
        self.path(&format!("{user}.key"))
    }

    /// A file of this stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The folder with all programs, and those of [`BUGGY`] in its folder `examples`, built if they are not; or, untouched,
/// that which `HYDRA_PROGRAMS` names.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("HYDRA_PROGRAMS") {
            return PathBuf::from(folder);
        }
        let folder = Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap().to_owned();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let given = |name| std::env::var_os(name).is_some_and(|value| Path::new(&value) != root.join(".libtorch"));
        let own = given("LIBTORCH");
        let found = own || given("LIBTORCH_USE_PYTORCH") || root.join(".libtorch").exists();
        assert!(found, "this test needs libtorch: run `cargo xtask setup` once");
        build(root, folder.ends_with("release"), own, &[]);
        // By itself, since examples bring features along that the programs are not to have.
        let examples = BUGGY.map(|name| format!("--example=panic_{name}"));
        build(root, folder.ends_with("release"), own, &examples);
        folder
    })
}

/// Builds the workspace, or what `only` says of it.
fn build(root: &Path, release: bool, own_libtorch: bool, only: &[String]) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--workspace"]).args(only).current_dir(root);
    if release {
        cargo.arg("--release");
    }
    // About this test's package; build scripts of others would take it for a change.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    if !own_libtorch {
        // What `.cargo/config.toml` gives, passed on as a wish, would have libtorch's bindings compiled again.
        cargo.env_remove("LIBTORCH");
    }
    assert!(cargo.status().unwrap().success(), "the programs cannot be built");
}

/// `127.0.0.1:PORT`, if it stands in a text.
fn address(text: &str) -> Option<String> {
    let rest = text.split_once("127.0.0.1:")?.1;
    // Without anything behind them the digits may be but the first ones.
    let port = &rest[..rest.find(|c: char| !c.is_ascii_digit())?];
    (!port.is_empty() && port != "0").then(|| format!("127.0.0.1:{port}"))
}

/// The balance in the header of a worker or chat, in whole HYD.
pub fn balance(screen: &Screen) -> Option<f64> {
    let text = screen.contents();
    let before = text.lines().next()?.split(" HYD").next()?;
    before.rsplit([' ', '·']).next()?.parse().ok()
}

/// The last place of the loss chart: 170 in `step 0–170`.
pub fn last_step(screen: &Screen) -> Option<f64> {
    let text = screen.contents();
    let after = text.split_once("step 0–").or_else(|| text.split_once("step 1–"))?.1;
    let number = after.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let scale = if after[number.len()..].starts_with('k') { 1e3 } else { 1.0 };
    number.parse::<f64>().ok().map(|number| number * scale)
}

/// Cells with dots of the chart.
pub fn dotted(screen: &Screen) -> usize {
    screen.contents().chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count()
}

/// Characters of the answer in a chat, and whether it is complete: what it cost stands below it, or that there is none.
pub fn answer(screen: &Screen) -> Option<(usize, bool)> {
    let text = screen.contents();
    let mut lines = text.lines().skip_while(|line| line.trim() != "model");
    lines.next()?;
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with('╭')).collect();
    let done = lines.iter().any(|line| line.contains("0.5 HYD · ") || line.contains("nothing to say"));
    Some((lines.iter().map(|line| line.trim().chars().count()).sum(), done))
}
