//! A program in a real pseudo-terminal: keys go in, complete frames come out, and it can be asked how the terminal was
//! left.
//!
//! Waiting is for something to be on the screen ([`Terminal::wait`]): each frame is looked at as it arrives, nobody
//! sleeps, and a wait that lasts too long fails with what is on the screen. A frame within a synchronized update is
//! seen whole or not at all. Dropping a [`Terminal`] kills its program; if this process is killed, the system hangs
//! the terminal up, which ends the program too.
//!
//! For tests, pictures and measurements. It knows nothing of HydraAI's programs.
#![cfg(unix)]

mod frames;
pub mod keys;
mod system;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, tcgetattr};

use frames::Frames;
pub use rustix::process;
pub use vt100::{self, Screen};

/// How long to wait for anything: many times what it takes on a busy machine, since only a fault reaches it.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A terminal and the program that runs in it.
pub struct Terminal {
    name: String,
    master: File,
    /// Keeps the terminal when the program has ended, as a shell does, and tells its modes.
    slave: File,
    modes_before: Termios,
    pid: Pid,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    frames: Frames,
    /// When the screen last changed.
    at: Instant,
    /// Set when the program has ended; an error if nobody could tell how.
    exit: Option<Result<ExitStatus, std::io::ErrorKind>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a terminal looks like to whoever uses it next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The cursor can be seen.
    pub cursor: bool,
    /// The shell's own screen is shown, not the alternate one.
    pub main_screen: bool,
    /// No mouse reports, no bracketed paste.
    pub plain_input: bool,
    /// Echo, line editing and signals of keys are as before.
    pub modes: bool,
}

impl Left {
    /// As a program must leave it.
    pub const CLEAN: Self = Self { cursor: true, main_screen: true, plain_input: true, modes: true };
}

impl Terminal {
    /// Starts `command` in a terminal of `size` (columns, rows); `name` stands in messages.
    pub fn start(name: &str, command: &Command, (columns, rows): (u16, u16)) -> Result<Self> {
        let (master, slave) = system::open()?;
        system::resize(&master, columns, rows)?;
        let modes_before = tcgetattr(&slave)?;
        let child = system::spawn(&mut ordinary(command), &slave).with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_child(&child);
        let state = State { frames: Frames::new(columns, rows), at: Instant::now(), exit: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        read(name, master.try_clone()?, shared.clone())?;
        await_end(name, child, slave.try_clone()?, shared.clone())?;
        Ok(Self { name: name.to_owned(), master, slave, modes_before, pid, shared })
    }

    /// The program's process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Presses keys by their names, with spaces between: see [`keys::bytes`].
    pub fn press(&mut self, names: &str) -> Result<()> {
        let bytes = keys::bytes(names).map_err(|name| anyhow!("{name:?} names no key"))?;
        self.send(&bytes)
    }

    /// Types a text.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.send(text.as_bytes())
    }

    /// Sends bytes as the terminal would.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        (&self.master).write_all(bytes).with_context(|| format!("typing to {}", self.name))
    }

    /// Changes the size; the program is told.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        self.shared.lock().frames.resize(columns, rows);
        Ok(system::resize(&self.master, columns, rows)?)
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// The screen as it is.
    pub fn screen(&self) -> Screen {
        self.shared.lock().frames.screen().clone()
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.screen().contents()
    }

    /// Complete frames so far.
    pub fn frames(&self) -> u64 {
        self.shared.lock().frames.count()
    }

    /// Bytes from the program so far.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().frames.bytes()
    }

    /// How the terminal is left at this moment.
    pub fn left(&self) -> Result<Left> {
        let screen = self.screen();
        let (now, before) = (tcgetattr(&self.slave)?, &self.modes_before);
        Ok(Left {
            cursor: !screen.hide_cursor(),
            main_screen: !screen.alternate_screen(),
            plain_input: screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None && !screen.bracketed_paste(),
            modes: (now.input_modes, now.output_modes, now.control_modes, now.local_modes)
                == (before.input_modes, before.output_modes, before.control_modes, before.local_modes),
        })
    }

    /// Waits until `look` finds what it looks for on the screen; `what` names it in the error. Gives what was found
    /// and when that frame had arrived.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Screen) -> Option<T>) -> Result<(T, Instant)> {
        self.until(what, |state| look(state.frames.screen()).map(|found| (found, state.at)))
    }

    /// Waits until the screen shows `words`.
    pub fn wait_for(&self, words: &str) -> Result<Instant> {
        self.wait(&format!("“{words}”"), |screen| screen.contents().contains(words).then_some(())).map(|((), at)| at)
    }

    /// Waits until the program has ended and all that it wrote is on the screen.
    pub fn wait_end(&self) -> Result<ExitStatus> {
        let ended = self.until("the end of the program", |state| state.exit.filter(|_| state.frames.is_over()))?;
        Ok(ended.map_err(std::io::Error::from)?)
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let give_up = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() || state.frames.is_over() {
                let name = &self.name;
                let how = match &state.exit {
                    Some(Ok(status)) => format!("{name} has ended ({status})"),
                    Some(Err(error)) => format!("{name} has ended ({error})"),
                    None => format!("waited {} s", PATIENCE.as_secs()),
                };
                bail!("{name}: {how} without {what}; on its screen:\n{}", state.frames.screen().contents());
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.shared.lock().exit.is_none() {
            // It may end by itself at the same moment.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// The same command, with the environment of an ordinary terminal.
fn ordinary(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args()).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => same.env(name, value),
            None => same.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        same.current_dir(folder);
    }
    same
}

/// Takes what the program writes, to the end of the terminal.
fn read(name: &str, mut reader: File, shared: Arc<Shared>) -> Result<()> {
    let work = move || {
        let mut bytes = [0; 1 << 14];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            let mut state = shared.lock();
            if state.frames.take(&bytes[..count]) {
                state.at = Instant::now();
                shared.changed.notify_all();
            }
            if state.frames.is_over() {
                return;
            }
        }
    };
    thread::Builder::new().name(format!("read-{name}")).spawn(work)?;
    Ok(())
}

/// Notes the program's end, and marks behind its last output that there is no more.
fn await_end(name: &str, mut child: Child, mut slave: File, shared: Arc<Shared>) -> Result<()> {
    let work = move || {
        let status = child.wait().map_err(|error| error.kind());
        shared.lock().exit = Some(status);
        // Through the same pipe, so it comes after everything else.
        if slave.write_all(frames::OVER).is_err() {
            shared.lock().frames.end();
        }
        shared.changed.notify_all();
    };
    thread::Builder::new().name(format!("wait-{name}")).spawn(work)?;
    Ok(())
}
