//! What the model is made of: its sizes, its named tensors and where each lies in the flat weight vector.
//!
//! Weights travel and are merged as one flat `f32` vector; this file is the only place that knows its order. The
//! names and shapes are those of the Qwen3 family (rotary positions, RMSNorm, QK-norm, gated SiLU MLP, no biases,
//! tied embedding), so that an export needs no renaming. The arithmetic lives in the engine.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Attention heads; `width / heads` is a head's size and must be even (rotary pairs).
    pub heads: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Longest window, in tokens.
    pub context: u32,
    /// Inner width of the gated MLP.
    pub ffn: u32,
}

/// A tensor's place in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the export, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Rows and columns, or one length.
    pub shape: Vec<usize>,
    /// Where its first number lies.
    pub offset: usize,
}

impl TensorSpec {
    /// Numbers in the tensor.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no number; never true for a valid shape.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why sizes make no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A size is outside its bounds.
    #[error("{name} is {value}; it must be from {min} to {max}")]
    Bounds {
        /// Which size.
        name: &'static str,
        /// What it is.
        value: u32,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// The width does not split into heads of an even size.
    #[error("width {width} does not split into {heads} heads of an even size")]
    Heads {
        /// The width.
        width: u32,
        /// The heads.
        heads: u32,
    },
    /// More parameters than [`Shape::MAX_PARAMS`].
    #[error("{params} parameters are more than the {max} that this version supports")]
    TooLarge {
        /// How many there would be.
        params: u64,
        /// The bound.
        max: u64,
    },
}

impl Shape {
    /// The most parameters: 4 GiB in `f32`, of which a worker keeps several copies (gradients, AdamW's two means).
    pub const MAX_PARAMS: u64 = 1 << 30;

    /// Sizes with the family's usual MLP: 8/3 of the width, rounded up to a multiple of 16 (32 above width 1,024).
    pub fn new(vocab: u32, width: u32, heads: u32, layers: u32, context: u32) -> Self {
        let step = if width > 1024 { 32 } else { 16 };
        let ffn = (width.saturating_mul(8)).div_ceil(3).next_multiple_of(step);
        Self { vocab, width, heads, layers, context, ffn }
    }

    /// Checks every size; a shape from the network or a file must pass before it is used.
    pub fn check(&self) -> Result<(), ShapeError> {
        let bounds = [
            ("vocabulary", self.vocab, 2, 65_536),
            ("width", self.width, 8, 16_384),
            ("heads", self.heads, 1, 256),
            ("layers", self.layers, 1, 256),
            ("context", self.context, 8, 65_536),
            ("ffn", self.ffn, 8, 65_536),
        ];
        for (name, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(ShapeError::Bounds { name, value, min, max });
            }
        }
        if !self.width.is_multiple_of(2 * self.heads) {
            return Err(ShapeError::Heads { width: self.width, heads: self.heads });
        }
        let params = self.count();
        if params > Self::MAX_PARAMS {
            return Err(ShapeError::TooLarge { params, max: Self::MAX_PARAMS });
        }
        Ok(())
    }

    /// Size of one head.
    pub fn head_size(&self) -> u32 {
        self.width / self.heads
    }

    /// Trained parameters; the tied embedding counts once.
    pub fn params(&self) -> usize {
        self.count() as usize
    }

    fn count(&self) -> u64 {
        let (vocab, width, ffn) = (u64::from(self.vocab), u64::from(self.width), u64::from(self.ffn));
        let matrices = 4 * width * width + 3 * width * ffn;
        let gains = 2 * width + 2 * u64::from(self.width / self.heads.max(1));
        vocab * width + u64::from(self.layers) * (matrices + gains) + width
    }

    /// How many numbers at the front of the flat vector belong to matrices; the gains follow. Weight decay acts on
    /// the matrices alone.
    pub fn matrix_params(&self) -> usize {
        self.layout().iter().filter(|t| t.shape.len() == 2).map(TensorSpec::len).sum()
    }

    /// Every tensor in the flat vector's order: the embedding, each layer's matrices (q, k, v side by side, so that
    /// one product serves all three; gate and up likewise), then every gain.
    pub fn layout(&self) -> Vec<TensorSpec> {
        let (vocab, width, ffn) = (self.vocab as usize, self.width as usize, self.ffn as usize);
        let head = self.head_size() as usize;
        let mut tensors = Vec::new();
        let mut offset = 0;
        let mut push = |name: String, shape: Vec<usize>| {
            let tensor = TensorSpec { name, shape, offset };
            offset += tensor.len();
            tensors.push(tensor);
        };
        push("model.embed_tokens.weight".into(), vec![vocab, width]);
        for layer in 0..self.layers {
            let mut matrix = |part: &str, rows, columns| {
                push(format!("model.layers.{layer}.{part}_proj.weight"), vec![rows, columns]);
            };
            matrix("self_attn.q", width, width);
            matrix("self_attn.k", width, width);
            matrix("self_attn.v", width, width);
            matrix("self_attn.o", width, width);
            matrix("mlp.gate", ffn, width);
            matrix("mlp.up", ffn, width);
            matrix("mlp.down", width, ffn);
        }
        for layer in 0..self.layers {
            let mut gain = |part: &str, length| push(format!("model.layers.{layer}.{part}.weight"), vec![length]);
            gain("input_layernorm", width);
            gain("self_attn.q_norm", head);
            gain("self_attn.k_norm", head);
            gain("post_attention_layernorm", width);
        }
        push("model.norm.weight".into(), vec![width]);
        tensors
    }

    /// The random start, version 0: matrices normal with deviation 0.02 (embedding) or 0.5/sqrt(inputs),
    /// both projections into the residual stream zero (so that every layer begins as the identity), gains one.
    pub fn initial_weights(&self, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        let mut weights = Vec::with_capacity(self.params());
        for tensor in self.layout() {
            let deviation = match tensor.shape[..] {
                [_] => None,
                _ if tensor.name.ends_with("o_proj.weight") || tensor.name.ends_with("down_proj.weight") => Some(0.0),
                _ if tensor.name.starts_with("model.embed") => Some(0.02),
                [_, inputs] => Some(0.5 / (inputs as f64).sqrt()),
                _ => unreachable!("tensors have one or two dimensions"),
            };
            weights.extend((0..tensor.len()).map(|_| match deviation {
                None => 1.0,
                Some(d) if d > 0.0 => (rng.normal() * d) as f32,
                Some(_) => 0.0,
            }));
        }
        weights
    }
}

/// How a worker trains, the same for every task of a run. Learning rates come with each task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Windows in one optimiser step.
    pub batch: u32,
    /// AdamW's decay of the mean of gradients.
    pub beta1: f32,
    /// AdamW's decay of the mean of squared gradients.
    pub beta2: f32,
    /// AdamW's weight decay, on matrices alone.
    pub weight_decay: f32,
    /// The gradient's norm is clipped to this.
    pub clip: f32,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { batch: 8, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, clip: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_known_counts() {
        assert_eq!(Shape::new(10_000, 256, 4, 2, 512).params(), 4_142_592);
        let shape = Shape::new(256, 128, 4, 4, 64);
        assert_eq!(shape.params(), 836_992);
    }

    #[test]
    fn layout_is_dense_and_matches_the_count() {
        let shape = Shape::new(300, 48, 4, 3, 32);
        let mut next = 0;
        for tensor in shape.layout() {
            assert_eq!(tensor.offset, next, "{}", tensor.name);
            next += tensor.len();
        }
        assert_eq!(next, shape.params());
        assert_eq!(shape.initial_weights(1).len(), shape.params());
        assert_eq!(shape.initial_weights(1), shape.initial_weights(1));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Shape::new(256, 128, 4, 4, 64).check().is_ok());
        assert!(Shape::new(256, 130, 4, 4, 64).check().is_err());
        assert!(Shape::new(256, 128, 0, 4, 64).check().is_err());
        assert!(Shape::new(65_536, 16_384, 4, 64, 64).check().is_err());
        assert!(Shape { ffn: u32::MAX, vocab: u32::MAX, ..Shape::new(256, 128, 4, 4, 64) }.check().is_err());
    }
}
