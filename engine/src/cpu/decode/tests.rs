//! Answers against the f64 reference, alone and in company.

use super::*;
use crate::tests::reference::{self, random_tokens, random_weights};

fn shape() -> Shape {
    Shape::new(37, 24, 3, 2, 16)
}

fn decoder(seed: u64) -> Arc<Decoder> {
    Arc::new(Decoder::new(shape(), &random_weights(&shape(), seed)).unwrap())
}

fn greedy(count: usize) -> Sampling {
    Sampling { max_new_tokens: count, temperature: 0.0, allowed: 0..30, ..Sampling::default() }
}

fn wild(seed: u64) -> Sampling {
    Sampling { max_new_tokens: 30, temperature: 1.0, top_k: 0, top_p: 1.0, seed, allowed: 0..37 }
}

fn stream(decoder: &Arc<Decoder>, prompt: &[u16], sampling: &Sampling) -> Stream {
    Stream::new(decoder, prompt, sampling.clone()).unwrap()
}

fn alone(mut stream: Stream) -> Vec<u16> {
    let mut batch = DecodeBatch::default();
    std::iter::from_fn(|| token(batch.step(&mut [&mut stream], &mut Team::default())[0])).collect()
}

fn token(drawn: Drawn) -> Option<u16> {
    match drawn {
        Drawn::Token(token) => Some(token),
        Drawn::Reading => panic!("no prompt here is so long"),
        Drawn::End => None,
    }
}

#[test]
fn the_likeliest_tokens_are_the_reference_s() {
    let exact: Vec<f64> = random_weights(&shape(), 6).iter().map(|&w| f64::from(w)).collect();
    let prompt = random_tokens(&shape(), 5, 8);
    let mut seen = prompt.clone();
    let tokens = alone(stream(&decoder(6), &prompt, &greedy(40)));
    assert_eq!(tokens.len(), 40);
    for token in tokens {
        // Past the context of 16, the newest 8 stay.
        if seen.len() > 16 {
            seen.drain(..seen.len() - 8);
        }
        let logits = reference::logits(&shape(), &exact, &seen).pop().unwrap();
        let top = (0..30u16).max_by(|&a, &b| logits[usize::from(a)].total_cmp(&logits[usize::from(b)])).unwrap();
        assert_eq!(token, top);
        seen.push(token);
    }
}

#[test]
fn logits_are_the_reference_s() {
    let exact: Vec<f64> = random_weights(&shape(), 6).iter().map(|&w| f64::from(w)).collect();
    let prompt = random_tokens(&shape(), 11, 3);
    let mut batch = DecodeBatch::default();
    batch.step(&mut [&mut stream(&decoder(6), &prompt, &greedy(1))], &mut Team::default());
    let expected = reference::logits(&shape(), &exact, &prompt).pop().unwrap();
    for (logit, expected) in batch.logits.iter().zip(expected) {
        assert!((f64::from(*logit) - expected).abs() < 1e-4, "{logit} {expected}");
    }
}

#[test]
fn a_prompt_in_one_pass_leaves_what_token_by_token_leaves() {
    let (decoder, prompt) = (decoder(2), random_tokens(&shape(), 12, 1));
    let mut batch = DecodeBatch::default();
    batch.step(&mut [&mut stream(&decoder, &prompt, &greedy(1))], &mut Team::default());
    let at_once = batch.logits.clone();
    let mut slow = stream(&decoder, &prompt[..1], &greedy(100));
    for token in &prompt[1..] {
        batch.step(&mut [&mut slow], &mut Team::default());
        // What was drawn is replaced by what the prompt says.
        *slow.seen.last_mut().unwrap() = *token;
    }
    batch.step(&mut [&mut slow], &mut Team::default());
    assert_eq!(batch.logits, at_once);
}

#[test]
fn a_long_prompt_keeps_nobody_waiting_and_leaves_what_token_by_token_leaves() {
    let shape = Shape { context: 256, ..shape() };
    let decoder = Arc::new(Decoder::new(shape, &random_weights(&shape, 5)).unwrap());
    let prompt = random_tokens(&shape, 150, 2);
    let mut batch = DecodeBatch::default();
    let mut slow = stream(&decoder, &prompt[..1], &greedy(1_000));
    for token in &prompt[1..] {
        batch.step(&mut [&mut slow], &mut Team::default());
        *slow.seen.last_mut().unwrap() = *token;
    }
    batch.step(&mut [&mut slow], &mut Team::default());
    let expected = batch.logits.clone();
    let short: Vec<u16> = alone(stream(&decoder, &prompt[..20], &greedy(5)));

    let mut long = stream(&decoder, &prompt, &greedy(1));
    let mut beside = stream(&decoder, &prompt[..20], &greedy(5));
    let (mut steps, mut heard) = (0, Vec::new());
    loop {
        let drawn = batch.step(&mut [&mut long, &mut beside], &mut Team::default());
        steps += 1;
        heard.extend(token(drawn[1]));
        if drawn[0] != Drawn::Reading {
            assert!(matches!(drawn[0], Drawn::Token(_)));
            break;
        }
    }
    assert_eq!(batch.logits[..expected.len()], expected);
    assert_eq!((steps, &heard[..]), (3, &short[..3]), "a token at every step");
    assert_eq!(batch.step(&mut [&mut long], &mut Team::default()), [Drawn::End]);
}

#[test]
fn company_changes_no_answer() {
    let decoders = [decoder(3), decoder(4)];
    let prompts: Vec<_> = (0..21).map(|n| random_tokens(&shape(), 1 + n % 7, n as u64)).collect();
    let begin = |n: usize| stream(&decoders[n % 2], &prompts[n], &wild(n as u64));
    let expected: Vec<Vec<u16>> = (0..21).map(|n| alone(begin(n))).collect();

    // One joins at every step, at first; each leaves when it is done.
    let mut batch = DecodeBatch::default();
    let mut running: Vec<(usize, Stream)> = Vec::new();
    let mut answers = vec![Vec::new(); 21];
    let mut next = 0;
    while next < 21 || !running.is_empty() {
        if next < 21 {
            running.push((next, begin(next)));
            next += 1;
        }
        let mut streams: Vec<_> = running.iter_mut().map(|(_, stream)| stream).collect();
        let mut drawn = batch.step(&mut streams, &mut Team::default()).into_iter();
        running.retain(|(n, _)| {
            let drawn = drawn.next().unwrap();
            if let Drawn::Token(token) = drawn {
                answers[*n].push(token);
            }
            drawn != Drawn::End
        });
    }
    assert_eq!(answers, expected);
    assert!(expected.iter().all(|answer| answer.len() == 30));
    assert_ne!(expected[0], expected[2]);
}

#[test]
fn a_seed_repeats_and_what_is_not_allowed_never_comes() {
    let decoder = decoder(2);
    let long = random_tokens(&shape(), 100, 3);
    let first = alone(stream(&decoder, &long, &wild(1)));
    assert_eq!(first, alone(stream(&decoder, &long, &wild(1))));
    assert_ne!(first, alone(stream(&decoder, &long, &wild(2))));
    assert!(alone(stream(&decoder, &long, &Sampling { allowed: 40..50, ..wild(1) })).is_empty());
}

#[test]
fn input_that_does_not_fit_is_refused() {
    let decoder = decoder(1);
    assert!(Stream::new(&decoder, &[], greedy(1)).is_err());
    assert!(Stream::new(&decoder, &[37], greedy(1)).is_err());
    assert!(Decoder::new(shape(), &random_weights(&shape(), 1)[1..]).is_err());
    assert!(Decoder::new(Shape { heads: 5, ..shape() }, &[]).is_err());
}
