//! The three programs in real terminals, as people use them: what they see, and how their terminals are left.
//!
//! Everything waits for words on a screen; nothing sleeps. A panic of the screen itself is tested in
//! `shell/tests/terminal.rs`, with a program that can be made to panic there.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod stage;

use std::net::TcpListener;
use std::process::Command;

use hydra_pty::process::Signal;
use hydra_pty::{Left, Terminal};

use stage::{Bug, Stage, answer, balance, dotted, last_step};

#[test]
fn earning_and_asking() {
    let (stage, coordinator) = Stage::open();
    let mut alice = stage.worker("alice", (80, 24));
    let bob = stage.worker("bob", (120, 40));

    // The loss line grows.
    let (first, _) = alice.wait("a loss line", |screen| last_step(screen).filter(|_| dotted(screen) > 20)).unwrap();
    alice.wait("a longer loss line", |screen| last_step(screen).filter(|step| *step > first + 10.0)).unwrap();
    // Each payment raises the balance, with a mark on the axis.
    let (paid, _) = alice.wait("a payment", |screen| balance(screen).filter(|balance| *balance >= 1.0)).unwrap();
    alice.wait("another payment", |screen| balance(screen).filter(|balance| *balance >= paid + 1.0)).unwrap();
    alice.wait_for("▲").unwrap();
    bob.wait("a payment of bob's", |screen| balance(screen).filter(|balance| *balance >= 1.0)).unwrap();

    // An answer streams in: its text is seen unfinished, and the price is paid at its end. A young model may end its
    // answer at once, or have nothing to say: it is asked until there is something to see.
    alice.wait("a model that says something", |screen| balance(screen).filter(|balance| *balance >= 10.0)).unwrap();
    let mut chat = stage.chat("alice");
    let mut charges = 0;
    let streamed = (0..20).any(|_| {
        chat.type_text("/clear\r").unwrap();
        chat.wait("an empty conversation", |screen| answer(screen).is_none().then_some(())).unwrap();
        chat.type_text("Who are you?").unwrap();
        chat.press("enter").unwrap();
        let mut lengths = Vec::new();
        let seen = chat.wait("the answer's end", |screen| {
            let (length, done) = answer(screen)?;
            if !done && length > 0 && lengths.last() != Some(&length) {
                lengths.push(length);
            }
            done.then_some(())
        });
        seen.unwrap();
        charges += u32::from(chat.text().lines().any(|line| line.trim_start().starts_with("0.5 HYD · ")));
        lengths.len() >= 2
    });
    assert!(streamed, "no answer came in pieces: {}", chat.text());
    // What she earns meanwhile are whole credits.
    let rest = 0.5 * f64::from(charges % 2);
    assert!(charges > 0, "{}", chat.text());
    chat.wait("the charge", |screen| balance(screen).filter(|balance| (balance.fract() - rest).abs() < 0.1)).unwrap();
    chat.type_text("b\r").unwrap();
    chat.wait_for("balance: ").unwrap();

    // A terminal of no size stops nothing.
    let (before, _) = alice.wait("a step", last_step).unwrap();
    alice.resize((1, 1)).unwrap();
    let (had, _) = bob.wait("bob's balance", balance).unwrap();
    bob.wait("work that goes on", |screen| balance(screen).filter(|balance| *balance >= had + 1.0)).unwrap();
    alice.resize((100, 30)).unwrap();
    alice.wait("the work done meanwhile", |screen| last_step(screen).filter(|step| *step > before)).unwrap();

    // Each leaves its terminal as it was.
    chat.press("ctrl-d").unwrap();
    assert_clean(&chat, 0);
    // With a task in hand it says that it finishes that first; between two tasks it would be gone at once.
    let begun = |screen: &hydra_pty::Screen| screen.contents().contains("step 1/").then_some(());
    alice.wait("a task that has just begun", begun).unwrap();
    alice.press("q").unwrap();
    alice.wait_for("finishing, then leaving").unwrap();
    assert_clean(&alice, 0);
    alice.wait_for("stopped by you: ").unwrap();
    bob.signal(Signal::TERM).unwrap();
    assert_clean(&bob, 0);
    coordinator.signal(Signal::TERM).unwrap();
    assert_clean(&coordinator, 0);
}

#[test]
fn signals_and_the_shell() {
    let (stage, coordinator) = Stage::open();
    // A closed terminal ends a program with a screen cleanly, as a request does.
    for signal in [Signal::HUP, Signal::TERM] {
        let chat = stage.chat("carol");
        chat.signal(signal).unwrap();
        assert_clean(&chat, 0);
    }
    // So it does with a single question, wherever its answer goes.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let question = stage.question("carol", mute.local_addr().unwrap());
    // It hears of signals before it connects.
    let connection = mute.accept().unwrap();
    question.signal(Signal::HUP).unwrap();
    assert_clean(&question, 130);
    drop(connection);
    let mut worker = stage.worker("carol", (80, 24));
    worker.signal(Signal::HUP).unwrap();
    assert_clean(&worker, 0);

    // In a hurry: the second request leaves at once.
    worker = stage.worker("carol", (80, 24));
    worker.press("q q").unwrap();
    worker.wait_end().unwrap();
    assert_eq!(worker.left().unwrap(), Left::CLEAN);

    // Ctrl-Z gives the terminal to the shell, fg takes it back.
    let mut shell = stage.shell();
    shell.type_text(&line(&stage.chat_command("carol"))).unwrap();
    shell.press("enter").unwrap();
    shell.wait_for("✓ connected").unwrap();
    shell.press("ctrl-z").unwrap();
    // The prompt from before is there the moment the chat leaves the screen; the shell listens at the next one.
    let prompt =
        |screen: &hydra_pty::Screen| screen.contents().split_once("Stopped")?.1.contains("shell> ").then_some(());
    shell.wait("the shell's next prompt", prompt).unwrap();
    shell.type_text("echo still $((20 + 3)) here\r").unwrap();
    shell.wait_for("still 23 here").unwrap();
    let left = shell.left().unwrap();
    assert!(left.cursor && left.main_screen && left.plain_input, "{left:?}");
    shell.type_text("fg\r").unwrap();
    shell.wait_for("✓ connected").unwrap();
    shell.press("ctrl-d").unwrap();
    // What is typed before the shell's prompt may still go to the chat, which reads until it ends. The prompt of
    // `fg` itself may stand below its echo: only one on the last line is the next.
    let prompt = |screen: &hydra_pty::Screen| {
        let text = screen.contents();
        let after = text.split_once("still 23 here")?.1.trim_end().ends_with("\nshell>");
        (!screen.alternate_screen() && after).then_some(())
    };
    shell.wait("the shell's prompt after the chat", prompt).unwrap();

    // Stopped from outside and continued behind the shell's back, it works on without the terminal, which is the
    // shell's: a stopped one would not end.
    let file = stage.path("pid");
    shell
        .type_text(&format!(
            "modes=$(stty -g); sh -c \"echo \\$\\$ >{}; exec {}\"\r",
            file.display(),
            line(&stage.chat_command("carol"))
        ))
        .unwrap();
    shell.wait_for("✓ connected").unwrap();
    let pid = std::fs::read_to_string(&file).unwrap();
    let kill = |signal: &str| assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    kill("-STOP");
    shell.wait_for("Stopped").unwrap();
    kill("-CONT");
    shell.wait("the terminal given back", |screen| (!screen.alternate_screen()).then_some(())).unwrap();
    kill("-TERM");
    // Not every shell takes its modes back from what was stopped so; the line ends as raw input does. A shell that
    // does not hear of the going on does not wait for the end either, and would refuse to exit beside a stopped job.
    let gone = format!("while kill -0 {} 2>/dev/null; do sleep 0.1; done", pid.trim());
    shell.type_text(&format!("stty $modes; {gone}; echo ended $((20 + 3)) times\n")).unwrap();
    shell.wait_for("ended 23 times").unwrap();
    shell.type_text("exit\r").unwrap();
    assert_clean(&shell, 0);

    coordinator.signal(Signal::HUP).unwrap();
    assert_clean(&coordinator, 0);
}

/// A command as a line for a shell.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
}

fn assert_clean(terminal: &Terminal, code: i32) {
    let status = terminal.wait_end().unwrap();
    assert_eq!(status.code(), Some(code), "{status}: {}", terminal.text());
    assert_eq!(terminal.left().unwrap(), Left::CLEAN, "{}", terminal.text());
}

#[test]
fn a_bug_takes_the_screen_and_not_the_work() {
    let [first, second, third] = [(); 3].map(|()| Bug::new());
    let (stage, coordinator) = Stage::open_with(|stage| stage.buggy("coordinator", &first));
    // It says its address before.
    coordinator.wait("its screen", |screen| screen.alternate_screen().then_some(())).unwrap();
    let worker = stage.worker_with(stage.buggy("worker", &second), "alice", (80, 24));
    let chat = stage.chat_with(stage.buggy("query", &third), "alice");
    for (terminal, bug) in [(&coordinator, first), (&worker, second), (&chat, third)] {
        bug.strike();
        terminal.wait_for("a bug on purpose").unwrap();
        assert_eq!(terminal.left().unwrap(), Left::CLEAN, "{}", terminal.text());
    }
    // Without its screen a chat is nothing; the others go on, and say in lines what they do.
    assert_clean(&chat, 1);
    worker.wait_for("HYD for task").unwrap();
    for terminal in [&worker, &coordinator] {
        terminal.signal(Signal::TERM).unwrap();
        assert_clean(terminal, 0);
        terminal.wait_for("stopped").unwrap();
    }
}

#[test]
fn a_killed_worker_leaves_the_table_and_returns() {
    let (stage, mut coordinator) = Stage::open();
    let alice = stage.worker("alice", (80, 24));
    let bob = stage.worker("bob", (80, 24));
    coordinator.press("2").unwrap();
    let row = |user: &'static str, there: bool| {
        move |screen: &hydra_pty::Screen| {
            let text = screen.contents();
            let mut rows = text.lines().filter(|line| line.starts_with(&format!("│ {user} ")));
            (rows.next().is_some() == there).then_some(())
        }
    };
    coordinator.wait("bob's row", row("bob", true)).unwrap();
    coordinator.wait("alice's row", row("alice", true)).unwrap();
    bob.signal(Signal::KILL).unwrap();
    bob.wait_end().unwrap();
    coordinator.wait("no row of bob's", row("bob", false)).unwrap();
    let bob = stage.worker("bob", (80, 24));
    coordinator.wait("bob's row again", row("bob", true)).unwrap();

    for worker in [&alice, &bob] {
        worker.signal(Signal::TERM).unwrap();
        assert_clean(worker, 0);
    }
    coordinator.press("q").unwrap();
    coordinator.wait_for("Stop the run?").unwrap();
    coordinator.press("y").unwrap();
    assert_clean(&coordinator, 0);
}
