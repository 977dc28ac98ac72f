//! Everything that fuzzing ever found interesting, once more: no fuzzer, no instrumentation, a second or two.
#![allow(clippy::unwrap_used)]

use hydra_fuzz::{TARGETS, pack, seeds};

#[test]
fn the_kept_corpus_breaks_nothing() {
    for (name, run) in TARGETS {
        let file = format!("{}/corpus/{name}.pack", env!("CARGO_MANIFEST_DIR"));
        let packed = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let inputs = pack::unpack(&packed);
        let whole: usize = inputs.iter().map(|input| 4 + input.len()).sum();
        assert_eq!(whole, packed.len(), "{file} is damaged");
        assert!(inputs.len() > 20, "{file} holds next to nothing");
        for input in inputs.into_iter().map(<[u8]>::to_vec).chain(seeds::of(name)) {
            // A test's output is shown when it fails: what was run last is what broke.
            println!("{name}: {} bytes: {}", input.len(), input.escape_ascii());
            run(&input);
        }
    }
}
