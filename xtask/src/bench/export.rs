//! `cargo xtask bench export`: an exported model's logits in the engine against those of Python's `transformers`.

use anyhow::Context;
use serde_json::Value;

use super::model::{self, Options};
use super::{Bar, Report, example};
use crate::failure::Failure;
use crate::repo::Repo;

/// Compares.
pub fn run(repo: &Repo, options: &Options) -> Result<Report, Failure> {
    let folder = options.folder(repo)?;
    let config = std::fs::read(folder.join("config.json")).context("reading the folder's config.json")?;
    let config: Value = serde_json::from_slice(&config).context("reading the folder's config.json")?;
    let size = |name: &str| config[name].as_u64().with_context(|| format!("config.json has no {name}"));
    let (vocab, context) = (size("vocab_size")?, size("max_position_embeddings")?);
    let tokens = (0..context.min(256)).map(|i| ((7 + 31 * i * i) % vocab).to_string());
    let arguments: Vec<String> = std::iter::once(folder.display().to_string()).chain(tokens).collect();
    let ours: Value = example(repo, ("hydra-engine", "logits"), "", arguments)?;
    let file = repo.target()?.join("bench/logits.json");
    std::fs::create_dir_all(repo.target()?.join("bench")).context("making target/bench")?;
    std::fs::write(&file, ours.to_string()).context("writing our logits")?;

    let script = repo.root.join("docs/examples/compare_logits.py");
    let theirs =
        model::python(&options.python, &[script.as_os_str(), folder.as_os_str(), "--ours".as_ref(), file.as_os_str()])?;
    let mut report = Report::new("export");
    report.fact("model", folder.display().to_string());
    report.fact("tokens", theirs["tokens"].clone());
    let number = |name: &str| theirs[name].as_f64().unwrap_or(f64::NAN);
    report.row("largest_logit", number("largest_logit"), "", None);
    // Two orders of summing in f32 differ by about so much.
    report.row("largest_difference", number("largest_difference"), "", Some(Bar::Below(1e-3)));
    // The example of the model card, run as it stands there.
    let printed = theirs["card"].as_str().unwrap_or_default().to_owned();
    report.row("card_s_example_answers", f64::from(printed.contains("token?")), "", Some(Bar::AtLeast(1.0)));
    report.fact("card_s_example_prints", printed);
    let same = f64::from(theirs["same_likeliest"] == true);
    report.row("same_likeliest_tokens", same, "", Some(Bar::AtLeast(1.0)));
    Ok(report)
}
