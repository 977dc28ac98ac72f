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

    /// All of it.
    pub fn whole(&self) -> Part<'_> {
        self.part(0..self.panels())
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

/// Room for the inputs as [`multiply`] wants them.
#[derive(Default)]
pub(crate) struct Room(Vec<f32>);

/// Rows, at most, that all go through a few panels before the next ones are read: what they make of them is then worth
/// the time in which those come from memory.
const FEW: usize = 32;

/// `out = rows · matrix'`: `[rows, outputs]` from `[rows, inputs]`.
#[inline(always)]
pub(super) fn multiply<R: Registers>(matrix: Part<'_>, rows: &[f32], room: &mut Room, out: &mut [f32]) {
    let Part { inputs, numbers, row: outputs, first: place, .. } = matrix;
    let count = rows.len() / inputs;
    if count == 0 {
        return;
    }
    // Blocks of rows side by side, input after input; as even as they can be, none with more rows than registers hold.
    room.0.resize(rows.len(), 0.0);
    let parts = count.div_ceil(R::ROWS);
    let first_row = |part: usize| count * part / parts;
    for part in 0..parts {
        let (first, end) = (first_row(part), first_row(part + 1));
        let block = &mut room.0[first * inputs..end * inputs];
        for (place, row) in rows[first * inputs..end * inputs].chunks_exact(inputs).enumerate() {
            for (block, x) in block.chunks_exact_mut(end - first).zip(row) {
                block[place] = *x;
            }
        }
    }
    // One row goes through all that it can in one go: there is nothing to come back to.
    let panels = match count {
        2..=FEW => wide_of::<R>(count.div_ceil(parts)),
        _ => (CACHED / (4 * LANES * inputs)).max(4),
    };
    let mut groups = numbers.chunks(panels * LANES * inputs).peekable();
    let mut output = place;
    while let Some(group) = groups.next() {
        for part in 0..parts {
            let (first, end) = (first_row(part), first_row(part + 1));
            let block = &room.0[first * inputs..end * inputs];
            // Told before the last rows, the processor might forget the panels at hand.
            let next = groups.peek().filter(|_| part + 1 == parts && count > 1).copied().unwrap_or_default();
            let out = Rows { numbers: &mut out[first * outputs..end * outputs], outputs, first: output };
            each::<R>(end - first, group, next, block, out);
        }
        output += panels * LANES;
    }
}

/// Panels at once for a block of `rows`: as many sums as registers hold.
fn wide_of<R: Registers>(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 => 2,
        _ if R::MANY => 2,
        _ => 1,
    }
}

/// All panels of a group with one block of rows.
#[inline(always)]
fn each<R: Registers>(rows: usize, panels: &[f32], next: &[f32], block: &[f32], out: Rows<'_>) {
    match (rows, R::MANY) {
        (1, _) => each_tile::<1, 4, R>(panels, next, block, out),
        (2, _) => each_tile::<2, 2, R>(panels, next, block, out),
        (3, false) => each_tile::<3, 1, R>(panels, next, block, out),
        (4, false) => each_tile::<4, 1, R>(panels, next, block, out),
        (5, false) => each_tile::<5, 1, R>(panels, next, block, out),
        (6, false) => each_tile::<6, 1, R>(panels, next, block, out),
        (3, true) => each_tile::<3, 2, R>(panels, next, block, out),
        (4, true) => each_tile::<4, 2, R>(panels, next, block, out),
        (5, true) => each_tile::<5, 2, R>(panels, next, block, out),
        (6, true) => each_tile::<6, 2, R>(panels, next, block, out),
        (7, true) => each_tile::<7, 2, R>(panels, next, block, out),
        (8, true) => each_tile::<8, 2, R>(panels, next, block, out),
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
fn each_tile<const ROWS: usize, const WIDE: usize, R: Registers>(
    panels: &[f32],
    next: &[f32],
    block: &[f32],
    mut out: Rows<'_>,
) {
    let (block, _) = block.as_chunks::<ROWS>();
    let (mut left, mut next) = (panels.as_chunks::<LANES>().0, next.as_chunks::<LANES>().0);
    let mut output = 0;
    let mut put = |output: usize, sums: &[R::Sums; ROWS]| {
        sums.iter().enumerate().for_each(|(row, sums)| out.put(row, output, R::numbers(*sums)));
    };
    while let Some((tile, rest)) = left.split_at_checked(WIDE * block.len()) {
        let soon = next.split_off(..tile.len().min(next.len())).unwrap_or_default();
        for (sums, panel) in sums::<ROWS, WIDE, R>(tile, soon, block).iter().zip(0..) {
            put(output + panel * LANES, sums);
        }
        output += WIDE * LANES;
        left = rest;
    }
    while let Some((tile, rest)) = left.split_at_checked(block.len()) {
        let [sums] = sums::<ROWS, 1, R>(tile, &[], block);
        put(output, &sums);
        output += LANES;
        left = rest;
    }
}

/// The outputs of `WIDE` panels for a block of rows. The processor is told of what comes `soon`, where that is as much.
#[inline(always)]
fn sums<const ROWS: usize, const WIDE: usize, R: Registers>(
    panels: &[[f32; LANES]],
    soon: &[[f32; LANES]],
    block: &[[f32; ROWS]],
) -> [[R::Sums; ROWS]; WIDE] {
    if soon.len() == panels.len() {
        chains::<ROWS, WIDE, true, R>(panels, soon, block)
    } else {
        chains::<ROWS, WIDE, false, R>(panels, panels, block)
    }
}

#[inline(always)]
fn chains<const ROWS: usize, const WIDE: usize, const TELL: bool, R: Registers>(
    panels: &[[f32; LANES]],
    soon: &[[f32; LANES]],
    block: &[[f32; ROWS]],
) -> [[R::Sums; ROWS]; WIDE] {
    let inputs = block.len();
    let weights: [_; WIDE] = std::array::from_fn(|panel| &panels[panel * inputs..][..inputs]);
    let soon: [_; WIDE] = std::array::from_fn(|panel| &soon[panel * inputs..][..inputs]);
    let mut sums = [[R::zero(); ROWS]; WIDE];
    // By place: nothing is checked within the loop so, and the compiler keeps all sums in registers.
    #[allow(clippy::needless_range_loop)]
    for at in 0..inputs {
        for panel in 0..WIDE {
            if TELL {
                R::soon(&soon[panel][at]);
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
        wide::multiply(matrix.whole(), rows, &mut Room::default(), &mut out);
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
