//! Memory of large matrices, on large pages where the system gives them.
//!
//! Who draws a token reads every weight once. On pages of 4 KiB the processor spends a good part of that time on
//! finding out where the next one lies; Linux gives pages of 2 MiB only to those that ask for them.

use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;
use zerocopy::FromBytes;

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// From so many bytes on they are worth a large page; with less, most of one would lie idle.
const WORTH: usize = LARGE / 4;

/// As many numbers as were asked for, zero at first.
pub(super) enum Numbers {
    Few(Vec<f32>),
    /// Where in memory of their own their bytes lie.
    Many(MmapMut, Range<usize>),
}

impl Numbers {
    pub fn new(count: usize) -> Self {
        let bytes = count * size_of::<f32>();
        // Without large pages it is as right, only slower.
        let many = if bytes < WORTH { None } else { large(bytes) };
        many.map_or_else(|| Self::Few(vec![0.0; count]), |(memory, part)| Self::Many(memory, part))
    }
}

/// Memory, and the part of it that begins where a large page does.
#[cfg(target_os = "linux")]
fn large(bytes: usize) -> Option<(MmapMut, Range<usize>)> {
    let memory = MmapMut::map_anon(bytes.next_multiple_of(LARGE) + LARGE).ok()?;
    memory.advise(memmap2::Advice::HugePage).ok()?;
    let first = memory.as_ptr().align_offset(LARGE);
    Some((memory, first..first + bytes))
}

#[cfg(not(target_os = "linux"))]
fn large(_: usize) -> Option<(MmapMut, Range<usize>)> {
    None
}

const WHOLE: &str = "a page begins where a number may, and holds whole ones";

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Few(numbers) => numbers,
            Self::Many(memory, part) => <[f32]>::ref_from_bytes(&memory[part.clone()]).expect(WHOLE),
        }
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Few(numbers) => numbers,
            Self::Many(memory, part) => <[f32]>::mut_from_bytes(&mut memory[part.clone()]).expect(WHOLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_hold_what_is_put_there() {
        for count in [1, WORTH / 4 - 1, WORTH / 4, LARGE / 4, LARGE / 4 + 1, LARGE] {
            let mut numbers = Numbers::new(count);
            assert_eq!(numbers.len(), count);
            assert!(numbers.iter().all(|number| *number == 0.0));
            let values = || (0..=u16::MAX).cycle().map(f32::from);
            numbers.iter_mut().zip(values()).for_each(|(number, value)| *number = value);
            assert!(numbers.iter().copied().eq(values().take(count)));
        }
    }
}
