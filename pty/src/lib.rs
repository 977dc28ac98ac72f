//! A program in a real pseudo-terminal: keys go in, complete frames come out, and it can be asked how the terminal was
//! left.
//!
//! Waiting is for something to be on the screen ([`Terminal::wait`]): each frame is looked at as it arrives, and the
//! next one waits until then; a wait that lasts too long fails with what is on the screen. A frame within a synchronized
//! update is seen whole or not at all. Dropping a [`Terminal`] kills its program; if this process is killed, the system
//! hangs the terminal up, which ends the program too.
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
    /// The screen, or whether the program lives.
    changed: Condvar,
    /// Nobody has to look any more.
    seen: Condvar,
}

struct State {
    frames: Frames,
    /// When what is on the screen arrived.
    at: Instant,
    /// Screens so far.
    shown: u64,
    /// How many wait for something.
    waiting: usize,
    /// How many of them have not looked at this screen yet.
    unseen: usize,
    /// Set when the program has ended; an error if nobody could tell how.
    exit: Option<Result<ExitStatus, std::io::ErrorKind>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody who waits look at the screen.
    fn show<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.shown += 1;
        state.unseen = state.waiting;
        self.changed.notify_all();
        self.seen.wait_while(state, |state| state.unseen > 0).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits. The program's output goes on without them once this is dropped.
struct Watcher<'a> {
    shared: &'a Shared,
    /// Number of the last screen that was looked at.
    seen: u64,
}

impl<'a> Watcher<'a> {
    fn new(shared: &'a Shared) -> Self {
        let mut state = shared.lock();
        state.waiting += 1;
        // Who comes while a screen is shown is not waited for.
        Self { shared, seen: state.shown }
    }

    /// The screen as it is has been looked at.
    fn looked(&mut self, state: &mut State) {
        if self.seen < state.shown {
            self.seen = state.shown;
            state.unseen = state.unseen.saturating_sub(1);
            self.shared.seen.notify_all();
        }
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.waiting -= 1;
        self.looked(&mut state);
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
        let frames = Frames::new(columns, rows);
        let state = State { frames, at: Instant::now(), shown: 0, waiting: 0, unseen: 0, exit: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), seen: Condvar::new() });
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

    /// Waits until the program has read all that was typed.
    pub fn wait_read(&self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while system::unread(&self.slave)? {
            if Instant::now() >= give_up {
                bail!("{}: waited {} s and what was typed is not read", self.name, PATIENCE.as_secs());
            }
            // The system tells readers that there is something, and nobody that there is nothing.
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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

    /// Waits until `look` finds what it looks for on the screen, as it is now or in any frame from now on; `what` names
    /// it in the error. Gives what was found and when that frame had arrived.
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
        // Dropped after the lock that follows it, in whatever way this ends.
        let mut watcher = Watcher::new(&self.shared);
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            watcher.looked(&mut state);
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
            let same = |state: &mut State| state.shown == watcher.seen && !state.frames.is_over();
            let waited = self.shared.changed.wait_timeout_while(state, left, same);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
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
            let arrived = Instant::now();
            let mut state = shared.lock();
            state.frames.take(&bytes[..count]);
            while state.frames.advance() {
                state.at = arrived;
                state = shared.show(state);
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
