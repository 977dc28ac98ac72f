//! `cargo xtask demo`: one coordinator, two workers and two questions on this machine, told line by line.
//!
//! It reads events and waits for nothing else: every step follows from what the programs said, and each wait has a
//! limit after which the demo fails and says what it waited for. Whatever happens, no program outlives the demo.

mod events;
mod narrator;
mod stage;
mod story;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::child::LOOK;
use crate::child::{Child, Message};
use crate::failure::Failure;
use crate::repo::Repo;
use narrator::{Narrator, say};
use stage::{COORDINATOR, GRACE, Stage, fault_in_stopping};
use story::{ASK_BY, Story};

const WORKERS: [&str; 2] = ["alice", "bob"];
const ALICE: &str = WORKERS[0];
/// The names of programs that end by themselves, in messages: one that prints events, one whose lines are kept.
const QUERY: &str = "query";
const TOOL: &str = "tool";
/// Until the coordinator listens; it makes a tokenizer first.
const START_LIMIT: Duration = Duration::from_mins(2);
/// For one answer or one command.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
const FIRST_QUESTION: &str = "What is a neural network?";
const LAST_QUESTION: &str = "What is HydraAI?";

/// Runs the demo for `length`, counted from the start of the coordinator.
pub fn run(repo: &Repo, length: Duration, keep: bool) -> Result<(), Failure> {
    let folder = make_folder(repo, keep)?;
    let outcome = Demo::new(repo, folder.clone()).and_then(|mut demo| demo.play(length, keep));
    match &outcome {
        Ok(()) if !keep => std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?,
        Ok(()) => {}
        Err(_) => eprintln!("the demo's logs are in {}", folder.display()),
    }
    outcome
}

struct Demo {
    stage: Stage,
    story: Story,
    narrator: Narrator,
    /// The coordinator listens.
    ready: bool,
    /// The asker's standard output has ended.
    asker_done: bool,
    /// The last question has its whole answer.
    answered: bool,
    /// Ends are expected.
    stopping: bool,
    /// Lines of a one-off command.
    output: Vec<String>,
}

impl Demo {
    fn new(repo: &Repo, folder: PathBuf) -> Result<Self, Failure> {
        Ok(Self {
            stage: Stage::new(repo, folder)?,
            story: Story::default(),
            narrator: Narrator::default(),
            ready: false,
            asker_done: false,
            answered: false,
            stopping: false,
            output: Vec::new(),
        })
    }

    fn play(&mut self, length: Duration, keep: bool) -> Result<(), Failure> {
        let played = self.train_and_ask(length);
        if played.is_err() {
            self.narrator.silence();
            // The first failure is the one to report.
            let _ = self.stop();
            return played;
        }
        self.tell("stopping everything");
        self.stop()?;
        self.verify_ledger()?;
        say("");
        for (name, value) in self.story.report() {
            say(&format!("  {name:<14} {value}"));
        }
        self.print_next_steps(keep);
        Ok(())
    }

    fn train_and_ask(&mut self, length: Duration) -> Result<(), Failure> {
        say(&format!("\nOne coordinator, two workers (alice and bob), two questions, {} s.\n", length.as_secs()));
        self.stage.start_coordinator()?;
        self.wait_until(START_LIMIT, "the coordinator to be ready", |demo| demo.ready)?;
        for user in WORKERS {
            self.stage.start_worker(user)?;
        }
        while !self.story.should_ask(self.stage.elapsed(), ALICE) {
            let now = self.stage.elapsed();
            if now >= length {
                let why =
                    if self.story.has_credit() { "alice had too little to ask" } else { "nobody earned a credit" };
                return Err(Failure::Demo(format!("{why} within {} s", length.as_secs())));
            }
            self.step(if now < ASK_BY { ASK_BY.min(length) } else { length })?;
        }
        self.ask(ALICE, FIRST_QUESTION)?;
        while self.stage.elapsed() < length {
            self.step(length)?;
        }
        self.ask(ALICE, LAST_QUESTION)?;
        WORKERS.iter().try_for_each(|user| self.balance(user))
    }

    /// Asks and waits for the whole answer, which is shown as it comes.
    fn ask(&mut self, user: &str, question: &str) -> Result<(), Failure> {
        self.tell(&format!("{user} asks, for {:.1} HYD: {question}", story::PRICE));
        self.answered = false;
        self.narrator.begin_answer();
        let mut command = self.stage.query(user);
        command.args([question, "--max-new-tokens", "60"]);
        let done = self.run_to_end(QUERY, &command, "answer");
        for line in self.narrator.end_answer() {
            say(&line);
        }
        done?;
        if self.answered { Ok(()) } else { Err(Failure::Demo(format!("no whole answer to `{question}`"))) }
    }

    fn balance(&mut self, user: &str) -> Result<(), Failure> {
        let mut command = self.stage.query(user);
        command.arg("--balance");
        self.run_to_end(TOOL, &command, "balance")?;
        let told = self.output.iter().find_map(|line| match events::read(line) {
            Ok(events::Query::Balance { balance }) => Some(balance),
            _ => None,
        });
        let balance = told.ok_or_else(|| Failure::Demo(format!("hydra-query told no balance for {user}")))?;
        self.story.balance(user, balance);
        self.tell(&format!("{user} has {balance:.1} HYD"));
        Ok(())
    }

    fn verify_ledger(&mut self) -> Result<(), Failure> {
        let mut command = self.stage.program("hydra-coordinator");
        command.args(["ledger", "verify", "--run"]).arg(self.stage.run_folder());
        self.run_to_end(TOOL, &command, "verified ledger")?;
        self.tell("the ledger adds up");
        Ok(())
    }

    /// Runs a program that ends by itself; everything else goes on meanwhile. Fails unless it succeeds.
    fn run_to_end(&mut self, name: &str, command: &Command, what: &str) -> Result<(), Failure> {
        self.output.clear();
        self.asker_done = false;
        self.stage.start_asker(name, command)?;
        self.wait_until(ANSWER_LIMIT, what, |demo| demo.asker_done)?;
        self.stage.end_asker(what)
    }

    /// Asks the workers to stop, then the coordinator; kills what has not stopped after a grace.
    fn stop(&mut self) -> Result<(), Failure> {
        self.stopping = true;
        let mut faults = Vec::new();
        let workers = self.stage.dismiss_workers();
        self.await_end(workers, &mut faults)?;
        let coordinator = self.stage.dismiss_coordinator();
        self.await_end(coordinator, &mut faults)?;
        if faults.is_empty() { Ok(()) } else { Err(Failure::Demo(faults.join("; "))) }
    }

    /// Waits for children that were asked to stop and notes what was wrong with how they did. A child that takes longer
    /// than the grace is killed as it is dropped; a second Ctrl-C ends the wait for all.
    fn await_end(
        &mut self,
        children: impl IntoIterator<Item = Child>,
        faults: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let until = self.stage.elapsed() + GRACE;
        for mut child in children {
            loop {
                if let Some(status) = child.exited()? {
                    faults.extend(fault_in_stopping(&child, status));
                    break;
                }
                if self.stage.elapsed() >= until {
                    let grace = GRACE.as_secs();
                    faults.push(format!("{} did not stop within {grace} s and was killed", child.name));
                    break;
                }
                // What it says last, such as a credit on the way out, belongs to the report.
                match self.step(self.stage.elapsed() + LOOK) {
                    Err(Failure::Demo(fault)) => faults.push(fault),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn wait_until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let until = self.stage.elapsed() + limit;
        while !done(self) {
            if self.stage.elapsed() >= until {
                return Err(Failure::Demo(format!("waited {} s in vain: {what}", limit.as_secs())));
            }
            self.step(until)?;
        }
        Ok(())
    }

    /// Takes the next message, if one comes until then.
    fn step(&mut self, until: Duration) -> Result<(), Failure> {
        match self.stage.next(until)? {
            None => Ok(()),
            Some(Message::Interrupted) => Err(Failure::Interrupted),
            Some(Message::Line { from, text }) => self.line(&from, text),
            Some(Message::Ended { from }) => {
                if from == QUERY || from == TOOL {
                    self.asker_done = true;
                } else if !self.stopping {
                    return Err(self.stage.died(&from));
                }
                Ok(())
            }
        }
    }

    fn line(&mut self, from: &str, text: String) -> Result<(), Failure> {
        let at = self.stage.elapsed();
        let fault = |error: String| Failure::Demo(format!("{from} printed {error}"));
        let lines = match from {
            TOOL => {
                self.output.push(text);
                Vec::new()
            }
            // Nobody reads an answer to the end that the demo's end cuts off.
            QUERY if self.stopping => Vec::new(),
            QUERY => return self.query_event(at, events::read(&text).map_err(fault)?),
            COORDINATOR => {
                let event = events::read(&text).map_err(fault)?;
                if let events::Coordinator::Ready { addr, .. } = &event {
                    self.stage.url = format!("ws://{addr}");
                    self.ready = true;
                }
                self.story.coordinator(at, event)
            }
            user => self.story.worker(at, user, events::read(&text).map_err(fault)?),
        };
        for line in lines {
            self.narrator.tell(at, &line);
        }
        Ok(())
    }

    fn query_event(&mut self, at: Duration, event: events::Query) -> Result<(), Failure> {
        match event {
            events::Query::Token { text } => narrator::piece(&text),
            events::Query::Answer { tokens, version, val_loss, charged, balance } => {
                self.answered = true;
                self.story.answered(at);
                self.story.balance(ALICE, balance);
                let loss = val_loss.map_or(String::new(), |loss| format!(" (held-out loss {loss:.2})"));
                let line = format!(
                    "that was version {version}{loss}: {tokens} tokens for {charged:.1} HYD; alice has {balance:.1} HYD"
                );
                self.narrator.tell(at, &line);
            }
            events::Query::Refused { reason } => {
                return Err(Failure::Demo(format!("the question was refused: {reason}")));
            }
            events::Query::Balance { .. } | events::Query::Other => {}
        }
        Ok(())
    }

    fn tell(&mut self, line: &str) {
        self.narrator.tell(self.stage.elapsed(), line);
    }

    fn print_next_steps(&self, keep: bool) {
        let program = |name: &str| short(&self.stage.program_path(name));
        let (run, key) = if keep {
            (format!(" --run {}", short(&self.stage.run_folder())), format!(" --key {}", short(&self.stage.key(ALICE))))
        } else {
            (String::new(), String::new())
        };
        say("\nTo go on by hand, each in its own terminal:\n");
        say(&format!("  {}{run} --preset tiny", program("hydra-coordinator")));
        say(&format!("  {} {ALICE}{key}", program("hydra-worker")));
        say(&format!("  {} {ALICE}{key}", program("hydra-query")));
    }
}

/// Relative to where the user is, if it is below.
fn short(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// A fresh folder: `demo-run/N` to keep, else one among the temporary files.
fn make_folder(repo: &Repo, keep: bool) -> Result<PathBuf, Failure> {
    let (parent, name) = if keep {
        (repo.root.join("demo-run"), String::new())
    } else {
        (std::env::temp_dir(), format!("hydra-demo-{}-", std::process::id()))
    };
    std::fs::create_dir_all(&parent).with_context(|| format!("{}", parent.display()))?;
    for number in 1.. {
        let folder = parent.join(format!("{name}{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(anyhow::Error::new(error).context(format!("{}", folder.display())).into()),
        }
    }
    unreachable!("there is always another number")
}
