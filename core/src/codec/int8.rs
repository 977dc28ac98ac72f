//! Eight-bit blocks: a scale and one integer a number.
//!
//! Decoding is specified in [`super`]; this encoder takes the scale from the greatest magnitude of the block.
#![allow(clippy::inline_always)]

use half::f16;

use super::CodecError;
use super::block::{self, BLOCK, ROUND, Values};

/// Bytes of a full block.
const BLOCK_BYTES: usize = 2 + BLOCK;
/// The largest integer.
const TOP: f32 = 127.0;

/// A block's scale and integers. A scale that is not finite marks a block that decoding must refuse.
struct Block {
    scale: f16,
    levels: [u8; BLOCK],
}

pub(super) const fn encoded_len(n: usize) -> usize {
    let rest = n % BLOCK;
    n / BLOCK * BLOCK_BYTES + if rest == 0 { 0 } else { 2 + rest }
}

pub(super) fn encode(out: &mut Vec<u8>, values: &[f32], residual: &mut [f32]) {
    for (values, residual) in values.chunks(BLOCK).zip(residual.chunks_mut(BLOCK)) {
        let sums = block::sums(values, residual);
        let Block { scale, levels } = wide::quantise(&sums);
        out.extend_from_slice(&scale.to_le_bytes());
        out.extend_from_slice(&levels[..values.len()]);
        if scale.is_finite() {
            let scale = scale.to_f32();
            for ((left, sum), level) in residual.iter_mut().zip(&sums).zip(&levels) {
                *left = sum - f32::from(*level as i8) * scale;
            }
        }
    }
}

#[inline(always)]
fn quantise(values: &Values) -> Block {
    let mut levels = [0; BLOCK];
    let Some(greatest) = block::greatest(values) else { return Block { scale: f16::NAN, levels } };
    let scale = block::scale(greatest / TOP);
    let inverse = block::inverse(scale.to_f32());
    for (level, value) in levels.iter_mut().zip(values) {
        *level = ((value * inverse).clamp(-TOP, TOP) + ROUND).to_bits() as u8;
    }
    Block { scale, levels }
}

pub(super) fn check(bytes: &[u8]) -> Result<(), CodecError> {
    for (block, bytes) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let (scale, levels) = split(bytes);
        if !scale.is_finite() {
            return Err(CodecError::NotFinite);
        }
        // A fold without an early end, so that it vectorises.
        if levels.iter().fold(0, |any, level| any | u8::from(*level == 0x80)) != 0 || scale.is_sign_negative() {
            return Err(CodecError::NotCanonical { block });
        }
    }
    Ok(())
}

/// Hands each number of checked bytes to its slot.
#[inline]
pub(super) fn read(bytes: &[u8], out: &mut [f32], put: impl Fn(&mut f32, f32)) {
    for (slots, block) in out.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK_BYTES)) {
        let (scale, levels) = split(block);
        let scale = scale.to_f32();
        slots.iter_mut().zip(levels).for_each(|(slot, level)| put(slot, f32::from(*level as i8) * scale));
    }
}

fn split(block: &[u8]) -> (f16, &[u8]) {
    let (scale, levels) = block.split_first_chunk().expect("every block of the right length begins with a scale");
    (f16::from_le_bytes(*scale), levels)
}

/// What takes the time, for this machine's registers.
mod wide {
    #![allow(unsafe_code)]
    use super::{Block, Values};

    crate::widest! {
        super:
        fn quantise(values: &Values) -> Block;
    }
}
