//! The programs under torture: started, killed, started again. Each start has a number in its name (`alice.3`), so
//! that the last lines of a killed one are not taken for the next one's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::child::{self, Child, Message};
use crate::failure::Failure;
use crate::repo::Repo;

/// From being asked to stop to being killed.
const GRACE: Duration = Duration::from_secs(30);
/// Small tasks, so that much happens between two kills, and few measurements, since each start makes one.
const CONFIG: &str = "preset = \"tiny\"

[tasks]
task_tokens = 8192
min_lease_seconds = 5

[rounds]
deadline_seconds = 20

[eval]
tokens = 2048
every_seconds = 5
";

/// Who can play which part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Coordinator,
    /// A worker: its place among the workers.
    Worker(usize),
    /// A question of this user.
    Asker(String),
    Verifier,
}

struct Actor {
    part: Part,
    child: Child,
}

/// All that run.
pub struct Cast {
    // In the order in which they must end if something fails.
    actors: Vec<Actor>,
    programs: PathBuf,
    environment: Option<(&'static str, OsString)>,
    folder: PathBuf,
    listen: String,
    url: String,
    started: u64,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Cast {
    /// Nobody yet; the coordinator will listen at `listen`, everybody else connect to `proxy`.
    pub fn new(repo: &Repo, folder: &Path, listen: String, proxy: &str) -> Result<Self, Failure> {
        let target = repo.target()?;
        let (sender, messages) = channel();
        child::forward_signals(sender.clone())?;
        std::fs::write(folder.join("torture.toml"), CONFIG).context("writing the settings")?;
        Ok(Self {
            actors: Vec::new(),
            environment: repo.library_path(),
            programs: target.join("release"),
            folder: folder.to_owned(),
            listen,
            url: format!("ws://{proxy}"),
            started: 0,
            sender,
            messages,
        })
    }

    /// Where the coordinator keeps its run.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.envs(self.environment.clone());
        command
    }

    fn key(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.key"))
    }

    /// `hydra-coordinator` with a subcommand on the run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.program("hydra-coordinator");
        command.args(words).args(["--json", "--run"]).arg(self.run_folder());
        command
    }

    /// Starts the coordinator.
    pub fn coordinator(&mut self) -> Result<()> {
        let mut command = self.program("hydra-coordinator");
        command
            .args(["--headless", "--json", "--listen", &self.listen, "--config"])
            .arg(self.folder.join("torture.toml"))
            .arg("--run")
            .arg(self.run_folder());
        self.start(Part::Coordinator, "coordinator", &command)
    }

    /// Starts the worker at a place, for a user. It rests a little after each task: the machine has other work.
    pub fn worker(&mut self, place: usize, user: &str) -> Result<()> {
        let mut command = self.program("hydra-worker");
        command
            .args([user, &self.url, "--headless", "--json", "--threads", "1", "--device", "cpu", "--pause", "0.5"])
            .arg("--key")
            .arg(self.key(user));
        self.start(Part::Worker(place), &format!("worker-{place}"), &command)
    }

    /// Asks a question.
    pub fn asker(&mut self, user: &str) -> Result<()> {
        let mut command = self.program("hydra-query");
        command
            .args([user, "What is a neural network?", "--max-new-tokens", "12", "--headless", "--json"])
            .args(["--coordinator", &self.url, "--key"])
            .arg(self.key(user));
        self.start(Part::Asker(user.to_owned()), "asker", &command)
    }

    /// Verifies the ledger, whether the coordinator runs or not.
    pub fn verifier(&mut self) -> Result<()> {
        let command = self.command(&["ledger", "verify"]);
        self.start(Part::Verifier, "verifier", &command)
    }

    fn start(&mut self, part: Part, name: &str, command: &Command) -> Result<()> {
        self.started += 1;
        let name_of = format!("{name}.{}", self.started);
        let log = self.folder.join(format!("{name}.log"));
        let child = Child::spawn(&name_of, command, log, self.sender.clone())?;
        self.actors.push(Actor { part, child });
        Ok(())
    }

    /// kill -9, if it plays.
    pub fn kill(&mut self, part: &Part) {
        self.actors.retain(|actor| actor.part != *part);
    }

    /// Whether somebody plays the part.
    pub fn plays(&self, part: &Part) -> bool {
        self.actors.iter().any(|actor| actor.part == *part)
    }

    /// Who has this name; nobody, if it was killed.
    pub fn part_of(&self, name: &str) -> Option<Part> {
        self.actors.iter().find(|actor| actor.child.name == name).map(|actor| actor.part.clone())
    }

    /// The next message before `until`.
    pub fn next(&self, until: Instant) -> Result<Option<Message>, Failure> {
        match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Interrupted) => Err(Failure::Interrupted),
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => unreachable!("this struct holds a sender"),
        }
    }

    /// Takes a program whose output has ended off the stage; how it ended, and its last words. Nothing if it was
    /// killed.
    pub fn ended(&mut self, name: &str) -> Result<Option<(Part, Option<ExitStatus>, String)>> {
        let Some(place) = self.actors.iter().position(|actor| actor.child.name == name) else { return Ok(None) };
        let Actor { part, mut child } = self.actors.remove(place);
        let status = child.wait(GRACE)?;
        Ok(Some((part, status, child.last_words(3))))
    }

    /// Asks everybody with such a part to stop, as Ctrl-C does; their ends come as messages.
    pub fn interrupt(&self, which: impl Fn(&Part) -> bool) {
        self.actors.iter().filter(|actor| which(&actor.part)).for_each(|actor| actor.child.interrupt());
    }

    /// Logs of all starts, by name.
    pub fn logs(&self) -> Result<Vec<(String, String)>> {
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                logs.push((path.file_name().unwrap_or_default().display().to_string(), text));
            }
        }
        logs.sort();
        Ok(logs)
    }
}
