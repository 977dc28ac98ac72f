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
use std::sync::Arc;

use super::pages::Numbers;
use super::wide::Registers;

/// Outputs of a panel.
pub(super) const LANES: usize = 16;

/// Bytes of panels that stay in a core's own cache while row after row is multiplied with them.
const CACHED: usize = 512 << 10;

/// A matrix `[outputs, inputs]`, ready to be multiplied; the last panel is filled up with zeros.
pub(crate) struct Panels {
    outputs: usize,
    inputs: usize,
    /// Of several matrices, and which of them are this one's.
    numbers: Arc<Numbers>,
    place: Range<usize>,
}

impl Panels {
    /// Each from rows of `inputs` numbers, one row an output; all in one piece of memory.
    pub fn of(matrices: &[(&[f32], usize)]) -> Vec<Self> {
        let length = |&(matrix, inputs): &(&[f32], usize)| (matrix.len() / inputs).next_multiple_of(LANES) * inputs;
        let mut numbers = Numbers::new(matrices.iter().map(length).sum());
        let mut left = &mut *numbers;
        for one in matrices {
            let (matrix, inputs) = *one;
            let panels = left.split_off_mut(..length(one)).expect("there is room for all");
            for (rows, panel) in matrix.chunks(LANES * inputs).zip(panels.chunks_exact_mut(LANES * inputs)) {
                for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                    for (numbers, weight) in panel.chunks_exact_mut(LANES).zip(row) {
                        numbers[lane] = *weight;
                    }
                }
            }
        }
        let (numbers, mut next) = (Arc::new(numbers), 0);
        let laid_out = matrices.iter().map(|one| {
            let place = next..next + length(one);
            next = place.end;
            Self { outputs: one.0.len() / one.1, inputs: one.1, numbers: numbers.clone(), place }
        });
        laid_out.collect()
    }

    fn numbers(&self) -> &[f32] {
        &self.numbers[self.place.clone()]
    }

    /// How many outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Some of its panels.
    pub fn part(&self, panels: Range<usize>) -> Part<'_> {
        let Self { outputs, inputs, .. } = *self;
        // The last panel may not be full.
        let [first, end] = [panels.start, panels.end].map(|panel| outputs.min(panel * LANES));
        let size = LANES * inputs;
        Part {
            inputs,
            outputs: end - first,
            numbers: &self.numbers()[panels.start * size..panels.end * size],
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
        let panel = &self.numbers()[output / LANES * LANES * self.inputs..][..LANES * self.inputs];
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

/// Rows as [`multiply`] wants them: blocks of a few, input after input, the rows of a block side by side.
#[derive(Default)]
pub(crate) struct Blocks {
    numbers: Vec<f32>,
    inputs: usize,
}

impl Blocks {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.numbers.len() / self.inputs
    }

    /// Where each block begins and ends, in rows: as even as they can be, none with more than registers hold.
    fn places<R: Registers>(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone + use<R> {
        let rows = self.rows();
        let blocks = rows.div_ceil(R::ROWS);
        (0..blocks).map(move |block| rows * block / blocks..rows * (block + 1) / blocks)
    }
}

/// Lays rows of `inputs` numbers out in blocks.
#[inline(always)]
pub(super) fn lay_out<R: Registers>(rows: &[f32], inputs: usize, blocks: &mut Blocks) {
    blocks.inputs = inputs;
    blocks.numbers.resize(rows.len(), 0.0);
    for place in blocks.places::<R>() {
        let block = &mut blocks.numbers[place.start * inputs..place.end * inputs];
        let rows = &rows[place.start * inputs..place.end * inputs];
        // A few inputs of all rows, then the next: as many lines as the nearest cache holds.
        for (first, block) in (0..).step_by(LANES).zip(block.chunks_mut(LANES * place.len())) {
            for (at, row) in rows.chunks_exact(inputs).enumerate() {
                for (block, x) in block.chunks_exact_mut(place.len()).zip(&row[first..]) {
                    block[at] = *x;
                }
            }
        }
    }
}

/// Rows, at most, that all go through a few panels before the next ones are read: what they make of them is then worth
/// the time in which those come from memory.
const FEW: usize = 32;

/// `out = rows · matrix'`: `[rows, outputs]` from `[rows, inputs]`, which [`lay_out`] has laid out.
#[inline(always)]
pub(super) fn multiply<R: Registers>(matrix: Part<'_>, rows: &Blocks, out: &mut [f32]) {
    let Part { inputs, numbers, row: outputs, first: mut output, .. } = matrix;
    let places = rows.places::<R>();
    // One row goes through all that it can in one go: there is nothing to come back to.
    let panels = match rows.rows() {
        count @ 2..=FEW => at_once::<R>(count.div_ceil(places.len())),
        _ => (CACHED / (4 * LANES * inputs)).max(4),
    };
    for group in numbers.chunks(panels * LANES * inputs) {
        for place in places.clone() {
            let block = &rows.numbers[place.start * inputs..place.end * inputs];
            let out = Rows { numbers: &mut out[place.start * outputs..place.end * outputs], outputs, first: output };
            each::<R>(place.len(), group, block, out);
        }
        output += panels * LANES;
    }
}

/// Panels at once for a block of `rows`: as many sums as registers hold.
fn at_once<R: Registers>(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 => 2,
        3..=8 if R::MANY => 2,
        _ => 1,
    }
}

/// All panels of a group with one block of rows.
#[inline(always)]
fn each<R: Registers>(rows: usize, panels: &[f32], block: &[f32], out: Rows<'_>) {
    match (rows, R::MANY) {
        (1, _) => each_tile::<1, 4, R>(panels, block, out),
        (2, _) => each_tile::<2, 2, R>(panels, block, out),
        (3, false) => each_tile::<3, 1, R>(panels, block, out),
        (4, false) => each_tile::<4, 1, R>(panels, block, out),
        (5, false) => each_tile::<5, 1, R>(panels, block, out),
        (6, false) => each_tile::<6, 1, R>(panels, block, out),
        (3, true) => each_tile::<3, 2, R>(panels, block, out),
        (4, true) => each_tile::<4, 2, R>(panels, block, out),
        (5, true) => each_tile::<5, 2, R>(panels, block, out),
        (6, true) => each_tile::<6, 2, R>(panels, block, out),
        (7, true) => each_tile::<7, 2, R>(panels, block, out),
        (8, true) => each_tile::<8, 2, R>(panels, block, out),
        (9, true) => each_tile::<9, 1, R>(panels, block, out),
        (10, true) => each_tile::<10, 1, R>(panels, block, out),
        (11, true) => each_tile::<11, 1, R>(panels, block, out),
        (12, true) => each_tile::<12, 1, R>(panels, block, out),
        (13, true) => each_tile::<13, 1, R>(panels, block, out),
        (14, true) => each_tile::<14, 1, R>(panels, block, out),
        (15, true) => each_tile::<15, 1, R>(panels, block, out),
        (16, true) => each_tile::<16, 1, R>(panels, block, out),
        _ => unreachable!("blocks have at most {} rows", R::ROWS),
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
    /// Sums of one row; outputs that only fill a panel up go nowhere.
    #[inline(always)]
    fn put(&mut self, row: usize, output: usize, sums: [f32; LANES]) {
        let row = &mut self.numbers[row * self.outputs..(row + 1) * self.outputs];
        let out = row.get_mut(self.first + output..).unwrap_or_default();
        match out.first_chunk_mut() {
            Some(out) => *out = sums,
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

/// All panels with one block of `ROWS` rows, `WIDE` panels at once as long as there are so many.
#[inline(always)]
fn each_tile<const ROWS: usize, const WIDE: usize, R: Registers>(panels: &[f32], block: &[f32], mut out: Rows<'_>) {
    let (block, _) = block.as_chunks::<ROWS>();
    let (mut left, _) = panels.as_chunks::<LANES>();
    let mut output = 0;
    let mut put = |output: usize, sums: &[R::Sums; ROWS]| {
        sums.iter().enumerate().for_each(|(row, sums)| out.put(row, output, R::numbers(*sums)));
    };
    while let Some((tile, rest)) = left.split_at_checked(WIDE * block.len()) {
        for (sums, panel) in sums::<ROWS, WIDE, R>(tile, block).iter().zip(0..) {
            put(output + panel * LANES, sums);
        }
        output += WIDE * LANES;
        left = rest;
    }
    while let Some((tile, rest)) = left.split_at_checked(block.len()) {
        let [sums] = sums::<ROWS, 1, R>(tile, block);
        put(output, &sums);
        output += LANES;
        left = rest;
    }
}

/// How far behind the inputs' weights at hand those lie that the processor is told of: as many of [`LANES`] numbers.
const SOON: usize = 32;

/// The outputs of `WIDE` panels for a block of rows.
#[inline(always)]
fn sums<const ROWS: usize, const WIDE: usize, R: Registers>(
    panels: &[[f32; LANES]],
    block: &[[f32; ROWS]],
) -> [[R::Sums; ROWS]; WIDE] {
    let inputs = block.len();
    let weights: [_; WIDE] = std::array::from_fn(|panel| &panels[panel * inputs..][..inputs]);
    let mut sums = [[R::zero(); ROWS]; WIDE];
    // By place: nothing is checked within the loop so, and the compiler keeps all sums in registers.
    #[allow(clippy::needless_range_loop)]
    for at in 0..inputs {
        for panel in 0..WIDE {
            // One row is multiplied faster than memory comes, whatever is said.
            if ROWS > 1 {
                R::soon(&weights[panel][at], SOON);
            }
            for row in 0..ROWS {
                sums[panel][row] = R::add_scaled(sums[panel][row], block[at][row], &weights[panel][at]);
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
        let mut blocks = Blocks::default();
        wide::lay_out(rows, matrix.inputs, &mut blocks);
        wide::multiply(matrix.part(0..matrix.panels()), &blocks, &mut out);
        out
    }

    #[test]
    fn products_are_right_for_every_number_of_rows() {
        for (outputs, inputs) in [(1, 3), (16, 8), (37, 24), (130, 33)] {
            let weights = random(outputs * inputs, 1);
            // Behind another one.
            let matrix = Panels::of(&[(&random(5 * 7, 9), 7), (&weights, inputs)]).pop().unwrap();
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
        let matrix = Panels::of(&[(&random(outputs * inputs, 3), inputs)]).pop().unwrap();
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
