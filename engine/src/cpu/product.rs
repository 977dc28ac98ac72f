//! Products of few rows with a large matrix, for drawing tokens: each weight is read once, whoever waits for it.
//!
//! A matrix lies in [`Panels`] of [`LANES`] outputs, inputs after one another, so that the wide registers hold one
//! output each and nothing is summed across them. Every output is one chain of multiply-adds in the inputs' order:
//! its bits depend on neither how many rows are multiplied at once nor on the registers' width. That is what lets an
//! answer be the same alone and in company, and a prompt the same in one pass and token by token.
//!
//! Large batches, as in training, are libtorch's.
#![allow(clippy::inline_always)]

use std::ops::Range;

use super::wide::Registers;

/// Outputs of a panel.
pub(super) const LANES: usize = 16;

/// Bytes of panels that stay in a core's own cache while row after row is multiplied with them.
const CACHED: usize = 512 << 10;

/// A matrix `[outputs, inputs]`, ready to be multiplied; the last panel is filled up with zeros.
pub(crate) struct Panels {
    outputs: usize,
    inputs: usize,
    numbers: Vec<f32>,
}

impl Panels {
    /// From rows of `inputs` numbers, one row an output.
    pub fn new(matrix: &[f32], inputs: usize) -> Self {
        let outputs = matrix.len() / inputs;
        let mut numbers = vec![0.0; outputs.next_multiple_of(LANES) * inputs];
        for (rows, panel) in matrix.chunks(LANES * inputs).zip(numbers.chunks_exact_mut(LANES * inputs)) {
            for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                for (numbers, weight) in panel.chunks_exact_mut(LANES).zip(row) {
                    numbers[lane] = *weight;
                }
            }
        }
        Self { outputs, inputs, numbers }
    }

    /// How many outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// All of it.
    pub fn whole(&self) -> Part<'_> {
        self.part(0..self.panels())
    }

    /// Some of its panels.
    pub fn part(&self, panels: Range<usize>) -> Part<'_> {
        let Self { outputs, inputs, ref numbers } = *self;
        // The last panel may not be full.
        let [first, end] = [panels.start, panels.end].map(|panel| outputs.min(panel * LANES));
        let size = LANES * inputs;
        Part {
            inputs,
            outputs: end - first,
            numbers: &numbers[panels.start * size..panels.end * size],
            first,
            row: outputs,
        }
    }

    /// How many panels.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// How many inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The weights of one output, in the inputs' order.
    pub fn row(&self, output: usize) -> impl Iterator<Item = f32> {
        let panel = &self.numbers[output / LANES * LANES * self.inputs..][..LANES * self.inputs];
        panel[output % LANES..].iter().step_by(LANES).copied()
    }
}

/// Some panels of a matrix, and where their outputs go in a row of a product.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    inputs: usize,
    outputs: usize,
    numbers: &'a [f32],
    /// Place of the first output.
    first: usize,
    /// Numbers in a row of outputs.
    row: usize,
}

impl Part<'_> {
    /// To rows that hold nothing else.
    pub fn apart(self) -> Self {
        Self { first: 0, row: self.outputs, ..self }
    }

    /// How many outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Room for the inputs as [`multiply`] wants them.
#[derive(Default)]
pub(crate) struct Room(Vec<f32>);

/// How many of the rows that are left to take at once; a number that there is a tile for.
fn block(left: usize) -> usize {
    match left {
        8.. => 8,
        3.. => 4,
        _ => left,
    }
}

/// `out = rows · matrix'`: `[rows, outputs]` from `[rows, inputs]`.
#[inline(always)]
pub(super) fn multiply<R: Registers>(matrix: Part<'_>, rows: &[f32], room: &mut Room, out: &mut [f32]) {
    let Part { inputs, numbers, row: outputs, first: place, .. } = matrix;
    let count = rows.len() / inputs;
    // Blocks of rows side by side, input after input; rows that only fill a block up are zeros.
    room.0.clear();
    let mut blocks = Vec::with_capacity(count / 4 + 2);
    let mut at = 0;
    while at < count {
        let size = block(count - at);
        let start = room.0.len();
        room.0.resize(start + size * inputs, 0.0);
        let taken = size.min(count - at);
        for (place, row) in rows[at * inputs..(at + taken) * inputs].chunks_exact(inputs).enumerate() {
            for (block, x) in room.0[start..].chunks_exact_mut(size).zip(row) {
                block[place] = *x;
            }
        }
        blocks.push((size, at, taken, start));
        at += taken;
    }
    let group = (CACHED / (4 * LANES * inputs)).max(4) * LANES;
    for (index, panels) in numbers.chunks(group * inputs).enumerate() {
        let first = place + index * group;
        for &(size, at, taken, start) in &blocks {
            let block = &room.0[start..][..size * inputs];
            let out = Rows { numbers: &mut out[at * outputs..(at + taken) * outputs], outputs, first };
            match size {
                1 => each_tile::<1, 1, 4, R>(panels, inputs, block, out),
                2 => each_tile::<2, 2, 2, R>(panels, inputs, block, out),
                8 if R::MANY => each_tile::<8, 8, 2, R>(panels, inputs, block, out),
                8 => each_tile::<8, 4, 1, R>(panels, inputs, block, out),
                _ if R::MANY => each_tile::<4, 4, 2, R>(panels, inputs, block, out),
                _ => each_tile::<4, 4, 1, R>(panels, inputs, block, out),
            }
        }
    }
}

/// Where the outputs from `first` on of a block's rows go.
struct Rows<'a> {
    /// `[rows, outputs]`.
    numbers: &'a mut [f32],
    outputs: usize,
    first: usize,
}

impl Rows<'_> {
    /// Sums of one row; rows and outputs that only fill a tile up go nowhere.
    #[inline(always)]
    fn put(&mut self, row: usize, output: usize, sums: [f32; LANES]) {
        let Some(row) = self.numbers.get_mut(row * self.outputs..(row + 1) * self.outputs) else { return };
        let out = row.get_mut(self.first + output..).unwrap_or_default();
        match out.first_chunk_mut() {
            Some(out) => *out = sums,
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// All panels with one block of `ROWS` rows, `WIDE` panels at once as long as there are so many, `HELD` rows after one
/// another: as many sums as registers hold.
#[inline(always)]
fn each_tile<const ROWS: usize, const HELD: usize, const WIDE: usize, R: Registers>(
    panels: &[f32],
    inputs: usize,
    block: &[f32],
    mut out: Rows<'_>,
) {
    let (block, _) = block.as_chunks::<ROWS>();
    let (mut left, _) = panels.as_chunks::<LANES>();
    let mut output = 0;
    while let Some((tile, next)) = left.split_at_checked(WIDE * inputs) {
        for first in (0..ROWS).step_by(HELD) {
            for (sums, panel) in sums::<ROWS, HELD, WIDE, R>(tile, next, block, first).iter().zip(0..) {
                let output = output + panel * LANES;
                sums.iter().zip(first..).for_each(|(sums, row)| out.put(row, output, R::numbers(*sums)));
            }
        }
        output += WIDE * LANES;
        left = next;
    }
    while let Some((tile, next)) = left.split_at_checked(inputs) {
        for first in (0..ROWS).step_by(HELD) {
            let [sums] = sums::<ROWS, HELD, 1, R>(tile, next, block, first);
            sums.iter().zip(first..).for_each(|(sums, row)| out.put(row, output, R::numbers(*sums)));
        }
        output += LANES;
        left = next;
    }
}

/// The outputs of `WIDE` panels for `HELD` rows from the `first` on. With the last rows the processor is told of the
/// `next` panels: told before, it might forget the ones at hand.
#[inline(always)]
fn sums<const ROWS: usize, const HELD: usize, const WIDE: usize, R: Registers>(
    panels: &[[f32; LANES]],
    next: &[[f32; LANES]],
    block: &[[f32; ROWS]],
    first: usize,
) -> [[R::Sums; HELD]; WIDE] {
    let inputs = block.len();
    let tell = ROWS > 1 && first + HELD == ROWS && next.len() >= WIDE * inputs;
    let next = if tell { next } else { panels };
    let weights: [_; WIDE] = std::array::from_fn(|panel| &panels[panel * inputs..][..inputs]);
    let soon: [_; WIDE] = std::array::from_fn(|panel| &next[panel * inputs..][..inputs]);
    let mut sums = [[R::zero(); HELD]; WIDE];
    for (at, row) in block.iter().enumerate() {
        if tell {
            for soon in soon {
                R::soon(&soon[at]);
            }
        }
        let row: &[f32; HELD] = row[first..].first_chunk().expect("a part of the rows");
        for (weights, sums) in weights.iter().zip(&mut sums) {
            for (x, sum) in row.iter().zip(sums) {
                *sum = R::add_scaled(*sum, *x, &weights[at]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use hydra_core::rng::Rng;

    use super::super::wide;
    use super::*;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..count).map(|_| rng.normal() as f32).collect()
    }

    fn product(matrix: &Panels, rows: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; rows.len() / matrix.inputs * matrix.outputs];
        wide::multiply(matrix.whole(), rows, &mut Room::default(), &mut out);
        out
    }

    #[test]
    fn products_are_right_for_every_number_of_rows() {
        for (outputs, inputs) in [(1, 3), (16, 8), (37, 24), (130, 33)] {
            let weights = random(outputs * inputs, 1);
            let matrix = Panels::new(&weights, inputs);
            for count in 1..40 {
                let rows = random(count * inputs, 2);
                let out = product(&matrix, &rows);
                for (row, out) in rows.chunks_exact(inputs).zip(out.chunks_exact(outputs)) {
                    for (weights, out) in weights.chunks_exact(inputs).zip(out) {
                        let exact: f64 = row.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        assert!((f64::from(*out) - exact).abs() < 1e-4, "{out} {exact}");
                    }
                }
            }
            assert_eq!(matrix.row(outputs - 1).collect::<Vec<_>>(), weights[(outputs - 1) * inputs..]);
        }
    }

    #[test]
    fn company_changes_no_bit() {
        let (outputs, inputs) = (50, 40);
        let matrix = Panels::new(&random(outputs * inputs, 3), inputs);
        let rows = random(37 * inputs, 4);
        let together = product(&matrix, &rows);
        for (row, out) in rows.chunks_exact(inputs).zip(together.chunks_exact(outputs)) {
            assert_eq!(product(&matrix, row), out);
        }
        for most in [1, 5, 13] {
            let parts: Vec<f32> = rows.chunks(most * inputs).flat_map(|rows| product(&matrix, rows)).collect();
            assert_eq!(parts, together);
        }
    }
}
