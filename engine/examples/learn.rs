//! How well the recipe learns: `learn TEXT [STEPS] [BATCH] [CONTEXT]` trains on bytes and prints held-out bits per byte.
//!
//! Defaults are nanoGPT's CPU budget at its shape (4 layers × 128, context 64, batch 12, 2,000 steps), the last tenth
//! of the text held out. Prints one line of JSON.

use std::ops::ControlFlow;

use hydra_core::model::{Recipe, Shape};
use hydra_engine::{Device, DeviceChoice, Job, Model, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which text?")?;
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |a| a.parse());
    let (steps, batch, context) = (number(2000)?, number(12)?, number(64)?);
    let text: Vec<u16> = std::fs::read(path)?.into_iter().map(u16::from).collect();
    let (train, held_out) = text.split_at(text.len() * 9 / 10);

    let shape = Shape::new(256, 128, 4, 4, context);
    let device = Device::open(DeviceChoice::Cpu, None)?;
    let recipe = Recipe { batch, ..Recipe::default() };
    let mut trainer = Trainer::new(shape, recipe, device)?;
    let warm = steps.min(100);
    let job = Job { steps: warm, batch, context, seed: 1, lr_start: 3e-5, lr_end: 3e-3 };
    let mut on_step = |report: hydra_engine::StepReport| {
        if report.step.is_multiple_of(200) {
            eprintln!("step {} loss {:.3} {:.0} tokens/s", report.step, report.loss, report.tokens_per_s);
        }
        ControlFlow::Continue(())
    };
    let mut trained = trainer.train(&shape.initial_weights(1), &job, train, &mut on_step)?;
    let mut seconds = trained.seconds;
    if steps > warm {
        let job = Job { steps: steps - warm, seed: 2, lr_start: 3e-3, lr_end: 1.5e-4, ..job };
        trained = trainer.train(&trained.weights, &job, train, &mut on_step)?;
        seconds += trained.seconds;
    }
    let begun = std::time::Instant::now();
    let evaluation = Model::load(shape, &trained.weights, device)?.evaluate(held_out, usize::MAX)?;
    let result = serde_json::json!({
        "steps": steps, "params": shape.params(), "threads": device.threads(), "train_seconds": seconds,
        "val_nats": evaluation.loss(), "val_bits_per_byte": evaluation.bits_per_byte(evaluation.tokens),
        "eval_tokens": evaluation.tokens, "eval_seconds": begun.elapsed().as_secs_f64(),
    });
    println!("{result}");
    Ok(())
}
