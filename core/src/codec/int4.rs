//! Four-bit blocks: the encoder's choice of scale, the packing, and the way back.
//!
//! Decoding is specified in [`super`]; the choice of scale is the encoder's freedom. This one tries the clips
//! of [`CLIPS`] in turn as long as the squared error falls, which on normal numbers leaves 0.4 % more of it than trying
//! them all does, and takes half the time.
#![allow(clippy::inline_always)]

use half::f16;

use super::CodecError;
use super::block::{self, BLOCK, ROUND, Values};

/// Bytes of a full block.
const BLOCK_BYTES: usize = 2 + BLOCK / 2;
/// The largest integer.
const TOP: f32 = 7.0;
/// Clipping points to try, as parts of the largest magnitude in the block: numbers beyond one lose, all others gain.
const CLIPS: [f32; 6] = [1.0, 0.92, 0.84, 0.74, 0.62, 0.5];

type Packed = [u8; BLOCK / 2];

/// A block's scale and integers. A scale that is not finite marks a block that decoding must refuse.
struct Block {
    scale: f16,
    packed: Packed,
}

pub(super) const fn encoded_len(n: usize) -> usize {
    let rest = n % BLOCK;
    n / BLOCK * BLOCK_BYTES + if rest == 0 { 0 } else { 2 + rest.div_ceil(2) }
}

pub(super) fn encode(out: &mut Vec<u8>, values: &[f32], residual: &mut [f32]) {
    for (values, residual) in values.chunks(BLOCK).zip(residual.chunks_mut(BLOCK)) {
        let sums = block::sums(values, residual);
        let block = wide::quantise(&sums);
        put(out, &block, values.len());
        if block.scale.is_finite() {
            let sent = wide::expand(block.scale.to_f32(), &block.packed);
            for ((left, sum), sent) in residual.iter_mut().zip(&sums).zip(&sent) {
                *left = sum - sent;
            }
        }
    }
}

pub(super) fn check(bytes: &[u8], n: usize) -> Result<(), CodecError> {
    for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let (scale, packed) = split(block);
        if !scale.is_finite() {
            return Err(CodecError::NotFinite);
        }
        let lowest = |two: u8| u8::from(two & 0x0f == 0x08) | u8::from(two & 0xf0 == 0x80);
        if packed.iter().fold(0, |any, two| any | lowest(*two)) != 0 || scale.is_sign_negative() {
            return Err(CodecError::NotCanonical { block: index });
        }
    }
    match bytes.last() {
        Some(last) if n % 2 == 1 && last >> 4 != 0 => Err(CodecError::NotCanonical { block: n / BLOCK }),
        _ => Ok(()),
    }
}

/// Hands each number of checked bytes to its slot.
#[inline]
pub(super) fn read(bytes: &[u8], out: &mut [f32], put: impl Fn(&mut f32, f32)) {
    for (slots, block) in out.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK_BYTES)) {
        let (scale, nibbles) = split(block);
        let mut packed = [0; BLOCK / 2];
        packed[..nibbles.len()].copy_from_slice(nibbles);
        let values = wide::expand(scale.to_f32(), &packed);
        slots.iter_mut().zip(&values).for_each(|(slot, value)| put(slot, *value));
    }
}

fn split(block: &[u8]) -> (f16, &[u8]) {
    let (scale, packed) = block.split_first_chunk().expect("every block of the right length begins with a scale");
    (f16::from_le_bytes(*scale), packed)
}

fn put(out: &mut Vec<u8>, block: &Block, n: usize) {
    out.extend_from_slice(&block.scale.to_le_bytes());
    out.extend_from_slice(&block.packed[..n.div_ceil(2)]);
}

#[inline(always)]
fn quantise(values: &Values) -> Block {
    let Some(greatest) = block::greatest(values) else {
        return Block { scale: f16::NAN, packed: [0; BLOCK / 2] };
    };
    let scale_for = |clip: f32| block::scale(greatest / TOP * clip);
    let mut best = (f32::INFINITY, scale_for(CLIPS[0]));
    let magnitudes = values.map(f32::abs);
    for clip in CLIPS {
        let scale = scale_for(clip);
        let error = squared_error(&magnitudes, scale.to_f32());
        if error >= best.0 {
            break;
        }
        best = (error, scale);
    }
    Block { scale: best.1, packed: pack(values, best.1.to_f32()) }
}

/// Of the magnitudes, as signs change nothing.
#[inline(always)]
fn squared_error(magnitudes: &Values, scale: f32) -> f32 {
    const LANES: usize = 16;
    let inverse = block::inverse(scale);
    // Independent sums: the order of additions is fixed, and they fit vector registers.
    let mut sums = [0.0; LANES];
    for part in magnitudes.as_chunks::<LANES>().0 {
        for (sum, value) in sums.iter_mut().zip(part) {
            let level = ((value * inverse).min(TOP) + ROUND) - ROUND;
            let error = value - level * scale;
            *sum += error * error;
        }
    }
    // By halves, which takes four steps on such registers instead of fifteen.
    for half in [8, 4, 2, 1] {
        let (low, high) = sums[..2 * half].split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
    }
    sums[0]
}

#[inline(always)]
fn pack(values: &Values, scale: f32) -> Packed {
    let inverse = block::inverse(scale);
    let mut levels = [0; BLOCK];
    for (level, value) in levels.iter_mut().zip(values) {
        *level = ((value * inverse).clamp(-TOP, TOP) + ROUND).to_bits() as u8 & 0x0f;
    }
    let mut packed = [0; BLOCK / 2];
    for (byte, [low, high]) in packed.iter_mut().zip(levels.as_chunks().0) {
        *byte = low | (high << 4);
    }
    packed
}

#[inline(always)]
fn expand(scale: f32, packed: &Packed) -> Values {
    let mut values = [0.0; BLOCK];
    for ([first, second], byte) in values.as_chunks_mut().0.iter_mut().zip(packed) {
        // The shift up and the arithmetic shift down spread the four-bit sign.
        *first = f32::from((*byte << 4) as i8 >> 4) * scale;
        *second = f32::from(*byte as i8 >> 4) * scale;
    }
    values
}

/// What takes the time, for this machine's registers.
mod wide {
    #![allow(unsafe_code)]
    use super::{Block, Packed, Values};

    crate::widest! {
        super:
        fn quantise(values: &Values) -> Block;
        fn expand(scale: f32, packed: &Packed) -> Values;
    }
}
