//! The kit in a real terminal: whichever way a program ends, the terminal is as it was.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::process::Command;

use hydra_pty::process::Signal;
use hydra_pty::{Left, Terminal};

/// `examples/screen.rs`, which `cargo test` builds beside the tests.
fn screen() -> Terminal {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("examples/screen");
    let mut command = Command::new(program);
    // A trace would push the message out of sight.
    command.env("RUST_BACKTRACE", "0");
    let terminal = Terminal::start("screen", &command, (60, 10)).unwrap();
    terminal.wait_for("a screen of 60 by 10").unwrap();
    let left = Left { cursor: false, main_screen: false, plain_input: false, modes: false };
    assert_eq!(terminal.left().unwrap(), left, "the screen has the terminal");
    terminal
}

fn ends(terminal: &Terminal, words: &str) {
    terminal.wait_end().unwrap();
    assert_eq!(terminal.left().unwrap(), Left::CLEAN, "{}", terminal.text());
    // On the main screen, below what was there before.
    assert!(terminal.text().contains(words), "{}", terminal.text());
}

#[test]
fn quitting_and_signals() {
    let mut quit = screen();
    quit.press("c q").unwrap();
    ends(&quit, "the screen ended: Left");
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let asked = screen();
        asked.signal(signal).unwrap();
        ends(&asked, "the screen ended: Left");
    }
}

#[test]
fn an_unfinished_escape_sequence_holds_nothing_up() {
    let mut terminal = screen();
    // The beginning of what arrow keys send; reading goes on until the rest comes, which it does not.
    terminal.press("alt-[").unwrap();
    terminal.wait_read().unwrap();
    terminal.signal(Signal::TERM).unwrap();
    ends(&terminal, "the screen ended: Left");
}

#[test]
fn many_keys_at_once_all_arrive() {
    let mut terminal = screen();
    // More than are read in one go, as when a text is pasted into a terminal that does not mark pastes.
    terminal.type_text(&"x".repeat(3_000)).unwrap();
    terminal.wait_for(", 3000 counted").unwrap();
    terminal.press("q").unwrap();
    ends(&terminal, "the screen ended: Left");
}

#[test]
fn panics_here_and_elsewhere() {
    let mut here = screen();
    here.press("p").unwrap();
    ends(&here, "the screen ended: Panicked");
    assert!(here.text().contains("a bug on purpose"), "{}", here.text());
    let mut elsewhere = screen();
    elsewhere.press("t").unwrap();
    ends(&elsewhere, "the screen ended: Panicked");
    assert!(elsewhere.text().contains("a bug on purpose, elsewhere"), "{}", elsewhere.text());
}

#[test]
fn any_size_and_back() {
    let mut terminal = screen();
    for size in [(1, 1), (200, 60), (30, 1), (60, 10)] {
        terminal.resize(size).unwrap();
        if size.0 >= 30 {
            terminal.wait_for(&format!("a screen of {} by {}", size.0, size.1)).unwrap();
        }
    }
    terminal.press("q").unwrap();
    ends(&terminal, "the screen ended: Left");
}
