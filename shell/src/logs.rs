//! Where `tracing` goes: a file that rolls daily, or standard error of a headless program, and always a ring of the
//! last lines for a screen's log pane.
//!
//! A program with a screen prints nothing: give [`LogOptions`] no `stderr`. The level comes from `HYDRA_LOG` (such as
//! `debug` or `info,hydra_shell=trace`), `info` if unset. Times are UTC. Old log files are not removed.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::exit::{Exit, Failure};
use crate::terminal::{Keep, complain, no_color, sanitize};
use crate::writer;

/// The variable that sets the level.
pub const LEVEL: &str = "HYDRA_LOG";

/// Lines that the ring keeps.
pub const RING_LINES: usize = 1_000;
/// Bytes of one line in the ring; the rest is cut.
const RING_LINE_BYTES: usize = 4_096;

/// Where the lines go besides the ring.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// `--log-file`: a day's lines go to this name with the date before the ending, and the name itself leads to
    /// the newest.
    pub file: Option<PathBuf>,
    /// Whether lines go to standard error if there is no file: a headless program.
    pub stderr: bool,
}

/// Keeps the log's writers alive; drop it last, so that the last lines are written.
#[must_use = "the last lines are written when this is dropped"]
pub struct Logs {
    /// The last lines, for the log pane.
    pub ring: Ring,
    /// What people should know about where the lines go.
    note: Option<String>,
    file: Option<WorkerGuard>,
    _stderr: Settled,
}

/// Waits at its end for the lines on their way to standard error, also that of a panic.
struct Settled;

impl Drop for Settled {
    fn drop(&mut self) {
        writer::settle();
    }
}

/// Sends every `tracing` event of this process where `options` say. Once in a process.
pub fn init(options: &LogOptions) -> anyhow::Result<Logs> {
    let level = std::env::var(LEVEL).unwrap_or_default();
    let (subscriber, logs) = build(options, &level)?;
    tracing::subscriber::set_global_default(subscriber)?;
    if let Some(note) = &logs.note {
        tracing::warn!("{note}");
        if options.stderr {
            complain(&format!("warning: {}\n", sanitize(note, Keep::Nothing)));
        }
    }
    Ok(logs)
}

impl Logs {
    /// Writes the error that a program ends with into the log's file, if there is one; people read it elsewhere.
    pub fn end(&self, ended: &anyhow::Result<()>) {
        if let (Some(_), Err(error)) = (&self.file, ended) {
            tracing::error!(target: "run", "{error:#}");
        }
    }
}

fn build(options: &LogOptions, level: &str) -> Result<(Box<dyn Subscriber + Send + Sync>, Logs), Failure> {
    let filter = filter(level).map_err(|why| {
        Failure::new(Exit::Config, format!("{LEVEL}={level} is no log level: {why}"))
            .hint(format!("write {LEVEL}=debug, or {LEVEL}=info,hydra_shell=trace"))
    })?;
    let ring = Ring::with_finest(filter.max_level_hint().unwrap_or(LevelFilter::TRACE));
    // The ring comes first: the first layer formats the fields of spans for all, and must do so without colours.
    let mut layers = vec![lines(ring.clone(), false)];
    let (mut guard, mut note) = (None, None);
    if let Some(path) = &options.file {
        let (writer, file, beside) = open_file(path)?;
        note = beside;
        layers.push(lines(writer, false));
        guard = Some(file);
    } else if options.stderr {
        layers.push(lines(writer::stderr(), io::stderr().is_terminal() && !no_color()));
    }
    let subscriber = tracing_subscriber::registry().with(layers).with(filter);
    Ok((Box::new(subscriber), Logs { ring, note, file: guard, _stderr: Settled }))
}

/// Which lines a text such as `info,hydra_shell=trace` lets through. The parser alone would take a mistyped level for a
/// place, whose lines are then the only ones.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    for word in &words {
        let place = word.split(['=', '[']).next().unwrap_or_default();
        let named = place.len() < word.len() && place.chars().all(|c| c.is_alphanumeric() || "_:-".contains(c));
        let level = word.rsplit_once('=').map_or(if named { "trace" } else { word }, |(_, level)| level);
        if !is_level(level) || !(named || is_level(word)) {
            return Err(format!("`{word}` is none of error, warn, info, debug, trace and off, nor PLACE=LEVEL"));
        }
    }
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(words.join(",")).map_err(|error| error.to_string())
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static, colours: bool) -> Lines {
    Box::new(tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer))
}

/// The writer, and what people should know if the name itself cannot lead to the newest file.
fn open_file(path: &Path) -> Result<(NonBlocking, WorkerGuard, Option<String>), Failure> {
    let cannot = |why: String| {
        Failure::new(Exit::Config, format!("cannot write the log file {}: {why}", path.display()))
            .hint("name a file in a folder that you may write to: --log-file hydra.log")
    };
    // Absolute, because the link to the newest file is resolved from its own folder.
    let path = std::path::absolute(path).map_err(|error| cannot(error.to_string()))?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(cannot("it has no file name".to_owned()));
    };
    if path.is_dir() {
        return Err(cannot("it is a folder".to_owned()));
    }
    let mut builder = RollingFileAppender::builder().rotation(Rotation::DAILY);
    builder = match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, ending)) => builder.filename_prefix(stem).filename_suffix(ending),
        None => builder.filename_prefix(name),
    };
    // The appender puts the link in the place of whatever has its name; a person's file stays.
    let mut note = None;
    if std::fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_symlink()) {
        let taken = path.display();
        note = Some(format!("{taken} is a file already and left as it is; the log goes beside it, a file a day"));
    } else if cfg!(unix) {
        builder = builder.latest_symlink(name);
    }
    let appender = builder.build(folder).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        cannot(source.unwrap_or_else(|| error.to_string()))
    })?;
    let (writer, guard) = tracing_appender::non_blocking(appender);
    Ok((writer, guard, note))
}

/// The last [`RING_LINES`] log lines, oldest first; copies share them.
#[derive(Debug, Clone)]
pub struct Ring {
    kept: Arc<Mutex<Kept>>,
    /// Finer lines never come.
    finest: LevelFilter,
}

impl Default for Ring {
    /// An empty one that leaves nothing out.
    fn default() -> Self {
        Self::with_finest(LevelFilter::TRACE)
    }
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    total: u64,
}

impl Ring {
    /// An empty one, to which no finer lines will come.
    pub fn with_finest(finest: LevelFilter) -> Self {
        Self { kept: Arc::default(), finest }
    }

    /// Lines ever written; a change tells a log pane to draw again.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// The newest `count` lines, oldest first, safe for a terminal.
    pub fn last(&self, count: usize) -> Vec<String> {
        let kept = self.lock();
        kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect()
    }

    /// All lines kept, oldest first, and how many were ever written.
    pub fn all(&self) -> (Vec<String>, u64) {
        let kept = self.lock();
        (kept.lines.iter().cloned().collect(), kept.total)
    }

    /// The finest level whose lines come, as `HYDRA_LOG` has it.
    pub fn finest(&self) -> LevelFilter {
        self.finest
    }

    fn push(&self, line: &str) {
        let line = &line[..line.floor_char_boundary(RING_LINE_BYTES)];
        let line = sanitize(line, Keep::Nothing).into_owned();
        let mut kept = self.lock();
        if kept.lines.len() == RING_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
        kept.total += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Ring {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Ring {
    /// Takes one event, which the formatter writes in one piece.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.push(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
