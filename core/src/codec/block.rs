//! What blocks of eight and of four bits share.
#![allow(clippy::inline_always)]

use half::f16;

/// Numbers in a block.
pub(super) const BLOCK: usize = 128;
/// Added to a number of less than 2^22 in magnitude, it leaves the number's nearest integer (ties to even) in the
/// lowest bits of the sum, in two's complement; subtracted again, the integer itself.
pub(super) const ROUND: f32 = 12_582_912.0;

pub(super) type Values = [f32; BLOCK];

/// What a block is to say: its numbers and what earlier ones lacked, zeros behind the last.
#[inline(always)]
pub(super) fn sums(values: &[f32], residual: &[f32]) -> Values {
    let mut sums = [0.0; BLOCK];
    for ((sum, value), left) in sums.iter_mut().zip(values).zip(residual) {
        *sum = value + left;
    }
    sums
}

/// The greatest magnitude; none if a number is not finite.
#[inline(always)]
pub(super) fn greatest(values: &Values) -> Option<f32> {
    // As integers, the bits of magnitudes keep their order, and NaN and infinity are the greatest.
    let greatest = values.iter().fold(0, |max, x| (x.to_bits() as i32 & i32::MAX).max(max));
    Some(f32::from_bits(greatest as u32)).filter(|x| x.is_finite())
}

/// The scale as it is written. Past `f16`'s range the block saturates; error feedback sends the rest later.
#[inline(always)]
pub(super) fn scale(value: f32) -> f16 {
    f16::from_f32(value.min(f16::MAX.to_f32()))
}

/// One over the scale, with which numbers are multiplied; 0 for scale 0, whose integers are all 0.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}
