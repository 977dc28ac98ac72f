//! The engine's logits for an exported model: `logits DIR TOKEN...` prints `{"tokens": […], "logits": [[…], …]}`.
//!
//! `docs/examples/compare_logits.py` holds them against those of Python's `transformers`.

use std::path::PathBuf;

use hydra_engine::{Device, DeviceChoice, Model, load_safetensors, pretrained};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let tokens: Vec<u16> = arguments.map(|token| token.parse()).collect::<Result<_, _>>()?;
    let shape = pretrained::from_config(&std::fs::read(dir.join("config.json"))?)?;
    let weights = load_safetensors(&dir.join("model.safetensors"), &shape)?;
    let model = Model::load(shape, &weights, Device::open(DeviceChoice::Cpu, Some(1))?)?;
    let logits = model.logits(&tokens)?;
    let rows: Vec<&[f32]> = logits.chunks(shape.vocab as usize).collect();
    println!("{}", serde_json::json!({ "tokens": tokens, "logits": rows }));
    Ok(())
}
