//! Products of a team against those of one thread.

use hydra_core::rng::Rng;

use super::*;

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
    // A helper without a thread.
    let helper = Helper { shared: Arc::default(), thread: None };
    let mut team = Team { helpers: vec![helper] };
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
