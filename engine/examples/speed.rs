//! How fast this machine trains: `speed [VOCAB WIDTH HEADS LAYERS CONTEXT BATCH] [--threads N] [--seconds S]
//! [--device D] [--autograd]`.
//!
//! The counterpart of plain PyTorch's `torch_baseline.py speed`. Prints one line of JSON.

use std::ops::ControlFlow;
use std::time::Instant;

use hydra_core::model::{Recipe, Shape};
use hydra_core::rng::Rng;
use hydra_engine::{Device, DeviceChoice, Job, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut sizes, mut threads, mut seconds, mut autograd) = (Vec::new(), None, 10.0, false);
    let mut choice = DeviceChoice::Cpu;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--threads" => threads = Some(value()?.parse()?),
            "--seconds" => seconds = value()?.parse()?,
            "--device" => choice = value()?.parse()?,
            "--autograd" => autograd = true,
            number => sizes.push(number.parse::<u32>()?),
        }
    }
    let [vocab, width, heads, layers, context, batch] = match sizes[..] {
        [] => [256, 128, 4, 4, 64, 12],
        _ => sizes.try_into().map_err(|_| "six sizes: vocabulary, width, heads, layers, context, batch")?,
    };
    let shape = Shape::new(vocab, width, heads, layers, context);
    let device = Device::open(choice, threads)?;
    let recipe = Recipe { batch, ..Recipe::default() };
    let mut trainer =
        if autograd { Trainer::with_autograd(shape, recipe, device)? } else { Trainer::new(shape, recipe, device)? };
    let mut rng = Rng::new(1);
    let shard: Vec<u16> = (0..100_000).map(|_| rng.below(u64::from(vocab)) as u16).collect();
    let job = Job { steps: u32::MAX, batch, context, seed: 1, lr_start: 1e-4, lr_end: 1e-4 };
    // The first steps allocate.
    let (mut begun, mut counted, mut elapsed) = (Instant::now(), 0u64, 0.0);
    let ended = trainer.train(&shape.initial_weights(1), &job, &shard, &mut |report| {
        if report.step <= 5 {
            begun = Instant::now();
            return ControlFlow::Continue(());
        }
        counted += u64::from(batch) * u64::from(context);
        elapsed = begun.elapsed().as_secs_f64();
        if elapsed < seconds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Err(error) = ended
        && !matches!(error, hydra_engine::EngineError::Stopped)
    {
        return Err(error.into());
    }
    let result = serde_json::json!({
        "vocab": vocab, "width": width, "heads": heads, "layers": layers, "context": context, "batch": batch,
        "params": shape.params(), "device": device.describe(), "threads": device.threads(), "autograd": autograd,
        "tokens_per_s": (counted as f64 / elapsed).round(),
    });
    println!("{result}");
    Ok(())
}
