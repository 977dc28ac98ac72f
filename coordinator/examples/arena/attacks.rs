//! Three of ten workers attack: what becomes of the model and of the credits.
//!
//! Each attack is a run of its own: once as it is, and once with plain averaging that takes whatever can be added up.
//! All runs do the same honest work, and are compared with a run of the honest workers alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
const HONEST_ALONE: &str = "the honest alone";
/// How updates are encoded.
const CODEC: Codec = Codec::Int4;
/// The seeds with which the honest train alone; the first one is that of the attacked runs too.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Held-out windows that the end is measured on.
const MEASURED: usize = 600;

#[derive(clap::Args)]
pub struct Args {
    /// Text to train on
    #[arg(long)]
    data: PathBuf,
    /// Tasks of each honest worker, on average
    #[arg(long, default_value_t = 48)]
    tasks: u32,
    /// Optimiser steps a task
    #[arg(long, default_value_t = 8)]
    steps: u32,
    /// Only attacks whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// Runs at once, each on a core of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,
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
    /// The honest alone, with one seed after the other: a single run ends where chance has it.
    honest: Vec<Outcome>,
    lines: Vec<Line>,
    tasks: u32,
    task_tokens: u64,
    /// Seconds that a worker trains for a task, and that its check takes.
    train_seconds: f64,
    check_seconds: f64,
}

/// What the runs of a thread share.
struct Bench<'a> {
    args: &'a Args,
    gym: Gym,
    device: Device,
}

/// A run: its name, who attacks, and whether updates are checked.
struct Scene {
    name: String,
    attackers: Vec<Attack>,
    checks: bool,
    seed: u64,
}

fn scenes(args: &Args) -> Vec<Scene> {
    let mut groups: Vec<(String, Vec<Attack>)> =
        Attack::ALL.iter().map(|attack| (attack.name().to_owned(), vec![*attack; ATTACKERS])).collect();
    groups.push(("mixed: sign-flip ×10, noise, copy".to_owned(), vec![Attack::FlipTen, Attack::Noise, Attack::Copy]));
    groups.retain(|(name, _)| args.only.as_deref().is_none_or(|only| name.contains(only)));
    let honest = |seed| Scene { name: HONEST_ALONE.to_owned(), attackers: Vec::new(), checks: true, seed };
    let with = |checks: bool| {
        let scene = move |(name, attackers): &(String, Vec<Attack>)| Scene {
            name: name.clone(),
            attackers: attackers.clone(),
            checks,
            seed: SEEDS[0],
        };
        groups.iter().map(scene).collect::<Vec<_>>()
    };
    let mut plain = if args.no_plain { Vec::new() } else { with(false) };
    // An update of another shape cannot be added to anything.
    plain.retain(|scene| scene.attackers != [Attack::Shape; ATTACKERS]);
    SEEDS.into_iter().map(honest).chain(with(true)).chain(plain).collect()
}

/// Runs all of them, some at once, and prints the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = Device::open(DeviceChoice::Cpu, Some(1))?;
    let scenes = scenes(args);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || -> anyhow::Result<(f64, u64)> {
        let mut bench = Bench { args, gym: crate::gym(&args.data, None, HONEST + ATTACKERS, device)?, device };
        while let Some((place, scene)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, scenes.get(n)?)))
        {
            let outcome = bench.run(scene)?;
            done.lock().expect("nobody panics with it").insert(place, outcome);
        }
        Ok(bench.gym.trained)
    };
    let trained = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("a run does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let mut outcomes = done.into_inner()?;
    let honest: Vec<_> = (0..SEEDS.len()).map(|place| outcomes.remove(&place).expect("all were run")).collect();
    let mut lines: Vec<Line> = Vec::new();
    for (place, outcome) in outcomes {
        let Scene { name, checks, .. } = &scenes[place];
        if *checks {
            lines.push(Line { attack: name.clone(), checked: outcome, plain: None });
        } else if let Some(line) = lines.iter_mut().find(|line| line.attack == *name) {
            line.plain = Some(outcome);
        }
    }
    let runs = || lines.iter().map(|line| &line.checked).chain(&honest);
    let checked: u32 = runs().map(|run| run.checked).sum();
    let check_seconds = runs().map(|run| run.check_seconds).sum::<f64>() / f64::from(checked.max(1));
    let task_tokens = u64::from(args.steps) * 12 * 64;
    let (seconds, tokens) = trained.iter().fold((0.0, 0), |all, own| (all.0 + own.0, all.1 + own.1));
    let train_seconds = seconds * task_tokens as f64 / tokens.max(1) as f64;
    let table = Table { honest, lines, tasks: args.tasks, task_tokens, train_seconds, check_seconds };
    println!("{}", serde_json::to_string(&table)?);
    Ok(())
}

impl Bench<'_> {
    fn run(&mut self, scene: &Scene) -> anyhow::Result<Outcome> {
        let checks = scene.checks;
        let folder = tempfile::tempdir()?;
        let (settings, run) = crate::begin(&self.args.data, folder.path(), Some(scene.seed))?;
        let mut rules = run::rules(&settings, run.shape, &run.data, 0);
        rules.steps = self.args.steps;
        // The rate falls over the honest work, as in a run whose end is known; at its peak the end is mostly chance.
        rules.schedule.horizon = Some(HONEST as u64 * u64::from(self.args.tasks) * rules.task_tokens());
        (rules.codec, rules.sparser) = (CODEC, false);
        let mut learner = run.learner;
        // The same windows are looked at whenever this is run.
        learner.likeness = Likeness::new(5);
        learner.prober = Prober::new(run.data.clone(), run.shape, self.device, 6);
        learner.prober.add(VersionNo(0), learner.checkpoint.weights.clone());
        let hub = Hub::new(Time(0), rules.clone(), run.key, run.recovered);
        let (honest, attackers) = (vec![1.0; HONEST], scene.attackers.clone());
        let tasks = Some(HONEST as u32 * self.args.tasks);
        let plan = Plan { honest, attackers, tasks, leave: 0.0, checks };
        self.gym.keep = checks;
        // The last version alone: an average would hide what an attack did lately.
        let (mut outcome, weights, _) = Arena::new(&plan, hub, rules, learner, &mut self.gym).run()?;
        let model = Model::load(run.shape, &weights, self.device)?;
        let loss = model.evaluate(&run.data.val_tokens, MEASURED)?.loss();
        outcome.loss = loss.is_finite().then_some(loss);
        eprintln!(
            "{}{}: loss {loss:.4} after {} versions; honest {} refused of {}; attackers {} paid of {}, {:?}",
            scene.name,
            if checks { "" } else { ", plain averaging" },
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
