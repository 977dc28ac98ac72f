//! The learner: the thread that checks updates, keeps them until they are merged, and makes the versions.
//!
//! It owns the weights and the outer step's state. An accepted update is on disk before its verdict is given, a
//! version is on disk before it is reported, so that the rows that follow never promise what is not there.

pub mod likeness;
pub mod probe;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hydra_core::codec::{Codec, CodecError};
use hydra_core::hub::{Findings, MergeInput, Probe, Source};
use hydra_core::ids::{Digest, LeaseId, VersionNo};
use hydra_core::merge::{self, Input, OuterRule, OuterState};
use hydra_core::model::Shape;
use hydra_core::proto::UnpaidCode;

use self::likeness::Likeness;
use self::probe::Prober;
use super::served::Served;
use crate::store::{Checkpoint, FileError, UpdateFiles, VersionFiles};

/// What the learner is told, in order.
pub enum Command {
    Check {
        lease: LeaseId,
        codec: Codec,
        bytes: Arc<[u8]>,
        blob: Digest,
        /// The version that it trained from.
        base: VersionNo,
        probe: Probe,
    },
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

/// What it answers.
pub enum Report {
    Checked { lease: LeaseId, verdict: Result<Findings, (UnpaidCode, String)> },
    Merged(Arc<Served>),
    MergeFailed { version: VersionNo, error: FileError },
}

/// An accepted update: its digest, and its bytes if they came in this run of the program.
type Waiting = (Digest, Option<Arc<[u8]>>);

/// The learner's own.
pub struct Learner {
    pub shape: Shape,
    pub codec: Codec,
    pub newest: VersionNo,
    pub checkpoint: Checkpoint,
    pub versions: VersionFiles,
    pub updates: UpdateFiles,
    pub keep: u64,
    /// Updates that wait, by lease.
    pub waiting: BTreeMap<LeaseId, Waiting>,
    /// Merged updates still on disk, for the case that a version's file turns out damaged.
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
            while let Ok(command) = taken.recv() {
                if let Some(answer) = self.obey(command) {
                    report(answer);
                }
            }
        })?;
        Ok((commands, thread))
    }

    /// Does as told.
    pub fn obey(&mut self, command: Command) -> Option<Report> {
        match command {
            Command::Check { lease, codec, bytes, blob, base, probe } => {
                let verdict = self.check(lease, codec, &bytes, blob, base, &probe);
                Some(Report::Checked { lease, verdict })
            }
            Command::Forget { lease, blob } => {
                self.forget(lease, &blob);
                None
            }
            Command::Merge { version, inputs, rule } => Some(self.merge(version, &inputs, rule)),
            Command::Published { version, merged } => {
                self.published(version, &merged);
                None
            }
        }
    }

    fn check(
        &mut self,
        lease: LeaseId,
        codec: Codec,
        bytes: &Arc<[u8]>,
        blob: Digest,
        base: VersionNo,
        probe: &Probe,
    ) -> Result<Findings, (UnpaidCode, String)> {
        let values = codec.decode(bytes, self.shape.params()).map_err(|error| {
            let code = match error {
                CodecError::Length { .. } => UnpaidCode::WrongSize,
                CodecError::NotFinite => UnpaidCode::NotFinite,
                CodecError::NotCanonical { .. } => UnpaidCode::Corrupt,
            };
            (code, error.to_string())
        })?;
        let norm = merge::norm(&values);
        if !norm.is_finite() {
            return Err((UnpaidCode::NotFinite, "the update's norm is not a number".to_owned()));
        }
        let looked_at = probe.windows > 0;
        let twin = looked_at.then(|| self.likeness.note(Source::Update(lease), &values)).flatten();
        let gain = self.prober.gain(base, probe, &values).unwrap_or_else(|error| {
            // The machine's fault, not the worker's.
            tracing::warn!(%error, %lease, "whether an update helps cannot be measured");
            None
        });
        // A full disk must not cost the worker its pay: keep trying until there is room again.
        let mut pause = std::time::Duration::from_millis(200);
        while let Err(error) = self.updates.put(lease, &blob, bytes) {
            tracing::warn!(%error, %lease, "an update cannot be kept; training waits until it can");
            std::thread::sleep(pause);
            pause = (pause * 2).min(std::time::Duration::from_secs(5));
        }
        self.waiting.insert(lease, (blob, Some(bytes.clone())));
        Ok(Findings { norm, twin, gain })
    }

    fn forget(&mut self, lease: LeaseId, blob: &Digest) {
        self.likeness.forget(lease);
        if self.waiting.remove(&lease).is_some()
            && let Err(error) = self.updates.remove(lease, blob)
        {
            tracing::warn!(%error, "a refused update's file cannot be removed");
        }
    }

    fn merge(&mut self, version: VersionNo, inputs: &[MergeInput], rule: OuterRule) -> Report {
        match self.try_merge(version, inputs, rule) {
            Ok(served) => Report::Merged(served),
            Err(error) => Report::MergeFailed { version, error },
        }
    }

    fn try_merge(
        &mut self,
        version: VersionNo,
        inputs: &[MergeInput],
        rule: OuterRule,
    ) -> Result<Arc<Served>, FileError> {
        let mut deltas = Vec::with_capacity(inputs.len());
        for input in inputs {
            let bytes: Arc<[u8]> = match self.waiting.get(&input.lease) {
                Some((_, Some(bytes))) => bytes.clone(),
                _ => self.updates.get(input.lease, &input.blob)?.into(),
            };
            let delta = input.codec.decode(&bytes, self.shape.params());
            deltas.push(delta.expect("an accepted update was decoded before"));
        }
        let inputs: Vec<_> =
            inputs.iter().zip(&deltas).map(|(input, delta)| Input { share: input.share, delta }).collect();
        // Worked out on copies: if the version cannot be stored, nothing has happened.
        let mut weights = self.checkpoint.weights.clone();
        let mut outer = OuterState {
            momentum: self.checkpoint.outer.momentum.clone(),
            residual: self.checkpoint.outer.residual.clone(),
        };
        let bytes = merge::outer_step(&mut weights, &mut outer, &inputs, rule, self.codec);
        let digest = merge::weights_digest(&weights);
        self.versions.write(version, &digest, &weights, &outer)?;
        let step: Vec<f32> = self.checkpoint.weights.iter().zip(&weights).map(|(old, new)| old - new).collect();
        self.likeness.note(Source::Step(version), &step);
        self.checkpoint = Checkpoint { weights, outer };
        self.newest = version;
        let weights = Arc::new(self.checkpoint.weights.clone());
        self.prober.add(version, weights.clone());
        Ok(Arc::new(Served::new(self.shape, version, digest, weights, Some((self.codec, bytes)))))
    }

    fn published(&mut self, version: VersionNo, merged: &[LeaseId]) {
        let merged = merged.iter().filter_map(|lease| self.waiting.remove(lease).map(|(blob, _)| (*lease, blob)));
        self.merged.push_back((version, merged.collect()));
        if let Err(error) = self.versions.keep(version, self.keep) {
            tracing::warn!(%error, "an old version's file cannot be removed");
        }
        while self.merged.front().is_some_and(|(old, _)| old.0 + self.keep <= version.0) {
            for (lease, blob) in self.merged.pop_front().map(|(_, leases)| leases).unwrap_or_default() {
                if let Err(error) = self.updates.remove(lease, &blob) {
                    tracing::warn!(%error, "a merged update's file cannot be removed");
                }
            }
        }
    }
}
