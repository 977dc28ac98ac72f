//! The console of a real process: the terminal, its events, signals, and the time between Ctrl-Z and `fg`.

use std::io;
use std::time::Duration;

use crossterm::event::Event;
use ratatui::Frame;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::input::Input;
use super::{Console, Happening};
use crate::signals::Signals;
use crate::ui::terminal::Terminal;

/// How often a job in the background asks whether it is in the foreground; shells do not tell a running one.
const ASK: Duration = Duration::from_millis(250);

/// The console of this process.
pub struct Real {
    /// Events and the terminal, in the order in which they end; none while another job has the terminal, when
    /// reading would stop this process.
    screen: Option<(Input, Terminal)>,
    signals: Signals,
    continued: system::Continued,
    resized: system::Resized,
    /// Lasts over calls of `next`, which the loop gives up at each message.
    ask: Interval,
    size: (u16, u16),
}

impl Real {
    /// Enters the terminal.
    pub fn enter() -> io::Result<Self> {
        let signals = Signals::listen(false)?;
        let continued = system::Continued::new()?;
        let resized = system::Resized::new()?;
        let terminal = Terminal::enter()?;
        let size = terminal.size();
        let screen = Some((Input::start()?, terminal));
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { screen, signals, continued, resized, ask, size })
    }

    /// Takes the terminal again if this process may.
    fn return_to_screen(&mut self) -> Option<Happening> {
        // Leaving first: the shell may have changed the terminal's modes in between.
        self.screen = None;
        if !system::in_foreground() {
            return None;
        }
        Some(match Terminal::enter().and_then(|terminal| Ok((Input::start()?, terminal))) {
            Ok((input, terminal)) => {
                self.size = terminal.size();
                self.screen = Some((input, terminal));
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

    async fn next(&mut self, room: bool) -> Happening {
        loop {
            let Some((input, terminal)) = &mut self.screen else {
                tokio::select! {
                    stop = self.signals.next() => return Happening::Stop(stop),
                    () = self.continued.next() => {}
                    _ = self.ask.tick() => {}
                }
                match self.return_to_screen() {
                    Some(happening) => return happening,
                    None => continue,
                }
            };
            let closed = terminal.closed();
            tokio::select! {
                stop = self.signals.next() => return Happening::Stop(stop),
                event = input.next() => return match event {
                    Ok(event) => Happening::Event(event),
                    Err(error) => Happening::Lost(error),
                },
                () = self.resized.next() => {
                    if let Ok((width, height)) = crossterm::terminal::size() {
                        return Happening::Event(Event::Resize(width, height));
                    }
                }
                () = self.continued.next() => {
                    if let Some(happening) = self.return_to_screen() {
                        return happening;
                    }
                }
                taken = terminal.ready(), if room => return match taken {
                    Ok(()) => Happening::Room,
                    Err(error) => Happening::Lost(error),
                },
                error = closed => return Happening::Lost(error),
            }
        }
    }

    fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.size = size;
        self.screen.as_mut().map_or(Ok(()), |(_, terminal)| terminal.resize(size))
    }

    fn is_ready(&self) -> bool {
        self.screen.as_ref().is_some_and(|(_, terminal)| terminal.is_ready())
    }

    fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.screen.as_mut().map_or(Ok(()), |(_, terminal)| terminal.draw(view))
    }

    fn suspend(&mut self) -> io::Result<()> {
        // Reading ends before the terminal is given back.
        self.screen = None;
        // The stop may take effect a moment later; until then the terminal must be left alone.
        self.ask.reset();
        system::stop()
    }
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub use crate::ui::terminal::job::{in_foreground, stop};

    /// SIGWINCH.
    pub struct Resized(Signal);

    impl Resized {
        pub fn new() -> io::Result<Self> {
            signal(SignalKind::window_change()).map(Self)
        }

        pub async fn next(&mut self) {
            next(&mut self.0).await;
        }
    }

    async fn next(signal: &mut Signal) {
        if signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// SIGCONT.
    pub struct Continued(Signal);

    impl Continued {
        pub fn new() -> io::Result<Self> {
            // tokio has no name for it; rustix knows its number on each system.
            signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw())).map(Self)
        }

        pub async fn next(&mut self) {
            next(&mut self.0).await;
        }
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    use tokio::time::{Interval, interval};

    /// The terminal's size, asked for from time to time, as no signal tells of it.
    pub struct Resized(Option<(u16, u16)>, Interval);

    impl Resized {
        pub fn new() -> io::Result<Self> {
            Ok(Self(crossterm::terminal::size().ok(), interval(super::ASK)))
        }

        pub async fn next(&mut self) {
            loop {
                self.1.tick().await;
                let size = crossterm::terminal::size().ok();
                if size.is_some() && size != self.0 {
                    self.0 = size;
                    return;
                }
            }
        }
    }

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
