//! How vectors of `f32` are written as bytes: whole weights, updates of workers, differences between versions.
//!
//! The bytes are specified here and in `docs/protocol.md` exactly enough to be written in another language. All
//! numbers are little-endian and lie one after the other, without a header: the reader knows how many it expects.
//!
//! - `f32`: four bytes a number.
//! - `bf16`: the upper two bytes of the `f32`, rounded to nearest, ties to even.
//! - `int8`: blocks of 128 numbers, the last one maybe shorter. A block is a scale as IEEE `f16`, then one byte a
//!   number, a two's complement integer from −127 to 127. A number's value is scale × integer, computed in `f32`. The
//!   scale is finite and not negative; −128 does not occur.
//! - `int4`: the same with one byte for every two numbers: the first in the low four bits, the second in the high
//!   four, each from −7 to 7; −8 does not occur; with an odd count, the last high bits are zero.
//! - `sparse64`, `sparse256`: the 64 (256) numbers of the greatest magnitude of each 4,096, with two magnitudes a block
//!   for all of them; the others are zero. See [`sparse`].
//!
//! Encoding and decoding give the same bits on every machine: only exactly rounded operations, in a fixed order.
//! Numbers that are not finite are refused when decoding; an encoder writes them so that this happens. Which codec
//! a task uses is the coordinator's choice; when to reset a residual is the caller's.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes as _;

mod block;
mod int4;
mod int8;
mod sparse;
#[cfg(test)]
mod tests;

use self::sparse::Sparse;

/// How a vector of numbers is written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Little-endian `f32`.
    F32,
    /// Little-endian bfloat16, rounded to nearest even.
    Bf16,
    /// Blocks of 128 numbers: one scale and 128 eight-bit integers.
    Int8,
    /// Blocks of 128 numbers: one scale and 128 four-bit integers.
    Int4,
    /// 256 numbers of each 4,096, with their signs and one of two magnitudes.
    Sparse256,
    /// 64 numbers of each 4,096, likewise.
    Sparse64,
}

/// Why bytes are not a vector of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The byte count does not fit the count of numbers.
    #[error("{bytes} bytes where {expected} were expected")]
    Length {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that the numbers take, at the most.
        expected: usize,
    },
    /// A number (or a block's scale) is infinite or not a number.
    #[error("a number is not finite")]
    NotFinite,
    /// Blocks alone: an integer or a position out of its range, a negative scale, or bits past the last number. An
    /// encoder that writes integers with an offset instead of two's complement is caught by it at once.
    #[error("block {block} is not of the codec's canonical form (integers, positions and scales in their ranges)")]
    NotCanonical {
        /// Counts the blocks from 0.
        block: usize,
    },
}

/// How much of what sparse updates left out a worker begins its next task with.
const CARRIED: f32 = 0.5;

impl Codec {
    /// All codecs, from the most bytes to the fewest.
    pub const ALL: [Self; 6] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4, Self::Sparse256, Self::Sparse64];

    /// Vectors may be encoded and decoded in parts whose lengths are multiples of it: the parts' bytes are those of the
    /// whole.
    pub const BLOCK: usize = sparse::BLOCK;

    /// How many bytes `n` numbers take: exactly, or, where [`Codec::is_sparse`], at the most.
    pub const fn max_len(self, n: usize) -> usize {
        match self {
            Self::F32 => 4 * n,
            Self::Bf16 => 2 * n,
            Self::Int8 => int8::encoded_len(n),
            Self::Int4 => int4::encoded_len(n),
            Self::Sparse256 => Sparse::K256.max_len(n),
            Self::Sparse64 => Sparse::K64.max_len(n),
        }
    }

    /// Whether `bytes` can be the length of `n` numbers.
    pub const fn fits(self, bytes: usize, n: usize) -> bool {
        let most = self.max_len(n);
        if self.is_sparse() { bytes <= most && (bytes > 0 || n == 0) } else { bytes == most }
    }

    /// Whether most numbers are left out, to be sent later by error feedback, and the length depends on the numbers.
    pub const fn is_sparse(self) -> bool {
        matches!(self, Self::Sparse256 | Self::Sparse64)
    }

    /// Where training from `base` begins, and what of `residual` is then still to be added to its update.
    ///
    /// A sparse update leaves out most of what was trained. Who begins without it trains much of it again, and sends it
    /// twice in the end; who begins with all of it goes its own way, since of what it sends only a share enters the next
    /// version. So it begins with [`CARRIED`] of it.
    pub fn start<'a>(self, base: &'a [f32], residual: &[f32]) -> (Cow<'a, [f32]>, f32) {
        if !self.is_sparse() {
            return (Cow::Borrowed(base), 1.0);
        }
        let own = base.iter().zip(residual).map(|(base, left)| base - CARRIED * left);
        (Cow::Owned(own.collect()), 1.0 - CARRIED)
    }

    /// Writes `values`.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.max_len(values.len()));
        match self {
            Self::F32 => out.extend_from_slice(&le_bytes(values)),
            Self::Bf16 => values.chunks(PART).for_each(|part| put_bf16(&mut out, part)),
            // Blocks are the same with and without feedback; what they lack is dropped here.
            _ => values.chunks(Self::BLOCK).for_each(|part| {
                self.encode_onto(&mut out, part, &mut [0.0; Self::BLOCK][..part.len()]);
            }),
        }
        out
    }

    /// Writes `values` + `residual` and leaves in `residual` what the bytes lack, to be sent with the next vector
    /// (error feedback, Seide et al. 2014): over many rounds nothing is lost. Where the sum is not finite (where there
    /// are blocks: in its whole block), the residual stays as it was.
    pub fn encode_with_feedback(self, values: &[f32], residual: &mut [f32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.max_len(values.len()));
        self.encode_onto(&mut out, values, residual);
        out
    }

    /// [`Codec::encode_with_feedback`], appended to `out`.
    pub fn encode_onto(self, out: &mut Vec<u8>, values: &[f32], residual: &mut [f32]) {
        assert_eq!(values.len(), residual.len(), "a residual belongs to each number");
        match self {
            Self::F32 | Self::Bf16 => {}
            Self::Int8 => return int8::encode(out, values, residual),
            Self::Int4 => return int4::encode(out, values, residual),
            Self::Sparse256 => return Sparse::K256.encode(out, values, residual),
            Self::Sparse64 => return Sparse::K64.encode(out, values, residual),
        }
        let mut sums = [0.0; PART];
        for (values, residual) in values.chunks(PART).zip(residual.chunks_mut(PART)) {
            let sums = &mut sums[..values.len()];
            for ((sum, value), left) in sums.iter_mut().zip(values).zip(residual.iter()) {
                *sum = value + left;
            }
            if self == Self::F32 {
                out.extend_from_slice(&le_bytes(sums));
            } else {
                put_bf16(out, sums);
            }
            for (left, sum) in residual.iter_mut().zip(sums) {
                let sent = if self == Self::F32 { *sum } else { bf16_value(bf16_bits(*sum)) };
                // An infinite or undefined difference comes from such a sum (or from its overflow to one).
                let lacking = *sum - sent;
                *left = if lacking.is_finite() { lacking } else { *left };
            }
        }
    }

    /// Whether `bytes` are `n` finite numbers.
    pub fn check(self, bytes: &[u8], n: usize) -> Result<(), CodecError> {
        if !self.fits(bytes.len(), n) {
            return Err(CodecError::Length { bytes: bytes.len(), expected: self.max_len(n) });
        }
        // A fold without an early end, so that it vectorises: bytes that were accepted are the common case.
        let finite = match self {
            Self::F32 => f32s(bytes).fold(true, |all, x| all & x.is_finite()),
            Self::Bf16 => bf16s(bytes).fold(true, |all, x| all & x.is_finite()),
            Self::Int8 => return int8::check(bytes),
            Self::Int4 => return int4::check(bytes, n),
            Self::Sparse256 => return Sparse::K256.check(bytes, n),
            Self::Sparse64 => return Sparse::K64.check(bytes, n),
        };
        if finite { Ok(()) } else { Err(CodecError::NotFinite) }
    }

    /// Reads `n` numbers.
    pub fn decode(self, bytes: &[u8], n: usize) -> Result<Vec<f32>, CodecError> {
        // Before the allocation: a wrong length must not cost memory.
        self.check(bytes, n)?;
        let mut out = vec![0.0; n];
        self.read(bytes, &mut out, |slot, value| *slot = value);
        Ok(out)
    }

    /// Adds the numbers to `out`; on an error `out` is as before.
    pub fn decode_add(self, bytes: &[u8], out: &mut [f32]) -> Result<(), CodecError> {
        self.check(bytes, out.len())?;
        self.read(bytes, out, |slot, value| *slot += value);
        Ok(())
    }

    /// Hands each number of checked bytes to its slot; gives how many bytes that took.
    #[inline]
    fn read(self, bytes: &[u8], out: &mut [f32], put: impl Fn(&mut f32, f32)) -> usize {
        let length = self.max_len(out.len());
        match self {
            Self::F32 => out.iter_mut().zip(f32s(&bytes[..length])).for_each(|(slot, value)| put(slot, value)),
            Self::Bf16 => out.iter_mut().zip(bf16s(&bytes[..length])).for_each(|(slot, value)| put(slot, value)),
            Self::Int8 => int8::read(&bytes[..length], out, put),
            Self::Int4 => int4::read(&bytes[..length], out, put),
            Self::Sparse256 => return Sparse::K256.read(bytes, out, put),
            Self::Sparse64 => return Sparse::K64.read(bytes, out, put),
        }
        length
    }
}

/// Reads bytes that were checked before ([`Codec::check`]), one part of the numbers after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    codec: Codec,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the first number. Panics later if the bytes are not what [`Codec::check`] accepts.
    pub const fn new(codec: Codec, bytes: &'a [u8]) -> Self {
        Self { codec, rest: bytes }
    }

    /// Leaves out numbers; a multiple of [`Codec::BLOCK`].
    pub fn skip(&mut self, numbers: usize) {
        let used = match self.codec {
            Codec::Sparse256 => Sparse::K256.skip(self.rest, numbers),
            Codec::Sparse64 => Sparse::K64.skip(self.rest, numbers),
            codec => codec.max_len(numbers),
        };
        self.rest = &self.rest[used..];
    }

    /// Adds `factor` times the next numbers to `out`; a multiple of [`Codec::BLOCK`], but for the last ones.
    pub fn add(&mut self, factor: f32, out: &mut [f32]) {
        let used = self.codec.read(self.rest, out, |slot, value| *slot += factor * value);
        self.rest = &self.rest[used..];
    }
}

/// Numbers handled at a time: their sums and bytes stay in the first-level cache.
const PART: usize = 1024;

/// Numbers as the codec `f32` writes them; without a copy where the machine has them so.
pub fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        values.as_bytes().into()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

fn put_bf16(out: &mut Vec<u8>, part: &[f32]) {
    let mut bytes = [0; 2 * PART];
    for (slot, value) in bytes.chunks_exact_mut(2).zip(part) {
        slot.copy_from_slice(&bf16_bits(*value).to_le_bytes());
    }
    out.extend_from_slice(&bytes[..2 * part.len()]);
}

fn f32s(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four))
}

fn bf16s(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&two| bf16_value(u16::from_le_bytes(two)))
}

/// The nearest bfloat16, ties to even; a NaN stays one.
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    // Adding just under half of the last kept bit, and one more if that bit is odd, carries exactly when the nearest
    // (or even) number is the upper one.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN into an infinity or zero; setting a bit of the mantissa keeps it.
    let kept = (bits >> 16) | 0x40;
    (if value.is_nan() { kept } else { rounded }) as u16
}

fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
