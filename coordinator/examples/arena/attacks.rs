//! Three of ten workers attack: what becomes of the model and of the credits.
//!
//! Each attack is a run of its own: once as it is, and once with plain averaging that takes whatever can be added up.
//! All runs do the same honest work, and are compared with a run of the honest workers alone.

use std::path::PathBuf;
use std::sync::Arc;

use hydra_coordinator::serve::learner::likeness::Likeness;
use hydra_coordinator::serve::learner::probe::Prober;
use hydra_coordinator::serve::run;
use hydra_core::codec::Codec;
use hydra_core::hub::Hub;
use hydra_core::ids::VersionNo;
use hydra_core::time::Time;
use hydra_engine::{Device, DeviceChoice, Model};
use serde::Serialize;

use crate::arena::{Arena, Outcome, Plan};
use crate::attack::Attack;
use crate::gym::Gym;

const HONEST: usize = 7;
const ATTACKERS: usize = 3;
/// How updates are encoded.
const CODEC: Codec = Codec::Int4;
/// Held-out windows that the end is measured on.
const MEASURED: usize = 600;

#[derive(clap::Args)]
pub struct Args {
    /// Text to train on
    #[arg(long)]
    data: PathBuf,
    /// Tasks of each worker
    #[arg(long, default_value_t = 16)]
    tasks: u32,
    /// Optimiser steps a task
    #[arg(long, default_value_t = 8)]
    steps: u32,
    /// Only attacks whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// Leave plain averaging out
    #[arg(long)]
    no_plain: bool,
}

/// One line of the table.
#[derive(Serialize)]
struct Line {
    attack: String,
    checked: Outcome,
    plain: Option<Outcome>,
}

#[derive(Serialize)]
struct Table {
    honest: Outcome,
    lines: Vec<Line>,
    tasks: u32,
    task_tokens: u64,
    /// Seconds that a worker trains for a task, and that its check takes.
    train_seconds: f64,
    check_seconds: f64,
}

/// What all runs share.
struct Bench {
    args: Args,
    gym: Gym,
    device: Device,
}

/// Runs all of them and prints the table.
pub fn run(args: Args) -> anyhow::Result<()> {
    let device = Device::open(DeviceChoice::Cpu, Some(1))?;
    let gym = crate::gym(&args.data, HONEST + ATTACKERS, device)?;
    let mut bench = Bench { args, gym, device };
    let honest = bench.run("the honest alone", &[], true)?;
    let mut lines = Vec::new();
    let mut scenes: Vec<(String, Vec<Attack>)> =
        Attack::ALL.iter().map(|attack| (attack.name().to_owned(), vec![*attack; ATTACKERS])).collect();
    scenes.push(("mixed: sign-flip ×10, noise, copy".to_owned(), vec![Attack::FlipTen, Attack::Noise, Attack::Copy]));
    let wanted = |name: &str| bench.args.only.as_deref().is_none_or(|only| name.contains(only));
    scenes.retain(|(name, _)| wanted(name));
    for (attack, attackers) in scenes {
        let checked = bench.run(&attack, &attackers, true)?;
        lines.push(Line { attack, checked, plain: None });
        let line = lines.last_mut().expect("just pushed");
        // An update of another shape cannot be added to anything.
        if !bench.args.no_plain && attackers != [Attack::Shape; ATTACKERS] {
            line.plain = Some(bench.run(&format!("{}, plain averaging", line.attack), &attackers, false)?);
        }
    }
    let runs = || lines.iter().map(|line| &line.checked).chain([&honest]);
    let checked: u32 = runs().map(|run| run.checked).sum();
    let check_seconds = runs().map(|run| run.check_seconds).sum::<f64>() / f64::from(checked.max(1));
    let task_tokens = u64::from(bench.args.steps) * 12 * 64;
    let (seconds, tokens) = bench.gym.trained;
    let train_seconds = seconds * task_tokens as f64 / tokens.max(1) as f64;
    let tasks = bench.args.tasks;
    let table = Table { honest, lines, tasks, task_tokens, train_seconds, check_seconds };
    println!("{}", serde_json::to_string(&table)?);
    Ok(())
}

impl Bench {
    fn run(&mut self, name: &str, attackers: &[Attack], checks: bool) -> anyhow::Result<Outcome> {
        let folder = tempfile::tempdir()?;
        let (settings, run) = crate::begin(&self.args.data, folder.path())?;
        let mut rules = run::rules(&settings, run.shape, &run.data, 0);
        rules.steps = self.args.steps;
        (rules.codec, rules.sparser) = (CODEC, false);
        let mut learner = run.learner;
        // The same windows are looked at whenever this is run.
        learner.likeness = Likeness::new(5);
        learner.prober = Prober::new(run.data.clone(), run.shape, self.device, 6);
        learner.prober.add(VersionNo(0), Arc::new(learner.checkpoint.weights.clone()));
        let hub = Hub::new(Time(0), rules.clone(), run.key, run.recovered);
        let (honest, attackers) = (vec![1.0; HONEST], attackers.to_vec());
        let plan = Plan { honest, attackers, tasks: Some(self.args.tasks), leave: 0.0, checks };
        self.gym.keep = checks;
        let (mut outcome, weights) = Arena::new(&plan, hub, rules, learner, &mut self.gym).run()?;
        let model = Model::load(run.shape, &weights, self.device)?;
        let loss = model.evaluate(&run.data.val_tokens, MEASURED)?.loss();
        outcome.loss = loss.is_finite().then_some(loss);
        eprintln!(
            "{name}: loss {loss:.4} after {} versions; honest {} refused of {}; attackers {} paid of {}, {:?}",
            outcome.versions,
            outcome.honest_refused,
            outcome.honest_delivered,
            outcome.attackers_paid,
            outcome.attackers_delivered,
            outcome.reasons,
        );
        Ok(outcome)
    }
}
