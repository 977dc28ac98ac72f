//! The chat screen under keys, sessions and sizes; then beside a real session.

use std::time::Duration;

use hydra_core::chat::{Cost, Event};
use hydra_core::credits::Credits;
use hydra_core::ids::VersionNo;
use hydra_core::proto::{Finish, RefusedCode};
use hydra_core::time::Time;
use hydra_shell::ui::Theme;
use hydra_shell::ui::testkit::{SIZES, Script};

use super::app::Screen;
use super::msg::{Cmd, Msg};
use crate::sampling::Sampling;

mod ends;
mod random;
mod session;

const EARN: &str = "earn credits with: hydra-worker alice ws://127.0.0.1:5000/ws";

fn started(size: (u16, u16)) -> Script<Screen> {
    let screen = Screen::new(Theme::colour(), "alice".parse().unwrap(), Sampling::default(), EARN.to_owned());
    Script::new(screen, size)
}

fn session(script: &mut Script<Screen>, event: Event) {
    script.msg(Msg::Session(event));
}

fn connected(size: (u16, u16), balance: Credits) -> Script<Screen> {
    let mut script = started(size);
    let (price, version, val_loss) = (Credits(500_000), VersionNo(12), Some(2.31));
    session(&mut script, Event::Connected { balance, price, version, val_loss, val_version: None });
    script
}

fn token(text: &str) -> Event {
    Event::Token { text: text.to_owned() }
}

fn answer(tokens: u32, finish: Finish) -> Event {
    let (version, val_loss) = (VersionNo(12), Some(2.31));
    let (charged, balance) = (Credits(500_000), Credits::hyd(12));
    let (text, val_version) = (String::new(), None);
    Event::Answer { text, tokens, version, averaged: false, val_loss, val_version, charged, balance, finish }
}

/// Asked, with a first piece on the screen.
fn streaming(size: (u16, u16)) -> Script<Screen> {
    let mut script = connected(size, Credits(12_500_000));
    script.text("What is Python?").keys("<enter>").advance(Duration::from_millis(400));
    for piece in ["Python is ", "a language that ", "was named after a group of comedians, not ", "after a 🐍."] {
        session(&mut script, token(piece));
        script.advance(Duration::from_millis(100));
    }
    script
}

fn answered(size: (u16, u16)) -> Script<Screen> {
    let mut script = streaming(size);
    script.advance(Duration::from_millis(200));
    session(&mut script, answer(21, Finish::Stop));
    script.advance(Duration::from_millis(500));
    script
}

fn refused(size: (u16, u16)) -> Script<Screen> {
    let mut script = connected(size, Credits(400_000));
    script.text("Anything?").keys("<enter>");
    let text = "the balance of 0.4 HYD does not cover a query for 0.5 HYD: run `hydra-worker alice ADDRESS` to earn 1.0 HYD a task";
    let reason = RefusedCode::Insufficient;
    session(&mut script, Event::Refused { reason, text: text.to_owned(), balance: Credits(400_000) });
    script
}

fn disconnected(size: (u16, u16)) -> Script<Screen> {
    let mut script = streaming(size);
    let reason = "the coordinator is gone".to_owned();
    session(&mut script, Event::Lost { text: "Python is".to_owned(), reason: reason.clone(), cost: Cost::Unknown });
    session(&mut script, Event::Disconnected { retry_ms: 4_200, reason });
    script.advance(Duration::from_secs(1));
    script
}

#[test]
fn screens_at_each_size() {
    for size @ (width, height) in SIZES {
        let check = |name: &str, script: &Script<Screen>| {
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), script.snapshot());
        };
        check("empty", &connected(size, Credits(12_500_000)));
        check("poor", &connected(size, Credits(400_000)));
        check("connecting", &started(size));
        check("streaming", &streaming(size));
        check("answered", &answered(size));
        check("refused", &refused(size));
        check("disconnected", &disconnected(size));
        check("commands", connected(size, Credits(12_500_000)).text("/t"));
        check("help", answered(size).keys("<f1>"));
        check("help_end", answered(size).keys("<f1> <pagedown> <pagedown> <pagedown> <pagedown>"));
    }
}

#[test]
fn a_large_screen_keeps_lines_readable_and_none_is_too_small() {
    let mut script = answered((300, 80));
    let widest = script.screen().lines().map(|line| line.trim_start().chars().count()).max();
    assert!(widest <= Some(112), "{widest:?}");
    for width in 0..20 {
        for height in 0..12 {
            script.resize((width, height)).keys("<f1>").screen();
            script.keys("<esc> /").screen();
            script.keys("<backspace>").screen();
        }
    }
}

#[test]
fn a_question_becomes_an_answer_with_what_it_cost() {
    let mut script = connected((80, 24), Credits(12_500_000));
    script.text("/temp 0").keys("<enter>").text("hi there").keys("<alt-enter>").text("you").keys("<enter>");
    let sampling = Sampling { temperature: Some(0.0), ..Sampling::default() };
    assert_eq!(script.cmds(), [Cmd::Ask("hi there\nyou".to_owned(), sampling)]);
    assert!(script.screen().contains("temp 0") && script.screen().contains("Waiting for the first word"));
    script.advance(Duration::from_secs(2));
    assert!(script.screen().contains("first word · 2s"));
    session(&mut script, token("hello"));
    session(&mut script, answer(4, Finish::Cancelled));
    script.advance(Duration::from_millis(300));
    let screen = script.screen();
    assert!(screen.contains("hello\n") && screen.contains("12.0 HYD"), "{screen}");
    assert!(screen.contains("0.5 HYD · 4 tokens · 2.0 tokens/s · version 12, loss 2.31 · stopped by you"), "{screen}");
    session(&mut script, Event::Balance { balance: Credits::hyd(12), held: Credits::ZERO });
    let next = hydra_shell::ui::App::wake_at(&script.app);
    assert_eq!(next, Some(Time(4_000_000)), "nothing moves on an idle screen until the header asks again");
}

#[test]
fn one_answer_at_a_time_which_esc_stops() {
    let mut script = streaming((80, 24));
    script.cmds();
    script.text("more").keys("<enter>");
    assert!(script.cmds().is_empty() && script.screen().contains("the answer is still coming"));
    assert_eq!(script.app.composer.text(), "more", "what was written is kept");
    script.keys("<esc> <esc>");
    assert_eq!(script.cmds(), [Cmd::Cancel], "asked once");
    script.keys("<ctrl-c>");
    assert!(script.cmds().is_empty() && script.app.composer.text().is_empty(), "what is written is put away first");
    script.keys("<ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Leave], "who does not want to wait may leave");
}

#[test]
fn the_header_keeps_up_with_what_a_worker_earns() {
    let mut script = connected((80, 24), Credits::hyd(1));
    script.cmds();
    script.advance(Duration::from_millis(1_500));
    assert!(script.cmds().is_empty());
    script.advance(Duration::from_secs(1));
    assert_eq!(script.cmds(), [Cmd::AskBalance, Cmd::AskStatus]);
    session(&mut script, Event::Balance { balance: Credits::hyd(3), held: Credits::ZERO });
    let screen = script.screen();
    assert!(screen.contains("3.0 HYD") && !screen.contains("balance:"), "{screen}");
    script.advance(Duration::from_secs(2));
    assert_eq!(script.cmds(), [Cmd::AskBalance, Cmd::AskStatus]);
    // Also while an answer is awaited, and at once when it begins: its price is held from then on.
    script.text("Hello").keys("<enter>");
    script.cmds();
    script.advance(Duration::from_secs(2));
    assert_eq!(script.cmds(), [Cmd::AskBalance, Cmd::AskStatus]);
    script.advance(Duration::from_millis(500));
    session(&mut script, token("Hi"));
    script.advance(Duration::ZERO);
    assert_eq!(script.cmds(), [Cmd::AskBalance, Cmd::AskStatus]);
    session(&mut script, token(", you"));
    script.advance(Duration::from_millis(500));
    assert!(script.cmds().is_empty());
    session(&mut script, Event::Balance { balance: Credits(2_500_000), held: Credits(500_000) });
    assert!(script.screen().contains("2.5 HYD"), "{}", script.screen());
    script.advance(Duration::from_secs(2));
    assert_eq!(script.cmds(), [Cmd::AskBalance, Cmd::AskStatus]);
}

#[test]
fn what_is_asked_without_a_connection_is_answered_later_and_says_so() {
    for size in [(80, 24), (40, 12)] {
        let mut script = answered(size);
        session(&mut script, Event::Disconnected { retry_ms: 4_000, reason: "gone".to_owned() });
        script.text("/balance").keys("<enter>");
        assert!(script.screen().contains("• the balance is told once"), "{}", script.screen());
        script.text("/status").keys("<enter>");
        assert!(script.screen().contains("• how the training goes is told"), "{}", script.screen());
    }
}

#[test]
fn words_and_commands() {
    let mut script = answered((80, 24));
    script.cmds();
    for word in ["balance", "b", "/balance"] {
        script.text(word).keys("<enter>");
        assert_eq!(script.cmds(), [Cmd::AskBalance], "{word}");
    }
    session(&mut script, Event::Balance { balance: Credits(11_250_000), held: Credits(500_000) });
    assert!(script.screen().contains("balance: 11.25 HYD, and 0.5 HYD held"));
    for word in ["quit", "exit", "q", "/quit"] {
        script.text(word).keys("<enter>");
        assert_eq!(script.cmds(), [Cmd::Leave], "{word}");
    }
    script.text("/nonsense").keys("<enter>").text("/topp 7").keys("<enter>").text("/save").keys("<enter>");
    let screen = script.screen();
    assert!(screen.contains("no command /nonsense") && screen.contains("/topp wants a number"), "{screen}");
    assert!(screen.contains("needs the name of a file") && script.cmds().is_empty());
    script.text("/save ").paste("a\nb");
    assert!(script.keys("<enter>").screen().contains("no line breaks") && script.cmds().is_empty());
    script.keys("/ s a <tab>").text("My Chat.txt").keys("<enter>");
    let cmds = script.cmds();
    let [Cmd::Save { file, text, partial: false }] = &cmds[..] else { panic!("{cmds:?}") };
    assert_eq!(file, "My Chat.txt");
    assert!(text.starts_with("alice: What is Python?\n\nmodel: Python is a language"), "{text}");
    assert!(text.contains("\n* balance: 11.25 HYD"), "{text}");
    script.keys("<ctrl-y>");
    assert!(matches!(&script.cmds()[..], [Cmd::Copy(text)] if text.ends_with("after a 🐍.")));
    script.text("/help").keys("<enter>");
    assert!(script.screen().contains("▸ Keys"));
    script.keys("<left>");
    assert!(script.screen().contains("▸ Keys"), "only writing closes the help");
    script.text("/clear");
    assert!(!script.screen().contains("▸ Keys") && script.app.composer.text() == "/clear", "nothing written is lost");
    script.keys("<enter> <ctrl-y> <ctrl-d>");
    assert_eq!((script.app.transcript.entries().len(), script.cmds()), (0, vec![Cmd::Leave]));
}

#[test]
fn what_is_saved_in_mid_answer_says_so() {
    let mut script = streaming((80, 24));
    script.cmds();
    script.text("/save half.txt").keys("<enter>");
    let cmds = script.cmds();
    let [Cmd::Save { text, partial: true, .. }] = &cmds[..] else { panic!("{cmds:?}") };
    assert!(text.ends_with("[the answer was not complete when this was saved]\n"), "{text}");
}

#[test]
fn all_commands_are_listed_or_scrolled_to() {
    let mut script = connected((80, 24), Credits::hyd(1));
    script.text("/");
    let screen = script.screen();
    let listed = crate::commands::COMMANDS.iter().filter(|command| screen.contains(command.usage)).count();
    assert!(listed == crate::commands::COMMANDS.len() && !screen.contains("more"), "{screen}");
    script.resize((80, 12));
    assert!(script.screen().contains("/balance") && script.screen().contains("↓ 5 more"), "{}", script.screen());
    script.wheel(10, 5, 1);
    assert!(script.screen().contains("↑ 3 more") && script.screen().contains("↓ 2 more"), "{}", script.screen());
    script.keys("<pagedown> <pagedown>");
    let end = script.screen();
    assert!(end.contains("/quit") && end.contains("↑ 5 more") && !end.contains('↓'), "{end}");
    script.keys("<pageup> <pageup>").text("t");
    assert!(script.screen().contains("/topp X") && !script.screen().contains("more"), "{}", script.screen());
    script.keys("<esc>");
    assert!(!script.screen().contains("/topp X") && script.app.composer.text() == "/t", "{}", script.screen());
    script.text("o");
    assert!(script.screen().contains("/topp X"), "what is written anew lists anew: {}", script.screen());
}

#[test]
fn line_ends_of_windows_show_once() {
    let mut script = streaming((80, 24));
    session(&mut script, token("one\r"));
    session(&mut script, token("\ntwo\r\n"));
    session(&mut script, answer(9, Finish::Stop));
    script.advance(Duration::from_secs(1));
    assert!(script.app.transcript.last_answer().unwrap().ends_with("one\ntwo\n"));
}

#[test]
fn notes_do_not_break_into_an_answer() {
    let mut script = streaming((120, 40));
    script.text("/seed 7").keys("<enter>");
    session(&mut script, token(" Really."));
    session(&mut script, answer(9, Finish::Length));
    script.advance(Duration::from_secs(1));
    let screen = script.screen();
    let at = |text: &str| screen.find(text).unwrap_or_else(|| panic!("{text:?} in {screen}"));
    assert!(at("Really.") < at("cut at its length limit") && at("cut at its") < at("seed: 7"));
}

#[test]
fn clearing_and_asking_anew_lose_no_piece() {
    let mut script = streaming((80, 24));
    script.text("/clear").keys("<enter>");
    session(&mut script, token("The rest."));
    session(&mut script, answer(9, Finish::Stop));
    script.text("again").keys("<enter>");
    let shown = script.app.transcript.last_answer().unwrap_or_default();
    assert!(shown.ends_with("after a 🐍.The rest.") && !shown.starts_with("Python"), "{shown}");
    assert!(script.screen().contains("loss 2.31"));
}

#[test]
fn what_was_noted_before_clearing_does_not_come_back() {
    let mut script = streaming((80, 24));
    script.text("/seed 7").keys("<enter>").text("/clear").keys("<enter>").text("/topk 5").keys("<enter>");
    session(&mut script, answer(9, Finish::Stop));
    script.advance(Duration::from_secs(1));
    let saved = script.app.transcript.plain("alice", "model");
    assert!(saved.contains("top-k: 5") && !saved.contains("seed: 7"), "{saved}");
}

#[test]
fn a_lost_session_is_counted_down_and_comes_back() {
    let mut script = disconnected((80, 24));
    assert!(script.screen().contains("again in 4s"), "{}", script.screen());
    script.advance(Duration::from_secs(4));
    assert!(script.screen().contains("connecting…"));
    session(&mut script, Event::Disconnected { retry_ms: 1_000, reason: "refused".to_owned() });
    assert!(!script.screen().contains("refused"), "one note a loss");
    script.cmds();
    script.keys("<up> <enter>");
    assert!(matches!(&script.cmds()[..], [Cmd::Ask(text, _)] if text == "What is Python?"));
    assert!(script.screen().contains("Waiting for the connection"));
    let (balance, price) = (Credits::hyd(13), Credits(500_000));
    session(
        &mut script,
        Event::Connected { balance, price, version: VersionNo(13), val_loss: None, val_version: None },
    );
    assert!(script.screen().contains("✓ connected again; balance: 13.0 HYD"), "{}", script.screen());
}

#[test]
fn waiting_for_the_connection_is_no_part_of_the_speed() {
    let mut script = disconnected((80, 24));
    script.text("And now?").keys("<enter>").advance(Duration::from_secs(18));
    let (balance, price) = (Credits::hyd(13), Credits(500_000));
    session(
        &mut script,
        Event::Connected { balance, price, version: VersionNo(12), val_loss: None, val_version: None },
    );
    script.advance(Duration::from_secs(2));
    session(&mut script, token("Now."));
    session(&mut script, answer(40, Finish::Stop));
    script.advance(Duration::from_millis(300));
    assert!(script.screen().contains("40 tokens · 20 tokens/s"), "{}", script.screen());
}

#[test]
fn settings_that_do_not_fit_are_counted() {
    let mut script = connected((80, 24), Credits::hyd(1));
    for line in ["/temp 10", "/topk 0", "/topp 1", "/max 4096"] {
        script.text(line).keys("<enter>");
    }
    let footer = |script: &Script<Screen>| script.screen().lines().last().unwrap_or_default().to_owned();
    assert!(footer(&script).ends_with("temp 10 · topk 0 · topp 1 · max 4096"), "{}", footer(&script));
    script.text("/seed 18446744073709551615").keys("<enter>");
    assert!(footer(&script).ends_with("temp 10 · topk 0 · topp 1 · max 4096 +1"), "{}", footer(&script));
    script.resize((56, 12));
    assert!(footer(&script).ends_with("temp 10 · topk 0 +3"), "{}", footer(&script));
    script.resize((40, 12));
    assert!(footer(&script).starts_with("Enter send  F1 help  Ctrl-C quit"), "{}", footer(&script));
    assert!(footer(&script).ends_with("5 set"), "{}", footer(&script));
    let mut script = connected((48, 12), Credits::hyd(1));
    script.text("/seed 18446744073709551615").keys("<enter>");
    assert!(footer(&script).ends_with("1 setting"), "{}", footer(&script));
}

#[test]
fn before_the_first_word_nothing_is_left_behind() {
    let mut script = connected((80, 24), Credits::hyd(2));
    script.text("x").keys("<enter>");
    let balance = Credits::hyd(2);
    session(&mut script, Event::Refused { reason: RefusedCode::Cancelled, text: String::new(), balance });
    assert!(script.screen().contains("stopped before the first word; nothing was charged"));
    assert!(!script.screen().contains("model\n"));
    script.text("y").keys("<enter>");
    session(&mut script, Event::Lost { text: String::new(), reason: "gone".to_owned(), cost: Cost::Unknown });
    assert!(script.screen().contains("the connection was lost; the balance shows whether it is paid"));
    // Whether it has cost something only the coordinator knows, unless it was never asked.
    for (cost, words) in [
        (Cost::Unknown, "the balance shows whether it is paid"),
        (Cost::Nothing, "stopped before it was sent; nothing was charged"),
    ] {
        script.text("/clear").keys("<enter>").text("y").keys("<enter> <esc>");
        session(&mut script, Event::Lost { text: String::new(), reason: "gone".to_owned(), cost });
        assert!(script.screen().contains(words), "{}", script.screen());
    }
    script.text("z").keys("<enter>");
    session(&mut script, answer(0, Finish::Stop));
    script.advance(Duration::from_secs(1));
    assert!(script.screen().contains("0 tokens"), "an empty answer is one");
}

#[test]
fn scrolling_stays_until_the_next_question() {
    let mut script = answered((60, 12));
    for _ in 0..4 {
        script.text("/max 5").keys("<enter>");
    }
    script.wheel(10, 5, -2);
    let back = script.screen();
    assert!(
        back.lines().any(|line| line.trim().starts_with('↓') && line.ends_with(" more")),
        "in a row of its own: {back}"
    );
    session(&mut script, token("unasked"));
    assert_eq!(script.screen(), back);
    script.keys("<pagedown> <pageup> <ctrl-home>");
    assert!(script.screen().contains("What is Python?"));
    script.keys("<esc>");
    assert!(!script.screen().contains(" more\n"), "{}", script.screen());
    script.paste("two\nlines\u{1b}[2J");
    assert_eq!(script.app.composer.text(), "two\nlines␛[2J");
    script.paste(&"x".repeat(64 * 1024));
    assert!(script.screen().contains("a message has room for 65.5 kB"), "{}", script.screen());
}
