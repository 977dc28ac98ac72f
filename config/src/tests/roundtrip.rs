//! What is printed can be handed in again.

use super::*;

/// Prints, hands the text in as a file, and compares.
fn survives(resolved: &Resolved) {
    let text = resolved.print();
    let again = resolve(Some(file(&text)), [], &Flags::default()).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert_eq!(again.settings, resolved.settings, "{text}");
    let lines = text.lines().filter(|line| line.contains(" = ")).count();
    assert_eq!(lines, keys::KEYS.len(), "every key has its line\n{text}");
}

#[test]
fn every_preset_survives() {
    for preset in Preset::ALL {
        let flags = Flags { preset: Some(preset.to_string()), ..Flags::default() };
        survives(&resolve(None, [], &flags).unwrap());
    }
}

#[test]
fn values_of_every_kind_survive() {
    let text = r#"
        listen = "example.org:80"
        run = "C:\\runs\\\"one\"\t\u007f\u0000"
        data = ["a b", "ü # no comment"]
        preset = "shakespeare"
        model.ffn = 400
        recipe.weight_decay = 1e-7
        schedule.peak_lr = 1e-8
        tasks.rate_per_minute = 10
        rounds.codec = "bf16"
        ledger.reward = 0.000001
        ledger.price = 999.999999
        answers.stop = ["\n", "\"", "'''", "\u001b"]
        answers.template = "<{prompt}>\r\n"
        eval.every_seconds = 0x10
        stop.after_tokens = 10
        stop.at_loss = 1.25
    "#
    .replace("\\u0000", "");
    let resolved = with_file(&text);
    assert_eq!(resolved.settings.ledger.price, Credits(999_999_999));
    assert_eq!(resolved.settings.eval.every, Some(std::time::Duration::from_secs(16)));
    survives(&resolved);
}

#[test]
fn each_line_names_its_layer() {
    let flags = Flags { seed: Some(7), stop_after_tokens: Some(1_000_000), ..Flags::default() };
    let env = env(&[("HYDRA_LEDGER_REWARD", "2")]);
    let named = ConfigFile { name: "x\n.toml", text: "[ledger]\nprice = 0.25" };
    let text = resolve(Some(named), env, &flags).unwrap().print();
    for (setting, layer) in [
        ("listen = \"127.0.0.1:5000\"", "default"),
        ("seed = 7", "--seed"),
        ("tokenizer = \"bpe:10000\"", "preset small"),
        ("reward = 2.0", "HYDRA_LEDGER_REWARD"),
        ("price = 0.25", "file x?.toml"),
        ("after_tasks = \"none\"", "default"),
        ("horizon_tokens = 1000000", "follows stop.after_tokens"),
        ("stop = [\"\\nQuestion:\", \"\\n\\n\"]", "default"),
    ] {
        let line = format!("{setting:44}  # {layer}");
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
}
