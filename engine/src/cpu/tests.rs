//! Kernels against their definitions, and the gradient against finite differences of the f64 reference.

use std::sync::Arc;

use hydra_core::model::{Recipe, Shape};
use tch::{Device, Kind, Tensor};

use super::network::Network;
use super::{kernels, wide};
use crate::adam::AdamStep;
use crate::backend::{Backend, Batch};
use crate::native::floats;
use crate::parts::angles;
use crate::tests::reference::{self, random_tokens, random_weights};
use crate::torch::Torch;

#[test]
fn exp_is_close_everywhere() {
    let mut worst = 0.0f64;
    for i in -87_000..=88_000 {
        let x = i as f32 / 1000.0;
        let exact = f64::from(x).exp();
        worst = worst.max((f64::from(kernels::exp(x)) / exact - 1.0).abs());
    }
    assert!(worst < 3e-7, "{worst}");
    assert!(kernels::exp(f32::NAN).is_nan());
    assert!(kernels::exp(f32::NEG_INFINITY) < 2e-38 && kernels::exp(f32::INFINITY) > 1e38);
}

/// Shapes with tails beside the lanes, several layers and heads of an odd count.
fn shapes() -> [Shape; 2] {
    [Shape::new(37, 24, 3, 2, 10), Shape { ffn: 50, ..Shape::new(70, 36, 2, 1, 7) }]
}

struct Case {
    shape: Shape,
    weights: Vec<f32>,
    tokens: Vec<u16>,
    context: usize,
}

impl Case {
    fn new(shape: Shape) -> Self {
        let context = shape.context as usize;
        Self { shape, weights: random_weights(&shape, 5), tokens: random_tokens(&shape, 3 * (context + 1), 6), context }
    }

    fn windows(&self) -> Vec<&[u16]> {
        self.tokens.chunks(self.context + 1).collect()
    }

    /// Loss and gradient by hand, in pieces of so many windows.
    fn by_hand(&self, at_once: usize) -> (f64, Vec<f32>) {
        let flat = Tensor::from_slice(&self.weights);
        let gradient = Tensor::ones([self.weights.len() as i64], (Kind::Float, Device::Cpu));
        let mut network = Network::new(self.shape, &flat, &gradient, angles(&self.shape).into()).unwrap();
        let count = (self.windows().len() * self.context) as f32;
        let mut nats = 0.0;
        for (index, piece) in self.windows().chunks(at_once).enumerate() {
            nats += network.gradient(piece, self.context, 1.0 / count, index == 0).unwrap();
        }
        (nats / f64::from(count), floats(&gradient).to_vec())
    }
}

#[test]
fn loss_and_gradient_follow_the_reference() {
    for shape in shapes() {
        let case = Case::new(shape);
        let exact: Vec<f64> = case.weights.iter().map(|&w| f64::from(w)).collect();
        let (loss, gradient) = case.by_hand(3);
        let expected = reference::loss(&shape, &exact, &case.windows());
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        // Three numbers of every tensor.
        for spec in shape.layout() {
            for at in [0, spec.len() / 2, spec.len() - 1].map(|i| spec.offset + i) {
                let moved = |by: f64| {
                    let mut weights = exact.clone();
                    weights[at] += by;
                    reference::loss(&shape, &weights, &case.windows())
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let found = f64::from(gradient[at]);
                assert!((slope - found).abs() < 1e-5 + 1e-3 * slope.abs(), "{} {at}: {slope} {found}", spec.name);
            }
        }
    }
}

#[test]
fn by_hand_and_autograd_agree_on_every_number() {
    for shape in shapes() {
        let case = Case::new(shape);
        let (loss, gradient) = case.by_hand(3);
        let mut torch = Torch::new(shape, Recipe::default(), Device::Cpu, Kind::Float, None).unwrap();
        torch.load(&case.weights).unwrap();
        let batch = Batch { context: case.context, tokens: case.tokens.clone(), stop: Arc::default() };
        let targets = batch.targets() as f64;
        let nats = torch.gradient(batch).unwrap();
        assert!((nats / targets - loss).abs() < 1e-5);
        let other = torch.flat_gradient();
        let top = gradient.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for (at, (a, b)) in gradient.iter().zip(&other).enumerate() {
            assert!((a - b).abs() < 1e-5 * top.max(1.0), "{at}: {a} {b}");
        }
    }
}

#[test]
fn a_gradient_in_bf16_is_that_in_f32_but_for_rounding() {
    for shape in shapes() {
        let case = Case::new(shape);
        let (loss, exact) = case.by_hand(3);
        let mut torch = Torch::new(shape, Recipe::default(), Device::Cpu, Kind::BFloat16, None).unwrap();
        torch.load(&case.weights).unwrap();
        let batch = Batch { context: case.context, tokens: case.tokens.clone(), stop: Arc::default() };
        let targets = batch.targets() as f64;
        let nats = torch.gradient(batch).unwrap();
        assert!((nats / targets / loss - 1.0).abs() < 5e-3, "{} {loss}", nats / targets);
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off =
            norm(&mut exact.iter().zip(torch.flat_gradient()).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
        // Nine bits a number, a few dozen operations one after another, on weights that are large.
        assert!(off < 0.06 && off > 1e-5, "{off}");
        // The weights stay in f32: what is too small for bf16 adds up.
        torch.update(1e-6).unwrap();
        let moved = torch.weights().unwrap();
        assert!(moved.iter().zip(&case.weights).any(|(a, b)| a != b && (a - b).abs() < 1e-5));
    }
}

#[test]
fn pieces_add_up_to_the_whole() {
    let case = Case::new(shapes()[0]);
    let (whole, gradient) = case.by_hand(3);
    for at_once in [1, 2] {
        let (loss, pieced) = case.by_hand(at_once);
        assert!((loss - whole).abs() < 1e-6);
        assert!(gradient.iter().zip(&pieced).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn wide_registers_give_the_same_bits() {
    let vocab = 1003;
    let logits: Vec<f32> = (0..4 * vocab).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
    let (mut a, mut b) = (logits.clone(), logits);
    let targets = [0, 5, 1002, 77];
    let sums =
        (wide::cross_entropy(&mut a, vocab, &targets, 0.25), kernels::cross_entropy(&mut b, vocab, &targets, 0.25));
    assert_eq!((a, sums.0.to_bits()), (b, sums.1.to_bits()));
}

#[test]
fn adam_follows_its_definition() {
    // Loshchilov and Hutter's algorithm 2 in f64, with the bias corrections written out.
    let recipe = Recipe { clip: 0.5, ..Recipe::default() };
    let gradients = [[0.3f32, -2.0, 1e-4], [0.1, 0.5, -1e-4], [-0.7, 0.2, 0.0]];
    let (mut weights, mut mean, mut square) = (vec![1.0f32, -0.5, 0.01], vec![0.0f32; 3], vec![0.0f32; 3]);
    let (mut exact, mut m, mut v) = (vec![1.0f64, -0.5, 0.01], [0.0f64; 3], [0.0f64; 3]);
    for (index, gradient) in gradients.iter().enumerate() {
        let (t, rate) = (index as i32 + 1, 0.01f32);
        let norm = wide::squares(gradient).sqrt();
        wide::adam(AdamStep::new(&recipe, rate, t as u64, norm), gradient, &mut mean, &mut square, &mut weights);
        for i in 0..3 {
            let g = f64::from(gradient[i]) * (0.5 / norm).min(1.0);
            (m[i], v[i]) = (0.9 * m[i] + 0.1 * g, 0.99 * v[i] + 0.01 * g * g);
            let (m, v) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.99f64.powi(t)));
            exact[i] -= 0.01 * (m / (v.sqrt() + 1e-8) + 0.1 * exact[i]);
        }
    }
    for (a, b) in weights.iter().zip(&exact) {
        assert!((f64::from(*a) - b).abs() < 1e-5, "{weights:?} {exact:?}");
    }
}
