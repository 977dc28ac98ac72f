//! Whole runs on a virtual clock: the real hub, the learner's checks and merge, and the real engine for training,
//! without sockets, and without waiting for slow workers. For `cargo xtask bench attacks` and `bench learn`.
//!
//! The last line printed is JSON; what happens meanwhile goes to standard error.

mod arena;
mod attack;
mod attacks;
mod gym;
mod learn;

use std::path::Path;

use clap::Parser;
use hydra_config::{Flags, Settings, resolve};
use hydra_coordinator::serve::run;
use hydra_core::model::Recipe;
use hydra_engine::Device;
use hydra_shell::events::Events;

use crate::gym::Gym;

#[derive(Parser)]
enum Bench {
    /// Three of ten workers attack
    Attacks(attacks::Args),
    /// One worker and many, dense and sparse, steady and not
    Learn(learn::Args),
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Attacks(args) => attacks::run(&args),
        Bench::Learn(args) => learn::run(&args),
    }
}

/// A run of the preset `shakespeare`, begun in a folder; `seed` decides its first weights and what its tasks draw.
fn begin(data: &Path, folder: &Path, seed: Option<u64>) -> anyhow::Result<(Settings, run::Run)> {
    let flags = Flags {
        run: Some(folder.join("run")),
        data: vec![data.to_owned()],
        preset: Some("shakespeare".to_owned()),
        seed,
        ..Flags::default()
    };
    let settings = resolve(None, std::iter::empty(), &flags).map_err(|faults| anyhow::anyhow!("{faults}"))?.settings;
    let run = run::open(&settings, None, &Events::stdout(false))?;
    Ok((settings, run))
}

/// A place to train for so many workers, by this recipe or else the preset's.
fn gym(data: &Path, recipe: Option<Recipe>, workers: usize, device: Device) -> anyhow::Result<Gym> {
    let folder = tempfile::tempdir()?;
    let (settings, run) = begin(data, folder.path(), None)?;
    let tokens = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect();
    let shards = run.data.shards.iter().map(|shard| (shard.digest, tokens(&shard.bytes))).collect();
    Gym::new((run.shape, recipe.unwrap_or(settings.recipe)), shards, workers, device)
}
