//! The layers, weakest first, laid over one another; each value keeps the layer that set it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use hydra_core::credits::Credits;

use crate::fault::Fault;
use crate::file;
use crate::keys::{self, ENV_PREFIX, Fallback, KEYS};
use crate::names::Preset;
use crate::settings::ModelSettings;
use crate::suggest;
use crate::value::{self, Found, Value};

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// Nobody.
    Default,
    /// Nobody, and it takes the value of another key.
    Follows(&'static str),
    /// The preset.
    Preset(Preset),
    /// The configuration file with this name.
    File(String),
    /// The environment variable with this name.
    Env(String),
    /// The flag with this name, such as `--seed`.
    Flag(&'static str),
}

impl Layer {
    /// Weaker layers come first.
    pub(crate) fn strength(&self) -> u8 {
        match self {
            Self::Default | Self::Follows(_) => 0,
            Self::Preset(_) => 1,
            Self::File(_) => 2,
            Self::Env(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Follows(path) => write!(f, "follows {path}"),
            Self::Preset(preset) => write!(f, "preset {preset}"),
            Self::File(name) => write!(f, "file {}", printable(name)),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The text without control characters, so that it fits a comment and a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A configuration file that the program has read.
#[derive(Debug, Clone, Copy)]
pub struct ConfigFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// The command line's share of the settings. A list that is empty was not given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--run`
    pub run: Option<PathBuf>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--data`
    pub data: Vec<PathBuf>,
    /// `--val-data`
    pub val_data: Vec<PathBuf>,
    /// `--preset`
    pub preset: Option<String>,
    /// `--tokenizer`, or that of the model that `--init` names.
    pub tokenizer: Option<String>,
    /// The sizes of the model that `--init` names.
    pub sizes: Option<ModelSettings>,
    /// `--stop-after-tasks`
    pub stop_after_tasks: Option<u64>,
    /// `--stop-after-tokens`
    pub stop_after_tokens: Option<u64>,
    /// `--stop-after-rounds`
    pub stop_after_rounds: Option<u64>,
    /// `--stop-at-loss`
    pub stop_at_loss: Option<f64>,
}

impl Flags {
    /// Path of the key, name of the flag, value; only what was given.
    fn given(&self) -> Vec<(&'static str, &'static str, Found)> {
        let text = |text: &Option<String>| text.clone().map(Found::Text);
        let whole = |value: Option<u64>| value.map(|value| Found::Whole(value.into()));
        let paths = |paths: &[PathBuf]| (!paths.is_empty()).then(|| paths_found(paths));
        let size = |get: fn(&ModelSettings) -> Option<u32>| whole(self.sizes.as_ref().and_then(get).map(u64::from));
        let all = [
            ("listen", "--listen", text(&self.listen)),
            ("run", "--run", self.run.as_deref().map(path_found)),
            ("seed", "--seed", whole(self.seed)),
            ("data", "--data", paths(&self.data)),
            ("val_data", "--val-data", paths(&self.val_data)),
            ("preset", "--preset", text(&self.preset)),
            // A model brings its own, and the other flag cannot be given beside it.
            ("tokenizer", if self.sizes.is_some() { "--init" } else { "--tokenizer" }, text(&self.tokenizer)),
            ("model.width", "--init", size(|sizes| Some(sizes.width))),
            ("model.heads", "--init", size(|sizes| Some(sizes.heads))),
            ("model.layers", "--init", size(|sizes| Some(sizes.layers))),
            ("model.context", "--init", size(|sizes| Some(sizes.context))),
            ("model.ffn", "--init", size(|sizes| sizes.ffn)),
            ("stop.after_tasks", "--stop-after-tasks", whole(self.stop_after_tasks)),
            ("stop.after_tokens", "--stop-after-tokens", whole(self.stop_after_tokens)),
            ("stop.after_rounds", "--stop-after-rounds", whole(self.stop_after_rounds)),
            ("stop.at_loss", "--stop-at-loss", self.stop_at_loss.map(Found::Number)),
        ];
        all.into_iter().filter_map(|(path, flag, found)| Some((path, flag, found?))).collect()
    }
}

/// Settings are printed as TOML, which is UTF-8: a path that is not would come back as another path.
fn path_found(path: &Path) -> Found {
    let other = || Found::Other(format!("{} (not UTF-8: rename it, or link to it)", path.display()));
    path.to_str().map_or_else(other, |path| Found::Text(path.to_owned()))
}

fn paths_found(paths: &[PathBuf]) -> Found {
    let mut texts = Vec::new();
    for path in paths {
        match path_found(path) {
            Found::Text(text) => texts.push(text),
            other => return other,
        }
    }
    Found::List(texts)
}

/// The strongest layer's value for every key, with that layer. A key without a sound value is absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Values(BTreeMap<&'static str, (Value, Layer)>);

impl Values {
    pub fn set(&mut self, path: &'static str, value: Value, layer: Layer) {
        self.0.insert(path, (value, layer));
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        self.0.get(path).map(|(value, _)| value)
    }

    pub fn layer(&self, path: &str) -> Option<&Layer> {
        self.0.get(path).map(|(_, layer)| layer)
    }

    pub fn whole(&self, path: &str) -> Option<u64> {
        if let Value::Whole(value) = self.get(path)? { Some(*value) } else { None }
    }

    pub fn number(&self, path: &str) -> Option<f64> {
        if let Value::Number(value) = self.get(path)? { Some(*value) } else { None }
    }

    pub fn credits(&self, path: &str) -> Option<Credits> {
        if let Value::Credits(value) = self.get(path)? { Some(*value) } else { None }
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        if let Value::Text(value) = self.get(path)? { Some(value) } else { None }
    }

    pub fn list(&self, path: &str) -> Option<&[String]> {
        if let Value::List(value) = self.get(path)? { Some(value) } else { None }
    }
}

/// What the layers hold, and what is wrong with it.
#[derive(Default)]
pub(crate) struct Layers {
    values: Values,
    /// Keys whose strongest value is faulty.
    faulty: BTreeSet<&'static str>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Layers {
    /// Lays every layer over the ones before it.
    pub fn gather<'a>(
        files: impl IntoIterator<Item = ConfigFile<'a>>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Self {
        // The preset lies below the layers that may name it, so those are laid first, and the preset and defaults
        // fill what they left open.
        let mut layers = Self::default();
        for file in files {
            layers.lay_file(file);
        }
        let mut env: Vec<_> = env.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        env.sort();
        for (name, text) in &env {
            layers.lay_env(name, text);
        }
        for (path, flag, found) in flags.given() {
            layers.lay(path, &Layer::Flag(flag), flag, &found);
        }
        layers.fill();
        layers
    }

    /// Values, warnings, faults.
    pub fn into_parts(self) -> (Values, Vec<String>, Vec<Fault>) {
        (self.values, self.warnings, self.faults)
    }

    /// Notes a fault. Place and message quote files and variables, whatever they hold, and go to a terminal.
    fn fault(&mut self, place: &str, key: &str, message: &str) {
        let (place, message) = (printable(place), printable(message));
        self.faults.push(Fault { place, key: key.to_owned(), message });
    }

    /// Takes away a key's value, so that no check between keys rests on what the user may have meant otherwise.
    fn doubt(&mut self, path: &'static str) {
        self.values.0.remove(path);
        self.faulty.insert(path);
    }

    /// Checks one value of a known key and puts it over what was there.
    fn lay(&mut self, path: &str, layer: &Layer, place: &str, found: &Found) {
        let key = keys::find(path).expect("callers look the path up, or name it from the table");
        match value::check(key, found) {
            Ok(value) => {
                self.values.set(key.path, value, layer.clone());
                self.faulty.remove(key.path);
            }
            Err(message) => {
                self.doubt(key.path);
                self.fault(place, key.path, &message);
            }
        }
    }

    fn lay_file(&mut self, file: ConfigFile<'_>) {
        let layer = Layer::File(file.name.to_owned());
        let place = |line: usize| format!("{layer}, line {line}");
        let mut entries = match file::read(file.text) {
            Ok(entries) => entries,
            Err(errors) => {
                for (line, message) in errors {
                    self.fault(&place(line), "", &message);
                }
                // Any key might have been set by what cannot be read.
                for key in KEYS {
                    self.doubt(key.path);
                }
                return;
            }
        };
        entries.sort_by_key(|entry| entry.line);
        let paths: Vec<&'static str> = KEYS.iter().map(|key| key.path).collect();
        for entry in entries {
            if keys::find(&entry.path).is_some() {
                self.lay(&entry.path, &layer, &place(entry.line), &entry.found);
            } else if !(entry.is_table && keys::is_section(&entry.path)) {
                let meant = suggest::nearest_path(&entry.path, &paths);
                let message = unknown_in_file(&entry, meant);
                self.fault(&place(entry.line), &printable(&entry.path), &message);
                if let Some(path) = meant {
                    self.doubt(path);
                }
            }
        }
    }

    fn lay_env(&mut self, name: &str, text: &str) {
        if let Some(key) = KEYS.iter().find(|key| key.env() == name) {
            // Shells and service files often set what they do not mean to set to nothing.
            if !text.is_empty() {
                self.lay(key.path, &Layer::Env(name.to_owned()), name, &Found::from_text(text, key.kind));
            }
            return;
        }
        // Other programs of the family have variables with the same beginning: only a likely slip is a fault.
        let path = name[ENV_PREFIX.len()..].to_lowercase();
        let known: Vec<String> = KEYS.iter().map(|key| key.path.replace('.', "_")).collect();
        let nearest = suggest::nearest(&path, known.iter().map(String::as_str))
            .and_then(|near| known.iter().position(|path| path == near))
            .map(|at| &KEYS[at])
            .or_else(|| KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(path.as_str())));
        match nearest {
            Some(key) => {
                let message = format!("unknown setting {name}: did you mean {}?", key.env());
                self.fault(name, "", &message);
                self.doubt(key.path);
            }
            None => self.warnings.push(format!("{} is no setting of the coordinator; it is ignored", printable(name))),
        }
    }

    /// Fills what no other layer set from the preset, then from the defaults.
    fn fill(&mut self) {
        let given = self.values.text("preset").and_then(|name| name.parse().ok());
        let preset: Preset = given.unwrap_or(Preset::Small);
        // Whoever misspelt the preset did not mean the default one: its values would raise faults of their own.
        if !self.faulty.contains("preset") {
            self.fill_from(preset.toml(), &Layer::Preset(preset));
        }
        for key in KEYS {
            let text = match key.default {
                Fallback::Toml(toml) => format!("{} = {toml}", key.path),
                Fallback::Unset(word) => format!("{} = {word:?}", key.path),
                Fallback::Preset | Fallback::Derived(_) => continue,
            };
            self.fill_from(&text, &Layer::Default);
        }
    }

    fn fill_from(&mut self, text: &str, layer: &Layer) {
        let entries = file::read(text).unwrap_or_default();
        debug_assert!(!entries.is_empty(), "{layer} is sound TOML");
        for entry in entries {
            let open = self.values.get(&entry.path).is_none() && !self.faulty.contains(entry.path.as_str());
            if open {
                self.lay(&entry.path, layer, &layer.to_string(), &entry.found);
            }
        }
    }
}

fn unknown_in_file(entry: &file::Entry, meant: Option<&str>) -> String {
    let shown = printable(&entry.path);
    if keys::is_section(&entry.path) {
        return format!("`{shown}` is a section: write [{shown}] and its keys below it");
    }
    let what = if entry.is_table { "section" } else { "key" };
    match meant {
        Some(meant) => format!("unknown {what} `{shown}`: did you mean `{meant}`?"),
        None => format!("unknown {what} `{shown}`: docs/configuration.md lists the keys"),
    }
}
