//! One look at many numbers: their values, norm and direction, on every core.
//!
//! The numbers are cut into slices of a fixed length, whose sums are added in order: how many cores there are changes
//! no bit of what is found.

use hydra_core::codec::{Codec, CodecError, Reader};
use hydra_core::merge;
use hydra_core::sketch::{Sketch, Slice};

/// A multiple of [`Codec::BLOCK`] and of [`Slice::STRIDE`].
const SLICE: usize = 8 * Slice::STRIDE * Codec::BLOCK;

/// What there is to see of an update.
pub struct Look {
    pub values: Vec<f32>,
    pub norm: f64,
    pub sketch: Sketch,
}

/// Reads an update; `seed` is that of the sketches.
pub fn update(codec: Codec, bytes: &[u8], params: usize, seed: u64) -> Result<Look, CodecError> {
    // Before the allocation: a wrong length must not cost memory.
    codec.check(bytes, params)?;
    let mut values = vec![0.0; params];
    let reader = |start| {
        let mut reader = Reader::new(codec, bytes);
        reader.skip(start);
        move |_, slice: &mut [f32]| reader.add(1.0, slice)
    };
    let (norm, sketch) = slices(&mut values, seed, cores(), reader);
    Ok(Look { values, norm, sketch })
}

/// The direction of the step from the weights of one version to those of the next.
pub fn step(old: &[f32], new: &[f32], seed: u64) -> Sketch {
    let mut step = vec![0.0; old.len()];
    let subtract = |_| {
        |start: usize, slice: &mut [f32]| {
            for ((step, old), new) in slice.iter_mut().zip(&old[start..]).zip(&new[start..]) {
                *step = old - new;
            }
        }
    };
    slices(&mut step, seed, cores(), subtract).1
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Fills `values` slice by slice, on so many threads, and gives their norm and direction. `begin` makes what fills the
/// slices from a place on, each in its turn, with its place.
fn slices<F: FnMut(usize, &mut [f32])>(
    values: &mut [f32],
    seed: u64,
    threads: usize,
    begin: impl Fn(usize) -> F + Sync,
) -> (f64, Sketch) {
    let length = values.len().div_ceil(SLICE).div_ceil(threads.max(1)).max(1) * SLICE;
    let work = |first: usize, part: &mut [f32]| {
        let mut fill = begin(first);
        let look = |(place, slice): (usize, &mut [f32])| {
            let start = first + place * SLICE;
            fill(start, slice);
            (merge::squares(slice), Slice::new(slice, start, seed))
        };
        part.chunks_mut(SLICE).enumerate().map(look).collect::<Vec<_>>()
    };
    let looked = if length >= values.len() {
        work(0, values)
    } else {
        std::thread::scope(|scope| {
            let parts = values.chunks_mut(length).enumerate();
            let running: Vec<_> = parts.map(|(place, part)| scope.spawn(move || work(place * length, part))).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("checked bytes can be read")).collect()
        })
    };
    let (squares, sketches): (Vec<f64>, Vec<Slice>) = looked.into_iter().unzip();
    (squares.iter().sum::<f64>().sqrt(), Sketch::of(&sketches))
}

#[cfg(test)]
mod tests {
    use hydra_core::rng::Rng;

    use super::*;

    #[test]
    fn the_number_of_cores_changes_nothing_and_all_is_read() {
        let n = 2 * SLICE + 777;
        let mut rng = Rng::new(3);
        let numbers: Vec<f32> = (0..n).map(|_| 0.01 * rng.normal() as f32).collect();
        for codec in [Codec::Int4, Codec::Sparse64, Codec::F32] {
            let bytes = codec.encode(&numbers);
            let seen = update(codec, &bytes, n, 7).unwrap();
            let expected = codec.decode(&bytes, n).unwrap();
            assert!(seen.values == expected && (seen.norm / merge::norm(&expected) - 1.0).abs() < 1e-12, "{codec:?}");
            assert!(seen.sketch.cosine(&Sketch::new(&expected, 7)) > 0.999_999, "{codec:?}");
            for threads in [1, 2, 3] {
                let reader = |start| {
                    let mut reader = Reader::new(codec, &bytes);
                    reader.skip(start);
                    move |_: usize, slice: &mut [f32]| reader.add(1.0, slice)
                };
                let mut values = vec![0.0; n];
                let found = slices(&mut values, 7, threads, reader);
                assert!(values == expected && found == (seen.norm, seen.sketch.clone()), "{codec:?} on {threads}");
            }
        }
        let moved: Vec<f32> = numbers.iter().map(|x| x - 0.5).collect();
        assert!(step(&numbers, &moved, 7).cosine(&Sketch::new(&vec![0.5; n], 7)) > 0.9999);
        assert!(update(Codec::Int4, &[0; 10], n, 7).is_err());
    }
}
