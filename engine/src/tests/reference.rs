//! The model once more in plain f64 loops, from the family's definition and by tensor name: slow, and shares no code
//! with what it checks.

use hydra_core::model::Shape;
use hydra_core::rng::Rng;

pub(crate) type Rows = Vec<Vec<f64>>;

/// Random weights with nothing zero and gains off one, so that every mistake shows.
pub(crate) fn random_weights(shape: &Shape, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let mut weights = Vec::new();
    for tensor in shape.layout() {
        let (mean, deviation) = if tensor.shape.len() == 1 { (1.0, 0.2) } else { (0.0, 0.3) };
        weights.extend((0..tensor.len()).map(|_| (mean + rng.normal() * deviation) as f32));
    }
    weights
}

pub(crate) fn random_tokens(shape: &Shape, count: usize, seed: u64) -> Vec<u16> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.below(u64::from(shape.vocab)) as u16).collect()
}

fn rms_norm(x: &[f64], gain: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(v, g)| v / (mean + 1e-6).sqrt() * g).collect()
}

fn rotate(x: &[f64], position: usize) -> Vec<f64> {
    let half = x.len() / 2;
    let turned = |i: usize| if i < half { -x[i + half] } else { x[i - half] };
    let angle = |i: usize| position as f64 / 10_000f64.powf(2.0 * (i % half) as f64 / x.len() as f64);
    (0..x.len()).map(|i| x[i] * angle(i).cos() + turned(i) * angle(i).sin()).collect()
}

/// Logits after each of `tokens`.
pub(crate) fn logits(shape: &Shape, weights: &[f64], tokens: &[u16]) -> Rows {
    let layout = shape.layout();
    let tensor = |name: &str| {
        let spec = layout.iter().find(|t| t.name == name).unwrap();
        let numbers = &weights[spec.offset..spec.offset + spec.len()];
        numbers.chunks(*spec.shape.last().unwrap()).map(<[f64]>::to_vec).collect::<Rows>()
    };
    let times = |matrix: &Rows, x: &[f64]| -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    };
    let (heads, size) = (shape.heads as usize, shape.head_size() as usize);
    let embed = tensor("model.embed_tokens.weight");
    let mut stream: Rows = tokens.iter().map(|&t| embed[usize::from(t)].clone()).collect();
    for layer in 0..shape.layers {
        let part = |name: &str| tensor(&format!("model.layers.{layer}.{name}.weight"));
        let (norm, q, k, v) =
            (part("input_layernorm"), part("self_attn.q_proj"), part("self_attn.k_proj"), part("self_attn.v_proj"));
        let (q_gain, k_gain, out) = (part("self_attn.q_norm"), part("self_attn.k_norm"), part("self_attn.o_proj"));
        let normed: Rows = stream.iter().map(|x| rms_norm(x, &norm[0])).collect();
        let turned = |matrix: &Rows, gain: &Rows| -> Vec<Rows> {
            let project = |(at, x): (usize, &Vec<f64>)| {
                times(matrix, x).chunks(size).map(|head| rotate(&rms_norm(head, &gain[0]), at)).collect()
            };
            normed.iter().enumerate().map(project).collect()
        };
        let (queries, keys) = (turned(&q, &q_gain), turned(&k, &k_gain));
        let values: Rows = normed.iter().map(|x| times(&v, x)).collect();
        for at in 0..tokens.len() {
            let mut mixed = Vec::new();
            for head in 0..heads {
                let score = |other: usize| -> f64 {
                    let product = queries[at][head].iter().zip(&keys[other][head]).map(|(a, b)| a * b).sum::<f64>();
                    (product / (size as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = (0..=at).map(score).collect();
                let total: f64 = scores.iter().sum();
                mixed.extend((0..size).map(|i| {
                    scores.iter().zip(&values).map(|(s, value)| s / total * value[head * size + i]).sum::<f64>()
                }));
            }
            times(&out, &mixed).iter().zip(&mut stream[at]).for_each(|(d, x)| *x += d);
        }
        let (norm, gate) = (part("post_attention_layernorm"), part("mlp.gate_proj"));
        let (up, down) = (part("mlp.up_proj"), part("mlp.down_proj"));
        for x in &mut stream {
            let normed = rms_norm(x, &norm[0]);
            let silu = |g: f64| g / (1.0 + (-g).exp());
            let gated: Vec<f64> =
                times(&gate, &normed).into_iter().zip(times(&up, &normed)).map(|(g, u)| silu(g) * u).collect();
            times(&down, &gated).iter().zip(x).for_each(|(d, x)| *x += d);
        }
    }
    let norm = tensor("model.norm.weight");
    stream.iter().map(|x| times(&embed, &rms_norm(x, &norm[0]))).collect()
}

/// Mean nats a token over windows of `context + 1` tokens.
pub(crate) fn loss(shape: &Shape, weights: &[f64], windows: &[&[u16]]) -> f64 {
    let mut nats = 0.0;
    let mut count = 0.0;
    for window in windows {
        let logits = logits(shape, weights, &window[..window.len() - 1]);
        for (row, &target) in logits.iter().zip(&window[1..]) {
            let total: f64 = row.iter().map(|x| x.exp()).sum();
            nats += total.ln() - row[usize::from(target)];
            count += 1.0;
        }
    }
    nats / count
}
