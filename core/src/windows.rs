//! Which windows of the text a task trains on: pure functions, part of the public protocol.
//!
//! Windows are spread evenly instead of drawn. Each begins a golden ratio of the shard's length behind the one before,
//! round and round, so any number of them in a row lie about equally far apart (a Weyl sequence; Knuth, volume 3, 6.4).
//! All shards get the same number of tasks, one each in every pass, and a task goes on where the shard's last one ended.
//! So a run reads all of its text equally often. Drawn windows leave a fifth of it unread when it has been gone over one
//! and a half times; the loss then ends 0.4 to 0.8 % higher (`docs/learning.md`).

use crate::ids::TaskId;
use crate::rng::Rng;

/// The golden ratio's fraction, (√5 − 1) / 2, in units of 2⁻⁶⁴.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where window `window` of a task with this seed begins, of `places` where one can.
pub fn start(seed: u64, window: u64, places: u64) -> u64 {
    ((u128::from(after(seed, window)) * u128::from(places)) >> 64) as u64
}

/// The seed of what follows so many windows.
fn after(seed: u64, windows: u64) -> u64 {
    seed.wrapping_add(windows.wrapping_mul(GOLDEN))
}

/// Shard and seed of a task, the same after every restart. The shards should be equally long.
pub fn of_task(run_seed: u64, task: TaskId, shards: u32, windows: u64) -> (u32, u64) {
    let number = task.0.saturating_sub(1);
    let shards = u64::from(shards.max(1));
    let (pass, place) = (number / shards, number % shards);
    // In another order each time, or workers in step would each see some of the shards alone.
    let mut order: Vec<u32> = (0..shards as u32).collect();
    let mut rng = Rng::new(run_seed ^ Rng::new(pass).next_u64());
    for left in (1..order.len()).rev() {
        order.swap(left, rng.below(left as u64 + 1) as usize);
    }
    let shard = order[place as usize];
    let first = Rng::new(run_seed ^ Rng::new(!u64::from(shard)).next_u64()).next_u64();
    (shard, after(first, pass.wrapping_mul(windows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_starts() {
        // Part of the protocol: a change here makes old tasks irreproducible.
        let starts: Vec<u64> = (0..6).map(|window| start(7 << 60, window, 936)).collect();
        assert_eq!(starts, [409, 51, 630, 272, 851, 493]);
        assert_eq!(start(u64::MAX, 0, 936), 935);
        assert_eq!(start(1, 1, 0), 0);
    }

    #[test]
    fn a_run_reads_all_text_equally_often() {
        let (shards, windows, context, places) = (3_u32, 36, 64_u64, 10_000);
        let mut read = vec![vec![0_u32; (places + context) as usize]; shards as usize];
        // About 20 times.
        let tasks = 20 * u64::from(shards) * places / (windows * context);
        for task in 1..=tasks {
            let (shard, seed) = of_task(5, TaskId(task), shards, windows);
            for window in 0..windows {
                let start = start(seed, window, places);
                (start..start + context).for_each(|at| read[shard as usize][at as usize] += 1);
            }
        }
        for shard in read {
            // Beginning and end are in fewer windows.
            let inner = &shard[context as usize..places as usize];
            assert_eq!(inner.iter().find(|times| !(17..=23).contains(*times)), None);
        }
    }

    #[test]
    fn every_pass_takes_each_shard_once_and_in_another_order() {
        let order =
            |pass: u64| -> Vec<u32> { (1..=8).map(|place| of_task(1, TaskId(pass * 8 + place), 8, 36).0).collect() };
        for pass in 0..20 {
            let mut shards = order(pass);
            shards.sort_unstable();
            assert_eq!(shards, (0..8).collect::<Vec<_>>());
        }
        assert_ne!(order(0), order(1));
        assert_ne!(of_task(1, TaskId(1), 1, 36).1, of_task(2, TaskId(1), 1, 36).1, "each run at another place");
    }
}
