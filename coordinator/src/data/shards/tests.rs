//! What is prepared is what is opened, and nothing else is.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::data::primer;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), origin: Some(name.into()), documents: vec![text.to_owned()] }
}

fn ids(shard: &Shard) -> Vec<u16> {
    shard.bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn all_ids(dataset: &Dataset) -> Vec<u16> {
    dataset.shards.iter().flat_map(ids).collect()
}

#[test]
fn the_primer_is_prepared_and_opened_again() {
    let dir = TempDir::new().unwrap();
    let run = dir.path().join("new/run");
    let sources = primer::sources();
    assert!(!is_prepared(&run));
    assert!(matches!(load(&run), Err(DataError::Missing { .. })));
    let made = prepare(&sources, &[], TokenizerSpec::Bpe { vocab: 1_000 }, &run).unwrap();
    assert!(is_prepared(&run));
    let opened = load(&run).unwrap();
    assert_eq!(made.shards, opened.shards);
    assert_eq!(made.val_tokens, opened.val_tokens);
    assert_eq!(made.tokenizer.digest(), opened.tokenizer.digest());
    assert_eq!(
        (made.train_tokens, made.train_bytes, made.val_bytes),
        (opened.train_tokens, opened.train_bytes, opened.val_bytes)
    );
    // All text is in one of the two parts, a tenth of it held out.
    let total: u64 = sources.iter().map(Source::bytes).sum();
    assert_eq!(made.train_bytes + made.val_bytes, total);
    assert_eq!(made.tokenizer.bytes_of(&all_ids(&made)), made.train_bytes);
    assert_eq!(made.tokenizer.bytes_of(&made.val_tokens), made.val_bytes);
    assert!(made.val_bytes * 13 > total && made.val_bytes * 8 < total, "{} of {total}", made.val_bytes);
    assert!(made.check_windows(512).is_ok());
    assert!(matches!(prepare(&sources, &[], TokenizerSpec::Bytes, &run), Err(DataError::Exists { .. })));
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    let digests = || {
        let dir = TempDir::new().unwrap();
        let made = prepare(&primer::sources(), &[], TokenizerSpec::Bpe { vocab: 3_000 }, dir.path()).unwrap();
        (made.tokenizer.digest(), made.shards)
    };
    assert_eq!(digests(), digests());
}

#[test]
fn shards_are_balanced_and_in_order() {
    let tokenizer = Tokenizer::plain_bytes();
    let ids: Vec<u16> = (0..=2 * SHARD_TOKENS).map(|i| (i % 251) as u16 + 1).collect();
    let shards = cut(&ids, &tokenizer);
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| (349_525..=349_526).contains(&shard.tokens)));
    assert_eq!(shards.iter().flat_map(super::tests::ids).collect::<Vec<_>>(), ids);
    assert!(shards.iter().all(|shard| shard.digest == Digest::of(&shard.bytes)));
    assert_eq!(cut(&ids[..SHARD_TOKENS], &tokenizer).len(), 1);
    assert!(cut(&[], &tokenizer).is_empty());
}

#[test]
fn previews_are_short_and_harmless() {
    let tokenizer = Tokenizer::plain_bytes();
    let preview = |text: &[u8]| preview(&tokenizer.encode_bytes(text), &tokenizer);
    assert_eq!(preview(b"\x82\xac  First\twords\n\n\x1b[2Jof \0 it\x07"), "First words [2Jof it");
    assert_eq!(preview("a\u{202e}b\u{9b}c".as_bytes()), "ab c");
    assert_eq!(preview(b""), "");
    let long = preview("word ".repeat(100).as_bytes());
    assert!(long.len() <= PREVIEW_BYTES && long.len() > PREVIEW_BYTES - 6 && long.ends_with("word"), "{long:?}");
    let wall = preview("é".repeat(200).as_bytes());
    assert_eq!(wall, "é".repeat(PREVIEW_BYTES / 2));
}

#[test]
fn validation_files_are_not_trained_on() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (source("/a.txt", "train on this"), source("/b.txt", "measure with this"));
    let made = prepare(&[a, b.clone()], std::slice::from_ref(&b), TokenizerSpec::Bytes, dir.path()).unwrap();
    assert_eq!(made.tokenizer.decode(&all_ids(&made)), b"train on this\0");
    assert_eq!(made.tokenizer.decode(&made.val_tokens), b"measure with this\0");
    assert_eq!((made.train_bytes, made.val_bytes), (13, 17));
    let other = dir.path().join("other");
    assert!(matches!(
        prepare(std::slice::from_ref(&b), std::slice::from_ref(&b), TokenizerSpec::Bytes, &other),
        Err(DataError::NothingToTrain)
    ));
    assert!(!is_prepared(&other));
}

#[test]
fn too_little_text_for_a_window_is_said() {
    let dir = TempDir::new().unwrap();
    let made = prepare(&[source("/a.txt", &"x".repeat(1_000))], &[], TokenizerSpec::Bytes, dir.path()).unwrap();
    // 900 and 100 bytes, and an end of text each.
    assert!(made.check_windows(100).is_ok());
    assert!(matches!(made.check_windows(101), Err(DataError::TooLittle { part: "held-out", tokens: 101, needs: 102 })));
    assert!(matches!(made.check_windows(901), Err(DataError::TooLittle { part: "training", tokens: 901, .. })));
    let text = made.check_windows(512).unwrap_err().to_string();
    assert!(text.contains("held-out text has 101 tokens") && text.contains("takes 513"), "{text}");
}

#[test]
fn every_altered_file_is_found() {
    let dir = TempDir::new().unwrap();
    let made = prepare(&[source("/a.txt", &"text ".repeat(400))], &[], TokenizerSpec::Bytes, dir.path()).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(dir.path().join("data")).unwrap().map(|e| e.unwrap().path()).collect();
    files.push(dir.path().join("tokenizer.json"));
    files.sort();
    assert_eq!(files.len(), 2 + made.shards.len() + 1, "{files:?}");
    for file in &files {
        let good = fs::read(file).unwrap();
        let manifest = file.ends_with(MANIFEST);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [flipped, good[..good.len() - 2].to_vec(), Vec::new()] {
            fs::write(file, &bad).unwrap();
            let found = load(dir.path());
            assert!(
                matches!(&found, Err(DataError::Corrupt { path, .. }) if manifest || path == file),
                "{file:?} {found:?}"
            );
        }
        fs::remove_file(file).unwrap();
        match load(dir.path()).unwrap_err() {
            DataError::Missing { .. } => assert!(manifest),
            DataError::Corrupt { path, what } => assert!(!manifest && path == *file && what == "it is missing"),
            other => panic!("{other}"),
        }
        fs::write(file, &good).unwrap();
    }
    assert!(load(dir.path()).is_ok());
    let manifest = dir.path().join("data").join(MANIFEST);
    let newer = fs::read_to_string(&manifest).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&manifest, newer).unwrap();
    assert!(matches!(load(dir.path()), Err(DataError::Newer { found: 2, .. })));
}
