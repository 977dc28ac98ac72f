//! libFuzzer's way into [`hydra_fuzz::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hydra_fuzz::settings::run(data));
