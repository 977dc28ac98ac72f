//! Training on an NVIDIA card in bf16, over weights in f32: libtorch's matrix products and attention, and everything
//! between them in kernels of our own.
//!
//! With libtorch's operations alone most of a step goes into what lies between the products: each norm, turn and gate
//! is several passes over memory, forward and back, and each pass is a launch. Here each is one (`kernels.cu`), and the
//! gradients of the weights are written where they belong by the products themselves. Sizes that the kernels do not
//! take are trained by `torch.rs`, which also is what this is tested against.

mod driver;
#[cfg(test)]
mod tests;

use hydra_core::model::{Recipe, Shape};
use tch::{Kind, Tensor};

use self::driver::{Argument, Kernels};
use crate::adam::AdamStep;
use crate::backend::{AtOnce, Backend, Batch, Hurdle, in_pieces, wanted};
use crate::graph::indexes;
use crate::moments::Moments;
use crate::parts::{Parts, Place, angles};
use crate::{Device, EngineError, Result};

/// Tokens that go through the network at once.
const PIECE_TOKENS: usize = 1 << 16;
/// Numbers in one block of logits.
const LOGITS_BLOCK: i64 = 1 << 28;
/// Blocks of a kernel that goes over all tokens with a sum for each block: enough to fill any card, few to add up.
const BLOCKS: i64 = 512;
/// Threads of a block whose warps take a row each.
const ROW_THREADS: i64 = 128;

/// Flat vectors on the card, and the kernels.
pub(crate) struct Gpu {
    shape: Shape,
    recipe: Recipe,
    kernels: Kernels,
    matrices: i64,
    weights: Tensor,
    /// The weights in bf16, which the products read.
    rounded: Tensor,
    gradient: Tensor,
    /// Views of the rounded weights, of those in f32 (the gains are read from there), and of the gradient.
    factors: Parts<Tensor>,
    gains: Parts<Tensor>,
    slopes: Parts<Tensor>,
    /// Cosines and sines of the positions' angles, `[context, head size / 2]`.
    cosine: Tensor,
    sine: Tensor,
    moments: Moments,
    at_once: AtOnce,
    hurdle: Option<Hurdle>,
}

/// What a layer's way back needs of its way forward; `[tokens, …]` each.
struct Layer {
    stream: Tensor,
    normed: Tensor,
    scale: Tensor,
    qkv: Tensor,
    /// Queries, keys and values, `[windows, heads, tokens, head size]`: leaves of libtorch's autograd, which knows the
    /// way back through attention alone.
    leaves: [Tensor; 3],
    attended: Tensor,
    middle: Middle,
}

/// The second half of a layer.
struct Middle {
    stream: Tensor,
    normed: Tensor,
    scale: Tensor,
    both: Tensor,
    gated: Tensor,
}

impl Gpu {
    /// Nothing if the device works in f32, or the kernels do not take these sizes.
    pub fn new(shape: Shape, recipe: Recipe, device: Device, hurdle: Option<&Hurdle>) -> Result<Option<Self>> {
        let tch::Device::Cuda(number) = device.torch else { return Ok(None) };
        let Shape { vocab, width, heads, ffn, context, .. } = shape;
        let head = shape.head_size();
        let fits = width.is_multiple_of(128)
            && width <= 4096
            && ffn.is_multiple_of(8)
            && (16..=256).contains(&head)
            && head.is_power_of_two();
        if device.kind() != Kind::BFloat16 || !fits {
            return Ok(None);
        }
        let definitions =
            [("W", width), ("H", heads), ("D", head), ("F", ffn), ("V", vocab)].map(|(name, n)| format!("{name}={n}"));
        let zeros = |kind| Tensor::f_zeros([shape.params() as i64], (kind, device.torch));
        let (weights, gradient, rounded) = (zeros(Kind::Float)?, zeros(Kind::Float)?, zeros(Kind::BFloat16)?);
        let moments = Moments::new(shape.params(), device.torch)?;
        // Last: they stay on the card, and a card without room for the numbers is asked again and again.
        let kernels = Kernels::new(include_str!("kernels.cu"), &definitions, number)?;
        let places = Parts::of(&shape);
        let views = |flat: &Tensor| places.map(|place: &Place| place.view(flat));
        let half = i64::from(head) / 2;
        let angles = Tensor::f_from_slice(&angles(&shape))?.f_view([i64::from(context), 2 * half])?;
        let table = |from| angles.f_narrow(1, from, half)?.f_contiguous()?.f_to_device(device.torch);
        Ok(Some(Self {
            shape,
            recipe,
            kernels,
            matrices: shape.matrix_params() as i64,
            factors: views(&rounded)?,
            gains: views(&weights)?,
            slopes: views(&gradient)?,
            weights,
            rounded,
            gradient,
            cosine: table(0)?,
            sine: table(half)?,
            moments,
            at_once: AtOnce::all(),
            hurdle: hurdle.cloned(),
        }))
    }

    /// One pass: the flat gradient of these windows, beside what it was unless it is the `first`; the sum of nats.
    fn pass(&self, windows: &[&[u16]], context: i64, share: f32, first: bool) -> Result<f64> {
        let tokens = indexes(windows.iter().copied(), context as usize + 1, self.weights.device())?;
        let inputs = tokens.f_narrow(1, 0, context)?.f_reshape([-1])?;
        let targets = tokens.f_narrow(1, 1, context)?.f_reshape([-1])?;
        let mut stream = Tensor::f_embedding(&self.factors.embed, &inputs, -1, false, false)?;
        let mut layers = Vec::with_capacity(self.factors.layers.len());
        for index in 0..self.factors.layers.len() {
            let (next, layer) = self.forward(index, stream, context)?;
            stream = next;
            layers.push(layer);
        }
        let (normed, scale) = self.norm(&stream, &self.gains.norm)?;
        let (nats, dnormed) = self.loss(&normed, &targets, share, first)?;
        let slope = &self.slopes.norm;
        let mut dstream = self.norm_back(&dnormed, &stream, (&self.gains.norm, slope), &scale, None, first)?;
        while let Some(layer) = layers.pop() {
            dstream = self.backward(layers.len(), &layer, &dstream, context, first)?;
        }
        let vocab = i64::from(self.shape.vocab);
        let dembed = Tensor::f_embedding_dense_backward(&dstream, &inputs, vocab, -1, false)?;
        let _ = self.slopes.embed.shallow_clone().f_add_(&dembed)?;
        // Waited for only now that everything is under way.
        Ok(nats.f_double_value(&[])?)
    }

    fn forward(&self, index: usize, stream: Tensor, context: i64) -> Result<(Tensor, Layer)> {
        let (factors, gains) = (&self.factors.layers[index], &self.gains.layers[index]);
        let (heads, size) = (i64::from(self.shape.heads), i64::from(self.shape.head_size()));
        let (normed, scale) = self.norm(&stream, &gains.norm1)?;
        let tokens = rows(&normed);
        let qkv = normed.f_mm(&factors.qkv.f_tr()?)?;
        let (query, key) = (normed.f_empty_like()?, normed.f_empty_like()?);
        let (cosine, sine) = ((&self.cosine).into(), (&self.sine).into());
        let mut arguments = [
            (&qkv).into(),
            (&gains.heads).into(),
            cosine,
            sine,
            (&query).into(),
            (&key).into(),
            tokens.into(),
            context.into(),
        ];
        let threads = i64::from(self.shape.width) / 4;
        self.kernels.launch(self.kernels.find(c"heads")?, (tokens.min(4 * BLOCKS), threads), &mut arguments)?;
        let windows = tokens / context;
        let leaf = |tensor: Tensor| tensor.f_transpose(1, 2)?.f_detach()?.f_set_requires_grad(true);
        let value = qkv.f_view([windows, context, 3, heads, size])?.f_select(2, 2)?;
        let apart = [windows, context, heads, size];
        let leaves = [leaf(query.f_view(apart)?)?, leaf(key.f_view(apart)?)?, leaf(value)?];
        let [query, key, value] = &leaves;
        let attended =
            Tensor::f_scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, true, None, false)?;
        let middle = stream.f_addmm(&flat(&attended, tokens)?, &factors.out.f_tr()?)?;
        let (normed2, scale2) = self.norm(&middle, &gains.norm2)?;
        let both = normed2.f_mm(&factors.gate_up.f_tr()?)?;
        let ffn = i64::from(self.shape.ffn);
        let gated = Tensor::f_empty([tokens, ffn], (Kind::BFloat16, both.device()))?;
        let vectors = tokens * ffn / 8;
        let mut arguments = [(&both).into(), (&gated).into(), vectors.into()];
        self.kernels.launch(self.kernels.find(c"gate")?, ((vectors + 255) / 256, 256), &mut arguments)?;
        let next = middle.f_addmm(&gated, &factors.down.f_tr()?)?;
        let middle = Middle { stream: middle, normed: normed2, scale: scale2, both, gated };
        Ok((next, Layer { stream, normed, scale, qkv, leaves, attended, middle }))
    }

    /// The gradient of a layer's stream from that of the next.
    fn backward(&self, index: usize, layer: &Layer, dnext: &Tensor, context: i64, first: bool) -> Result<Tensor> {
        let (factors, gains, slopes) =
            (&self.factors.layers[index], &self.gains.layers[index], &self.slopes.layers[index]);
        let Middle { stream, normed, scale, both, gated } = &layer.middle;
        let tokens = rows(dnext);
        add_product(&slopes.down, dnext, gated, first)?;
        let dgated = dnext.f_mm(&factors.down)?;
        let dboth = both.f_empty_like()?;
        let vectors = tokens * i64::from(self.shape.ffn) / 8;
        let mut arguments = [(&dgated).into(), both.into(), (&dboth).into(), vectors.into()];
        self.kernels.launch(self.kernels.find(c"gate_back")?, ((vectors + 255) / 256, 256), &mut arguments)?;
        add_product(&slopes.gate_up, &dboth, normed, first)?;
        let dnormed = dboth.f_mm(&factors.gate_up)?;
        let gain = (&gains.norm2, &slopes.norm2);
        let dmiddle = self.norm_back(&dnormed, stream, gain, scale, Some(dnext), first)?;

        let attended = flat(&layer.attended, tokens)?;
        add_product(&slopes.out, &dmiddle, &attended.f_detach()?, first)?;
        let dattended = dmiddle.f_mm(&factors.out)?;
        // A number whose gradient with respect to what was attended to is the one at hand: autograd goes on from it.
        let carrier = attended.f_view([-1])?.f_dot(&dattended.f_view([-1])?)?;
        let back = Tensor::f_run_backward(&[carrier], &layer.leaves, false, false)?;
        let dqkv = layer.qkv.f_empty_like()?;
        let blocks = tokens.min(2 * BLOCKS);
        let head = i64::from(self.shape.head_size());
        let partial = Tensor::f_empty([blocks, 2 * head], (Kind::Float, dqkv.device()))?;
        let mut arguments: Vec<Argument> =
            [&layer.qkv, &gains.heads, &self.cosine, &self.sine].into_iter().map(Argument::from).collect();
        for tensor in &back {
            let steps = tensor.stride();
            let (&[window, head, token, 1], true) = (&steps[..], tensor.kind() == Kind::BFloat16) else {
                return Err(EngineError::Libtorch(format!("attention's gradients lie with steps of {steps:?}")));
            };
            let place: [Argument; 4] = [tensor.into(), window.into(), head.into(), token.into()];
            arguments.extend(place);
        }
        let rest: [Argument; 4] = [(&dqkv).into(), (&partial).into(), tokens.into(), context.into()];
        arguments.extend(rest);
        let threads = i64::from(self.shape.width) / 4;
        self.kernels.launch(self.kernels.find(c"heads_back")?, (blocks, threads), &mut arguments)?;
        add_rows(&slopes.heads.f_view([2 * head])?, &partial, first)?;
        add_product(&slopes.qkv, &dqkv, &layer.normed, first)?;
        let dnormed = dqkv.f_mm(&factors.qkv)?;
        let gain = (&gains.norm1, &slopes.norm1);
        self.norm_back(&dnormed, &layer.stream, gain, &layer.scale, Some(&dmiddle), first)
    }

    /// The normed rows, and what each was multiplied with.
    fn norm(&self, x: &Tensor, gain: &Tensor) -> Result<(Tensor, Tensor)> {
        let (tokens, y) = (rows(x), x.f_empty_like()?);
        let scale = Tensor::f_empty([tokens], (Kind::Float, x.device()))?;
        let mut arguments = [x.into(), gain.into(), (&y).into(), (&scale).into(), tokens.into()];
        let blocks = (tokens * 32 + ROW_THREADS - 1) / ROW_THREADS;
        self.kernels.launch(self.kernels.find(c"rms_norm")?, (blocks, ROW_THREADS), &mut arguments)?;
        Ok((y, scale))
    }

    /// The gradient of what was normed, with that which goes past the norm; the gain's goes where it belongs.
    fn norm_back(
        &self,
        dy: &Tensor,
        x: &Tensor,
        (gain, slope): (&Tensor, &Tensor),
        scale: &Tensor,
        beside: Option<&Tensor>,
        first: bool,
    ) -> Result<Tensor> {
        let (tokens, dx) = (rows(x), x.f_empty_like()?);
        let blocks = ((tokens * 32 + ROW_THREADS - 1) / ROW_THREADS).min(BLOCKS);
        let partial = Tensor::f_empty([blocks, i64::from(self.shape.width)], (Kind::Float, x.device()))?;
        let beside = beside.map_or(Argument::NOTHING, Argument::from);
        let mut arguments =
            [dy.into(), x.into(), gain.into(), scale.into(), beside, (&dx).into(), (&partial).into(), tokens.into()];
        self.kernels.launch(self.kernels.find(c"rms_norm_back")?, (blocks, ROW_THREADS), &mut arguments)?;
        add_rows(slope, &partial, first)?;
        Ok(dx)
    }

    /// The sum of nats, not waited for, and the gradient of `normed`, block after block; the output matrix's goes where
    /// it belongs.
    fn loss(&self, normed: &Tensor, targets: &Tensor, share: f32, first: bool) -> Result<(Tensor, Tensor)> {
        let (tokens, vocab) = (rows(normed), i64::from(self.shape.vocab));
        let embed = &self.factors.embed;
        let nats = Tensor::f_empty([tokens], (Kind::Float, normed.device()))?;
        let dnormed = normed.f_empty_like()?;
        let block = (LOGITS_BLOCK / vocab).max(1);
        for start in (0..tokens).step_by(block as usize) {
            let count = block.min(tokens - start);
            let part = normed.f_narrow(0, start, count)?;
            let logits = part.f_mm(&embed.f_tr()?)?;
            let (targets, nats) = (targets.f_narrow(0, start, count)?, nats.f_narrow(0, start, count)?);
            let mut arguments = [(&logits).into(), (&targets).into(), (&nats).into(), share.into()];
            self.kernels.launch(self.kernels.find(c"cross_entropy")?, (count, 256), &mut arguments)?;
            let _ = logits.f_mm_out(&dnormed.f_narrow(0, start, count)?, embed)?;
            add_product(&self.slopes.embed, &logits, &part, first && start == 0)?;
        }
        Ok((nats.f_sum(Kind::Double)?, dnormed))
    }
}

impl Backend for Gpu {
    fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.weights.f_copy_(&Tensor::f_from_slice(weights)?)?;
        Ok(self.rounded.f_copy_(&self.weights)?)
    }

    fn weights(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.weights.numel()];
        let length = out.len();
        self.weights.f_to_device(tch::Device::Cpu)?.f_copy_data(&mut out, length)?;
        Ok(out)
    }

    fn gradient(&mut self, batch: Batch) -> Result<f64> {
        self.kernels.enter()?;
        let (usual, mut at_once) = ((PIECE_TOKENS / batch.context).max(1), self.at_once);
        let share = 1.0 / batch.targets() as f32;
        let hurdle = self.hurdle.clone();
        let nats = in_pieces(batch.windows(), usual, &mut at_once, hurdle.as_ref(), |piece, first| {
            wanted(&batch.stop)?;
            let windows: Vec<&[u16]> = piece.map(|i| batch.window(i)).collect();
            self.pass(&windows, batch.context as i64, share, first)
        });
        self.at_once = at_once;
        nats
    }

    fn update(&mut self, rate: f32) -> Result<f64> {
        let norm = self.gradient.f_norm()?.f_double_value(&[])?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.kernels.enter()?;
        self.moments.steps += 1;
        let step = AdamStep::new(&self.recipe, rate, self.moments.steps, norm);
        let count = self.weights.numel() as i64;
        let flat = [&self.weights, &self.gradient, &self.moments.mean, &self.moments.square, &self.rounded]
            .map(Argument::from);
        let AdamStep { clip, beta1, beta2, shrink, size, unbias } = step;
        let numbers = [clip, beta1, beta2, shrink, size, unbias].map(Argument::from);
        let mut arguments = [&flat[..], &[count.into(), self.matrices.into()], &numbers].concat();
        let blocks = ((count + 255) / 256).min(4 * BLOCKS);
        self.kernels.launch(self.kernels.find(c"adam")?, (blocks, 256), &mut arguments)?;
        Ok(norm)
    }

    fn keep_optimizer(&mut self) -> Result<()> {
        self.at_once.begin();
        self.moments.keep()
    }

    fn restore_optimizer(&mut self) -> Result<()> {
        self.moments.restore()
    }

    fn reset_optimizer(&mut self) -> Result<()> {
        self.moments.reset()
    }
}

fn rows(tensor: &Tensor) -> i64 {
    tensor.size()[0]
}

/// `[windows, heads, tokens, head size]` as `[all tokens, width]`.
fn flat(attended: &Tensor, tokens: i64) -> Result<Tensor> {
    Ok(attended.f_transpose(1, 2)?.f_reshape([tokens, -1])?)
}

/// `into` = aᵀ·b in f32, or that more if it is not the `first`.
fn add_product(into: &Tensor, a: &Tensor, b: &Tensor, first: bool) -> Result<()> {
    let a = a.f_tr()?;
    let _ = if first {
        a.f_mm_dtype_out(into, b, Kind::Float)?
    } else {
        into.shallow_clone().f_add_(&a.f_mm_dtype(b, Kind::Float)?)?
    };
    Ok(())
}

/// `into` = the sum of the rows of `partial`, or that more if it is not the `first`.
fn add_rows(into: &Tensor, partial: &Tensor, first: bool) -> Result<()> {
    let down = Some([0i64].as_slice());
    let _ = if first {
        partial.f_sum_intlist_out(into, down, false, Kind::Float)?
    } else {
        into.shallow_clone().f_add_(&partial.f_sum_dim_intlist(down, false, Kind::Float)?)?
    };
    Ok(())
}
