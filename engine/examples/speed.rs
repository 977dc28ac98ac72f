//! How fast this machine trains: `speed [VOCAB WIDTH HEADS LAYERS CONTEXT BATCH] [--threads N] [--seconds S]
//! [--device D] [--autograd] [--f32] [--peak]`.
//!
//! The counterpart of plain PyTorch's `torch_baseline.py speed`. Prints one line of JSON. With `--peak` it also
//! measures how fast libtorch multiplies large matrices there: in f32 with as many threads, or in bf16 on a GPU.

use std::ops::ControlFlow;
use std::time::Instant;

use hydra_core::model::{Recipe, Shape};
use hydra_core::rng::Rng;
use hydra_engine::{Device, DeviceChoice, Job, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut sizes, mut threads, mut seconds, mut autograd, mut peak) = (Vec::new(), None, 10.0, false, false);
    let (mut choice, mut f32) = (DeviceChoice::Cpu, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--threads" => threads = Some(value()?.parse()?),
            "--seconds" => seconds = value()?.parse()?,
            "--device" => choice = value()?.parse()?,
            "--autograd" => autograd = true,
            "--peak" => peak = true,
            "--f32" => f32 = true,
            number => sizes.push(number.parse::<u32>()?),
        }
    }
    let [vocab, width, heads, layers, context, batch] = match sizes[..] {
        [] => [256, 128, 4, 4, 64, 12],
        _ => sizes.try_into().map_err(|_| "six sizes: vocabulary, width, heads, layers, context, batch")?,
    };
    let shape = Shape::new(vocab, width, heads, layers, context);
    let device = Device::open(choice, threads)?;
    let device = if f32 { device.in_f32() } else { device };
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
        "flops_per_token": flops_per_token(&shape),
        "peak_flops": if peak { matrix_product_peak(&device, choice) } else { 0.0 },
    });
    println!("{result}");
    Ok(())
}

/// What training needs for a token: two operations for each weight forward and four backward (the embedding table
/// counts once, as the output layer), and attention to the half of the window that lies before a token.
fn flops_per_token(shape: &Shape) -> f64 {
    let attention = f64::from(shape.layers) * f64::from(shape.context) * f64::from(shape.width);
    6.0 * shape.params() as f64 + 6.0 * attention
}

/// The fastest of some products of large matrices, in operations a second, on the device that `choice` has opened.
fn matrix_product_peak(device: &Device, choice: DeviceChoice) -> f64 {
    tch::set_num_threads(device.threads() as i32);
    let (side, times, kind, place) = if device.is_gpu() {
        // `auto` takes the first card.
        let card = if let DeviceChoice::Cuda(number) = choice { number } else { 0 };
        (8192, 10, tch::Kind::BFloat16, tch::Device::Cuda(card))
    } else {
        (2048, 1, tch::Kind::Float, tch::Device::Cpu)
    };
    let matrix = || tch::Tensor::randn([side, side], (tch::Kind::Float, place)).to_kind(kind);
    let (a, b) = (matrix(), matrix());
    // One number of the last product is waited for: a GPU works through them in order.
    let products = || {
        let begun = Instant::now();
        let mut last = a.matmul(&b);
        for _ in 1..times {
            last = a.matmul(&b);
        }
        std::hint::black_box(last.double_value(&[0, 0]));
        begun.elapsed().as_secs_f64() / f64::from(times)
    };
    let fastest = (0..8).map(|_| products()).fold(f64::INFINITY, f64::min);
    2.0 * (side as f64).powi(3) / fastest
}
