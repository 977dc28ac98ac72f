//! A model as a folder that Python's `transformers` loads as it is: written by `export`, read by `--init`.
//!
//! `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and a model
//! card, `README.md`. The weights are written last, so that a folder with weights is whole. What `--init` cannot
//! train faithfully is refused with its reason before a run's folder is touched, weights that cannot be used before
//! its text is prepared.

use std::fs;
use std::path::{Path, PathBuf};

use hydra_config::AnswerSettings;
use hydra_core::hub::rows::Version;
use hydra_core::merge;
use hydra_core::model::Shape;
use hydra_engine::pretrained::{from_config, to_config};
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::ui::text::count;
use serde_json::json;

use crate::data::Tokenizer;
use crate::serve::settings::Given;
use crate::store::{FileError, Trouble, files};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
const CARD: &str = "README.md";

/// All files of an export.
const FILES: [&str; 6] = [CARD, CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS];

/// In every model card, and so in the folder of every export.
const MARK: &str = "exported with `hydra-coordinator export`";

/// Whether a file is the card of an export: the folder's description, and nothing to learn from.
pub fn is_card(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == CARD)
        && fs::read(path).is_ok_and(|card| String::from_utf8_lossy(&card).contains(MARK))
}

/// Whether the weights beside a card are those that it tells of, or not there, as after an export that broke off. Who
/// trains an exported model further and saves it in its folder leaves the card as it is.
fn has_its_weights(dir: &Path) -> bool {
    let path = dir.join(WEIGHTS);
    if fs::symlink_metadata(&path).is_err() {
        return true;
    }
    let config = fs::read(dir.join(CONFIG)).ok();
    let shape = config.and_then(|config| from_config(&config).ok());
    let weights = shape.and_then(|shape| hydra_engine::load_safetensors(&path, &shape).ok());
    let card = fs::read_to_string(dir.join(CARD)).unwrap_or_default();
    weights.is_some_and(|weights| card.contains(&merge::weights_digest(&weights).to_string()))
}

/// A folder that a run can begin from; its weights are still to be read.
pub struct Pretrained {
    dir: PathBuf,
    /// The model's sizes.
    pub shape: Shape,
    /// What it was trained with.
    pub tokenizer: Tokenizer,
}

impl Pretrained {
    /// Reads sizes and tokenizer, and checks that they fit each other.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let unfit = |text: String| {
            Failure::new(Exit::Data, format!("{} cannot begin a run: {text}", dir.display())).hint(
                "--init takes a folder that `hydra-coordinator export` wrote, or one of the same shape: docs/export.md",
            )
        };
        let read = |name: &str| fs::read(dir.join(name)).map_err(|error| unfit(format!("{name}: {error}")));
        let shape = from_config(&read(CONFIG)?).map_err(|error| unfit(error.to_string()))?;
        let json = String::from_utf8(read(TOKENIZER)?).map_err(|_| unfit(format!("{TOKENIZER} is not UTF-8")))?;
        let tokenizer = Tokenizer::from_json(json).map_err(|error| unfit(format!("{TOKENIZER}: {error}")))?;
        if tokenizer.vocab_size() != shape.vocab {
            let text = format!("{TOKENIZER} has {} tokens, the model {}", tokenizer.vocab_size(), shape.vocab);
            return Err(unfit(text));
        }
        if !dir.join(WEIGHTS).exists() {
            let many = dir.join("model.safetensors.index.json").exists();
            let why = if many { "its weights are in several files; save it as one" } else { "it has no weights" };
            return Err(unfit(format!("{WEIGHTS} is missing: {why}")));
        }
        Ok(Self { dir: dir.to_owned(), shape, tokenizer })
    }

    /// What it sets.
    pub fn given(&self) -> Given {
        Given::of(self.tokenizer.kind().to_string(), &self.shape)
    }

    /// The weights in the flat order, all of them finite.
    pub fn weights(&self) -> Result<Vec<f32>, Failure> {
        let unfit = |text: &dyn std::fmt::Display| {
            Failure::new(Exit::Data, format!("the weights in {} cannot be used: {text}", self.dir.display()))
        };
        let weights =
            hydra_engine::load_safetensors(&self.dir.join(WEIGHTS), &self.shape).map_err(|error| unfit(&error))?;
        if weights.iter().all(|weight| weight.is_finite()) { Ok(weights) } else { Err(unfit(&"a weight is no number")) }
    }
}

/// What an export tells about where it comes from.
pub struct Origin<'a> {
    pub version: &'a Version,
    /// Whether it is the average of the versions up to that one.
    pub averaged: bool,
    /// Held-out loss in nats a token and in bits a byte, if it was measured.
    pub measured: Option<(f64, f64)>,
    pub answers: &'a AnswerSettings,
}

/// Writes the folder, which is made if it is missing; other files in it stay. An earlier export in it is replaced; files
/// of the same names that no export wrote are not.
pub fn write(
    to: &Path,
    shape: &Shape,
    weights: &[f32],
    tokenizer: &Tokenizer,
    origin: &Origin<'_>,
) -> Result<(), Failure> {
    let failed = |exit: Exit, error: &dyn std::fmt::Display| {
        Failure::new(exit, format!("cannot write to {}: {error}", to.display()))
            .hint("choose a folder that you may write to, on a disk with room")
    };
    let cannot = |error: FileError| {
        let full = error.trouble() == Trouble::DiskFull;
        failed(if full { Exit::RunFolder } else { Exit::Data }, &error)
    };
    if to.is_file() {
        let text = format!("{} is a file, and an export is a folder", to.display());
        return Err(Failure::new(Exit::Data, text).hint("choose a new folder, or an earlier export's"));
    }
    let taken = FILES.iter().find(|name| fs::symlink_metadata(to.join(name)).is_ok());
    let foreign = if is_card(&to.join(CARD)) { (!has_its_weights(to)).then_some(&WEIGHTS) } else { taken };
    if let Some(name) = foreign {
        let text = format!("{} holds a {name} that is not of an export, which would be lost", to.display());
        return Err(Failure::new(Exit::Data, text)
            .hint("choose a new folder, or an earlier export's with its files as they were written"));
    }
    fs::create_dir_all(to).map_err(|error| cannot(FileError::io("make", to, &error)))?;
    // Old weights beside a new tokenizer would be a lie, so they go first; the weights come last.
    files::remove(&to.join(WEIGHTS)).map_err(cannot)?;
    let put =
        |name: &str, bytes: &[u8]| files::write_whole(to, name, |out| out.write_all(bytes)).map(|_| ()).map_err(cannot);
    let pretty = |value: &serde_json::Value| format!("{value:#}\n");
    let end = tokenizer.end_of_text();
    // The card first, by which a folder is known again whose export broke off.
    put(CARD, card(shape, tokenizer, origin).as_bytes())?;
    put(CONFIG, pretty(&to_config(shape, end)).as_bytes())?;
    put(GENERATION, pretty(&generation(origin.answers, end)).as_bytes())?;
    put(TOKENIZER, tokenizer.json().as_bytes())?;
    put(TOKENIZER_CONFIG, pretty(&tokenizer_config(shape, tokenizer, origin.answers)).as_bytes())?;
    put(WEIGHTS, &hydra_engine::to_safetensors(shape, weights, &[]).map_err(|error| failed(Exit::Data, &error))?)
}

fn generation(answers: &AnswerSettings, end: u16) -> serde_json::Value {
    let greedy = answers.temperature <= 0.0;
    let mut config = json!({ "eos_token_id": end, "pad_token_id": end, "max_new_tokens": answers.max_new_tokens, "do_sample": !greedy });
    if !greedy {
        // Through f64's shortest spelling, so that 0.8 is written as 0.8.
        let number = |x: f32| x.to_string().parse::<f64>().unwrap_or(f64::from(x));
        config["temperature"] = json!(number(answers.temperature));
        config["top_k"] = json!(answers.top_k);
        config["top_p"] = json!(number(answers.top_p));
    }
    config
}

fn tokenizer_config(shape: &Shape, tokenizer: &Tokenizer, answers: &AnswerSettings) -> serde_json::Value {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": false,
        "add_prefix_space": false,
        // Without it the class names token types as well, which the model's `generate` refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": chat_template(&answers.template),
    });
    if tokenizer.has_end_mark() {
        for name in ["eos_token", "pad_token"] {
            config[name] = json!(crate::data::tokenizer::END_OF_TEXT);
        }
    }
    config
}

/// The run's template in the language of `transformers`' chat templates. It dresses a conversation as the coordinator
/// does (`serve/openai/request.rs`): what users and system say before an answer is one question.
fn chat_template(template: &str) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("text is always JSON");
    let (before, after) = template.split_once("{prompt}").unwrap_or(("", ""));
    let question = format!("{} + said.words | join('\\n\\n') + {}", quoted(before), quoted(after));
    format!(
        "{{%- set said = namespace(words=[]) -%}}\
         {{%- for message in messages -%}}\
         {{%- set content = message['content'] or '' -%}}\
         {{%- set text = content if content is string else content | map(attribute='text') | join -%}}\
         {{%- if message['role'] == 'assistant' -%}}\
         {{{{ {question} + ' ' + text.strip() + '\\n\\n' }}}}{{%- set said.words = [] -%}}\
         {{%- else -%}}{{%- set said.words = said.words + [text.rstrip()] -%}}{{%- endif -%}}\
         {{%- endfor -%}}\
         {{%- if said.words -%}}{{{{ {question} }}}}{{%- endif -%}}"
    )
}

fn card(shape: &Shape, tokenizer: &Tokenizer, origin: &Origin<'_>) -> String {
    let Shape { vocab, width, heads, layers, context, ffn } = shape;
    let Version { version, tokens, tasks, digest, .. } = origin.version;
    let (heads, layers) = (count((*heads).into(), "head", "heads"), count((*layers).into(), "layer", "layers"));
    let average = if origin.averaged { ", averaged with those before it" } else { "" };
    let measured = origin.measured.map_or_else(
        || "not measured".to_owned(),
        |(loss, bits)| format!("{loss:.4} nats a token, {bits:.4} bits a byte"),
    );
    format!(
        "---\n\
         library_name: transformers\n\
         pipeline_tag: text-generation\n\
         tags: [hydra-ai, volunteer-computing]\n\
         ---\n\n\
         # Version {version} of a HydraAI run\n\n\
         A language model trained by volunteers' computers, {MARK}.\n\n\
         | | |\n|---|---|\n\
         | version | {version}{average} |\n\
         | trained by | {tasks} tasks, {tokens} tokens |\n\
         | held-out loss | {measured} |\n\
         | parameters | {} |\n\
         | sizes | vocabulary {vocab}, width {width}, {heads}, {layers}, MLP {ffn}, context {context} |\n\
         | tokenizer | `{}` |\n\
         | digest of the weights | `{digest}` |\n\n\
         ```python\n\
         from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\"path/to/this/folder\")\n\
         model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")\n\
         inputs = tokenizer.apply_chat_template(\n    [{{\"role\": \"user\", \"content\": \"What is a token?\"}}], return_tensors=\"pt\", return_dict=True)\n\
         print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))\n\
         ```\n\n\
         ## Limits\n\n\
         The model is small and knows only the text that its run was given. It states false things fluently; do not\n\
         rely on what it says.\n",
        shape.params(),
        tokenizer.kind(),
    )
}

#[cfg(test)]
mod tests;
