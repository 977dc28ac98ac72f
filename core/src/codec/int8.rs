//! Eight-bit blocks: a scale and one integer a number.
//!
//! Decoding is specified in [`super`]; this encoder takes the scale from the greatest magnitude of the block.

use half::f16;

use super::CodecError;

/// Numbers in a block.
const BLOCK: usize = 128;
/// Bytes of a full block.
const BLOCK_BYTES: usize = 2 + BLOCK;
/// The largest integer.
const TOP: f32 = 127.0;

pub(super) const fn encoded_len(n: usize) -> usize {
    let rest = n % BLOCK;
    n / BLOCK * BLOCK_BYTES + if rest == 0 { 0 } else { 2 + rest }
}

pub(super) fn encode(out: &mut Vec<u8>, values: &[f32], residual: &mut [f32]) {
    for (values, residual) in values.chunks(BLOCK).zip(residual.chunks_mut(BLOCK)) {
        let mut sums = [0.0; BLOCK];
        let sums = &mut sums[..values.len()];
        for ((sum, value), left) in sums.iter_mut().zip(values).zip(residual.iter()) {
            *sum = value + left;
        }
        let finite = sums.iter().all(|x| x.is_finite());
        let greatest = sums.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        // Past f16's range the block saturates; error feedback sends the rest later.
        let scale = if finite { f16::from_f32((greatest / TOP).min(f16::MAX.to_f32())) } else { f16::NAN };
        out.extend_from_slice(&scale.to_le_bytes());
        let scale = scale.to_f32();
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (sum, left) in sums.iter().zip(residual) {
            let level = (sum * inverse).clamp(-TOP, TOP).round_ties_even();
            out.push(level as i8 as u8);
            *left = if finite { sum - level * scale } else { *left };
        }
    }
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
