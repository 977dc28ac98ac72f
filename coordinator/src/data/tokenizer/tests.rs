//! Exact round trips, streaming, and what other tools will read.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const TEXT: &str = include_str!("../../../primer/hydra.md");

static BPE_700: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::train(TokenizerSpec::Bpe { vocab: 700 }, &[TEXT, "été 東京 🙂🙂"]).unwrap());
static BYTES: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::plain_bytes);

fn both() -> [&'static Tokenizer; 2] {
    [&BPE_700, &BYTES]
}

#[test]
fn bytes_are_their_own_ids() {
    let all: Vec<u8> = (0..=255).collect();
    let ids: Vec<u16> = (0..=255).collect();
    assert_eq!(BYTES.encode_bytes(&all), ids);
    assert_eq!(BYTES.decode(&ids), all);
    assert_eq!((BYTES.vocab_size(), BYTES.kind(), BYTES.end_of_text()), (256, TokenizerSpec::Bytes, 0));
    // The file means the same to the library that others use.
    let library = tokenizers::Tokenizer::from_bytes(BYTES.json()).unwrap();
    let text = "An été:\n\t🙂 \u{7f}";
    let read: Vec<u8> = library.encode_fast(text, true).unwrap().get_ids().iter().map(|id| *id as u8).collect();
    assert_eq!(read, text.as_bytes());
    assert_eq!(library.decode(&text.bytes().map(u32::from).collect::<Vec<_>>(), false).unwrap(), text);
    assert_eq!(library.get_vocab_size(true), 256);
}

#[test]
fn documents_end_with_the_end_of_text() {
    for tokenizer in both() {
        let ids = tokenizer.encode_documents(&["one", "", "two"]);
        let parts: Vec<_> = ids.split(|id| *id == tokenizer.end_of_text()).map(|part| tokenizer.decode(part)).collect();
        assert_eq!(parts, [b"one".to_vec(), b"two".to_vec(), vec![]]);
        assert_eq!(tokenizer.bytes_of(&ids), 6);
    }
}

#[test]
fn the_mark_in_a_text_is_text() {
    let text = "before <|endoftext|> after";
    let ids = BPE_700.encode(text);
    assert!(!ids.contains(&BPE_700.end_of_text()));
    assert_eq!(BPE_700.decode(&ids), text.as_bytes());
    assert_eq!(BPE_700.bytes_of(&ids), text.len() as u64);
    let read = Tokenizer::from_json(BPE_700.json().to_owned()).unwrap();
    assert_eq!(read.encode(text), ids);
}

#[test]
fn bpe_reaches_the_size_or_says_less() {
    assert_eq!((BPE_700.vocab_size(), BPE_700.kind()), (700, TokenizerSpec::Bpe { vocab: 700 }));
    let small = Tokenizer::train(TokenizerSpec::Bpe { vocab: 5_000 }, &["so little text, so few pieces"]).unwrap();
    assert!((257..300).contains(&small.vocab_size()), "{}", small.vocab_size());
    assert_eq!(small.piece(4_999), b"");
    assert!(matches!(Tokenizer::train(TokenizerSpec::Bpe { vocab: 300 }, &[]), Err(TokenizerError::NoText)));
    for vocab in [TokenizerSpec::MIN_VOCAB, 300] {
        let tokenizer = Tokenizer::train(TokenizerSpec::Bpe { vocab }, &[TEXT]).unwrap();
        assert_eq!(tokenizer.vocab_size(), vocab);
        assert_eq!(tokenizer.decode(&tokenizer.encode(TEXT)), TEXT.as_bytes());
    }
}

#[test]
fn training_gives_the_same_file_each_time() {
    let again = Tokenizer::train(TokenizerSpec::Bpe { vocab: 700 }, &[TEXT, "été 東京 🙂🙂"]).unwrap();
    assert_eq!(again.digest(), BPE_700.digest());
    assert_ne!(again.digest(), BYTES.digest());
}

/// What the library gives for the whole text at once.
fn whole(text: &str) -> Vec<u16> {
    let library = BPE_700.bpe.as_ref().unwrap();
    library.encode_fast(text, false).unwrap().get_ids().iter().map(|id| *id as u16).collect()
}

#[test]
fn texts_encode_like_in_other_tools() {
    assert_eq!(BPE_700.encode(TEXT), whole(TEXT));
}

#[test]
fn walls_of_letters_neither_stall_nor_become_pieces() {
    let wall = "abcdefgh".repeat(20_000);
    let tokenizer = Tokenizer::train(TokenizerSpec::Bpe { vocab: 400 }, &[&wall]).unwrap();
    assert!((0..400).all(|id| tokenizer.piece(id).len() < PIECE));
    assert_eq!(tokenizer.decode(&tokenizer.encode(&wall)), wall.as_bytes());
}

#[test]
fn samples_are_even_and_bounded() {
    let words: Vec<String> = (0..100).map(|i| format!(" {i:09}")).collect();
    let text = words.concat();
    let kept = sample(&[&text], 100);
    let mut order: Vec<&str> = kept.keys().map(|word| &word[8..]).collect();
    order.sort_unstable();
    assert_eq!(order, ["00", "10", "20", "30", "40", "50", "60", "70", "80", "90"]);
    assert_eq!(sample(&["a b", "a b b"], 100), HashMap::from([("a", 2), (" b", 3)]));
}

#[test]
fn foreign_files_are_refused() {
    let refused = |json: &str| Tokenizer::from_json(json.to_owned()).unwrap_err().to_string();
    assert!(refused("{").contains("not a tokenizer of HydraAI"));
    assert!(refused(&BYTES.json().replace("\"a\"", "\"漢\"")).contains("no sequence of bytes"));
    assert!(refused(&BPE_700.json().replace(END_OF_TEXT, "ab~ab~")).contains("other special tokens"));
    // On this one the library itself panics.
    assert!(refused(&BPE_700.json().replace("\"trim_offsets\":", "\"trim_offsets\"[")).contains("not a tokenizer"));
    assert!(
        refused(&BPE_700.json().replace("\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}"))
            .contains("changes text")
    );
    assert!(
        refused(&BPE_700.json().replace("\"byte_fallback\": false", "\"byte_fallback\": true")).contains("fallbacks")
    );
    assert!(refused(r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#).contains("byte-level"));
}

#[test]
fn characters_come_whole() {
    let mut decoder = PieceDecoder::new();
    let given: Vec<String> = "é🙂".bytes().map(|byte| decoder.push(&BYTES, byte.into())).collect();
    assert_eq!(given, ["", "é", "", "", "", "🙂"]);
    let given: Vec<String> = [0xe2, 0x82, 0x78].map(|byte| decoder.push(&BYTES, byte)).into();
    assert_eq!(given, ["", "", "\u{fffd}x"]);
    assert_eq!(
        (decoder.push(&BYTES, 0xf0), decoder.flush(), decoder.flush()),
        (String::new(), "\u{fffd}".into(), String::new())
    );
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "(?s).{0,200}") {
        for tokenizer in both() {
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.as_bytes());
        }
    }

    #[test]
    fn any_text_encodes_like_in_other_tools(text in "(?s)([a-c' .0é\n\t\u{a0}\u{2003}]|.){0,60}") {
        prop_assert_eq!(BPE_700.encode(&text), whole(&text));
    }

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for tokenizer in both() {
            let ids = tokenizer.encode_bytes(&bytes);
            prop_assert!(ids.iter().all(|id| u32::from(*id) < tokenizer.vocab_size()));
            prop_assert_eq!(tokenizer.decode(&ids), &bytes[..]);
            let ends = ids.iter().filter(|id| **id == tokenizer.end_of_text()).count();
            prop_assert_eq!(tokenizer.bytes_of(&ids), (bytes.len() - ends) as u64);
            prop_assert!(ends == 0 || tokenizer.bpe.is_none());
        }
    }

    #[test]
    fn streaming_is_the_lossy_whole(ids in prop::collection::vec(0u16..800, 0..100)) {
        for tokenizer in both() {
            let mut decoder = PieceDecoder::new();
            let mut text: String = ids.iter().map(|id| decoder.push(tokenizer, *id)).collect();
            text.push_str(&decoder.flush());
            let whole = tokenizer.decode(&ids);
            prop_assert_eq!(text, String::from_utf8_lossy(&whole).into_owned());
        }
    }
}
