//! Products and answers of a team against those of one thread.

use hydra_core::model::Shape;
use hydra_core::rng::Rng;

use super::*;
use crate::cpu::attention::Attention;
use crate::cpu::decode::{DecodeBatch, Drawn, Stream};
use crate::cpu::kept::Kept;
use crate::sample::Sampling;
use crate::tests::reference::{random_tokens, random_weights};

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal() as f32).collect()
}

fn matrix(outputs: usize, inputs: usize) -> Arc<Panels> {
    Arc::new(Panels::of(&[(&random(outputs * inputs, 1), inputs)]).pop().unwrap())
}

fn alone(matrix: &Arc<Panels>, rows: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows.len() / matrix.inputs() * matrix.outputs()];
    Team::default().multiply(matrix, rows, &mut out);
    out
}

fn check(team: &mut Team, matrix: &Arc<Panels>, count: usize) {
    let rows = random(count * matrix.inputs(), 2);
    let expected = alone(matrix, &rows);
    for _ in 0..20 {
        let mut together = vec![f32::NAN; expected.len()];
        team.multiply(matrix, &rows, &mut together);
        assert_eq!(expected, together, "{} outputs, {} inputs, {count} rows", matrix.outputs(), matrix.inputs());
    }
}

/// Until helpers have noticed that there is nothing left.
fn in_time(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_mins(1));
        std::thread::yield_now();
    }
}

#[test]
fn company_of_threads_changes_no_bit() {
    let matrices = [(1, 3), (50, 40), (1000, 64), (2050, 256)].map(|(outputs, inputs)| matrix(outputs, inputs));
    for helpers in 0..4 {
        let mut team = Team::new(helpers).unwrap();
        for matrix in &matrices {
            for count in [1, 2, 7, 16, 40] {
                check(&mut team, matrix, count);
            }
        }
    }
}

#[test]
fn helpers_that_slept_or_ended_are_not_missed() {
    let mut team = Team::new(2).unwrap();
    for _ in 0..3 {
        check(&mut team, &matrix(1000, 64), 3);
        // So that they sleep, most likely; what is checked holds as well where they do not.
        std::thread::sleep(2 * AWAKE);
    }
    team.helpers[0].shared.state.store(CLOSED, Ordering::Release);
    team.helpers[0].wake();
    team.helpers[0].thread.take().unwrap().join().unwrap();
    check(&mut team, &matrix(1000, 64), 3);
}

#[test]
fn what_nobody_began_is_done_by_who_draws() {
    let mut team = Team { helpers: vec![asleep()], ..Team::default() };
    check(&mut team, &matrix(1000, 64), 3);
    assert_eq!(team.helpers[0].shared.state.load(Ordering::Acquire), IDLE);
    assert!(lock(&team.helpers[0].shared.job).is_none());
    assert!(team.spare.is_some());
}

#[test]
fn a_product_waits_for_nobody_who_lost_its_core() {
    let (matrix, rows) = (matrix(1000, 64), random(3 * 64, 2));
    let mut team = Team { helpers: vec![asleep()], ..Team::default() };
    let mut job = Arc::<Job>::default();
    let own = Arc::get_mut(&mut job).unwrap();
    own.task = Task::Multiply(matrix.clone());
    own.divide(&rows, (1..=9).map(|piece| 7 * piece), 2);
    // A helper takes two pieces, does one of them and loses its core.
    let late = job.clone();
    let mut room = Room::default();
    late.lay_out(&mut room);
    let mut taken = late.pieces(1);
    let (first, second) = (taken.next().unwrap(), taken.next().unwrap());
    assert_eq!((first, second), (5, 6));
    late.help(first, &mut room);
    let mut out = vec![f32::NAN; 3 * 1000];
    team.run(job, &mut out);
    assert_eq!(out, alone(&matrix, &rows));
    assert!(team.spare.is_none(), "it is still held");
    // Others are done meanwhile; the old one comes to its end.
    check(&mut team, &matrix, 2);
    late.help(second, &mut room);
    assert!(taken.next().is_none());
}

#[test]
fn helpers_let_go_of_weights() {
    let mut team = Team::new(1).unwrap();
    let matrix = matrix(1000, 64);
    let mut out = vec![0.0; 1000];
    (0..50).for_each(|_| team.multiply(&matrix, &random(64, 2), &mut out));
    in_time(|| Arc::strong_count(&matrix) == 1);
}

#[test]
fn helpers_help() {
    let mut team = Team::new(1).unwrap();
    // Again and again, in case its core is taken away just then.
    let mut helped = |job: &mut dyn FnMut(&mut Team)| {
        team.fetched = 0;
        let begun = Instant::now();
        while team.fetched == 0 {
            assert!(begun.elapsed() < Duration::from_mins(1));
            job(&mut team);
        }
    };
    let (matrix, mut out) = (matrix(1000, 64), vec![0.0; 1000]);
    helped(&mut |team| team.multiply(&matrix, &random(64, 2), &mut out));
    // It sleeps by now, most likely; what is checked holds as well where it does not.
    std::thread::sleep(5 * AWAKE);
    helped(&mut |team| team.multiply(&matrix, &random(64, 2), &mut out));
    let shape = Shape::new(40, 32, 2, 1, 64);
    let decoder = Arc::new(Decoder::new(shape, &random_weights(&shape, 5)).unwrap());
    let mut out = vec![0.0; 54 * 32];
    helped(&mut |team| {
        let (mut spans, qkv) = spans(&shape);
        team.attend((&decoder, 0), &qkv, &mut spans, &mut out);
    });
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
        in_time(|| Arc::strong_count(&decoder) == 1 + streams.len());
        answers
    };
    let alone = answers(Team::default(), usize::MAX);
    assert!(alone.iter().all(|answer| answer.len() == 40));
    for helpers in 1..=3 {
        assert_eq!(alone, answers(Team::new(helpers).unwrap(), usize::MAX), "{helpers} helpers");
    }
    assert_eq!(alone, answers(Team::new(2).unwrap(), 20), "one ended");
    assert_eq!(alone, answers(Team { helpers: vec![asleep()], ..Team::default() }, usize::MAX), "nobody began");
}

/// Spans of three streams with nothing kept, and their rows.
fn spans(shape: &Shape) -> (Vec<Span>, Vec<f32>) {
    let spans = [20, 1, 33].map(|rows| Span { position: 0, rows, kept: Kept::default() });
    (Vec::from(spans), random(54 * 3 * shape.width as usize, 4))
}

#[test]
fn attention_that_is_late_is_done_once() {
    let shape = Shape::new(40, 32, 2, 1, 64);
    let decoder = Arc::new(Decoder::new(shape, &random_weights(&shape, 5)).unwrap());
    let (mut expected, mut out) = (vec![f32::NAN; 54 * 32], vec![f32::NAN; 54 * 32]);
    let (mut kept, qkv) = spans(&shape);
    Team::default().attend((&decoder, 0), &qkv, &mut kept, &mut expected);

    let mut team = Team { helpers: vec![asleep(), asleep()], ..Team::default() };
    let mut job = Arc::<Job>::default();
    let own = Arc::get_mut(&mut job).unwrap();
    own.task = Task::Attend(decoder.clone(), 0);
    own.divide(&qkv, [20, 21, 54].into_iter(), 3);
    own.spans = spans(&shape).0.into_iter().map(Mutex::new).collect();
    // One helper has taken its stream and lost its core; the other is at it for longer than anyone waits.
    let mut room = Room::default();
    assert_eq!([job.pieces(1).next(), job.pieces(2).next()], [Some(1), Some(2)]);
    let busy = job.clone();
    let done = std::thread::scope(|scope| {
        let held = lock(&job.spans[2]);
        let helper = scope.spawn(|| busy.help(2, &mut Room::default()));
        let late = job.clone();
        let draws = scope.spawn(|| team.run(late, &mut out));
        std::thread::sleep(20 * AWAKE);
        drop(held);
        helper.join().unwrap();
        draws.join().unwrap()
    });
    assert_eq!(out, expected);
    busy.help(1, &mut room);
    assert!(lock(&busy.done[1].out).iter().all(|number| *number == 0.0), "it was done already");
    let next = |mut spans: Vec<Span>| {
        for span in &mut spans {
            (span.position, span.rows) = (span.rows, 1);
        }
        let mut out = vec![f32::NAN; 3 * 32];
        Team::default().attend((&decoder, 0), &random(3 * 3 * 32, 6), &mut spans, &mut out);
        out
    };
    assert_eq!(next(done), next(kept), "what was kept is the same");
}

#[test]
fn attention_may_be_done_again() {
    // As where a helper fails at it: across a block of sixteen tokens, with what is kept already.
    let shape = Shape::new(40, 32, 2, 1, 64);
    let decoder = Decoder::new(shape, &random_weights(&shape, 5)).unwrap();
    let run = |times: usize| {
        let (qkv, mut out) = (random(41 * 3 * 32, 4), vec![f32::NAN; 40 * 32]);
        let (mut attention, mut kept) = (Attention::default(), Kept::default());
        let (before, rest) = qkv.split_at(10 * 3 * 32);
        attention.attend((&decoder, 0), 0, before, &mut kept, &mut out);
        let (these, last) = rest.split_at(30 * 3 * 32);
        (0..times).for_each(|_| attention.attend((&decoder, 0), 10, these, &mut kept, &mut out[10 * 32..]));
        // What is kept shows in the next one.
        let mut next = vec![f32::NAN; 32];
        attention.attend((&decoder, 0), 40, last, &mut kept, &mut next);
        (out, next)
    };
    assert_eq!(run(1), run(2));
}
