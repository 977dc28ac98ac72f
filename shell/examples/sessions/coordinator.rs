//! The coordinator's process: its settings, its memory, and what it says about its pushes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::PACE_MS;

/// A model so small that sending it to every worker is soon done; a task at a steady pace, whoever waits for it.
fn settings() -> String {
    format!(
        "listen = '127.0.0.1:0'\npreset = 'tiny'\ntokenizer = 'bytes'\n[model]\nwidth = 32\nheads = 2\nlayers = 1\n\
         context = 32\n[tasks]\nqueue = 1\nrate_per_minute = {}\nfirst_lease_seconds = 600\n",
        60_000 / PACE_MS
    )
}

/// The lines of a file that grows.
struct Lines {
    file: BufReader<File>,
    /// The beginning of a line that is not whole yet.
    part: String,
}

impl Lines {
    async fn next(&mut self) -> anyhow::Result<String> {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            self.file.read_line(&mut self.part)?;
            if self.part.ends_with('\n') {
                return Ok(std::mem::take(&mut self.part));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the coordinator says nothing any more")
    }
}

/// A running coordinator; killed when dropped, with its folder.
pub struct Coordinator {
    child: Child,
    lines: Lines,
    address: String,
    folder: PathBuf,
}

impl Coordinator {
    /// Starts `program` and waits until it is ready.
    pub async fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("hydra-sessions-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("config.toml");
        std::fs::write(&config, settings())?;
        // A file: a pipe would wake this process, which also waits for the tasks, with each line about a task.
        let events = folder.join("events");
        let child = Command::new(program)
            .args(["--headless", "--json", "--config"])
            .arg(&config)
            .arg("--run")
            .arg(folder.join("run"))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&events)?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let mut lines = Lines { file: BufReader::new(File::open(&events)?), part: String::new() };
        let ready: Value = serde_json::from_str(&lines.next().await?)?;
        let address = ready["addr"].as_str().context("the first event is `ready`")?.to_owned();
        Ok(Self { child, lines, address, folder })
    }

    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Bytes in memory.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let id = self.child.id().context("the coordinator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("only Linux tells (/proc)")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
    }

    /// Microseconds from a task's making to its arrival, of those that were made after `since` for a waiting worker.
    /// And microseconds from its making until the coordinator's system had it.
    pub async fn waits(&mut self, arrivals: &[(u64, u64)], since: u64) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let (mut made, mut taken) = (BTreeMap::new(), Vec::new());
        while made.len() < arrivals.len() {
            let line = self.lines.next().await?;
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == "pushed" {
                let number = |key: &str| event[key].as_u64().with_context(|| format!("`{key}` in {line}"));
                let at = number("at_us")?.saturating_sub(number("wait_us")?);
                made.insert(number("task")?, at);
                if at > since {
                    taken.push(number("wait_us")? as f64);
                }
            }
        }
        let waits: Vec<f64> = arrivals
            .iter()
            .filter_map(|(task, arrived)| Some((*made.get(task)?, *arrived)))
            .filter(|(made, _)| *made > since)
            .map(|(made, arrived)| arrived.saturating_sub(made) as f64)
            .collect();
        if waits.len() < 50 {
            bail!("only {} tasks were made while workers waited for them: take more workers", waits.len());
        }
        Ok((waits, taken))
    }

    /// Kills it and removes its folder.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}
