//! What answers are drawn from. A query takes it when its turn comes, so that those that wait keep no weights; what it
//! began with it keeps to its end.

use std::sync::{Arc, Mutex, PoisonError};

use hydra_engine::{Decoder, EngineError};

use super::super::served::Source;

/// Weights, laid out for drawing once somebody asks: once for all answers that come from them.
pub struct LaidOut {
    pub source: Source,
    decoder: Mutex<Option<Arc<Decoder>>>,
}

impl LaidOut {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, decoder: Mutex::new(None) })
    }

    pub fn decoder(&self) -> Result<Arc<Decoder>, EngineError> {
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = &*decoder {
            return Ok(decoder.clone());
        }
        let new = Arc::new(Decoder::new(self.source.shape, &self.source.weights)?);
        *decoder = Some(new.clone());
        Ok(new)
    }
}

/// The weights that answers begin with now.
pub struct Best(Mutex<Arc<LaidOut>>);

impl Best {
    pub fn new(source: Source) -> Self {
        Self(Mutex::new(LaidOut::new(source)))
    }

    pub fn set(&self, source: Source) {
        let mut best = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = &best.source;
        let same = (old.version, old.averaged) == (source.version, source.averaged);
        // They need not be laid out again.
        if !same || !Arc::ptr_eq(&old.weights, &source.weights) {
            *best = LaidOut::new(source);
        }
    }

    pub fn now(&self) -> Arc<LaidOut> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use hydra_core::ids::VersionNo;
    use hydra_core::model::Shape;

    use super::*;

    #[test]
    fn answers_of_one_source_share_its_weights_and_nothing_else_keeps_any() {
        let shape = Shape::new(16, 8, 1, 1, 8);
        let source = |version, averaged| Source {
            version: VersionNo(version),
            averaged,
            shape,
            weights: Arc::new(shape.initial_weights(version)),
        };
        let first = source(3, false);
        let best = Best::new(first.clone());
        let decoder = best.now().decoder().unwrap();
        best.set(first.clone());
        assert!(Arc::ptr_eq(&decoder, &best.now().decoder().unwrap()));
        // The average up to an older version may be better.
        let average = source(2, true);
        best.set(average.clone());
        assert_eq!(Arc::strong_count(&first.weights), 1);
        assert_eq!((Arc::strong_count(&decoder), Arc::strong_count(&average.weights)), (1, 2));
        let now = best.now();
        assert!((now.source.version, now.source.averaged) == (VersionNo(2), true));
        let decoder = now.decoder().unwrap();
        assert!(Arc::ptr_eq(&decoder, &best.now().decoder().unwrap()));
        // The same weights under another name are something else.
        best.set(Source { version: VersionNo(4), averaged: false, ..average });
        assert_eq!(best.now().source.version, VersionNo(4));
    }
}
