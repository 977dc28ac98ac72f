//! Ordinary programs of the system in a terminal.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::process::Command;

use hydra_pty::process::Signal;
use hydra_pty::{Left, Terminal};

fn sh(script: &str) -> Terminal {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Terminal::start("sh", &command, (40, 5)).unwrap()
}

#[test]
fn words_sizes_and_ends() {
    let mut terminal = sh("stty size; read line; echo \"got $line\"; exit 3");
    terminal.wait_for("5 40").unwrap();
    terminal.type_text("hello").unwrap();
    terminal.press("enter").unwrap();
    let status = terminal.wait_end().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(terminal.text().contains("got hello"), "{}", terminal.text());
    assert_eq!(terminal.left().unwrap(), Left::CLEAN);
    let error = terminal.wait_for("nothing of it").unwrap_err().to_string();
    assert!(error.contains("has ended") && error.contains("got hello"), "{error}");
}

#[test]
fn a_terminal_that_is_left_in_disorder_is_seen() {
    let terminal = sh("stty raw -echo; printf '\\033[?1049h\\033[?25l\\033[?1000h'");
    assert!(terminal.wait_end().unwrap().success());
    let left = terminal.left().unwrap();
    assert_eq!(left, Left { cursor: false, main_screen: false, plain_input: false, modes: false });
}

#[test]
fn every_frame_is_looked_at() {
    // Faster than anybody looks, so that many arrive together.
    let frame = |words: &str| format!("\\033[?2026h\\033[H{words}\\033[?2026l");
    let terminal = sh(&format!("while :; do printf '{}{}'; done", frame("one"), frame("two")));
    let mut seen = Vec::new();
    let many = terminal.wait("many frames", |screen| {
        seen.push(screen.contents());
        (seen.len() == 500).then_some(())
    });
    many.unwrap();
    assert!(seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
}

#[test]
fn signals_reach_the_program() {
    let terminal = sh("trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready").unwrap();
    terminal.signal(Signal::TERM).unwrap();
    assert_eq!(terminal.wait_end().unwrap().code(), Some(7));
    terminal.wait_for("asked").unwrap();
}
