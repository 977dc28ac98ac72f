//! The learner: the thread that checks updates, keeps them until they are merged, and makes the versions.
//!
//! It owns the weights and the outer step's state. An accepted update is on disk before its verdict is given, and a
//! version can be made again from what is on disk before it is reported, so that the rows that follow never promise
//! what is not there.

pub mod likeness;
pub mod look;
pub mod outer;
pub mod probe;
pub mod remake;
pub mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hydra_core::codec::{Codec, CodecError};
use hydra_core::hub::{Findings, MergeInput, Probe, Source};
use hydra_core::ids::{Digest, LeaseId, VersionNo};
use hydra_core::merge::OuterRule;
use hydra_core::model::Shape;
use hydra_core::proto::UnpaidCode;

use self::likeness::Likeness;
use self::probe::Prober;
use self::writing::Writer;
use super::served::{Delta, Served};
use crate::store::{Checkpoint, FileError, UpdateFiles, VersionFiles};

/// What the learner is told, in order.
pub enum Command {
    Check(Check),
    /// What was checked is refused.
    Forget {
        lease: LeaseId,
        blob: Digest,
    },
    Merge {
        version: VersionNo,
        inputs: Vec<MergeInput>,
        rule: OuterRule,
    },
    /// The version's row is durable; the updates that it merged are needed no more once older versions are gone too.
    Published {
        version: VersionNo,
        merged: Vec<LeaseId>,
    },
}

/// An update that has come.
pub struct Check {
    pub lease: LeaseId,
    pub codec: Codec,
    pub bytes: Arc<[u8]>,
    pub blob: Digest,
    /// The version that it trained from.
    pub base: VersionNo,
    pub probe: Probe,
}

/// What it answers.
pub enum Report {
    Checked {
        lease: LeaseId,
        verdict: Result<Findings, (UnpaidCode, String)>,
    },
    /// An update is good and cannot be kept: the disk takes nothing. It is tried again, and nothing is lost.
    Waiting(FileError),
    /// All updates that waited for the disk are kept.
    Resumed,
    /// The newest version's file cannot be written. It is tried again, and a start could make the version again.
    Unwritten(FileError),
    Merged(Arc<Served>),
    MergeFailed {
        version: VersionNo,
        error: FileError,
    },
}

/// Updates that are checked before the good ones are put on disk, if they come meanwhile: a sync takes as long for all as
/// for one. Bad ones count too, or a stream of them would hold up the good.
const TOGETHER: usize = 4;
/// Bytes of updates on disk that are kept at hand for the merge, too.
const AT_HAND: usize = 64 << 20;
/// Between two tries to keep what the disk did not take.
const PAUSE: Duration = Duration::from_secs(2);

/// An update that passed its checks and is not on disk yet.
pub struct Unkept {
    lease: LeaseId,
    blob: Digest,
    bytes: Arc<[u8]>,
    found: Findings,
}

/// The learner's own.
pub struct Learner {
    pub shape: Shape,
    pub codec: Codec,
    pub newest: VersionNo,
    pub checkpoint: Checkpoint,
    pub versions: VersionFiles,
    pub writer: Writer,
    pub updates: UpdateFiles,
    /// Whether it is known that versions cannot be written.
    pub failing: bool,
    /// Files of versions that stay.
    pub keep: usize,
    /// Updates that wait on disk, by lease.
    pub waiting: BTreeMap<LeaseId, Digest>,
    /// The bytes of some of them.
    pub at_hand: BTreeMap<LeaseId, Arc<[u8]>>,
    /// Good updates for which the disk has no room, oldest first. The hub bounds how many are being checked.
    pub unkept: VecDeque<Unkept>,
    /// Merged updates still on disk, for the case that a version's file is missing or turns out damaged.
    pub merged: VecDeque<(VersionNo, Vec<(LeaseId, Digest)>)>,
    pub likeness: Likeness,
    pub prober: Prober,
}

impl Learner {
    /// Starts the thread; it ends when the sender is dropped.
    pub fn spawn(
        mut self,
        mut report: impl FnMut(Report) + Send + 'static,
    ) -> std::io::Result<(Sender<Command>, JoinHandle<()>)> {
        let (commands, taken): (_, Receiver<Command>) = channel();
        let thread = std::thread::Builder::new().name("learner".into()).spawn(move || {
            let mut tried = Instant::now();
            loop {
                let again = (!self.unkept.is_empty()).then(|| PAUSE.saturating_sub(tried.elapsed()));
                let command = match again.into_iter().chain(self.writer.due()).min() {
                    Some(wait) => taken.recv_timeout(wait),
                    None => taken.recv().map_err(RecvTimeoutError::from),
                };
                self.go_on(&mut report);
                // Also while there is always something else to do.
                if tried.elapsed() >= PAUSE {
                    tried = Instant::now();
                    self.keep_again(&mut report);
                }
                let command = match command {
                    Ok(command) => command,
                    Err(RecvTimeoutError::Timeout) => continue,
                    // What could not be kept was not acknowledged either: its workers send it again.
                    Err(RecvTimeoutError::Disconnected) => {
                        if let Err(error) = self.settle() {
                            report(Report::Unwritten(error));
                        }
                        return;
                    }
                };
                let mut next = Some(command);
                while let Some(command) = next {
                    next = self.obey_with(command, || taken.try_recv().ok(), &mut report);
                }
            }
        })?;
        Ok((commands, thread))
    }

    /// Does as told.
    pub fn obey(&mut self, command: Command, report: &mut impl FnMut(Report)) {
        self.obey_with(command, || None, report);
    }

    /// The same; while it checks updates it takes more of them from `more`, and gives back what was something else.
    pub fn obey_with(
        &mut self,
        command: Command,
        more: impl Fn() -> Option<Command>,
        report: &mut impl FnMut(Report),
    ) -> Option<Command> {
        match command {
            Command::Check(check) => return self.check_together(check, more, report),
            Command::Forget { lease, blob } => self.forget(lease, &blob),
            Command::Merge { version, inputs, rule } => {
                let before = self.checkpoint.weights.clone();
                match self.merge(version, &inputs, rule) {
                    Ok(served) => {
                        report(Report::Merged(served));
                        // The workers need not wait for this.
                        let step = look::step(&before, &self.checkpoint.weights, self.likeness.seed());
                        self.likeness.note(Source::Step(version), step);
                    }
                    Err(error) => report(Report::MergeFailed { version, error }),
                }
            }
            Command::Published { version, merged } => {
                let merged = merged.iter().filter_map(|lease| self.waiting.remove(lease).map(|blob| (*lease, blob)));
                self.merged.push_back((version, merged.collect()));
            }
        }
        None
    }

    fn check_together(
        &mut self,
        mut check: Check,
        more: impl Fn() -> Option<Command>,
        report: &mut impl FnMut(Report),
    ) -> Option<Command> {
        let (mut good, mut left) = (Vec::new(), TOGETHER);
        let other = loop {
            match self.check(&check) {
                Ok(found) => good.push(Unkept { lease: check.lease, blob: check.blob, bytes: check.bytes, found }),
                Err(why) => report(Report::Checked { lease: check.lease, verdict: Err(why) }),
            }
            left -= 1;
            match if left > 0 { more() } else { None } {
                Some(Command::Check(next)) => check = next,
                other => break other,
            }
        };
        self.keep(good, report);
        other
    }

    fn check(&mut self, check: &Check) -> Result<Findings, (UnpaidCode, String)> {
        let Check { lease, codec, ref bytes, base, ref probe, .. } = *check;
        let look = look::update(codec, bytes, self.shape.params(), self.likeness.seed(), probe.windows > 0).map_err(
            |error| {
                let code = match error {
                    CodecError::Length { .. } => UnpaidCode::WrongSize,
                    CodecError::NotFinite => UnpaidCode::NotFinite,
                    CodecError::NotCanonical { .. } => UnpaidCode::Corrupt,
                };
                (code, error.to_string())
            },
        )?;
        let look::Look { values, norm, sketch } = look;
        if !norm.is_finite() {
            return Err((UnpaidCode::NotFinite, "the update's norm is not a number".to_owned()));
        }
        // However few train: a copy is a copy, and a sketch costs one pass.
        let twin = self.likeness.note(Source::Update(lease), sketch);
        let gain = values.and_then(|values| {
            self.prober.gain(base, probe, &values).unwrap_or_else(|error| {
                // The machine's fault, not the worker's.
                tracing::warn!(%error, %lease, "whether an update helps cannot be measured");
                None
            })
        });
        Ok(Findings { norm, twin, gain })
    }

    fn forget(&mut self, lease: LeaseId, blob: &Digest) {
        self.likeness.forget(lease);
        self.at_hand.remove(&lease);
        if self.waiting.remove(&lease).is_some()
            && let Err(error) = self.updates.remove(lease, blob)
        {
            tracing::warn!(%error, "a refused update's file cannot be removed");
        }
    }

    /// Puts good updates on disk, then says so. A full disk must not cost a worker its pay: then they wait.
    fn keep(&mut self, good: Vec<Unkept>, report: &mut impl FnMut(Report)) {
        if !self.unkept.is_empty() {
            return self.unkept.extend(good);
        }
        let updates = &self.updates;
        let put = |update: &Unkept| updates.put(update.lease, &update.blob, &update.bytes);
        let written: Vec<_> = match good.as_slice() {
            [one] => vec![put(one)],
            several => std::thread::scope(|scope| {
                let running: Vec<_> = several.iter().map(|update| scope.spawn(|| put(update))).collect();
                running.into_iter().map(|thread| thread.join().expect("writing does not panic")).collect()
            }),
        };
        for (update, written) in good.into_iter().zip(written) {
            match written {
                Ok(()) => self.kept(update, report),
                Err(error) => {
                    if self.unkept.is_empty() {
                        report(Report::Waiting(error));
                    }
                    self.unkept.push_back(update);
                }
            }
        }
    }

    fn keep_again(&mut self, report: &mut impl FnMut(Report)) {
        if self.unkept.is_empty() {
            return;
        }
        while let Some(update) = self.unkept.pop_front() {
            if self.updates.put(update.lease, &update.blob, &update.bytes).is_err() {
                return self.unkept.push_front(update);
            }
            self.kept(update, report);
        }
        report(Report::Resumed);
    }

    fn kept(&mut self, Unkept { lease, blob, bytes, found }: Unkept, report: &mut impl FnMut(Report)) {
        self.waiting.insert(lease, blob);
        if self.at_hand.values().map(|bytes| bytes.len()).sum::<usize>() + bytes.len() <= AT_HAND {
            self.at_hand.insert(lease, bytes);
        }
        report(Report::Checked { lease, verdict: Ok(found) });
    }

    fn merge(&mut self, version: VersionNo, inputs: &[MergeInput], rule: OuterRule) -> Result<Arc<Served>, FileError> {
        if self.writer.is_far_behind() {
            self.settle()?;
        }
        let mut updates = Vec::with_capacity(inputs.len());
        for input in inputs {
            let bytes = match self.at_hand.get(&input.lease) {
                Some(bytes) => bytes.clone(),
                None => self.updates.get(input.lease, &input.blob)?.into(),
            };
            updates.push((input.share, input.codec, bytes));
        }
        // From here on nothing fails. Others may hold the weights; the outer state is copied only while it is written.
        self.writer.drop_waiting();
        for input in inputs {
            self.at_hand.remove(&input.lease);
        }
        let state = Arc::make_mut(&mut self.checkpoint.outer);
        let (weights, bytes) = outer::step(&self.checkpoint.weights, state, &updates, rule, self.codec);
        let digest = outer::digest(&weights);
        let weights = Arc::new(weights);
        self.checkpoint.weights = weights.clone();
        self.writer.add(version, digest, self.checkpoint.clone());
        self.newest = version;
        self.prober.add(version, weights.clone());
        let delta = Delta::new(self.codec, bytes);
        Ok(Arc::new(Served::new(self.shape, version, digest, weights, Some(delta))))
    }

    /// Waits until the newest version is on disk.
    fn settle(&mut self) -> Result<(), FileError> {
        if let Some(version) = self.writer.finish()? {
            self.on_disk(version);
        }
        Ok(())
    }

    fn go_on(&mut self, report: &mut impl FnMut(Report)) {
        match self.writer.go_on() {
            Ok(Some(version)) => {
                self.failing = false;
                self.on_disk(version);
            }
            Ok(None) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    report(Report::Unwritten(error));
                }
            }
        }
    }

    /// Removes what is not needed any more.
    ///
    /// The version's own row may not be durable yet, and is lost then with a crash: so an older file has to stay as well,
    /// with what was merged since; `keep` is three at least.
    fn on_disk(&mut self, version: VersionNo) {
        let oldest = match self.versions.keep(version, self.keep) {
            Ok(oldest) => oldest.unwrap_or(version),
            Err(error) => {
                tracing::warn!(%error, "an old version's file cannot be removed");
                return;
            }
        };
        while self.merged.front().is_some_and(|(merged, _)| *merged <= oldest) {
            for (lease, blob) in self.merged.pop_front().map(|(_, leases)| leases).unwrap_or_default() {
                if let Err(error) = self.updates.remove(lease, &blob) {
                    tracing::warn!(%error, "a merged update's file cannot be removed");
                }
            }
        }
    }
}
