//! Training with libtorch's autograd, on whatever device: the GPU's way, and the CPU version's test.

use hydra_core::model::{Recipe, Shape};
use tch::{Device, Kind, Tensor};

use crate::adam::AdamStep;
use crate::backend::{AtOnce, Backend, Batch, Hurdle, in_pieces, wanted};
use crate::graph::{Graph, indexes};
use crate::moments::Moments;
use crate::parts::{Parts, Place};
use crate::{EngineError, Result};

/// Tokens that go through the network at once.
const PIECE_TOKENS: usize = 1 << 16;

/// Flat vectors on the device, and the graph over them.
pub(crate) struct Torch {
    recipe: Recipe,
    graph: Graph,
    places: Parts<Place>,
    matrices: i64,
    /// In f32, as everything that the optimiser works on.
    weights: Tensor,
    /// What the graph reads where it works in another kind: the weights, rounded.
    rounded: Option<Tensor>,
    gradient: Tensor,
    moments: Moments,
    at_once: AtOnce,
    hurdle: Option<Hurdle>,
}

impl Torch {
    /// `kind` is what forward and backward passes work in: f32, or bf16 over f32 weights.
    pub fn new(shape: Shape, recipe: Recipe, device: Device, kind: Kind, hurdle: Option<&Hurdle>) -> Result<Self> {
        let zeros = || Tensor::f_zeros([shape.params() as i64], (Kind::Float, device));
        let weights = zeros()?;
        let rounded = if kind == Kind::Float { None } else { Some(weights.f_totype(kind)?) };
        Ok(Self {
            recipe,
            graph: Graph::new(shape, rounded.as_ref().unwrap_or(&weights), true)?,
            places: Parts::of(&shape),
            matrices: shape.matrix_params() as i64,
            weights,
            rounded,
            gradient: zeros()?,
            moments: Moments::new(shape.params(), device)?,
            at_once: AtOnce::all(),
            hurdle: hurdle.cloned(),
        })
    }

    #[cfg(test)]
    pub fn flat_gradient(&self) -> Vec<f32> {
        Vec::try_from(&self.gradient).expect("a flat f32 tensor")
    }

    #[cfg(test)]
    pub fn set_gradient(&mut self, gradient: &[f32]) {
        self.gradient.copy_(&Tensor::from_slice(gradient));
    }

    /// One pass: adds to the flat gradient, returns the sum of nats.
    fn pass(&mut self, windows: &[&[u16]], context: usize, scale: f64) -> Result<f64> {
        let device = self.weights.device();
        let tokens = indexes(windows.iter().copied(), context + 1, device)?;
        let inputs = tokens.f_narrow(1, 0, context as i64)?;
        let targets = tokens.f_narrow(1, 1, context as i64)?.f_reshape([-1])?;
        let stream = self.graph.stream(&inputs)?;
        let (nats, dstream) = {
            let _guard = tch::no_grad_guard();
            let mut dembed = self.places.embed.view(&self.gradient)?;
            self.graph.loss(&stream.f_detach()?, &targets, Some((&mut dembed, scale)))?
        };
        let dstream = dstream.ok_or_else(|| EngineError::input("a batch has windows"))?;
        // The product's gradient with respect to the stream is the loss's, which autograd carries on from there.
        let carrier = stream.f_mul(&dstream)?.f_sum(Kind::Float)?;
        let leaves = self.graph.weights.all();
        let gradients = Tensor::f_run_backward(&[carrier], &leaves, false, false)?;
        let _guard = tch::no_grad_guard();
        for (place, gradient) in self.places.all().into_iter().zip(gradients) {
            let _ = place.view(&self.gradient)?.f_add_(&gradient)?;
        }
        // Waited for only now that everything is under way.
        Ok(nats.f_double_value(&[0])?)
    }

    fn round(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.rounded.as_mut().map_or(Ok(()), |rounded| rounded.f_copy_(&self.weights)).map_err(EngineError::from)
    }
}

impl Backend for Torch {
    fn load(&mut self, weights: &[f32]) -> Result<()> {
        self.weights.f_copy_(&Tensor::f_from_slice(weights)?)?;
        self.round()
    }

    fn weights(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.weights.numel()];
        let length = out.len();
        self.weights.f_to_device(Device::Cpu)?.f_copy_data(&mut out, length)?;
        Ok(out)
    }

    fn gradient(&mut self, batch: Batch) -> Result<f64> {
        let (usual, mut at_once) = ((PIECE_TOKENS / batch.context).max(1), self.at_once);
        let scale = 1.0 / batch.targets() as f64;
        let hurdle = self.hurdle.clone();
        let nats = in_pieces(batch.windows(), usual, &mut at_once, hurdle.as_ref(), |piece, first| {
            wanted(&batch.stop)?;
            if first {
                let _ = self.gradient.f_zero_()?;
            }
            let windows: Vec<&[u16]> = piece.map(|i| batch.window(i)).collect();
            self.pass(&windows, batch.context, scale)
        });
        self.at_once = at_once;
        nats
    }

    fn update(&mut self, rate: f32) -> Result<f64> {
        let _guard = tch::no_grad_guard();
        let norm = self.gradient.f_norm()?.f_double_value(&[])?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.moments.steps += 1;
        let step = AdamStep::new(&self.recipe, rate, self.moments.steps, norm);
        let (beta1, beta2) = (f64::from(step.beta1), f64::from(step.beta2));
        if step.clip < 1.0 {
            let _ = self.gradient.f_mul_scalar_(f64::from(step.clip))?;
        }
        let _ = self.moments.mean.f_lerp_(&self.gradient, 1.0 - beta1)?;
        let _ = self.moments.square.f_lerp_(&self.gradient.f_square()?, 1.0 - beta2)?;
        let _ = self.weights.f_narrow(0, 0, self.matrices)?.f_mul_scalar_(1.0 - f64::from(step.shrink))?;
        if step.size > 0.0 {
            // The change is −size × mean / (unbias × √square + ε), with −size brought below the line: one pass less.
            let (size, unbias) = (f64::from(step.size), f64::from(step.unbias));
            let below = self.moments.square.f_sqrt()?.f_mul_scalar_(-unbias / size)?.f_add_scalar_(-1e-8 / size)?;
            let _ = self.weights.f_addcdiv_(&self.moments.mean, &below)?;
        }
        self.round()?;
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
