//! The screen of a coordinator that was started in a terminal: pages, keys, and the thread that it lives on.
//!
//! The screen never sees the hub: the driver sends it [`Snapshot`]s of plain values over a bounded channel, and takes
//! [`Request`]s, as many as somebody types. A screen that does not keep up misses snapshots; one that is lost takes
//! nothing along.

use std::ops::ControlFlow;
use std::thread::JoinHandle;

use anyhow::Context as _;
use hydra_shell::clock::Clock;
use hydra_shell::ui::run::{self, End};
use tokio::sync::mpsc;

mod keys;
mod ledger;
mod model;
mod overlays;
mod overview;
mod rates;
mod samples;
mod update;
mod view;
mod workers;

#[cfg(test)]
mod tests;

pub use model::{Facts, History, Point, Row, SAMPLES, Sample, Screen, Snapshot, Tab};
use update::Cmd;
pub use update::{Msg, Request, Saving};

/// Messages that may wait for the screen.
const WAITING: usize = 256;

/// What screen and run say to each other: the ends of both.
pub struct Channels {
    /// The run's.
    pub run: RunEnds,
    /// The screen's.
    pub screen: ScreenEnds,
}

/// The run's ends.
pub struct RunEnds {
    /// To the screen.
    pub tell: mpsc::Sender<Msg>,
    /// What the screen wants.
    pub requests: mpsc::UnboundedReceiver<Request>,
}

/// The screen's ends.
pub struct ScreenEnds {
    /// To the screen as well, for whoever ends it.
    pub tell: mpsc::Sender<Msg>,
    messages: mpsc::Receiver<Msg>,
    wanted: mpsc::UnboundedSender<Request>,
}

impl Channels {
    /// New ones.
    pub(crate) fn new() -> Self {
        let (tell, messages) = mpsc::channel(WAITING);
        let (wanted, requests) = mpsc::unbounded_channel();
        let run = RunEnds { tell: tell.clone(), requests };
        Self { run, screen: ScreenEnds { tell, messages, wanted } }
    }
}

/// Shows the screen on a thread of its own until it is told that the run has ended, or is lost; `over` is told why it
/// was lost.
pub fn show(
    mut screen: Screen,
    clock: Clock,
    ends: ScreenEnds,
    over: impl FnOnce(Option<String>) + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    // A runtime of its own, so that drawing never delays the driver, nor the driver's work a key.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the screen's asynchronous runtime")?;
    let ScreenEnds { tell, messages, wanted } = ends;
    drop(tell);
    let perform = move |cmd| match cmd {
        Cmd::Leave => ControlFlow::Break(()),
        Cmd::Request(request) => {
            // A run that has ended wants nothing.
            let _ = wanted.send(request);
            ControlFlow::Continue(())
        }
    };
    let live = move || {
        let ended = runtime.block_on(run::run(&mut screen, clock, messages, Msg::Stop, perform));
        over(match ended {
            End::Left => None,
            End::Lost(error) => Some(format!("the screen is gone ({error}); the run goes on without it")),
            End::Panicked => Some("the screen was taken down by a bug; the run goes on without it".to_owned()),
        });
    };
    std::thread::Builder::new().name("screen".into()).spawn(live).context("starting the screen's thread")
}
