//! The newest versions on their way to the disk, beside other work.
//!
//! A version is told before its file is on disk: its row names what it was merged from, and the updates stay until a
//! version that has them is on disk, so that a start makes the very same weights again (`remake.rs`). That lets fast
//! rounds share the disk: writing takes at most a quarter of the time, and of the versions made meanwhile only the
//! newest is written next. Rounds that last longer than four times a write all get their file at once.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use hydra_core::ids::{Digest, VersionNo};

use crate::store::{Checkpoint, FileError, VersionFiles};

/// After writing for so long, the disk is left alone for this many times as long.
const REST: u32 = 3;
/// Versions told at most since the last one on disk; a start makes as many again.
const BEHIND: u64 = 8;
/// Between two tries of what the disk did not take.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two looks at whether a write has ended.
const LOOK: Duration = Duration::from_millis(50);

/// A version's file in the making.
#[derive(Clone)]
struct Content {
    version: VersionNo,
    digest: Digest,
    checkpoint: Arc<Checkpoint>,
}

/// How a write ended.
type Written = Result<Duration, FileError>;

/// Writes versions, one at a time.
pub struct Writer {
    files: VersionFiles,
    /// The newest version that nobody writes yet.
    next: Option<Content>,
    running: Option<(Content, JoinHandle<Written>)>,
    /// The newest version, and the newest that is on disk.
    told: VersionNo,
    on_disk: VersionNo,
    rests_until: Option<Instant>,
}

impl Writer {
    /// `on_disk` is the newest version that is.
    pub fn new(files: VersionFiles, on_disk: VersionNo) -> Self {
        Self { files, next: None, running: None, told: on_disk, on_disk, rests_until: None }
    }

    /// A version more is to be written some time.
    pub fn add(&mut self, version: VersionNo, digest: Digest, checkpoint: Checkpoint) {
        self.next = Some(Content { version, digest, checkpoint: Arc::new(checkpoint) });
        self.told = version;
    }

    /// A newer version is about to be [added](Self::add): the one that waits need not be held any more.
    pub fn drop_waiting(&mut self) {
        self.next = None;
    }

    /// Whether the next version must wait until one is on disk.
    pub fn is_far_behind(&self) -> bool {
        self.told.0 - self.on_disk.0 >= BEHIND
    }

    /// Goes on without waiting for the disk; gives the version that has come to be there, or why none has.
    pub fn go_on(&mut self) -> Result<Option<VersionNo>, FileError> {
        let ended = self.running.take_if(|(_, thread)| thread.is_finished());
        let written = ended.map(|(content, thread)| self.ended(content, join(thread))).transpose();
        if self.running.is_none() && self.rests_until.is_none_or(|until| until <= Instant::now()) {
            self.start();
        }
        written
    }

    /// When to go on, if nothing else happens.
    pub fn due(&self) -> Option<Duration> {
        if self.next.is_none() && self.running.is_none() {
            return None;
        }
        let rest = || self.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        Some(if self.running.is_some() { LOOK } else { rest() })
    }

    /// Waits until the newest version is on disk; gives it if it was not there before. An error leaves everything to
    /// be tried again.
    pub fn finish(&mut self) -> Result<Option<VersionNo>, FileError> {
        let mut newest = None;
        if let Some((content, thread)) = self.running.take() {
            newest = Some(self.ended(content, join(thread))?);
        }
        if let Some(content) = self.next.take() {
            let written = write(&self.files, &content);
            newest = Some(self.ended(content, written)?);
        }
        Ok(newest)
    }

    fn start(&mut self) {
        let Some(content) = self.next.take() else { return };
        let (files, to_write) = (self.files.clone(), content.clone());
        match Builder::new().name("version".into()).spawn(move || write(&files, &to_write)) {
            Ok(thread) => self.running = Some((content, thread)),
            // It is written when somebody waits for it.
            Err(error) => {
                tracing::warn!(%error, "no thread to write a version with");
                self.next = Some(content);
                self.rests_until = Some(Instant::now() + PAUSE);
            }
        }
    }

    fn ended(&mut self, content: Content, written: Written) -> Result<VersionNo, FileError> {
        match written {
            Ok(took) => {
                self.on_disk = content.version;
                self.rests_until = Some(Instant::now() + REST * took);
                Ok(content.version)
            }
            Err(error) => {
                self.next.get_or_insert(content);
                self.rests_until = Some(Instant::now() + PAUSE);
                Err(error)
            }
        }
    }
}

fn join(thread: JoinHandle<Written>) -> Written {
    thread.join().expect("writing does not panic")
}

fn write(files: &VersionFiles, Content { version, digest, checkpoint }: &Content) -> Written {
    let begun = Instant::now();
    files.write(*version, digest, &checkpoint.weights, &checkpoint.outer)?;
    Ok(begun.elapsed())
}
