//! Every kind of fault, word for word.

use super::*;

fn faults(text: &str) -> Vec<String> {
    let faults = resolve(Some(file(text)), [], &Flags::default()).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn each_message_names_the_place_the_value_and_what_is_allowed() {
    let cases = [
        ("ledger.rewrd = 1", "unknown key `ledger.rewrd`: did you mean `ledger.reward`?"),
        ("price = 1", "unknown key `price`: did you mean `ledger.price`?"),
        ("colour = 1", "unknown key `colour`: docs/configuration.md lists the keys"),
        ("[colour]", "unknown section `colour`: docs/configuration.md lists the keys"),
        ("model = 5", "`model` is a section: write [model] and its keys below it"),
        ("[seed]", "seed is a table; allowed: a whole number from 0 to 9_223_372_036_854_775_807"),
        ("seed = -1", "seed is -1; allowed: a whole number from 0 to 9_223_372_036_854_775_807"),
        ("seed = true", "seed is true; allowed: a whole number from 0 to 9_223_372_036_854_775_807"),
        ("model.width = 1.5", "model.width is 1.5; allowed: a whole number from 8 to 16_384"),
        ("model.width = '256'", "model.width is \"256\"; allowed: a whole number from 8 to 16_384"),
        ("tasks.queue = 0", "tasks.queue is 0; allowed: a whole number from 1 to 4096 tasks"),
        ("rounds.quorum = nan", "rounds.quorum is NaN; allowed: a number from 0.01 to 1.0"),
        ("rounds.quorum = inf", "rounds.quorum is inf; allowed: a number from 0.01 to 1.0"),
        ("ledger.price = -1", "ledger.price is -1; allowed: from 0.0 to 1000.0 credits, with at most six decimals"),
        (
            "ledger.reward = 0",
            "ledger.reward is 0; allowed: from 0.000001 to 1000.0 credits, with at most six decimals",
        ),
        (
            "ledger.reward = 0.1234567",
            "ledger.reward is 0.1234567; allowed: from 0.000001 to 1000.0 credits, with at most six decimals",
        ),
        (
            "ledger.reward = 1001",
            "ledger.reward is 1001; allowed: from 0.000001 to 1000.0 credits, with at most six decimals",
        ),
        ("listen = 'here'", "listen is \"here\"; allowed: host:port, such as 127.0.0.1:5000 (port 0: any free one)"),
        (
            "preset = 'smal'",
            "preset is \"smal\" (did you mean \"small\"?); allowed: one of tiny, small, shakespeare, base, large",
        ),
        (
            "rounds.codec = 'zip'",
            "rounds.codec is \"zip\"; allowed: one of auto, f32, bf16, int8, int4, sparse256, sparse64",
        ),
        ("tokenizer = 'bpe:12'", "tokenizer is \"bpe:12\"; allowed: bytes, or bpe:N with N from 257 to 65536"),
        ("data = [1]", "data is a list that holds more than texts; allowed: a list of paths"),
        ("data = ['']", "data is [\"\"]; allowed: a list of paths"),
        ("run = ''", "run is \"\"; allowed: a path"),
        (
            "answers.template = 'Q:'",
            "answers.template is \"Q:\"; allowed: text of at most 1024 bytes that holds {prompt} once",
        ),
        (
            "answers.template = '{prompt} {prompt}'",
            "answers.template is \"{prompt} {prompt}\"; allowed: text of at most 1024 bytes that holds {prompt} once",
        ),
        ("answers.stop = ['']", "answers.stop is [\"\"]; allowed: a list of at most 4 texts of 1 to 64 bytes"),
        (
            "stop.at_loss = 'low'",
            "stop.at_loss is \"low\"; allowed: a number from 0.0 to 100.0 nats a token, or \"none\"",
        ),
        ("seed = 1979-05-27", "seed is 1979-05-27; allowed: a whole number from 0 to 9_223_372_036_854_775_807"),
    ];
    for (text, message) in cases {
        assert_eq!(faults(text), [format!("file x.toml, line 1: {message}")], "{text}");
    }
}

#[test]
fn a_setting_that_stands_alone_is_there_though_others_do_not_fit() {
    let text = "answers.top_k = 7\ntasks.task_tokens = 5000";
    assert!(resolve(Some(file(text)), [], &Flags::default()).is_err());
    assert_eq!(resolve_apart(Some(file(text)), [], &Flags::default()).unwrap().settings.answers.top_k, 7);
    assert!(resolve_apart(Some(file("answers.top_k = 'x'")), [], &Flags::default()).is_err());
}

#[test]
fn settings_that_do_not_fit_each_other_are_faults() {
    let cases = [
        (
            "tasks.task_tokens = 5000",
            "tasks.task_tokens is 5000; allowed: a multiple of recipe.batch × model.context = 4 × 512 = 2048; the \
             nearest are 4096 and 6144",
        ),
        (
            "tasks.task_tokens = 5",
            "tasks.task_tokens is 5; allowed: a multiple of recipe.batch × model.context = 4 × 512 = 2048; the nearest \
             is 2048",
        ),
        (
            "model.width = 250",
            "the sizes make no model: width 250 does not split into 4 heads of an even size; see [model] and tokenizer",
        ),
        (
            "model.width = 16384\nmodel.ffn = 65536",
            "the sizes make no model: 8753872896 parameters are more than the 1073741824 that this version supports; \
             see [model] and tokenizer",
        ),
        (
            "model.context = 65536\nrecipe.batch = 128\ntasks.task_tokens = 8388608\neval.tokens = 65536",
            "recipe.batch × model.context is 128 × 65536 = 8388608 tokens a step; allowed: at most 4194304, since no \
             worker takes more",
        ),
        (
            "model.context = 8\nrecipe.batch = 1\ntasks.task_tokens = 8388616",
            "tasks.task_tokens is 8388616; allowed: at most 1048576 steps of recipe.batch × model.context = 8 tokens, so \
             8388608, since no worker takes more",
        ),
        (
            "tasks.min_lease_seconds = 400",
            "tasks.first_lease_seconds is 300.0; allowed: at least tasks.min_lease_seconds, which is 400.0",
        ),
        ("eval.tokens = 100", "eval.tokens is 100; allowed: at least one window, model.context, which is 512"),
    ];
    for (text, message) in cases {
        assert_eq!(faults(text), [format!("file x.toml: {message}")], "{text}");
    }
    // The most that workers take.
    for text in [
        "model.context = 65536\nrecipe.batch = 64\ntasks.task_tokens = 4194304",
        "model.context = 8\nrecipe.batch = 1\ntasks.task_tokens = 8388608",
    ] {
        with_file(text);
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = "sede = 1\n[model]\nwidth = 0\ncontxt = 100\n[tasks]\nqueue = 'x'\nmin_lease_seconds = 1_000\n";
    let env = env(&[("HYDRA_REWARD", "1"), ("HYDRA_LEDGER_PRICE", "cheap")]);
    let flags = Flags { seed: Some(u64::MAX), listen: Some(":5000".into()), ..Flags::default() };
    let shown = resolve(Some(file(text)), env, &flags).unwrap_err().to_string();
    assert_eq!(
        shown,
        "9 settings are wrong:
  file x.toml, line 1: unknown key `sede`: did you mean `seed`?
  file x.toml, line 3: model.width is 0; allowed: a whole number from 8 to 16_384
  file x.toml, line 4: unknown key `model.contxt`: did you mean `model.context`?
  file x.toml, line 6: tasks.queue is \"x\"; allowed: a whole number from 1 to 4096 tasks
  HYDRA_LEDGER_PRICE: ledger.price is \"cheap\"; allowed: from 0.0 to 1000.0 credits, with at most six decimals
  HYDRA_REWARD: unknown setting HYDRA_REWARD: did you mean HYDRA_LEDGER_REWARD?
  --listen: listen is \":5000\"; allowed: host:port, such as 127.0.0.1:5000 (port 0: any free one)
  --seed: seed is 18446744073709551615; allowed: a whole number from 0 to 9_223_372_036_854_775_807
  file x.toml: tasks.first_lease_seconds is 300.0; allowed: at least tasks.min_lease_seconds, which is 1000.0"
    );
}

#[test]
fn broken_toml_names_its_lines_and_hides_no_other_layer() {
    let flags = Flags { tokenizer: Some("words".into()), ..Flags::default() };
    let found = resolve(Some(file("seed = \n[model\nwidth = 256\n")), [], &flags).unwrap_err().0;
    let places: Vec<&str> = found.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(places, ["file x.toml, line 1", "file x.toml, line 2", "--tokenizer"], "{found:?}");
}

#[test]
fn a_key_that_is_set_twice_is_a_fault() {
    assert_eq!(faults("seed = 1\nseed = 2"), ["file x.toml, line 2: duplicate key"]);
    let told = "file x.toml, line 2: text stands in quotation marks: preset = \"tiny\"";
    assert_eq!(faults("seed = 1\n preset = tiny # small"), [told]);
    let told = "file x.toml, line 1: text stands in quotation marks: run = 'C:\\runs'";
    assert_eq!(faults("run = C:\\runs"), [told]);
}

#[test]
fn a_misspelt_preset_raises_no_faults_of_the_default_one() {
    // 5,000 would be no multiple of `small`'s step.
    assert_eq!(faults("preset = 'tinny'\ntasks.task_tokens = 5000").len(), 1);
}

#[test]
fn a_fault_that_a_stronger_layer_covers_is_still_told() {
    let flags = Flags { seed: Some(1), ..Flags::default() };
    assert_eq!(resolve(Some(file("seed = 'x'")), [], &flags).unwrap_err().0.len(), 1);
}

#[test]
fn a_huge_or_hostile_value_makes_a_short_plain_message() {
    let text = format!("listen = '{}'\n\"a\\u001b[2J\" = 1", "é".repeat(10_000));
    let found = faults(&text);
    assert!(found.iter().all(|message| message.chars().count() < 250 && !message.contains('\u{1b}')), "{found:?}");
}

#[test]
fn no_control_character_reaches_the_terminal() {
    // Both found by fuzzing: a number that is none, and a variable's name.
    let text = "[tasks]\nfirst_lease_seconds = 360\u{fffd}\u{c}0";
    let env = [("HYDRA_LEDGER_REWAR\u{1b}".to_owned(), "1".to_owned())];
    let shown = resolve(Some(file(text)), env, &Flags::default()).unwrap_err().to_string();
    assert!(shown.contains("x.toml, line 2") && shown.contains("HYDRA_LEDGER_REWAR?"), "{shown:?}");
    // Whether the parser quotes the number depends on its features; if it does, the control character is a `?`.
    assert!(!shown.contains("360") || shown.contains("360\u{fffd}?0"), "{shown:?}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[cfg(unix)]
#[test]
fn a_path_that_toml_cannot_hold_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let path = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let flags = Flags { data: vec![path.into()], ..Flags::default() };
    let shown = resolve(None, [], &flags).unwrap_err().to_string();
    assert!(shown.starts_with("--data: data is a\u{fffd} (not UTF-8: rename it, or link to it); allowed"), "{shown}");
}
