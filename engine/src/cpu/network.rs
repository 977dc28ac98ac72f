//! The model on a CPU, forward and backward by hand: libtorch multiplies matrices and attends, the kernels do the
//! rest, and every buffer is allocated once.
//!
//! Why not libtorch's autograd: at these sizes a third of its time goes to small element-wise operations, each a pass
//! over fresh memory. `torch.rs` holds that version for GPUs, and the tests hold the two against each other.
//!
//! A pass takes whole windows of `context` tokens. Gradients of the first pass overwrite, later ones add.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hydra_core::model::Shape;
use tch::Tensor;

use super::kernels::Heads;
use super::space::Space;
use super::wide;
use crate::backend::wanted;
use crate::native::{floats, floats_mut};
use crate::parts::Parts;
use crate::{EngineError, Result};

/// `out = a · b`.
fn multiply(a: &Tensor, b: &Tensor, out: &Tensor) -> Result<()> {
    let _ = a.f_mm_out(out, b)?;
    Ok(())
}

/// `gradient = dout' · input`, or added to it.
fn weigh(gradient: &mut Tensor, dout: &Tensor, input: &Tensor, first: bool) -> Result<()> {
    let dout = dout.f_tr()?;
    if first {
        let _ = dout.f_mm_out(gradient, input)?;
    } else {
        let _ = gradient.f_addmm_(&dout, input)?;
    }
    Ok(())
}

/// One thread's network: views of the shared weights, its own gradients and buffers.
pub(crate) struct Network {
    shape: Shape,
    weights: Parts<Tensor>,
    /// The matrices transposed, as the forward pass multiplies by them.
    turned_weights: Parts<Tensor>,
    gradients: Parts<Tensor>,
    angles: Arc<[f32]>,
    /// Buffers for the sizes in use: whole pieces, and the shorter last one.
    spaces: Vec<Space>,
    /// Looked at before every layer: a piece of a large model takes seconds.
    stop: Arc<AtomicBool>,
}

impl Network {
    /// `weights` and `gradients` are flat vectors of the shape's length; the network reads the first and writes the
    /// second through views. `angles` are those of the shape's positions.
    pub fn new(shape: Shape, weights: &Tensor, gradients: &Tensor, angles: Arc<[f32]>) -> Result<Self> {
        let places = Parts::of(&shape);
        let weights = places.map(|place| place.view(weights))?;
        let turned_weights = weights.map(|w| if w.dim() == 2 { w.f_tr() } else { Ok(w.shallow_clone()) })?;
        let gradients = places.map(|place| place.view(gradients))?;
        let (spaces, stop) = (Vec::new(), Arc::default());
        Ok(Self { shape, weights, turned_weights, gradients, angles, spaces, stop })
    }

    /// Gives a pass up once `stop` is set.
    pub fn heed(&mut self, stop: &Arc<AtomicBool>) {
        self.stop = Arc::clone(stop);
    }

    /// Trains on `windows`, each `context + 1` tokens: adds the gradient of `scale` × the sum of nats to the
    /// gradients (or overwrites them with it) and returns that sum without the scale.
    pub fn gradient(&mut self, windows: &[&[u16]], context: usize, scale: f32, first: bool) -> Result<f64> {
        let _guard = tch::no_grad_guard();
        let fits = |space: &Space| space.windows == windows.len() && space.context == context;
        let mut space = match self.spaces.iter().position(fits) {
            Some(index) => self.spaces.swap_remove(index),
            None => {
                self.spaces.truncate(1);
                Space::new(&self.shape, windows.len(), context)?
            }
        };
        let inputs: Vec<u16> = windows.iter().flat_map(|w| &w[..context]).copied().collect();
        let targets: Vec<u16> = windows.iter().flat_map(|w| &w[1..]).copied().collect();
        if first {
            self.clear_gains();
        }
        self.forward(&mut space, &inputs)?;
        let nats = self.head(&mut space, &targets, scale, first)?;
        self.backward(&mut space, &inputs, first)?;
        // Kept only after success, so that running out of memory frees what it can.
        self.spaces.push(space);
        Ok(nats)
    }

    /// Gives the buffers back, before a try with smaller ones.
    pub fn free(&mut self) {
        self.spaces.clear();
    }

    fn clear_gains(&mut self) {
        floats_mut(&mut self.gradients.norm).fill(0.0);
        for layer in &mut self.gradients.layers {
            for gain in [&mut layer.norm1, &mut layer.heads, &mut layer.norm2] {
                floats_mut(gain).fill(0.0);
            }
        }
    }

    fn heads(&self, space: &Space) -> Heads {
        let size = self.shape.head_size() as usize;
        Heads { width: self.shape.width as usize, size, context: space.context }
    }

    fn forward(&self, space: &mut Space, inputs: &[u16]) -> Result<()> {
        let width = self.shape.width as usize;
        let Some(start) = space.layers.first_mut() else { return Err(EngineError::input("a model has layers")) };
        let (table, stream) = (floats(&self.weights.embed), floats_mut(&mut start.before));
        for (row, &token) in stream.chunks_exact_mut(width).zip(inputs) {
            row.copy_from_slice(&table[usize::from(token) * width..][..width]);
        }
        for index in 0..self.weights.layers.len() {
            wanted(&self.stop)?;
            self.layer_forward(space, index)?;
        }
        Ok(())
    }

    fn layer_forward(&self, space: &mut Space, index: usize) -> Result<()> {
        let (weights, turned) = (&self.weights.layers[index], &self.turned_weights.layers[index]);
        let heads = self.heads(space);
        let kept = &mut space.layers[index];
        if index == 0 {
            let out = floats_mut(&mut kept.normed1);
            wide::norm(floats(&kept.before), floats(&weights.norm1), out, &mut kept.inverse1);
        }
        multiply(&kept.normed1, &turned.qkv, &kept.qkv)?;
        let out = floats_mut(&mut kept.turned);
        wide::turn(heads, floats(&kept.qkv), floats(&weights.heads), &self.angles, out, &mut kept.inverse_heads);

        let kept = &space.layers[index];
        let query = space.heads(&self.shape, &kept.turned, 0)?;
        let key = space.heads(&self.shape, &kept.turned, 1)?;
        let value = space.heads(&self.shape, &kept.qkv, 2)?;
        let attended = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
            &query,
            &key,
            &value,
            0.0,
            true,
            None::<&Tensor>,
            None,
        )?;
        multiply(&rows(&attended.0)?, &turned.out, &space.delta)?;

        let kept = &mut space.layers[index];
        kept.attended = Some(attended);
        let (sum, out) = (floats_mut(&mut kept.middle), floats_mut(&mut kept.normed2));
        let (stream, gain) = (floats(&kept.before), floats(&weights.norm2));
        wide::add_norm(stream, floats(&space.delta), sum, gain, out, &mut kept.inverse2);
        multiply(&kept.normed2, &turned.gate_up, &kept.gate_up)?;
        wide::gate(floats(&kept.gate_up), self.shape.ffn as usize, floats_mut(&mut kept.gated));
        multiply(&kept.gated, &turned.down, &space.delta)?;

        // The stream's next stop is the following layer, or the last norm.
        let (done, rest) = space.layers.split_at_mut(index + 1);
        let (stream, delta) = (floats(&done[index].middle), floats(&space.delta));
        let (sum, gain, out, inverse) = match (rest.first_mut(), self.weights.layers.get(index + 1)) {
            (Some(next), Some(weights)) => (&mut next.before, &weights.norm1, &mut next.normed1, &mut next.inverse1),
            _ => (&mut space.last, &self.weights.norm, &mut space.normed, &mut space.inverse),
        };
        wide::add_norm(stream, delta, floats_mut(sum), floats(gain), floats_mut(out), inverse);
        Ok(())
    }

    /// The loss, and its gradient back to the normed stream (in `delta`) and to the output matrix. Block after block,
    /// so that a large vocabulary's logits stay in the cache.
    fn head(&mut self, space: &mut Space, targets: &[u16], scale: f32, first: bool) -> Result<f64> {
        let vocab = self.shape.vocab as usize;
        let block = space.logits.size()[0];
        let mut nats = 0.0;
        let mut at = 0;
        while at < targets.len() as i64 {
            let count = block.min(targets.len() as i64 - at);
            let normed = space.normed.f_narrow(0, at, count)?;
            let mut logits = space.logits.f_narrow(0, 0, count)?;
            multiply(&normed, &self.turned_weights.embed, &logits)?;
            let targets = &targets[at as usize..][..count as usize];
            nats += wide::cross_entropy(floats_mut(&mut logits), vocab, targets, scale);
            multiply(&logits, &self.weights.embed, &space.delta.f_narrow(0, at, count)?)?;
            weigh(&mut self.gradients.embed, &logits, &normed, first && at == 0)?;
            at += count;
        }
        Ok(nats)
    }

    fn backward(&mut self, space: &mut Space, inputs: &[u16], first: bool) -> Result<()> {
        let width = self.shape.width as usize;
        let dstream = floats_mut(&mut space.dstream);
        dstream.fill(0.0);
        let (gain, dgain) = (floats(&self.weights.norm), floats_mut(&mut self.gradients.norm));
        wide::norm_back(floats(&space.delta), floats(&space.last), &space.inverse, gain, dstream, dgain);
        for index in (0..self.weights.layers.len()).rev() {
            wanted(&self.stop)?;
            self.mlp_back(space, index, first)?;
            self.attention_back(space, index, first)?;
        }
        let (dstream, table) = (floats(&space.dstream), floats_mut(&mut self.gradients.embed));
        for (row, &token) in dstream.chunks_exact(width).zip(inputs) {
            wide::add(&mut table[usize::from(token) * width..][..width], row);
        }
        Ok(())
    }

    fn mlp_back(&mut self, space: &mut Space, index: usize, first: bool) -> Result<()> {
        let (weights, gradients) = (&self.weights.layers[index], &mut self.gradients.layers[index]);
        let kept = &space.layers[index];
        multiply(&space.dstream, &weights.down, &space.dgated)?;
        weigh(&mut gradients.down, &space.dstream, &kept.gated, first)?;
        let ffn = space.dgated.size()[1] as usize;
        wide::gate_back(floats(&space.dgated), floats(&kept.gate_up), ffn, floats_mut(&mut space.dgate_up));
        multiply(&space.dgate_up, &weights.gate_up, &space.delta)?;
        weigh(&mut gradients.gate_up, &space.dgate_up, &kept.normed2, first)?;
        let (gain, dgain) = (floats(&weights.norm2), floats_mut(&mut gradients.norm2));
        let dstream = floats_mut(&mut space.dstream);
        wide::norm_back(floats(&space.delta), floats(&kept.middle), &kept.inverse2, gain, dstream, dgain);
        Ok(())
    }

    fn attention_back(&mut self, space: &mut Space, index: usize, first: bool) -> Result<()> {
        let (shape, heads) = (self.shape, self.heads(space));
        let (weights, gradients) = (&self.weights.layers[index], &mut self.gradients.layers[index]);
        let (out, log_sum) = space.layers[index].attended.take().expect("the forward pass left it");
        let kept = &space.layers[index];
        multiply(&space.dstream, &weights.out, &space.delta)?;
        weigh(&mut gradients.out, &space.dstream, &rows(&out)?, first)?;
        let query = space.heads(&shape, &kept.turned, 0)?;
        let key = space.heads(&shape, &kept.turned, 1)?;
        let value = space.heads(&shape, &kept.qkv, 2)?;
        let dout = space.heads(&shape, &space.delta, 0)?;
        let (dquery, dkey, dvalue) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &dout,
            &query,
            &key,
            &value,
            &out,
            &log_sum,
            0.0,
            true,
            None::<&Tensor>,
            None,
        )?;
        let (dquery, dkey, dvalue) = (rows(&dquery)?, rows(&dkey)?, rows(&dvalue)?);
        wide::turn_back(
            heads,
            [floats(&dquery), floats(&dkey), floats(&dvalue)],
            floats(&kept.qkv),
            floats(&weights.heads),
            &self.angles,
            &kept.inverse_heads,
            floats_mut(&mut space.dqkv),
            floats_mut(&mut gradients.heads),
        );
        multiply(&space.dqkv, &weights.qkv, &space.delta)?;
        weigh(&mut gradients.qkv, &space.dqkv, &kept.normed1, first)?;
        let (gain, dgain) = (floats(&weights.norm1), floats_mut(&mut gradients.norm1));
        let dstream = floats_mut(&mut space.dstream);
        wide::norm_back(floats(&space.delta), floats(&kept.before), &kept.inverse1, gain, dstream, dgain);
        Ok(())
    }
}

/// Heads back side by side: `[windows, heads, context, size]` to `[tokens, width]`, without gaps.
fn rows(heads: &Tensor) -> Result<Tensor> {
    let size = heads.size();
    Ok(heads.f_transpose(1, 2)?.f_contiguous()?.f_view([size[0] * size[2], size[1] * size[3]])?)
}
