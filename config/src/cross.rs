//! What concerns several keys at once: defaults that follow other settings, and checks between them.
//!
//! A key whose value is faulty is absent here, and what depends on it is left alone: its own fault says enough.

use hydra_core::limits::{STEP_TOKENS, TASK_STEPS};
use hydra_core::model::Shape;

use crate::fault::Fault;
use crate::layers::{Layer, Values};
use crate::names::TokenizerSpec;
use crate::settings::ModelSettings;
use crate::value::Value;

/// Held-out tokens that a version is measured on unless one window is longer.
const EVAL_TOKENS: u64 = 8192;

/// Fills the defaults that are worked out from other settings.
pub(crate) fn derive(values: &mut Values) {
    if let Some(data) = values.list("data") {
        // The primer is written as questions and answers, so prompts are put to it in that form.
        let (temperature, template, stops, sample) = if data.is_empty() {
            (0.3, "Question: {prompt}\nAnswer:", &["\nQuestion:", "\n\n"][..], "What is a neural network?")
        } else {
            (0.8, "{prompt}", &[][..], "The")
        };
        default(values, "answers.temperature", Value::Number(temperature));
        default(values, "answers.sample_prompt", Value::Text(sample.to_owned()));
        default(values, "answers.template", Value::Text(template.to_owned()));
        default(values, "answers.stop", Value::List(stops.iter().map(|&stop| stop.to_owned()).collect()));
    }
    if let Some(context) = values.whole("model.context") {
        let layer = if context > EVAL_TOKENS { Layer::Follows("model.context") } else { Layer::Default };
        if values.get("eval.tokens").is_none() {
            values.set("eval.tokens", Value::Whole(context.max(EVAL_TOKENS)), layer);
        }
    }
    if let Some(stop) = values.whole("stop.after_tokens")
        && values.layer("schedule.horizon_tokens") == Some(&Layer::Default)
    {
        values.set("schedule.horizon_tokens", Value::Whole(stop), Layer::Follows("stop.after_tokens"));
    }
}

fn default(values: &mut Values, path: &'static str, value: Value) {
    if values.get(path).is_none() {
        values.set(path, value, Layer::Default);
    }
}

/// Adds a fault for every pair of settings that do not fit each other.
pub(crate) fn check(values: &Values, faults: &mut Vec<Fault>) {
    let found = [
        shape(values)
            .map(|message| (&["model.width", "model.heads", "model.layers", "model.ffn", "tokenizer"][..], message)),
        task_tokens(values).map(|message| (&["tasks.task_tokens", "recipe.batch", "model.context"][..], message)),
        step_tokens(values).map(|message| (&["recipe.batch", "model.context"][..], message)),
        task_steps(values).map(|message| (&["tasks.task_tokens", "recipe.batch", "model.context"][..], message)),
        leases(values).map(|message| (&["tasks.min_lease_seconds", "tasks.first_lease_seconds"][..], message)),
        eval_tokens(values).map(|message| (&["eval.tokens", "model.context"][..], message)),
    ];
    for (keys, message) in found.into_iter().flatten() {
        // The strongest of the layers involved is the one that the reader wrote last.
        let strongest = keys
            .iter()
            .rev()
            .filter_map(|key| Some((key, values.layer(key)?)))
            .max_by_key(|(_, layer)| layer.strength());
        if let Some((key, layer)) = strongest {
            faults.push(Fault { place: layer.to_string(), key: (*key).to_owned(), message });
        }
    }
}

fn shape(values: &Values) -> Option<String> {
    let spec: TokenizerSpec = values.text("tokenizer")?.parse().ok()?;
    let model = ModelSettings::from_values(values)?;
    let error = model.shape(spec.vocab()).err()?;
    Some(format!("the sizes make no model: {error}; see [model] and tokenizer"))
}

fn task_tokens(values: &Values) -> Option<String> {
    let (tokens, batch) = (values.whole("tasks.task_tokens")?, values.whole("recipe.batch")?);
    let context = values.whole("model.context")?;
    let step = batch * context;
    if tokens.is_multiple_of(step) {
        return None;
    }
    let (below, above) = (tokens / step * step, tokens.next_multiple_of(step));
    let nearest =
        if below == 0 { format!("the nearest is {above}") } else { format!("the nearest are {below} and {above}") };
    Some(format!(
        "tasks.task_tokens is {tokens}; allowed: a multiple of recipe.batch × model.context = {batch} × {context} = \
         {step}; {nearest}"
    ))
}

fn step_tokens(values: &Values) -> Option<String> {
    let (batch, context) = (values.whole("recipe.batch")?, values.whole("model.context")?);
    let message = || {
        format!(
            "recipe.batch × model.context is {batch} × {context} = {} tokens a step; allowed: at most {STEP_TOKENS}, \
             since no worker takes more",
            batch * context
        )
    };
    (batch * context > STEP_TOKENS).then(message)
}

fn task_steps(values: &Values) -> Option<String> {
    let step = values.whole("recipe.batch")? * values.whole("model.context")?;
    let (tokens, most) = (values.whole("tasks.task_tokens")?, step * u64::from(TASK_STEPS));
    let message = || {
        format!(
            "tasks.task_tokens is {tokens}; allowed: at most {TASK_STEPS} steps of recipe.batch × model.context = {step} \
             tokens, so {most}, since no worker takes more"
        )
    };
    (tokens > most).then(message)
}

fn leases(values: &Values) -> Option<String> {
    let (min, first) = (values.number("tasks.min_lease_seconds")?, values.number("tasks.first_lease_seconds")?);
    let message = || {
        format!("tasks.first_lease_seconds is {first:?}; allowed: at least tasks.min_lease_seconds, which is {min:?}")
    };
    (first < min).then(message)
}

fn eval_tokens(values: &Values) -> Option<String> {
    let (tokens, context) = (values.whole("eval.tokens")?, values.whole("model.context")?);
    let message =
        || format!("eval.tokens is {tokens}; allowed: at least one window, model.context, which is {context}");
    (tokens < context).then(message)
}

impl ModelSettings {
    /// The sizes with this many tokens in the vocabulary, checked.
    pub fn shape(&self, vocab: u32) -> Result<Shape, hydra_core::model::ShapeError> {
        let usual = Shape::new(vocab, self.width, self.heads, self.layers, self.context);
        let shape = Shape { ffn: self.ffn.unwrap_or(usual.ffn), ..usual };
        shape.check().map(|()| shape)
    }
}
