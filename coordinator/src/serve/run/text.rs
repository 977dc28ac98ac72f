//! A run's text: opened, made at the first start, or made again where the folder's `data/` is lost. The tokenizer stays
//! whatever becomes of the text: weights know what their tokens mean by it alone.

use std::path::Path;

use hydra_config::Settings;
use hydra_shell::events::Events;
use hydra_shell::exit::{Exit, Failure};

use super::remembered::{Begun, Origin, has_begun};
use crate::data::{self, Dataset, Source, TOKENIZER, Tokenizer};
use crate::fail;
use crate::pretrained::Pretrained;

/// The run's text and where it comes from.
pub struct Text {
    pub data: Dataset,
    /// What is not in the run's folder yet.
    pub made: bool,
    pub origin: Origin,
}

/// What is known of the run before its text is.
pub struct Before<'a> {
    pub begun: Option<&'a Begun>,
    /// Whether it has weights, and so a tokenizer that they know.
    pub born: bool,
}

/// Opens the run's text or makes it; nothing is written here.
pub fn open(
    settings: &Settings,
    init: Option<&Pretrained>,
    before: &Before<'_>,
    events: &Events,
) -> anyhow::Result<Text> {
    let dir = &settings.run_dir;
    let origin = Origin { init: init.is_some(), primer: settings.data.is_empty() };
    if data::is_prepared(dir) {
        let data = data::load(dir).map_err(|error| fail::data(&error))?;
        if let Some(init) = init
            && !before.born
            && init.tokenizer.digest() != data.tokenizer.digest()
        {
            return Err(cut_otherwise().into());
        }
        // What is given is for another run, and nothing tells of whose text this is.
        return Ok(Text { data, made: false, origin: Origin { primer: false, ..origin } });
    }
    let sources = sources(settings, before)?;
    let held_out = data::read(&settings.val_data).map_err(|error| fail::read(&error))?;
    let own = if before.born { own_tokenizer(dir, before.begun)? } else { None };
    let with = match (&own, init) {
        (Some(_), _) => "cutting shards with the run's own tokenizer",
        (None, Some(_)) => "cutting shards with the model's own tokenizer",
        (None, None) => "training the tokenizer and cutting shards",
    };
    events.say(&format!("preparing the text: {with}"));
    let made = data::make(&sources, &held_out, |train| match (own, init) {
        (Some(own), _) => Ok(own),
        (None, Some(init)) => Tokenizer::from_json(init.tokenizer.json().to_owned()),
        (None, None) => Tokenizer::train(settings.tokenizer, train),
    });
    let data = made.map_err(|error| fail::data(&error))?;
    if !before.born && !has_begun(dir) {
        spare_foreign(dir, &data.tokenizer)?;
    }
    data.check_windows(settings.model.context).map_err(|error| fail::data(&error))?;
    Ok(Text { data, made: true, origin })
}

fn sources(settings: &Settings, before: &Before<'_>) -> anyhow::Result<Vec<Source>> {
    if !settings.data.is_empty() {
        return Ok(data::read(&settings.data).map_err(|error| fail::read(&error))?);
    }
    if before.born && !before.begun.is_some_and(|begun| begun.primer) {
        let dir = settings.run_dir.display();
        let text = format!("the text of this run is gone: there is no data/ in {dir}");
        let hint =
            "restore that folder, or give text with --data, best the same again: the tokenizer stays the run's own";
        return Err(Failure::new(Exit::RunFolder, text).hint(hint).into());
    }
    Ok(data::primer::sources())
}

/// A first start was cut short after it had cut its text, and this one has a model that knows its tokens by other words.
fn cut_otherwise() -> Failure {
    Failure::new(
        Exit::Config,
        "this run has no version yet, and its text was cut with another tokenizer than the model's: its first start was \
         cut short",
    )
    .hint("start it as at first, or begin another run from this model in a folder of its own (--run DIR)")
}

/// Refuses to begin a run where its tokenizer would replace one that no run has put there.
fn spare_foreign(dir: &Path, own: &Tokenizer) -> Result<(), Failure> {
    let path = dir.join(TOKENIZER);
    match std::fs::read(&path) {
        Ok(json) if json == own.json().as_bytes() => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // What cannot be read is not ours either.
        Ok(_) | Err(_) => {
            let text = format!("{} is not of a run, and beginning one here would replace it", path.display());
            Err(Failure::new(Exit::RunFolder, text)
                .hint("begin the run in a folder of its own (--run DIR), or move that file away"))
        }
    }
}

/// The tokenizer that lies in the folder of a run without text, if there is one.
fn own_tokenizer(dir: &Path, begun: Option<&Begun>) -> Result<Option<Tokenizer>, Failure> {
    let path = dir.join(TOKENIZER);
    let unfit = |text: String| {
        Failure::new(Exit::RunFolder, format!("{} {text}; nothing was changed", path.display())).hint(
            "restore it from a backup or from an export, or move it away and start with what the run began with (--data, \
             --init): it is made again from that",
        )
    };
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unfit(format!("cannot be read: {error}"))),
    };
    if !begun.is_none_or(|begun| begun.knows(hydra_core::ids::Digest::of(&json))) {
        return Err(unfit("is not the tokenizer that this run began with".to_owned()));
    }
    let json = String::from_utf8(json).map_err(|error| unfit(format!("is damaged: {error}")))?;
    Tokenizer::from_json(json).map(Some).map_err(|error| unfit(format!("cannot be used: {error}")))
}
