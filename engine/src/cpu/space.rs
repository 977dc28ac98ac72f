//! The buffers of a pass through the network, each allocated once, and how much memory they take.

use hydra_core::model::Shape;
use tch::{Kind, Tensor};

use crate::Result;

/// Numbers in one block of logits; 8 MiB stay in a core's share of the outer cache.
const LOGITS_BLOCK: usize = 2 << 20;

/// Numbers of a token that attention's result takes, in widths.
const ATTENDED: u64 = 1;
/// The same of what attention's way back has beside the buffers: three gradients by head, three in rows, and what it
/// copies to have it without gaps.
const BACK: u64 = 8;

fn matrix(rows: usize, columns: usize) -> Result<Tensor> {
    Ok(Tensor::f_zeros([rows as i64, columns as i64], (Kind::Float, tch::Device::Cpu))?)
}

/// What a layer's forward pass leaves for its backward pass; rows are tokens.
pub(super) struct Kept {
    /// The residual stream before attention and before the MLP.
    pub before: Tensor,
    pub middle: Tensor,
    /// After the two norms, and the norms' inverse root mean squares.
    pub normed1: Tensor,
    pub normed2: Tensor,
    pub inverse1: Vec<f32>,
    pub inverse2: Vec<f32>,
    pub qkv: Tensor,
    pub turned: Tensor,
    pub inverse_heads: Vec<f32>,
    /// Attention's result as libtorch gave it (`[windows, heads, context, size]`) and its log-sum-exp.
    pub attended: Option<(Tensor, Tensor)>,
    pub gate_up: Tensor,
    pub gated: Tensor,
}

/// Buffers for one pass over `windows` windows of `context` tokens.
pub(super) struct Space {
    pub windows: usize,
    pub context: usize,
    pub layers: Vec<Kept>,
    /// The residual stream after the last layer, and normed.
    pub last: Tensor,
    pub normed: Tensor,
    pub inverse: Vec<f32>,
    pub logits: Tensor,
    /// What a sublayer adds to the stream; on the way back, gradients of that width.
    pub delta: Tensor,
    /// Gradient of the residual stream.
    pub dstream: Tensor,
    pub dqkv: Tensor,
    pub dgate_up: Tensor,
    pub dgated: Tensor,
}

impl Space {
    pub fn new(shape: &Shape, windows: usize, context: usize) -> Result<Self> {
        let tokens = windows * context;
        let (width, ffn, vocab) = (shape.width as usize, shape.ffn as usize, shape.vocab as usize);
        let layer = || {
            Ok(Kept {
                before: matrix(tokens, width)?,
                middle: matrix(tokens, width)?,
                normed1: matrix(tokens, width)?,
                normed2: matrix(tokens, width)?,
                inverse1: vec![0.0; tokens],
                inverse2: vec![0.0; tokens],
                qkv: matrix(tokens, 3 * width)?,
                turned: matrix(tokens, 2 * width)?,
                inverse_heads: vec![0.0; tokens * 2 * shape.heads as usize],
                attended: None,
                gate_up: matrix(tokens, 2 * ffn)?,
                gated: matrix(tokens, ffn)?,
            })
        };
        Ok(Self {
            windows,
            context,
            layers: (0..shape.layers).map(|_| layer()).collect::<Result<_>>()?,
            last: matrix(tokens, width)?,
            normed: matrix(tokens, width)?,
            inverse: vec![0.0; tokens],
            logits: matrix((LOGITS_BLOCK / vocab).clamp(1, tokens), vocab)?,
            delta: matrix(tokens, width)?,
            dstream: matrix(tokens, width)?,
            dqkv: matrix(tokens, 3 * width)?,
            dgate_up: matrix(tokens, 2 * ffn)?,
            dgated: matrix(tokens, ffn)?,
        })
    }

    /// `[tokens, width]` columns of a matrix as libtorch's attention wants them: `[windows, heads, context, size]`.
    pub fn heads(&self, shape: &Shape, of: &Tensor, part: i64) -> Result<Tensor> {
        let (width, size) = (i64::from(shape.width), i64::from(shape.head_size()));
        let dims = [self.windows as i64, self.context as i64, i64::from(shape.heads), size];
        Ok(of.f_narrow(1, part * width, width)?.f_view(dims)?.f_transpose(1, 2)?)
    }

    /// Bytes of the buffers for so many tokens, with what attention's way back takes beside them for a while.
    pub fn bytes(shape: &Shape, tokens: u64) -> u64 {
        let Shape { vocab, width, heads, layers, ffn, .. } = *shape;
        let [vocab, width, heads, layers, ffn] = [vocab, width, heads, layers, ffn].map(u64::from);
        let layer = 9 * width + 3 * ffn + 2 * heads + 2 + ATTENDED * width + heads;
        let other = 7 * width + 3 * ffn + 1 + BACK * width;
        let logits = (LOGITS_BLOCK as u64 / vocab).clamp(1, tokens.max(1)) * vocab;
        4 * (tokens * (layers * layer + other) + logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_are_allocated() {
        for shape in [Shape::new(37, 24, 3, 2, 16), Shape { ffn: 50, ..Shape::new(60_000, 36, 2, 3, 70) }] {
            let context = shape.context as usize;
            let space = Space::new(&shape, 2, context).unwrap();
            let matrices = [&space.last, &space.normed, &space.logits, &space.delta, &space.dstream, &space.dqkv];
            let mut numbers = space.inverse.len() + space.dgate_up.numel() + space.dgated.numel();
            numbers += matrices.map(Tensor::numel).iter().sum::<usize>();
            for kept in &space.layers {
                let Kept { before, middle, normed1, normed2, qkv, turned, gate_up, gated, .. } = kept;
                let matrices = [before, middle, normed1, normed2, qkv, turned, gate_up, gated];
                numbers += matrices.map(Tensor::numel).iter().sum::<usize>();
                numbers += kept.inverse1.len() + kept.inverse2.len() + kept.inverse_heads.len();
                // What attention leaves there is not allocated yet.
                numbers += 2 * context * (shape.width + shape.heads) as usize;
            }
            let passing = BACK * 2 * u64::from(shape.context * shape.width);
            assert_eq!(Space::bytes(&shape, 2 * context as u64), 4 * (numbers as u64 + passing));
        }
    }
}
