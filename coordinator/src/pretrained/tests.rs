//! The folder against what Python's `transformers` 4.57 made of it (`reference.json`), and back in as a beginning.
//!
//! To make the reference anew after a deliberate change: run the ignored test with `HYDRA_FIXTURE=DIR`, then
//! `python docs/examples/compare_logits.py DIR --write coordinator/src/pretrained/reference.json`.

use hydra_config::{Flags, TokenizerSpec};
use hydra_core::ids::{Digest, VersionNo};
use hydra_core::rng::Rng;
use hydra_engine::{Device, DeviceChoice, Model};
use serde::Deserialize;

use super::*;

/// What `compare_logits.py --write` wrote.
#[derive(Deserialize)]
struct Reference {
    /// Of `model.safetensors`, in hexadecimal.
    sha256: String,
    config: serde_json::Value,
    tokens: Vec<u16>,
    /// After each token.
    logits: Vec<Vec<f32>>,
    text: String,
    text_tokens: Vec<u16>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn tokenizer() -> Tokenizer {
    let text = "A token is a piece of text. The model gives the next token; a worker trains the model. ".repeat(4);
    Tokenizer::train(TokenizerSpec::Bpe { vocab: 300 }, &[&text]).unwrap()
}

fn shape() -> Shape {
    Shape::new(tokenizer().vocab_size(), 32, 2, 2, 32)
}

/// Nothing zero and gains off one, so that every mistake shows.
fn weights() -> Vec<f32> {
    let mut rng = Rng::new(5);
    let draw = |tensor: hydra_core::model::TensorSpec| {
        let (mean, deviation) = if tensor.shape.len() == 1 { (1.0, 0.2) } else { (0.0, 0.2) };
        (0..tensor.len()).map(|_| (mean + rng.normal() * deviation) as f32).collect::<Vec<_>>()
    };
    shape().layout().into_iter().flat_map(draw).collect()
}

fn export(to: &Path) {
    try_export(to).unwrap();
}

fn try_export(to: &Path) -> Result<(), Failure> {
    let digest = merge::weights_digest(&weights());
    let version = Version { version: VersionNo(7), digest, tokens: 90, tasks: 3, inputs: Vec::new(), at_ms: 0 };
    let mut answers = hydra_config::resolve(None, [], &Flags::default()).unwrap().settings.answers;
    answers.template = "Question: {prompt}\nAnswer:".to_owned();
    let origin = Origin { version: &version, averaged: false, measured: Some((2.5, 1.25)), answers: &answers };
    write(to, &shape(), &weights(), &tokenizer(), &origin)
}

#[test]
#[ignore = "writes the folder that the reference is made from"]
fn write_the_reference_s_folder() {
    export(Path::new(&std::env::var("HYDRA_FIXTURE").unwrap()));
}

#[test]
fn transformers_computes_the_same_logits_from_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path());
    let reference = reference();
    // The reference is about this very folder.
    let written = fs::read(folder.path().join(WEIGHTS)).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!((sha256(&written), config), (reference.sha256, reference.config));

    let begun = Pretrained::open(folder.path()).unwrap();
    let device = Device::open(DeviceChoice::Cpu, Some(1)).unwrap();
    let model = Model::load(begun.shape, &begun.weights().unwrap(), device).unwrap();
    let logits = model.logits(&reference.tokens).unwrap();
    let theirs = reference.logits.concat();
    assert_eq!(logits.len(), theirs.len());
    let farthest = logits.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(farthest < 1e-4, "{farthest}");
}

#[test]
fn transformers_cuts_text_alike() {
    let Reference { text, text_tokens, .. } = reference();
    assert_eq!(tokenizer().encode(&text), text_tokens);
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path());
    let begun = Pretrained::open(folder.path()).unwrap();
    assert_eq!((begun.shape, begun.weights().unwrap()), (shape(), weights()));
    assert_eq!(begun.tokenizer.digest(), tokenizer().digest());
    let card = fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert!(card.contains("2.5000 nats a token") && card.contains("3 tasks, 90 tokens"), "{card}");
}

#[test]
fn an_export_replaces_only_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("notes.txt"), "kept").unwrap();
    export(folder.path());
    // One that broke off is known again, too.
    fs::remove_file(path(WEIGHTS)).unwrap();
    export(folder.path());
    assert_eq!(fs::read_to_string(path("notes.txt")).unwrap(), "kept");
    // Trained further and saved again, which leaves the card.
    let further: Vec<f32> = weights().iter().map(|weight| weight * 1.5).collect();
    let saved = hydra_engine::to_safetensors(&shape(), &further, &[]).unwrap();
    fs::write(path(WEIGHTS), &saved).unwrap();
    let refused = try_export(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("model.safetensors that is not of an export"), "{refused}");
    assert_eq!(fs::read(path(WEIGHTS)).unwrap(), saved);
    for name in FILES {
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join(name), "mine").unwrap();
        let refused = try_export(&foreign.path().join(name)).unwrap_err();
        assert!(refused.to_string().contains("is a file, and an export is a folder"), "{refused}");
        let refused = try_export(foreign.path()).unwrap_err();
        assert!(refused.to_string().contains(name) && refused.hint.is_some(), "{refused}");
        assert_eq!(fs::read_to_string(foreign.path().join(name)).unwrap(), "mine");
        assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1, "nothing else was written");
    }
}

#[test]
fn a_folder_that_cannot_begin_a_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let why = || Pretrained::open(path).err().unwrap().to_string();
    assert!(why().contains(CONFIG), "{}", why());
    export(path);
    fs::rename(path.join(WEIGHTS), path.join("model.safetensors.index.json")).unwrap();
    assert!(why().contains("several files"), "{}", why());
    fs::write(path.join(WEIGHTS), b"short").unwrap();
    let weights = || Pretrained::open(path).unwrap().weights().unwrap_err().to_string();
    assert!(weights().contains("not a safetensors file"), "{}", weights());
    let nan = hydra_engine::to_safetensors(&shape(), &vec![f32::NAN; shape().params()], &[]).unwrap();
    fs::write(path.join(WEIGHTS), nan).unwrap();
    assert!(weights().contains("a weight is no number"), "{}", weights());
    let config = fs::read_to_string(path.join(CONFIG)).unwrap();
    fs::write(path.join(CONFIG), config.replace("\"vocab_size\": ", "\"vocab_size\": 1")).unwrap();
    assert!(why().contains("tokens, the model 1"), "{}", why());
    fs::write(path.join(CONFIG), config.replace("qwen3", "gpt2")).unwrap();
    assert!(why().contains("gpt2"), "{}", why());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
    Digest(digest).to_string()
}
