//! The one thread that writes the database: takes all that waits into one transaction, then reports how far it got.
//!
//! Orders become durable in the order in which they came, each whole. Nothing that was handed in is dropped while
//! the thread lives: when the disk is full or fails, the rows are kept and tried again until they fit. A row that the
//! database refuses is a mistake in the program: the thread reports it and ends, and nothing after it is written.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hydra_core::hub::rows::Row;
use rusqlite::Connection;

use super::error::{FileError, StoreError, Trouble};
use super::files::RunLock;
use super::seal::Seal;
use super::{Store, rows};

/// Rows in one transaction, unless a single order has more: bounds how long the first waits for the last.
const GROUP: usize = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Further tries when the program is stopping and the rows do not fit.
const LAST_TRIES: u32 = 3;

/// What the thread has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Every order up to this number is durable.
    Upto(u64),
    /// Writing fails, for a reason that may pass; it is tried again, and nothing is lost. Said once a kind of trouble,
    /// until an `Upto` ends it.
    Waiting(StoreError),
    /// Writing cannot go on; the thread has ended. The program must stop.
    Broken(StoreError),
}

type Order = (u64, Vec<Row>);

/// The handle of the thread. Dropping it lets the thread finish on its own; [`Writer::shutdown`] waits for it.
#[derive(Debug)]
pub struct Writer {
    orders: Sender<Order>,
    thread: JoinHandle<Result<RunLock, StoreError>>,
}

impl Store {
    /// Starts the thread. `on_saved` is called on it, and must not block for long.
    pub fn spawn(self, on_saved: impl FnMut(Saved) + Send + 'static) -> Result<Writer, StoreError> {
        let (orders, waiting) = channel();
        let Self { connection, seal, lock, .. } = self;
        let keeper = Keeper { connection, seal, pending: VecDeque::new(), lock };
        let thread = thread::Builder::new()
            .name("ledger".into())
            .spawn(move || keeper.run(&waiting, on_saved))
            .map_err(|error| FileError::io("start a thread for", "the ledger".as_ref(), &error))?;
        Ok(Writer { orders, thread })
    }
}

impl Writer {
    /// Hands in an order; numbers grow. Never waits: who calls bounds how much is under way.
    pub fn persist(&self, seq: u64, rows: Vec<Row>) {
        // If the thread has ended, it said `Broken`, and the program is stopping.
        self.orders.send((seq, rows)).ok();
    }

    /// Writes all that waits, folds the write-ahead log into the database and closes it. Gives the hold on the folder, for
    /// what is still to be written there.
    pub fn shutdown(self) -> Result<RunLock, StoreError> {
        drop(self.orders);
        self.thread.join().unwrap_or_else(|_| Err(StoreError::Unfit("the ledger's thread panicked".into())))
    }
}

/// The thread's state.
pub(super) struct Keeper {
    pub(super) connection: Connection,
    pub(super) seal: Seal,
    pub(super) pending: VecDeque<Order>,
    pub(super) lock: RunLock,
}

impl Keeper {
    fn run(mut self, waiting: &Receiver<Order>, mut on_saved: impl FnMut(Saved)) -> Result<RunLock, StoreError> {
        let mut told: Option<Trouble> = None;
        let mut pause = FIRST_PAUSE;
        let mut last_tries = 0;
        loop {
            if self.pending.is_empty() {
                match waiting.recv() {
                    Ok(order) => self.pending.push_back(order),
                    Err(_) => return self.close(),
                }
            }
            self.pending.extend(waiting.try_iter());
            match self.commit() {
                Ok(upto) => {
                    if told.take().is_some() {
                        tracing::info!(upto, "the ledger is written again");
                    }
                    (pause, last_tries) = (FIRST_PAUSE, 0);
                    on_saved(Saved::Upto(upto));
                }
                Err(error) if error.trouble().passes() && last_tries < LAST_TRIES => {
                    if told.replace(error.trouble()) != Some(error.trouble()) {
                        tracing::warn!(%error, orders = self.pending.len(), "the ledger waits; nothing is lost");
                        on_saved(Saved::Waiting(error));
                    }
                    if !self.wait(waiting, pause) {
                        last_tries += 1;
                    }
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                Err(error) => {
                    tracing::error!(%error, orders = self.pending.len(), "the ledger cannot be written");
                    on_saved(Saved::Broken(error.clone()));
                    return Err(error);
                }
            }
        }
    }

    /// Collects orders for a while; false if there will be none any more.
    fn wait(&mut self, waiting: &Receiver<Order>, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match waiting.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(order) => self.pending.push_back(order),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                    return false;
                }
            }
        }
    }

    /// Makes the oldest orders durable, as many as fit one transaction, and returns the last one's number. On an
    /// error all of them still wait. There is at least one.
    pub(super) fn commit(&mut self) -> Result<u64, StoreError> {
        let (mut orders, mut size) = (0, 0);
        for (_, rows) in &self.pending {
            if orders > 0 && size + rows.len() > GROUP {
                break;
            }
            orders += 1;
            size += rows.len();
        }
        rows::write(&mut self.connection, &self.seal, self.pending.iter().take(orders).flat_map(|(_, rows)| rows))?;
        let upto = self.pending.drain(..orders).next_back().expect("there is at least one order").0;
        Ok(upto)
    }

    fn close(self) -> Result<RunLock, StoreError> {
        let Self { connection, lock, .. } = self;
        let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let closed = connection.close().map_err(|(_, error)| error);
        folded.and(closed).map(|()| lock).map_err(StoreError::sql("close the ledger"))
    }
}
