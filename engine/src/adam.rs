//! The scalars of one AdamW step, as PyTorch's AdamW computes them; the loops over the weights are the backends'.

use hydra_core::model::Recipe;

/// What one AdamW step needs beside the numbers that it changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamStep {
    /// Factor that clips the gradient.
    pub clip: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Learning rate × weight decay.
    pub shrink: f32,
    /// Learning rate over the first moment's bias correction.
    pub size: f32,
    /// Square root of the second moment's bias correction, inverted.
    pub unbias: f32,
}

impl AdamStep {
    /// The step number `steps` (from 1) for a gradient of this norm.
    pub fn new(recipe: &Recipe, rate: f32, steps: u64, norm: f64) -> Self {
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        let unbias = |beta: f32| 1.0 - f64::from(beta).powi(steps);
        let limit = f64::from(recipe.clip);
        Self {
            clip: if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 },
            beta1: recipe.beta1,
            beta2: recipe.beta2,
            shrink: rate * recipe.weight_decay,
            size: (f64::from(rate) / unbias(recipe.beta1)) as f32,
            unbias: unbias(recipe.beta2).sqrt().recip() as f32,
        }
    }
}
