//! What the screen tells, and where: notices, reasons, what comes next.

use super::*;

fn footer(script: &Script<Screen>) -> String {
    script.screen().lines().last().unwrap_or_default().to_owned()
}

fn lost(retry_ms: u64) -> Msg {
    Msg::Event(Event::Disconnected { retry_ms, reason: "connection refused".to_owned() })
}

#[test]
fn notices_hide_neither_keys_nor_the_answer_to_a_key() {
    for size in SIZES {
        let mut script = working(size);
        script.keys("s").msg(unpaid(6, "too late"));
        let balance = Credits::hyd(11);
        script.msg(Msg::Event(Event::Credited { task: TaskId(7), amount: Credits::hyd(1), balance }));
        assert!(script.screen().contains("smoothed over 200 steps"), "{}", script.screen());
        assert!(footer(&script).contains("? help  q quit"), "{}", footer(&script));
        script.advance(Duration::from_secs(3)).msg(unpaid(8, "too late"));
        assert!(script.screen().contains("no pay for task 8"), "{}", script.screen());
        assert!(footer(&script).contains("? help  q quit"), "{}", footer(&script));
    }
}

#[test]
fn keys_that_do_nothing_here_are_not_offered() {
    for (size, there) in [((80, 24), true), ((120, 40), false), (WIDE, false)] {
        assert_eq!(footer(&working(size)).contains("c chart"), there, "{size:?}");
    }
}

#[test]
fn a_rest_is_no_waiting_for_a_task() {
    let mut script = connected((80, 24));
    let until = script.now().after(Duration::from_secs(3));
    script.msg(Msg::News(News::Resting(until)));
    assert!(script.screen().contains("resting, 3s left"), "{}", script.screen());
    script.advance(Duration::from_secs(4));
    assert!(script.screen().contains("waiting for a task"), "{}", script.screen());
}

#[test]
fn a_paused_run_says_why_there_is_no_task() {
    let mut script = connected((80, 24));
    script.msg(Msg::News(News::Paused(true)));
    assert!(script.screen().contains("the coordinator makes no new tasks now"), "{}", script.screen());
    script.msg(Msg::News(News::Paused(false)));
    assert!(script.screen().contains("waiting for a task"), "{}", script.screen());
}

#[test]
fn beside_another_runs_balance_counts_begin_anew() {
    let mut script = working((120, 40));
    assert!(script.screen().contains("2 paid, 1 not"), "{}", script.screen());
    script.msg(Msg::Event(Event::OtherRun));
    let screen = script.screen();
    assert!(screen.contains("0 paid, 0 not") && screen.contains("another run answers at this address"), "{screen}");
    assert!(screen.contains("the loss appears here with the first step"), "{screen}");
    assert_eq!(script.app.balance, None, "the one before's is not this one's");
    assert!(screen.contains("– HYD"), "{screen}");
    script.msg(Msg::Event(Event::Credited { task: TaskId(1), amount: Credits::hyd(1), balance: Credits::hyd(1) }));
    assert!(script.screen().contains("1 paid, 0 not"), "{}", script.screen());
}

#[test]
fn a_trained_task_without_a_coordinator_is_delivered_later() {
    for size in SIZES {
        let mut script = working(size);
        train(&mut script, 6, 50);
        script.msg(lost(7_500));
        let screen = script.screen();
        assert!(screen.contains("task 6 is done, is delivered when the"), "{screen}");
        assert!(!screen.contains("0s left") && !screen.contains("100 %"), "{screen}");
        script.keys("q");
        assert!(script.screen().contains("task 6 is done, is lost unless the"), "{}", script.screen());
    }
}

#[test]
fn a_coordinator_that_was_never_reached_is_given_up_in_sight() {
    let mut script = open((80, 24));
    script.msg(device(4)).msg(Msg::News(News::Connecting)).advance(Duration::from_secs(4)).msg(lost(3_000));
    assert!(script.screen().contains("not connected, gives up in 6s"), "{}", script.screen());
    script.advance(Duration::from_secs(3)).msg(Msg::News(News::Connecting)).msg(lost(6_000));
    assert!(script.screen().contains("not connected, gives up in 3s"), "{}", script.screen());
    let mut script = working((80, 24));
    script.msg(lost(15_000));
    assert!(script.screen().contains("not connected, again in 15s"), "once found, it is never given up");
}

#[test]
fn the_log_stands_still_and_comes_home() {
    let mut script = working((80, 24));
    let write = |script: &Script<Screen>, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let line = format!("2026-01-31T12:34:56.789Z  INFO worker: line {number}\n");
            script.app.facts.ring.clone().write_all(line.as_bytes()).unwrap();
        }
    };
    for key in ["end", "esc", "G"] {
        write(&script, 0..30);
        script.screen();
        script.keys("pageup");
        let back = script.screen();
        assert!(footer(&script).contains("End newest"), "{back}");
        write(&script, 30..60);
        assert_eq!(script.screen(), back, "new lines move nothing");
        script.keys(key);
        assert!(script.screen().contains("line 59") && !footer(&script).contains("newest"), "{}", script.screen());
    }
}

#[test]
fn a_coordinator_that_does_not_answer_is_told_before_it_is_given_up() {
    for size in SIZES {
        let mut script = working(size);
        let quick = Usage { round_trip: Some(Duration::from_millis(7)), ..Usage::default() };
        script.msg(Msg::Usage(quick));
        let seen = script.screen();
        assert!(seen.contains("● connected") && (size.0 < 80 || seen.contains("7.0 ms")), "{seen}");
        script.msg(Msg::Usage(Usage { silent: Some(Duration::from_secs(12)), ..quick }));
        let seen = script.screen();
        assert!(seen.contains("! no answer for 12s") && !seen.contains("7.0 ms"), "{seen}");
        script.msg(Msg::Usage(Usage::default()));
        assert!(script.screen().contains("● connected"), "{}", script.screen());
    }
}
