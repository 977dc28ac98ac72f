//! The screen of a worker that was started in a terminal: what it knows, its keys, how it looks, and its feed.
//!
//! Work and screen run side by side in one task and speak over channels: [`Feed`] brings what happens, requests go
//! back. A screen that is lost takes nothing along; from then on everything is told as without one.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hydra_core::agent::Event;
use hydra_shell::clock::Clock;
use hydra_shell::link::LinkStats;
use hydra_shell::ui::run::{self, End};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::{News, Request, Sink};
use crate::tell::Teller;

mod model;
mod panels;
mod process;
mod update;
mod view;

#[cfg(test)]
mod tests;

use model::Usage;
pub use model::{Facts, Screen};
pub use update::{Cmd, Msg};

/// Messages that may wait for the screen.
pub const WAITING: usize = 1_024;
/// Of these, kept free of steps: what happens more rarely must not be lost.
const RESERVE: usize = 256;
/// Between two looks at traffic and process.
const LOOK: Duration = Duration::from_secs(1);

/// The line of the last event, where it went to the screen: whether that still shows it depends on who is faster, so it
/// is told once the screen is gone.
pub type LastWord = Arc<OnceLock<String>>;

/// The sink of a worker with a screen; when that is lost, of one without.
pub struct Feed {
    screen: mpsc::Sender<Msg>,
    teller: Teller,
    last: LastWord,
}

impl Feed {
    /// Feeds `screen` while it is there, and `teller` afterwards.
    pub fn new(screen: mpsc::Sender<Msg>, teller: Teller) -> Self {
        Self { screen, teller, last: LastWord::default() }
    }

    /// Where the line of the last event will be.
    pub fn last_word(&self) -> LastWord {
        self.last.clone()
    }

    fn put(&self, msg: Msg) {
        if self.screen.try_send(msg).is_err() && !self.screen.is_closed() {
            tracing::warn!("the screen does not keep up");
        }
    }
}

impl Sink for Feed {
    fn show(&mut self, event: &Event) {
        if self.screen.is_closed() {
            return self.teller.show(event);
        }
        // The log pane shows what people without a screen read.
        if let Some(line) = self.teller.line(event) {
            match event {
                Event::Unpaid { .. } | Event::Disconnected { .. } => tracing::warn!(target: "run", "{line}"),
                // There is but one.
                Event::Stopped { .. } => drop(self.last.set(line)),
                _ => tracing::info!(target: "run", "{line}"),
            }
        }
        self.put(Msg::Event(event.clone()));
    }

    fn tell(&mut self, news: News) {
        self.teller.heed(&news);
        if !matches!(news, News::Step { .. }) || self.screen.capacity() > RESERVE {
            self.put(Msg::News(news));
        }
    }
}

/// Shows the screen until it is left or lost; whether it was lost.
pub async fn show(
    screen: &mut Screen,
    clock: Clock,
    messages: mpsc::Receiver<Msg>,
    requests: mpsc::Sender<Request>,
) -> Option<String> {
    let perform = |cmd| match cmd {
        Cmd::Leave => ControlFlow::Break(()),
        Cmd::Request(request) => {
            // Work that has ended wants nothing; a full channel holds requests of the same person.
            let _ = requests.try_send(request);
            ControlFlow::Continue(())
        }
    };
    match run::run(screen, clock, messages, Msg::Stop, perform).await {
        End::Left => None,
        End::Lost(error) => Some(format!("the screen is gone ({error}); working on without it")),
        End::Panicked => Some("the screen was taken down by a bug; working on without it".to_owned()),
    }
}

/// Tells the screen what link and process cost, until it is gone.
pub async fn watch(screen: mpsc::Sender<Msg>, stats: Arc<LinkStats>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = screen.closed() => return,
        }
        let (cpu, memory) = process::usage();
        let usage = Usage {
            up: stats.bytes_up(),
            down: stats.bytes_down(),
            round_trip: stats.round_trip(),
            silent: stats.silent(),
            cpu,
            memory,
        };
        // The next look comes soon.
        let _ = screen.try_send(Msg::Usage(usage));
    }
}
