//! libFuzzer's way into [`hydra_fuzz::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hydra_fuzz::frames::run(data));
