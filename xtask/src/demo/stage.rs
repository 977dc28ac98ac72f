//! The demo's processes, their folder and the one channel on which everything that they say arrives.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::child::{self, Child, Message};
use crate::failure::Failure;
use crate::repo::Repo;

/// The coordinator's name in messages.
pub const COORDINATOR: &str = "coordinator";
/// From being asked to stop to being killed.
pub const GRACE: Duration = Duration::from_secs(15);

/// Everything that runs.
pub struct Stage {
    // In the order in which they must end if something fails: who asks, who works, the coordinator.
    asker: Option<Child>,
    workers: Vec<Child>,
    coordinator: Option<Child>,
    /// The coordinator's address as a URL.
    pub url: String,
    programs: PathBuf,
    environment: Option<(&'static str, OsString)>,
    /// Logs; the coordinator's run is in `run/` below.
    folder: PathBuf,
    started: Instant,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Stage {
    /// An empty stage for the programs of `repo`, with its logs in `folder`.
    pub fn new(repo: &Repo, folder: PathBuf) -> Result<Self, Failure> {
        let target = repo.target()?;
        let (sender, messages) = channel();
        child::forward_signals(sender.clone())?;
        Ok(Self {
            asker: None,
            workers: Vec::new(),
            coordinator: None,
            url: String::new(),
            environment: repo.library_path(),
            programs: target.join("release"),
            folder,
            started: Instant::now(),
            sender,
            messages,
        })
    }

    /// Starts the coordinator on a free port; the clock starts with it.
    pub fn start_coordinator(&mut self) -> Result<(), Failure> {
        let address = child::free_address()?.to_string();
        let mut command = self.program("hydra-coordinator");
        command
            .args(["--headless", "--json", "--preset", "tiny", "--listen", &address, "--run"])
            .arg(self.run_folder());
        self.url = format!("ws://{address}");
        self.started = Instant::now();
        self.coordinator = Some(self.spawn(COORDINATOR, &command)?);
        Ok(())
    }

    /// Starts the worker of `user`, with a key of its own.
    pub fn start_worker(&mut self, user: &str) -> Result<(), Failure> {
        let mut command = self.program("hydra-worker");
        command.args([user, &self.url, "--headless", "--json", "--threads", "1", "--key"]).arg(self.key(user));
        let worker = self.spawn(user, &command)?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a program that ends by itself; one at a time.
    pub fn start_asker(&mut self, name: &str, command: &Command) -> Result<(), Failure> {
        self.asker = Some(self.spawn(name, command)?);
        Ok(())
    }

    /// After the asker's output has ended: fails unless it succeeded.
    pub fn end_asker(&mut self, what: &str) -> Result<(), Failure> {
        let Some(mut asker) = self.asker.take() else { return Ok(()) };
        let status = asker.wait(GRACE)?;
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let status = status.map_or("the program did not end".to_owned(), |status| status.to_string());
        Err(Failure::Demo(format!("no {what} ({status}); the end of its log:\n{}", asker.last_words(10))))
    }

    /// The next message, if one comes until then.
    pub fn next(&self, until: Duration) -> Result<Option<Message>, Failure> {
        match self.messages.recv_timeout(until.saturating_sub(self.elapsed())) {
            Ok(Message::Interrupted) => Err(Failure::Interrupted),
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => unreachable!("this struct holds a sender"),
        }
    }

    /// Asks all workers to stop and hands them over.
    pub fn dismiss_workers(&mut self) -> Vec<Child> {
        self.asker = None;
        let workers = std::mem::take(&mut self.workers);
        workers.iter().for_each(Child::interrupt);
        workers
    }

    /// Asks the coordinator to stop and hands it over.
    pub fn dismiss_coordinator(&mut self) -> Option<Child> {
        let coordinator = self.coordinator.take();
        coordinator.iter().for_each(Child::interrupt);
        coordinator
    }

    /// A program that should have gone on has stopped: how, and the end of its log.
    pub fn died(&mut self, name: &str) -> Failure {
        let child = self.workers.iter_mut().chain(&mut self.coordinator).find(|child| child.name == name);
        let Some(child) = child else { return Failure::Demo(format!("{name} stopped")) };
        let status = match child.wait(GRACE) {
            Ok(Some(status)) => status.to_string(),
            _ => "its standard output is closed".to_owned(),
        };
        let who = if name == COORDINATOR { "the coordinator".to_owned() } else { format!("the worker of {name}") };
        Failure::Demo(format!("{who} stopped ({status}); the end of its log:\n{}", child.last_words(15)))
    }

    /// One of the built programs.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.program_path(name));
        command.envs(self.environment.clone());
        command
    }

    /// Where it is.
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// `hydra-query` for `user`.
    pub fn query(&self, user: &str) -> Command {
        let mut command = self.program("hydra-query");
        command.args([user, "--headless", "--json", "--coordinator", &self.url, "--key"]).arg(self.key(user));
        command
    }

    /// The coordinator's folder.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The file with the key of `user`.
    pub fn key(&self, user: &str) -> PathBuf {
        self.run_folder().join(format!("{user}.key"))
    }

    /// Since the first process was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn spawn(&self, name: &str, command: &Command) -> Result<Child, Failure> {
        Ok(Child::spawn(name, command, self.folder.join(format!("{name}.log")), self.sender.clone())?)
    }
}

/// What was wrong with how a program that was asked to stop did so.
pub fn fault_in_stopping(child: &Child, status: ExitStatus) -> Option<String> {
    let interrupted = status.code() == Some(130) || status.signal() == Some(signal_hook::consts::SIGINT);
    (!status.success() && !interrupted)
        .then(|| format!("{} stopped with {status}; the end of its log:\n{}", child.name, child.last_words(10)))
}
