//! The model's forward pass in libtorch operations, for any device: evaluation, and training on a GPU.
//!
//! The arithmetic is that of `transformers`' Qwen3, in f32 or in bf16 with logits and losses in f32. `cpu/` holds the
//! same arithmetic by hand for training. Operations are chosen for what they and their gradients cost on a GPU: few
//! launches, few passes over memory (the gradient of a split is one copy, that of a narrowing a whole tensor of zeros).

use hydra_core::model::Shape;
use tch::{Device, Kind, Tensor};

use crate::parts::{Layer, Parts, angles};
use crate::{EngineError, Result};

const EPSILON: f64 = 1e-6;

/// Numbers in one block of logits: what stays in a CPU's caches, and what fills a GPU.
const LOGITS_BLOCK: i64 = 4 << 20;
const LOGITS_BLOCK_GPU: i64 = 1 << 28;

/// Weights on a device, ready to be multiplied.
pub(crate) struct Graph {
    shape: Shape,
    pub weights: Parts<Tensor>,
    /// `[context, 1, 1, head size]` each. A head's halves are turned against each other: the sines of the first are
    /// negative.
    cos: Tensor,
    sin: Tensor,
}

impl Graph {
    /// `flat` is the flat weight vector; the graph reads it through views. With `trained` the views are leaves of
    /// libtorch's autograd.
    pub fn new(shape: Shape, flat: &Tensor, trained: bool) -> Result<Self> {
        let weights = Parts::of(&shape).map(|place| {
            let leaf = place.view(flat)?.f_detach()?;
            Ok::<_, EngineError>(if trained { leaf.f_set_requires_grad(true)? } else { leaf })
        })?;
        let half = i64::from(shape.head_size()) / 2;
        let angles = Tensor::f_from_slice(&angles(&shape))?.f_view([i64::from(shape.context), 1, 1, 2 * half])?;
        let (cos, sin) = (angles.f_narrow(-1, 0, half)?, angles.f_narrow(-1, half, half)?);
        let place = |table: Tensor| table.f_to_device(flat.device())?.f_totype(flat.kind());
        let (cos, sin) =
            (place(Tensor::f_cat(&[&cos, &cos], -1)?)?, place(Tensor::f_cat(&[&sin.f_neg()?, &sin], -1)?)?);
        Ok(Self { shape, weights, cos, sin })
    }

    /// The same weights for another thread.
    pub fn share(&self) -> Self {
        let weights = self.weights.map(|w| Ok::<_, std::convert::Infallible>(w.shallow_clone()));
        let Ok(weights) = weights;
        Self { shape: self.shape, weights, cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone() }
    }

    /// The normed stream after the last layer, `[windows × tokens, width]`, of `tokens` (`[windows, tokens]`).
    pub fn stream(&self, tokens: &Tensor) -> Result<Tensor> {
        let (windows, length) = tokens.size2()?;
        let width = i64::from(self.shape.width);
        let flat = tokens.f_reshape([-1])?;
        let mut stream = Tensor::f_embedding(&self.weights.embed, &flat, -1, false, false)?;
        for layer in &self.weights.layers {
            let normed = stream.f_rms_norm([width], Some(&layer.norm1), EPSILON)?;
            let qkv = normed.f_linear(&layer.qkv, None::<&Tensor>)?;
            let attended = self.attend(layer, &qkv, [windows, length])?;
            stream = stream.f_add(&attended.f_linear(&layer.out, None::<&Tensor>)?)?;
            let normed = stream.f_rms_norm([width], Some(&layer.norm2), EPSILON)?;
            let both = normed.f_linear(&layer.gate_up, None::<&Tensor>)?;
            let both = both.f_split(i64::from(self.shape.ffn), 1)?;
            let gated = both[0].f_silu()?.f_mul(&both[1])?;
            stream = stream.f_add(&gated.f_linear(&layer.down, None::<&Tensor>)?)?;
        }
        Ok(stream.f_rms_norm([width], Some(&self.weights.norm), EPSILON)?)
    }

    fn attend(&self, layer: &Layer<Tensor>, qkv: &Tensor, [windows, length]: [i64; 2]) -> Result<Tensor> {
        let (heads, size) = (i64::from(self.shape.heads), i64::from(self.shape.head_size()));
        let qkv = qkv.f_view([windows, length, 3, heads, size])?.f_split_with_sizes([2, 1], 2)?;
        let normed = qkv[0].f_rms_norm([size], None::<&Tensor>, EPSILON)?;
        let normed = normed.f_mul(&layer.heads.f_view([2, 1, size])?)?;
        let (cos, sin) = (self.cos.f_narrow(0, 0, length)?, self.sin.f_narrow(0, 0, length)?);
        let turned = normed.f_mul(&cos)?.f_addcmul(&normed.f_roll([size / 2], [-1])?, &sin)?;
        let turned = turned.f_unbind(2)?;
        let query = turned[0].f_transpose(1, 2)?;
        let key = turned[1].f_transpose(1, 2)?;
        let value = qkv[1].f_squeeze_dim(2)?.f_transpose(1, 2)?;
        let out =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, true, None, false)?;
        Ok(out.f_transpose(1, 2)?.f_reshape([windows * length, heads * size])?)
    }

    /// Logits of rows of the normed stream, in f32 whatever the weights are in.
    pub fn logits(&self, normed: &Tensor) -> Result<Tensor> {
        product(normed, &self.weights.embed.f_tr()?)
    }

    /// Sum of nats of `targets` after the rows of `normed`, as a tensor that is not waited for, block after block: a
    /// large vocabulary's logits are far larger than everything else. With `dembed` and a scale also the gradient of
    /// `scale` × that sum: added to `dembed` for the output matrix, returned for `normed`. Call without gradient
    /// tracking.
    pub fn loss(
        &self,
        normed: &Tensor,
        targets: &Tensor,
        gradient: Option<(&mut Tensor, f64)>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let embed = &self.weights.embed;
        let mut sum = Tensor::f_zeros([1], (Kind::Double, normed.device()))?;
        let mut gradient = gradient;
        let mut dnormed = Vec::new();
        for (start, count) in self.blocks(normed) {
            let part = normed.f_narrow(0, start, count)?;
            let targets = targets.f_narrow(0, start, count)?.f_unsqueeze(1)?;
            let mut likely = self.logits(&part)?.f_log_softmax(1, Kind::Float)?;
            let nats = likely.f_gather(1, &targets, false)?.f_sum(Kind::Double)?;
            let _ = sum.f_sub_(&nats)?;
            if let Some((dembed, scale)) = &mut gradient {
                // One pass over the block, straight into the kind of the products.
                let mut dlogits = if part.kind() == Kind::Float {
                    likely.f_exp_()?
                } else {
                    likely.f_exp_out(&Tensor::f_empty(likely.size(), (part.kind(), part.device()))?)?
                };
                let minus = Tensor::f_full([count, 1], -1.0, (part.kind(), part.device()))?;
                let dlogits = dlogits.f_scatter_add_(1, &targets, &minus)?;
                dnormed.push(dlogits.f_mm(embed)?.f_mul_scalar_(*scale)?);
                let _ = dembed.f_add_(&product(&dlogits.f_tr()?, &part)?.f_mul_scalar_(*scale)?)?;
            }
        }
        let dnormed = if dnormed.is_empty() { None } else { Some(Tensor::f_cat(&dnormed, 0)?) };
        Ok((sum, dnormed))
    }

    /// Three sums over the rows of `normed`, as one tensor that is not waited for: nats of `targets`; the entropy of what
    /// is guessed; its variance of ln p. The first two differ by the slope of the nats in a factor on all logits, and
    /// the third is their curvature. Call without gradient tracking.
    pub fn sureness(&self, normed: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let mut sums = Tensor::f_zeros([3], (Kind::Double, normed.device()))?;
        for (start, count) in self.blocks(normed) {
            let targets = targets.f_narrow(0, start, count)?.f_unsqueeze(1)?;
            let likely = self.logits(&normed.f_narrow(0, start, count)?)?.f_log_softmax(1, Kind::Float)?;
            let nats = likely.f_gather(1, &targets, false)?.f_sum(Kind::Double)?.f_neg()?;
            let mut weighed = likely.f_exp()?.f_mul_(&likely)?;
            let entropy = weighed.f_sum_dim_intlist(1, false, Kind::Double)?.f_neg()?;
            let square = weighed.f_mul_(&likely)?.f_sum_dim_intlist(1, false, Kind::Double)?;
            let spread = square.f_sub(&entropy.f_square()?)?.f_sum(Kind::Double)?;
            let _ = sums.f_add_(&Tensor::f_stack(&[nats, entropy.f_sum(Kind::Double)?, spread], 0)?)?;
        }
        Ok(sums)
    }

    /// Runs of rows, each as its first and their number, whose logits are held at once.
    fn blocks(&self, normed: &Tensor) -> impl Iterator<Item = (i64, i64)> + use<> {
        let rows = normed.size()[0];
        let most = if normed.device() == Device::Cpu { LOGITS_BLOCK } else { LOGITS_BLOCK_GPU };
        let block = (most / i64::from(self.shape.vocab)).max(1);
        (0..rows).step_by(block as usize).map(move |start| (start, block.min(rows - start)))
    }
}

/// A matrix product in f32, summed and kept so even if the factors are in bf16.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(match (a.kind(), a.device()) {
        (Kind::Float, _) => a.f_mm(b)?,
        (_, Device::Cpu) => a.f_totype(Kind::Float)?.f_mm(&b.f_totype(Kind::Float)?)?,
        _ => a.f_mm_dtype(b, Kind::Float)?,
    })
}

/// Token numbers as libtorch indexes, `[rows, columns]`.
pub(crate) fn indexes<'a>(rows: impl Iterator<Item = &'a [u16]>, columns: usize, device: Device) -> Result<Tensor> {
    let numbers: Vec<i64> = rows.flatten().map(|&token| i64::from(token)).collect();
    Ok(Tensor::f_from_slice(&numbers)?.f_view([-1, columns as i64])?.f_to_device(device)?)
}
