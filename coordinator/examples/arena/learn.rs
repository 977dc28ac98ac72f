//! One worker and four with the same tokens in all, dense and sparse updates, and a swarm where half are slow and some
//! leave: how well each learns, in held-out loss, and how long fast workers wait.

use std::path::PathBuf;
use std::sync::Mutex;

use hydra_coordinator::serve::eval::{self, Measure};
use hydra_coordinator::serve::run;
use hydra_core::codec::Codec;
use hydra_core::hub::Hub;
use hydra_core::time::Time;
use hydra_engine::{Device, DeviceChoice, Model};
use serde::Serialize;

use crate::arena::{Arena, Outcome, Plan};

/// Four workers at once, or eight where some leave.
const FOUR: usize = 4;
const EIGHT: usize = 8;
/// The seed of the presets.
const FIRST_SEED: u64 = 1;
/// How much slower half of the workers are in the unsteady swarm, and how many of all leave each round.
const SLOW: f64 = 4.0;
const LEAVE: f64 = 0.2;

#[derive(clap::Args)]
pub struct Args {
    /// Text to train on
    #[arg(long)]
    data: PathBuf,
    /// Optimiser steps of a short run, in all; a long one has four times as many
    #[arg(long, default_value_t = 2000)]
    steps: u32,
    /// Optimiser steps a task
    #[arg(long)]
    task: u32,
    /// Windows in a step of each of several workers, a divisor of the preset's; a task then has so many steps more
    #[arg(long)]
    batch: Option<u32>,
    /// Rounds of the runs that compare codecs: what a sparse update leaves out comes with later ones
    #[arg(long, default_value_t = 120)]
    rounds: u32,
    /// Peak learning rate of several workers, as a multiple of the preset's
    #[arg(long, default_value_t = 1.0)]
    rate: f32,
    /// Learning rate of several workers at the end, as a part of its peak
    #[arg(long)]
    final_ratio: Option<f32>,
    /// AdamW's decay of the mean of several workers' gradients
    #[arg(long)]
    beta1: Option<f32>,
    /// The outer rate of several workers
    #[arg(long)]
    outer_lr: Option<f32>,
    /// The outer momentum of several workers
    #[arg(long)]
    outer_momentum: Option<f32>,
    /// Only the run of this name, or else runs whose names contain it; more than once for more
    #[arg(long)]
    only: Vec<String>,
    /// Each run so often, with other first weights and windows every time
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Runs at once, each on a core of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// A run.
#[derive(Clone)]
struct Scene {
    name: &'static str,
    paces: Vec<f64>,
    leave: f64,
    /// Steps in all, and a task.
    steps: u32,
    task: u32,
    /// Whether batch, rates, β₁ and outer step are those for several workers, not the preset's.
    several: bool,
    up: Codec,
    down: Codec,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    seed: u64,
    workers: usize,
    steps: u32,
    task: u32,
    batch: u32,
    up: Codec,
    down: Codec,
    tokens: u64,
    params: usize,
    outcome: Outcome,
}

fn scenes(args: &Args) -> Vec<Scene> {
    let scene = |name, workers: usize, steps, task| Scene {
        name,
        paces: vec![1.0; workers],
        leave: 0.0,
        steps,
        task,
        several: false,
        up: Codec::Int4,
        down: Codec::Int4,
    };
    let codec = |name, up, down| {
        let task = (args.steps / args.rounds.max(1) / FOUR as u32).max(1);
        Scene { up, down, ..scene(name, FOUR, args.steps, task) }
    };
    let several = |name, workers, steps| Scene { several: true, ..scene(name, workers, steps, args.task) };
    let (short, long) = (args.steps, 4 * args.steps);
    let steady = several("eight steady", EIGHT, short);
    // Slow ones are given whole tasks as well: the hub asks everybody for the same.
    let paces: Vec<f64> = (0..EIGHT).map(|place| if place % 2 == 0 { 1.0 } else { SLOW }).collect();
    // The longest first, so that no core is left without a run near the end.
    vec![
        several("four long", FOUR, long),
        scene("one long", 1, long, args.task),
        scene("one short", 1, short, args.task),
        several("one short with the steps of several", 1, short),
        several("four short", FOUR, short),
        Scene { paces, leave: LEAVE, ..several("eight unsteady", EIGHT, short) },
        steady,
        codec("codec f32", Codec::F32, Codec::F32),
        codec("codec int4", Codec::Int4, Codec::Int4),
        codec("codec sparse64", Codec::Sparse64, Codec::Sparse64),
        codec("codec sparse64 up, sparse256 down", Codec::Sparse64, Codec::Sparse256),
        codec("codec sparse256", Codec::Sparse256, Codec::Sparse256),
        // As behind a slow link of one worker's, with the run's own codec downwards.
        codec("codec sparse256 up, int4 down", Codec::Sparse256, Codec::Int4),
    ]
}

/// Those that `--only` means, each time the one of that name or else all whose names contain it; without it all.
fn chosen(only: &[String], mut scenes: Vec<Scene>) -> anyhow::Result<Vec<Scene>> {
    let names: Vec<_> = scenes.iter().map(|scene| scene.name).collect();
    let meant = |name: &str, only: &str| if names.contains(&only) { name == only } else { name.contains(only) };
    for only in only {
        anyhow::ensure!(names.iter().any(|name| meant(name, only)), "no run is called {only}; there are: {names:?}");
    }
    scenes.retain(|scene| only.is_empty() || only.iter().any(|only| meant(scene.name, only)));
    Ok(scenes)
}

/// Runs all of them and prints what came of each.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = Device::open(DeviceChoice::Cpu, Some(1))?;
    let seeds = FIRST_SEED..FIRST_SEED + args.seeds;
    let scenes = chosen(&args.only, scenes(args))?.into_iter();
    let waiting = Mutex::new(scenes.flat_map(|scene| seeds.clone().map(move |seed| (scene.clone(), seed))));
    let lines = Mutex::new(Vec::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let next = waiting.lock().expect("nobody panics with it").next();
            let Some((scene, seed)) = next else { return Ok(()) };
            let line = play(args, &scene, seed, device)?;
            eprintln!(
                "{}, seed {seed}: loss {:.4} (the last version's own {:.4}) after {} versions, {:.1} % idle, staleness {:?}",
                line.name,
                line.outcome.loss.unwrap_or(f64::NAN),
                line.outcome.own_loss.unwrap_or(f64::NAN),
                line.outcome.versions,
                100.0 * line.outcome.fast_idle / (line.outcome.fast_idle + line.outcome.fast_busy).max(1e-9),
                line.outcome.staleness,
            );
            lines.lock().expect("nobody panics with it").push(line);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a run does not panic"))
    })?;
    println!("{}", serde_json::to_string(&lines.into_inner()?)?);
    Ok(())
}

fn play(args: &Args, scene: &Scene, seed: u64, device: Device) -> anyhow::Result<Line> {
    let folder = tempfile::tempdir()?;
    let (settings, run) = crate::begin(&args.data, folder.path(), Some(seed))?;
    let mut rules = run::rules(&settings, run.shape, &run.data, 0);
    rules.steps = scene.task;
    (rules.codec, rules.sparser, rules.checked_windows) = (scene.up, false, 0);
    let step_tokens = u64::from(rules.recipe.batch) * u64::from(run.shape.context);
    let tokens = u64::from(scene.steps) * step_tokens;
    if scene.several {
        let (of, batch) = (rules.recipe.batch, args.batch.unwrap_or(rules.recipe.batch));
        anyhow::ensure!(batch > 0 && of.is_multiple_of(batch), "--batch is {batch}; allowed: a divisor of {of}");
        // A task and the run have as many tokens as with the preset's batch.
        rules.steps *= of / batch;
        rules.recipe.batch = batch;
        rules.schedule.peak *= args.rate;
        rules.schedule.final_ratio = args.final_ratio.unwrap_or(rules.schedule.final_ratio);
        rules.recipe.beta1 = args.beta1.unwrap_or(rules.recipe.beta1);
        rules.outer.lr = args.outer_lr.unwrap_or(rules.outer.lr);
        rules.outer.momentum = args.outer_momentum.unwrap_or(rules.outer.momentum);
    }
    let recipe = rules.recipe;
    rules.stop.after_tokens = Some(tokens);
    rules.schedule.horizon = Some(tokens);
    let mut learner = run.learner;
    learner.codec = scene.down;
    let hub = Hub::new(Time(0), rules.clone(), run.key, run.recovered);
    let mut gym = crate::gym(&args.data, Some(recipe), scene.paces.len(), device)?;
    gym.keep = false;
    let plan =
        Plan { honest: scene.paces.clone(), attackers: Vec::new(), tasks: None, leave: scene.leave, checks: true };
    let (mut outcome, weights, mut average) = Arena::new(&plan, hub, rules, learner, &mut gym).run()?;
    let measure = |weights: &[f32]| -> anyhow::Result<Measure> {
        let model = Model::load(run.shape, weights, device)?;
        Ok(eval::measure(&model, &run.data.tokenizer, &run.data.val_tokens)?)
    };
    // As the coordinator has it at the end of a run.
    let (own, averaged) = (measure(&weights)?, eval::settle(&mut average, &run.shape, measure)?);
    let best = if averaged.loss < own.loss { averaged } else { own };
    outcome.own_loss = own.loss.is_finite().then_some(own.loss);
    outcome.loss = outcome.own_loss.map(|_| best.loss);
    outcome.bits_per_byte = outcome.own_loss.map(|_| best.bits_per_byte);
    Ok(Line {
        name: scene.name,
        seed,
        workers: scene.paces.len(),
        steps: scene.steps,
        task: scene.task,
        batch: recipe.batch,
        up: scene.up,
        down: scene.down,
        tokens,
        params: run.shape.params(),
        outcome,
    })
}
