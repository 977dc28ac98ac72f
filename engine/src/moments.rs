//! The optimiser's moments as tensors on a device, and what they were before the task in hand.

use tch::{Device, Kind, Tensor};

use crate::Result;

/// Moments of the gradients, and the steps that made them.
pub(crate) struct Moments {
    pub mean: Tensor,
    pub square: Tensor,
    pub steps: u64,
    kept: Option<(Tensor, Tensor, u64)>,
}

impl Moments {
    /// None yet, for so many weights.
    pub fn new(weights: usize, device: Device) -> Result<Self> {
        let zeros = || Tensor::f_zeros([weights as i64], (Kind::Float, device));
        Ok(Self { mean: zeros()?, square: zeros()?, steps: 0, kept: None })
    }

    pub fn keep(&mut self) -> Result<()> {
        match &mut self.kept {
            // Where the first task found room for them, later ones do as well.
            Some((mean, square, steps)) => {
                mean.f_copy_(&self.mean)?;
                square.f_copy_(&self.square)?;
                *steps = self.steps;
            }
            none => *none = Some((self.mean.f_detach_copy()?, self.square.f_detach_copy()?, self.steps)),
        }
        Ok(())
    }

    pub fn restore(&mut self) -> Result<()> {
        if let Some((mean, square, steps)) = &self.kept {
            self.mean.f_copy_(mean)?;
            self.square.f_copy_(square)?;
            self.steps = *steps;
        }
        Ok(())
    }

    pub fn reset(&mut self) -> Result<()> {
        self.steps = 0;
        let _ = self.mean.f_zero_()?;
        let _ = self.square.f_zero_()?;
        Ok(())
    }
}
