//! The model's forward pass in libtorch operations, for any device: evaluation, and training on a GPU.
//!
//! The arithmetic is that of `transformers`' Qwen3 in f32. `cpu/` holds the same arithmetic by hand for training.

use hydra_core::model::Shape;
use tch::{Device, Kind, Tensor};

use crate::parts::{Layer, Parts, angles};
use crate::{EngineError, Result};

const EPSILON: f64 = 1e-6;

/// Numbers in one block of logits.
const LOGITS_BLOCK: i64 = 4 << 20;

/// Weights on a device, ready to be multiplied.
pub(crate) struct Graph {
    shape: Shape,
    pub weights: Parts<Tensor>,
    /// `[context, 1, 1, head size / 2]` each.
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
        let angles = Tensor::f_from_slice(&angles(&shape))?
            .f_view([i64::from(shape.context), 1, 1, 2 * half])?
            .f_to_device(flat.device())?;
        let (cos, sin) =
            (angles.f_narrow(-1, 0, half)?.f_contiguous()?, angles.f_narrow(-1, half, half)?.f_contiguous()?);
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
            let ffn = i64::from(self.shape.ffn);
            let gated = both.f_narrow(1, 0, ffn)?.f_silu()?.f_mul(&both.f_narrow(1, ffn, ffn)?)?;
            stream = stream.f_add(&gated.f_linear(&layer.down, None::<&Tensor>)?)?;
        }
        Ok(stream.f_rms_norm([width], Some(&self.weights.norm), EPSILON)?)
    }

    fn attend(&self, layer: &Layer<Tensor>, qkv: &Tensor, [windows, length]: [i64; 2]) -> Result<Tensor> {
        let (heads, size) = (i64::from(self.shape.heads), i64::from(self.shape.head_size()));
        let qkv = qkv.f_view([windows, length, 3, heads, size])?;
        let normed = qkv.f_narrow(2, 0, 2)?.f_rms_norm([size], None::<&Tensor>, EPSILON)?;
        let normed = normed.f_mul(&layer.heads.f_view([2, 1, size])?)?;
        let (cos, sin) = (self.cos.f_narrow(0, 0, length)?, self.sin.f_narrow(0, 0, length)?);
        let (a, b) = (normed.f_narrow(-1, 0, size / 2)?, normed.f_narrow(-1, size / 2, size / 2)?);
        let first = a.f_mul(&cos)?.f_sub(&b.f_mul(&sin)?)?;
        let second = b.f_mul(&cos)?.f_add(&a.f_mul(&sin)?)?;
        let turned = Tensor::f_cat(&[first, second], -1)?;
        let query = turned.f_select(2, 0)?.f_transpose(1, 2)?;
        let key = turned.f_select(2, 1)?.f_transpose(1, 2)?;
        let value = qkv.f_select(2, 2)?.f_transpose(1, 2)?;
        let out =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, true, None, false)?;
        Ok(out.f_transpose(1, 2)?.f_reshape([windows * length, heads * size])?)
    }

    /// Logits of rows of the normed stream.
    pub fn logits(&self, normed: &Tensor) -> Result<Tensor> {
        Ok(normed.f_linear(&self.weights.embed, None::<&Tensor>)?)
    }

    /// Sum of nats of `targets` after the rows of `normed`, block after block: a large vocabulary's logits are far
    /// larger than everything else. With `dembed` and a scale also the gradient of `scale` × that sum: added to
    /// `dembed` for the output matrix, returned for `normed`. Call without gradient tracking.
    pub fn loss(
        &self,
        normed: &Tensor,
        targets: &Tensor,
        gradient: Option<(&mut Tensor, f64)>,
    ) -> Result<(f64, Option<Tensor>)> {
        let rows = normed.size()[0];
        let block = (LOGITS_BLOCK / i64::from(self.shape.vocab)).max(1);
        let embed = &self.weights.embed;
        let mut sum = Tensor::f_zeros([1], (Kind::Double, normed.device()))?;
        let mut gradient = gradient;
        let mut dnormed = Vec::new();
        for start in (0..rows).step_by(block as usize) {
            let count = block.min(rows - start);
            let part = normed.f_narrow(0, start, count)?;
            let targets = targets.f_narrow(0, start, count)?.f_unsqueeze(1)?;
            let logits = self.logits(&part)?;
            let mut likely = logits.f_log_softmax(1, Kind::Float)?;
            let nats = likely.f_gather(1, &targets, false)?.f_sum(Kind::Double)?;
            let _ = sum.f_sub_(&nats)?;
            if let Some((dembed, scale)) = &mut gradient {
                let mut dlogits = likely.f_exp_()?;
                let minus = Tensor::f_full([count, 1], -1.0, (Kind::Float, normed.device()))?;
                let mut dlogits = dlogits.f_scatter_add_(1, &targets, &minus)?;
                let dlogits = dlogits.f_mul_scalar_(*scale)?;
                dnormed.push(dlogits.f_mm(embed)?);
                let _ = dembed.f_addmm_(&dlogits.f_tr()?, &part)?;
            }
        }
        let dnormed = if dnormed.is_empty() { None } else { Some(Tensor::f_cat(&dnormed, 0)?) };
        Ok((sum.f_double_value(&[0])?, dnormed))
    }
}

/// Token numbers as libtorch indexes, `[rows, columns]`.
pub(crate) fn indexes<'a>(rows: impl Iterator<Item = &'a [u16]>, columns: usize, device: Device) -> Result<Tensor> {
    let numbers: Vec<i64> = rows.flatten().map(|&token| i64::from(token)).collect();
    Ok(Tensor::f_from_slice(&numbers)?.f_view([-1, columns as i64])?.f_to_device(device)?)
}
