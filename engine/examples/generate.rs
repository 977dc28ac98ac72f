//! How fast an exported model answers: `generate DIR STREAMS THREADS NEW SAMPLING TOKEN...` draws `NEW` tokens for as
//! many streams at once, all with the same prompt; `SAMPLING` is `greedy` or `default`. One thread draws and the others
//! help it, as in the coordinator.
//!
//! Prints one line of JSON: the tokens of the first stream, the multiplications and additions that a token takes at
//! least, and for each of several repetitions the seconds until all streams had their first token and their last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hydra_engine::{DecodeBatch, Decoder, Drawn, Sampling, Stream, Team, load_safetensors, pretrained};

const REPETITIONS: usize = 7;

/// The tokens of the first of these streams, and the seconds until the last has its first and its last.
fn draw(streams: &mut [Stream], begun: Instant, team: &mut Team) -> (Vec<u16>, f64, f64) {
    let mut batch = DecodeBatch::default();
    let (mut tokens, mut first) = (Vec::new(), 0.0);
    let mut reading = true;
    loop {
        let drawn = batch.step(&mut streams.iter_mut().collect::<Vec<_>>(), team);
        if drawn.iter().all(|drawn| *drawn == Drawn::End) {
            break;
        }
        if let Drawn::Token(token) = drawn[0] {
            tokens.push(token);
        }
        if reading && !drawn.contains(&Drawn::Reading) {
            reading = false;
            first = begun.elapsed().as_secs_f64();
        }
    }
    (tokens, first, begun.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let mut number =
        || arguments.next().ok_or("how many streams, threads and tokens?")?.parse().map_err(|_| "no number");
    let (streams, threads, new): (usize, usize, usize) = (number()?, number()?, number()?);
    let mut sampling = Sampling { max_new_tokens: new, ..Sampling::default() };
    match arguments.next().as_deref() {
        Some("greedy") => sampling.temperature = 0.0,
        Some("default") => {}
        _ => return Err("greedy or default?".into()),
    }
    let prompt: Vec<u16> = arguments.map(|token| token.parse()).collect::<Result<_, _>>()?;
    let shape = pretrained::from_config(&std::fs::read(dir.join("config.json"))?)?;
    let weights = load_safetensors(&dir.join("model.safetensors"), &shape)?;
    let begun = Instant::now();
    let decoder = Arc::new(Decoder::new(shape, &weights)?);
    let load = begun.elapsed().as_secs_f64();
    let mut team = Team::new(threads.saturating_sub(1))?;
    let (mut firsts, mut seconds, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        let mut streams =
            (0..streams).map(|_| Stream::new(&decoder, &prompt, sampling.clone())).collect::<Result<Vec<_>, _>>()?;
        let (drawn, first, last) = draw(&mut streams, begun, &mut team);
        firsts.push(first);
        seconds.push(last);
        tokens = drawn;
    }
    // Each weight counts once, the embedding table as the output layer; attention comes on top.
    let flops = 2 * shape.params();
    let printed = serde_json::json!({
        "tokens": tokens, "flops_per_token": flops, "load_s": load, "first_s": firsts, "seconds": seconds,
    });
    println!("{printed}");
    Ok(())
}
