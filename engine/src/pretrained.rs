//! `config.json` of a model folder as Python's `transformers` has it: a [`Shape`] written down, and read back.
//!
//! Only the corner of the Qwen3 family that this project trains is read; whatever else a folder asks for (grouped
//! keys, other positions, biases, an output matrix of its own) is refused by name rather than computed wrongly.

use hydra_core::model::Shape;
use serde_json::{Value, json};

use crate::cpu::EPSILON;
use crate::parts::THETA;

/// Why a `config.json` describes no model of this project.
#[derive(Debug, thiserror::Error)]
#[error("config.json: {0}")]
pub struct ConfigError(String);

fn error<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// The `config.json` of a model of these sizes whose texts end with the token `end_of_text`.
pub fn to_config(shape: &Shape, end_of_text: u16) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size(),
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": THETA,
        "rope_scaling": null,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "use_sliding_window": false,
        "sliding_window": null,
        "tie_word_embeddings": true,
        "use_cache": true,
        "initializer_range": 0.02,
        "bos_token_id": null,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    })
}

/// The sizes that a `config.json` describes.
pub fn from_config(json: &[u8]) -> Result<Shape, ConfigError> {
    let config: Value = serde_json::from_slice(json).map_err(|e| ConfigError(format!("not JSON: {e}")))?;
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("nothing");
    if kind != "qwen3" {
        return error(format!("model_type is {kind:?}; only \"qwen3\" can be trained here"));
    }
    let size = |name: &str| match config.get(name).and_then(Value::as_u64).map(u32::try_from) {
        Some(Ok(size)) => Ok(size),
        _ => error(format!("{name} is missing or no size")),
    };
    let shape = Shape {
        vocab: size("vocab_size")?,
        width: size("hidden_size")?,
        heads: size("num_attention_heads")?,
        layers: size("num_hidden_layers")?,
        context: size("max_position_embeddings")?,
        ffn: size("intermediate_size")?,
    };
    shape.check().map_err(|e| ConfigError(e.to_string()))?;
    let wanted = [
        ("num_key_value_heads", json!(shape.heads), Value::Null),
        ("head_dim", json!(shape.head_size()), Value::Null),
        ("hidden_act", json!("silu"), json!("silu")),
        ("tie_word_embeddings", json!(true), json!(false)),
        ("attention_bias", json!(false), json!(false)),
        ("use_sliding_window", json!(false), json!(false)),
        ("rope_scaling", Value::Null, Value::Null),
    ];
    for (name, want, default) in wanted {
        let found = config.get(name).unwrap_or(&default);
        if *found != want {
            return error(format!("{name} is {found}; here it must be {want}"));
        }
    }
    // Newer writers put what turns the positions into a table of its own.
    let rope = config.get("rope_parameters");
    if let Some(kind) = rope.and_then(|rope| rope.get("rope_type")).filter(|kind| *kind != "default") {
        return error(format!("rope_type is {kind}; here it must be \"default\""));
    }
    let theta = config.get("rope_theta").or_else(|| rope.and_then(|rope| rope.get("rope_theta")));
    for (name, found, want) in
        [("rope_theta", theta, THETA), ("rms_norm_eps", config.get("rms_norm_eps"), f64::from(EPSILON))]
    {
        let found = found.and_then(Value::as_f64).unwrap_or(f64::NAN);
        if (found / want - 1.0).abs() > 1e-6 || found.is_nan() {
            return error(format!("{name} is {found}; here it must be {want}"));
        }
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(change: impl FnOnce(&mut Value)) -> Result<Shape, ConfigError> {
        let mut config = to_config(&Shape::new(300, 48, 4, 3, 32), 299);
        change(&mut config);
        from_config(config.to_string().as_bytes())
    }

    #[test]
    fn sizes_survive_the_file() {
        assert_eq!(change(|_| ()).unwrap(), Shape::new(300, 48, 4, 3, 32));
        let odd = Shape { ffn: 100, ..Shape::new(300, 48, 4, 3, 32) };
        assert_eq!(from_config(to_config(&odd, 1).to_string().as_bytes()).unwrap(), odd);
    }

    #[test]
    fn the_newer_table_of_positions_is_read() {
        let moved = |config: &mut Value| {
            let fields = config.as_object_mut().unwrap();
            fields.remove("rope_theta");
            fields.remove("rope_scaling");
            fields.insert("rope_parameters".into(), json!({"rope_theta": 10_000.0, "rope_type": "default"}));
        };
        assert!(change(moved).is_ok());
        let yarn = |config: &mut Value| config["rope_parameters"] = json!({"rope_theta": 1e4, "rope_type": "yarn"});
        assert!(change(yarn).unwrap_err().to_string().contains("rope_type"));
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused_by_name() {
        for (name, value) in [
            ("model_type", json!("llama")),
            ("num_key_value_heads", json!(2)),
            ("head_dim", json!(24)),
            ("tie_word_embeddings", json!(false)),
            ("attention_bias", json!(true)),
            ("rope_theta", json!(1e6)),
            ("rope_scaling", json!({"type": "linear"})),
            ("hidden_act", json!("gelu")),
            ("rms_norm_eps", json!(1e-5)),
            ("vocab_size", json!(151_936)),
            ("hidden_size", json!("wide")),
        ] {
            let refused = change(|config| config[name] = value).unwrap_err().to_string();
            let word = if name == "vocab_size" { "vocabulary" } else { name };
            assert!(refused.contains(word), "{name}: {refused}");
        }
        assert!(from_config(b"[").is_err());
    }
}
