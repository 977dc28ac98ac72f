//! The kernels beside libtorch's autograd. Everything here wants an NVIDIA card:
//! `cargo test --release -- --ignored nvidia`.

use std::sync::Arc;

use super::*;
use crate::DeviceChoice;
use crate::tests::reference::{random_tokens, random_weights};
use crate::torch::Torch;

/// Head sizes, vocabularies of every alignment, widths with and without a warp's full turns, an MLP of its own size.
fn shapes() -> [Shape; 4] {
    [
        Shape::new(256, 128, 4, 2, 64),
        Shape::new(1003, 256, 4, 2, 32),
        Shape { ffn: 200, ..Shape::new(1000, 384, 3, 1, 16) },
        Shape::new(4096, 768, 12, 3, 128),
    ]
}

fn off(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
#[ignore = "wants an NVIDIA card"]
fn nvidia_gradients_and_steps_are_those_of_autograd() {
    let device = Device::open(DeviceChoice::Cuda(0), None).unwrap();
    for shape in shapes() {
        let weights = random_weights(&shape, 1);
        let recipe = Recipe::default();
        // Fewer tokens a window than the model's context, and pieces of uneven sizes.
        let (context, windows) = (shape.context as usize - 3, 5);
        let tokens = || random_tokens(&shape, windows * (context + 1), 7);
        let batch = || Batch { context, tokens: tokens(), stop: Arc::default() };
        let mut exact = Torch::new(shape, recipe, device.torch, Kind::Float, None).unwrap();
        let mut gpu = Gpu::new(shape, recipe, device, None).unwrap().expect("the kernels take these sizes");
        exact.load(&weights).unwrap();
        gpu.load(&weights).unwrap();
        let nats = (exact.gradient(batch()).unwrap(), gpu.gradient(batch()).unwrap());
        assert!((nats.1 / nats.0 - 1.0).abs() < 5e-3, "{nats:?}");
        let whole = Vec::<f32>::try_from(&gpu.gradient).unwrap();
        let far = off(&whole, &exact.flat_gradient());
        assert!(far < 0.06, "{far}");
        for (place, name) in Parts::of(&shape).all().into_iter().zip(1..) {
            let range = place.offset..place.offset + place.len();
            let far = off(&whole[range.clone()], &exact.flat_gradient()[range]);
            assert!(far < 0.1, "piece {name} of {shape:?}: {far}");
        }
        // The same again, bit for bit; in pieces, but for rounding.
        gpu.gradient(batch()).unwrap();
        assert_eq!(Vec::<f32>::try_from(&gpu.gradient).unwrap(), whole);
        gpu.at_once.most = 2;
        gpu.gradient(batch()).unwrap();
        let far = off(&Vec::<f32>::try_from(&gpu.gradient).unwrap(), &whole);
        assert!(far < 0.02, "{far}");
        // The same gradient makes the same step.
        for _ in 0..3 {
            exact.set_gradient(&whole);
            gpu.gradient.f_copy_(&Tensor::f_from_slice(&whole).unwrap()).unwrap();
            let norms = (exact.update(1e-3).unwrap(), gpu.update(1e-3).unwrap());
            assert!((norms.1 / norms.0 - 1.0).abs() < 1e-5, "{norms:?}");
        }
        let (a, b) = (exact.weights().unwrap(), gpu.weights().unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 + 1e-5 * a.abs()));
        let rounded = gpu.rounded.f_totype(Kind::Float).unwrap();
        assert!(off(&Vec::<f32>::try_from(&rounded).unwrap(), &b) < 4e-3);
    }
}

#[test]
#[ignore = "wants an NVIDIA card"]
fn nvidia_learns_one_batch_by_heart() {
    let device = Device::open(DeviceChoice::Cuda(0), None).unwrap();
    let shape = Shape::new(256, 128, 4, 2, 64);
    let mut gpu = Gpu::new(shape, Recipe::default(), device, None).unwrap().expect("the kernels take these sizes");
    gpu.load(&shape.initial_weights(2)).unwrap();
    let batch = || Batch { context: 64, tokens: random_tokens(&shape, 4 * 65, 4), stop: Arc::default() };
    let losses: Vec<f64> = (0..200)
        .map(|_| {
            let nats = gpu.gradient(batch()).unwrap();
            gpu.update(3e-3).unwrap();
            nats / 256.0
        })
        .collect();
    assert!(losses[0] > 5.0 && losses[199] < 0.1, "{losses:?}");
}
