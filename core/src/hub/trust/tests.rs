//! Who is believed, on numbers like those that training gives.

use super::*;
use crate::hub::{Sample, Twin};
use crate::ids::LeaseId;
use crate::rng::Rng;

fn who(n: u8) -> Who {
    (format!("w{n}").parse().expect("a plain name"), WorkerId([n; 8]))
}

fn task(version: u64, codec: Codec) -> Task {
    Task { version: VersionNo(version), codec, step_tokens: 768, rate: Some(1e-3) }
}

/// Windows scatter by half of what they gain, as measured in the middle of a run.
fn sample(mean: f64, deviation: f64, count: u32, rng: &mut Rng) -> Sample {
    let mean = mean + deviation / f64::from(count).sqrt() * rng.normal();
    Sample { count, mean, deviation }
}

/// As many on each half of the task's windows.
fn halves(mean: f64, deviation: f64, count: u32, rng: &mut Rng) -> [Sample; 2] {
    [(); 2].map(|()| sample(mean, deviation, count / 2, rng))
}

fn findings(own: f64, held_out: f64, rng: &mut Rng) -> Findings {
    let gain = Gain { halves: halves(own, 0.01, 4, rng), held_out: sample(held_out, 0.008, 8, rng) };
    Findings { norm: 1.0, twin: None, gain: Some(gain) }
}

fn honest(rng: &mut Rng) -> Findings {
    findings(0.02, 0.006, rng)
}

fn code(verdict: Result<(), Refusal>) -> Option<UnpaidCode> {
    verdict.err().map(|(code, _)| code)
}

/// A run of seven honest workers, in which an eighth hands in what `lie` makes; how often either was refused.
fn refused(rounds: u64, seed: u64, lie: impl FnMut(u64, &mut Rng) -> Findings) -> (u32, u32) {
    refused_among(honest, rounds, seed, lie)
}

/// The same where the honest hand in what `work` makes.
fn refused_among(
    work: impl Fn(&mut Rng) -> Findings,
    rounds: u64,
    seed: u64,
    mut lie: impl FnMut(u64, &mut Rng) -> Findings,
) -> (u32, u32) {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(seed));
    let (mut honest_refused, mut liar_refused) = (0, 0);
    for version in 0..rounds {
        // Who comes first changes from round to round.
        let liars_turn = rng.below(8);
        for turn in 0..8 {
            if turn == liars_turn {
                let findings = lie(version, &mut rng);
                liar_refused += u32::from(trust.judge(&who(99), task(version, Codec::Int4), &findings).is_err());
            } else {
                let findings = work(&mut rng);
                honest_refused +=
                    u32::from(trust.judge(&who(turn as u8), task(version, Codec::Int4), &findings).is_err());
            }
        }
    }
    (honest_refused, liar_refused)
}

#[test]
fn the_honest_are_believed() {
    let (honest_refused, last_refused) = refused(500, 1, |_, rng| honest(rng));
    assert!(honest_refused + last_refused < 20, "{honest_refused} + {last_refused} of 4,000");
}

#[test]
fn noise_reversal_and_other_peoples_work_are_not() {
    // Means and deviations as measured: random numbers, a reversed update, one trained from an old version.
    for (own, held_out) in [(0.0001, 0.0), (-0.026, -0.012), (-0.0024, -0.0054)] {
        let lie = |_, rng: &mut Rng| {
            let gain = Gain { halves: halves(own, 0.0015, 8, rng), held_out: sample(held_out, 0.008, 8, rng) };
            Findings { norm: 1.0, twin: None, gain: Some(gain) }
        };
        let (honest_refused, liar_refused) = refused(100, 2, lie);
        assert!(honest_refused < 5, "{honest_refused} honest");
        assert!(liar_refused > 90, "{liar_refused} of 100 at {own}");
    }
}

#[test]
fn a_good_name_does_not_buy_bad_updates() {
    let reversed_late = |version, rng: &mut Rng| if version < 50 { honest(rng) } else { findings(-0.02, -0.006, rng) };
    let (_, liar_refused) = refused(100, 3, reversed_late);
    assert!(liar_refused >= 48, "{liar_refused} of 50");
}

#[test]
fn who_was_wrong_is_believed_again_once_right() {
    let noise_first = |version, rng: &mut Rng| if version < 50 { findings(-0.02, 0.0, rng) } else { honest(rng) };
    let (_, liar_refused) = refused(100, 4, noise_first);
    assert!((49..=56).contains(&liar_refused), "{liar_refused}");
}

#[test]
fn whoever_gains_half_again_and_again_is_found() {
    // As measured of updates that were trained from weights five versions old.
    let stale = |_, rng: &mut Rng| findings(0.009, 0.003, rng);
    let (honest_refused, liar_refused) = refused(60, 8, stale);
    assert!(honest_refused < 5 && liar_refused >= 54, "{honest_refused} of 420, {liar_refused} of 60");
}

#[test]
fn a_majority_that_gains_a_little_more_hardly_costs_the_others_their_pay() {
    let refused = |factor: f64| {
        let better = |rng: &mut Rng| findings(factor * 0.02, factor * 0.006, rng);
        refused_among(better, 400, 9, |_, rng| honest(rng)).1
    };
    let refused = [1.0, 1.1, 1.2, 1.3, 1.5].map(refused);
    println!("{refused:?} of 400");
    assert!(refused[..3].iter().all(|refused| *refused < 20), "{refused:?} of 400");
}

#[test]
fn who_gains_less_since_its_task_has_a_lower_rate_does_no_wrong() {
    // As measured of a run's first version, whose tasks are leased while the rate rises: the first is trained at
    // less than a third of the last one's.
    let first = [(7, 0.673), (5, 0.583), (2, 0.325), (1, 0.285), (4, 0.500), (6, 0.602), (3, 0.431)];
    let mut rng = Rng::new(12);
    for known in [true, false] {
        let mut trust = Trust::default();
        let mut refused = |worker: u8, version, own: f64, rate: f32| {
            let gain = Gain { halves: halves(own, 0.07, 8, &mut rng), held_out: sample(0.8 * own, 0.05, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            let task = Task { rate: known.then_some(rate), ..task(version, Codec::Int4) };
            u32::from(trust.judge(&who(worker), task, &findings).is_err())
        };
        let rate = |place: u8| 1e-3 * (0.05 + 0.038 * f32::from(place));
        let mut wrong: u32 = first.iter().map(|(worker, own)| refused(*worker, 0, *own, rate(*worker))).sum();
        wrong += (1..=7).map(|worker| refused(worker, 1, 0.24, 6e-4)).sum::<u32>();
        assert_eq!(wrong == 0, known, "{wrong} of 14");
        // At a higher rate than the others' to gain a third is no luck.
        assert_eq!(refused(99, 1, 0.08, 8e-4), 1);
    }
}

#[test]
fn gains_that_shrink_from_version_to_version_are_no_fault() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(5));
    // As the first versions of a run do, and faster.
    for (version, own) in [0.98, 0.08, 0.02, 0.004, 0.0004].into_iter().enumerate() {
        for worker in 0..7 {
            let gain = Gain { halves: halves(own, own / 2.0, 8, &mut rng), held_out: sample(own, own, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            assert_eq!(
                code(trust.judge(&who(worker), task(version as u64, Codec::Int4), &findings)),
                None,
                "{version}"
            );
        }
    }
}

#[test]
fn where_nothing_is_left_to_gain_honest_work_is_still_paid() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(6));
    let mut refused = 0;
    trust.judge(&who(0), task(0, Codec::Int4), &findings(0.02, 0.0, &mut rng)).expect("the first gains");
    for version in 1..300 {
        let findings = findings(0.0, -0.006, &mut rng);
        refused += u32::from(trust.judge(&who(0), task(version, Codec::Int4), &findings).is_err());
    }
    assert!(refused < 25, "{refused} of 299");
}

/// A run of three users, of whom each hands in one update a version, the third from the tenth on, by the mean and the
/// deviation of what they gain; how often the third was refused, and the others.
fn of_three(others: (f64, f64), third: (f64, f64), versions: u64, seed: u64) -> (u32, u32) {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(seed));
    let mut refused = (0, 0);
    for version in 0..versions {
        for worker in 0..if version < 10 { 2 } else { 3 } {
            let count = trust.windows(&who(worker), 4);
            let (mean, deviation) = if worker == 2 { third } else { others };
            let own = halves(mean, deviation, count, &mut rng);
            let gain = Gain { halves: own, held_out: sample(0.0, 0.008, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            let wrong = u32::from(trust.judge(&who(worker), task(version, Codec::Int4), &findings).is_err());
            *(if worker == 2 { &mut refused.0 } else { &mut refused.1 }) += wrong;
        }
    }
    refused
}

#[test]
fn who_is_new_where_a_text_is_known_by_heart_is_paid() {
    // As measured of `tiny` and the primer at version 250: the usual gain is about as large as its errors.
    for (seed, gain) in (0..).zip([0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004]) {
        let honest = (gain, 0.0027);
        let (third, others) = of_three(honest, honest, 210, seed);
        assert!(third <= 3 && others <= 6, "{third} of 200 and {others} of 420 at {gain}");
    }
}

#[test]
fn after_a_restart_where_a_text_is_known_by_heart_everybody_is_paid() {
    // All are new, and all are looked at with twice the windows.
    for (seed, gain) in (0..).zip([0.0005, 0.001, 0.002, 0.003, 0.004, 0.006]) {
        let mut refused = 0;
        for run in 0..40 {
            let honest = (gain, 0.0027);
            let (third, others) = of_three(honest, honest, 16, 100 * seed + run);
            refused += third + others;
        }
        assert!(refused <= 15, "{refused} of 1,520 at {gain}");
    }
}

#[test]
fn who_is_new_and_gains_nothing_where_others_do_is_not_however_much_it_scatters() {
    for deviation in [0.0015, 0.01, 0.02, 0.05] {
        let (third, others) = of_three((0.02, 0.01), (0.0, deviation), 210, 7);
        assert!(third >= 170 && others <= 4, "{third} of 200 and {others} of 420 at {deviation}");
    }
}

#[test]
fn gaining_on_the_task_alone_is_harm() {
    let poison = |_, rng: &mut Rng| findings(0.03, -0.2, rng);
    let (honest_refused, liar_refused) = refused(50, 7, poison);
    assert!(honest_refused < 3 && liar_refused >= 49, "{honest_refused} {liar_refused}");
}

#[test]
fn a_lost_model_is_no_gain() {
    let mut trust = Trust::default();
    let lost = Sample { count: 8, mean: f64::NAN, deviation: f64::NAN };
    let findings = Findings { norm: 1.0, twin: None, gain: Some(Gain { halves: [lost; 2], held_out: lost }) };
    assert_eq!(code(trust.judge(&who(1), task(0, Codec::Int4), &findings)), Some(UnpaidCode::Useless));
}

#[test]
fn copies_are_told_from_what_is_alike() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(8));
    for (cosine, paid) in [(0.76, true), (0.94, true), (0.96, false), (1.0, false)] {
        for of in [Source::Update(LeaseId(1)), Source::Step(VersionNo(1))] {
            let findings = Findings { twin: Some(Twin { of, cosine }), ..honest(&mut rng) };
            let expected = if paid { None } else { Some(UnpaidCode::Copied) };
            assert_eq!(code(trust.judge(&who(1), task(0, Codec::Int4), &findings)), expected, "{cosine}");
        }
    }
}

#[test]
fn large_steps_make_honest_updates_alike() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(8));
    let of = Source::Update(LeaseId(1));
    // With 16,384 tokens a step, as `large` has, cosines up to 0.978 were measured among honest ones.
    for (step_tokens, cosine, paid) in [
        (768, 0.94, true),
        (768, 0.955, false),
        (2_048, 0.97, true),
        (2_048, 0.98, false),
        (16_384, 0.985, true),
        (16_384, 0.998, false),
        (0, 0.96, false),
        (u64::MAX, 1.0, false),
    ] {
        let findings = Findings { twin: Some(Twin { of, cosine }), ..honest(&mut rng) };
        let task = Task { step_tokens, ..task(0, Codec::Int4) };
        let expected = if paid { None } else { Some(UnpaidCode::Copied) };
        assert_eq!(code(trust.judge(&who(1), task, &findings)), expected, "{cosine} with {step_tokens}");
    }
}

#[test]
fn sparse_updates_are_compared_with_sparse_ones() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(11));
    for version in 0..20 {
        for worker in 0..8 {
            let (codec, part) = if worker < 4 { (Codec::Int4, 1.0) } else { (Codec::Bf16, 0.1) };
            let halves = halves(0.02 * part, 0.008 * part, 8, &mut rng);
            let gain = Gain { halves, held_out: sample(0.006 * part, 0.006 * part, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            assert_eq!(code(trust.judge(&who(worker), task(version, codec), &findings)), None);
        }
    }
}

/// Seven honest workers in four bits and one, an eighth, that is alone with its codec; how often that one was refused.
fn alone_with_its_codec(mut hand_in: impl FnMut(&mut Rng) -> Findings) -> u32 {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(12));
    let mut refused = 0;
    for version in 0..100 {
        for worker in 0..7 {
            trust.judge(&who(worker), task(version, Codec::Int4), &honest(&mut rng)).ok();
        }
        // Twice a round, so that most of what is known of its codec is its own.
        for _ in 0..2 {
            let findings = hand_in(&mut rng);
            refused += u32::from(trust.judge(&who(99), task(version, Codec::Sparse64), &findings).is_err());
        }
    }
    refused
}

#[test]
fn noise_is_not_its_own_measure_where_nobody_else_uses_the_codec() {
    let refused = alone_with_its_codec(|rng| {
        let gain = Gain { halves: halves(0.0001, 0.0015, 8, rng), held_out: sample(0.0, 0.008, 8, rng) };
        Findings { norm: 1.0, twin: None, gain: Some(gain) }
    });
    assert!(refused > 180, "{refused} of 200");
}

#[test]
fn honest_work_is_paid_where_nobody_else_uses_the_codec() {
    // A sparse update gains a tenth of what a dense one does, and its windows scatter as much less.
    let refused = alone_with_its_codec(|rng| {
        let gain = Gain { halves: halves(0.002, 0.001, 8, rng), held_out: sample(0.0006, 0.001, 8, rng) };
        Findings { norm: 1.0, twin: None, gain: Some(gain) }
    });
    assert!(refused < 5, "{refused} of 200");
}

#[test]
fn whoever_leaves_out_steps_is_found_whichever_half_and_in_whatever_turn() {
    // Early in a run, where windows scatter little, and in its middle, as measured.
    for (scatter, paid) in [(0.15, 8), (0.5, 30)] {
        let work = |rng: &mut Rng| {
            let halves = halves(0.02, scatter * 0.02, 4, rng);
            Findings { norm: 1.0, twin: None, gain: Some(Gain { halves, held_out: sample(0.006, 0.008, 8, rng) }) }
        };
        for skipped in [0, 1] {
            let lie = |_, rng: &mut Rng| {
                let mut findings = work(rng);
                findings.gain.iter_mut().for_each(|gain| gain.halves[skipped].mean *= 0.4);
                findings
            };
            let (honest_refused, liar_refused) = refused_among(work, 100, 13, lie);
            assert!(honest_refused < 7, "{honest_refused} of 700 honest");
            assert!(liar_refused >= 100 - paid, "{liar_refused} of 100 that left out half {skipped}");
        }
    }
}

#[test]
fn who_is_held_for_a_cheat_is_not_so_for_ever_where_there_is_no_company() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(14));
    let judge = |trust: &mut Trust, worker, version, findings: &Findings| {
        trust.judge(&who(worker), task(version, Codec::Int4), findings).is_err()
    };
    let halved = |rng: &mut Rng| {
        let mut findings = honest(rng);
        findings.gain.iter_mut().for_each(|gain| gain.halves[1].mean *= 0.3);
        findings
    };
    for version in 0..20 {
        for worker in 0..6 {
            judge(&mut trust, worker, version, &honest(&mut rng));
        }
        judge(&mut trust, 99, version, &halved(&mut rng));
    }
    assert!(judge(&mut trust, 99, 19, &honest(&mut rng)), "not believed at once");
    // From now on one other trains.
    let refused = (20..60).filter(|version| {
        judge(&mut trust, 1, *version, &honest(&mut rng));
        judge(&mut trust, 99, *version, &honest(&mut rng))
    });
    let refused = refused.count();
    assert!((1..30).contains(&refused), "{refused} of 40");
}

#[test]
fn what_is_pooled_of_two_halves_is_what_the_whole_gives() {
    let whole = |values: &[f64]| {
        let (count, mean) = (values.len() as f64, values.iter().sum::<f64>() / values.len() as f64);
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Sample { count: values.len() as u32, mean, deviation: (squares / (count - 1.0)).sqrt() }
    };
    let values = [1.0, 2.5, 4.0, -3.0, 0.5];
    let own = Gain { halves: [whole(&values[..2]), whole(&values[2..])], held_out: Sample::default() }.own();
    let expected = whole(&values);
    assert_eq!(own.count, 5);
    assert!((own.mean - expected.mean).abs() < 1e-12 && (own.deviation - expected.deviation).abs() < 1e-12);
}

#[test]
fn unknown_workers_are_looked_at_more_closely() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(9));
    assert_eq!(trust.windows(&who(1), 4), 8);
    for version in 0..4 {
        for worker in 0..8 {
            trust.judge(&who(worker), task(version, Codec::Int4), &honest(&mut rng)).ok();
        }
    }
    assert_eq!((trust.windows(&who(7), 4), trust.windows(&who(8), 4)), (4, 8));
}

#[test]
fn memory_is_bounded() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(10));
    for n in 0..limits::SESSIONS as u64 + 200 {
        let mut id = [0; 8];
        id.copy_from_slice(&n.to_le_bytes());
        let who = (format!("w{n}").parse().expect("a plain name"), WorkerId(id));
        trust.judge(&who, task(0, Codec::Int4), &honest(&mut rng)).ok();
    }
    assert!(trust.records.len() <= limits::SESSIONS && trust.usual.len() <= REMEMBERED);
}

#[test]
fn a_beginning_that_could_not_be_compared_is_not_held_against_anybody() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(5));
    // First where gains were measured by those of the version before, last where they can be compared.
    for (version, own, first) in [(0, 0.98, true), (1, 0.08, true), (2, 0.06, false)] {
        let mut order: Vec<u8> = (0..7).collect();
        order.rotate_left(usize::from(!first));
        for worker in order {
            let gain = Gain { halves: halves(own, own / 4.0, 8, &mut rng), held_out: sample(own, own, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            let verdict = trust.judge(&who(worker), task(version, Codec::Int4), &findings);
            assert_eq!(code(verdict), None, "worker {worker}, version {version}");
        }
    }
}

#[test]
fn a_faster_link_is_no_fault() {
    let (mut trust, mut rng) = (Trust::default(), Rng::new(6));
    for version in 0..21 {
        let mut judge = |worker: u8, codec, own: f64| {
            let gain = Gain { halves: halves(own, own / 4.0, 8, &mut rng), held_out: sample(0.0, 0.001, 8, &mut rng) };
            let findings = Findings { norm: 1.0, twin: None, gain: Some(gain) };
            assert_eq!(code(trust.judge(&who(worker), task(version, codec), &findings)), None, "{worker}: {version}");
        };
        (0..7).for_each(|worker| judge(worker, Codec::Int4, 0.02));
        // A tenth of the gain, alone with its codec, and then as all others.
        let (codec, own) = if version < 20 { (Codec::Sparse64, 0.002) } else { (Codec::Int4, 0.02) };
        judge(99, codec, own);
    }
}

#[test]
fn one_window_would_tell_nothing() {
    let trust = Trust::default();
    assert_eq!([0, 1, 4, 6].map(|few| trust.windows(&who(1), few)), [0, 8, 8, 12]);
}
