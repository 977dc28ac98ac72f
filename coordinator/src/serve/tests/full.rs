//! Updates on their way to the disk, which may take nothing for a while.

use std::cell::{Cell, RefCell};

use hydra_core::codec::Codec;
use hydra_core::hub::Probe;

use super::*;

#[test]
fn an_update_that_finds_no_room_waits_and_an_end_does_not_wait_for_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Ok(mut coordinator) = Coordinator::start(dir.path(), Time(0), None) else { panic!("nobody kills it") };
    assert!((0..3).all(|worker| coordinator.join(worker, None).is_ok()));
    let tasks = std::mem::take(&mut coordinator.tasks);
    let check = |worker: u8| {
        let (update, bytes) = coordinator.update(worker, &tasks[usize::from(worker)]);
        let Update { lease, codec, blob, .. } = update;
        let (base, bytes) = (tasks[usize::from(worker)].version, bytes.into());
        let probe = Probe { shard: 0, seed: 0, steps: 1, batch: 1, windows: 0 };
        let command = Command::Check(Check { lease, codec, bytes, blob, base, probe });
        coordinator.learner.send(command).expect("it lives");
        lease
    };
    let report = || coordinator.reports.recv().expect("the learner lives");

    // Without the folder nothing can be written, as on a disk that is full.
    let (updates, away) = (dir.path().join("run/updates"), dir.path().join("away"));
    std::fs::rename(&updates, &away).expect("the same disk");
    let first = check(0);
    assert!(matches!(report(), Report::Waiting(_)), "said once, and no verdict");
    let second = check(1);
    std::fs::rename(&away, &updates).expect("the same disk");
    for due in [first, second] {
        let Report::Checked { lease, verdict } = report() else { panic!("a verdict") };
        assert!(lease == due && verdict.is_ok(), "in the order in which they came");
    }
    assert!(matches!(report(), Report::Resumed));
    assert_eq!(std::fs::read_dir(&updates).expect("readable").count(), 2);

    std::fs::rename(&updates, &away).expect("the same disk");
    check(2);
    assert!(matches!(report(), Report::Waiting(_)));
    // Joins the learner's thread.
    drop(coordinator);
}

#[test]
fn updates_that_come_together_are_kept_together() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let settings = settings(dir.path());
    let run = run::open(&settings, None, &Events::stdout(false)).expect("a run begins");
    let (params, mut learner) = (run.shape.params(), run.learner);
    let check = |lease, value| {
        let bytes: Arc<[u8]> = Codec::F32.encode(&vec![value; params]).into();
        let (blob, base) = (Digest::of(&bytes), VersionNo(0));
        let probe = Probe { shard: 0, seed: 0, steps: 1, batch: 1, windows: 0 };
        Command::Check(Check { lease: LeaseId(lease), codec: Codec::F32, bytes, blob, base, probe })
    };
    let forget = Command::Forget { lease: LeaseId(9), blob: Digest::of(b"") };
    let more = RefCell::new(VecDeque::from([check(2, f32::NAN), check(3, 0.25), forget, check(4, 0.5)]));
    let mut told = Vec::new();
    let beyond = learner.obey_with(check(1, 0.125), || more.borrow_mut().pop_front(), &mut |report| {
        let Report::Checked { lease, verdict } = report else { panic!("a verdict") };
        told.push((lease.0, verdict.is_ok()));
    });
    assert!(matches!(beyond, Some(Command::Forget { .. })) && more.borrow().len() == 1);
    assert_eq!(told, [(2, false), (1, true), (3, true)], "what is refused need not be kept first");
    assert_eq!(std::fs::read_dir(settings.run_dir.join("updates")).expect("readable").count(), 2);

    // However many bad ones come, the good one is told of soon.
    let (taken, mut told) = (Cell::new(5), Vec::new());
    let bad = || Some(check(taken.replace(taken.get() + 1), f32::NAN));
    let beyond = learner.obey_with(check(5, 0.375), || bad().filter(|_| taken.get() < 100), &mut |report| {
        let Report::Checked { verdict, .. } = report else { panic!("a verdict") };
        told.push(verdict.is_ok());
    });
    assert!(beyond.is_none() && taken.get() < 10, "{} were taken", taken.get());
    assert_eq!(told, [false, false, false, true]);
}
