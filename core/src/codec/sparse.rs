//! Sparse blocks: of each 4,096 numbers the few of the greatest magnitude, with their signs and one bit of magnitude.
//!
//! A vector is cut into blocks of [`BLOCK`] numbers, the last one maybe shorter. A block of *b* numbers keeps
//! ⌈keep × *b* / 4,096⌉ of them and is written as
//!
//! - two magnitudes as IEEE `f16`, the smaller first: finite, not negative;
//! - for each kept number, in the order of their places: the gap (how many numbers lie between it and the kept one
//!   before it, or the block's beginning) in Rice's code (its upper bits as so many ones and a zero, then its
//!   lowest bits, the lowest first), then one bit for the sign (1: negative), then one for the magnitude (1: the
//!   larger);
//! - zero bits up to the next whole byte.
//!
//! Bits fill a byte from the lowest. Numbers that are not kept are zero. The shape is SparseLoCo's (arXiv 2508.15706:
//! 64 of each 4,096 with two bits each), which sends what was left out by error feedback.

use half::f16;

use super::CodecError;

/// Numbers in a block.
pub(super) const BLOCK: usize = 4096;
/// Rounds of Lloyd's algorithm that place the two magnitudes.
const LLOYD: usize = 4;

/// How many numbers are kept, and how gaps between them are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sparse {
    /// Of a full block.
    keep: usize,
    /// Low bits of a gap that are written as they are: about log₂(ln 2 × the mean gap), the best for random places.
    rice: u32,
}

impl Sparse {
    pub(super) const K64: Self = Self { keep: 64, rice: 5 };
    pub(super) const K256: Self = Self { keep: 256, rice: 3 };

    const fn kept(self, block: usize) -> usize {
        (self.keep * block).div_ceil(BLOCK)
    }

    const fn max_block(self, block: usize) -> usize {
        let kept = self.kept(block);
        // Each number has a zero, its low bits, sign and magnitude; all gaps together are the numbers not kept.
        4 + (kept * (3 + self.rice as usize) + ((block - kept) >> self.rice)).div_ceil(8)
    }

    pub(super) const fn max_len(self, n: usize) -> usize {
        let rest = n % BLOCK;
        // Saturates, so that an absurd count cannot look small.
        let last = if rest == 0 { 0 } else { self.max_block(rest) };
        (n / BLOCK).saturating_mul(self.max_block(BLOCK)).saturating_add(last)
    }

    pub(super) fn encode(self, out: &mut Vec<u8>, values: &[f32], residual: &mut [f32]) {
        let mut sums = [0.0; BLOCK];
        let mut places = Vec::with_capacity(self.keep);
        for (values, residual) in values.chunks(BLOCK).zip(residual.chunks_mut(BLOCK)) {
            let sums = &mut sums[..values.len()];
            for ((sum, value), left) in sums.iter_mut().zip(values).zip(residual.iter()) {
                *sum = value + left;
            }
            let finite = sums.iter().all(|x| x.is_finite());
            greatest(sums, self.kept(sums.len()), &mut places);
            let (small, large, middle) = if finite { magnitudes(sums, &places) } else { (f16::NAN, f16::NAN, 0.0) };
            out.extend_from_slice(&small.to_le_bytes());
            out.extend_from_slice(&large.to_le_bytes());
            let levels = [small.to_f32(), large.to_f32()];
            let mut bits = BitWriter { out, word: 0, used: 0 };
            let mut next = 0;
            for &place in &places {
                let (sum, high) = (sums[place], sums[place].abs() >= middle);
                self.put_gap(&mut bits, place - next);
                bits.put(u64::from(sum.is_sign_negative()) | (u64::from(high) << 1), 2);
                next = place + 1;
                sums[place] = sum - levels[usize::from(high)].copysign(sum);
            }
            bits.finish();
            if finite {
                residual.copy_from_slice(sums);
            }
        }
    }

    fn put_gap(self, bits: &mut BitWriter<'_>, gap: usize) {
        for _ in 0..gap >> self.rice {
            bits.put(1, 1);
        }
        bits.put(0, 1);
        bits.put(gap as u64 & ((1 << self.rice) - 1), self.rice);
    }

    pub(super) fn check(self, bytes: &[u8], n: usize) -> Result<(), CodecError> {
        let mut rest = bytes;
        for (index, start) in (0..n).step_by(BLOCK).enumerate() {
            let block = BLOCK.min(n - start);
            let wrong = CodecError::NotCanonical { block: index };
            let (levels, body) = split(rest).ok_or(wrong)?;
            if levels.iter().any(|level| !level.is_finite()) {
                return Err(CodecError::NotFinite);
            }
            if levels.iter().any(|level| level.is_sign_negative()) || levels[0] > levels[1] {
                return Err(wrong);
            }
            let used = self.walk(body, block, |_, _, _| ()).ok_or(wrong)?;
            rest = &body[used..];
        }
        // What is left over belongs to no block.
        if rest.is_empty() { Ok(()) } else { Err(CodecError::NotCanonical { block: n.div_ceil(BLOCK) }) }
    }

    /// Hands each number of checked bytes to its slot; gives how many bytes that took.
    #[inline]
    pub(super) fn read(self, bytes: &[u8], out: &mut [f32], put: impl Fn(&mut f32, f32)) -> usize {
        let mut rest = bytes;
        for slots in out.chunks_mut(BLOCK) {
            let mut values = [0.0; BLOCK];
            let (levels, body) = split(rest).expect("checked bytes have all their blocks");
            let levels = levels.map(f16::to_f32);
            let used = self.walk(body, slots.len(), |place, negative, high| {
                let level = levels[usize::from(high)];
                values[place] = if negative { -level } else { level };
            });
            rest = &body[used.expect("checked bytes are of the canonical form")..];
            slots.iter_mut().zip(&values).for_each(|(slot, value)| put(slot, *value));
        }
        bytes.len() - rest.len()
    }

    /// How many of the checked bytes the first `n` numbers take.
    pub(super) fn skip(self, bytes: &[u8], n: usize) -> usize {
        let mut rest = bytes;
        for start in (0..n).step_by(BLOCK) {
            let (_, body) = split(rest).expect("checked bytes have all their blocks");
            let used = self.walk(body, BLOCK.min(n - start), |_, _, _| ());
            rest = &body[used.expect("checked bytes are of the canonical form")..];
        }
        bytes.len() - rest.len()
    }

    /// Shows each kept number of a block (place, whether negative, whether the larger magnitude) and gives the bytes
    /// that they took; nothing if they are not of the canonical form.
    fn walk(self, body: &[u8], block: usize, mut each: impl FnMut(usize, bool, bool)) -> Option<usize> {
        let mut bits = BitReader { bytes: body, at: 0 };
        let mut next = 0;
        for _ in 0..self.kept(block) {
            let mut upper = 0;
            while bits.take(1)? == 1 {
                upper += 1;
                // No gap reaches beyond the block, so this ends.
                if upper << self.rice >= block {
                    return None;
                }
            }
            let place = next + ((upper << self.rice) | bits.take(self.rice)? as usize);
            if place >= block {
                return None;
            }
            let (negative, high) = (bits.take(1)? == 1, bits.take(1)? == 1);
            each(place, negative, high);
            next = place + 1;
        }
        bits.finish()
    }
}

fn split(bytes: &[u8]) -> Option<([f16; 2], &[u8])> {
    let (head, body) = bytes.split_first_chunk::<4>()?;
    Some(([f16::from_le_bytes([head[0], head[1]]), f16::from_le_bytes([head[2], head[3]])], body))
}

/// The places of the `keep` numbers of the greatest magnitude, in order; among equals the first ones.
fn greatest(sums: &[f32], keep: usize, places: &mut Vec<usize>) {
    // As integers, the bits of magnitudes keep their order, and NaN and infinity are the greatest.
    let size = |x: &f32| x.to_bits() & (u32::MAX >> 1);
    let mut sizes = [0; BLOCK];
    let sizes = &mut sizes[..sums.len()];
    for (slot, x) in sizes.iter_mut().zip(sums) {
        *slot = size(x);
    }
    let last = sizes.len() - keep;
    let (_, &mut least, above) = sizes.select_nth_unstable(last);
    let mut equals = keep - above.iter().filter(|x| **x > least).count();
    places.clear();
    for (place, x) in sums.iter().enumerate() {
        let size = size(x);
        if size > least {
            places.push(place);
        } else if size == least && equals > 0 {
            equals -= 1;
            places.push(place);
        }
    }
}

/// Two magnitudes for the kept numbers, and the border between them: Lloyd's algorithm from their mean.
fn magnitudes(sums: &[f32], places: &[usize]) -> (f16, f16, f32) {
    let total: f32 = places.iter().map(|place| sums[*place].abs()).sum();
    let mut middle = total / places.len().max(1) as f32;
    let (mut small, mut large) = (middle, middle);
    for _ in 0..LLOYD {
        let (mut low, mut high) = ((0.0f32, 0u32), (0.0f32, 0u32));
        for place in places {
            let x = sums[*place].abs();
            let side = if x >= middle { &mut high } else { &mut low };
            *side = (side.0 + x, side.1 + 1);
        }
        // All may lie on one side, when they are equal.
        large = if high.1 > 0 { high.0 / high.1 as f32 } else { middle };
        small = if low.1 > 0 { low.0 / low.1 as f32 } else { large };
        middle = f32::midpoint(small, large);
    }
    let (small, large) = rounded(small, large);
    (small, large, middle)
}

/// The means of the smaller and of the larger magnitudes as they are written.
pub(super) fn rounded(small: f32, large: f32) -> (f16, f16) {
    // Where all magnitudes are almost equal, their sums' rounding may put the means in the other order.
    let (small, large) = (small.min(large), small.max(large));
    // Past f16's range the block saturates; error feedback sends the rest later.
    let round = |x: f32| f16::from_f32(x.min(f16::MAX.to_f32()));
    (round(small), round(large))
}

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    word: u64,
    used: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.used;
        self.used += count;
        while self.used >= 8 {
            self.out.push(self.word as u8);
            self.word >>= 8;
            self.used -= 8;
        }
    }

    fn finish(self) {
        if self.used > 0 {
            self.out.push(self.word as u8);
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    /// The next few bits, at most 8.
    fn take(&mut self, count: u32) -> Option<u32> {
        let (byte, bit) = (self.at / 8, self.at % 8);
        let end = self.at + count as usize;
        if end > 8 * self.bytes.len() {
            return None;
        }
        let low = u32::from(self.bytes[byte]);
        let high = self.bytes.get(byte + 1).map_or(0, |next| u32::from(*next) << 8);
        self.at = end;
        Some(((low | high) >> bit) & ((1 << count) - 1))
    }

    /// The bytes that were read, if the last one's unused bits are zero.
    fn finish(self) -> Option<usize> {
        let used = self.at.div_ceil(8);
        let clean = self.at.is_multiple_of(8) || self.bytes[used - 1] >> (self.at % 8) == 0;
        clean.then_some(used)
    }
}
