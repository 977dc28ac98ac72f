//! What the engine promises, tried on small shapes from outside its parts.

pub(crate) mod reference;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hydra_core::model::{Recipe, Shape};
use reference::{random_tokens, random_weights};

use crate::backend::Hurdle;
use crate::torch::Torch;
use crate::{Device, DeviceChoice, EngineError, Evaluation, Job, Model, StepReport, Trained, Trainer};

fn shape() -> Shape {
    Shape::new(37, 24, 3, 2, 16)
}

fn cpu(threads: usize) -> Device {
    Device::open(DeviceChoice::Cpu, Some(threads)).unwrap()
}

fn job() -> Job {
    Job { steps: 6, batch: 5, context: 12, seed: 3, lr_start: 1e-2, lr_end: 1e-3 }
}

fn go_on(_: StepReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn train(trainer: &mut Trainer, job: &Job) -> Trained {
    let shard = random_tokens(&shape(), 200, 9);
    trainer.train(&random_weights(&shape(), 1), job, &shard, &mut go_on).unwrap()
}

fn trained(threads: usize) -> Trained {
    train(&mut Trainer::new(shape(), Recipe::default(), cpu(threads)).unwrap(), &job())
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn model(seed: u64) -> Model {
    Model::load(shape(), &random_weights(&shape(), seed), cpu(2)).unwrap()
}

#[test]
fn a_seed_gives_the_same_weights_and_threads_change_only_rounding() {
    let (one, two, three) = (trained(1), trained(2), trained(3));
    assert_eq!(two.weights, trained(2).weights);
    for other in [&two, &three] {
        assert!(farthest(&one.weights, &other.weights) < 1e-3, "{}", farthest(&one.weights, &other.weights));
        assert!(farthest(&one.losses, &other.losses) < 1e-3);
    }
    assert_eq!((one.steps, one.tokens, one.losses.len()), (6, 6 * 5 * 12, 6));
    assert_ne!(one.weights, random_weights(&shape(), 1));
}

#[test]
fn by_hand_and_autograd_train_alike() {
    let mut autograd = Trainer::with_autograd(shape(), Recipe::default(), cpu(1)).unwrap();
    let (a, b) = (trained(1), train(&mut autograd, &job()));
    assert!(farthest(&a.losses, &b.losses) < 1e-3, "{:?} {:?}", a.losses, b.losses);
    assert!(farthest(&a.weights, &b.weights) < 2e-3, "{}", farthest(&a.weights, &b.weights));
}

#[test]
fn one_batch_can_be_learned_by_heart() {
    let shape = Shape::new(37, 32, 4, 2, 16);
    let recipe = Recipe { weight_decay: 0.0, ..Recipe::default() };
    let mut trainer = Trainer::new(shape, recipe, cpu(2)).unwrap();
    // A shard of one window: every draw is the same.
    let shard = random_tokens(&shape, 17, 4);
    let job = Job { steps: 150, batch: 4, context: 16, seed: 1, lr_start: 1e-2, lr_end: 1e-3 };
    let trained = trainer.train(&shape.initial_weights(2), &job, &shard, &mut go_on).unwrap();
    assert!(trained.losses[149] < 0.1, "{}", trained.losses[149]);
    let model = Model::load(shape, &trained.weights, cpu(1)).unwrap();
    let evaluation = model.evaluate(&shard, usize::MAX).unwrap();
    assert!(evaluation.loss() < 0.1);
}

#[test]
fn moments_stay_between_tasks_until_reset() {
    let mut trainer = Trainer::new(shape(), Recipe::default(), cpu(2)).unwrap();
    let first = train(&mut trainer, &job());
    let second = train(&mut trainer, &job());
    assert_ne!(first.weights, second.weights);
    trainer.reset_optimizer().unwrap();
    assert_eq!(first.weights, train(&mut trainer, &job()).weights);
}

#[test]
fn a_stopped_task_leaves_the_moments_as_they_were() {
    let mut trainer = Trainer::new(shape(), Recipe::default(), cpu(2)).unwrap();
    train(&mut trainer, &job());
    let mut seen = 0;
    let shard = random_tokens(&shape(), 200, 10);
    let stopped = trainer.train(&random_weights(&shape(), 2), &job(), &shard, &mut |report| {
        seen = report.step;
        if report.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(EngineError::Stopped)) && seen == 3);
    let after = train(&mut trainer, &job());
    let mut other = Trainer::new(shape(), Recipe::default(), cpu(2)).unwrap();
    train(&mut other, &job());
    assert_eq!(after.weights, train(&mut other, &job()).weights);
}

fn over_hurdle(autograd: bool, hurdle: &Hurdle) -> Trainer {
    if autograd {
        let torch = Torch::new(shape(), Recipe::default(), tch::Device::Cpu, tch::Kind::Float, Some(hurdle)).unwrap();
        Trainer::over(shape(), Box::new(torch))
    } else {
        Trainer::with_hurdle(shape(), Recipe::default(), cpu(1), Some(hurdle)).unwrap()
    }
}

#[test]
fn a_step_that_nobody_wants_any_more_is_not_finished() {
    for autograd in [false, true] {
        let (stop, pieces) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (asked, counter) = (Arc::clone(&stop), Arc::clone(&pieces));
        // The first step is of five pieces of one window.
        let hurdle: Hurdle = Arc::new(move |windows| {
            let tries = counter.fetch_add(usize::from(windows == 1), Ordering::Relaxed);
            asked.store(windows == 1 && tries == 2, Ordering::Relaxed);
            if windows > 1 { Err(EngineError::OutOfMemory("a test".into())) } else { Ok(()) }
        });
        let mut trainer = over_hurdle(autograd, &hurdle);
        let (weights, shard) = (random_weights(&shape(), 1), random_tokens(&shape(), 200, 9));
        let mut seen = 0;
        let stopped = trainer.train_until(&weights, &job(), &shard, &stop, &mut |report| {
            seen = report.step;
            ControlFlow::Continue(())
        });
        assert!(matches!(stopped, Err(EngineError::Stopped)), "{stopped:?}");
        assert_eq!((seen, pieces.load(Ordering::Relaxed)), (0, 3));
        // And nothing is left of it.
        assert_eq!(train(&mut trainer, &job()).steps, job().steps);
    }
}

#[test]
fn running_out_of_memory_halves_the_piece_and_changes_only_rounding() {
    for autograd in [false, true] {
        let tries = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&tries);
        let hurdle: Hurdle = Arc::new(move |windows| {
            counter.fetch_add(1, Ordering::Relaxed);
            if windows > 1 { Err(EngineError::OutOfMemory("a test".into())) } else { Ok(()) }
        });
        let mut trainer = over_hurdle(autograd, &hurdle);
        let pieced = train(&mut trainer, &job());
        // 5 windows, then 2, then 1 for good: 2 failures and 5 pieces in the first step, 5 in each of the others.
        assert_eq!(tries.load(Ordering::Relaxed), 2 + 6 * 5);
        let far = farthest(&pieced.weights, &trained(1).weights);
        assert!(far < 2e-3, "{far}");
    }
}

#[test]
fn memory_that_is_there_again_is_used_again() {
    for autograd in [false, true] {
        let (most, largest) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
        let (room, counter) = (Arc::clone(&most), Arc::clone(&largest));
        let hurdle: Hurdle = Arc::new(move |windows| {
            if windows > room.load(Ordering::Relaxed) {
                return Err(EngineError::OutOfMemory("a test".into()));
            }
            counter.fetch_max(windows, Ordering::Relaxed);
            Ok(())
        });
        let mut trainer = over_hurdle(autograd, &hurdle);
        let mut used = || {
            train(&mut trainer, &job());
            largest.swap(0, Ordering::Relaxed)
        };
        // Five windows a step. While memory is short, every other task tries for more.
        assert_eq!([used(), used(), used()], [1, 1, 1]);
        most.store(5, Ordering::Relaxed);
        assert_eq!([used(), used(), used(), used()], [1, 2, 4, 5]);
    }
}

#[test]
fn too_little_memory_for_one_window_is_an_error() {
    let hurdle: Hurdle = Arc::new(|_| Err(EngineError::OutOfMemory("a test".into())));
    let mut trainer = Trainer::with_hurdle(shape(), Recipe::default(), cpu(2), Some(&hurdle)).unwrap();
    let shard = random_tokens(&shape(), 200, 9);
    let failed = trainer.train(&random_weights(&shape(), 1), &job(), &shard, &mut go_on);
    assert!(matches!(failed, Err(EngineError::OutOfMemory(_))));
}

#[test]
fn what_is_no_number_is_reported_and_leaves_the_moments() {
    let mut trainer = Trainer::new(shape(), Recipe::default(), cpu(2)).unwrap();
    let shard = random_tokens(&shape(), 200, 9);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weights = random_weights(&shape(), 1);
        weights[900] = bad;
        weights[..24].fill(bad);
        let failed = trainer.train(&weights, &job(), &shard, &mut go_on);
        assert!(matches!(failed, Err(EngineError::Diverged { step: 1 })), "{failed:?}");
    }
    assert_eq!(train(&mut trainer, &job()).weights, trained(2).weights);
}

#[test]
fn input_that_does_not_fit_is_refused() {
    let mut trainer = Trainer::new(shape(), Recipe::default(), cpu(1)).unwrap();
    let (weights, shard) = (random_weights(&shape(), 1), random_tokens(&shape(), 200, 9));
    let mut refused = |weights: &[f32], job: Job, shard: &[u16]| {
        let answer = trainer.train(weights, &job, shard, &mut go_on);
        assert!(matches!(answer, Err(EngineError::BadInput(_))), "{answer:?}");
    };
    refused(&weights[1..], job(), &shard);
    refused(&weights, Job { context: 17, ..job() }, &shard);
    refused(&weights, Job { steps: 0, ..job() }, &shard);
    refused(&weights, Job { batch: 0, ..job() }, &shard);
    refused(&weights, Job { lr_end: f32::NAN, ..job() }, &shard);
    refused(&weights, job(), &shard[..12]);
    refused(&weights, job(), &[37; 100]);
    assert!(Trainer::new(Shape { heads: 5, ..shape() }, Recipe::default(), cpu(1)).is_err());
    assert!(Model::load(shape(), &weights[1..], cpu(1)).is_err());
    let model = model(1);
    assert!(model.evaluate(&[1], 1).is_err());
}

#[test]
fn evaluation_is_the_reference_s_loss() {
    let tokens = random_tokens(&shape(), 16 * 3 + 6, 5);
    let weights = random_weights(&shape(), 1);
    let model = Model::load(shape(), &weights, cpu(2)).unwrap();
    let evaluation = model.evaluate(&tokens, usize::MAX).unwrap();
    assert_eq!(evaluation.tokens, tokens.len() as u64 - 1);
    let exact: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    let windows = [&tokens[..17], &tokens[16..33], &tokens[32..49], &tokens[48..]];
    let nats: f64 = windows.iter().map(|w| reference::loss(&shape(), &exact, &[w]) * (w.len() - 1) as f64).sum();
    assert!((evaluation.nats_sum / nats - 1.0).abs() < 1e-5, "{} {nats}", evaluation.nats_sum);
    let bits = evaluation.bits_per_byte(100);
    assert!((bits - nats / 2f64.ln() / 100.0).abs() < 1e-3);
    let some = model.evaluate(&tokens, 2).unwrap();
    assert_eq!((some.tokens, some.scored), (32, vec![1..17, 33..49]));
    let stopped = model.evaluate_until(&tokens, usize::MAX, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(EngineError::Stopped)), "{stopped:?}");
}

#[test]
fn the_factor_on_the_logits_is_a_step_of_newton_s() {
    let tokens = random_tokens(&shape(), 16 * 3 + 1, 5);
    // Some certainty, of what is mostly wrong.
    let weights: Vec<f32> = random_weights(&shape(), 1).iter().map(|weight| 1.5 * weight).collect();
    let evaluation = Model::load(shape(), &weights, cpu(2)).unwrap().evaluate(&tokens, usize::MAX).unwrap();
    let loss = |scale: f64| {
        let gains = weights.len() - shape().width as usize;
        let scaled = weights.iter().enumerate().map(|(at, &w)| f64::from(w) * if at < gains { 1.0 } else { scale });
        let scaled: Vec<f64> = scaled.collect();
        let windows = [&tokens[..17], &tokens[16..33], &tokens[32..]];
        windows.iter().map(|w| reference::loss(&shape(), &scaled, &[w]) * 16.0).sum::<f64>()
    };
    let h = 1e-3;
    let (less, now, more) = (loss(1.0 - h), loss(1.0), loss(1.0 + h));
    let (slope, bend) = ((more - less) / (2.0 * h), (more - 2.0 * now + less) / (h * h));
    let Evaluation { nats_sum, entropy_sum, spread_sum, .. } = evaluation;
    assert!(((nats_sum - entropy_sum) / slope - 1.0).abs() < 1e-3, "{nats_sum} − {entropy_sum}, {slope}");
    assert!((spread_sum / bend - 1.0).abs() < 1e-2, "{spread_sum} {bend}");
    let step = (slope / bend).clamp(-0.2, 0.2);
    assert!((evaluation.best_scale() - (1.0 - step)).abs() < 1e-2 && step > 0.0);
    assert!(loss(evaluation.best_scale()) < now);
}

#[test]
fn rates_run_in_a_line() {
    let job = Job { steps: 3, ..job() };
    let rates = [job.rate(0), job.rate(1), job.rate(2)];
    assert!(farthest(&rates, &[1e-2, 5.5e-3, 1e-3]) < 1e-8, "{rates:?}");
    assert_eq!(Job { steps: 1, ..job }.rate(0).to_bits(), 1e-2f32.to_bits());
}

#[test]
fn windows_are_scored_one_by_one_as_together() {
    let (model, text) = (model(1), random_tokens(&shape(), 100, 4));
    let starts = [0, 31, 83];
    let losses = model.losses(&text, &starts, 16).unwrap();
    for (start, loss) in starts.into_iter().zip(losses) {
        let alone = model.evaluate(&text[start..=start + 16], 1).unwrap().loss();
        assert!((loss - alone).abs() < 1e-5, "{loss} beside {alone}");
    }
    assert!(model.losses(&text, &[84], 16).is_err() && model.losses(&text, &[usize::MAX], 16).is_err());
    assert!(model.losses(&text, &[0], 0).is_err() && model.losses(&text, &[0], 17).is_err());
}
