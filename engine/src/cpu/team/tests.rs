//! Products and answers of a team against those of one thread.

use hydra_core::model::Shape;
use hydra_core::rng::Rng;

use super::*;
use crate::cpu::decode::{DecodeBatch, Drawn, Stream};
use crate::sample::Sampling;
use crate::tests::reference::{random_tokens, random_weights};

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal() as f32).collect()
}

fn check(team: &mut Team, outputs: usize, inputs: usize, count: usize) {
    let matrix = Arc::new(Panels::of(&[(&random(outputs * inputs, 1), inputs)]).pop().unwrap());
    let rows = random(count * inputs, 2);
    let (mut alone, mut together) = (vec![f32::NAN; count * outputs], vec![f32::NAN; count * outputs]);
    wide::multiply(matrix.whole(), &rows, &mut Room::default(), &mut alone);
    team.multiply(&matrix, &rows, &mut Room::default(), &mut together);
    assert_eq!(alone, together, "{outputs} outputs, {inputs} inputs, {count} rows");
}

#[test]
fn company_of_threads_changes_no_bit() {
    for helpers in 0..4 {
        let mut team = Team::new(helpers).unwrap();
        for (outputs, inputs) in [(1, 3), (50, 40), (1000, 64), (2050, 256)] {
            for count in [1, 2, 7, 16, 40] {
                (0..20).for_each(|_| check(&mut team, outputs, inputs, count));
            }
        }
    }
}

#[test]
fn helpers_that_slept_or_ended_are_not_missed() {
    let mut team = Team::new(2).unwrap();
    for _ in 0..3 {
        check(&mut team, 1000, 64, 3);
        // So that they sleep, most likely; what is checked holds as well where they do not.
        std::thread::sleep(2 * AWAKE);
    }
    team.helpers[0].shared.state.store(CLOSED, Ordering::Release);
    team.helpers[0].wake();
    team.helpers[0].thread.take().unwrap().join().unwrap();
    (0..20).for_each(|_| check(&mut team, 1000, 64, 3));
}

#[test]
fn a_part_that_nobody_began_is_taken_back() {
    let mut team = Team { helpers: vec![asleep()] };
    (0..3).for_each(|_| check(&mut team, 1000, 64, 3));
    assert_eq!(team.helpers[0].shared.state.load(Ordering::Acquire), IDLE);
}

#[test]
fn a_helper_lets_go_of_weights() {
    let mut team = Team::new(1).unwrap();
    let matrix = Arc::new(Panels::of(&[(&random(64 * 1000, 1), 64)]).pop().unwrap());
    let mut out = vec![0.0; 1000];
    (0..50).for_each(|_| team.multiply(&matrix, &random(64, 2), &mut Room::default(), &mut out));
    assert_eq!(Arc::strong_count(&matrix), 1);
}

/// A helper without a thread.
fn asleep() -> Helper {
    Helper { shared: Arc::default(), thread: None }
}

#[test]
fn a_team_changes_no_answer() {
    let shape = Shape::new(300, 64, 4, 2, 96);
    let decoder = Arc::new(Decoder::new(shape, &random_weights(&shape, 5)).unwrap());
    // The first helper ends at this step.
    let answers = |mut team: Team, end: usize| -> Vec<Vec<u16>> {
        let sampling = |seed| Sampling { max_new_tokens: 40, temperature: 1.0, seed, ..Sampling::default() };
        let begin =
            |n: usize| Stream::new(&decoder, &random_tokens(&shape, 1 + 7 * n % 50, n as u64), sampling(n as u64));
        let mut streams: Vec<_> = (0..13).map(|n| begin(n).unwrap()).collect();
        let (mut batch, mut answers) = (DecodeBatch::default(), vec![Vec::new(); streams.len()]);
        for step in 0.. {
            if step == end {
                team.helpers[0].shared.state.store(CLOSED, Ordering::Release);
                team.helpers[0].wake();
            }
            let drawn = batch.step(&mut streams.iter_mut().collect::<Vec<_>>(), &mut team);
            for (answer, drawn) in answers.iter_mut().zip(&drawn) {
                answer.extend(if let Drawn::Token(token) = drawn { Some(*token) } else { None });
            }
            if drawn.iter().all(|drawn| *drawn == Drawn::End) {
                break;
            }
        }
        assert_eq!(Arc::strong_count(&decoder), 1 + streams.len(), "helpers let go of weights");
        answers
    };
    let alone = answers(Team::default(), usize::MAX);
    assert!(alone.iter().all(|answer| answer.len() == 40));
    for helpers in 1..=3 {
        assert_eq!(alone, answers(Team::new(helpers).unwrap(), usize::MAX), "{helpers} helpers");
    }
    assert_eq!(alone, answers(Team::new(2).unwrap(), 20), "one ended");
    assert_eq!(alone, answers(Team { helpers: vec![asleep()] }, usize::MAX), "nobody began");
}

#[test]
fn attention_may_be_done_again() {
    // As where a helper fails at it: across a block of sixteen tokens, with what is kept already.
    let shape = Shape::new(40, 32, 2, 1, 64);
    let decoder = Arc::new(Decoder::new(shape, &random_weights(&shape, 5)).unwrap());
    let rows: Vec<Row> = (0..40).map(|position| Row { stream: 3, position }).collect();
    let run = |times: usize| {
        let task = || Task::Attend { decoder: decoder.clone(), layer: 0 };
        let input = random(40 * 3 * 32, 4);
        let mut work = Work { input: input[..10 * 3 * 32].to_vec(), rows: rows[..10].to_vec(), ..Work::default() };
        (work.task, work.kept) = (task(), vec![Kept::default()]);
        work.run();
        (work.input, work.rows) = (input[10 * 3 * 32..].to_vec(), rows[10..].to_vec());
        (0..times).for_each(|_| work.run());
        let again = work.out.clone();
        // What is kept shows in the next one.
        (work.input, work.rows) = (random(3 * 32, 6), vec![Row { stream: 3, position: 40 }]);
        work.run();
        (again, work.out)
    };
    assert_eq!(run(1), run(2));
}
