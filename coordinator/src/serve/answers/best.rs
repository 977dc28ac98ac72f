//! What answers are drawn from. A query takes it when its turn comes, so that those that wait keep no weights; what it
//! began with it keeps to its end.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use hydra_core::ids::VersionNo;
use hydra_engine::{Decoder, EngineError};

use super::super::served::Source;

/// Sets of weights that are laid out at one time, at most: each is a copy of the model, and answers may be longer than
/// versions last.
const MOST: usize = 4;

/// Weights, laid out for drawing, and what they are.
#[derive(Clone)]
pub struct LaidOut {
    pub version: VersionNo,
    pub averaged: bool,
    pub decoder: Arc<Decoder>,
}

/// What is best, laid out once somebody asks: once for all answers that come from it.
struct Newest {
    source: Source,
    decoder: OnceLock<Arc<Decoder>>,
}

/// The weights that answers begin with now.
pub struct Best {
    newest: Mutex<Arc<Newest>>,
    /// All that may be laid out still, oldest first.
    laid_out: Mutex<Vec<(VersionNo, bool, Weak<Decoder>)>>,
}

impl Best {
    pub fn new(source: Source) -> Self {
        Self { newest: Mutex::new(Newest::new(source)), laid_out: Mutex::default() }
    }

    pub fn set(&self, source: Source) {
        let mut newest = lock(&self.newest);
        let old = &newest.source;
        let same = (old.version, old.averaged) == (source.version, source.averaged);
        // They need not be laid out again.
        if !same || !Arc::ptr_eq(&old.weights, &source.weights) {
            *newest = Newest::new(source);
        }
    }

    /// What an answer begins with: what is best, or what was laid out last while there is no room for more.
    pub fn take(&self) -> Result<LaidOut, EngineError> {
        let newest = lock(&self.newest).clone();
        let Source { version, averaged, shape, ref weights } = newest.source;
        if let Some(decoder) = newest.decoder.get() {
            return Ok(LaidOut { version, averaged, decoder: decoder.clone() });
        }
        let mut laid_out = lock(&self.laid_out);
        laid_out.retain(|(.., decoder)| decoder.strong_count() > 0);
        if laid_out.len() >= MOST {
            let alive = laid_out.iter().rev().find_map(|(version, averaged, decoder)| {
                Some(LaidOut { version: *version, averaged: *averaged, decoder: decoder.upgrade()? })
            });
            if let Some(last) = alive {
                return Ok(last);
            }
        }
        let decoder = Arc::new(Decoder::new(shape, weights)?);
        laid_out.push((version, averaged, Arc::downgrade(&decoder)));
        let decoder = newest.decoder.get_or_init(|| decoder).clone();
        Ok(LaidOut { version, averaged, decoder })
    }
}

impl Newest {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, decoder: OnceLock::new() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use hydra_core::model::Shape;

    use super::*;

    fn source(version: u64, averaged: bool) -> Source {
        let shape = Shape::new(16, 8, 1, 1, 8);
        Source { version: VersionNo(version), averaged, shape, weights: Arc::new(shape.initial_weights(version)) }
    }

    #[test]
    fn answers_of_one_source_share_its_weights_and_nothing_else_keeps_any() {
        let first = source(3, false);
        let best = Best::new(first.clone());
        let decoder = best.take().unwrap().decoder;
        best.set(first.clone());
        assert!(Arc::ptr_eq(&decoder, &best.take().unwrap().decoder));
        // The average up to an older version may be better.
        let average = source(2, true);
        best.set(average.clone());
        assert_eq!(Arc::strong_count(&first.weights), 1);
        assert_eq!((Arc::strong_count(&decoder), Arc::strong_count(&average.weights)), (1, 2));
        let begun = best.take().unwrap();
        assert_eq!((begun.version, begun.averaged), (VersionNo(2), true));
        assert!(Arc::ptr_eq(&begun.decoder, &best.take().unwrap().decoder));
        // The same weights under another name are something else.
        best.set(Source { version: VersionNo(4), averaged: false, ..average });
        assert_eq!(best.take().unwrap().version, VersionNo(4));
    }

    #[test]
    fn while_there_is_no_room_for_more_answers_begin_with_what_was_laid_out_last() {
        let best = Best::new(source(0, false));
        let mut answers = vec![best.take().unwrap()];
        for version in 1..10 {
            best.set(source(version, version % 2 == 1));
            answers.push(best.take().unwrap());
        }
        let begun: Vec<_> = answers.iter().map(|answer| (answer.version.0, answer.averaged)).collect();
        assert_eq!(begun[..5], [(0, false), (1, true), (2, false), (3, true), (3, true)]);
        assert!(begun[5..].iter().all(|begun| *begun == (3, true)), "named after what it is: {begun:?}");
        assert!(answers[4..].iter().all(|answer| Arc::ptr_eq(&answer.decoder, &answers[3].decoder)));
        // One comes to its end.
        answers.remove(0);
        assert_eq!(best.take().unwrap().version, VersionNo(9));
    }
}
