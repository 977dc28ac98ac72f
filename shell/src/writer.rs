//! Lines to a standard stream, written by a thread of their own: who says something must not wait for a reader that
//! stopped reading, as a pager does, or a terminal after Ctrl-S. One that waited would take a whole run along, with its
//! sessions, pings and `/healthz`.
//!
//! The order of the lines is kept. [`LINES`] of them may wait; then the newest is kept and those before it are counted,
//! and the count is written in their place: a run goes on without whoever reads, and who reads on knows what is lacking.
//! Waiting instead would only put the same standstill off. A full disk behind a redirection is such a reader: what it has
//! not taken is tried again until there is room. At the end of a program [`finish`] waits for what is left.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait: minutes of a busy run, and some ten megabytes.
const LINES: usize = 65_536;
/// Who does not read standard error is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between attempts to write to a disk that is full.
const PAUSE: Duration = Duration::from_millis(250);
/// The end of a program waits no longer for room on a disk.
const LAST: Duration = Duration::from_secs(5);

/// The program ends: what cannot be written soon never is.
static ENDING: AtomicBool = AtomicBool::new(false);

/// All writers to standard output, and the one to standard error.
static OUT: Mutex<Vec<Writer>> = Mutex::new(Vec::new());
static ERR: OnceLock<Writer> = OnceLock::new();

/// Waits until what was said is written, for standard output not longer than `patience` if there is one.
pub fn finish(patience: Option<Duration>) {
    ENDING.store(true, Ordering::Relaxed);
    let all = OUT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for writer in &all {
        writer.wait(patience);
    }
    settle();
}

/// The same for standard error alone.
pub fn settle() {
    if let Some(writer) = ERR.get() {
        writer.wait(Some(PATIENCE));
    }
}

/// The writer to standard error, the same for everybody, so that their lines keep their order.
pub fn stderr() -> Writer {
    let gap = |lines| format!("… {lines} lines are lacking here: nobody read them\n").into_bytes();
    // A closed standard error is nobody to tell, so no error.
    ERR.get_or_init(|| Writer::start("stderr", io::stderr(), gap, |_| ())).clone()
}

/// A writer to standard output. `gap` is written for so many lines that found no room, `failed` told why nothing can be
/// written any more.
pub fn stdout(gap: fn(u64) -> Vec<u8>, failed: impl FnOnce(io::Error) + Send + 'static) -> Writer {
    let writer = Writer::start("stdout", io::stdout(), gap, failed);
    OUT.lock().unwrap_or_else(PoisonError::into_inner).push(writer.clone());
    writer
}

/// Takes lines; copies share the thread.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    most: usize,
    queue: Mutex<Queue>,
    /// There is something to write.
    more: Condvar,
    /// There is nothing left to write.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// The last of those that found no room: the last word of a program is never lost.
    newest: Option<Vec<u8>>,
    /// How many there were before it.
    missed: u64,
    writing: bool,
    /// Nothing can be written any more.
    closed: bool,
}

impl Queue {
    fn push(&mut self, line: &[u8], most: usize) {
        if self.newest.is_none() && self.lines.len() < most {
            self.lines.push_back(line.to_owned());
        } else if self.newest.replace(line.to_owned()).is_some() {
            self.missed += 1;
        }
    }

    fn take(&mut self, gap: fn(u64) -> Vec<u8>) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.lines.drain(..).flatten().collect();
        let missed = std::mem::take(&mut self.missed);
        if missed > 0 {
            bytes.extend(gap(missed));
        }
        bytes.extend(self.newest.take().into_iter().flatten());
        bytes
    }

    fn is_done(&self) -> bool {
        self.closed || (self.lines.is_empty() && !self.writing)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, gap: fn(u64) -> Vec<u8>) -> Vec<u8> {
        let mut queue = self.lock();
        queue.writing = false;
        while queue.lines.is_empty() {
            self.done.notify_all();
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.writing = true;
        queue.take(gap)
    }

    fn write_all(&self, mut out: impl Write, gap: fn(u64) -> Vec<u8>) -> io::Error {
        loop {
            let bytes = self.next(gap);
            if let Err(error) = put(&mut out, &bytes, PAUSE) {
                return error;
            }
        }
    }
}

/// Writes all of it, however long there is no room for it, with a `pause` between attempts.
fn put(out: &mut impl Write, mut bytes: &[u8], pause: Duration) -> io::Result<()> {
    let mut last: Option<Instant> = None;
    loop {
        let written = if bytes.is_empty() { out.flush().map(|()| 0) } else { out.write(bytes) };
        match written {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !passes(error.kind()) => return Err(error),
            Err(error) => {
                if ENDING.load(Ordering::Relaxed) && last.get_or_insert_with(Instant::now).elapsed() > LAST {
                    return Err(error);
                }
                std::thread::sleep(pause);
            }
        }
    }
}

/// Whether trying again later may do.
fn passes(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WouldBlock)
}

impl Writer {
    fn start(
        name: &str,
        out: impl Write + Send + 'static,
        gap: fn(u64) -> Vec<u8>,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> Self {
        Self::with_room(LINES, name, out, gap, failed)
    }

    fn with_room(
        most: usize,
        name: &str,
        out: impl Write + Send + 'static,
        gap: fn(u64) -> Vec<u8>,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { most, queue: Mutex::default(), more: Condvar::new(), done: Condvar::new() });
        let own = shared.clone();
        let work = move || {
            failed(own.write_all(out, gap));
            *own.lock() = Queue { closed: true, ..Queue::default() };
            own.done.notify_all();
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!(%error, "nothing can be written to {name}: its thread cannot be started");
            shared.lock().closed = true;
        }
        Self(shared)
    }

    fn wait(&self, patience: Option<Duration>) {
        let mut queue = self.0.lock();
        let started = Instant::now();
        while !queue.is_done() {
            let Some(patience) = patience else {
                queue = self.0.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(left) = patience.checked_sub(started.elapsed()) else { return };
            queue = self.0.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for Writer {
    /// Takes whole lines; whether they can be written shows later.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        if !queue.closed {
            queue.push(bytes, self.0.most);
            drop(queue);
            self.0.more.notify_one();
        }
        Ok(bytes.len())
    }

    /// Nothing: each line is written as soon as its reader has room.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes a write only when it is told to, and is gone with the one who tells.
    struct Reader {
        taken: mpsc::Sender<Vec<u8>>,
        may: mpsc::Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.taken.send(bytes.to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Lab {
        writer: Writer,
        taken: mpsc::Receiver<Vec<u8>>,
        may: mpsc::Sender<()>,
        failed: mpsc::Receiver<io::ErrorKind>,
    }

    fn lab(most: usize) -> Lab {
        let ((sender, taken), (may, allowed)) = (mpsc::channel(), mpsc::channel());
        let (told, failed) = mpsc::channel();
        let gap = |lines| format!("({lines})\n").into_bytes();
        let out = Reader { taken: sender, may: allowed };
        let writer = Writer::with_room(most, "test", out, gap, move |error| told.send(error.kind()).unwrap());
        Lab { writer, taken, may, failed }
    }

    impl Lab {
        fn say(&mut self, line: &str) {
            self.writer.write_all(line.as_bytes()).unwrap();
        }

        /// Waits until the thread is in its first write.
        fn begin(&mut self) {
            self.say("first\n");
            while !self.writer.0.lock().lines.is_empty() {
                std::thread::yield_now();
            }
        }

        fn read(&self) -> String {
            self.may.send(()).unwrap();
            String::from_utf8(self.taken.recv().unwrap()).unwrap()
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_nothing_is_lost() {
        let mut lab = lab(100);
        lab.begin();
        let lines: Vec<String> = (1..=50).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            lab.say(line);
        }
        lab.writer.wait(Some(Duration::from_millis(10)));
        assert!(!lab.writer.0.lock().is_done());
        assert_eq!(lab.read(), "first\n");
        assert_eq!(lab.read(), lines.concat());
        lab.writer.wait(None);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_last_word_kept() {
        let mut lab = lab(2);
        lab.begin();
        for line in ["a\n", "b\n", "c\n", "d\n", "e\n"] {
            lab.say(line);
        }
        assert_eq!([lab.read(), lab.read()], ["first\n", "a\nb\n(2)\ne\n"]);
        lab.writer.wait(None);
        lab.say("f\n");
        assert_eq!(lab.read(), "f\n");
    }

    /// A disk that has room for some bytes, then for none until somebody has asked so often, then for all.
    #[derive(Default)]
    struct Disk {
        written: Vec<u8>,
        refused: u32,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.written.len() == 5 && self.refused < 2 {
                self.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = if self.refused == 0 { bytes.len().min(5) } else { bytes.len() };
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_cuts_no_line_and_loses_none() {
        let mut disk = Disk::default();
        put(&mut disk, b"one line\nanother\n", Duration::ZERO).unwrap();
        assert_eq!((disk.written.as_slice(), disk.refused), (&b"one line\nanother\n"[..], 2));
    }

    #[test]
    fn a_reader_that_is_gone_is_told_of_at_once() {
        let Lab { mut writer, may, failed, .. } = lab(2);
        writer.write_all(b"a\n").unwrap();
        drop(may);
        assert_eq!(failed.recv(), Ok(io::ErrorKind::BrokenPipe));
        for _ in 0..9 {
            writer.write_all(b"b\n").unwrap();
        }
        writer.wait(None);
    }
}
