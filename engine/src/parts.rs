//! The flat weight vector seen as the pieces that the arithmetic multiplies: q, k, v as one matrix, gate and up as one.
//!
//! Core's layout puts those matrices side by side so that each fused piece is one view of the flat vector. The places
//! are taken from that layout by name; nothing here repeats its order.

use hydra_core::model::{Shape, TensorSpec};
use tch::Tensor;

use crate::EngineError;

/// Where one piece lies in the flat vector, and its rows and columns (`[length]` for a gain).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub offset: usize,
    pub size: Vec<i64>,
}

impl Place {
    pub fn len(&self) -> usize {
        self.size.iter().product::<i64>() as usize
    }

    /// The piece as a view of `flat`.
    pub fn view(&self, flat: &Tensor) -> Result<Tensor, EngineError> {
        Ok(flat.f_narrow(0, self.offset as i64, self.len() as i64)?.f_view(self.size.as_slice())?)
    }
}

/// One value for each piece of a layer.
#[derive(Debug)]
pub(crate) struct Layer<T> {
    /// Gain before attention, `[width]`.
    pub norm1: T,
    /// `[3·width, width]`.
    pub qkv: T,
    /// Gains of the query and the key heads, `[2, head size]`.
    pub heads: T,
    /// `[width, width]`.
    pub out: T,
    /// Gain before the MLP, `[width]`.
    pub norm2: T,
    /// `[2·ffn, width]`.
    pub gate_up: T,
    /// `[width, ffn]`.
    pub down: T,
}

/// One value for each piece of a model.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    /// `[vocab, width]`; also the output matrix.
    pub embed: T,
    pub layers: Vec<Layer<T>>,
    /// Gain before the output, `[width]`.
    pub norm: T,
}

impl Parts<Place> {
    pub fn of(shape: &Shape) -> Self {
        let layout = shape.layout();
        let (width, ffn, head) = (i64::from(shape.width), i64::from(shape.ffn), i64::from(shape.head_size()));
        // A fused piece begins where its first tensor does, and must end where its last does.
        let place = |first: &str, last: &str, size: Vec<i64>| {
            let find = |name: &str| -> &TensorSpec {
                layout.iter().find(|t| t.name == name).expect("core's layout names every tensor of the family")
            };
            let (first, last) = (find(first), find(last));
            let place = Place { offset: first.offset, size };
            assert_eq!(place.offset + place.len(), last.offset + last.len(), "fused tensors lie side by side");
            place
        };
        let layer = |index: u32| {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let piece = |first: &str, last: &str, size| place(&name(first), &name(last), size);
            Layer {
                norm1: piece("input_layernorm", "input_layernorm", vec![width]),
                qkv: piece("self_attn.q_proj", "self_attn.v_proj", vec![3 * width, width]),
                heads: piece("self_attn.q_norm", "self_attn.k_norm", vec![2, head]),
                out: piece("self_attn.o_proj", "self_attn.o_proj", vec![width, width]),
                norm2: piece("post_attention_layernorm", "post_attention_layernorm", vec![width]),
                gate_up: piece("mlp.gate_proj", "mlp.up_proj", vec![2 * ffn, width]),
                down: piece("mlp.down_proj", "mlp.down_proj", vec![width, ffn]),
            }
        };
        let embed = "model.embed_tokens.weight";
        Self {
            embed: place(embed, embed, vec![i64::from(shape.vocab), width]),
            layers: (0..shape.layers).map(layer).collect(),
            norm: place("model.norm.weight", "model.norm.weight", vec![width]),
        }
    }
}

impl<T> Parts<T> {
    /// The same structure with each piece replaced.
    pub fn map<U, E>(&self, mut f: impl FnMut(&T) -> Result<U, E>) -> Result<Parts<U>, E> {
        let layer = |layer: &Layer<T>, f: &mut dyn FnMut(&T) -> Result<U, E>| {
            Ok(Layer {
                norm1: f(&layer.norm1)?,
                qkv: f(&layer.qkv)?,
                heads: f(&layer.heads)?,
                out: f(&layer.out)?,
                norm2: f(&layer.norm2)?,
                gate_up: f(&layer.gate_up)?,
                down: f(&layer.down)?,
            })
        };
        Ok(Parts {
            embed: f(&self.embed)?,
            layers: self.layers.iter().map(|l| layer(l, &mut f)).collect::<Result<_, E>>()?,
            norm: f(&self.norm)?,
        })
    }

    /// Every piece, in an order that `map` shares.
    pub fn all(&self) -> Vec<&T> {
        let mut all = vec![&self.embed];
        for l in &self.layers {
            all.extend([&l.norm1, &l.qkv, &l.heads, &l.out, &l.norm2, &l.gate_up, &l.down]);
        }
        all.push(&self.norm);
        all
    }
}

/// Base of the rotary positions' wavelengths.
pub(crate) const THETA: f64 = 10_000.0;

/// Angles of the rotary positions: a row for each position, half of it cosines and half sines (the pair of number `i`
/// is number `i + size/2`, the half-split convention of Llama and Qwen3).
pub(crate) fn angles(shape: &Shape) -> Vec<f32> {
    let half = shape.head_size() / 2;
    let mut rows = Vec::with_capacity((shape.context * shape.head_size()) as usize);
    for position in 0..shape.context {
        let angle = |i: u32| f64::from(position) * THETA.powf(-f64::from(i) / f64::from(half));
        rows.extend((0..half).map(|i| angle(i).cos() as f32));
        rows.extend((0..half).map(|i| angle(i).sin() as f32));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_cover_the_flat_vector_once() {
        let shape = Shape::new(50, 24, 3, 3, 16);
        let parts = Parts::of(&shape);
        let mut seen = vec![0; shape.params()];
        for place in parts.all() {
            seen[place.offset..place.offset + place.len()].iter_mut().for_each(|n| *n += 1);
        }
        assert!(seen.iter().all(|&n| n == 1));
    }
}
