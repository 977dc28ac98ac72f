//! How an answer, a run and the program end.

use std::time::Duration;

use hydra_core::chat::Event;
use hydra_core::credits::Credits;
use hydra_core::ids::VersionNo;
use hydra_core::proto::Finish;
use hydra_shell::ui::testkit::{SIZES, Script};

use super::{answer, answered, connected, session, streaming, token};
use crate::screen::app::Screen;
use crate::screen::msg::{Cmd, Msg};

fn footer(script: &Script<Screen>) -> String {
    script.screen().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn ctrl_c_stops_the_answer_first() {
    let mut script = streaming((80, 24));
    script.cmds();
    assert!(footer(&script).starts_with("Esc/Ctrl-C stop  F1 help"), "{}", footer(&script));
    script.keys("<ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Cancel]);
    session(&mut script, answer(3, Finish::Cancelled));
    script.keys("<ctrl-c>");
    assert!(script.cmds().is_empty() && footer(&script).contains("Ctrl-C again leaves; /save keeps the conversation"));
    script.keys("<ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Leave]);
}

#[test]
fn the_second_ctrl_c_must_come_soon_and_next() {
    let mut script = answered((80, 24));
    script.cmds();
    script.keys("<ctrl-c>").advance(Duration::from_secs(3));
    assert!(footer(&script).starts_with("Enter send"), "{}", footer(&script));
    script.keys("<ctrl-c> x <ctrl-c>");
    assert!(script.cmds().iter().all(|cmd| *cmd != Cmd::Leave));
    script.keys("<ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Leave]);
    let mut script = connected((80, 24), Credits::hyd(1));
    script.cmds();
    script.keys("<ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Leave], "there is nothing to lose");
}

#[test]
fn ctrl_c_puts_a_draft_away_and_up_brings_it_back() {
    let mut script = connected((80, 24), Credits::hyd(1));
    script.cmds();
    script.text("a long thought").keys("<ctrl-c>");
    assert!(script.cmds().is_empty() && script.app.composer.text().is_empty());
    assert!(footer(&script).contains("Up brings the message back; Ctrl-C again leaves"), "{}", footer(&script));
    script.keys("<up>");
    assert_eq!(script.app.composer.text(), "a long thought");
    script.keys("<ctrl-c> <ctrl-c>");
    assert_eq!(script.cmds(), [Cmd::Leave]);
}

#[test]
fn a_stopped_answer_moves_no_more() {
    let mut script = streaming((80, 24));
    session(&mut script, token(" It is still on its way."));
    script.keys("<esc>");
    let stopped = script.screen();
    assert!(stopped.contains("It is still on its way."), "what has come is shown at once: {stopped}");
    session(&mut script, token(" And this came late."));
    script.advance(Duration::from_millis(900));
    assert!(!script.screen().contains("late"), "{}", script.screen());
    session(&mut script, answer(30, Finish::Cancelled));
    let end = script.screen();
    assert!(end.contains("And this came late.") && end.contains("stopped by you"), "{end}");
}

#[test]
fn ctrl_c_shows_the_rest_of_a_complete_answer() {
    for key in ["<ctrl-c>", "<esc>"] {
        let mut script = streaming((80, 24));
        session(&mut script, token(&" and so on".repeat(20)));
        session(&mut script, token(" The end."));
        session(&mut script, answer(60, Finish::Stop));
        script.cmds();
        assert!(footer(&script).starts_with("Esc/Ctrl-C show all"), "{}", footer(&script));
        assert!(!script.screen().contains("The end."));
        script.keys(key);
        let screen = script.screen();
        assert!(script.cmds().is_empty() && screen.contains("The end.") && screen.contains("60 tokens"), "{screen}");
    }
}

#[test]
fn the_end_of_the_run_keeps_the_conversation() {
    let mut script = answered((80, 24));
    script.msg(Msg::Goodbye("the run is complete".to_owned()));
    let screen = script.screen();
    assert!(screen.contains("• the run is complete\n"), "{screen}");
    assert!(screen.contains("• the run is complete: nobody is there to ask until it goes on"), "{screen}");
    script.cmds();
    script.text("more?").keys("<enter>");
    assert!(script.cmds().is_empty() && script.app.composer.text() == "more?");
    assert!(footer(&script).contains("nobody is there to ask until it goes on"), "{}", footer(&script));
    script.advance(Duration::from_secs(30));
    assert!(script.cmds().is_empty(), "nobody is there to be asked");
    script.keys("<ctrl-u>").text("/save chat.txt").keys("<enter>");
    assert!(
        matches!(&script.cmds()[..], [Cmd::Save { file, text, .. }] if file == "chat.txt" && text.contains("* the run"))
    );
    script.text("/quit").keys("<enter>");
    assert_eq!(script.cmds(), [Cmd::Leave]);
}

#[test]
fn a_refusal_keeps_the_conversation() {
    let mut script = answered((80, 24));
    script.msg(Msg::Refused("the name alice belongs to\u{1b}[2J another key".to_owned()));
    let screen = script.screen();
    assert!(screen.contains("refused: the name alice"), "{screen}");
    assert!(screen.contains("/save keeps the conversation, /quit leaves"), "{screen}");
    script.cmds();
    script.text("more?").keys("<enter>");
    assert!(script.cmds().is_empty() && footer(&script).contains("refused"), "{}", footer(&script));
    script.advance(Duration::from_secs(30));
    assert!(script.cmds().is_empty(), "nobody is there to be asked");
    script.keys("<ctrl-u>").text("/save chat.txt").keys("<enter>");
    assert!(matches!(&script.cmds()[..], [Cmd::Save { .. }]));
    for size in SIZES {
        script.resize(size).screen();
    }
}

#[test]
fn a_paste_that_has_no_room_is_told() {
    let mut script = connected((80, 24), Credits::hyd(1));
    // A tab becomes four blanks.
    script.paste(&"\t".repeat(20_000));
    assert!(footer(&script).contains("the rest was left out"), "{}", footer(&script));
}

#[test]
fn a_question_that_met_the_goodbye_comes_to_an_end() {
    let mut script = connected((80, 24), Credits::hyd(1));
    script.text("Anything?").keys("<enter>");
    script.msg(Msg::Goodbye(String::from("\u{1b}[2Jthe run is complete, as far as anybody can tell")));
    assert!(!script.app.is_busy() && script.screen().contains("nothing was charged"), "{}", script.screen());
    for size in SIZES {
        script.resize(size).screen();
    }
}

#[test]
fn an_answer_says_whether_an_average_gave_it_and_whose_loss_is_told() {
    for (of_an_average, of_version, told) in
        [(false, Some(VersionNo(10)), "version 12, loss 2.31 of v10"), (true, None, "average up to v12, loss 2.31")]
    {
        let mut script = streaming((80, 24));
        let mut event = answer(9, Finish::Stop);
        let Event::Answer { averaged, val_version, .. } = &mut event else { unreachable!("made as one") };
        (*averaged, *val_version) = (of_an_average, of_version);
        session(&mut script, event);
        script.advance(Duration::from_secs(5));
        assert!(script.screen().contains(told), "{}", script.screen());
    }
}

#[test]
fn a_balance_asked_for_during_an_answer_is_that_of_its_end() {
    let mut script = streaming((80, 24));
    script.cmds();
    script.text("/balance").keys("<enter>");
    assert!(script.cmds().contains(&Cmd::AskBalance));
    let balance = |hyd, held| Event::Balance { balance: Credits::hyd(hyd), held: Credits(held) };
    session(&mut script, balance(12, 500_000));
    session(&mut script, answer(21, Finish::Stop));
    script.advance(Duration::from_millis(500));
    assert!(!script.screen().contains("balance:"), "{}", script.screen());
    assert!(script.cmds().contains(&Cmd::AskBalance), "again, at its end");
    session(&mut script, balance(12, 0));
    let screen = script.screen();
    assert!(screen.contains("balance: 12.0 HYD") && !screen.contains("held"), "{screen}");
}

#[test]
fn a_coordinator_that_does_not_answer_is_told() {
    for size in SIZES {
        let mut script = connected(size, Credits::hyd(1));
        script.advance(Duration::from_secs(3));
        assert!(script.screen().contains("✓ connected"), "it was asked a second ago: {}", script.screen());
        script.advance(Duration::from_secs(10));
        assert!(script.screen().contains("! no answer for 11s"), "{}", script.screen());
        session(&mut script, Event::Balance { balance: Credits::hyd(1), held: Credits::ZERO });
        assert!(script.screen().contains("✓ connected"), "{}", script.screen());
    }
}
