//! Where in a shard each training window begins: a pure function of the task, part of the public protocol.
//!
//! Step after step, and within a step window after window, one draw of `Rng::new(seed)` below `shard_tokens − context`
//! gives a window's first token; the window takes `context + 1` tokens from there (inputs, and the same shifted by one
//! as targets). Whoever knows the task can replay exactly what a worker must have trained on.

use hydra_core::rng::Rng;

use crate::EngineError;

/// The first token of every window, `steps × batch` numbers, step-major. A shard shorter than `context + 1` tokens
/// has no window: an error.
pub fn offsets(
    seed: u64,
    steps: u32,
    batch: u32,
    context: u32,
    shard_tokens: usize,
) -> Result<Vec<usize>, EngineError> {
    let mut draws = Draws::new(seed, context, shard_tokens)?;
    Ok((0..u64::from(steps) * u64::from(batch)).map(|_| draws.offset()).collect())
}

/// The same numbers one after the other.
pub(crate) struct Draws {
    rng: Rng,
    bound: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64, context: u32, shard_tokens: usize) -> Result<Self, EngineError> {
        let bound = (shard_tokens as u64).saturating_sub(u64::from(context));
        if bound == 0 || context == 0 {
            let need = u64::from(context) + 1;
            return Err(EngineError::input(format!(
                "a shard of {shard_tokens} tokens is shorter than a window of {need}"
            )));
        }
        Ok(Self { rng: Rng::new(seed), bound })
    }

    pub(crate) fn offset(&mut self) -> usize {
        self.rng.below(self.bound) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_offsets() {
        // Part of the protocol: a change here makes old tasks irreproducible.
        assert_eq!(offsets(7, 2, 3, 64, 1000).unwrap(), [364, 15, 843, 545, 423, 233]);
    }

    #[test]
    fn every_window_lies_within_the_shard_and_every_place_is_used() {
        let all = offsets(1, 100, 10, 8, 12).unwrap();
        assert!(all.iter().all(|&start| start + 9 <= 12));
        assert!((0..4).all(|start| all.contains(&start)));
    }

    #[test]
    fn a_short_shard_is_refused() {
        assert!(offsets(1, 1, 1, 8, 8).is_err());
        assert_eq!(offsets(1, 1, 1, 8, 9).unwrap(), [0]);
    }
}
