//! The first start of a run, and what it leaves if it fails.

use super::*;

fn open(settings: &Settings) -> anyhow::Result<run::Run> {
    run::open(settings, None, &Events::stdout(false))
}

#[test]
fn a_first_start_that_fails_leaves_nothing_that_looks_like_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let good = settings(dir.path());
    let short = dir.path().join("short.txt");
    std::fs::write(&short, "Hm.").unwrap();
    for data in [dir.path().join("nope.txt"), short.clone()] {
        assert!(open(&Settings { data: vec![data], ..good.clone() }).is_err());
        assert!(!good.run_dir.exists());
    }

    // A folder that was there before is not removed.
    std::fs::create_dir(&good.run_dir).unwrap();
    assert!(open(&Settings { data: vec![short], ..good.clone() }).is_err());
    assert!(good.run_dir.exists());

    // A run that has begun stays whatever a later start meets.
    drop(open(&good).unwrap());
    let mut wider = Settings { data: Vec::new(), ..good.clone() };
    wider.model.width = 16;
    assert!(open(&wider).is_err());
    assert!(open(&Settings { data: Vec::new(), ..good }).is_ok());
}

#[test]
fn a_run_knows_the_seed_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Settings { seed: 7, ..settings(dir.path()) };
    for seed in [7, 8] {
        drop(open(&Settings { seed, ..begun.clone() }).unwrap());
        assert_eq!(crate::serve::settings::seed(&begun.run_dir).unwrap(), Some(7));
    }
}

#[test]
fn what_an_existing_run_cannot_follow_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    let told = |settings: &Settings| {
        let events = Events::stdout(false);
        drop(run::open(settings, None, &events).unwrap());
        events.begin_screen()
    };
    assert_eq!(told(&begun), [""; 0]);
    assert_eq!(told(&Settings { data: Vec::new(), ..begun.clone() }), [""; 0]);
    let [data, seed] = told(&Settings { seed: begun.seed + 1, ..begun }).try_into().unwrap();
    assert!(data.contains("its own text") && seed.contains("only orders the data"), "{data}, {seed}");
}
