//! `begun.json`: what a run began with and must stay. Its weights know only these sizes and these tokens.

use std::path::Path;

use anyhow::Context as _;
use hydra_config::Settings;
use hydra_core::ids::Digest;
use hydra_core::model::Shape;
use hydra_shell::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};

use super::Given;
use crate::data::Tokenizer;

const FILE: &str = "begun.json";

/// What a run began with. Older programs wrote only the first three fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    preset: String,
    tokenizer: String,
    shape: Shape,
    /// BLAKE3 of the tokenizer's file: another one of the same size means other words by the same tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokenizer_digest: Option<String>,
    /// Whether it begins from a model (`--init`), whose weights its first version has.
    #[serde(default)]
    pub init: bool,
    /// Whether its text is the built-in one, which cannot be lost.
    #[serde(default)]
    pub primer: bool,
}

/// Where a run's model and text come from at this start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin {
    pub init: bool,
    pub primer: bool,
}

impl Begun {
    /// What the run in this folder began with, if it has begun.
    pub fn read(run_dir: &Path) -> Result<Option<Self>, Failure> {
        let path = run_dir.join(FILE);
        let failed = |text: String| Failure::new(Exit::RunFolder, format!("{} {text}", path.display()));
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(format!("is damaged: {error}")))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(format!("cannot be read: {error}"))),
        }
    }

    /// What these settings begin with.
    fn of(settings: &Settings, tokenizer: &Tokenizer, origin: Origin) -> Result<Self, Failure> {
        let shape = settings.model.shape(tokenizer.vocab_size());
        Ok(Self {
            preset: settings.preset.to_string(),
            tokenizer: settings.tokenizer.to_string(),
            shape: shape.map_err(|error| Failure::new(Exit::Config, error.to_string()))?,
            tokenizer_digest: Some(tokenizer.digest().to_string()),
            init: origin.init,
            primer: origin.primer,
        })
    }

    /// What a model sets that the run began from.
    pub fn given(&self) -> Given {
        Given::of(self.tokenizer.clone(), &self.shape)
    }

    /// Whether a tokenizer's file is the run's, as far as that is known.
    pub fn knows(&self, digest: Digest) -> bool {
        self.tokenizer_digest.as_ref().is_none_or(|known| *known == digest.to_string())
    }

    /// Refuses settings with which this run did not begin.
    fn allows(&self, asked: &Self) -> Result<(), Failure> {
        // Another tokenizer may have another size, too; then what it is counts, which is looked at below.
        let vocab = if self.tokenizer_digest.is_some() { self.shape.vocab } else { asked.shape.vocab };
        let sized = Self { shape: Shape { vocab, ..asked.shape }, ..asked.clone() };
        let (began, wanted) = (self.unlike(&sized), sized.unlike(self));
        if !began.is_empty() {
            let text = format!("this run began with {began}; the settings ask for {wanted}");
            return Err(Failure::new(Exit::Config, text)
                .hint("start it with what it began with, or begin another run in a folder of its own (--run DIR)"));
        }
        if self.tokenizer_digest.is_some() && self.tokenizer_digest != asked.tokenizer_digest {
            let text = "this run's weights belong to another tokenizer than that of this text; nothing was changed";
            let hint = if self.init {
                "restore tokenizer.json in the run's folder, or give the model again that the run began from (--init DIR)"
            } else {
                "restore tokenizer.json in the run's folder (an export has a copy of it), or give the same text as at the \
                 run's beginning with --data: it is trained again from that"
            };
            return Err(Failure::new(Exit::RunFolder, text).hint(hint));
        }
        Ok(())
    }

    /// What is not as in `other`, in words.
    fn unlike(&self, other: &Self) -> String {
        let words = |of: &Self| {
            let Shape { vocab, width, heads, layers, context, ffn } = of.shape;
            let shape = format!(
                "vocabulary {vocab}, width {width}, {heads} heads, {layers} layers, context {context}, MLP {ffn}"
            );
            [format!("preset {}", of.preset), format!("tokenizer {}", of.tokenizer), shape]
        };
        let pairs = words(self).into_iter().zip(words(other));
        pairs.filter(|(mine, theirs)| mine != theirs).map(|(mine, _)| mine).collect::<Vec<_>>().join(", ")
    }

    /// Writes it down.
    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec(self).context("writing what the run began with")?;
        crate::store::files::write_whole(run_dir, FILE, |out| out.write_all(&json)).map_err(crate::fail::file)?;
        Ok(())
    }
}

/// Whether a run's folder is there whose model and data are made.
pub fn has_begun(run_dir: &Path) -> bool {
    run_dir.join(FILE).exists()
}

/// The model's sizes, which must be those that the run began with, as must be its tokenizer; and what is still to be
/// written down of that.
pub fn begin(
    begun: Option<&Begun>,
    settings: &Settings,
    tokenizer: &Tokenizer,
    origin: Origin,
) -> anyhow::Result<(Shape, Option<Begun>)> {
    let asked = Begun::of(settings, tokenizer, origin)?;
    let shape = asked.shape;
    let Some(begun) = begun else { return Ok((shape, Some(asked))) };
    begun.allows(&asked)?;
    // An older program began it.
    let undigested = begun.tokenizer_digest.is_none();
    Ok((shape, undigested.then(|| Begun { tokenizer_digest: asked.tokenizer_digest, ..begun.clone() })))
}

/// The sizes of the run's model, as it began.
pub fn begun_shape(run_dir: &Path) -> anyhow::Result<Shape> {
    let path = run_dir.join(FILE);
    let Some(begun) = Begun::read(run_dir)? else {
        return Err(Failure::new(Exit::RunFolder, format!("there is no {}", path.display()))
            .hint("name the run's folder (--run DIR), or start hydra-coordinator there once")
            .into());
    };
    begun.shape.check().map_err(|error| Failure::new(Exit::RunFolder, format!("{}: {error}", path.display())))?;
    Ok(begun.shape)
}
