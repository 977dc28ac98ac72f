//! Where the settings of a run come from, and what a run remembers of them.
//!
//! A run's folder keeps `run.toml` with what its weights and data depend on, so that a later start needs no flags
//! for it; flags that contradict it are refused before anything is touched.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hydra_config::keys::ENV_PREFIX;
use hydra_config::{
    AnswerSettings, ConfigFile, Flags, Layer, ModelSettings, Resolved, Settings, quote, resolve, resolve_apart,
    run_dir_of,
};
use hydra_core::model::Shape;
use hydra_shell::events::cut_short;
use hydra_shell::exit::{Exit, Failure};

use crate::args::Args;
use crate::readers::Readers;

mod begun;

pub use begun::{Begun, Origin, begin, begun_shape, has_begun};

const FILE: &str = "run.toml";
/// Variables of all programs, which are no settings of the run.
const SHELL_VARIABLES: [&str; 3] = ["HYDRA_CONFIG_DIR", "HYDRA_CACHE_DIR", "HYDRA_LOG"];
/// Where a run lives unless somebody says otherwise.
const DEFAULT_RUN: &str = "./hydra-run";

/// A settings file that was read.
struct SettingsFile {
    name: String,
    text: String,
}

impl SettingsFile {
    fn from(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::Config, format!("the settings file {name} cannot be read: {error}")))?;
        Ok(Self { name, text })
    }

    fn file(&self) -> ConfigFile<'_> {
        ConfigFile { name: &self.name, text: &self.text }
    }
}

/// The run's folder as flags, the environment or the settings file name it.
pub fn run_dir(args: &Args) -> anyhow::Result<PathBuf> {
    let named = args.serve.config.as_deref().map(SettingsFile::from).transpose()?;
    Ok(dir(args, named.as_ref()))
}

fn dir(args: &Args, named: Option<&SettingsFile>) -> PathBuf {
    // As everywhere, a variable that is set to nothing is not set.
    let variable = || std::env::var_os("HYDRA_RUN").filter(|run| !run.is_empty()).map(PathBuf::from);
    let given = args.run.clone().or_else(variable).or_else(|| run_dir_of(named?.file()));
    given.unwrap_or_else(|| PathBuf::from(DEFAULT_RUN))
}

/// What a model to begin from sets, whatever else is said.
#[derive(Debug, Clone)]
pub struct Given {
    pub tokenizer: String,
    pub sizes: ModelSettings,
}

impl Given {
    /// By a model of this shape.
    pub fn of(tokenizer: String, shape: &Shape) -> Self {
        let Shape { width, heads, layers, context, ffn, .. } = *shape;
        Self { tokenizer, sizes: ModelSettings { width, heads, layers, context, ffn: Some(ffn) } }
    }
}

/// Settings from all layers; a model to begin from sets its own sizes and tokenizer.
pub fn gather(args: &Args, init: Option<Given>) -> anyhow::Result<Resolved> {
    gathered(args, init, true)
}

/// How a run answers. Its other settings need not fit each other: sizes are remembered, what must fit them is not.
pub fn answers(args: &Args) -> anyhow::Result<AnswerSettings> {
    Ok(gathered(args, None, false)?.settings.answers)
}

fn gathered(args: &Args, init: Option<Given>, together: bool) -> anyhow::Result<Resolved> {
    let named = args.serve.config.as_deref().map(SettingsFile::from).transpose()?;
    let remembered = Some(dir(args, named.as_ref()).join(FILE)).filter(|path| path.exists());
    let remembered = remembered.as_deref().map(SettingsFile::from).transpose()?;
    // The file that somebody names lies over what the run remembers.
    let files = [&remembered, &named].into_iter().flatten().map(SettingsFile::file);
    let serve = &args.serve;
    let flags = Flags {
        listen: serve.listen.clone(),
        run: args.run.clone(),
        seed: serve.seed,
        data: serve.data.clone(),
        val_data: serve.val_data.clone(),
        preset: serve.preset.clone(),
        tokenizer: init.as_ref().map(|init| init.tokenizer.clone()).or_else(|| serve.tokenizer.clone()),
        sizes: init.map(|init| init.sizes),
        stop_after_tasks: serve.stop_after_tasks,
        stop_after_tokens: serve.stop_after_tokens,
        stop_after_rounds: serve.stop_after_rounds,
        stop_at_loss: serve.stop_at_loss,
    };
    let resolved =
        if together { resolve(files, variables()?, &flags) } else { resolve_apart(files, variables()?, &flags) };
    resolved.map_err(|faults| {
        Failure::new(Exit::Config, faults.to_string())
            .hint("`hydra-coordinator --print-config` shows every setting; docs/configuration.md explains them")
            .into()
    })
}

/// Prints them, as a settings file.
pub fn print(resolved: &Resolved, out: impl Write) -> anyhow::Result<()> {
    let (mut out, run) = (Readers(out), &resolved.settings.run_dir);
    let first = if has_begun(run) {
        let run = run.display();
        format!("# {run}: this run goes on with the text that it began with, whatever data and val_data say\n")
    } else {
        String::new()
    };
    let printed = out.write_all(format!("{first}{}", resolved.print()).as_bytes()).and_then(|()| out.flush());
    Ok(printed.map_err(cut_short)?)
}

/// The environment's share of the settings.
fn variables() -> Result<Vec<(String, String)>, Failure> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = ours.filter(|(name, _)| name.starts_with(ENV_PREFIX) && !SHELL_VARIABLES.contains(&name.as_str()));
    let text = |(name, value): (String, OsString)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(value) => {
            let text = format!("the variable {name} is not UTF-8: {}", value.display());
            Err(Failure::new(Exit::Config, text).hint("set it to text, or unset it"))
        }
    };
    ours.map(text).collect()
}

/// Who names texts although the run goes on with its own, and whether that was at this start and not in what stands for
/// all of them.
pub fn idle_texts(resolved: &Resolved) -> Option<(String, bool)> {
    let Settings { data, val_data, .. } = &resolved.settings;
    let given = [("data", data), ("val_data", val_data)].into_iter().filter(|(_, paths)| !paths.is_empty());
    let layers: Vec<_> = given.filter_map(|(key, _)| Some((key, resolved.layer(key)?))).collect();
    let asked = layers.iter().any(|(_, layer)| matches!(layer, Layer::Flag(_)));
    let name = |(key, layer): &(&str, &Layer)| match layer {
        Layer::File(_) => format!("{key} in {layer}"),
        other => other.to_string(),
    };
    let (names, are) = (layers.iter().map(name).collect::<Vec<_>>(), if layers.len() > 1 { "are" } else { "is" });
    let told = format!("this run goes on with its own text; {} {are} for a new one (--run DIR)", names.join(" and "));
    (!names.is_empty()).then_some((told, asked))
}

/// Writes down, once, what this run's weights and data depend on.
pub fn remember(run_dir: &Path, settings: &Settings) -> anyhow::Result<()> {
    let path = run_dir.join(FILE);
    if path.exists() {
        return Ok(());
    }
    let ffn = settings.model.ffn.map_or_else(|| "\"auto\"".to_owned(), |ffn| ffn.to_string());
    let stops: Vec<_> = settings.answers.stop.iter().map(|stop| quote(stop)).collect();
    let text = format!(
        "# What this run's model and data depend on; written at its first start and read at every later one.\n\
         preset = {}\ntokenizer = {}\nseed = {}\n\n\
         [model]\nwidth = {}\nheads = {}\nlayers = {}\ncontext = {}\nffn = {ffn}\n\n\
         [answers]\ntemplate = {}\nstop = [{}]\nsample_prompt = {}\ntemperature = {}\ntop_k = {}\n\
         top_p = {}\nmax_new_tokens = {}\n",
        quote(&settings.preset.to_string()),
        quote(&settings.tokenizer.to_string()),
        settings.seed,
        settings.model.width,
        settings.model.heads,
        settings.model.layers,
        settings.model.context,
        quote(&settings.answers.template),
        stops.join(", "),
        quote(&settings.answers.sample_prompt),
        settings.answers.temperature,
        settings.answers.top_k,
        settings.answers.top_p,
        settings.answers.max_new_tokens,
    );
    crate::store::files::write_whole(run_dir, FILE, |out| out.write_all(text.as_bytes()))
        .map_err(crate::fail::file)
        .context("while beginning the run")?;
    Ok(())
}

/// The seed that the run began with, if it remembers one.
pub fn seed(run_dir: &Path) -> anyhow::Result<Option<u64>> {
    let path = run_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => {
            read.map_err(|error| Failure::new(Exit::RunFolder, format!("{} cannot be read: {error}", path.display())))?
        }
    };
    let file = ConfigFile { name: &path.display().to_string(), text: &text };
    // One that an older program wrote may not be understood any more; then the seed is not known. Alone it need not fit
    // the preset's tasks.
    Ok(resolve_apart(Some(file), [], &Flags::default()).ok().map(|resolved| resolved.settings.seed))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn settings_are_printed_as_far_as_anybody_reads_and_a_full_disk_is_told() {
        let resolved = resolve([], [], &Flags::default()).unwrap();
        assert!(print(&resolved, Broken(ErrorKind::BrokenPipe)).is_ok());
        let error = print(&resolved, Broken(ErrorKind::StorageFull)).unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
        let mut out = Vec::new();
        print(&resolved, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), resolved.print());
    }
}
