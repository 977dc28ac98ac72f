//! What the driver tells a screen, and what it does for one.
//!
//! Snapshots are made at most ten times a second, less often if they cost more than a hundredth of the driver's time;
//! once a second at least, and no oftener while nothing happens.

use std::time::Duration;

use hydra_core::hub::{Fact, Operator, View, WorkerView};
use hydra_core::ids::{SessionId, VersionNo};
use hydra_core::time::Time;
use tokio::sync::mpsc;

use super::driver::Driver;
use super::sessions::Outbox;
use crate::screen::{Msg, Request, Row, RunEnds, Saving, Snapshot};

/// The shortest time between two snapshots.
const OFTEN: Duration = Duration::from_millis(100);
/// The longest.
const SELDOM: Duration = Duration::from_secs(1);
/// Time between two snapshots, in times of what the last one cost.
const SHARE: u32 = 100;

/// The driver's side of a screen.
pub struct Watch {
    tell: mpsc::Sender<Msg>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// When the last snapshot was made, and what it cost.
    last: Option<(Time, Duration)>,
    /// Whether something has happened since.
    stirred: bool,
    /// Requests so far.
    heard: u64,
}

impl Watch {
    /// A watch over these channels.
    pub fn new(RunEnds { tell, requests }: RunEnds) -> Self {
        Self { tell, requests, last: None, stirred: true, heard: 0 }
    }

    /// Something has happened.
    pub fn stir(&mut self) {
        self.stirred = true;
    }

    /// When the next snapshot is due.
    pub fn due(&self) -> Time {
        let Some((at, cost)) = self.last else { return Time::default() };
        at.after(if self.stirred { (cost * SHARE).clamp(OFTEN, SELDOM) } else { SELDOM })
    }

    /// What the screen wants next; waits for ever once it is gone. Cancel safe.
    pub async fn request(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => {
                self.heard += 1;
                request
            }
            None => std::future::pending().await,
        }
    }

    /// Tells the screen; it misses what it has no room for.
    pub fn tell(&self, msg: Msg) {
        let _ = self.tell.try_send(msg);
    }

    /// Whether the screen is gone.
    pub fn is_over(&self) -> bool {
        self.tell.is_closed()
    }
}

impl Driver {
    /// Makes a snapshot for the screen.
    pub(super) fn glimpse(&mut self) {
        let began = self.clock.now();
        if self.watch.as_ref().is_none_or(Watch::is_over) {
            self.watch = None;
            return;
        }
        let mut view = self.hub.view(began);
        let sessions = &self.sessions;
        let row = |worker: WorkerView| {
            let outbox = sessions.get(&worker.session);
            let latency = outbox.and_then(Outbox::round_trip);
            let silent = outbox.and_then(Outbox::silent);
            Row { worker, latency, silent }
        };
        let rows = std::mem::take(&mut view.workers);
        let rows = rows.into_iter().map(row).collect();
        let (up, down) = (self.traffic.bytes_down(), self.traffic.bytes_up());
        let trouble = match (self.unpaid, self.stuck.any()) {
            (true, _) => Some("payments wait for the disk"),
            (false, true) => Some("training waits for the disk"),
            (false, false) => None,
        };
        if let Some(watch) = &mut self.watch {
            let snapshot = Snapshot { view, rows, trouble, up, down, heard: watch.heard };
            watch.tell(Msg::Snapshot(Box::new(snapshot)));
            watch.stirred = false;
            watch.last = Some((began, self.clock.now().since(began)));
        }
    }

    /// Tells the screen of a worker whose connection ended without a goodbye; after one the hub no longer knows it.
    pub(super) fn tell_lost(&self, session: SessionId) {
        if let (Some(watch), Some((user, worker))) = (&self.watch, self.hub.worker_of(session)) {
            watch.tell(Msg::Lost { user: user.clone(), worker });
        }
    }

    /// Does what the screen wants.
    pub(super) fn on_request(&mut self, request: Request) -> anyhow::Result<()> {
        let word = match request {
            Request::Pause => Operator::Pause,
            Request::Resume => Operator::Resume,
            Request::Save => {
                self.save();
                return Ok(());
            }
            Request::Queue(length) => Operator::Queue(length),
            Request::Kick(user, worker, reason) => {
                tracing::info!(target: "run", reason, %user, %worker, "the operator kicks a worker");
                Operator::Kick(user, worker, reason)
            }
            Request::Drain => return self.on_stop(hydra_shell::signals::Stop::Cleanly),
            Request::StopAtOnce => return self.on_stop(hydra_shell::signals::Stop::AtOnce),
        };
        self.handle(Fact::Operator(word));
        self.board.show(self.hub.status());
        Ok(())
    }

    /// Saves, and says what that means: payments, updates and versions are on disk before anybody is told of them, so
    /// that all there is to do is to make a version of the updates that wait.
    fn save(&mut self) {
        let View { status, round, ledger, stopping, .. } = self.hub.view(self.clock.now());
        let version = VersionNo(status.version.0 + 1);
        self.handle(Fact::Operator(Operator::CloseRound));
        let Some(watch) = &self.watch else { return };
        let waits = self.hub.view(self.clock.now()).round.asked;
        watch.tell(Msg::Saving(match (stopping, round.merging, round.accepted) {
            (Some(_), ..) => Saving::Ending,
            (_, true, _) => Saving::Merging { version },
            (_, _, 0) => Saving::Nothing { version: status.version, transfers: ledger.transfers },
            _ if waits => Saving::Waiting { version },
            (_, _, updates) => Saving::Closing { version, updates },
        }));
    }
}
