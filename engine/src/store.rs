//! Weights as safetensors: the family's own tensor names in f32, as other tools read them.

use std::collections::HashMap;
use std::path::Path;

use hydra_core::codec;
use hydra_core::model::{Shape, TensorSpec};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Why weights could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system's answer.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
    /// Not a safetensors file, or damaged.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A tensor that the shape needs is not there.
    #[error("tensor {0} is missing")]
    Missing(String),
    /// A tensor has other sizes or another kind of number than the shape says.
    #[error("tensor {name} is {found}, expected {expected}")]
    Misshapen {
        /// Its name.
        name: String,
        /// What the file says.
        found: String,
        /// What the shape says.
        expected: String,
    },
}

/// The bytes of a safetensors file with `weights` (flat, in the shape's order; a wrong length is
/// [`StoreError::Misshapen`]) and `notes` in its header.
pub fn to_safetensors(shape: &Shape, weights: &[f32], notes: &[(&str, String)]) -> Result<Vec<u8>, StoreError> {
    if weights.len() != shape.params() {
        let (found, expected) = (weights.len().to_string(), shape.params().to_string());
        return Err(StoreError::Misshapen { name: "(all weights)".into(), found, expected });
    }
    let bytes = codec::le_bytes(weights);
    let layout = shape.layout();
    let view = |offset: usize, size: Vec<usize>, len: usize| {
        TensorView::new(Dtype::F32, size, &bytes[4 * offset..4 * (offset + len)]).map_err(format)
    };
    let views = layout.iter().map(|t| Ok((t.name.as_str(), view(t.offset, t.shape.clone(), t.len())?)));
    let views = views.collect::<Result<Vec<_>, StoreError>>()?;
    // Readers of the family expect this mark.
    let mark = ("format", "pt".to_owned());
    let notes = notes.iter().chain([&mark]).map(|(name, text)| ((*name).to_owned(), text.clone()));
    safetensors::serialize(views, Some(notes.collect())).map_err(format)
}

/// The notes in the header of a safetensors file.
pub fn safetensors_notes(bytes: &[u8]) -> Result<HashMap<String, String>, StoreError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// The flat weights of `shape` from the bytes of a safetensors file; half precision is widened. Tensors that the shape
/// does not name are ignored.
pub fn from_safetensors(shape: &Shape, bytes: &[u8]) -> Result<Vec<f32>, StoreError> {
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let mut weights = Vec::with_capacity(shape.params());
    for spec in shape.layout() {
        let tensor = file.tensor(&spec.name).map_err(|_| StoreError::Missing(spec.name.clone()))?;
        let data = tensor.data();
        let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        match tensor.dtype() {
            _ if tensor.shape() != spec.shape => return Err(misshapen(&tensor, spec)),
            Dtype::F32 => weights.extend(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Dtype::BF16 => weights.extend(data.chunks_exact(2).map(|b| half::bf16::from_bits(pair(b)).to_f32())),
            Dtype::F16 => weights.extend(data.chunks_exact(2).map(|b| half::f16::from_bits(pair(b)).to_f32())),
            _ => return Err(misshapen(&tensor, spec)),
        }
    }
    Ok(weights)
}

fn misshapen(tensor: &TensorView<'_>, spec: TensorSpec) -> StoreError {
    let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
    StoreError::Misshapen { name: spec.name, found, expected: format!("F32, BF16 or F16 {:?}", spec.shape) }
}

/// [`from_safetensors`] of a file.
pub fn load_safetensors(path: &Path, shape: &Shape) -> Result<Vec<f32>, StoreError> {
    let bytes = std::fs::read(path).map_err(|error| StoreError::Io { path: path.display().to_string(), error })?;
    from_safetensors(shape, &bytes)
}

// By value, as `map_err` hands it over.
#[allow(clippy::needless_pass_by_value)]
fn format(error: safetensors::SafeTensorError) -> StoreError {
    StoreError::Format(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape::new(20, 16, 2, 2, 8)
    }

    #[test]
    fn weights_survive_a_round_trip_by_name() {
        let weights: Vec<f32> = (0..shape().params()).map(|i| i as f32).collect();
        let bytes = to_safetensors(&shape(), &weights, &[("version", "7".to_owned())]).unwrap();
        assert_eq!(from_safetensors(&shape(), &bytes).unwrap(), weights);
        assert_eq!(safetensors_notes(&bytes).unwrap().get("version").map(String::as_str), Some("7"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let up = file.tensor("model.layers.1.mlp.up_proj.weight").unwrap();
        assert_eq!(up.shape(), [48, 16]);
        let spec = shape().layout().into_iter().find(|t| t.name == "model.layers.1.mlp.up_proj.weight").unwrap();
        assert_eq!(up.data()[..4], weights[spec.offset].to_le_bytes());
    }

    #[test]
    fn half_precision_is_widened() {
        let shape = shape();
        let numbers: Vec<f32> = (0..shape.params()).map(|i| (i % 64) as f32 - 32.0).collect();
        let narrow = |narrow: fn(f32) -> u16, kind: Dtype| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|&x| narrow(x).to_le_bytes()).collect();
            let layout = shape.layout();
            let views = layout.iter().map(|t| {
                let part = &bytes[2 * t.offset..2 * (t.offset + t.len())];
                (t.name.as_str(), TensorView::new(kind, t.shape.clone(), part).unwrap())
            });
            from_safetensors(&shape, &safetensors::serialize(views, None).unwrap()).unwrap()
        };
        assert_eq!(narrow(|x| half::bf16::from_f32(x).to_bits(), Dtype::BF16), numbers);
        assert_eq!(narrow(|x| half::f16::from_f32(x).to_bits(), Dtype::F16), numbers);
    }

    #[test]
    fn faults_are_named() {
        let weights = vec![0.0; shape().params()];
        let bytes = to_safetensors(&shape(), &weights, &[]).unwrap();
        let deeper = from_safetensors(&Shape::new(20, 16, 2, 3, 8), &bytes).unwrap_err();
        assert!(matches!(&deeper, StoreError::Missing(name) if name.contains("layers.2")), "{deeper}");
        let wider = from_safetensors(&Shape::new(21, 16, 2, 2, 8), &bytes).unwrap_err();
        assert!(matches!(&wider, StoreError::Misshapen { name, .. } if name.contains("embed")), "{wider}");
        assert!(matches!(from_safetensors(&shape(), &bytes[..50]), Err(StoreError::Format(_))));
        assert!(matches!(to_safetensors(&shape(), &weights[1..], &[]), Err(StoreError::Misshapen { .. })));
        let nowhere = load_safetensors(Path::new("/nonexistent/x"), &shape());
        assert!(matches!(nowhere, Err(StoreError::Io { .. })));
    }
}
