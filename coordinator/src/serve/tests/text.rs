//! A run whose text is lost: its weights go on with the tokens that they know, or not at all.

use hydra_config::{AnswerSettings, TokenizerSpec};
use hydra_core::hub::rows::Version;

use super::*;
use crate::data::Tokenizer;
use crate::pretrained::{self, Origin, Pretrained};

const SHORT: &str = "A worker trains, a coordinator counts, and a model learns.\n\n";

fn open(settings: &Settings, init: Option<&Pretrained>) -> anyhow::Result<run::Run> {
    run::open(settings, init, &Events::stdout(false))
}

fn refusal(settings: &Settings, init: Option<&Pretrained>) -> String {
    open(settings, init).map(drop).unwrap_err().to_string()
}

/// A run with a vocabulary that any of these texts fills.
fn bpe(dir: &Path) -> Settings {
    Settings { tokenizer: TokenizerSpec::Bpe { vocab: 270 }, ..settings(dir) }
}

/// The settings with another text.
fn other_text(settings: &Settings, dir: &Path) -> Settings {
    let path = dir.join("other.txt");
    std::fs::write(&path, SHORT.repeat(40)).unwrap();
    Settings { data: vec![path], ..settings.clone() }
}

fn lose_data(settings: &Settings) {
    std::fs::remove_dir_all(settings.run_dir.join("data")).unwrap();
}

/// A first start as if it had been killed before its first version: the weights' folder cannot be made.
fn cut_short(settings: &Settings, init: Option<&Pretrained>) {
    let versions = settings.run_dir.join("versions");
    std::fs::create_dir_all(&settings.run_dir).unwrap();
    std::fs::write(&versions, "").unwrap();
    assert!(open(settings, init).is_err());
    std::fs::remove_file(versions).unwrap();
}

/// A model to begin from, whose tokenizer no text here would make.
fn model(to: &Path, settings: &Settings) -> (Pretrained, Settings) {
    let text = "Zebras gaze at quizzical wizards by the frozen zoo. ".repeat(40);
    let tokenizer = Tokenizer::train(TokenizerSpec::Bpe { vocab: 270 }, &[&text]).unwrap();
    let shape = settings.model.shape(tokenizer.vocab_size()).unwrap();
    let digest = Digest([1; 32]);
    let version = Version { version: VersionNo(7), digest, tokens: 0, tasks: 0, inputs: Vec::new(), at_ms: 0 };
    let answers: &AnswerSettings = &settings.answers;
    let origin = Origin { version: &version, averaged: false, measured: None, answers };
    pretrained::write(to, &shape, &shape.initial_weights(9), &tokenizer, &origin).unwrap();
    let init = Pretrained::open(to).unwrap();
    let asked = Settings { tokenizer: init.tokenizer.kind(), model: init.given().sizes, ..settings.clone() };
    (init, asked)
}

#[test]
fn a_run_without_its_text_goes_on_with_its_own_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let begun = bpe(dir.path());
    drop(open(&begun, None).unwrap());
    let path = begun.run_dir.join("tokenizer.json");
    let tokenizer = std::fs::read(&path).unwrap();

    lose_data(&begun);
    let silent = Settings { data: Vec::new(), ..begun.clone() };
    assert!(refusal(&silent, None).contains("the text of this run is gone"));
    let other = other_text(&begun, dir.path());
    let events = Events::stdout(false);
    let run = run::open(&other, None, &events).unwrap();
    let [told] = events.begin_screen().try_into().unwrap();
    assert!(told.contains("was gone") && told.contains("prepared again"), "{told}");
    assert_eq!(run.data.tokenizer.json().as_bytes(), tokenizer);
    assert_eq!(std::fs::read(&path).unwrap(), tokenizer);
    drop(run);

    // An altered tokenizer is named and stays as it is.
    lose_data(&begun);
    let altered = Tokenizer::train(begun.tokenizer, &[&SHORT.repeat(40)]).unwrap();
    std::fs::write(&path, altered.json()).unwrap();
    assert!(refusal(&other, None).contains("is not the tokenizer that this run began with"));
    assert_eq!(std::fs::read(&path).unwrap(), altered.json().as_bytes());

    // Without it only a text that makes the same again will do.
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&other, None).contains("another tokenizer than that of this text"));
    assert!(!path.exists() && !begun.run_dir.join("data").exists());
    std::fs::write(&other.data[0], "aa bb ".repeat(100)).unwrap();
    assert!(refusal(&other, None).contains("another tokenizer than that of this text"), "it is smaller, too");
    drop(open(&begun, None).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), tokenizer);
}

#[test]
fn what_an_older_program_began_learns_its_tokenizer_s_digest() {
    let dir = tempfile::tempdir().unwrap();
    let begun = bpe(dir.path());
    drop(open(&begun, None).unwrap());
    let path = begun.run_dir.join("begun.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let now = json.clone();
    json.as_object_mut().unwrap().retain(|key, _| ["preset", "tokenizer", "shape"].contains(&key.as_str()));
    std::fs::write(&path, json.to_string()).unwrap();
    drop(open(&begun, None).unwrap());
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&std::fs::read(&path).unwrap()).unwrap(), now);
}

#[test]
fn a_run_on_the_built_in_text_prepares_it_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Settings { data: Vec::new(), ..bpe(dir.path()) };
    let first = open(&begun, None).unwrap().data.shards.clone();
    lose_data(&begun);
    assert_eq!(open(&begun, None).unwrap().data.shards, first);
}

#[test]
fn a_run_that_began_from_a_model_keeps_the_model_s_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let (init, begun) = model(&dir.path().join("model"), &bpe(dir.path()));
    drop(open(&begun, Some(&init)).unwrap());
    let path = begun.run_dir.join("tokenizer.json");

    lose_data(&begun);
    drop(open(&other_text(&begun, dir.path()), None).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), init.tokenizer.json().as_bytes());

    lose_data(&begun);
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&begun, None).contains("another tokenizer than that of this text"));
    let run = open(&begun, Some(&init)).unwrap();
    assert_eq!(run.data.tokenizer.digest(), init.tokenizer.digest());
}

#[test]
fn a_start_from_a_model_that_was_cut_short_does_not_go_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (init, begun) = model(&dir.path().join("model"), &bpe(dir.path()));
    cut_short(&begun, Some(&init));

    assert!(refusal(&begun, None).contains("was to begin from a model"));
    let weights = open(&begun, Some(&init)).unwrap().learner.checkpoint.weights;
    assert_eq!(*weights, init.weights().unwrap());
    assert!(open(&begun, None).is_ok(), "it has its weights now");
}

#[test]
fn a_model_does_not_begin_on_text_that_another_tokenizer_has_cut() {
    let dir = tempfile::tempdir().unwrap();
    let begun = bpe(dir.path());
    let (init, asked) = model(&dir.path().join("model"), &begun);
    cut_short(&begun, None);

    assert!(refusal(&asked, Some(&init)).contains("another tokenizer than the model's"));
    let tokenizer = open(&begun, None).unwrap().data.tokenizer.digest();
    assert_ne!(tokenizer, init.tokenizer.digest());
    assert!(open(&asked, Some(&init)).is_ok(), "the run has its weights now, and the model is not used");
}

#[test]
fn a_tokenizer_that_no_run_has_written_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let begun = bpe(dir.path());
    let path = begun.run_dir.join("tokenizer.json");
    std::fs::create_dir(&begun.run_dir).unwrap();
    std::fs::write(&path, "mine").unwrap();
    for _ in 0..2 {
        assert!(refusal(&begun, None).contains("tokenizer.json is not of a run"));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        assert!(!begun.run_dir.join("data").exists());
    }
    std::fs::remove_file(&path).unwrap();

    // That of a first start that was cut short is the run's own, and goes with the text that it was made from.
    cut_short(&begun, None);
    lose_data(&begun);
    let own = std::fs::read(&path).unwrap();
    drop(open(&other_text(&begun, dir.path()), None).unwrap());
    assert_ne!(std::fs::read(&path).unwrap(), own);
}

#[test]
fn leases_of_shards_that_are_gone_are_of_one_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let begun = settings(dir.path());
    let mut run = open(&begun, None).unwrap();
    let lease = hydra_core::hub::rows::Lease {
        lease: LeaseId(1),
        task: hydra_core::ids::TaskId(1),
        user: "alice".parse().unwrap(),
        worker: WorkerId([1; 8]),
        version: VersionNo(0),
        shard: 7,
        seed: 1,
        steps: 1,
        tokens: 16,
        codec: run::AUTO_CODEC,
        at_ms: EPOCH_MS,
    };
    let key = PublicKey([1; 32]);
    let user = Row::User { name: lease.user.clone(), key, at_ms: EPOCH_MS };
    run.store.write(&[user, Row::Lease(lease)]).unwrap();
    drop(run);
    let run = open(&begun, None).unwrap();
    assert_eq!(run.recovered.open.iter().map(|lease| lease.shard).collect::<Vec<_>>(), [0]);
}
