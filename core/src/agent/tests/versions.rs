//! Versions, and tasks that need them.

use super::*;

#[test]
fn other_weights_than_announced_are_given_up_with_what_trains_from_them() {
    let mut lab = Lab::open(settings());
    lab.hear(version(1, Some(0)));
    lab.hear(version(2, Some(1)));
    lab.tell(Fact::Blob { digest: blob(1) });
    lab.tell(Fact::Blob { digest: blob(2) });
    lab.begin(1, 2);
    lab.tell(Fact::Installed { version: VersionNo(1), digest: digest(77) });
    let orders = lab.take();
    assert!(matches!(orders[..], [Order::StopTraining { lease: LeaseId(1) }, Order::Disconnect]), "{orders:?}");
    lab.tell(Fact::Installed { version: VersionNo(2), digest: digest(78) });
    assert!(lab.take().is_empty(), "that was to be expected");
    let hello = lab.reconnect();
    assert_eq!((hello.holds, hello.lease), (None, None));
    lab.install(2, None);
    lab.begin(3, 2);
}

#[test]
fn what_waits_to_be_installed_is_not_sent_again() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    lab.hear(version(1, Some(0)));
    lab.tell(Fact::Blob { digest: blob(1) });
    // The thread trains, and installs nothing before it is done.
    let hello = lab.reconnect();
    assert_eq!(hello.holds, Some(Held { version: VersionNo(1), digest: digest(1) }));
    lab.hear(version(2, Some(1)));
    lab.tell(Fact::Blob { digest: blob(2) });
    assert!(
        lab.take().iter().any(|o| matches!(o, Order::Install(v) if v.version == VersionNo(2))),
        "it goes on from 1"
    );
    // Something else came out.
    lab.tell(Fact::Installed { version: VersionNo(1), digest: digest(77) });
    assert_eq!(lab.reconnect().holds, None);
}

#[test]
fn whole_weights_do_not_pile_up_behind_a_training() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    let installs = |orders: &[Order]| orders.iter().filter(|o| matches!(o, Order::Install(_))).count();
    for number in [10, 20, 30] {
        lab.hear(version(number, None));
        lab.tell(Fact::Blob { digest: blob(number) });
        lab.hear(version(number + 1, Some(number)));
        lab.tell(Fact::Blob { digest: blob(number + 1) });
        let orders = lab.take();
        assert_eq!(installs(&orders), if number == 10 { 2 } else { 0 }, "{orders:?}");
        if number == 30 {
            break;
        }
        lab.tell(Fact::Closed { reason: "cut".to_owned() });
        let orders = lab.take();
        let dropped = orders.iter().filter(|o| matches!(o, Order::Drop { .. })).count();
        assert_eq!(dropped, if number == 10 { 0 } else { 2 }, "{orders:?}");
        lab.wait(Duration::from_secs(20));
        let hello = lab.connect();
        assert_eq!(hello.holds.map(|held| held.version), Some(VersionNo(11)), "after {number}");
    }
    lab.train(1);
    assert_eq!(installs(&lab.take()), 0);
    lab.tell(Fact::Installed { version: VersionNo(10), digest: digest(10) });
    assert_eq!(installs(&lab.take()), 2);
    for number in [11, 30, 31] {
        lab.tell(Fact::Installed { version: VersionNo(number), digest: digest(number) });
    }
    lab.begin(2, 31);
}

#[test]
fn differences_do_not_pile_up_behind_a_training() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    let come = |lab: &mut Lab, number: u64| {
        lab.hear(version(number, Some(number - 1)));
        lab.tell(Fact::Blob { digest: blob(number) });
        lab.take()
    };
    let installs = |orders: &[Order]| orders.iter().filter(|o| matches!(o, Order::Install(_))).count();
    for number in 1..=24 {
        let orders = come(&mut lab, number);
        assert_eq!(installs(&orders), usize::from(number <= 8), "{number}: {orders:?}");
    }
    // The thread gets on: so does what waits.
    lab.tell(Fact::Installed { version: VersionNo(1), digest: digest(1) });
    assert_eq!(installs(&lab.take()), 1);
    assert!(!come(&mut lab, 25).iter().any(|o| matches!(o, Order::Disconnect)));
    let orders = come(&mut lab, 26);
    assert!(orders.iter().any(|o| matches!(o, Order::Disconnect)), "{orders:?}");
    let hello = lab.reconnect();
    assert_eq!((hello.holds, hello.lease), (None, Some(LeaseId(1))), "it trains on, and begins afresh");
}

#[test]
fn a_gap_between_versions_begins_afresh() {
    let mut lab = Lab::open(settings());
    lab.hear(version(2, Some(1)));
    lab.tell(Fact::Blob { digest: blob(2) });
    assert!(matches!(lab.take()[..], [Order::Expect { .. }, Order::Disconnect]));
    assert_eq!(lab.reconnect().holds, None);
}

#[test]
fn a_recipe_that_changed_gets_the_version_that_was_named_once_more() {
    let mut lab = Lab::open(settings());
    lab.begin(1, 0);
    let mut changed = welcome();
    changed.recipe.beta1 = 0.8;
    for _ in 0..6 {
        lab.tell(Fact::Closed { reason: "nobody there".to_owned() });
        lab.wait(Duration::from_secs(20));
    }
    lab.take();
    let hello = lab.connect_to(changed.clone());
    assert_eq!(hello.holds.map(|held| held.version), Some(VersionNo(0)));
    // The coordinator sends nothing that a worker holds; this one has nothing that it could train from any more.
    let orders = lab.take();
    assert!(orders.iter().any(|o| matches!(o, Order::StopTraining { lease: LeaseId(1) })), "{orders:?}");
    assert!(orders.iter().any(|o| matches!(o, Order::Setup { .. })), "{orders:?}");
    assert!(orders.iter().any(|o| matches!(o, Order::Disconnect)), "{orders:?}");
    // Nor does it wait, however long the coordinator was away before.
    lab.tell(Fact::Closed { reason: "fetching it anew".to_owned() });
    let waits = |order: &Order| matches!(order, Order::Note(Event::Disconnected { retry_ms: ..=250, .. }));
    assert!(lab.take().iter().any(waits));
    lab.wait(Duration::from_millis(250));
    assert!(matches!(lab.take()[..], [Order::Connect]));
    let hello = lab.connect_to(changed.clone());
    assert_eq!((hello.holds, hello.lease), (None, None));
    assert!(!lab.take().iter().any(|o| matches!(o, Order::Disconnect)), "once");
    lab.install(0, None);
    lab.begin(2, 0);
}

#[test]
fn a_task_is_trained_from_its_own_version() {
    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    lab.hear(version(1, Some(0)));
    lab.tell(Fact::Blob { digest: blob(1) });
    assert!(!lab.take().iter().any(|o| matches!(o, Order::Install(_))), "not before the task has begun");
    lab.tell(Fact::ShardReady { shard: SHARD });
    let orders = lab.take();
    let train = orders.iter().position(|o| matches!(o, Order::Train(_)));
    let install = orders.iter().position(|o| matches!(o, Order::Install(_)));
    assert!(train.is_some() && train < install, "{orders:?}");

    let mut lab = Lab::open(settings());
    lab.hear(version(1, Some(0)));
    lab.hear(task(1, 1));
    lab.tell(Fact::ShardReady { shard: SHARD });
    assert!(!lab.take().iter().any(|o| matches!(o, Order::Train(_))), "its version is still on its way");
    lab.tell(Fact::Blob { digest: blob(1) });
    assert!(lab.take().iter().any(|o| matches!(o, Order::Train(_))));
}

#[test]
fn a_task_whose_version_has_passed_goes_back() {
    let mut lab = Lab::open(settings());
    lab.hear(version(1, Some(0)));
    lab.hear(task(1, 1));
    lab.reconnect();
    lab.hear(version(5, None));
    lab.take();
    lab.tell(Fact::Blob { digest: blob(5) });
    assert!(lab.said().iter().any(|m| matches!(m, ClientMsg::Release(r) if r.lease == LeaseId(1))));
    assert_eq!(lab.agent.lease(), None);
}

#[test]
fn a_missing_shard_is_fetched_and_again_after_a_reconnect() {
    let mut lab = Lab::open(settings());
    lab.hear(task(1, 0));
    lab.tell(Fact::ShardMissing { shard: SHARD });
    assert_eq!(lab.said(), [ClientMsg::Fetch(proto::Fetch { shard: SHARD })]);
    lab.reconnect();
    assert!(lab.take().iter().any(|o| matches!(o, Order::FindShard { shard: SHARD })));
    lab.tell(Fact::ShardMissing { shard: SHARD });
    assert_eq!(lab.said(), [ClientMsg::Fetch(proto::Fetch { shard: SHARD })]);
    lab.tell(Fact::Blob { digest: SHARD });
    assert!(matches!(lab.take()[..], [Order::KeepShard { shard: SHARD }]));
    lab.tell(Fact::ShardReady { shard: SHARD });
    assert!(lab.take().iter().any(|o| matches!(o, Order::Train(_))));
}
