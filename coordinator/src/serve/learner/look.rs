//! One look at many numbers: their values, norm and direction, on every core.
//!
//! The numbers are cut into slices of a fixed length, whose sums are added in order: how many cores there are changes
//! no bit of what is found.

use hydra_core::codec::{Codec, CodecError, Reader};
use hydra_core::merge;
use hydra_core::sketch::{Places, Sketch, Slice};

/// A multiple of [`Codec::BLOCK`] and of [`Slice::STRIDE`].
const SLICE: usize = 40 * Codec::BLOCK;
const _: () = assert!(SLICE.is_multiple_of(Slice::STRIDE), "a slice begins where a run does");

/// What there is to see of an update.
pub struct Look {
    pub norm: f64,
    pub sketch: Sketch,
    /// The numbers, if they were wanted.
    pub values: Option<Vec<f32>>,
}

/// Reads an update; `seed` is that of the sketches.
pub fn update(codec: Codec, bytes: &[u8], params: usize, seed: u64, wanted: bool) -> Result<Look, CodecError> {
    // Before the allocation: a wrong length must not cost memory.
    codec.check(bytes, params)?;
    let mut values = wanted.then(|| vec![0.0; params]);
    let reader = |start| {
        let mut reader = Reader::new(codec, bytes);
        reader.skip(start);
        move |_, slice: &mut [f32]| reader.add(1.0, slice)
    };
    let (norm, sketch) = slices(params, values.as_deref_mut(), seed, cores(), reader);
    Ok(Look { norm, sketch, values })
}

/// The direction of the step from the weights of one version to those of the next.
pub fn step(old: &[f32], new: &[f32], seed: u64) -> Sketch {
    let places = Places::new(seed, old.len());
    let subtract = |_| {
        |start: usize, slice: &mut [f32]| {
            // What is not looked at is left out.
            for run in places.runs(start, slice.len()) {
                let into = &mut slice[run.start - start..run.end - start];
                for ((step, old), new) in into.iter_mut().zip(&old[run.clone()]).zip(&new[run]) {
                    *step = old - new;
                }
            }
        }
    };
    slices(old.len(), None, seed, cores(), subtract).1
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Has `n` numbers filled in slice by slice, on so many threads, and gives their norm and direction. `begin` makes what
/// fills the slices from a place on, each in its turn, with its place; it finds zeros there. Without `values` the
/// numbers are not kept.
fn slices<F: FnMut(usize, &mut [f32])>(
    n: usize,
    values: Option<&mut [f32]>,
    seed: u64,
    threads: usize,
    begin: impl Fn(usize) -> F + Sync,
) -> (f64, Sketch) {
    let places = Places::new(seed, n);
    let length = n.div_ceil(SLICE).div_ceil(threads.max(1)).max(1) * SLICE;
    let work = |first: usize, mut part: Option<&mut [f32]>| {
        let mut fill = begin(first);
        let mut room = vec![0.0; if part.is_some() { 0 } else { SLICE }];
        let look = |start: usize| {
            let size = SLICE.min(n - start);
            let slice = if let Some(part) = &mut part {
                &mut part[start - first..][..size]
            } else {
                room.fill(0.0);
                &mut room[..size]
            };
            fill(start, slice);
            (merge::squares(slice), Slice::new(slice, start, places))
        };
        (first..n.min(first + length)).step_by(SLICE).map(look).collect::<Vec<_>>()
    };
    let mut parts = values.map(|values| values.chunks_mut(length));
    let parts = (0..n).step_by(length).map(|first| (first, parts.as_mut().and_then(Iterator::next)));
    let looked: Vec<(f64, Slice)> = if length >= n {
        parts.flat_map(|(first, part)| work(first, part)).collect()
    } else {
        std::thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = parts.map(|(first, part)| scope.spawn(move || work(first, part))).collect();
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
        let n = 7 * SLICE + 777;
        let mut rng = Rng::new(3);
        let numbers: Vec<f32> = (0..n).map(|_| 0.01 * rng.normal() as f32).collect();
        for codec in [Codec::Int4, Codec::Sparse64, Codec::F32] {
            let bytes = codec.encode(&numbers);
            let seen = update(codec, &bytes, n, 7, true).unwrap();
            let expected = codec.decode(&bytes, n).unwrap();
            assert!(
                seen.values.as_ref() == Some(&expected) && (seen.norm / merge::norm(&expected) - 1.0).abs() < 1e-12,
                "{codec:?}"
            );
            assert!(seen.sketch.cosine(&Sketch::new(&expected, 7)) > 0.999_999, "{codec:?}");
            for threads in [1, 2, 3] {
                let reader = |start| {
                    let mut reader = Reader::new(codec, &bytes);
                    reader.skip(start);
                    move |_: usize, slice: &mut [f32]| reader.add(1.0, slice)
                };
                let mut values = vec![0.0; n];
                let found = slices(n, Some(&mut values), 7, threads, reader);
                assert!(values == expected && found == (seen.norm, seen.sketch.clone()), "{codec:?} on {threads}");
                assert!(slices(n, None, 7, threads, reader) == found, "{codec:?} on {threads}, not kept");
            }
        }
        let moved: Vec<f32> = numbers.iter().map(|x| x - 0.5).collect();
        assert!(step(&numbers, &moved, 7).cosine(&Sketch::new(&vec![0.5; n], 7)) > 0.9999);
        assert!(update(Codec::Int4, &[0; 10], n, 7, false).is_err());
    }
}
