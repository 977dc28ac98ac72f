//! One value: as it was found in some layer, as it is once checked, and as TOML writes it.

use std::fmt;

use hydra_core::credits::Credits;
use hydra_core::limits;
use toml::de::DeValue;

use crate::keys::{Fallback, Key, Kind};
use crate::names::{TokenizerSpec, did_you_mean};

/// What a layer holds for a key, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Whole(i128),
    Number(f64),
    Text(String),
    List(Vec<String>),
    /// What no key takes, in words.
    Other(String),
}

/// A checked value; its variant is that of its key's kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Whole(u64),
    Number(f64),
    Credits(Credits),
    Text(String),
    List(Vec<String>),
    /// The word of [`Fallback::Unset`].
    Unset(&'static str),
}

impl Found {
    /// From a parsed TOML value.
    pub fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix())
                .map_or_else(|_| Self::Other(digits.as_str().to_owned()), Self::Whole),
            DeValue::Float(digits) => {
                digits.as_str().parse().map_or_else(|_| Self::Other(digits.as_str().to_owned()), Self::Number)
            }
            DeValue::Boolean(value) => Self::Other(value.to_string()),
            DeValue::Datetime(value) => Self::Other(value.to_string()),
            DeValue::Table(_) => Self::Other("a table".to_owned()),
            DeValue::Array(items) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map_or_else(|| Self::Other("a list that holds more than texts".to_owned()), Self::List),
        }
    }

    /// From a text that carries no type, such as an environment variable's: read as what `kind` takes. A list is
    /// written as TOML does, `["a", "b"]`; a text without brackets is its only item.
    pub fn from_text(text: &str, kind: Kind) -> Self {
        let plain = Self::Text(text.to_owned());
        match kind {
            Kind::Whole(..) | Kind::Number(..) | Kind::Credits(..) => {
                let digits = text.trim().replace('_', "");
                let whole = digits.parse().map(Self::Whole);
                whole.or_else(|_| digits.parse().map(Self::Number)).unwrap_or(plain)
            }
            Kind::Paths | Kind::Stops if text.trim_start().starts_with('[') => {
                DeValue::parse(text.trim()).map_or(plain, |value| Self::from_toml(value.get_ref()))
            }
            _ => plain,
        }
    }

    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Whole(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }

    fn into_list(self) -> Option<Vec<String>> {
        match self {
            Self::Text(text) => Some(vec![text]),
            Self::List(texts) => Some(texts),
            _ => None,
        }
    }
}

impl fmt::Display for Found {
    /// Short enough for a message, and without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = match self {
            Self::Whole(value) => value.to_string(),
            Self::Number(value) => format!("{value:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::List(texts) => format!("{texts:?}"),
            Self::Other(words) => words.clone(),
        };
        match full.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}…", &full[..end]),
            None => f.write_str(&full),
        }
    }
}

/// The checked value of `key`, or a message that says what was found and what is allowed.
pub(crate) fn check(key: &Key, found: &Found) -> Result<Value, String> {
    if let (Fallback::Unset(word), Found::Text(text)) = (key.default, found)
        && text == word
    {
        return Ok(Value::Unset(word));
    }
    accept(key.kind, found).ok_or_else(|| {
        let hint = match (key.kind, found) {
            (Kind::Choice(names), Found::Text(text)) => did_you_mean(text, names),
            _ => String::new(),
        };
        format!("{} is {found}{hint}; allowed: {}", key.path, key.allowed())
    })
}

fn accept(kind: Kind, found: &Found) -> Option<Value> {
    let text = |fits: fn(&str) -> bool| match found {
        Found::Text(text) if fits(text) => Some(Value::Text(text.clone())),
        _ => None,
    };
    match kind {
        Kind::Address => text(is_address),
        Kind::Path => text(is_path),
        Kind::Words => text(|text| text.len() <= limits::TEXT_BYTES),
        Kind::Template => text(|text| text.matches("{prompt}").count() == 1 && text.len() <= limits::TEXT_BYTES),
        Kind::Tokenizer => text(|text| text.parse::<TokenizerSpec>().is_ok()),
        Kind::Paths => {
            found.clone().into_list().filter(|paths| paths.iter().all(|path| is_path(path))).map(Value::List)
        }
        Kind::Stops => {
            let fits = |stop: &String| (1..=limits::LABEL_BYTES).contains(&stop.len());
            let stops = found.clone().into_list()?;
            (stops.len() <= limits::STOPS && stops.iter().all(fits)).then_some(Value::List(stops))
        }
        Kind::Choice(names) => match found {
            Found::Text(text) if names.contains(&text.as_str()) => Some(Value::Text(text.clone())),
            _ => None,
        },
        Kind::Whole(min, max, _) => match found {
            Found::Whole(value) => u64::try_from(*value).ok().filter(|v| (min..=max).contains(v)).map(Value::Whole),
            _ => None,
        },
        Kind::Number(min, max, _) => found.as_number().filter(|value| (min..=max).contains(value)).map(Value::Number),
        Kind::Credits(min, max) => {
            // Display writes the shortest digits that give the same float, without an exponent: what was written.
            let amount: Credits = found.as_number()?.to_string().parse().ok()?;
            (min..=max).contains(&amount).then_some(Value::Credits(amount))
        }
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn is_address(text: &str) -> bool {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_fits = (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        && !host.starts_with(['-', '.']);
    host_fits && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

impl fmt::Display for Value {
    /// As TOML, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Credits(value) => value.fmt(f),
            Self::Text(text) => write_text(f, text),
            Self::Unset(word) => write_text(f, word),
            Self::List(texts) => {
                f.write_str("[")?;
                for (at, text) in texts.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    write_text(f, text)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The text as TOML.
#[must_use]
pub fn quote(text: &str) -> String {
    Value::Text(text.to_owned()).to_string()
}

/// A TOML basic string; everything that TOML or a terminal could take for more than text is escaped.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
