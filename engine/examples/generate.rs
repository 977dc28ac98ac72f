//! How fast an exported model answers: `generate DIR STREAMS THREADS NEW TOKEN...` draws `NEW` tokens greedily for as
//! many streams at once, all with the same prompt. Threads share several streams; one stream's products are shared by
//! them.
//!
//! Prints one line of JSON: the tokens of the first stream, the multiplications and additions that a token takes at
//! least, and for each of several repetitions the seconds until all streams had their first token and their last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hydra_engine::{DecodeBatch, Decoder, Drawn, Sampling, Stream, Team, load_safetensors, pretrained};

const REPETITIONS: usize = 7;

/// Draws for `streams` on this thread; the first one's tokens, and the seconds until the first and the last.
fn draw(decoder: &Arc<Decoder>, streams: usize, new: usize, prompt: &[u16], team: &mut Team) -> (Vec<u16>, f64, f64) {
    let sampling = Sampling { max_new_tokens: new, temperature: 0.0, ..Sampling::default() };
    let begun = Instant::now();
    let mut streams: Vec<_> =
        (0..streams).map(|_| Stream::new(decoder, prompt, sampling.clone()).expect("a prompt that fits")).collect();
    let mut batch = DecodeBatch::default();
    let (mut tokens, mut first) = (Vec::new(), 0.0);
    let mut reading = true;
    loop {
        let mut all: Vec<_> = streams.iter_mut().collect();
        let drawn = batch.step(&mut all, team);
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
    let prompt: Vec<u16> = arguments.map(|token| token.parse()).collect::<Result<_, _>>()?;
    let shape = pretrained::from_config(&std::fs::read(dir.join("config.json"))?)?;
    let weights = load_safetensors(&dir.join("model.safetensors"), &shape)?;
    let begun = Instant::now();
    let decoder = Arc::new(Decoder::new(shape, &weights)?);
    let load = begun.elapsed().as_secs_f64();
    // As many draw as there are streams for; the others help.
    let drawing = threads.min(streams);
    let mut teams = (0..drawing)
        .map(|thread| Team::new(if thread == 0 { threads - drawing } else { 0 }))
        .collect::<std::io::Result<Vec<_>>>()?;
    let (mut firsts, mut seconds, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let begun = Instant::now();
        let drawn = std::thread::scope(|scope| {
            let share = |thread: usize| streams * (thread + 1) / drawing - streams * thread / drawing;
            let start = |(thread, team)| {
                let (decoder, prompt) = (&decoder, &prompt);
                scope.spawn(move || draw(decoder, share(thread), new, prompt, team))
            };
            let running: Vec<_> = teams.iter_mut().enumerate().map(start).collect();
            running.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
        });
        let mut drawn = drawn.map_err(|_| "a thread failed")?;
        seconds.push(begun.elapsed().as_secs_f64());
        firsts.push(drawn.iter().map(|(_, first, _)| *first).fold(0.0, f64::max));
        tokens = std::mem::take(&mut drawn[0].0);
    }
    // Each weight counts once, the embedding table as the output layer; attention comes on top.
    let flops = 2 * shape.params();
    let printed = serde_json::json!({
        "tokens": tokens, "flops_per_token": flops, "load_s": load, "first_s": firsts, "seconds": seconds,
    });
    println!("{printed}");
    Ok(())
}
