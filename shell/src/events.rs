//! What programs say on their standard streams: events for programs, the answer's text, and lines for people.
//!
//! With `--json`, standard output carries one JSON object a line and nothing else; without it, only what was asked
//! for (an answer). Either way everything for people goes to standard error. Every line is flushed at once. When the reader
//! of standard output is gone ([`Events::gone`]) the program should stop cleanly; nothing is written any more.
//!
//! Writing waits for a slow reader, as programs in a pipe do; print from a thread or task that may wait. What serves
//! others meanwhile does not wait ([`Events::with_log`]).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hydra_core::credits::Credits;
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};
use crate::terminal::{Keep, is_unsafe, sanitize};
use crate::writer;

/// A code as the protocol spells it: `unknown_lease`.
pub fn name(code: &impl Serialize) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The same for people: `unknown lease`.
pub fn words(code: &impl Serialize) -> String {
    name(code).replace('_', " ")
}

fn log(kind: Kind, line: &str) {
    match kind {
        Kind::News => tracing::info!(target: "run", "{line}"),
        Kind::Caution => tracing::warn!(target: "run", "{line}"),
    }
}

/// The printer; copies share the streams.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    json: bool,
    /// Whether text that came from a peer must be made safe on its way to `out`.
    terminal: bool,
    out: Mutex<Box<dyn Write + Send>>,
    /// Standard error.
    people: Mutex<Box<dyn Write + Send>>,
    fate: Arc<Fate>,
    /// Whether a screen has the terminal.
    drawn: AtomicBool,
    /// Whether the log has a file, which then holds the lines for people too.
    logged: bool,
    /// The first lines for people, which a screen that comes then hides.
    said: Mutex<Vec<(Kind, String)>>,
}

/// What became of standard output.
#[derive(Default)]
struct Fate {
    gone: CancellationToken,
    /// Why it took no more, if not because its reader left.
    broken: OnceLock<String>,
}

impl Fate {
    fn failed(&self, error: &io::Error) {
        // A full disk behind a redirection ends the output as a closed pipe does, but somebody should know.
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::error!(%error, "standard output cannot be written");
            self.broken.get_or_init(|| error.to_string());
        }
        self.gone.cancel();
    }
}

/// Told in the place of events for which there was no more room.
fn missed(lines: u64) -> Vec<u8> {
    format!("{}\n", json!({ "event": "missed", "lines": lines })).into_bytes()
}

/// How much a line for people matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    News,
    Caution,
}

/// Lines kept for a screen that may come.
const SAID: usize = 64;

impl Events {
    /// A printer to the standard streams; `json` as the flag says.
    pub fn stdout(json: bool) -> Self {
        Self::over(json, io::stdout().is_terminal(), Box::new(io::stdout()), Box::new(io::stderr()))
    }

    /// The same of a program that serves others meanwhile, and so must not wait for a reader: nothing printed is waited
    /// for before the end ([`crate::exit::report`]). Its log has a file (`--log-file`) if `file`: the lines for people are
    /// in it, too. Without a file they are not, as the log may go where they go.
    pub fn with_log(json: bool, file: bool) -> Self {
        let fate = Arc::<Fate>::default();
        let told = fate.clone();
        let out = writer::stdout(missed, move |error| told.failed(&error));
        Self::with_fate(json, io::stdout().is_terminal(), file, Box::new(out), Box::new(writer::stderr()), fate)
    }

    /// A printer to `out`, for tests.
    pub fn new(json: bool, terminal: bool, out: Box<dyn Write + Send>) -> Self {
        Self::over(json, terminal, out, Box::new(io::stderr()))
    }

    /// The same, with the lines for people to `people`.
    pub fn over(json: bool, terminal: bool, out: Box<dyn Write + Send>, people: Box<dyn Write + Send>) -> Self {
        Self::made(json, terminal, false, out, people)
    }

    pub(crate) fn made(
        json: bool,
        terminal: bool,
        logged: bool,
        out: Box<dyn Write + Send>,
        people: Box<dyn Write + Send>,
    ) -> Self {
        Self::with_fate(json, terminal, logged, out, people, Arc::default())
    }

    fn with_fate(
        json: bool,
        terminal: bool,
        logged: bool,
        out: Box<dyn Write + Send>,
        people: Box<dyn Write + Send>,
        fate: Arc<Fate>,
    ) -> Self {
        let (out, people, said, drawn) =
            (Mutex::new(out), Mutex::new(people), Mutex::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { json, terminal, out, people, fate, drawn, logged, said }) }
    }

    /// Whether events are wanted.
    pub fn json(&self) -> bool {
        self.shared.json
    }

    /// Prints one event if they are wanted. Events are enums with `#[serde(tag = "event", rename_all = "snake_case")]`.
    pub fn emit(&self, event: &impl Serialize) {
        if !self.shared.json {
            return;
        }
        match serde_json::to_string(event) {
            Ok(line) => self.write(format!("{}\n", escaped(&line)).as_bytes()),
            // Only a map with keys that are no text can fail; the events have none.
            Err(error) => tracing::error!(%error, "an event could not be written as JSON"),
        }
    }

    /// Prints a piece of an answer to standard output; the last character printed. On a terminal, what could command
    /// it becomes visible, but for the `\r` of line ends; in a pipe, control characters except newline and tab are left
    /// out. With `--json` nothing: the event carries the text.
    pub fn piece(&self, text: &str) -> Option<char> {
        if self.shared.json {
            return None;
        }
        let goes = |c: char| c.is_control() && !matches!(c, '\n' | '\t') && (c == '\r' || !self.shared.terminal);
        let text = if text.contains(goes) { Cow::Owned(text.replace(goes, "")) } else { Cow::Borrowed(text) };
        let last = text.chars().last()?;
        if self.shared.terminal {
            self.write(sanitize(&text, Keep::Lines).as_bytes());
        } else {
            self.write(text.as_bytes());
        }
        Some(last)
    }

    /// Prints a line for people to standard error, and into the log's file if there is one; while a screen has the
    /// terminal, into the log, which it shows.
    pub fn say(&self, line: &str) {
        self.tell(Kind::News, line);
    }

    /// The same for a line that people should not miss, as when something that they asked for is not done.
    pub fn caution(&self, line: &str) {
        self.tell(Kind::Caution, line);
    }

    fn tell(&self, kind: Kind, line: &str) {
        if self.shared.drawn.load(Ordering::Relaxed) {
            return log(kind, line);
        }
        if self.shared.logged {
            log(kind, line);
        }
        let mut said = self.shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < SAID {
            said.push((kind, line.to_owned()));
        }
        drop(said);
        let line = format!("{}\n", sanitize(line, Keep::Lines));
        // A closed standard error is nobody to tell, so no error.
        let _ = self.shared.people.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }

    /// A screen takes the terminal. What was said before goes to the log, too, where the screen has it; the cautions among
    /// it are given back.
    pub fn begin_screen(&self) -> Vec<String> {
        self.shared.drawn.store(true, Ordering::Relaxed);
        // What is still on its way would be written across the screen.
        writer::settle();
        let said = std::mem::take(&mut *self.shared.said.lock().unwrap_or_else(PoisonError::into_inner));
        // With a file they are there already.
        for (kind, line) in said.iter().filter(|_| !self.shared.logged) {
            log(*kind, line);
        }
        said.into_iter().filter(|(kind, _)| *kind == Kind::Caution).map(|(_, line)| line).collect()
    }

    /// The screen gives the terminal back.
    pub fn end_screen(&self) {
        self.shared.drawn.store(false, Ordering::Relaxed);
    }

    /// Resolves when standard output has no reader any more: a reason to stop cleanly, not an error.
    pub async fn gone(&self) {
        self.shared.fate.gone.cancelled().await;
    }

    /// Fails if something could not be written for another reason than that its reader had left, for which it waits until
    /// all is written. Programs that did everything else end with this.
    pub fn whole(&self) -> Result<(), Failure> {
        writer::finish(None);
        self.shared.fate.broken.get().map_or(Ok(()), |why| Err(cut_short(why)))
    }

    /// Whether standard output has no reader any more.
    pub fn is_gone(&self) -> bool {
        self.shared.fate.gone.is_cancelled()
    }

    fn write(&self, bytes: &[u8]) {
        let mut out = self.shared.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_gone() {
            return;
        }
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            self.shared.fate.failed(&error);
        }
    }
}

/// What is told of output that is not whole.
pub fn cut_short(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::RunFolder, format!("standard output cannot be written, and is cut short: {why}"))
        .hint("make room where it goes, or send it elsewhere")
}

/// The same JSON, with an escape for every character that could command a terminal: JSON itself asks for those below the
/// space alone.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            // All of them have four digits at most.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Credits as HYD with decimals, for `#[serde(serialize_with = "hydra_shell::events::hyd")]`.
pub fn hyd<S: Serializer>(credits: &Credits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(credits.as_hyd())
}

#[cfg(test)]
mod tests;
