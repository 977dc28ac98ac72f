//! A coordinator, workers and chats as people start them, each in a terminal of its own.

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

/// Where the run and the keys are, and the coordinator's address.
pub struct Stage {
    folder: TempDir,
    address: String,
}

impl Stage {
    /// Starts the coordinator in a terminal and waits until it listens.
    pub fn open() -> (Self, Terminal) {
        let mut stage = Self { folder: tempfile::tempdir().unwrap(), address: String::new() };
        std::fs::write(stage.path("config.toml"), CONFIG).unwrap();
        let mut command = stage.program("hydra-coordinator");
        command.args(["--listen", "127.0.0.1:0", "--config"]).arg(stage.path("config.toml"));
        command.arg("--run").arg(stage.path("run"));
        let terminal = Terminal::start("coordinator", &command, (120, 40)).unwrap();
        let (address, _) = terminal.wait("its address", |screen| address(&screen.contents())).unwrap();
        stage.address = address;
        (stage, terminal)
    }

    /// A worker, with the key of its user.
    pub fn worker(&self, user: &str, size: (u16, u16)) -> Terminal {
        let mut command = self.program("hydra-worker");
        command.args([user, &self.address, "--device", "cpu", "--threads", "1", "--key"]).arg(self.key(user));
        let terminal = Terminal::start(user, &command, size).unwrap();
        terminal.wait_for("connected").unwrap();
        terminal
    }

    /// The command of a chat.
    pub fn chat_command(&self, user: &str) -> Command {
        let mut command = self.program("hydra-query");
        command.args([user, "--coordinator", &self.address, "--max-new-tokens", "60", "--key"]).arg(self.key(user));
        command
    }

    /// A chat that is connected.
    pub fn chat(&self, user: &str) -> Terminal {
        let terminal = Terminal::start("chat", &self.chat_command(user), (80, 24)).unwrap();
        terminal.wait_for("✓ connected").unwrap();
        terminal
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        // Nothing of the person who runs the test.
        command.env("HYDRA_CONFIG_DIR", self.path("config")).env_remove("HYDRA_PROGRAMS");
        command.current_dir(self.folder.path());
        command
    }

    fn key(&self, user: &str) -> PathBuf {
        self.path(&format!("{user}.key"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The folder with all programs, built if they are not; or, untouched, that which `HYDRA_PROGRAMS` names.
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
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--locked", "--workspace"]).current_dir(root);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        // About this test's package; build scripts of others would take it for a change.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
                cargo.env_remove(&name);
            }
        }
        if !own {
            // What `.cargo/config.toml` gives, passed on as a wish, would have libtorch's bindings compiled again.
            cargo.env_remove("LIBTORCH");
        }
        assert!(cargo.status().unwrap().success(), "the programs cannot be built");
        folder
    })
}

/// `127.0.0.1:PORT`, if it stands in a text.
fn address(text: &str) -> Option<String> {
    let at = text.find("127.0.0.1:")?;
    let port = text[at + 10..].split(|c: char| !c.is_ascii_digit()).next()?;
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

/// Characters of the answer in a chat, and whether it is complete: what it cost stands below it.
pub fn answer(screen: &Screen) -> Option<(usize, bool)> {
    let text = screen.contents();
    let mut lines = text.lines().skip_while(|line| line.trim() != "model");
    lines.next()?;
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with('╭')).collect();
    let done = lines.iter().any(|line| line.contains("0.5 HYD · "));
    Some((lines.iter().map(|line| line.trim().chars().count()).sum(), done))
}
