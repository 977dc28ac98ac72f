//! `--print-config`: every value as TOML with the layer that set it.

use std::fmt::Write;

use crate::keys::KEYS;
use crate::layers::Values;

/// Comments begin in this column, if the value leaves room.
const COLUMN: usize = 44;

pub(crate) fn print(values: &Values) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (Some(value), Some(layer)) = (values.get(key.path), values.layer(key.path)) else {
            continue;
        };
        let (of, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if of != section {
            section = of;
            write!(text, "\n[{section}]\n").expect("a String takes all text");
        }
        let line = format!("{name} = {value}");
        writeln!(text, "{line:COLUMN$}  # {layer}").expect("a String takes all text");
    }
    text
}
