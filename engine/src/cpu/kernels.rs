//! The element-wise arithmetic of training on a CPU, forward and backward, as plain loops over slices.
//!
//! Matrices are row-major without gaps. Sums run over [`LANES`] partial sums in a fixed order, so that the compiler
//! can use wide registers and every machine gets the same bits. Nothing here allocates, and NaN goes in and comes
//! out. Matrix products and attention are libtorch's (`network.rs`); choosing the instruction set is `wide.rs`'s.
//!
//! Every function is `inline(always)` because `wide.rs` compiles it once for each instruction set.
#![allow(clippy::inline_always)]

use crate::adam::AdamStep;

/// Added to the mean square in every RMSNorm, as in Qwen3.
pub(crate) const EPSILON: f32 = 1e-6;

const LANES: usize = 16;

/// e^x to about 2 units in the last place; below -87 as at -87, above 88 as at 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 × 2^23 rounds to the nearest whole number, which then sits in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts; the first has few enough bits that its product with `whole` is exact.
    let rest = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    // Cephes' expf polynomial.
    let mut p = 1.987_569_2e-4;
    p = p * rest + 1.398_199_9e-3;
    p = p * rest + 8.333_452e-3;
    p = p * rest + 4.166_579_6e-2;
    p = p * rest + 1.666_666_5e-1;
    p = p * rest + 0.5;
    let fraction = p * rest * rest + rest + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    fraction * power
}

#[inline(always)]
fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of `f(a, b)` over two slices of one length.
#[inline(always)]
fn sum_over(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut tail = 0.0;
    for (&x, &y) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        tail += f(x, y);
    }
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    sum_lanes(lanes) + tail
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_over(a, b, |x, y| x * y)
}

#[inline(always)]
fn inverse_rms(x: &[f32]) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + EPSILON).sqrt()
}

/// `out = x · r · gain` by rows of `gain.len()`, with `r` each row's inverse root mean square, kept for the way back.
#[inline(always)]
pub(super) fn norm(x: &[f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]) {
    let width = gain.len();
    for ((x, out), r) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(inverse) {
        *r = inverse_rms(x);
        for ((o, x), g) in out.iter_mut().zip(x).zip(gain) {
            *o = x * *r * g;
        }
    }
}

/// `sum = x + delta`, then [`norm`] of the sum: the residual step before every norm but the first.
#[inline(always)]
pub(super) fn add_norm(x: &[f32], delta: &[f32], sum: &mut [f32], gain: &[f32], out: &mut [f32], inverse: &mut [f32]) {
    for ((s, x), d) in sum.iter_mut().zip(x).zip(delta) {
        *s = x + d;
    }
    norm(sum, gain, out, inverse);
}

/// Back through [`norm`]: adds to `dx` and to `dgain`.
#[inline(always)]
pub(super) fn norm_back(dout: &[f32], x: &[f32], inverse: &[f32], gain: &[f32], dx: &mut [f32], dgain: &mut [f32]) {
    let width = gain.len();
    let rows = dout.chunks_exact(width).zip(x.chunks_exact(width)).zip(inverse).zip(dx.chunks_exact_mut(width));
    for (((dout, x), &r), dx) in rows {
        let mut lanes = [0.0f32; LANES];
        let mut tail = 0.0;
        let whole = width - width % LANES;
        for at in (0..whole).step_by(LANES) {
            for i in 0..LANES {
                lanes[i] += dout[at + i] * gain[at + i] * x[at + i];
            }
        }
        for i in whole..width {
            tail += dout[i] * gain[i] * x[i];
        }
        let shared = (sum_lanes(lanes) + tail) * r * r * r / width as f32;
        for i in 0..width {
            dx[i] += dout[i] * gain[i] * r - x[i] * shared;
            dgain[i] += dout[i] * x[i] * r;
        }
    }
}

/// Sizes that the head kernels need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Width of the residual stream.
    pub width: usize,
    /// Size of one head; even.
    pub size: usize,
    /// Tokens of a window; positions repeat with this period.
    pub context: usize,
}

/// Norms each query and key head, turns it by its position and writes it to `turned` (`[tokens, 2·width]`, queries
/// then keys). `qkv` is `[tokens, 3·width]`, `gains` `[2, size]`, `angles` `[context, size]`: half of a row cosines,
/// half sines. `inverse` is `[tokens, 2·heads]`.
#[inline(always)]
pub(super) fn turn(heads: Heads, qkv: &[f32], gains: &[f32], angles: &[f32], turned: &mut [f32], inverse: &mut [f32]) {
    let Heads { width, size, context } = heads;
    let half = size / 2;
    let rows = qkv.chunks_exact(3 * width).zip(turned.chunks_exact_mut(2 * width));
    for (token, ((row, out), inverse)) in rows.zip(inverse.chunks_exact_mut(2 * width / size)).enumerate() {
        let (cos, sin) = angles[token % context * size..][..size].split_at(half);
        for (part, (row, out)) in row.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let (gain_a, gain_b) = gains[part * size..][..size].split_at(half);
            let inverse = &mut inverse[part * width / size..][..width / size];
            for ((x, out), r) in row.chunks_exact(size).zip(out.chunks_exact_mut(size)).zip(inverse) {
                *r = inverse_rms(x);
                let ((a, b), (out_a, out_b)) = (x.split_at(half), out.split_at_mut(half));
                for i in 0..half {
                    let (a, b) = (a[i] * *r * gain_a[i], b[i] * *r * gain_b[i]);
                    out_a[i] = a * cos[i] - b * sin[i];
                    out_b[i] = b * cos[i] + a * sin[i];
                }
            }
        }
    }
}

/// Back through [`turn`]: from the gradients of turned queries, keys and of values (`[tokens, width]` each) to the
/// gradient of `qkv`; adds to `dgains`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // One tensor each; a struct would only rename them.
pub(super) fn turn_back(
    heads: Heads,
    grads: [&[f32]; 3],
    qkv: &[f32],
    gains: &[f32],
    angles: &[f32],
    inverse: &[f32],
    dqkv: &mut [f32],
    dgains: &mut [f32],
) {
    let Heads { width, size, context } = heads;
    let half = size / 2;
    let rows = qkv.chunks_exact(3 * width).zip(dqkv.chunks_exact_mut(3 * width));
    for (token, ((row, drow), inverse)) in rows.zip(inverse.chunks_exact(2 * width / size)).enumerate() {
        let (cos, sin) = angles[token % context * size..][..size].split_at(half);
        drow[2 * width..].copy_from_slice(&grads[2][token * width..][..width]);
        for (part, grad) in grads[..2].iter().enumerate() {
            let grad = &grad[token * width..][..width];
            let gain = &gains[part * size..][..size];
            let dgain = &mut dgains[part * size..][..size];
            let inverse = &inverse[part * width / size..][..width / size];
            let row = row[part * width..][..width].chunks_exact(size);
            let drow = drow[part * width..][..width].chunks_exact_mut(size);
            for (((x, dx), grad), &r) in row.zip(drow).zip(grad.chunks_exact(size)).zip(inverse) {
                let (grad_a, grad_b) = grad.split_at(half);
                let (dx_a, dx_b) = dx.split_at_mut(half);
                for i in 0..half {
                    dx_a[i] = grad_a[i] * cos[i] + grad_b[i] * sin[i];
                    dx_b[i] = grad_b[i] * cos[i] - grad_a[i] * sin[i];
                }
                for i in 0..size {
                    dgain[i] += dx[i] * x[i] * r;
                    dx[i] *= gain[i];
                }
                let shared = dot(dx, x) * r * r * r / size as f32;
                for i in 0..size {
                    dx[i] = dx[i] * r - x[i] * shared;
                }
            }
        }
    }
}

/// `out = silu(gate) · up`; a row of `gate_up` holds a row of each.
#[inline(always)]
pub(super) fn gate(gate_up: &[f32], ffn: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * ffn).zip(out.chunks_exact_mut(ffn)) {
        let (gate, up) = row.split_at(ffn);
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = g / (1.0 + exp(-g)) * u;
        }
    }
}

/// Back through [`gate`].
#[inline(always)]
pub(super) fn gate_back(dout: &[f32], gate_up: &[f32], ffn: usize, dgate_up: &mut [f32]) {
    let rows = dout.chunks_exact(ffn).zip(gate_up.chunks_exact(2 * ffn)).zip(dgate_up.chunks_exact_mut(2 * ffn));
    for ((dout, row), drow) in rows {
        let ((gate, up), (dgate, dup)) = (row.split_at(ffn), drow.split_at_mut(ffn));
        for i in 0..ffn {
            let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
            dup[i] = dout[i] * gate[i] * sigmoid;
            dgate[i] = dout[i] * up[i] * sigmoid * (1.0 + gate[i] * (1.0 - sigmoid));
        }
    }
}

/// Cross-entropy of each row of `logits` with its target; returns the sum of nats, and leaves the gradient of
/// `scale` times that sum in place of the logits.
#[inline(always)]
pub(super) fn cross_entropy(logits: &mut [f32], vocab: usize, targets: &[u16], scale: f32) -> f64 {
    let mut nats = 0.0f64;
    for (row, &target) in logits.chunks_exact_mut(vocab).zip(targets) {
        let target = usize::from(target);
        let top = highest(row);
        let picked = row[target] - top;
        let total = exp_in_place(row, top);
        nats += f64::from(total.ln() - picked);
        let factor = scale / total;
        for x in row.iter_mut() {
            *x *= factor;
        }
        row[target] -= scale;
    }
    nats
}

/// The largest number that is one; negative infinity if there is none.
#[inline(always)]
pub(super) fn highest(row: &[f32]) -> f32 {
    tops(row).iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The largest number of each of several groups of `size` numbers at most, of which each is in one group; negative
/// infinity where a group has none. `into` gets them in place of what it holds.
#[inline(always)]
pub(super) fn group_tops(row: &[f32], size: usize, into: &mut Vec<f32>) {
    into.clear();
    row.chunks(size * LANES).for_each(|block| into.extend(tops(block)));
}

/// The largest of every [`LANES`]th number, from each of the first ones on.
#[inline(always)]
fn tops(row: &[f32]) -> [f32; LANES] {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, tail) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    lanes
}

/// [`exp_in_place`] below the highest of the row.
#[inline(always)]
pub(super) fn exp_all(row: &mut [f32]) -> f32 {
    let top = highest(row);
    exp_in_place(row, top)
}

/// `x = e^(x − top)`, and the sum of that.
#[inline(always)]
fn exp_in_place(row: &mut [f32], top: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - top);
            lanes[i] += chunk[i];
        }
    }
    let mut tail = 0.0;
    for x in chunks.into_remainder() {
        *x = exp(*x - top);
        tail += *x;
    }
    sum_lanes(lanes) + tail
}

/// `into += from`.
#[inline(always)]
pub(super) fn add(into: &mut [f32], from: &[f32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}

/// Sum of squares, in f64 over blocks.
#[inline(always)]
pub(super) fn squares(x: &[f32]) -> f64 {
    x.chunks(4096).map(|block| f64::from(dot(block, block))).sum()
}

/// AdamW (Loshchilov and Hutter 2019) with the arithmetic of PyTorch's.
#[inline(always)]
pub(super) fn adam(step: AdamStep, gradient: &[f32], mean: &mut [f32], square: &mut [f32], weights: &mut [f32]) {
    let keep = 1.0 - step.shrink;
    let (fresh1, fresh2) = (1.0 - step.beta1, 1.0 - step.beta2);
    for (((g, m), v), w) in gradient.iter().zip(mean).zip(square).zip(weights) {
        let g = g * step.clip;
        *m = step.beta1 * *m + fresh1 * g;
        *v = step.beta2 * *v + fresh2 * g * g;
        *w = *w * keep - step.size * *m / (v.sqrt() * step.unbias + 1e-8);
    }
}
