//! Settings from the outside: layers, messages, printing, presets, documentation.

use hydra_core::codec::Codec;
use hydra_core::credits::Credits;
use hydra_core::model::Shape;

use super::*;

mod docs;
mod faults;
mod roundtrip;

fn file(text: &str) -> ConfigFile<'_> {
    ConfigFile { name: "x.toml", text }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn with_file(text: &str) -> Resolved {
    resolve(Some(file(text)), [], &Flags::default()).unwrap()
}

fn shape(settings: &Settings) -> Shape {
    settings.model.shape(settings.tokenizer.vocab()).unwrap()
}

#[test]
fn the_run_s_folder_is_found_in_a_file_that_fits_only_beside_others() {
    // Fewer held-out tokens than a window of the default preset's.
    let text = "run = 'other'\n[eval]\ntokens = 256";
    assert!(resolve(Some(file(text)), [], &Flags::default()).is_err());
    assert_eq!(run_dir_of(file(text)), Some("other".into()));
    assert_eq!(run_dir_of(file("")), Some(with_file("").settings.run_dir));
    assert_eq!(run_dir_of(file("run = 5")), None);
}

#[test]
fn nothing_given_is_the_small_preset_on_the_primer() {
    let Settings { listen, run_dir, preset, tokenizer, recipe, tasks, rounds, ledger, answers, eval, stop, .. } =
        resolve(None, [], &Flags::default()).unwrap().settings;
    assert_eq!((listen.as_str(), run_dir.to_str()), ("127.0.0.1:5000", Some("./hydra-run")));
    assert_eq!((preset, tokenizer), (Preset::Small, TokenizerSpec::Bpe { vocab: 10_000 }));
    assert_eq!((recipe.batch, tasks.task_tokens, tasks.queue, tasks.rate_per_minute), (4, 16_384, 8, None));
    assert_eq!((rounds.quorum, rounds.codec, rounds.broadcast_codec), (0.7, None, Codec::Int4));
    assert_eq!((ledger.reward, ledger.price), (Credits::hyd(1), Credits(500_000)));
    assert_eq!((answers.max_new_tokens, answers.temperature, answers.top_k, answers.top_p), (128, 0.3, 40, 1.0));
    assert_eq!(answers.template, "Question: {prompt}\nAnswer:");
    assert_eq!(answers.stop, ["\nQuestion:", "\n\n"]);
    assert_eq!((eval.tokens, stop), (8192, StopSettings::default()));
}

#[test]
fn own_data_are_continued_instead_of_questioned() {
    let answers = with_file("data = 'a.txt'").settings.answers;
    assert_eq!((answers.temperature, answers.template.as_str(), answers.stop.len()), (0.8, "{prompt}", 0));
}

#[test]
fn presets_have_the_promised_sizes() {
    let params = Preset::ALL.map(|preset| {
        let flags = Flags { preset: Some(preset.to_string()), ..Flags::default() };
        let settings = resolve(None, [], &flags).unwrap().settings;
        assert_eq!(settings.preset, preset);
        assert_eq!(settings.steps_per_task(), if preset == Preset::Shakespeare { 25 } else { 8 });
        shape(&settings).params()
    });
    assert_eq!(params, [841_152, 4_142_592, 836_992, 31_598_080, 103_829_760]);
}

#[test]
fn presets_set_just_the_keys_that_are_theirs() {
    for preset in Preset::ALL {
        let flags = Flags { preset: Some(preset.to_string()), ..Flags::default() };
        let resolved = resolve(None, [], &flags).unwrap();
        for key in keys::KEYS {
            let of_preset = matches!(resolved.layer(key.path), Some(Layer::Preset(of)) if *of == preset);
            assert_eq!(of_preset, key.default == keys::Fallback::Preset, "{preset} {}", key.path);
        }
    }
}

#[test]
fn stronger_layers_win() {
    let text = "seed = 3\npreset = 'tiny'\n[recipe]\nbatch = 2\n[ledger]\nprice = 2\nreward = 3\n";
    let env = env(&[("HYDRA_LEDGER_REWARD", "4.25"), ("HYDRA_SEED", "4"), ("PATH", "/bin"), ("HYDRA_LISTEN", "")]);
    let flags = Flags { seed: Some(5), ..Flags::default() };
    let resolved = resolve(Some(file(text)), env, &flags).unwrap();
    let settings = &resolved.settings;
    let layer = |path| resolved.layer(path).unwrap().to_string();
    assert_eq!((settings.listen.as_str(), layer("listen")), ("127.0.0.1:5000", "default".into()));
    assert_eq!((settings.model.context, layer("model.context")), (256, "preset tiny".into()));
    assert_eq!((settings.recipe.batch, layer("recipe.batch")), (2, "file x.toml".into()));
    assert_eq!((settings.ledger.price, layer("ledger.price")), (Credits::hyd(2), "file x.toml".into()));
    assert_eq!((settings.ledger.reward, layer("ledger.reward")), (Credits(4_250_000), "HYDRA_LEDGER_REWARD".into()));
    assert_eq!((settings.seed, layer("seed")), (5, "--seed".into()));
    assert_eq!(resolved.layer("no.such"), None);
}

#[test]
fn the_preset_is_named_by_the_strongest_layer() {
    let flags = Flags { preset: Some("base".into()), ..Flags::default() };
    let named = resolve(Some(file("preset = 'tiny'")), env(&[("HYDRA_PRESET", "large")]), &flags).unwrap().settings;
    assert_eq!((named.preset, named.model.layers), (Preset::Base, 8));
}

#[test]
fn every_flag_reaches_its_setting() {
    let flags = Flags {
        listen: Some("[::1]:0".into()),
        run: Some("r".into()),
        seed: Some(9),
        data: vec!["a".into(), "b".into()],
        val_data: vec!["c".into()],
        preset: Some("tiny".into()),
        tokenizer: Some("bpe:300".into()),
        sizes: Some(ModelSettings { width: 64, heads: 2, layers: 3, context: 128, ffn: Some(80) }),
        stop_after_tasks: Some(1),
        stop_after_tokens: Some(2),
        stop_after_rounds: Some(3),
        stop_at_loss: Some(4.5),
    };
    let resolved = resolve(None, [], &flags).unwrap();
    let from_flags = keys::KEYS.iter().filter(|key| matches!(resolved.layer(key.path), Some(Layer::Flag(_)))).count();
    assert_eq!(from_flags, 16);
    assert_eq!(resolved.layer("tokenizer"), Some(&Layer::Flag("--init")), "the model's own");
    let settings = resolved.settings;
    assert_eq!((settings.listen.as_str(), settings.seed, settings.data.len()), ("[::1]:0", 9, 2));
    assert_eq!((settings.val_data.len(), settings.tokenizer.vocab()), (1, 300));
    assert_eq!((settings.model.width, settings.model.context, settings.model.ffn), (64, 128, Some(80)));
    let stop = StopSettings { after_tasks: Some(1), after_tokens: Some(2), after_rounds: Some(3), at_loss: Some(4.5) };
    assert_eq!(settings.stop, stop);
}

#[test]
fn lists_in_the_environment_are_one_text_or_a_toml_list() {
    let of = |text| resolve(None, env(&[("HYDRA_DATA", text)]), &Flags::default()).unwrap().settings.data;
    assert_eq!(of("a, b.txt"), [std::path::Path::new("a, b.txt")]);
    assert_eq!(of(r#"["a", "b"]"#).len(), 2);
    assert!(of("[]").is_empty());
}

#[test]
fn defaults_follow_other_settings() {
    let resolved =
        with_file("[stop]\nafter_tokens = 5_000_000\n[model]\ncontext = 16_384\n[tasks]\ntask_tokens = 65_536");
    assert_eq!(resolved.settings.schedule.horizon_tokens, Some(5_000_000));
    assert_eq!(resolved.layer("schedule.horizon_tokens").unwrap().to_string(), "follows stop.after_tokens");
    assert_eq!(resolved.settings.eval.tokens, 16_384);
    let resolved = with_file("schedule.horizon_tokens = 'none'\nstop.after_tokens = 5_000_000");
    assert_eq!(resolved.settings.schedule.horizon_tokens, None);
}

#[test]
fn a_word_takes_a_weaker_layers_value_away() {
    let weak = "[model]\nffn = 512\n[tasks]\nrate_per_minute = 10\n";
    let env = env(&[("HYDRA_TASKS_RATE_PER_MINUTE", "none"), ("HYDRA_MODEL_FFN", "auto")]);
    assert_eq!(shape(&with_file(weak).settings).ffn, 512);
    let settings = resolve(Some(file(weak)), env, &Flags::default()).unwrap().settings;
    assert_eq!((settings.tasks.rate_per_minute, shape(&settings).ffn), (None, 688));
}

#[test]
fn foreign_variables_are_ignored_aloud() {
    let resolved = resolve(None, env(&[("HYDRA_LOG", "debug"), ("HYDRA_CACHE_DIR", "x")]), &Flags::default()).unwrap();
    assert_eq!(
        resolved.warnings,
        ["HYDRA_CACHE_DIR", "HYDRA_LOG"].map(|name| format!("{name} is no setting of the coordinator; it is ignored"))
    );
}

#[test]
fn variables_names_are_unique() {
    let mut names: Vec<String> = keys::KEYS.iter().map(keys::Key::env).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys::KEYS.len());
}

#[test]
fn tokenizers_and_presets_print_as_they_parse() {
    for text in ["bytes", "bpe:257", "bpe:65536"] {
        assert_eq!(text.parse::<TokenizerSpec>().unwrap().to_string(), text);
    }
    for text in ["", "bpe", "bpe:", "bpe:256", "bpe:65537", "bpe:+300", "BYTES", "bpe:99999999999"] {
        assert!(text.parse::<TokenizerSpec>().is_err(), "{text}");
    }
    for preset in Preset::ALL {
        assert_eq!(preset.to_string().parse(), Ok(preset));
    }
    assert_eq!(
        "smal".parse::<Preset>().unwrap_err().to_string(),
        "unknown preset \"smal\" (did you mean \"small\"?): the presets are tiny, small, shakespeare, base, large"
    );
}
