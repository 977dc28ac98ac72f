//! Updates and versions as they arrive: chunks put together at any offsets, then numbers in every codec.
//!
//! An input is: codec, how many numbers are expected (two bytes), the size of a chunk, what is done to the order of
//! chunks, then the blob's bytes.

// The session's own code for blobs; it is private to the package, and this is the only other place that drives it.
#[allow(dead_code)]
#[path = "../../shell/src/link/blobs.rs"]
mod blobs;

use blobs::Download;
use hydra_core::codec::Codec;
use hydra_core::ids::Digest;
use hydra_core::proto::Chunk;

/// Takes the input apart, receives it as a blob, and decodes it.
pub fn run(data: &[u8]) {
    let Some((&[codec, low, high, size, order], bytes)) = data.split_first_chunk::<5>() else { return };
    receive(bytes, 1 + usize::from(size), order);
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    decode(codec, bytes, usize::from(u16::from_le_bytes([low, high])));
    // Also with a count that fits, which random numbers would seldom meet.
    let n = fitting(codec, bytes.len());
    decode(codec, bytes, n);
    decode(codec, bytes, n.saturating_sub(1));
}

fn fitting(codec: Codec, bytes: usize) -> usize {
    let blocks = |full: usize, a_byte: usize| bytes / full * 128 + (bytes % full).saturating_sub(2) * a_byte;
    match codec {
        Codec::F32 => bytes / 4,
        Codec::Bf16 => bytes / 2,
        Codec::Int8 => blocks(130, 1),
        Codec::Int4 => blocks(66, 2),
        Codec::Sparse256 | Codec::Sparse64 => Codec::BLOCK,
    }
}

/// Puts a blob together whose announcement may lie and whose chunks may come wrongly.
fn receive(bytes: &[u8], size: usize, order: u8) {
    let announced = match order & 3 {
        0 | 1 => bytes.len() as u64,
        2 => bytes.len() as u64 + u64::from(order),
        _ => u64::MAX,
    };
    let digest = if order & 4 == 0 { Digest::of(bytes) } else { Digest([order; 32]) };
    let mut download = Download::new(announced);
    let mut honest = true;
    for (at, part) in bytes.chunks(size).enumerate() {
        let right = (at * size) as u64;
        let offset = match order >> 4 {
            1 if at == 1 => right + 1,
            2 if at == 1 => u64::MAX,
            3 if at == 2 => 0,
            _ => right,
        };
        honest &= offset == right;
        if download.take(&Chunk { blob: digest, offset, data: part.to_vec() }).is_err() {
            assert!(!honest, "an honest chunk was refused");
            return;
        }
        assert!(honest, "a chunk at a wrong offset was taken");
    }
    if download.is_complete() {
        assert_eq!(download.finish(&digest).is_ok(), digest == Digest::of(bytes));
    }
}

fn decode(codec: Codec, bytes: &[u8], n: usize) {
    let mut sum = vec![1.0; n];
    let decoded = codec.decode(bytes, n);
    assert_eq!(codec.decode_add(bytes, &mut sum).is_ok(), decoded.is_ok());
    let Ok(values) = decoded else {
        assert!(sum.iter().all(|x| x.to_bits() == 1.0f32.to_bits()), "what is refused changes nothing");
        return;
    };
    assert!(codec.fits(bytes.len(), n) && values.len() == n);
    assert!(values.iter().all(|x| x.is_finite()));
    assert!(values.iter().zip(&sum).all(|(value, sum)| (1.0 + value).to_bits() == sum.to_bits()));
    let again = codec.encode(&values);
    if matches!(codec, Codec::F32 | Codec::Bf16) {
        assert_eq!(again, bytes, "whole numbers come back bit by bit");
    }
    // A block's scale is the encoder's choice; what it writes must be readable in any case.
    codec.check(&again, n).expect("an encoder writes what a decoder takes");
}
