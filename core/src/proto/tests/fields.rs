//! Fields that may be left out, and settings that the hub refuses.

use super::*;
use crate::ids::QueryId;
use crate::limits::STOPS;

/// The frame of that name, which has none of the optional fields.
fn bare(wanted: &str) -> Frame {
    let (_, mut frame) = frames().into_iter().find(|(name, _)| name == wanted).expect("a golden frame");
    if let Frame::Server(ServerMsg::Task(task)) = &mut frame {
        task.preview.clear();
    }
    frame
}

/// Its bytes with `nil` as the field, whether its default was written or left out.
fn with_nil(frame: &Frame, field: &str) -> Vec<u8> {
    let mut bytes = encode(frame);
    let key = [&[0xa0 | field.len() as u8], field.as_bytes()].concat();
    match bytes.windows(key.len()).position(|part| part == key) {
        Some(at) => {
            let value = &mut bytes[at + key.len()];
            assert!(matches!(value, 0xa0 | 0xc2), "{field} is empty or false, in one byte");
            *value = 0xc0;
        }
        None => {
            let fields = 2 + usize::from(bytes[1] & 0x1f);
            bytes[fields] += 1;
            assert!(bytes[fields] <= 0x8f, "a short map");
            bytes.extend(key);
            bytes.push(0xc0);
        }
    }
    bytes
}

#[test]
fn nil_is_taken_for_an_absent_field() {
    let cases: [(&str, &[&str]); 10] = [
        ("client: hello of a chat", &["device", "worker", "holds", "lease"]),
        ("client: ready", &["device"]),
        ("client: query without settings", &["max_new_tokens", "temperature", "top_k", "top_p", "seed", "raw", "stop"]),
        ("client: api keys revoked", &["digest"]),
        ("client: bye", &["retry"]),
        ("coordinator: welcome before any evaluation", &["val_loss", "val_version"]),
        ("coordinator: version as a whole", &["base"]),
        ("coordinator: task", &["preview"]),
        ("coordinator: answer before any evaluation", &["averaged", "val_loss", "val_version"]),
        ("coordinator: status before any evaluation", &["val_loss", "val_version", "val_bits_per_byte", "paused"]),
    ];
    for (name, fields) in cases {
        let frame = bare(name);
        for field in fields {
            assert_eq!(decode_as(&frame, &with_nil(&frame, field)).as_ref(), Ok(&frame), "{field} of {name}");
        }
    }
}

#[test]
fn stops_past_their_bounds_are_a_wrong_setting() {
    let with = |stop: Vec<String>| Query { stop, ..Query::new(QueryId([1; 16]), "hi") };
    let stop = |bytes: usize| "a".repeat(bytes);
    assert_eq!(with(vec![stop(LABEL_BYTES); STOPS]).wrong_setting(), None);
    for stops in [vec![stop(LABEL_BYTES + 1)], vec![stop(1); STOPS + 1], vec![String::new()]] {
        let query = with(stops);
        let message = ClientMsg::Query(query.clone());
        assert_eq!(decode_client(&encode_client(&message)), Ok(message), "the hub answers it");
        assert!(matches!(query.wrong_setting(), Some(("stop", _))), "{query:?}");
    }
}
