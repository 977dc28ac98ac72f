//! Settings from any file, environment and flags: sound ones print to a file that means the same, others are told.
//!
//! An input has parts, divided by NUL bytes: the file; then `HYDRA_NAME=value` variables; those that begin with `--`
//! are flags.

use std::path::PathBuf;

use hydra_config::{ConfigFile, Flags, resolve};

/// Resolves the settings of all parts together.
pub fn run(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let Some(text) = parts.next() else { return };
    let mut env = Vec::new();
    let mut flags = Flags::default();
    for part in parts.take(64) {
        let (name, value) = part.split_once('=').unwrap_or((&part, ""));
        if !give(&mut flags, name, value) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    let file = ConfigFile { name: "fuzz.toml", text: &text };
    match resolve(Some(file), env, &flags) {
        Ok(resolved) => {
            let printed = resolved.print();
            let again = resolve(Some(ConfigFile { name: "printed", text: &printed }), [], &Flags::default());
            let again = again.unwrap_or_else(|faults| panic!("{faults}\nin what was printed:\n{printed}"));
            assert_eq!(again.settings, resolved.settings, "{printed}");
            assert!(resolved.settings.steps_per_task() > 0);
        }
        Err(faults) => {
            assert!(!faults.0.is_empty());
            let told = faults.to_string();
            // A terminal shows it: no control characters but the line ends between faults.
            assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
        }
    }
}

fn give(flags: &mut Flags, name: &str, value: &str) -> bool {
    let path = || PathBuf::from(value);
    match name {
        "--listen" => flags.listen = Some(value.to_owned()),
        "--run" => flags.run = Some(path()),
        "--seed" => flags.seed = value.parse().ok(),
        "--data" => flags.data.push(path()),
        "--val-data" => flags.val_data.push(path()),
        "--preset" => flags.preset = Some(value.to_owned()),
        "--tokenizer" => flags.tokenizer = Some(value.to_owned()),
        "--stop-after-tasks" => flags.stop_after_tasks = value.parse().ok(),
        "--stop-after-tokens" => flags.stop_after_tokens = value.parse().ok(),
        "--stop-after-rounds" => flags.stop_after_rounds = value.parse().ok(),
        "--stop-at-loss" => flags.stop_at_loss = value.parse().ok(),
        _ => return false,
    }
    true
}
