//! The console of a real process: the terminal, its events, signals, and the time between Ctrl-Z and `fg`.

use std::io;
use std::time::Duration;

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use ratatui::Frame;

use super::{Console, Happening};
use crate::signals::Signals;
use crate::ui::terminal::Terminal;

/// How often a job in the background asks whether it is in the foreground; shells do not tell a running one.
const ASK: Duration = Duration::from_millis(250);

/// The console of this process.
pub struct Real {
    /// Terminal and its events; none while another job has the terminal, when reading would stop this process.
    screen: Option<(Terminal, EventStream)>,
    signals: Signals,
    continued: system::Continued,
    size: (u16, u16),
}

impl Real {
    /// Enters the terminal.
    pub fn enter() -> io::Result<Self> {
        let signals = Signals::listen(false)?;
        let continued = system::Continued::new()?;
        let terminal = Terminal::enter()?;
        let size = terminal.size();
        Ok(Self { screen: Some((terminal, EventStream::new())), signals, continued, size })
    }

    /// Takes the terminal again if this process may.
    fn return_to_screen(&mut self) -> Option<Happening> {
        // Leaving first: the shell may have changed the terminal's modes in between.
        self.screen = None;
        if !system::in_foreground() {
            return None;
        }
        Some(match Terminal::enter() {
            Ok(terminal) => {
                self.size = terminal.size();
                self.screen = Some((terminal, EventStream::new()));
                Happening::Back
            }
            Err(error) => Happening::Lost(error),
        })
    }
}

impl Console for Real {
    fn size(&self) -> (u16, u16) {
        self.size
    }

    async fn next(&mut self) -> Happening {
        loop {
            let Some((terminal, events)) = &mut self.screen else {
                tokio::select! {
                    stop = self.signals.next() => return Happening::Stop(stop),
                    () = self.continued.next() => {}
                    () = tokio::time::sleep(ASK) => {}
                }
                match self.return_to_screen() {
                    Some(happening) => return happening,
                    None => continue,
                }
            };
            let (busy, closed) = (!terminal.is_ready(), terminal.closed());
            tokio::select! {
                stop = self.signals.next() => return Happening::Stop(stop),
                event = events.next() => return match event {
                    Some(Ok(event)) => Happening::Event(event),
                    Some(Err(error)) => Happening::Lost(error),
                    None => Happening::Lost(io::ErrorKind::UnexpectedEof.into()),
                },
                () = self.continued.next() => {
                    if let Some(happening) = self.return_to_screen() {
                        return happening;
                    }
                }
                room = terminal.ready(), if busy => return match room {
                    Ok(()) => Happening::Room,
                    Err(error) => Happening::Lost(error),
                },
                error = closed => return Happening::Lost(error),
            }
        }
    }

    fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.size = size;
        self.screen.as_mut().map_or(Ok(()), |(terminal, _)| terminal.resize(size))
    }

    fn is_ready(&self) -> bool {
        self.screen.as_ref().is_some_and(|(terminal, _)| terminal.is_ready())
    }

    fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.screen.as_mut().map_or(Ok(()), |(terminal, _)| terminal.draw(view))
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.screen = None;
        system::stop()
    }
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub use crate::ui::terminal::job::{in_foreground, stop};

    /// SIGCONT.
    pub struct Continued(Signal);

    impl Continued {
        pub fn new() -> io::Result<Self> {
            // tokio has no name for it; rustix knows its number on each system.
            signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw())).map(Self)
        }

        pub async fn next(&mut self) {
            if self.0.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    pub struct Continued;

    impl Continued {
        pub fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub async fn next(&mut self) {
            std::future::pending::<()>().await;
        }
    }

    pub fn in_foreground() -> bool {
        true
    }

    pub fn stop() -> io::Result<()> {
        Ok(())
    }
}
