//! Being told to stop: the first Ctrl-C or SIGTERM asks to finish cleanly, the second to stop at once.
//!
//! A closed terminal (SIGHUP) asks a program with a screen to finish cleanly; a headless one stays, as a service
//! should, and it never counts as the second request.
//!
//! A program may be unable to hear: it waits for a pipe that nobody reads, say. So a thread of its own watches, and ends
//! the process if that has not ended by itself soon after the second request.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::exit::{self, Exit};

/// So long a program may take to stop at once by itself: longer than its last words and its last step of training.
const PATIENCE: Duration = Duration::from_secs(8);

/// Nobody asks twice within this: coreutils' `timeout` tells the program and then its group, one after the other.
const ECHO: Duration = Duration::from_millis(150);

/// How often a request to stop was for less than the program ([`goes_on`]).
static SPARED: AtomicU64 = AtomicU64::new(0);

/// A request to stop was for something that the program does, which is done with; the program goes on, and the next
/// request is a first one to whoever watches that it ends.
pub fn goes_on() {
    SPARED.fetch_add(1, Ordering::Relaxed);
}

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Finish what is worth finishing, then end.
    Cleanly,
    /// End without delay, with [`Exit::Interrupted`](crate::exit::Exit::Interrupted).
    AtOnce,
}

/// What the system said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Raw {
    /// Ctrl-C, SIGTERM.
    Interrupt,
    /// SIGHUP.
    Hangup,
}

/// The requests to stop, in order. From its making on, signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    source: system::Source,
    rule: Rule,
}

impl Signals {
    /// Begins to listen; `headless` programs ignore a closed terminal. Must be called within a tokio runtime.
    pub fn listen(headless: bool) -> io::Result<Self> {
        static WATCHED: AtomicBool = AtomicBool::new(false);
        if !WATCHED.swap(true, Ordering::Relaxed) {
            watch(headless)?;
        }
        Self::new(headless)
    }

    fn new(headless: bool) -> io::Result<Self> {
        Ok(Self { source: system::Source::new()?, rule: Rule { headless, asked: None } })
    }

    /// The next request. Cancel safe.
    pub async fn next(&mut self) -> Stop {
        loop {
            let raw = self.source.next().await;
            if let Some(stop) = self.rule.apply(raw, Instant::now()) {
                return stop;
            }
        }
    }
}

/// Ends the process if it should have ended long ago. On a thread with a runtime of its own: every other one may wait for
/// something that does not come.
fn watch(headless: bool) -> io::Result<()> {
    // Already here, so that no signal is missed until the thread runs.
    let mut source = system::Source::new()?;
    let mut rule = Rule { headless, asked: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(async {
            let mut spared = SPARED.load(Ordering::Relaxed);
            loop {
                let raw = source.next().await;
                let now = SPARED.load(Ordering::Relaxed);
                if std::mem::replace(&mut spared, now) != now {
                    rule.asked = None;
                }
                if rule.apply(raw, Instant::now()) == Some(Stop::AtOnce) {
                    tokio::time::sleep(PATIENCE).await;
                    if SPARED.load(Ordering::Relaxed) == spared {
                        return;
                    }
                }
            }
        });
        exit::end(Exit::Interrupted);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(work).map(|_| ())
}

#[derive(Debug)]
struct Rule {
    headless: bool,
    /// The first request, and when it came.
    asked: Option<(Raw, Instant)>,
}

impl Rule {
    fn apply(&mut self, raw: Raw, now: Instant) -> Option<Stop> {
        let stop = match (raw, self.asked) {
            (Raw::Interrupt, Some((Raw::Interrupt, first))) if now.duration_since(first) < ECHO => return None,
            (Raw::Interrupt, Some(_)) => Stop::AtOnce,
            (Raw::Interrupt, None) => Stop::Cleanly,
            (Raw::Hangup, None) if !self.headless => Stop::Cleanly,
            (Raw::Hangup, _) => return None,
        };
        self.asked.get_or_insert((raw, now));
        Some(stop)
    }
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::Raw;

    #[derive(Debug)]
    pub struct Source {
        interrupt: Signal,
        terminate: Signal,
        hangup: Signal,
    }

    impl Source {
        pub fn new() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            })
        }

        pub async fn next(&mut self) -> Raw {
            tokio::select! {
                Some(()) = self.interrupt.recv() => Raw::Interrupt,
                Some(()) = self.terminate.recv() => Raw::Interrupt,
                Some(()) = self.hangup.recv() => Raw::Hangup,
                // The runtime is going down; nobody will be asked again.
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

    use super::Raw;

    #[derive(Debug)]
    pub struct Source {
        ctrl_c: CtrlC,
        ctrl_break: CtrlBreak,
        close: CtrlClose,
    }

    impl Source {
        pub fn new() -> io::Result<Self> {
            Ok(Self { ctrl_c: ctrl_c()?, ctrl_break: ctrl_break()?, close: ctrl_close()? })
        }

        pub async fn next(&mut self) -> Raw {
            tokio::select! {
                Some(()) = self.ctrl_c.recv() => Raw::Interrupt,
                Some(()) = self.ctrl_break.recv() => Raw::Interrupt,
                Some(()) = self.close.recv() => Raw::Hangup,
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_cleanly_then_at_once() {
        let (first, later) = (Instant::now(), Instant::now() + ECHO);
        let mut rule = Rule { headless: true, asked: None };
        let answers = [Raw::Hangup, Raw::Interrupt, Raw::Hangup].map(|raw| rule.apply(raw, first));
        assert_eq!(answers, [None, Some(Stop::Cleanly), None]);
        assert_eq!(rule.apply(Raw::Interrupt, later), Some(Stop::AtOnce));
        let mut rule = Rule { headless: false, asked: None };
        let answers = [Raw::Hangup, Raw::Hangup, Raw::Interrupt].map(|raw| rule.apply(raw, first));
        assert_eq!(answers, [Some(Stop::Cleanly), None, Some(Stop::AtOnce)]);
    }

    #[test]
    fn a_request_that_arrives_twice_is_one() {
        let first = Instant::now();
        let mut rule = Rule { headless: true, asked: None };
        assert_eq!(rule.apply(Raw::Interrupt, first), Some(Stop::Cleanly));
        assert_eq!(rule.apply(Raw::Interrupt, first + ECHO / 2), None);
        assert_eq!(rule.apply(Raw::Interrupt, first + ECHO), Some(Stop::AtOnce));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn real_signals_arrive() {
        // Nobody watches: the test would be ended.
        let mut signals = Signals::new(false).unwrap();
        let raise = |name: &str| {
            let id = std::process::id().to_string();
            assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
        };
        raise("-HUP");
        assert_eq!(signals.next().await, Stop::Cleanly);
        raise("-TERM");
        assert_eq!(signals.next().await, Stop::AtOnce);
        raise("-INT");
        assert_eq!(signals.next().await, Stop::AtOnce);
    }
}
