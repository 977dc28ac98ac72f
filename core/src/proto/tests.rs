//! Golden frames, the page that shows them, and what the decoder refuses.
//!
//! `tests/frames.txt` holds the bytes of every example of `tests/frames.rs`; `docs/protocol.md` shows the same. After
//! a wanted change of the protocol, `HYDRA_BLESS=1 cargo test -p hydra-core proto` writes both anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fields;
mod frames;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use frames::{Frame, frames};
use proptest::prelude::*;

use super::wire::{CLIENT_KINDS, SERVER_KINDS, WireError, decode_client, decode_server, encode_client, encode_server};
use super::*;
use crate::ids::{Digest, LeaseId, Nonce, PublicKey};
use crate::limits::{
    API_KEYS, CHUNK_BYTES, DEPTH, FRAME_BYTES, LABEL_BYTES, PIECE_BYTES, PREVIEW_BYTES, STOPS_READ, TEXT_BYTES,
};

fn encode(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Client(message) => encode_client(message),
        Frame::Server(message) => encode_server(message),
    }
}

fn decode_as(like: &Frame, bytes: &[u8]) -> Result<Frame, WireError> {
    match like {
        Frame::Client(_) => decode_client(bytes).map(Frame::Client),
        Frame::Server(_) => decode_server(bytes).map(Frame::Server),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    text.as_bytes().as_chunks().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto/tests/frames.txt");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");

/// The lines of the form "name: hex", with or without Markdown's marks around both.
fn listed(text: &str) -> Vec<(String, String)> {
    let plain = text.lines().map(|line| line.trim_start_matches("- ").replace('`', ""));
    plain
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.rsplit_once(": ").map(|(name, hex)| (name.to_owned(), hex.to_owned())).expect("name: hex"))
        .collect()
}

/// Whether the person who runs the tests wants the files written anew.
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn blessing() -> bool {
    std::env::var("HYDRA_BLESS").is_ok_and(|value| value == "1")
}

#[expect(clippy::disallowed_methods, reason = "only when the person who runs the tests asks for it")]
fn bless(path: &str, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn current() -> Vec<(String, String)> {
    frames().iter().map(|(name, frame)| (name.clone(), hex(&encode(frame)))).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the golden frames are a file")]
fn frames_have_their_golden_bytes() {
    if blessing() {
        let lines: Vec<_> = current().iter().map(|(name, hex)| format!("{name}: {hex}\n")).collect();
        bless(GOLDEN, &lines.concat());
    }
    let golden = listed(&std::fs::read_to_string(GOLDEN).unwrap());
    assert_eq!(golden, current());
    for ((_, frame), (name, hex)) in frames().iter().zip(&golden) {
        assert_eq!(decode_as(frame, &unhex(hex)).as_ref(), Ok(frame), "{name}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the page is a file")]
fn the_page_shows_the_same_frames() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("<!-- frames -->").expect("docs/protocol.md has the mark <!-- frames -->");
    let (block, after) = rest.split_once("<!-- /frames -->").expect("the mark <!-- /frames --> follows");
    if blessing() {
        let lines: Vec<_> = current().iter().map(|(name, hex)| format!("- `{name}`: `{hex}`\n")).collect();
        bless(PAGE, &format!("{before}<!-- frames -->\n{}<!-- /frames -->{after}", lines.concat()));
    } else {
        assert_eq!(listed(block), current(), "run HYDRA_BLESS=1 cargo test -p hydra-core proto");
    }
}

#[test]
fn every_kind_has_a_frame() {
    let mut seen = (BTreeSet::new(), BTreeSet::new());
    for (_, frame) in frames() {
        let bytes = encode(&frame);
        let kind = String::from_utf8(bytes[2..2 + usize::from(bytes[1] & 0x1f)].to_vec()).unwrap();
        match frame {
            Frame::Client(_) => seen.0.insert(kind),
            Frame::Server(_) => seen.1.insert(kind),
        };
    }
    assert_eq!(seen.0, CLIENT_KINDS.iter().map(ToString::to_string).collect());
    assert_eq!(seen.1, SERVER_KINDS.iter().map(ToString::to_string).collect());
}

/// Encodes by hand what our own encoder never writes.
fn map(kind: &str, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    bytes.extend(text(kind));
    bytes.push(0x80 | fields.len() as u8);
    for (name, value) in fields {
        bytes.extend(text(name));
        bytes.extend_from_slice(value);
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0xdb];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn numbers_come_as_other_languages_write_them() {
    // Python's library writes every float in 64 bits and 1 as an integer; lengths and integers need not be short.
    let double = [&[0xcb][..], &4.5f64.to_be_bytes()].concat();
    let wide = [&[0xd3][..], &21i64.to_be_bytes()].concat();
    let bytes = map("progress", &[("step", &[5]), ("lease", &wide), ("tokens_per_s", &[1]), ("loss", &double)]);
    let progress = Progress { lease: LeaseId(21), step: 5, loss: 4.5, tokens_per_s: 1.0 };
    assert_eq!(decode_client(&bytes), Ok(ClientMsg::Progress(progress)));
    let bytes =
        map("query", &[("id", &[&[0xc4, 16][..], &[1; 16]].concat()), ("prompt", &text("hi")), ("temperature", &[0])]);
    let Ok(ClientMsg::Query(query)) = decode_client(&bytes) else { panic!("a query") };
    assert_eq!(query.temperature, Some(0.0));
    // The outer map in its longest form.
    let long = [&[0xdf, 0, 0, 0, 1][..], &map("balance", &[])[1..]].concat();
    assert_eq!(decode_client(&long), Ok(ClientMsg::Balance(Empty {})));
}

#[test]
fn unknown_fields_are_passed_over() {
    let bytes = map("ready", &[("since", &[0x92, 0x01, 0x81, 0xa1, b'x', 0xc0]), ("accepting", &[0xc3])]);
    assert_eq!(decode_client(&bytes), Ok(ClientMsg::Ready(Ready::new(true))));
}

#[test]
fn ids_and_data_are_bytes_only() {
    let good = [&[0xc4, 32][..], &[0x41; 32]].concat();
    assert!(decode_client(&map("fetch", &[("shard", &good)])).is_ok());
    let array = [&[0xdc, 0, 32][..], &[0x41; 32]].concat();
    let short = [&[0xc4, 31][..], &[0x41; 31]].concat();
    for bad in [&text(&"A".repeat(32)), &array, &short, &vec![0xc0]] {
        let error = decode_client(&map("fetch", &[("shard", bad)])).unwrap_err();
        assert!(matches!(error, WireError::Malformed(_)), "{error}");
    }
    for bad in [&text("data"), &vec![0x92, 1, 2]] {
        let bytes = map("chunk", &[("blob", &good), ("offset", &[0]), ("data", bad)]);
        assert!(matches!(decode_client(&bytes), Err(WireError::Malformed(_))));
    }
}

#[test]
fn what_is_not_one_message_is_refused() {
    let good = map("balance", &[]);
    assert!(decode_client(&good).is_ok());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "ends before"),
        ("no map", vec![0x01], "a map with one entry"),
        ("a bare kind", text("balance"), "a map with one entry"),
        ("no entry", vec![0x80], "a map with one entry"),
        ("two entries", [&[0x82], &good[1..], &good[1..]].concat(), "a map with one entry"),
        ("a number as kind", vec![0x81, 0x07, 0x80], "not text"),
        ("fields as an array", [&good[..good.len() - 1], &[0x90]].concat(), "are a map"),
        ("nil fields", [&good[..good.len() - 1], &[0xc0]].concat(), "are a map"),
        ("a number as field", [&good[..good.len() - 1], &[0x81, 0x00, 0x00]].concat(), "not text"),
        ("a second value", [&good[..], &[0xc0]].concat(), "bytes follow"),
        ("an extension", map("balance", &[("x", &[0xd4, 0, 0])]), "extension"),
        ("the unused marker", map("balance", &[("x", &[0xc1])]), "extension"),
        ("a text that is too long", map("balance", &[("x", &[0xdb, 0xff, 0xff, 0xff, 0xff])]), "ends before"),
        ("bytes that are too long", map("balance", &[("x", &[0xc6, 0xff, 0xff, 0xff, 0xff])]), "ends before"),
        ("an array that is too long", map("balance", &[("x", &[0xdd, 0xff, 0xff, 0xff, 0xff])]), "longer than"),
        ("a map that is too long", map("balance", &[("x", &[0xdf, 0xff, 0xff, 0xff, 0xff])]), "longer than"),
        ("text that is not UTF-8", map("balance", &[("x", &[0xa1, 0xff])]), "UTF-8"),
        ("a missing field", map("ready", &[]), "accepting"),
        ("a field twice", map("ready", &[("accepting", &[0xc3]), ("accepting", &[0xc3])]), "duplicate"),
        ("a field of another type", map("ready", &[("accepting", &[1])]), "ready: "),
        ("a negative number", map("progress", &[("lease", &[0xff])]), "progress: "),
    ];
    for (name, bytes, part) in cases {
        match decode_client(&bytes) {
            Err(WireError::Malformed(why)) => assert!(why.contains(part), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    for end in 0..good.len() {
        assert!(decode_client(&good[..end]).is_err(), "{end}");
    }
}

#[test]
fn kinds_belong_to_one_side() {
    assert_eq!(decode_client(&map("credited", &[])), Err(WireError::UnknownKind("credited".into())));
    assert_eq!(decode_server(&map("hello", &[])), Err(WireError::UnknownKind("hello".into())));
    let Err(WireError::UnknownKind(kind)) = decode_client(&map(&"é".repeat(1000), &[])) else { panic!("unknown") };
    assert_eq!(kind.len(), LABEL_BYTES);
}

#[test]
fn what_is_signed_about_api_keys_is_what_the_page_says() {
    let (server, nonce, user) = (PublicKey([2; 32]), Nonce([4; 32]), "alice".parse().unwrap());
    let said =
        |act: &[u8], digest: u8| [b"hydra.v1 api key", &[2; 32][..], &[4; 32], act, &[digest; 32], b"alice"].concat();
    for (act, word) in [(KeyAct::Add, "add"), (KeyAct::Revoke, "revoke"), (KeyAct::List, "list")] {
        let with = sign::api_key_statement(&server, &nonce, act, Some(&Digest([6; 32])), &user);
        assert_eq!(with, said(word.as_bytes(), 6));
        assert_eq!(sign::api_key_statement(&server, &nonce, act, None, &user), said(word.as_bytes(), 0));
    }
}

#[test]
fn bounds_hold_exactly() {
    #[track_caller]
    fn check(frame: impl Fn(usize) -> Frame, limit: usize) {
        let at = frame(limit);
        assert_eq!(decode_as(&at, &encode(&at)).as_ref(), Ok(&at));
        let over = frame(limit + 1);
        match decode_as(&over, &encode(&over)) {
            Err(WireError::TooLarge { size, limit: told, .. }) => assert_eq!((size, told), (limit + 1, limit)),
            other => panic!("{other:?}"),
        }
    }
    let client = |kind: &str, change: &dyn Fn(&mut ClientMsg)| {
        let (_, frame) = frames().into_iter().find(|(name, _)| name.starts_with(&format!("client: {kind}"))).unwrap();
        let Frame::Client(mut message) = frame else { unreachable!() };
        change(&mut message);
        Frame::Client(message)
    };
    let server = |kind: &str, change: &dyn Fn(&mut ServerMsg)| {
        let wanted = format!("coordinator: {kind}");
        let (_, frame) = frames().into_iter().find(|(name, _)| name.starts_with(&wanted)).unwrap();
        let Frame::Server(mut message) = frame else { unreachable!() };
        change(&mut message);
        Frame::Server(message)
    };
    macro_rules! bounded {
        ($side:ident $type:ident $variant:ident $kind:literal $field:ident $fill:expr, $limit:expr) => {
            check(
                |n| {
                    $side($kind, &|message| match message {
                        $type::$variant(fields) => fields.$field = $fill(n),
                        _ => unreachable!(),
                    })
                },
                $limit,
            );
        };
    }
    let letters = |n: usize| "a".repeat(n);
    let zeros = |n: usize| vec![0u8; n];
    bounded!(client ClientMsg Hello "hello" protocol letters, LABEL_BYTES);
    bounded!(client ClientMsg Hello "hello" agent letters, LABEL_BYTES);
    bounded!(client ClientMsg Hello "hello" device letters, LABEL_BYTES);
    bounded!(client ClientMsg Chunk "chunk" data zeros, CHUNK_BYTES);
    bounded!(client ClientMsg Release "release" text letters, TEXT_BYTES);
    bounded!(client ClientMsg Bye "bye" text letters, TEXT_BYTES);
    bounded!(client ClientMsg Query "query" stop |n| vec!["a".to_owned(); n], STOPS_READ);
    let known = |n| vec![KnownKey { digest: Digest([1; 32]), at_ms: 0 }; n];
    bounded!(server ServerMsg ApiKeys "api keys" keys known, API_KEYS);
    bounded!(server ServerMsg Task "task" preview letters, PREVIEW_BYTES);
    bounded!(server ServerMsg Chunk "chunk" data zeros, CHUNK_BYTES);
    bounded!(server ServerMsg Unpaid "unpaid" text letters, TEXT_BYTES);
    bounded!(server ServerMsg Revoked "revoked" text letters, TEXT_BYTES);
    bounded!(server ServerMsg Piece "piece" text letters, PIECE_BYTES);
    bounded!(server ServerMsg Refused "refused" text letters, TEXT_BYTES);
    bounded!(server ServerMsg Bye "bye" text letters, TEXT_BYTES);
    bounded!(server ServerMsg Error "error" text letters, TEXT_BYTES);
}

#[test]
fn a_frame_is_bounded_and_a_prompt_only_by_it() {
    let query =
        |n: usize| map("query", &[("id", &[&[0xc4, 16][..], &[1; 16]].concat()), ("prompt", &text(&"x".repeat(n)))]);
    let room = FRAME_BYTES - query(0).len();
    assert!(decode_client(&query(room)).is_ok());
    let error = WireError::TooLarge { what: "frame bytes", size: FRAME_BYTES + 1, limit: FRAME_BYTES };
    assert_eq!(decode_client(&query(room + 1)), Err(error));
}

#[test]
fn nesting_is_bounded() {
    // The outer map and the fields are two levels.
    let nested = |levels: usize| map("balance", &[("x", &[vec![0x91; levels], vec![0xc0]].concat())]);
    assert!(decode_client(&nested(DEPTH - 2)).is_ok());
    let error = WireError::TooLarge { what: "nesting", size: DEPTH + 1, limit: DEPTH };
    assert_eq!(decode_client(&nested(DEPTH - 1)), Err(error.clone()));
    assert_eq!(decode_client(&nested(500_000)), Err(error));
}

#[test]
fn an_impossible_shape_is_refused() {
    let Some((_, Frame::Server(ServerMsg::Welcome(mut welcome)))) =
        frames().into_iter().find(|(name, _)| name == "coordinator: welcome")
    else {
        panic!("the welcome has a frame")
    };
    welcome.shape.heads = 3;
    let error = decode_server(&encode_server(&ServerMsg::Welcome(welcome))).unwrap_err();
    assert!(error.to_string().contains("heads of an even size"), "{error}");
}

/// A decoded message must be what its own encoding decodes to; compared as bytes, because a NaN is not itself.
fn check_again(bytes: &[u8]) {
    if let Ok(message) = decode_client(bytes) {
        let once = encode_client(&message);
        assert_eq!(encode_client(&decode_client(&once).unwrap()), once);
    }
    if let Ok(message) = decode_server(bytes) {
        let once = encode_server(&message);
        assert_eq!(encode_server(&decode_server(&once).unwrap()), once);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_again(&bytes);
    }

    #[test]
    fn mutated_frames_are_decoded_or_refused(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..4),
    ) {
        let frames = frames();
        let mut bytes = encode(&pick.get(&frames).1);
        for (place, byte, change) in changes {
            let place = place.index(bytes.len());
            match change {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(place)),
                _ => {}
            }
        }
        check_again(&bytes);
    }
}
