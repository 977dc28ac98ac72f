//! The loop of a program with a screen: terminal events, the program's own messages, wake-ups, frames, Ctrl-Z, Ctrl-L.
//!
//! All updates and drawing happen in the task that calls [`run`]; commands go to a callback at once and in order. A
//! lost terminal and a bug in the app end the loop with a reason, a hanging terminal only delays frames, and a job that
//! was continued in the background works on without a screen until it is in the foreground again. What to do at the end
//! is the program's.

use std::io;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::FutureExt as _;
use hydra_core::time::Time;
use ratatui::Frame;
use tokio::sync::mpsc;

use super::App;
use super::frames::Pacer;
use super::terminal;
use crate::clock::Clock;
use crate::signals::Stop;

mod console;
mod input;

/// Messages taken in one go before the screen is looked at again.
const BATCH: usize = 64;
/// The least time between wake-ups of an app that does not move its own on.
const LEAST: Duration = Duration::from_millis(5);

/// Why the loop ended.
#[derive(Debug)]
pub enum End {
    /// A command's callback wanted it.
    Left,
    /// The terminal is gone, as when a window or a connection is closed; SIGHUP often comes with it. The work may go on.
    Lost(io::Error),
    /// The app or another thread panicked, which has taken the terminal away; the message is printed. The app is not to
    /// be shown again.
    Panicked,
}

/// What a console reports.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A key, the mouse, a paste, a size.
    Event(Event),
    /// Somebody wants the program to stop.
    Stop(Stop),
    /// The terminal has taken the last frame.
    Room,
    /// The screen is there again, perhaps with another size.
    Back,
    /// The terminal is gone.
    Lost(io::Error),
}

/// The terminal as the loop sees it; tests have their own.
pub(crate) trait Console {
    /// Columns and rows.
    fn size(&self) -> (u16, u16);
    /// The next report. `room` asks for [`Happening::Room`]: the loop was told that a frame could not be drawn, which may
    /// have changed since. Cancel safe.
    fn next(&mut self, room: bool) -> impl Future<Output = Happening> + Send;
    /// Takes a new size.
    fn resize(&mut self, size: (u16, u16)) -> io::Result<()>;
    /// Whether a frame can be drawn.
    fn is_ready(&self) -> bool;
    /// Draws a frame.
    fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()>;
    /// Gives the terminal back and stops the process.
    fn suspend(&mut self) -> io::Result<()>;
}

/// Enters the terminal and runs `app` until a command's callback breaks off, the terminal is lost, or `app` or a
/// thread panics; the terminal is given back in each case.
///
/// `messages` are facts from the work (a closed channel is no reason to end); `on_stop` makes a message of SIGTERM,
/// SIGHUP and Ctrl-C from outside (the key Ctrl-C is an ordinary key); `clock` is that of the work, so that times can
/// be compared. Call it within a tokio runtime with time and IO.
pub async fn run<A: App>(
    app: &mut A,
    clock: Clock,
    messages: mpsc::Receiver<A::Msg>,
    on_stop: fn(Stop) -> A::Msg,
    perform: impl FnMut(A::Cmd) -> ControlFlow<()>,
) -> End {
    let end = match console::Real::enter() {
        Ok(console) => {
            let shown = Loop { app, clock, on_stop, perform, pacer: Pacer::default() }.drive(console, messages);
            // A bug on the screen must not take the work along, which may well share its task.
            AssertUnwindSafe(shown).catch_unwind().await.unwrap_or(End::Panicked)
        }
        Err(error) => End::Lost(error),
    };
    if matches!(end, End::Panicked) {
        // On a thread that may wait; if there is none any more, the program ends anyway.
        let _ = tokio::task::spawn_blocking(terminal::told).await;
    }
    end
}

/// What the loop carries besides console and channel.
struct Loop<'a, A: App, P> {
    app: &'a mut A,
    clock: Clock,
    on_stop: fn(Stop) -> A::Msg,
    perform: P,
    pacer: Pacer,
}

impl<A: App, P: FnMut(A::Cmd) -> ControlFlow<()>> Loop<'_, A, P> {
    async fn drive(mut self, mut console: impl Console, mut messages: mpsc::Receiver<A::Msg>) -> End {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut open, mut woken) = (true, None);
        let mut step = self.sized(&console);
        while step.is_continue() {
            if let Err(end) = self.draw(&mut console) {
                return end;
            }
            // A frame that the console cannot take yet is drawn when it reports room.
            let ready = console.is_ready();
            let frame = self.pacer.due().filter(|_| ready);
            let wake = self.app.wake_at().map(|at| woken.map_or(at, |last: Time| at.max(last.after(LEAST))));
            let until = frame.into_iter().chain(wake).min();
            tokio::select! {
                biased;
                happening = console.next(!ready) => step = match self.happened(happening, &mut console) {
                    Ok(step) => step,
                    Err(end) => return end,
                },
                count = messages.recv_many(&mut batch, BATCH), if open => {
                    open = count > 0;
                    step = batch.drain(..).try_for_each(|msg| self.update(msg));
                }
                () = self.clock.sleep_until(until) => {
                    let now = self.clock.now();
                    if wake.is_some_and(|wake| wake <= now) {
                        woken = Some(now);
                        step = self.wake();
                    }
                }
            }
        }
        End::Left
    }

    fn happened(&mut self, happening: Happening, console: &mut impl Console) -> Result<ControlFlow<()>, End> {
        let event = match happening {
            Happening::Event(event) => event,
            Happening::Stop(stop) => return Ok(self.update((self.on_stop)(stop))),
            Happening::Room => return Ok(ControlFlow::Continue(())),
            Happening::Back => return Ok(self.sized(console)),
            Happening::Lost(error) => return Err(lost(error)),
        };
        match event {
            Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => Ok(ControlFlow::Continue(())),
            Event::Key(KeyEvent { code: KeyCode::Char('z'), modifiers: KeyModifiers::CONTROL, .. }) if cfg!(unix) => {
                console.suspend().map_err(lost)?;
                Ok(ControlFlow::Continue(()))
            }
            // As everywhere: whatever else has written to the terminal goes.
            Event::Key(KeyEvent { code: KeyCode::Char('l'), modifiers: KeyModifiers::CONTROL, .. }) => {
                console.resize(console.size()).map_err(lost)?;
                Ok(self.sized(console))
            }
            Event::Resize(width, height) => {
                console.resize((width, height)).map_err(lost)?;
                Ok(self.sized(console))
            }
            event => Ok(self.event(&event)),
        }
    }

    /// Tells the app the size; the next frame draws everything.
    fn sized(&mut self, console: &impl Console) -> ControlFlow<()> {
        let (width, height) = console.size();
        self.pacer.urged();
        self.event(&Event::Resize(width, height))
    }

    fn event(&mut self, event: &Event) -> ControlFlow<()> {
        match self.app.keymap(event) {
            Some(msg) => {
                self.pacer.urged();
                self.update(msg)
            }
            None => ControlFlow::Continue(()),
        }
    }

    fn wake(&mut self) -> ControlFlow<()> {
        self.pacer.changed();
        self.app.on_wake().map_or(ControlFlow::Continue(()), |msg| self.update(msg))
    }

    fn update(&mut self, msg: A::Msg) -> ControlFlow<()> {
        self.pacer.changed();
        self.app.update(self.clock.now(), msg).into_iter().try_for_each(&mut self.perform)
    }

    /// Draws if a frame is due and there is room for it.
    fn draw(&mut self, console: &mut impl Console) -> Result<(), End> {
        let now = self.clock.now();
        if self.pacer.due().is_none_or(|due| due > now) || !console.is_ready() {
            return Ok(());
        }
        console.draw(|frame| self.app.view(frame)).map_err(lost)?;
        self.pacer.drawn(now);
        Ok(())
    }
}

fn lost(error: io::Error) -> End {
    if terminal::panicked() { End::Panicked } else { End::Lost(error) }
}

#[cfg(test)]
mod tests;
