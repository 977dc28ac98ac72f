//! Many seeds, the seeds that ever failed, replays, and mistakes that the audit must find.

use super::{Bug, Counts, Options, Report, run};

#[track_caller]
fn well(seed: u64) -> Report {
    let report = run(seed, &Options::default());
    assert_eq!(report.failure, None, "seed {seed}: {:?}", report.counts);
    report
}

/// Runs an eighth of the 200 seeds; each is a test of its own, so that they share the cores.
#[track_caller]
fn eighth(part: u64) {
    let mut sum = Counts::default();
    for seed in 25 * part..25 * (part + 1) {
        sum.add(&well(seed).counts);
    }
    // Where nothing happens, nothing can be wrong.
    assert!(sum.paid > 15_000 && sum.unpaid > 600 && sum.versions > 300, "{sum:?}");
    assert!(sum.answers > 3_000 && sum.unanswered > 2_000, "{sum:?}");
    assert!(sum.boots > 60 && sum.connections > 6_000 && sum.faults > 400, "{sum:?}");
}

macro_rules! eighths {
    ($($name:ident $part:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            eighth($part);
        }
    )*};
}

eighths! {
    seeds_0_to_24 0, seeds_25_to_49 1, seeds_50_to_74 2, seeds_75_to_99 3,
    seeds_100_to_124 4, seeds_125_to_149 5, seeds_150_to_174 6, seeds_175_to_199 7,
}

/// Seeds that once failed, each with its agents and seconds, and what they found. Rules that changed since may have made
/// other runs of them.
#[test]
fn seeds_that_failed() {
    let seeds = [
        // The learner could not keep up: updates piled up unchecked, their workers unpaid for minutes.
        (16, 14, 240),
        // Stopping gave up after ten seconds with accepted updates waiting for the last merge.
        (133, 14, 240),
        (136, 14, 240),
        (154, 14, 240),
        (244, 14, 240),
        // A worker trained on from weights whose digest had turned out wrong one version before.
        (153, 14, 240),
        // A worker behind a slow link was sent every version, never caught up, and lost every lease.
        (22, 14, 240),
        (163, 14, 240),
        // A refusal was told before it was durable; after a crash the same lease was paid.
        (188, 14, 240),
    ];
    for (seed, agents, seconds) in seeds {
        let report = run(seed, &Options { agents, seconds, ..Options::default() });
        assert_eq!(report.failure, None, "seed {seed}, {agents} agents, {seconds} s: {:?}", report.counts);
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in [1, 7] {
        let options = Options { trace: true, ..Options::default() };
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!((first.digest, &first.counts), (second.digest, &second.counts));
        assert!(first.log == second.log, "the logs of seed {seed} differ");
        // Watching changes nothing.
        assert_eq!(first.digest, well(seed).digest);
    }
    assert_ne!(well(1).digest, well(2).digest);
}

#[test]
fn the_audit_finds_mistakes() {
    for bug in Bug::ALL {
        let options = Options { bug: Some(bug), ..Options::default() };
        let found = (0..200).find_map(|seed| run(seed, &options).failure);
        assert!(found.is_some(), "{bug:?}: not found");
    }
}
