//! The first start of a run, and what it leaves if it fails.

use clap::Parser as _;
use hydra_config::AnswerSettings;
use hydra_core::credits::Credits;
use hydra_core::hub::rows::Version;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::keys::{self, Remedy};

use super::*;
use crate::args::Args;
use crate::serve::settings as remembered;
use crate::store::{Checkpoint, Opening};

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

    std::fs::write(&good.run_dir, "a letter").unwrap();
    let refused = open(&good).err().unwrap().to_string();
    assert!(refused.contains("is a file, and a run is a folder"), "{refused}");
    assert_eq!(std::fs::read(&good.run_dir).unwrap(), b"a letter");
    std::fs::remove_file(&good.run_dir).unwrap();

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
fn a_run_whose_ledger_is_gone_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    drop(open(&begun).unwrap());
    let (ledger, trained) = (begun.run_dir.join("hydra.db"), begun.run_dir.join("versions/v00000002.safetensors"));
    let aside = dir.path().join("aside.db");
    std::fs::rename(&ledger, &aside).unwrap();
    assert!(open(&begun).is_err() && !ledger.exists(), "tasks of before the second version may be paid for");
    std::fs::write(&trained, "weights").unwrap();
    let refused = || {
        let failure = open(&begun).err().expect("refused").downcast::<Failure>().unwrap();
        assert_eq!(failure.exit, Exit::RunFolder, "{failure}");
        assert!(trained.exists());
    };
    refused();
    assert!(!ledger.exists());
    std::fs::write(&ledger, "").unwrap();
    refused();
    // One that another start has made knows of no version.
    let remedy = Remedy { exit: Exit::RunFolder, elsewhere: "" };
    let key = keys::load_or_create(&begun.run_dir.join("coordinator.key"), remedy).unwrap();
    drop(Store::open(&begun.run_dir, &Opening { key, at_ms: 1 }).unwrap());
    refused();
    std::fs::copy(&aside, &ledger).unwrap();
    assert!(open(&begun).is_ok());
}

#[test]
fn what_a_run_has_begun_with_lies_over_a_settings_file_where_a_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    drop(open(&begun).unwrap());
    let (run, file) = (&begun.run_dir, dir.path().join("hydra.toml"));
    std::fs::write(&file, "tokenizer = 'bpe:300'\n[model]\nwidth = 1024\nheads = 8\n").unwrap();
    let words = ["hydra-coordinator".as_ref(), "--run".as_ref(), run.as_os_str(), "--init".as_ref(), "gone".as_ref()];
    let args = Args::parse_from(words.into_iter().chain(["--config".as_ref(), file.as_os_str()]));
    let own = crate::serve::has_begun_whole(run);
    let again = remembered::gather(&args, own).unwrap().settings;
    assert_eq!(again.tokenizer.to_string(), begun.tokenizer.to_string());
    assert_eq!(again.model.shape(300).unwrap(), begun.model.shape(300).unwrap());
    // The tokenizer may have to come from the model again.
    std::fs::remove_dir_all(run.join("data")).unwrap();
    assert!(crate::serve::has_begun_whole(run).is_some());
    std::fs::remove_file(run.join("tokenizer.json")).unwrap();
    assert!(crate::serve::has_begun_whole(run).is_none());
}

#[test]
fn a_run_whose_key_is_gone_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    drop(open(&begun).unwrap());
    let (key, aside) = (begun.run_dir.join("coordinator.key"), dir.path().join("aside.key"));
    std::fs::rename(&key, &aside).unwrap();
    assert!(open(&begun).is_err() && !key.exists(), "no other key lies where it is to be put back");
    std::fs::rename(&aside, &key).unwrap();
    assert!(open(&begun).is_ok());
}

#[test]
fn what_a_run_has_lost_of_its_beginning_is_written_again_only_where_its_weights_agree() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    drop(open(&begun).unwrap());
    let lost = ["begun.json", "run.toml"].map(|name| begun.run_dir.join(name));
    let read = || lost.each_ref().map(|path| std::fs::read(path).ok());
    let before = read();
    for path in &lost {
        std::fs::remove_file(path).unwrap();
    }
    let mut wider = begun.clone();
    wider.model.width *= 2;
    assert!(open(&wider).is_err());
    assert_eq!(read(), [None, None], "a later start does not read wrong sizes");
    drop(open(&begun).unwrap());
    let after = read();
    assert!(before[0].is_some() && after[0].is_some() && after[1].is_some() && after[1] == before[1]);
}

#[cfg(unix)]
#[test]
fn a_first_start_whose_ledger_cannot_be_made_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than any path that SQLite takes, and no part of it than a file system takes.
    let deep = (0..3).fold(dir.path().to_owned(), |path, _| path.join("d".repeat(200)));
    let settings = Settings { run_dir: deep.clone(), ..settings(dir.path()) };
    assert!(open(&settings).is_err());
    assert!(!deep.exists());
}

#[test]
fn a_folder_that_another_coordinator_has_by_now_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let another = open(&settings).unwrap();
    run::remove_unbegun(&settings.run_dir);
    assert!(settings.run_dir.join("begun.json").exists());
    drop(another);
}

#[test]
fn what_a_run_remembers_can_be_read_again_whatever_its_texts_hold() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    let template = "\u{7f}\u{1b}\"\\\r\n{prompt}\u{85}".to_owned();
    let answers = AnswerSettings { template, stop: vec!["\u{7f}".to_owned()], ..begun.answers.clone() };
    drop(open(&Settings { answers: answers.clone(), ..begun.clone() }).unwrap());
    let args = Args::parse_from(["hydra-coordinator".as_ref(), "--run".as_ref(), begun.run_dir.as_os_str()]);
    assert_eq!(remembered::gather(&args, None).unwrap().settings.answers, answers);
}

#[test]
fn a_run_knows_the_seed_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Settings { seed: 7, ..settings(dir.path()) };
    for seed in [7, 8] {
        drop(open(&Settings { seed, ..begun.clone() }).unwrap());
        assert_eq!(remembered::seed(&begun.run_dir).unwrap(), Some(7));
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
    let [seed] = told(&Settings { seed: begun.seed + 1, ..begun }).try_into().unwrap();
    assert!(seed.contains("only orders the data"), "{seed}");
}

#[test]
fn texts_that_an_existing_run_passes_over_are_named_by_who_gave_them() {
    let file = ConfigFile { name: "class.toml", text: "data = ['texts/']" };
    let variables = [("HYDRA_VAL_DATA".to_owned(), "held.txt".to_owned())];
    let flags = Flags { data: vec!["book.txt".into()], ..Flags::default() };
    let told = |resolved: hydra_config::Resolved| remembered::idle_texts(&resolved);
    assert_eq!(told(resolve(None, [], &Flags::default()).unwrap()), None);
    let (text, asked) = told(resolve(Some(file), variables, &Flags::default()).unwrap()).unwrap();
    assert!(text.contains("data in file class.toml and HYDRA_VAL_DATA are for a new one") && !asked, "{text}");
    let (text, asked) = told(resolve(Some(file), [], &flags).unwrap()).unwrap();
    assert!(text.contains("; --data is for a new one") && asked, "{text}");
}

#[test]
fn a_settings_file_lies_over_what_the_run_remembers_and_may_name_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    drop(open(&Settings { answers: AnswerSettings { top_k: 5, ..begun.answers.clone() }, ..begun.clone() }).unwrap());
    let file = dir.path().join("pay.toml");
    std::fs::write(&file, format!("run = {:?}\n[ledger]\nreward = 2\n[answers]\ntop_p = 0.5\n", begun.run_dir))
        .unwrap();
    let args = Args::parse_from(["hydra-coordinator".as_ref(), "--config".as_ref(), file.as_os_str()]);
    assert_eq!(remembered::run_dir(&args).unwrap(), begun.run_dir);
    let settings = remembered::gather(&args, None).unwrap().settings;
    assert_eq!((settings.run_dir, settings.ledger.reward), (begun.run_dir, Credits::hyd(2)));
    assert_eq!((settings.model, settings.preset), (begun.model, begun.preset));
    // Without texts in the file, the run on its own text is not taken for one on the primer.
    assert_eq!(settings.answers, AnswerSettings { top_k: 5, top_p: 0.5, ..begun.answers });

    let args = Args::parse_from(["hydra-coordinator", "--config", "no-such.toml"]);
    assert!(remembered::run_dir(&args).unwrap_err().to_string().contains("no-such.toml cannot be read"));
}

#[test]
fn fewer_versions_to_keep_make_room_at_the_start_itself() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    let mut run = open(&begun).unwrap();
    let run::Run { ref learner, ref recovered, .. } = run;
    let Checkpoint { weights, outer } = &learner.checkpoint;
    let first = &recovered.newest;
    let rows: Vec<_> = (1..=7).map(|n| Row::Version(Version { version: VersionNo(n), ..first.clone() })).collect();
    for n in 1..=7 {
        learner.versions.write(VersionNo(n), &first.digest, weights, outer).unwrap();
    }
    run.store.write(&rows).unwrap();
    let files = run.learner.versions.clone();
    drop(run);

    drop(open(&begun).unwrap());
    assert_eq!(files.list().unwrap().len(), 8, "all that are to be kept");
    let mut fewer = begun;
    fewer.rounds.keep_versions = 3;
    drop(open(&fewer).unwrap());
    assert_eq!(files.list().unwrap(), [5, 6, 7].map(VersionNo));
}
