//! A disk that takes nothing for a while.

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
        let command = Command::Check { lease, codec, bytes, blob, base, probe };
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
