//! Training, evaluating and running the model: the one crate that touches libtorch.
//!
//! - [`Device`]: the CPU, or a GPU found at run time by the same binary.
//! - [`Trainer`]: works through a task; on a CPU every core trains its share of each batch.
//! - [`Model`]: weights at rest, for [`Model::evaluate`].
//! - [`Decoder`], [`Stream`], [`DecodeBatch`]: answers, any number at once, token by token.
//! - [`offsets`]: which windows of a shard a task trains on, as part of the public protocol.
//! - [`to_safetensors`] and friends, [`pretrained`]: weights and sizes as files that other tools read.
//!
//! Weights go in and out as one flat `f32` vector in the order of [`hydra_core::model::Shape::layout`]. Everything is
//! synchronous and may take long: call it from a thread of its own, never from an async task. Failures of libtorch
//! come back as [`EngineError`], never as a panic.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::float_cmp))]

mod adam;
mod backend;
mod cpu;
mod device;
mod error;
#[cfg(target_os = "linux")]
mod gpu;
mod graph;
mod model;
mod moments;
mod native;
mod parts;
pub mod pretrained;
mod sample;
mod store;
#[cfg(test)]
mod tests;
mod torch;
mod trainer;
mod windows;

pub use cpu::{DecodeBatch, Decoder, Drawn, Stream, Team};
pub use device::{Device, DeviceChoice, MOST_THREADS};
pub use error::EngineError;
pub(crate) use error::Result;
pub use model::{Evaluation, Model};
pub use sample::Sampling;
pub use store::{StoreError, from_safetensors, load_safetensors, safetensors_notes, to_safetensors};
pub use trainer::{Job, StepReport, Trained, Trainer};
pub use windows::offsets;
