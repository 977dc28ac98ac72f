//! Sketches: a few numbers that stand for a long vector, so that directions of many updates can be compared without
//! keeping the updates.
//!
//! A count sketch (Charikar, Chen and Farach-Colton 2002): each number is added, with a sign, to one of
//! [`Sketch::SIZE`] sums; place and sign follow from a seeded hash of its index. The dot product of two sketches is
//! that of their vectors but for an error of about √(2 / `SIZE`) of the product of their norms (0.04 here), and
//! vectors that are multiples of each other have sketches that are, exactly. So a copy is always seen, and what is not
//! like anything is taken for a copy by nobody's chance.
//!
//! Of a long vector only a quarter is looked at, in runs that follow from the seed as well: it tells as much about a
//! direction, at a quarter of the cost.
//!
//! Who knows the seed can make vectors that look alike without being so; that gains nothing but a refusal.

use std::ops::Range;

use crate::rng::Rng;

/// Numbers of a run, a multiple of [`STRIDE`].
const RUN: usize = 64 * STRIDE;
/// Numbers whose places come from one of the generator's.
const STRIDE: usize = 5;
/// Vectors from this length on are looked at in part.
const LONG: usize = 1 << 20;

/// Which numbers of vectors of one length are looked at, and which sums they enter.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    seed: u64,
    /// One in so many runs.
    every: u64,
}

impl Places {
    /// For vectors of `length` numbers.
    pub fn new(seed: u64, length: usize) -> Self {
        Self { seed, every: if length < LONG { 1 } else { 4 } }
    }

    /// The runs to look at among `length` numbers from `start` on, a multiple of [`Slice::STRIDE`].
    pub fn runs(self, start: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
        let end = start + length;
        let first = (start / RUN) as u64;
        // Another stretch of the generator than that of the places.
        let mut rng = Rng::after(!self.seed, first);
        let picked = (start..end).step_by(RUN).filter(move |_| rng.next_u64().is_multiple_of(self.every));
        picked.map(move |run| run..end.min(run + RUN))
    }
}

/// What is kept of a vector's direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch(Box<[f32]>);

/// What a slice of a vector adds to its sketch.
#[derive(Debug, Clone)]
pub struct Slice(Box<[f64]>);

impl Slice {
    /// A slice begins at a multiple of this.
    pub const STRIDE: usize = RUN;

    /// Of the numbers from `start` on, a multiple of [`Slice::STRIDE`].
    pub fn new(values: &[f32], start: usize, places: Places) -> Self {
        let mut sums = vec![0.0_f64; Sketch::SIZE].into_boxed_slice();
        for run in places.runs(start, values.len()) {
            let mut rng = Rng::after(places.seed, (run.start / STRIDE) as u64);
            // Five draws of twelve bits from one of the generator's numbers: ten for the place, one for the sign.
            for part in values[run.start - start..run.end - start].chunks(STRIDE) {
                let mut bits = rng.next_u64();
                for value in part {
                    // The sign by its bit: a branch would be guessed wrong half of the time.
                    let signed = f64::from(*value).to_bits() ^ ((bits & 0x400) << 53);
                    sums[(bits & 0x3ff) as usize] += f64::from_bits(signed);
                    bits >>= 12;
                }
            }
        }
        Self(sums)
    }
}

impl Sketch {
    /// How many sums.
    pub const SIZE: usize = 1024;

    /// The sketch of `values`, scaled to length 1; all zero for a vector without direction. Sketches are comparable if
    /// made with the same seed.
    pub fn new(values: &[f32], seed: u64) -> Self {
        Self::of(&[Slice::new(values, 0, Places::new(seed, values.len()))])
    }

    /// The same from all slices of a vector.
    pub fn of(slices: &[Slice]) -> Self {
        let mut sums = [0.0_f64; Self::SIZE];
        for slice in slices {
            sums.iter_mut().zip(&slice.0).for_each(|(sum, part)| *sum += part);
        }
        let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        let scale = if norm > 0.0 && norm.is_finite() { 1.0 / norm } else { 0.0 };
        Self(sums.iter().map(|sum| (sum * scale) as f32).collect())
    }

    /// About the cosine of the angle between the two vectors.
    pub fn cosine(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..20_000).map(|_| rng.normal() as f32).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        Sketch::new(a, 7).cosine(&Sketch::new(b, 7))
    }

    #[test]
    fn multiples_are_recognised_exactly() {
        let a = normal(1);
        for factor in [1.0, 0.001, -1.0, 30.0] {
            let b: Vec<f32> = a.iter().map(|x| factor * x).collect();
            assert!((cosine(&a, &b) - f64::from(factor.signum())).abs() < 1e-5);
        }
    }

    #[test]
    fn cosines_are_estimated() {
        let (a, b) = (normal(1), normal(2));
        // √(1 − c²) of the other direction beside c of the first.
        for c in [0.0, 0.5, 0.9, 0.99] {
            let rest = f32::sqrt(1.0 - c * c);
            let mix: Vec<f32> = a.iter().zip(&b).map(|(a, b)| c * a + rest * b).collect();
            let error = cosine(&a, &mix) - f64::from(c);
            assert!(error.abs() < 0.1 * f64::from(rest).max(0.05), "{c}: {error}");
        }
    }

    #[test]
    fn slices_give_the_sketch_of_the_whole() {
        let values = normal(4);
        let length = 16 * Slice::STRIDE;
        let places = Places::new(7, values.len());
        let slices: Vec<_> =
            values.chunks(length).enumerate().map(|(n, part)| Slice::new(part, length * n, places)).collect();
        let (whole, sliced) = (Sketch::new(&values, 7), Sketch::of(&slices));
        assert!(whole.0.iter().zip(&sliced.0).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_quarter_of_a_long_vector_tells_as_much() {
        let places = Places::new(7, LONG);
        let looked = places.runs(0, LONG).map(|run| run.len()).sum::<usize>();
        assert!(looked.abs_diff(LONG / 4) < LONG / 40, "{looked}");
        let mut rng = Rng::new(1);
        let a: Vec<f32> = (0..LONG).map(|_| rng.normal() as f32).collect();
        let mix: Vec<f32> = a.iter().map(|a| 0.8 * a + 0.6 * rng.normal() as f32).collect();
        let halved: Vec<f32> = a.iter().map(|a| -0.5 * a).collect();
        assert!((cosine(&a, &mix) - 0.8).abs() < 0.1 && (cosine(&a, &halved) + 1.0).abs() < 1e-5);
    }

    #[test]
    fn nothing_is_like_nothing() {
        let zero = Sketch::new(&[0.0; 10], 7);
        assert!(zero.cosine(&zero).abs() < f64::EPSILON);
        assert!(Sketch::new(&[], 7).cosine(&zero).abs() < f64::EPSILON);
    }
}
