//! `cargo xtask torture`: a coordinator and its workers, killed and cut off again and again for minutes on real
//! sockets and a real disk; at the end every promise is judged from what they told and what the ledger holds.
//!
//! `kill -9` hits the coordinator, now and then while it starts, and the workers; all connections go through a proxy
//! that delays, stalls, cuts and splits them ([`proxy`] says what it duplicates). Questions are asked all along, and the
//! ledger is verified while all of it runs. The seed repeats the decisions; the moments differ each time.

mod books;
mod cast;
mod chance;
mod proxy;
mod record;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::child::Message;
use crate::failure::Failure;
use crate::repo::Repo;
use cast::{Cast, Part};
use chance::Chance;
use proxy::Counts;
use record::{Event, Record};
use verdict::Found;

/// The users of the workers, by place: alice has two machines.
const WORKERS: [&str; 3] = ["alice", "bob", "alice"];
/// Until the coordinator listens for the first time; it makes a tokenizer first.
const START_LIMIT: Duration = Duration::from_mins(3);
/// A coordinator that started lives this long at least, so that a slow machine gets anywhere at all.
const UP: Duration = Duration::from_secs(4);
/// Until everything has ended once it was asked to.
const END_LIMIT: Duration = Duration::from_mins(2);
/// What no log of a coordinator or worker may say.
const NEVER_SAID: [&str; 5] = ["panicked", "bug:", "cannot be used", "lost to the model", "are merged again"];

/// How to torture.
#[derive(clap::Args)]
pub struct Options {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Repeats the faults of an earlier run, though not its moments
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object at the end on standard output
    #[arg(long)]
    json: bool,
    /// Leave the run and the logs behind, here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Tortures, prints the invariants with their verdicts, and fails unless all hold.
pub fn run(repo: &Repo, options: &Options) -> Result<(), Failure> {
    let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let folder = match &options.keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("hydra-torture-{}", std::process::id())),
    };
    check_unused(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut torture = Torture::new(repo, &folder, seed)?;
    let length = Duration::from_secs_f64(options.minutes.max(0.1) * 60.0);
    eprintln!("torture: {:.1} minutes, --seed {seed}, in {}", options.minutes, folder.display());
    torture.inflict(length)?;
    torture.end()?;
    torture.look()?;
    let Torture { record, found, counts, .. } = &torture;
    let verdicts = verdict::judge(record, found);
    eprintln!("\n{}", told(counts));
    for verdict::Verdict { name, holds, detail } in &verdicts {
        eprintln!("  {} {name}: {detail}", if *holds { "✓" } else { "✗" });
    }
    if options.json {
        println!("{}", verdict::json(seed, record, found, &verdicts));
    }
    let broken: Vec<_> = verdicts.iter().filter(|verdict| !verdict.holds).map(|verdict| verdict.name).collect();
    if !broken.is_empty() {
        eprintln!("everything is in {}", folder.display());
        return Err(Failure::Torture(broken.join("; ")));
    }
    if options.keep.is_none() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    Ok(())
}

/// What an earlier torture left would be judged with this one's record, which does not know of it.
fn check_unused(folder: &Path) -> Result<()> {
    if folder.join("run").exists() {
        let folder = folder.display();
        bail!("{folder} holds the run of an earlier torture: remove it, or name another folder with --keep");
    }
    Ok(())
}

fn told(counts: &Counts) -> String {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{} connections: {} slowed, {} stalled, {} cut, {} whose answers were lost, {} left half-open, {} found nobody",
        of(&counts.connections),
        of(&counts.delayed),
        of(&counts.stalled),
        of(&counts.cut),
        of(&counts.deaf),
        of(&counts.lingering),
        of(&counts.refused)
    )
}

/// When what happens next.
struct Agenda {
    coordinator: Instant,
    worker: Instant,
    question: Instant,
    verify: Instant,
    word: Instant,
}

struct Torture {
    cast: Cast,
    chance: Chance,
    record: Record,
    found: Found,
    counts: Arc<Counts>,
    began: Instant,
    /// Since when the coordinator listens.
    ready: Option<Instant>,
    /// The coordinator dies again while it starts.
    early: bool,
    stopping: bool,
}

impl Torture {
    fn new(repo: &Repo, folder: &Path, seed: u64) -> Result<Self, Failure> {
        let listen = crate::child::free_address()?;
        let (proxy, counts) = proxy::start(listen, Chance::new(seed, 2))?;
        Ok(Self {
            cast: Cast::new(repo, folder, listen.to_string(), &proxy.to_string())?,
            chance: Chance::new(seed, 1),
            record: Record::default(),
            found: Found::default(),
            counts,
            began: Instant::now(),
            ready: None,
            early: false,
            stopping: false,
        })
    }

    fn inflict(&mut self, length: Duration) -> Result<(), Failure> {
        self.cast.coordinator()?;
        self.until(Instant::now() + START_LIMIT, |torture| torture.ready.is_some())?;
        if self.ready.is_none() {
            return Err(Failure::Torture("the coordinator did not start".to_owned()));
        }
        self.began = Instant::now();
        for (place, user) in WORKERS.iter().enumerate() {
            self.cast.worker(place, user)?;
        }
        let end = self.began + length;
        let after = |seconds| self.began + Duration::from_secs(seconds);
        let mut agenda = Agenda {
            coordinator: after(10),
            worker: after(8),
            question: after(12),
            verify: after(15),
            word: after(30),
        };
        while Instant::now() < end {
            let Agenda { coordinator, worker, question, verify, word } = agenda;
            let next = [coordinator, worker, question, verify, word, end].into_iter().min().unwrap_or(end);
            if let Some(message) = self.cast.next(next)? {
                self.take(message)?;
            }
            self.act(&mut agenda)?;
        }
        self.found.length = self.began.elapsed();
        Ok(())
    }

    fn act(&mut self, agenda: &mut Agenda) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= agenda.coordinator {
            let up = self.ready.is_some_and(|since| now.saturating_duration_since(since) >= UP);
            if up || self.early {
                self.kill_coordinator()?;
                // One in eight dies while it starts.
                self.early = self.chance.below(8) == 0;
                let pause = if self.early { (0.0, 0.6) } else { (5.0, 11.0) };
                agenda.coordinator = now + self.chance.seconds(pause.0, pause.1);
            } else {
                agenda.coordinator = now + UP / 8;
            }
        }
        if now >= agenda.worker {
            let place = self.chance.below(WORKERS.len());
            self.cast.kill(&Part::Worker(place));
            self.found.workers += 1;
            self.cast.worker(place, WORKERS[place])?;
            agenda.worker = now + self.chance.seconds(4.0, 11.0);
        }
        if now >= agenda.question {
            let user = WORKERS[self.chance.below(WORKERS.len())];
            if !WORKERS.iter().any(|user| self.cast.plays(&Part::Asker((*user).to_owned()))) {
                self.cast.asker(user)?;
                self.record.asks(user);
            }
            agenda.question = now + self.chance.seconds(3.0, 15.0);
        }
        if now >= agenda.verify {
            if !self.cast.plays(&Part::Verifier) {
                self.cast.verifier()?;
            }
            agenda.verify = now + self.chance.seconds(10.0, 25.0);
        }
        if now >= agenda.word {
            self.say();
            agenda.word = now + Duration::from_secs(30);
        }
        Ok(())
    }

    fn kill_coordinator(&mut self) -> Result<(), Failure> {
        self.cast.kill(&Part::Coordinator);
        self.record.killed(self.began.elapsed());
        self.found.coordinators += 1;
        self.ready = None;
        Ok(self.cast.coordinator()?)
    }

    fn say(&self) {
        let Record { credited, version, losses, lost, .. } = &self.record;
        let lost = lost.iter().max().copied().unwrap_or_default();
        eprintln!(
            "[{:>4} s] {} and {} kills, {} payments told, version {version}, loss {:.3}, at most {:.2} s lost",
            self.began.elapsed().as_secs(),
            self.found.coordinators,
            self.found.workers,
            credited.values().sum::<u64>(),
            losses.map_or(f64::NAN, |(_, last)| last),
            lost.as_secs_f64()
        );
    }

    fn until(&mut self, limit: Instant, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        while !done(self) {
            match self.cast.next(limit)? {
                Some(message) => self.take(message)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Line { from, text } => {
                let at = self.began.elapsed();
                match self.cast.part_of(&from) {
                    Some(Part::Coordinator) => {
                        let event = self.record.coordinator(at, &text);
                        if let Some(Event::Ready { .. }) = event {
                            self.ready = Some(Instant::now());
                        }
                    }
                    Some(Part::Worker(place)) => self.record.worker(WORKERS[place], &text),
                    Some(Part::Asker(user)) => self.record.asker(&user, &text),
                    Some(Part::Verifier) => self.record.verifier(&text),
                    // What a killed program managed to say still counts, if a worker or the coordinator said it.
                    None => self.posthumous(at, &from, &text),
                }
            }
            Message::Ended { from } => self.ended(&from)?,
            Message::Interrupted => return Err(Failure::Interrupted),
        }
        Ok(())
    }

    fn posthumous(&mut self, at: Duration, from: &str, text: &str) {
        let place = from.strip_prefix("worker-").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if let Some(place) = place {
            self.record.worker(WORKERS[place], text);
        } else if from.starts_with("coordinator.") && text.contains("\"accepted\"") {
            self.record.coordinator(at, text);
        }
    }

    fn ended(&mut self, name: &str) -> Result<(), Failure> {
        let Some((part, status, words)) = self.cast.ended(name)? else { return Ok(()) };
        let code = status.and_then(|status| status.code());
        let expected = match &part {
            Part::Verifier => code == Some(0),
            // Refused, too poor, no connection, or cut in mid-answer.
            Part::Asker(_) => matches!(code, Some(0 | 3 | 4 | 5)),
            Part::Coordinator | Part::Worker(_) => self.stopping && matches!(code, Some(0)),
        };
        if !expected {
            let status = status.map_or("without an end".to_owned(), |status| status.to_string());
            self.found.faults.push(format!("{name} stopped by itself, {status}: {words}"));
        }
        match part {
            Part::Coordinator if !self.stopping => self.cast.coordinator()?,
            Part::Worker(place) if !self.stopping => self.cast.worker(place, WORKERS[place])?,
            _ => {}
        }
        Ok(())
    }

    /// Lets everybody finish: askers and workers first, then the coordinator.
    fn end(&mut self) -> Result<(), Failure> {
        self.stopping = true;
        let limit = Instant::now() + END_LIMIT;
        self.cast.interrupt(|part| matches!(part, Part::Worker(_)));
        let all: Vec<_> = (0..WORKERS.len()).map(Part::Worker).chain([Part::Verifier]).collect();
        let askers = WORKERS.map(|user| Part::Asker(user.to_owned()));
        self.until(limit, |torture| !all.iter().chain(&askers).any(|part| torture.cast.plays(part)))?;
        self.until(limit, |torture| torture.ready.is_some())?;
        self.cast.interrupt(|part| *part == Part::Coordinator);
        self.until(limit, |torture| !torture.cast.plays(&Part::Coordinator))?;
        for part in all.iter().chain(&askers).chain([&Part::Coordinator]) {
            if self.cast.plays(part) {
                self.found.faults.push(format!("{part:?} did not stop within {} s", END_LIMIT.as_secs()));
            }
        }
        Ok(())
    }

    /// Reads what is left behind.
    fn look(&mut self) -> Result<()> {
        for line in self.lines(&["ledger", "verify"])? {
            self.record.verifier(&line);
        }
        self.found.export = self.lines(&["ledger", "export"])?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        self.found.leases = self
            .objects(&["users"])?
            .iter()
            .map(|user| (user["user"].as_str().unwrap_or_default().to_owned(), number(&user["tasks"])))
            .collect::<BTreeMap<_, _>>();
        self.found.version =
            self.objects(&["status"])?.first().map(|event| number(&event["status"]["version"])).unwrap_or_default();
        for (name, text) in self.cast.logs()? {
            let said = text.lines().filter(|line| NEVER_SAID.iter().any(|words| line.contains(words)));
            self.found.faults.extend(said.map(|line| format!("{name}: {line}")));
        }
        Ok(())
    }

    fn lines(&self, words: &[&str]) -> Result<Vec<String>> {
        let output = self.cast.command(words).output().context("hydra-coordinator could not be started")?;
        if !output.status.success() {
            bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    fn objects(&self, words: &[&str]) -> Result<Vec<Value>> {
        self.lines(words)?.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check_unused(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        assert!(check_unused(folder.path()).unwrap_err().to_string().contains("--keep"));
    }
}
