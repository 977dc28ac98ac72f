//! A TOML text taken apart into dotted paths and values, with the lines where they stand.

use toml::de::{DeTable, DeValue};

use crate::keys;
use crate::value::Found;

/// One `path = value`, or an empty section.
pub(crate) struct Entry {
    pub path: String,
    pub line: usize,
    pub found: Found,
    pub is_table: bool,
}

/// Every entry of the text, in no particular order; or every place where it is not TOML, as line and message.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Vec<(usize, String)>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let mut entries = Vec::new();
        flatten(text, "", root.get_ref(), &mut entries);
        return Ok(entries);
    }
    let told = |error: &toml::de::Error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        let said = error.message().replace('\n', ", ");
        (line, text.lines().nth(line - 1).and_then(unquoted).unwrap_or(said))
    };
    let mut places: Vec<_> = errors.iter().map(told).collect();
    places.sort();
    places.dedup();
    Err(places)
}

/// What to do about `key = word`, of which TOML's own message says only that it is no truth value.
fn unquoted(line: &str) -> Option<String> {
    let (key, value) = line.split('#').next()?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let word = value.starts_with(|first: char| first.is_alphabetic() || "./~".contains(first))
        && !value.contains(['"', '\''])
        && !["true", "false", "inf", "nan"].contains(&value);
    // In the other ones a backslash begins something else.
    let mark = if value.contains('\\') { '\'' } else { '"' };
    word.then(|| format!("text stands in quotation marks: {key} = {mark}{value}{mark}"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn flatten(text: &str, prefix: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() && keys::find(&path).is_none() => {
                flatten(text, &path, inner, entries);
            }
            other => entries.push(Entry {
                path,
                line: line_of(text, name.span().start),
                found: Found::from_toml(other),
                is_table: matches!(other, DeValue::Table(_)),
            }),
        }
    }
}
