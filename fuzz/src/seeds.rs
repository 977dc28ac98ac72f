//! Inputs to begin with: the golden frames, encoded vectors, tokenizer files, presets.

use hydra_core::codec::Codec;

use crate::tokenizer;

const FRAMES: &str = include_str!("../../core/src/proto/tests/frames.txt");
const PRESETS: [&str; 5] = [
    include_str!("../../config/presets/tiny.toml"),
    include_str!("../../config/presets/small.toml"),
    include_str!("../../config/presets/shakespeare.toml"),
    include_str!("../../config/presets/base.toml"),
    include_str!("../../config/presets/large.toml"),
];

/// The seeds of a target; none for a name that is no target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frames" => FRAMES.lines().filter_map(|line| unhex(line.rsplit_once(": ")?.1)).collect(),
        "updates" => updates(),
        "tokenizer" => tokenizers(),
        "settings" => settings(),
        _ => Vec::new(),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| char::from(d).to_digit(16);
    text.as_bytes().chunks(2).map(|two| Some((digit(two[0])? << 4 | digit(*two.get(1)?)?) as u8)).collect()
}

fn updates() -> Vec<Vec<u8>> {
    let wave: Vec<f32> = (0..300).map(|n| 1e-3 * (n as f32 * 0.7).sin()).collect();
    let mut seeds = Vec::new();
    for (number, codec) in Codec::ALL.into_iter().enumerate() {
        for n in [0, 1, 2, 127, 128, 129, 300] {
            let order = (n % 8) as u8 | ((n / 100) as u8) << 4;
            let head = [number as u8, n as u8, (n >> 8) as u8, 40, order];
            seeds.push(head.into_iter().chain(codec.encode(&wave[..n])).collect());
        }
    }
    seeds
}

fn tokenizers() -> Vec<Vec<u8>> {
    let with = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let mut seeds: Vec<_> = tokenizer::files().iter().map(|json| with(0, json)).collect();
    // Its structure without its bulk, which mutations reach sooner.
    seeds.push(with(0, r#"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#));
    for text in [&tokenizer::TEXT[..400], "it's  <|endoftext|>\n\n\tété 東京 🙂", "\u{a0}\u{2003}x \u{7f}\r\n"] {
        seeds.extend([with(1, text), with(2, text)]);
    }
    seeds.push(vec![2, 0xff, 0xc3, 0xe2, 0x82, 0x20, 0xf0]);
    seeds
}

fn settings() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = PRESETS.iter().map(|text| text.as_bytes().to_vec()).collect();
    let printed = hydra_config::resolve(None, [], &hydra_config::Flags::default()).map(|resolved| resolved.print());
    seeds.extend(printed.map(String::into_bytes));
    seeds.push(
        b"seed = 1_000\nlisten = '[::1]:0'\n[answers]\nstop = ['a', \"\\n\"]\n\0HYDRA_SEED=7\0HYDRA_DATA=[\"a\", 'b']\
          \0HYDRA_LEDGER_REWARD=1.5\0--preset=tiny\0--stop-at-loss=2.5\0--tokenizer=bytes\0HYDRA_SED=1"
            .to_vec(),
    );
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_of_its_kind() {
        for (name, _) in crate::TARGETS {
            assert!(of(name).len() >= 5, "{name}");
        }
        let frames = of("frames");
        assert!(
            frames.len() > 20 && frames.iter().all(|frame| frame[0] == 0x81),
            "golden frames are maps of one entry"
        );
    }
}
