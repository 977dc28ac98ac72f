//! Requests of OpenAI-style clients as queries. What cannot be honoured is refused by its name, and never ignored.

use hydra_core::ids::QueryId;
use hydra_core::limits;
use hydra_core::proto::Query;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::MODEL;
use super::refusal::{Refusal, brief};

/// A query, and how its answer is to come. The query's id is still to be drawn.
#[derive(Debug)]
pub struct Asked {
    pub query: Query,
    pub stream: bool,
    /// Whether a stream ends with a count of tokens.
    pub usage: bool,
}

/// Fields that say nothing about the answer.
const HARMLESS: [&str; 7] = [
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
];

/// Fields of which only the value can be honoured that asks for nothing. Clients send them to either endpoint.
fn neutral() -> [(&'static str, Value); 10] {
    [
        ("n", json!(1)),
        ("best_of", json!(1)),
        ("echo", json!(false)),
        ("logprobs", json!(false)),
        ("presence_penalty", json!(0)),
        ("frequency_penalty", json!(0)),
        ("response_format", json!({ "type": "text" })),
        ("modalities", json!(["text"])),
        ("tool_choice", json!("none")),
        ("store", json!(false)),
    ]
}

/// `POST /v1/chat/completions`; `template` is the run's, by which each turn is dressed.
pub fn chat(body: &[u8], template: &str) -> Result<Asked, Refusal> {
    let mut fields = Fields::read(body)?;
    fields.model()?;
    let messages: Vec<Map<String, Value>> = fields.need("messages")?;
    let messages: Vec<_> =
        messages.into_iter().enumerate().map(|(at, message)| Message::read(at, message)).collect::<Result<_, _>>()?;
    fields.asked(dress(&messages, template)?, false)
}

/// `POST /v1/completions`: the model continues the prompt as it is.
pub fn completion(body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::read(body)?;
    fields.model()?;
    let prompt: OneOrMany = fields.need("prompt")?;
    let prompt = match <[String; 1]>::try_from(prompt.list()) {
        Ok([prompt]) => prompt,
        Err(prompts) => {
            let text = format!("one prompt a request is answered, not {}", prompts.len());
            return Err(Refusal::unsupported("prompt", text));
        }
    };
    fields.asked(prompt, true)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "text, or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What is wrong with a value, in the words of JSON.
fn plain(error: &serde_json::Error) -> String {
    let kinds = [
        ("f32", "a number"),
        ("u64", "a whole number, not below 0"),
        ("a map", "an object"),
        ("a sequence", "a list"),
        ("a string", "a text"),
        ("a boolean", "true or false"),
    ];
    let of = |text: String, (rust, json): &(&str, &str)| {
        text.replace(&format!("expected {rust}"), &format!("expected {json}"))
    };
    kinds.iter().fold(error.to_string(), of)
}

/// The fields of a request that nobody has looked at yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let read = serde_json::from_slice(body).map(Self);
        read.map_err(|error| Refusal::invalid(format!("the body is no JSON object: {error}")))
    }

    /// A field; null is the same as none.
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match serde_json::from_value(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(Refusal::field(name, format!("{name}: {}", plain(&error)))),
            },
        }
    }

    fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Refusal> {
        self.take(name)?.ok_or_else(|| Refusal::field(name, format!("{name} is missing")))
    }

    /// A field of which only one value can be honoured.
    fn only(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        // 1 and 1.0 are the same.
        let number = |asked: &Value| asked.as_f64().is_some_and(|asked| Some(asked) == value.as_f64());
        match self.0.remove(name) {
            Some(asked) if !is_nothing(&asked) && asked != *value && !number(&asked) => {
                Err(Refusal::unsupported(name, format!("{name} can only be {value} here")))
            }
            _ => Ok(()),
        }
    }

    fn model(&mut self) -> Result<(), Refusal> {
        let model: String = self.need("model")?;
        if model == MODEL { Ok(()) } else { Err(Refusal::no_model(&model)) }
    }

    fn max_new_tokens(&mut self) -> Result<Option<u32>, Refusal> {
        let mut longest = None;
        for name in ["max_tokens", "max_completion_tokens"] {
            let Some(tokens) = self.take::<u64>(name)? else { continue };
            let fits = u32::try_from(tokens).ok().filter(|n| (1..=limits::NEW_TOKENS).contains(n));
            let Some(tokens) = fits else {
                return Err(Refusal::field(name, format!("{name} must be from 1 to {}", limits::NEW_TOKENS)));
            };
            if longest.replace(tokens).is_some_and(|other| other != tokens) {
                return Err(Refusal::field(name, "max_tokens and max_completion_tokens say different things"));
            }
        }
        Ok(longest)
    }

    fn stops(&mut self) -> Result<Vec<String>, Refusal> {
        let stop = self.take("stop")?.map(OneOrMany::list).unwrap_or_default();
        if stop.len() > limits::STOPS || stop.iter().any(|stop| stop.is_empty() || stop.len() > limits::LABEL_BYTES) {
            let text = format!("stop: at most {} texts of 1 to {} bytes", limits::STOPS, limits::LABEL_BYTES);
            return Err(Refusal::field("stop", text));
        }
        Ok(stop)
    }

    fn seed(&mut self) -> Result<Option<u64>, Refusal> {
        let Some(seed) = self.take::<Value>("seed")? else { return Ok(None) };
        let seed = seed.as_u64().or_else(|| seed.as_i64().map(i64::cast_unsigned));
        seed.map(Some).ok_or_else(|| Refusal::field("seed", "seed must be a whole number of 64 bits"))
    }

    fn usage(&mut self) -> Result<bool, Refusal> {
        let mut options = Self(self.take("stream_options")?.unwrap_or_default());
        let usage = options.take("include_usage")?.unwrap_or(false);
        options.only("include_obfuscation", &json!(false))?;
        options.done("stream_options.")?;
        Ok(usage)
    }

    fn asked(mut self, prompt: String, raw: bool) -> Result<Asked, Refusal> {
        if prompt.len() > limits::PROMPT_BYTES {
            return Err(Refusal::huge_prompt());
        }
        let query = Query {
            id: QueryId([0; 16]),
            prompt,
            max_new_tokens: self.max_new_tokens()?,
            temperature: self.take("temperature")?,
            top_k: self.take("top_k")?,
            top_p: self.take("top_p")?,
            seed: self.seed()?,
            raw,
            stop: self.stops()?,
        };
        if let Some((name, text)) = query.wrong_setting() {
            return Err(Refusal::field(name, text));
        }
        let stream = self.take("stream")?.unwrap_or(false);
        let usage = self.usage()?;
        for (name, nothing) in neutral() {
            self.only(name, &nothing)?;
        }
        for name in HARMLESS {
            self.0.remove(name);
        }
        self.done("")?;
        Ok(Asked { query, stream, usage })
    }

    /// Nothing that is left may ask for anything.
    fn done(self, within: &str) -> Result<(), Refusal> {
        match self.0.into_iter().find(|(_, value)| !is_nothing(value)) {
            None => Ok(()),
            Some((name, _)) => {
                let name = format!("{within}{}", brief(&name));
                let text = format!("{name} is not supported here (docs/openai.md lists what is): leave it out");
                Err(Refusal::unsupported(name, text))
            }
        }
    }
}

/// Whether a value is there only to say that there is none.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "text, or a list of parts of the type text")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
}

/// One turn of a conversation.
struct Message {
    role: Role,
    text: String,
}

impl Message {
    fn read(at: usize, message: Map<String, Value>) -> Result<Self, Refusal> {
        let within = format!("messages[{at}].");
        let mut fields = Fields(message);
        let placed = |refusal: Refusal| refusal.within(&within);
        let role = fields.need("role").map_err(placed)?;
        let text = match fields.take("content").map_err(placed)? {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts.into_iter().map(|Part::Text { text }| text).collect(),
        };
        // Agents name each speaker; the template has no place for it.
        fields.0.remove("name");
        fields.done(&within)?;
        Ok(Self { role, text })
    }
}

/// A conversation as one prompt. What users and system say before an answer is one question, since these models know no
/// other roles. The answers' thread dresses the prompt once more, so what that puts around it is left out at both ends.
/// An export's chat template does the same (`pretrained.rs`). Many short turns with a long template are more than their
/// bytes in the request say: nothing grows beyond what a prompt may have.
fn dress(messages: &[Message], template: &str) -> Result<String, Refusal> {
    let (before, after) = template.split_once("{prompt}").unwrap_or(("", ""));
    if messages.last().is_none_or(|message| message.role != Role::User) {
        return Err(Refusal::field("messages", "the last message must be the user's"));
    }
    let (mut prompt, mut words) = (String::new(), Vec::new());
    let mut add = |parts: &[&str]| {
        let length = prompt.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > before.len() + limits::PROMPT_BYTES {
            return Err(Refusal::huge_prompt());
        }
        prompt.extend(parts.iter().copied());
        Ok(())
    };
    for Message { role, text } in messages {
        if *role == Role::Assistant {
            add(&[before, &words.join("\n\n"), after, " ", text.trim(), "\n\n"])?;
            words.clear();
        } else {
            words.push(text.trim_end());
        }
    }
    add(&[before, &words.join("\n\n")])?;
    Ok(prompt.split_off(before.len()))
}

#[cfg(test)]
mod tests;
