//! `docs/configuration.md` holds the tables that the code gives.

use std::fmt::Write;
use std::path::PathBuf;

use super::*;
use crate::keys::{Fallback, KEYS};

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn key_table() -> String {
    let mut table = "| key | environment | allowed | default | meaning |\n|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let default = match key.default {
            Fallback::Toml(toml) => format!("`{toml}`"),
            Fallback::Preset => "of the preset".to_owned(),
            Fallback::Unset(word) => format!("`\"{word}\"`"),
            Fallback::Derived(words) => words.to_owned(),
        };
        let (path, env, allowed, help) = (key.path, key.env(), cell(&key.allowed()), cell(key.help));
        writeln!(table, "| `{path}` | `{env}` | {allowed} | {} | {help} |", cell(&default)).unwrap();
    }
    table
}

fn preset_table() -> String {
    let mut table = "| preset | tokenizer | width | heads | layers | context | parameters | batch | task tokens \
                     | peak rate | warm-up tokens | final ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for preset in Preset::ALL {
        let flags = Flags { preset: Some(preset.to_string()), ..Flags::default() };
        let settings = resolve(None, [], &flags).unwrap().settings;
        let Settings { tokenizer, model, recipe, schedule, tasks, .. } = &settings;
        writeln!(
            table,
            "| `{preset}` | {tokenizer} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            model.width,
            model.heads,
            model.layers,
            model.context,
            grouped(shape(&settings).params()),
            recipe.batch,
            grouped(tasks.task_tokens as usize),
            schedule.peak_lr,
            grouped(schedule.warmup_tokens as usize),
            schedule.final_lr_ratio,
        )
        .unwrap();
    }
    table
}

/// `1,234,567`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The page with its tables as the code gives them.
fn renewed(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in [("keys", key_table()), ("presets", preset_table())] {
        let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
        let start = page.find(&begin).expect("the page marks where the table begins") + begin.len();
        let stop = start + page[start..].find(&end).expect("the page marks where the table ends");
        page.replace_range(start..stop, &table);
    }
    page
}

#[test]
fn the_page_holds_the_tables_of_the_code() {
    let page = std::fs::read_to_string(page()).unwrap();
    assert!(
        renewed(&page) == page,
        "docs/configuration.md differs from the table of keys: cargo test -p hydra-config -- --ignored renew"
    );
}

#[test]
fn the_pages_example_is_sound() {
    let page = std::fs::read_to_string(page()).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    with_file(example);
}

#[test]
#[ignore = "writes docs/configuration.md"]
fn renew_the_page() {
    let text = std::fs::read_to_string(page()).unwrap();
    // In one step, since the test above may be reading.
    let beside = page().with_extension("new");
    std::fs::write(&beside, renewed(&text)).unwrap();
    std::fs::rename(&beside, page()).unwrap();
}
