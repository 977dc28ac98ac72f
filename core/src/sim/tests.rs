//! Many seeds, the seeds that ever failed, replays, and mistakes that the audit must find.

use super::{Bugs, Options, Report, run};

#[track_caller]
fn well(seed: u64) -> Report {
    let report = run(seed, &Options::default());
    assert_eq!(report.failure, None, "seed {seed}: {:?}", report.counts);
    report
}

#[test]
fn sixty_seeds() {
    let reports: Vec<_> = (0..60).map(well).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    // Where nothing happens, nothing can be wrong.
    assert!(sum(|r| r.counts.paid) > 60_000);
    assert!(sum(|r| r.counts.unpaid) > 1_000);
    assert!(sum(|r| r.counts.versions) > 6_000);
    assert!(sum(|r| r.counts.answers) > 3_000);
    assert!(sum(|r| r.counts.boots) > 300);
    assert!(sum(|r| r.counts.faults) > 5_000);
}

/// Seeds that once failed, with what they found. Rules that changed since may have made other runs of them.
#[test]
fn seeds_that_failed() {
    let seeds = [
        // The learner could not keep up: updates piled up unchecked, their workers unpaid for minutes.
        16, // Stopping gave up after ten seconds with accepted updates waiting for the last merge.
        133, 136, 154, 244,
        // A worker trained on from weights whose digest had turned out wrong one version before.
        153, // A worker behind a slow link was sent every version, never caught up, and lost every lease.
        22, 163, // A refusal was told before it was durable; after a crash the same lease was paid.
        188,
    ];
    for seed in seeds {
        well(seed);
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in [1, 7] {
        let (first, second) = (well(seed), well(seed));
        assert_eq!((first.digest, &first.counts), (second.digest, &second.counts));
    }
    assert_ne!(well(1).digest, well(2).digest);
}

#[test]
fn the_audit_finds_mistakes() {
    let all = [
        ("rows reported durable before they are", Bugs { early_ack: true, ..Bugs::default() }),
        ("an accepted update lost at a restart", Bugs { lost_update: true, ..Bugs::default() }),
        ("a hold forgotten at a restart", Bugs { lost_void: true, ..Bugs::default() }),
        ("an update merged twice", Bugs { merged_twice: true, ..Bugs::default() }),
    ];
    for (what, bugs) in all {
        let options = Options { bugs, ..Options::default() };
        let found = (0..200).find_map(|seed| run(seed, &options).failure);
        assert!(found.is_some(), "{what}: not found");
    }
}
