//! A run's screen, from the moment at which everything is ready to the run's end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use hydra_config::Settings;
use hydra_core::hub::TransferView;
use hydra_core::ledger::Transfer;
use hydra_shell::clock::Clock;
use hydra_shell::events::Events;
use hydra_shell::logs::Ring;
use hydra_shell::ui::Theme;
use tokio::sync::mpsc;

use super::listen;
use super::samples::Samples;
use crate::screen::{self, Facts, History, Msg, Point, Screen, ScreenEnds};
use crate::store::{Reader, StoreError};

/// Transfers from before this start that the screen has.
const TRANSFERS: usize = 200;

/// A screen that is shown.
pub struct Drawn {
    tell: mpsc::Sender<Msg>,
    thread: JoinHandle<()>,
}

impl Drawn {
    /// Takes the terminal; from here on lines for people go to the log.
    pub fn open(
        settings: &Settings,
        addr: SocketAddr,
        ring: Ring,
        ends: ScreenEnds,
        clock: Clock,
        events: &Events,
    ) -> anyhow::Result<Self> {
        let mut history = history(&settings.run_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was before this start cannot be shown");
            History::default()
        });
        history.samples = Samples::of(&settings.run_dir, &settings.answers.sample_prompt).read();
        let facts = Facts {
            addr: addr.to_string(),
            join: listen::join(addr, listen::own_address()),
            run: settings.run_dir.display().to_string(),
            stop: super::run::stop(settings),
            prompt: settings.answers.sample_prompt.trim().to_owned(),
            theme: Theme::detect(),
            ring,
            started: clock.now(),
        };
        let tell = ends.tell.clone();
        let cautions = events.begin_screen();
        let said = events.clone();
        let over = move |lost: Option<String>| {
            said.end_screen();
            if let Some(why) = lost {
                said.caution(&why);
            }
        };
        let mut shown = Screen::new(facts, history);
        shown.caution(&cautions);
        let thread = screen::show(shown, clock, ends, over).inspect_err(|_| events.end_screen())?;
        Ok(Self { tell, thread })
    }

    /// Gives the terminal back.
    pub async fn close(self) {
        // A screen that is gone need not be told.
        let _ = self.tell.send(Msg::Ended).await;
        let thread = self.thread;
        if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the screen's thread panicked");
        }
    }
}

/// The versions that were measured before this start, oldest first.
pub fn points(reader: &Reader) -> Result<Vec<Point>, StoreError> {
    let measured = reader.versions()?.into_iter().rev().filter(|version| !version.superseded);
    let points = measured.filter_map(|version| {
        let (loss, bits_per_byte) = version.val_loss.zip(version.val_bits_per_byte)?;
        let updates = u32::try_from(version.updates).ok();
        Some(Point { version: version.version, loss, bits_per_byte, updates })
    });
    Ok(points.collect())
}

/// What the run's folder knows of the time before this start.
fn history(run: &Path) -> Result<History, StoreError> {
    let reader = Reader::open(run)?;
    let transfers = reader.newest_transfers(TRANSFERS)?.into_iter().map(|(transfer, held)| {
        let (debit, credit) = (transfer.debit.to_string(), transfer.credit.to_string());
        let Transfer { seq, id, hold, kind, amount, memo, at_ms, .. } = transfer;
        let memo = held.unwrap_or(memo);
        Arc::new(TransferView { seq, id, hold, kind, debit, credit, amount, memo, at_ms })
    });
    Ok(History { points: points(&reader)?, transfers: transfers.collect(), samples: Vec::new() })
}
