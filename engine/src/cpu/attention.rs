//! Attention of a step's rows, each to everything that its stream has kept of a layer.

use super::decode::Decoder;
use super::kept::Kept;
use super::kernels::Heads;
use super::wide;

/// Room for attention, kept from one step to the next.
#[derive(Default)]
pub(super) struct Attention {
    turned: Vec<f32>,
    inverse: Vec<f32>,
    scores: Vec<f32>,
}

impl Attention {
    /// Rows of one stream, the first of which has `position` tokens before it. Row after row: keeps its key and value,
    /// and attends to all that the stream has `kept` of this layer.
    ///
    /// `qkv` is `[rows, 3·width]`, `out` `[rows, width]`. What was kept of these rows before counts for nothing.
    pub fn attend(
        &mut self,
        (decoder, layer): (&Decoder, usize),
        position: usize,
        qkv: &[f32],
        kept: &mut Kept,
        out: &mut [f32],
    ) {
        let (width, size) = (decoder.shape().width as usize, decoder.shape().head_size() as usize);
        let heads = Heads { width, size, context: 1 };
        self.turned.resize(2 * width, 0.0);
        self.inverse.resize(2 * width / size, 0.0);
        let parts = qkv.chunks_exact(3 * width).zip(out.chunks_exact_mut(width));
        for (position, (qkv, out)) in (position..).zip(parts) {
            let angles = decoder.angles(position);
            wide::turn(heads, qkv, decoder.heads(layer), angles, &mut self.turned, &mut self.inverse);
            let (query, key) = self.turned.split_at(width);
            kept.put(position, key, &qkv[2 * width..]);
            wide::attend(size, query, kept, &mut self.scores, out);
        }
    }
}
