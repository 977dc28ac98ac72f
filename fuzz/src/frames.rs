//! Messages of both sides from any bytes: what is accepted survives a round trip, what is refused is told briefly.

use std::fmt::Debug;

use hydra_core::limits::TEXT_BYTES;
use hydra_core::proto::wire::{self, WireError};

/// Reads the bytes as a message of either side.
pub fn run(data: &[u8]) {
    check(data, wire::decode_client, wire::encode_client);
    check(data, wire::decode_server, wire::encode_server);
}

fn check<M: Debug>(data: &[u8], decode: fn(&[u8]) -> Result<M, WireError>, encode: fn(&M) -> Vec<u8>) {
    match decode(data) {
        Ok(message) => {
            let bytes = encode(&message);
            let again = decode(&bytes).expect("what was accepted is accepted in its usual form");
            // Bytes and not values: a NaN is no equal of itself.
            assert_eq!(encode(&again), bytes, "{message:?}");
        }
        Err(error) => {
            // It goes back to the peer as the text of an `error`, and to a terminal.
            let text = error.to_string();
            assert!(text.len() <= TEXT_BYTES, "{} bytes: {text}", text.len());
        }
    }
}
