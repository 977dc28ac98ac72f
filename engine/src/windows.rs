//! Where in a shard each window of a task begins: [`hydra_core::windows`] for the shards that there are.

use hydra_core::windows::start;

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
    let windows = u64::from(steps) * u64::from(batch);
    Ok(Starts::new(seed, context, shard_tokens)?.take(windows as usize).collect())
}

/// The same numbers one after the other, without end.
pub(crate) struct Starts {
    seed: u64,
    window: u64,
    places: u64,
}

impl Starts {
    pub(crate) fn new(seed: u64, context: u32, shard_tokens: usize) -> Result<Self, EngineError> {
        let places = (shard_tokens as u64).saturating_sub(u64::from(context));
        if places == 0 || context == 0 {
            let need = u64::from(context) + 1;
            return Err(EngineError::input(format!(
                "a shard of {shard_tokens} tokens is shorter than a window of {need}"
            )));
        }
        Ok(Self { seed, window: 0, places })
    }
}

impl Iterator for Starts {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let start = start(self.seed, self.window, self.places);
        self.window += 1;
        Some(start as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_lies_within_the_shard_and_every_place_is_used() {
        let all = offsets(1, 100, 10, 8, 12).unwrap();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|&start| start + 9 <= 12));
        assert!((0..4).all(|start| all.contains(&start)));
    }

    #[test]
    fn a_short_shard_is_refused() {
        assert!(offsets(1, 1, 1, 8, 8).is_err());
        assert_eq!(offsets(1, 1, 1, 8, 9).unwrap(), [0]);
    }
}
