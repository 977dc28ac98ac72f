//! Keys, mouse and pastes of the real terminal, read by a thread that ends the moment nobody wants them.
//!
//! Not crossterm's event stream: at the end of input, as when a window closes, its reading never returns, and it
//! would take the task that draws along. Here the thread looks for the hang-up itself before it lets crossterm read.
//! Ending is prompt because a process that reads in the background is stopped by the system; it waits for the thread
//! only so long, since crossterm reads on without end within an unfinished escape sequence. Sizes are not here; the
//! console hears of them by signal.

use std::io;
use std::sync::mpsc::{self as plain, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crossterm::event::Event;
use tokio::sync::mpsc;

/// Events that may wait for the loop.
const WAITING: usize = 256;
/// How long ending waits for the thread.
const PATIENCE: Duration = Duration::from_millis(200);

/// The terminal's events, while it lives.
pub struct Input {
    events: Option<mpsc::Receiver<io::Result<Event>>>,
    stop: Option<system::Stop>,
    /// Disconnects when the thread ends; nothing is ever sent.
    ended: plain::Receiver<()>,
}

impl Input {
    /// Begins to read.
    pub fn start() -> io::Result<Self> {
        let (sender, events) = mpsc::channel(WAITING);
        let (stop, source) = system::source()?;
        let (alive, ended) = plain::channel();
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let _alive: plain::Sender<()> = alive;
            let read = source.each(&mut |event| match event {
                Event::Resize(..) => true,
                event => sender.blocking_send(Ok(event)).is_ok(),
            });
            if let Err(error) = read {
                // Whoever does not listen any more knows.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        Ok(Self { events: Some(events), stop: Some(stop), ended })
    }

    /// The next event, or why there will be none. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Event> {
        let event = match &mut self.events {
            Some(events) => events.recv().await,
            None => None,
        };
        event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // In this order: no listener, then the word to stop, then nothing left that could block the thread.
        self.events = None;
        self.stop = None;
        if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // It ends with the next key, which it takes along, or with the process.
            tracing::debug!("the keys are still being read");
        }
    }
}

#[cfg(unix)]
mod system {
    use std::io::{self, PipeReader, PipeWriter};
    use std::time::Duration;

    use crossterm::event::{self, Event};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::stdio::stdin;

    /// How long one look for keys may take. Within no time at all crossterm does not even look at what it has read.
    const LOOK: Duration = Duration::from_millis(2);

    /// Dropping it ends the source.
    pub struct Stop(#[expect(dead_code, reason = "held for its end")] PipeWriter);

    pub struct Source(PipeReader);

    pub fn source() -> io::Result<(Stop, Source)> {
        let (reader, writer) = io::pipe()?;
        Ok((Stop(writer), Source(reader)))
    }

    impl Source {
        /// Gives each event to `take` until that says no, the source is stopped, or the terminal is gone.
        pub fn each(&self, take: &mut dyn FnMut(Event) -> bool) -> io::Result<()> {
            let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
            loop {
                let keys = stdin();
                let mut fds = [PollFd::new(&keys, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    result => result?,
                };
                if !fds[1].revents().is_empty() {
                    return Ok(());
                }
                if fds[0].revents().intersects(gone) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                while any()? {
                    if !take(event::read()?) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether there is an event. What crossterm has read already, nobody else would find, so it looks twice: a thread
    /// that waits too long for a processor has had no time to look.
    fn any() -> io::Result<bool> {
        Ok(event::poll(LOOK)? || event::poll(LOOK)?)
    }
}

#[cfg(windows)]
mod system {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use crossterm::event::{self, Event};

    /// Dropping it ends the source.
    pub struct Stop(Arc<AtomicBool>);

    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    pub struct Source(Arc<AtomicBool>);

    pub fn source() -> io::Result<(Stop, Source)> {
        let stopped = Arc::new(AtomicBool::new(false));
        Ok((Stop(stopped.clone()), Source(stopped)))
    }

    impl Source {
        pub fn each(&self, take: &mut dyn FnMut(Event) -> bool) -> io::Result<()> {
            while !self.0.load(Ordering::SeqCst) {
                if event::poll(Duration::from_millis(100))? && !take(event::read()?) {
                    return Ok(());
                }
            }
            Ok(())
        }
    }
}
