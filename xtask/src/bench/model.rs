//! An exported `small` model to measure with: trained for a minute by the real programs, kept in `target/bench/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::child::{self, Child, Message};
use crate::failure::Failure;
use crate::repo::Repo;

/// Tasks of training: enough for answers that are words, so that the likeliest token stands out.
const TASKS: &str = "12";

/// Which model to set beside Python's `transformers`.
#[derive(clap::Args)]
pub struct Options {
    /// A Python with torch and transformers
    #[arg(long, value_name = "PATH")]
    pub python: PathBuf,
    /// A folder that `hydra-coordinator export` wrote [default: a small model trained for this]
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    folder: Option<PathBuf>,
    /// Text to train that small model on [default: the primer]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

impl Options {
    /// The model's folder.
    pub fn folder(&self, repo: &Repo) -> Result<PathBuf, Failure> {
        self.folder.clone().map_or_else(|| exported_small(repo, self.data.as_deref()), Ok)
    }
}

/// The folder with the model; made the first time.
pub fn exported_small(repo: &Repo, data: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = repo.target()?.join("bench").join(name(data)?);
    let exported = folder.join("exported");
    if !exported.join("model.safetensors").exists() {
        repo.build()?;
        train(repo, &folder, data)?;
        let mut export = program(repo, "hydra-coordinator")?;
        let done = export.arg("export").arg(&exported).arg("--run").arg(folder.join("run")).status();
        if !done.context("hydra-coordinator could not be started")?.success() {
            return Err(anyhow::anyhow!("the model could not be exported").into());
        }
    }
    Ok(exported)
}

/// What the model is called: that of another text, or of a text that was changed, is another one.
fn name(data: Option<&Path>) -> anyhow::Result<String> {
    let Some(data) = data else { return Ok("small".to_owned()) };
    let unreadable = || format!("{} cannot be read", data.display());
    // Of a folder of texts its place has to do.
    let content = if data.is_dir() {
        data.canonicalize().with_context(unreadable)?.into_os_string().into_encoded_bytes()
    } else {
        std::fs::read(data).with_context(unreadable)?
    };
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(&content).into();
    let stem = data.file_stem().unwrap_or_default();
    Ok(format!("small-{}-{:08x}", stem.display(), u32::from_be_bytes([a, b, c, d])))
}

fn train(repo: &Repo, folder: &Path, data: Option<&Path>) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let (sender, messages) = channel();
    child::forward_signals(sender.clone())?;
    let mut command = program(repo, "hydra-coordinator")?;
    command.args(["--headless", "--json", "--preset", "small", "--listen", "127.0.0.1:0", "--stop-after-tasks", TASKS]);
    command.arg("--run").arg(folder.join("run"));
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    let _coordinator = Child::spawn("coordinator", &command, folder.join("coordinator.log"), sender.clone())?;
    let address = wait_for(&messages, |event| event["event"] == "ready")?["addr"].clone();
    let address = address.as_str().context("ready tells the address")?.to_owned();
    eprintln!("training a model to measure with: {TASKS} tasks");
    let mut command = program(repo, "hydra-worker")?;
    command.args(["bench", &address, "--headless", "--json", "--key"]).arg(folder.join("bench.key"));
    let _worker = Child::spawn("worker", &command, folder.join("worker.log"), sender)?;
    wait_for(&messages, |event| event["event"] == "stopped" && event["reason"] == "tasks")?;
    // The coordinator's last word comes after everything is on disk.
    Ok(())
}

/// A built program, ready to be given arguments.
pub fn program(repo: &Repo, name: &str) -> Result<Command, Failure> {
    let target = repo.target()?;
    let mut command = Command::new(target.join("release").join(name));
    command.envs(repo.library_path());
    Ok(command)
}

/// Reads events until one is wanted.
pub fn wait_for(messages: &Receiver<Message>, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    loop {
        match messages.recv().context("no program is left")? {
            Message::Line { text, .. } => {
                let event: Value = serde_json::from_str(&text).with_context(|| format!("no event: {text}"))?;
                if wanted(&event) {
                    return Ok(event);
                }
            }
            Message::Ended { from } if from == "coordinator" => {
                return Err(anyhow::anyhow!("the {from} ended early; see its log in target/bench").into());
            }
            Message::Ended { .. } => {}
            Message::Interrupted => return Err(Failure::Interrupted),
        }
    }
}

/// Runs a Python program and reads the JSON line that it prints last.
pub fn python(python: &Path, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<Value> {
    let output = Command::new(python)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("{} could not be started", python.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{} failed", arguments.first().map(|first| first.display().to_string()).unwrap_or_default());
    }
    let line = printed.lines().last().context("Python printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("Python printed `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_a_model_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["a", "b"].map(|folder| dir.path().join(folder).join("input.txt"));
        for (path, text) in [(&one, "First."), (&other, "Second.")] {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let names = [None, Some(&*one), Some(&*other), one.parent()].map(|data| name(data).unwrap());
        assert_eq!(names[0], "small");
        assert!(names[1].starts_with("small-input-") && names[1] != names[2], "{names:?}");
        assert!(names[3].starts_with("small-a-"), "{names:?}");
        std::fs::write(&one, "Second.").unwrap();
        assert_eq!(name(Some(&one)).unwrap(), names[2]);
        assert!(name(Some(&dir.path().join("none.txt"))).is_err());
    }
}
