//! Random keys, sizes and remote text never panic, never emit a control character, never draw outside.

use std::time::Duration;

use hydra_core::chat::{Cost, Event};
use hydra_core::credits::Credits;
use hydra_core::proto::{Finish, RefusedCode};
use hydra_shell::ui::testkit::Script;
use proptest::prelude::*;

use super::{Msg, Screen, answer, connected, session, token};

#[derive(Debug, Clone)]
enum Step {
    Keys(&'static str),
    Text(String),
    Paste(String),
    Size(u16, u16),
    Wheel(i32),
    Wait(u64),
    Token(String),
    Lost(String),
    Refused(String),
    Answer,
    Connected(u64),
    Goodbye(String),
    Away(String),
}

const KEYS: [&str; 19] = [
    "<enter>",
    "<esc>",
    "<tab>",
    "<up>",
    "<down>",
    "<pageup>",
    "<pagedown>",
    "<ctrl-home>",
    "<ctrl-y>",
    "<f1>",
    "<ctrl-c>",
    "<ctrl-d>",
    "<alt-enter>",
    "<backspace>",
    "<ctrl-w>",
    "/",
    "/ t <tab>",
    "/ c l <tab> <enter>",
    "/ b a <tab> <enter>",
];

fn remote() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,30}",
        "[\\x00-\\x{ff}]{0,20}",
        Just("\u{1b}]0;evil\u{7}\u{202e}\u{200b}🐍e\u{301}\u{301}東京".to_owned()),
        Just("x".repeat(10_000)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::sample::select(&KEYS[..]).prop_map(Step::Keys),
        "[a-z /]{0,8}".prop_map(Step::Text),
        remote().prop_map(Step::Paste),
        (0u16..90, 0u16..30).prop_map(|(width, height)| Step::Size(width, height)),
        (-3i32..3).prop_map(Step::Wheel),
        (0u64..3_000).prop_map(Step::Wait),
        remote().prop_map(Step::Token),
        remote().prop_map(Step::Lost),
        remote().prop_map(Step::Refused),
        Just(Step::Answer),
        (0u64..2).prop_map(Step::Connected),
        remote().prop_map(Step::Goodbye),
        remote().prop_map(Step::Away),
    ]
}

fn take(script: &mut Script<Screen>, step: Step) {
    match step {
        Step::Keys(keys) => drop(script.keys(keys)),
        Step::Text(text) => drop(script.text(&text)),
        Step::Paste(text) => drop(script.paste(&text)),
        Step::Size(width, height) => drop(script.resize((width, height))),
        Step::Wheel(turns) => drop(script.wheel(1, 1, turns)),
        Step::Wait(millis) => drop(script.advance(Duration::from_millis(millis))),
        Step::Token(text) => session(script, token(&text)),
        Step::Lost(reason) => {
            let cost = if reason.len().is_multiple_of(2) { Cost::Nothing } else { Cost::Unknown };
            session(script, Event::Lost { text: reason.clone(), reason: reason.clone(), cost });
            session(script, Event::Disconnected { retry_ms: 1_500, reason });
        }
        Step::Refused(text) => {
            let (reason, balance) = (RefusedCode::Failed, Credits::ZERO);
            session(script, Event::Refused { reason, text, balance });
        }
        Step::Answer => session(script, answer(3, Finish::Stop)),
        Step::Goodbye(text) => drop(script.msg(Msg::Goodbye(text))),
        Step::Away(text) => drop(script.msg(Msg::Refused(text))),
        Step::Connected(hyd) => {
            let (balance, price) = (Credits::hyd(hyd), Credits::hyd(1));
            let version = hydra_core::ids::VersionNo(hyd);
            session(script, Event::Connected { balance, price, version, val_loss: Some(f64::NAN), val_version: None });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_breaks_the_screen(steps in proptest::collection::vec(step(), 0..30)) {
        let mut script = connected((80, 24), Credits::hyd(3));
        for step in steps {
            take(&mut script, step);
            // Fails on control characters; ratatui fails on drawing outside.
            script.buffer();
        }
    }
}
