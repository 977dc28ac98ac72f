//! The real terminal: entered, drawn to, and always given back as it was.
//!
//! A thread of its own writes, a frame in one write within a synchronized update; a terminal that hangs (Ctrl-S, a
//! stalled connection) delays frames and nothing else. Leaving happens on [`Drop`], on a panic of any thread before
//! its message is printed, and before the process is stopped by Ctrl-Z; it waits for a hanging terminal a second at
//! most.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::queue;
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::CellDiffOption;
use ratatui::layout::Rect;
use ratatui::{Frame, TerminalOptions, Viewport};
use tokio::sync::watch;

use super::text;

/// How long leaving waits for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long [`told`] waits for the message of a panic, which a backtrace may make slow.
const TELLING_PATIENCE: Duration = Duration::from_secs(5);

/// The writer of the terminal that is entered, for whoever must leave it: its owner or the panic hook. Locked until it
/// is left, so that nobody takes it for left before.
static ENTERED: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);
/// Whether the panic hook has left the terminal.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// Threads that panic and have not printed their message yet.
static TELLING: Mutex<usize> = Mutex::new(0);
/// Tells that there is one less.
static TOLD: Condvar = Condvar::new();

/// Clicks and the wheel in the notation without limits; not the moves that crossterm's own command asks for too.
const MOUSE_ON: &str = "\u{1b}[?1000h\u{1b}[?1006h";
const MOUSE_OFF: &str = "\u{1b}[?1006l\u{1b}[?1000l";

/// Something to write, and whom to tell when it is the last.
struct Job {
    bytes: Vec<u8>,
    /// Whether the owner counts it.
    counted: bool,
    last: Option<mpsc::SyncSender<()>>,
}

/// How far the writer is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    written: u64,
    failed: Option<io::ErrorKind>,
}

/// Bytes of one frame, gathered until it is complete.
#[derive(Debug, Clone, Default)]
struct Sheet(Arc<Mutex<Vec<u8>>>);

impl Sheet {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame's way from a drawing function to bytes; nothing here touches a terminal.
struct Canvas {
    inner: ratatui::Terminal<CrosstermBackend<Sheet>>,
    sheet: Sheet,
    last: Vec<u8>,
    /// Rows of the last frame with text of a disputed width.
    disputed: BTreeSet<u16>,
}

impl Canvas {
    /// A canvas that draws everything at first.
    fn new((width, height): (u16, u16)) -> io::Result<Self> {
        let sheet = Sheet::default();
        // Fixed, since otherwise ratatui asks the terminal for its size at each frame.
        let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
        let backend = CrosstermBackend::new(sheet.clone());
        let inner = ratatui::Terminal::with_options(backend, TerminalOptions { viewport })?;
        sheet.take();
        queue!(sheet.clone(), Clear(ClearType::All))?;
        Ok(Self { inner, sheet, last: Vec::new(), disputed: BTreeSet::new() })
    }

    /// The bytes of the next frame, or nothing if it looks like the last.
    fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<Option<Vec<u8>>> {
        self.inner.draw(|frame| {
            view(frame);
            let buffer = frame.buffer_mut();
            text::scrub(buffer);
            // What the terminal put elsewhere than ratatui believes goes only if the whole row is written again.
            let (area, disputed) = (buffer.area, text::disputed_rows(buffer));
            for y in disputed.union(&self.disputed).copied().filter(|y| *y < area.bottom()) {
                for x in area.left()..area.right() {
                    buffer[(x, y)].set_diff_option(CellDiffOption::AlwaysUpdate);
                }
            }
            self.disputed = disputed;
        })?;
        let changes = self.sheet.take();
        // The same changes twice can only be no changes and the same cursor.
        if changes == self.last {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(changes.len() + 16);
        queue!(bytes, BeginSynchronizedUpdate)?;
        bytes.extend_from_slice(&changes);
        queue!(bytes, EndSynchronizedUpdate)?;
        self.last = changes;
        Ok(Some(bytes))
    }
}

/// The terminal while a program's screen is on it.
pub struct Terminal {
    canvas: Canvas,
    jobs: mpsc::Sender<Job>,
    progress: watch::Receiver<Progress>,
    sent: u64,
    size: (u16, u16),
}

impl Terminal {
    /// Enters: raw mode, alternate screen, mouse, bracketed paste, no cursor.
    pub fn enter() -> io::Result<Self> {
        hook_panics();
        let size = crossterm::terminal::size()?;
        let canvas = Canvas::new(size)?;
        let (jobs, progress) = spawn_writer(own_handle()?)?;
        // Where it could not be ended it counts as on, and would not be entered.
        disable_raw_mode()?;
        enable_raw_mode()?;
        *lock(&ENTERED) = Some(jobs.clone());
        let mut terminal = Self { canvas, jobs, progress, sent: 0, size };
        terminal.send(enter_bytes()?)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// The terminal has a new size; the next frame draws everything.
    pub fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.canvas = Canvas::new(size)?;
        self.size = size;
        Ok(())
    }

    /// Draws a frame and hands it to the writer. Draw only when [`is_ready`](Self::is_ready).
    pub fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        match self.canvas.draw(view)? {
            Some(bytes) => self.send(bytes),
            None => Ok(()),
        }
    }

    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.jobs.send(Job { bytes, counted: true, last: None }).map_err(|_| gone())?;
        self.sent += 1;
        Ok(())
    }

    /// Whether all frames are written, or will never be.
    pub fn is_ready(&self) -> bool {
        let progress = *self.progress.borrow();
        progress.written >= self.sent || progress.failed.is_some()
    }

    /// Waits until [`is_ready`](Self::is_ready); an error if the terminal is gone. Cancel safe.
    pub async fn ready(&mut self) -> io::Result<()> {
        let sent = self.sent;
        let progress = self.progress.wait_for(|progress| progress.written >= sent || progress.failed.is_some()).await;
        match progress.map(|progress| progress.failed) {
            Ok(None) => Ok(()),
            Ok(Some(kind)) => Err(kind.into()),
            Err(_) => Err(gone()),
        }
    }

    /// Waits until the terminal is gone: a write failed, or a panic left it. Cancel safe.
    pub fn closed(&self) -> impl Future<Output = io::Error> + Send + 'static {
        let mut progress = self.progress.clone();
        async move {
            match progress.wait_for(|progress| progress.failed.is_some()).await.map(|progress| progress.failed) {
                Ok(Some(kind)) => kind.into(),
                _ => gone(),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether a panic took the terminal away.
pub fn panicked() -> bool {
    PANICKED.load(Ordering::SeqCst)
}

/// Waits until every thread that panics has printed its message: only then may the program go on to its end. Gives up
/// on a terminal that takes nothing.
pub fn told() {
    drop(TOLD.wait_timeout_while(lock(&TELLING), TELLING_PATIENCE, |telling| *telling > 0));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the terminal is gone")
}

fn enter_bytes() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, EnterAlternateScreen, Print(MOUSE_ON), EnableBracketedPaste, DisableLineWrap, Hide)?;
    queue!(bytes, Clear(ClearType::All))?;
    Ok(bytes)
}

fn leave_bytes() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, EndSynchronizedUpdate, SetAttribute(Attribute::Reset), EnableLineWrap, DisableBracketedPaste)?;
    // A window that grew keeps rows of the other screen in some terminals, unless they are empty.
    queue!(bytes, Print(MOUSE_OFF), MoveTo(0, 0), Clear(ClearType::All), LeaveAlternateScreen, Show)?;
    Ok(bytes)
}

/// Gives the terminal back, if it is entered.
fn leave() {
    // Held to the end: whoever comes second must find the terminal as it was.
    let mut entered = lock(&ENTERED);
    let Some(jobs) = entered.take() else { return };
    let (last, written) = mpsc::sync_channel(1);
    if let Ok(bytes) = leave_bytes()
        && jobs.send(Job { bytes, counted: false, last: Some(last) }).is_ok()
    {
        // Whether it was written or took too long, there is nothing more to be done.
        let _ = written.recv_timeout(PATIENCE);
    }
    // A job in the background that sets modes is stopped; and the shell has set its own.
    if job::in_foreground() {
        let _ = disable_raw_mode();
    }
}

/// Asks the entered terminal to put `text` on the clipboard (OSC 52); works over ssh too, but some terminals ignore
/// it. Whether it could be asked.
pub fn copy(text: &str) -> bool {
    let bytes = format!("\u{1b}]52;c;{}\u{1b}\\", base64(text.as_bytes())).into_bytes();
    lock(&ENTERED).as_ref().is_some_and(|jobs| jobs.send(Job { bytes, counted: false, last: None }).is_ok())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn hook_panics() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            *lock(&TELLING) += 1;
            if lock(&ENTERED).is_some() {
                PANICKED.store(true, Ordering::SeqCst);
                leave();
            }
            before(info);
            *lock(&TELLING) -= 1;
            TOLD.notify_all();
        }));
    });
}

/// Standard output apart from its lock and its line buffer: a hanging writer must not block a panic's message.
fn own_handle() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(handle))
}

fn spawn_writer(mut out: impl Write + Send + 'static) -> io::Result<(mpsc::Sender<Job>, watch::Receiver<Progress>)> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (report, progress) = watch::channel(Progress::default());
    thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        for job in queue {
            let result = out.write_all(&job.bytes).and_then(|()| out.flush());
            report.send_modify(|progress| match &result {
                Ok(()) => progress.written += u64::from(job.counted),
                Err(error) => progress.failed = Some(error.kind()),
            });
            if let Some(last) = job.last {
                let _ = last.try_send(());
                return;
            }
        }
    })?;
    Ok((jobs, progress))
}

/// There are no jobs.
#[cfg(windows)]
mod job {
    pub fn in_foreground() -> bool {
        true
    }
}

/// Stopping and continuing, as shells do it.
#[cfg(unix)]
pub mod job {
    use std::io;

    use rustix::process::{Signal, getpgrp, kill_current_process_group};
    use rustix::stdio::stdin;
    use rustix::termios::tcgetpgrp;

    /// Whether this process may use the terminal; a background job must not, or it is stopped.
    pub fn in_foreground() -> bool {
        tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// Stops this process and those started with it, as Ctrl-Z does outside raw mode. The system ignores it where no
    /// shell could continue them. May return before the stop takes effect.
    pub fn stop() -> io::Result<()> {
        Ok(kill_current_process_group(Signal::TSTP)?)
    }
}

#[cfg(test)]
mod tests;
