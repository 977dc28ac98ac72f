//! Versions in memory: what workers are sent and what answers are drawn from.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use hydra_core::codec::Codec;
use hydra_core::ids::{Digest, VersionNo};
use hydra_core::merge;
use hydra_core::model::Shape;
use hydra_core::proto;

/// Versions whose deltas are kept for workers that are a little behind.
const DELTAS: usize = 4;

/// One version, shared by everybody who needs it.
pub struct Served {
    pub version: VersionNo,
    pub digest: Digest,
    pub weights: Arc<Vec<f32>>,
    /// What turns the version before into this one; absent for the first one after a start.
    pub delta: Option<Delta>,
    pub shape: Shape,
    snapshot: OnceLock<Arc<[u8]>>,
}

/// An encoded difference.
#[derive(Clone)]
pub struct Delta {
    pub codec: Codec,
    pub blob: Digest,
    pub bytes: Arc<[u8]>,
}

impl Delta {
    pub fn new(codec: Codec, bytes: Vec<u8>) -> Self {
        Self { codec, blob: Digest::of(&bytes), bytes: bytes.into() }
    }
}

impl Served {
    pub fn new(shape: Shape, version: VersionNo, digest: Digest, weights: Arc<Vec<f32>>, delta: Option<Delta>) -> Self {
        Self { version, digest, weights, delta, shape, snapshot: OnceLock::new() }
    }

    /// All weights as bytes; their digest is the version's own. Made once, on the thread that asks first.
    pub fn snapshot(&self) -> Arc<[u8]> {
        self.snapshot.get_or_init(|| merge::weights_to_bytes(&self.weights).into()).clone()
    }

    /// The announcement of this version to a worker that has `base`, with the blob to send; nothing if the delta is
    /// not kept.
    pub fn announce(&self, base: Option<VersionNo>) -> Option<(proto::Version, Option<Delta>)> {
        let (version, digest) = (self.version, self.digest);
        if let Some(base) = base {
            let delta = self.delta.clone()?;
            let bytes = delta.bytes.len() as u64;
            let Delta { codec, blob, .. } = delta;
            return Some((proto::Version { version, digest, base: Some(base), codec, blob, bytes }, Some(delta)));
        }
        let bytes = 4 * self.weights.len() as u64;
        let codec = Codec::F32;
        Some((proto::Version { version, digest, base: None, codec, blob: digest, bytes }, None))
    }
}

/// What answers are drawn from: a version's own weights, or the average of the versions up to it.
#[derive(Debug, Clone)]
pub struct Source {
    pub version: VersionNo,
    pub averaged: bool,
    pub shape: Shape,
    pub weights: Arc<Vec<f32>>,
}

impl From<&Served> for Source {
    fn from(served: &Served) -> Self {
        let Served { version, shape, ref weights, .. } = *served;
        Self { version, averaged: false, shape, weights: weights.clone() }
    }
}

/// The newest versions.
#[derive(Default)]
pub struct Versions {
    kept: BTreeMap<VersionNo, Arc<Served>>,
}

impl Versions {
    pub fn insert(&mut self, served: Arc<Served>) {
        self.kept.insert(served.version, served);
        while self.kept.len() > DELTAS {
            self.kept.pop_first();
        }
    }

    pub fn get(&self, version: VersionNo) -> Option<&Arc<Served>> {
        self.kept.get(&version)
    }
}
