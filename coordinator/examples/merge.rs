//! Merging a round, for `cargo xtask bench merge`: `merge PARAMS UPDATES CODEC` checks so many updates as they come, and
//! makes a version of them, on every core. Beside it, the floor: how long one core takes to add the same number of
//! `f32` vectors that lie in memory.
//!
//! Prints one line of JSON, all times in seconds.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, bail};
use hydra_coordinator::serve::learner::likeness::Likeness;
use hydra_coordinator::serve::learner::look;
use hydra_coordinator::serve::learner::outer::{self, Update};
use hydra_core::codec::Codec;
use hydra_core::hub::Source;
use hydra_core::ids::LeaseId;
use hydra_core::merge::{OuterRule, OuterState};
use hydra_core::rng::Rng;

const REPETITIONS: usize = 3;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [params, updates, codec] = args.as_slice() else { bail!("merge PARAMS UPDATES CODEC") };
    let (params, count): (usize, usize) = (params.parse()?, updates.parse()?);
    let codec: Codec = serde_json::from_value(codec.as_str().into()).context("no such codec")?;
    let mut rng = Rng::new(1);
    let noise: Vec<f32> = (0..params).map(|_| 1e-3 * rng.normal() as f32).collect();
    let mut turned = noise.clone();
    let updates: Vec<Update> = (0..count)
        .map(|place| {
            turned.rotate_left(1 + place);
            (1.0 / count as f32, codec, codec.encode(&turned).into())
        })
        .collect();

    // What is done with each update when it comes: decoded, its length and its direction taken.
    let mut likeness = Likeness::new(3);
    let begun = Instant::now();
    for (place, (_, codec, bytes)) in updates.iter().enumerate() {
        let look = look::update(*codec, bytes, params, likeness.seed(), false)?;
        black_box((&look.values, look.norm));
        black_box(likeness.note(Source::Update(LeaseId(place as u64)), look.sketch));
    }
    let checks = begun.elapsed().as_secs_f64();

    let rule = OuterRule { lr: 0.7, momentum: 0.9 };
    let (mut weights, mut state) = (noise.clone(), OuterState::new(params));
    let mut merges = Vec::new();
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        let bytes;
        (weights, bytes) = outer::step(&weights, &mut state, &updates, rule, codec);
        black_box(outer::digest(&weights));
        black_box(bytes);
        merges.push(begun.elapsed().as_secs_f64());
    }

    let mut floors = Vec::new();
    for _ in 0..REPETITIONS {
        let mut sum = vec![0.0f32; params];
        let begun = Instant::now();
        for place in 0..count {
            let share = 1.0 / (1 + place) as f32;
            sum.iter_mut().zip(&noise).for_each(|(sum, value)| *sum += share * value);
        }
        black_box(sum);
        floors.push(begun.elapsed().as_secs_f64());
    }
    let bytes: usize = updates.iter().map(|(_, _, bytes)| bytes.len()).sum();
    println!("{}", serde_json::json!({ "bytes": bytes, "checks": checks, "merges": merges, "floors": floors }));
    Ok(())
}
