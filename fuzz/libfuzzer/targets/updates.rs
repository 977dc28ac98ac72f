//! libFuzzer's way into [`hydra_fuzz::updates`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hydra_fuzz::updates::run(data));
