//! libFuzzer's way into [`hydra_fuzz::tokenizer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hydra_fuzz::tokenizer::run(data));
