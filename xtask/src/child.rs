//! Programs that this one starts and must not leave behind.
//!
//! Every child leads its own process group, so that a Ctrl-C in the terminal reaches only xtask, which then stops its
//! children in order. Dropping a [`Child`] kills it. On Linux the kernel kills it too when xtask itself is killed:
//! children are started through `xtask leash`, which asks for that and then becomes the program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

/// Longest line read from a child; the rest of a longer one is a line of its own.
const LINE_BYTES: u64 = 1 << 20;
/// Between two looks at whether a program has stopped.
pub const LOOK: Duration = Duration::from_millis(20);

/// What children and the terminal tell the main thread.
#[derive(Debug)]
pub enum Message {
    /// A line on a child's standard output.
    Line {
        /// The child's name.
        from: String,
        /// Without its line end.
        text: String,
    },
    /// A child's standard output has ended: it has stopped or is about to.
    Ended {
        /// The child's name.
        from: String,
    },
    /// Ctrl-C, or the system asks to stop.
    Interrupted,
}

/// A running program; killed on drop.
pub struct Child {
    /// As in the messages.
    pub name: String,
    /// Its standard error.
    pub log: PathBuf,
    process: std::process::Child,
}

impl Child {
    /// Starts `command`, appends its standard error to `log` and sends each line of its standard output to `messages`.
    ///
    /// Call from the main thread only: on Linux the child dies with the thread that started it.
    pub fn spawn(name: &str, command: &Command, log: PathBuf, messages: Sender<Message>) -> Result<Self> {
        let errors = File::options().create(true).append(true).open(&log)?;
        let mut process = leashed(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} could not be started", command.get_program().display()))?;
        let output = process.stdout.take().context("standard output was asked for as a pipe")?;
        let from = name.to_owned();
        std::thread::Builder::new().name(format!("read-{name}")).spawn(move || {
            forward(BufReader::new(output), &from, &messages);
        })?;
        Ok(Self { name: name.to_owned(), log, process })
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&self) {
        // It may have stopped by itself in the meantime.
        let _ = rustix::process::kill_process(self.pid(), Signal::INT);
    }

    /// Its exit status, if it has stopped.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Waits for its end, at most so long; nothing if it goes on.
    pub fn wait(&mut self, grace: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + grace;
        loop {
            let status = self.exited()?;
            if status.is_some() || Instant::now() >= until {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The last lines of its standard error.
    pub fn last_words(&self, lines: usize) -> String {
        last_lines(&self.log, lines)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // Its own children are in its group.
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

/// The same command, started so that it does not outlive this process where the system can do that.
pub fn leashed(command: &Command) -> Command {
    let mut leashed = if cfg!(target_os = "linux") {
        // Not the path of this program: it may have been built anew while it runs.
        let mut own = Command::new("/proc/self/exe");
        own.arg("leash").arg(std::process::id().to_string()).arg("--").arg(command.get_program());
        own
    } else {
        Command::new(command.get_program())
    };
    leashed.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        leashed.current_dir(folder);
    }
    leashed
}

/// Becomes `command`, after asking the kernel to end it together with `parent`. Returns only on failure.
pub fn become_leashed(parent: i32, command: &[OsString]) -> anyhow::Error {
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
            return anyhow::Error::new(error).context("the kernel refused a parent death signal");
        }
        // The parent may have died before the kernel was asked.
        if rustix::process::getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(parent) {
            return anyhow::anyhow!("the program that started this one is gone");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    let Some((program, arguments)) = command.split_first() else { return anyhow::anyhow!("no program named") };
    let error = Command::new(program).args(arguments).exec();
    anyhow::Error::new(error).context(format!("{} could not be started", program.display()))
}

/// Sends [`Message::Interrupted`] for every Ctrl-C, hang-up and request to terminate.
pub fn forward_signals(messages: Sender<Message>) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if messages.send(Message::Interrupted).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Whether `program` can be started with these arguments and succeeds.
pub fn succeeds(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// An address of this machine on which nobody listens now.
pub fn free_address() -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?)
}

/// The last lines of a file, "" if it cannot be read.
pub fn last_lines(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn forward(mut output: impl BufRead, from: &str, messages: &Sender<Message>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if messages.send(Message::Line { from: from.to_owned(), text }).is_err() {
            break;
        }
    }
    // Nobody listens when the demo is already over.
    let _ = messages.send(Message::Ended { from: from.to_owned() });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn lines_arrive_in_order_and_then_the_end() {
        let (sender, receiver) = channel();
        forward(&b"one\ntwo\r\nthree"[..], "x", &sender);
        drop(sender);
        let seen: Vec<String> = receiver
            .iter()
            .map(|message| match message {
                Message::Line { text, .. } => text,
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(seen, ["one", "two", "three", "Ended { from: \"x\" }"]);
    }

    #[test]
    fn the_last_lines_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "a\nb\nc\n").unwrap();
        assert_eq!(last_lines(&log, 2), "b\nc");
        assert_eq!(last_lines(&log, 9), "a\nb\nc");
        assert_eq!(last_lines(&folder.path().join("missing"), 2), "");
    }

    #[test]
    fn a_missing_program_does_not_succeed() {
        assert!(!succeeds("hydra-no-such-program", &[]));
        assert!(succeeds("true", &[]));
    }
}
