//! The coordinator's settings: one table of keys, five layers, and typed values that have passed every check.
//!
//! Layers, each stronger than the one before: defaults < preset < files < `HYDRA_*` environment < flags. Every value
//! remembers which layer set it, and [`Resolved::print`] shows that as TOML that can be handed in again. All faults
//! are reported at once. The table in [`keys`] drives parsing, printing and `docs/configuration.md`.
//!
//! Nothing here reads a file, the environment or a clock: the program hands in what it read. Relative paths mean what
//! the program makes of them.

pub mod keys;
pub mod names;

mod cross;
mod fault;
mod file;
mod layers;
mod print;
mod settings;
mod suggest;
mod value;

#[cfg(test)]
mod tests;

pub use fault::{Fault, Faults};
pub use layers::{ConfigFile, Flags, Layer};
pub use names::{Preset, TokenizerSpec};
pub use settings::{
    AnswerSettings, EvalSettings, LedgerSettings, LimitSettings, ModelSettings, RoundSettings, ScheduleSettings,
    Settings, StopSettings, TaskSettings,
};
pub use value::quote;

use std::path::PathBuf;

use layers::Layers;

/// Settings, and where each came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The checked settings.
    pub settings: Settings,
    /// What the user should look at although it is no fault, one line each.
    pub warnings: Vec<String>,
    values: layers::Values,
}

impl Resolved {
    /// Which layer set the key with this path, such as `ledger.reward`; nothing if there is no such key.
    pub fn layer(&self, path: &str) -> Option<&Layer> {
        self.values.layer(path)
    }

    /// Every setting as TOML, in the order of the table of keys, each line with the layer that set it as a comment.
    /// Handing the text in as the configuration file gives the same [`Settings`] again.
    pub fn print(&self) -> String {
        print::print(&self.values)
    }
}

/// Lays the layers over one another and checks the result.
///
/// `env` may hold the whole environment: only names that begin with `HYDRA_` are looked at.
/// `files` come weakest first.
pub fn resolve<'a>(
    files: impl IntoIterator<Item = ConfigFile<'a>>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Resolved, Faults> {
    lay(files, env, flags, cross::check)
}

/// The same where settings need not fit one another, for who takes single ones that stand alone.
pub fn resolve_apart<'a>(
    files: impl IntoIterator<Item = ConfigFile<'a>>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Resolved, Faults> {
    lay(files, env, flags, |_, _| {})
}

fn lay<'a>(
    files: impl IntoIterator<Item = ConfigFile<'a>>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
    check: impl FnOnce(&layers::Values, &mut Vec<Fault>),
) -> Result<Resolved, Faults> {
    let layers = Layers::gather(files, env, flags);
    let (mut values, warnings, mut faults) = layers.into_parts();
    cross::derive(&mut values);
    check(&values, &mut faults);
    if faults.is_empty() {
        Ok(Resolved { settings: Settings::from_values(&values), warnings, values })
    } else {
        Err(Faults(faults))
    }
}

/// The run's folder, as a settings file or else the default has it. Whether the file's other settings fit each other shows
/// only beside the run's own file, the variables and the flags. Nothing if `run` itself is faulty.
#[must_use]
pub fn run_dir_of(file: ConfigFile<'_>) -> Option<PathBuf> {
    let (values, ..) = Layers::gather([file], [], &Flags::default()).into_parts();
    values.text("run").map(PathBuf::from)
}
