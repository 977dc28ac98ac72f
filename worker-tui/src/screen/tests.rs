//! The screen as people see it: at each size and in each state, and with whatever keys and remote text come.

use std::io::Write as _;
use std::time::Duration;

use hydra_core::agent::{Event, Why};
use hydra_core::credits::Credits;
use hydra_core::ids::{TaskId, VersionNo, WorkerId};
use hydra_core::proto::UnpaidCode;
use hydra_shell::events::Events;
use hydra_shell::logs::Ring;
use hydra_shell::signals::Stop;
use hydra_shell::ui::Theme;
use hydra_shell::ui::testkit::{SIZES, Script};
use proptest::prelude::*;

use super::*;

mod told;

/// One more than the kit's: a wide one.
const WIDE: (u16, u16) = (300, 80);

fn open(size: (u16, u16)) -> Script<Screen> {
    open_with(4, size)
}

fn open_with(cores: usize, size: (u16, u16)) -> Script<Screen> {
    let ring = Ring::with_finest(tracing::level_filters::LevelFilter::INFO);
    let line = "2026-01-31T12:34:56.789Z  INFO run: connected to ws://lab:5000/ws as alice, training on cpu ×4\n";
    ring.clone().write_all(line.as_bytes()).unwrap();
    let facts =
        Facts { coordinator: "ws://lab:5000/ws".into(), ring, theme: Theme::colour(), cores, ..Facts::default() };
    Script::new(Screen::new(facts), size)
}

fn device(threads: usize) -> Msg {
    Msg::News(News::Device { device: format!("cpu ×{threads}"), threads: Some(threads) })
}

fn connected(size: (u16, u16)) -> Script<Screen> {
    let mut script = open(size);
    script.msg(device(4)).msg(Msg::User("alice".into()));
    script.msg(Msg::News(News::Model)).msg(Msg::News(News::HeldOut { version: VersionNo(2), loss: 8.1 }));
    let user = "alice".parse().unwrap();
    script.msg(Msg::Event(Event::Ready { worker: WorkerId([1; 8]), user, device: "cpu ×4".into() }));
    script.msg(Msg::News(News::Balance(Credits(9_500_000))));
    script
}

fn task(number: u64) -> Msg {
    Msg::Event(Event::Task { task: TaskId(number), version: VersionNo(number), steps: 50, tokens: 409_600 })
}

/// Trains so many steps of a task, ten a second.
fn train(script: &mut Script<Screen>, number: u64, steps: u32) {
    script.msg(task(number)).msg(Msg::News(News::Preview("It is a truth universally acknowledged".into())));
    for step in 1..=steps {
        let at = f64::from(step) + 50.0 * (number as f64 - 3.0);
        let loss = (9.0 / (1.0 + at / 40.0) + 0.3 * (at * 1.7).sin() + 1.0) as f32;
        script.advance(Duration::from_millis(100));
        script.msg(Msg::News(News::Step { step, loss, tokens_per_s: 8_123.0 }));
    }
}

fn submitted(number: u64) -> Msg {
    Msg::Event(Event::Submitted { task: TaskId(number), bytes: 123_456 })
}

fn unpaid(number: u64, text: &str) -> Msg {
    let text = text.to_owned();
    Msg::Event(Event::Unpaid { task: TaskId(number), reason: UnpaidCode::Expired, text })
}

/// Two paid tasks, one unpaid, one half done.
fn working(size: (u16, u16)) -> Script<Screen> {
    let mut script = connected(size);
    for number in 3..6 {
        train(&mut script, number, 50);
        script.msg(submitted(number));
        if number == 4 {
            script.msg(unpaid(4, "the answer came after the deadline of its lease"));
        } else {
            let balance = Credits(9_500_000 + number * 100_000);
            script.msg(Msg::Event(Event::Credited { task: TaskId(number), amount: Credits::hyd(1), balance }));
        }
        script.msg(Msg::News(News::HeldOut { version: VersionNo(number), loss: 7.0 - 0.8 * number as f64 }));
    }
    let round_trip = Some(Duration::from_micros(12_345));
    let memory = Some(512_000_000);
    for cpu in [10, 14] {
        let cpu = Some(Duration::from_secs(cpu));
        script.msg(Msg::Usage(Usage { up: 370_000, down: 12_345_678, round_trip, silent: None, cpu, memory }));
        script.advance(Duration::from_secs(1));
    }
    script.advance(Duration::from_mins(2));
    train(&mut script, 6, 20);
    script
}

fn sizes() -> impl Iterator<Item = (u16, u16)> {
    SIZES.into_iter().chain([WIDE])
}

#[test]
fn work_at_each_size() {
    for (width, height) in sizes() {
        let mut script = working((width, height));
        insta::assert_snapshot!(format!("working_{width}x{height}"), script.snapshot());
        script.keys("?");
        insta::assert_snapshot!(format!("help_{width}x{height}"), script.screen());
    }
}

#[test]
fn before_anything_and_without_a_task() {
    for (width, height) in SIZES {
        insta::assert_snapshot!(format!("starting_{width}x{height}"), open((width, height)).screen());
        insta::assert_snapshot!(format!("waiting_{width}x{height}"), connected((width, height)).screen());
    }
}

#[test]
fn threads_change_with_the_next_task() {
    let mut script = working((120, 40));
    script.cmds();
    script.keys("+");
    assert!(script.screen().contains("all 4 CPU threads are in use already"), "{}", script.screen());
    script.keys("minus minus");
    assert!(script.screen().contains("2 of 4 CPU threads from the next task on"), "{}", script.screen());
    let asked = [3, 2].map(|threads| Cmd::Request(Request::Threads(threads)));
    assert_eq!(script.cmds(), asked);
    assert!(script.screen().contains("cpu ×4, then ×2"), "{}", script.screen());
    script.msg(device(2));
    assert!(script.screen().contains("cpu ×2 "), "{}", script.screen());
    script.msg(Msg::News(News::Device { device: "cuda:0".into(), threads: None })).keys("+");
    assert_eq!(script.cmds(), []);
    assert!(script.screen().contains("a GPU has no threads to choose"), "{}", script.screen());
}

#[test]
fn no_more_threads_are_told_of_than_are_used() {
    let mut script = open_with(300, (120, 40));
    script.msg(device(256)).keys("+");
    assert_eq!(script.cmds(), []);
    assert!(script.screen().contains("256 CPU threads are the most that are used"), "{}", script.screen());
}

#[test]
fn what_makes_no_difference_any_more_is_told_so() {
    for (at, words) in [("q", "leaving: no further task is taken"), ("", "opening the device")] {
        for key in ["+", "-", "p"] {
            let mut script = if at.is_empty() { open((80, 24)) } else { working((80, 24)) };
            script.keys(at);
            script.cmds();
            script.keys(if key == "-" { "minus" } else { key });
            assert!(script.screen().contains(words) && script.cmds().is_empty(), "{}", script.screen());
        }
    }
}

#[test]
fn a_click_on_the_chart_shows_the_other() {
    let mut script = working((80, 24));
    script.click(20, 5);
    assert!(script.screen().contains("Loss in task 6"), "{}", script.screen());
    script.click(20, 20).keys("?").click(20, 5).keys("esc");
    assert!(script.screen().contains("Loss in task 6"), "{}", script.screen());
    script.click(20, 5);
    assert!(script.screen().contains("Loss in this session"), "{}", script.screen());
}

#[test]
fn a_lost_connection_counts_down() {
    for (width, height) in SIZES {
        let mut script = working((width, height));
        let reason = "connection refused".to_owned();
        script.msg(Msg::Event(Event::Disconnected { retry_ms: 7_500, reason }));
        assert!(script.screen().contains("again in 8s"), "{}", script.screen());
        script.advance(Duration::from_secs(3));
        insta::assert_snapshot!(format!("lost_{width}x{height}"), script.screen());
        script.msg(Msg::News(News::Connecting));
        assert!(script.screen().contains("○ connecting"), "{}", script.screen());
    }
}

#[test]
fn an_unpaid_task_says_why() {
    let mut script = working((40, 12));
    script.msg(unpaid(6, "the update was not like the others' of its round"));
    script.advance(Duration::from_secs(5));
    insta::assert_snapshot!("unpaid_40x12", script.snapshot());
    script.resize((80, 24));
    let screen = script.screen();
    assert!(screen.contains("✗ task 6: expired") && screen.contains("balance"), "{screen}");
    script.resize((120, 40));
    assert!(script.screen().contains("✗ task 6, 5s ago:"), "{}", script.screen());
}

#[test]
fn a_task_that_is_done_is_awaited() {
    let mut script = working((80, 24));
    script.msg(submitted(6));
    assert!(script.screen().contains("task 6 is done, 123.5 kB sent"), "{}", script.screen());
}

#[test]
fn of_several_tasks_that_are_awaited_the_oldest_is_shown() {
    let mut script = working((80, 24));
    for number in 6..9 {
        script.msg(submitted(number));
    }
    let waits = |script: &Script<Screen>, number: u64| {
        let screen = script.screen();
        assert!(screen.contains(&format!("task {number} is done, 123.5 kB sent")), "{screen}");
    };
    waits(&script, 6);
    script.msg(unpaid(7, "too late"));
    waits(&script, 6);
    script.msg(unpaid(6, "too late"));
    waits(&script, 8);
    // What is sent again with a new session is no second update.
    let user = "alice".parse().unwrap();
    script.msg(Msg::Event(Event::Ready { worker: WorkerId([1; 8]), user, device: "cpu ×4".into() }));
    script.msg(submitted(8)).msg(unpaid(8, "too late"));
    assert!(script.screen().contains("waiting for a task"), "{}", script.screen());
}

#[test]
fn a_task_that_was_stopped_is_in_hand_no_more() {
    let mut script = working((80, 24));
    assert!(script.screen().contains("task 6 from version 6"), "{}", script.screen());
    script.msg(Msg::News(News::Stopped));
    assert!(script.screen().contains("waiting for a task"), "{}", script.screen());
}

#[test]
fn pausing_and_taking_tasks_again() {
    let mut script = open((80, 24));
    script.keys("p");
    assert_eq!(script.cmds(), [], "nothing can be paused before the work begins");
    let mut script = working((80, 24));
    script.cmds();
    script.keys("p");
    assert!(script.screen().contains("! pausing after this task"), "{}", script.screen());
    script.msg(submitted(6));
    assert!(script.screen().contains("! paused") && script.screen().contains("p go on"), "{}", script.screen());
    script.keys("p");
    assert_eq!(script.cmds(), [Request::Pause, Request::Resume].map(Cmd::Request));
    assert!(script.screen().contains("● connected"), "{}", script.screen());
}

#[test]
fn quitting_finishes_first_and_then_does_not() {
    let mut script = working((80, 24));
    script.cmds();
    script.keys("q");
    assert_eq!(script.cmds(), [Cmd::Request(Request::Finish)]);
    insta::assert_snapshot!("leaving_80x24", script.snapshot());
    // A closed terminal is no second request.
    script.msg(Msg::Stop(Stop::Cleanly)).keys("p");
    assert_eq!(script.cmds(), []);
    script.keys("q");
    assert_eq!(script.cmds(), [Cmd::Request(Request::Stop), Cmd::Leave]);
    let mut script = working((80, 24));
    script.cmds();
    script.keys("? ctrl-c").msg(Msg::Ended);
    assert_eq!(script.cmds(), [Cmd::Request(Request::Finish), Cmd::Leave]);
    let mut script = working((80, 24));
    script.cmds();
    script.msg(Msg::Stop(Stop::AtOnce));
    assert_eq!(script.cmds(), [Cmd::Request(Request::Stop), Cmd::Leave]);
}

#[test]
fn the_coordinator_is_asked_now_and_then_while_it_is_there() {
    let mut script = connected((80, 24));
    assert_eq!(script.cmds(), [Cmd::Request(Request::AskStatus)]);
    script.advance(3 * super::model::ASK_EVERY);
    assert_eq!(script.cmds().len(), 3);
    // However often something else is told.
    train(&mut script, 3, 300);
    assert_eq!(script.cmds().len(), 10);
    script.msg(Msg::Event(Event::Disconnected { retry_ms: 60_000, reason: String::new() }));
    script.advance(Duration::from_secs(30));
    assert_eq!(script.cmds(), []);
}

#[test]
fn views_change_by_keys() {
    let mut script = working((80, 24));
    script.keys("s");
    assert!(script.screen().contains("smoothed over 200 steps"));
    script.keys("s");
    assert!(!script.screen().contains("━ smooth"), "one point is no mean");
    script.keys("c l");
    assert!(script.screen().contains("Loss in task 6") && script.screen().contains("Log (UTC): ERROR only"));
    script.keys("tab").msg(Msg::News(News::Model));
    assert!(script.screen().contains("the loss appears here"), "another model begins anew");
}

#[test]
fn the_log_scrolls_and_follows() {
    let mut script = working((80, 24));
    for number in 0..30 {
        let line = format!("2026-01-31T12:34:56.789Z  INFO worker: line {number}\n");
        script.app.facts.ring.clone().write_all(line.as_bytes()).unwrap();
    }
    assert!(script.screen().contains("line 29"));
    script.keys("pageup");
    assert!(script.screen().contains("line 25") && !script.screen().contains("line 29"), "{}", script.screen());
    script.wheel(5, 20, 50);
    assert!(script.screen().contains("line 29"));
}

/// Steps may be left out when a screen does not keep up; payments and the last word may not. Without a screen the
/// teller has its say.
#[tokio::test]
async fn the_feed_keeps_what_matters() {
    let (sender, mut messages) = mpsc::channel(WAITING);
    let teller = Teller::new(Events::new(false, false, Box::new(std::io::sink())), Clock::start(), String::new());
    let mut feed = Feed::new(sender, teller);
    for step in 0..2_000 {
        feed.tell(News::Step { step, loss: 1.0, tokens_per_s: 1.0 });
    }
    let paid = Event::Credited { task: TaskId(1), amount: Credits::hyd(1), balance: Credits::hyd(1) };
    feed.show(&paid);
    let mut waiting = Vec::new();
    while let Ok(msg) = messages.try_recv() {
        waiting.push(msg);
    }
    assert_eq!((waiting.len(), waiting.last()), (WAITING - RESERVE + 1, Some(&Msg::Event(paid.clone()))));
    let stopped = Event::Stopped {
        reason: Why::Asked,
        tasks: 1,
        earned: Credits::hyd(1),
        balance: Credits::hyd(1),
        unanswered: 0,
        undelivered: 0,
    };
    let last = feed.last_word();
    feed.show(&stopped);
    drop(messages);
    let line = "stopped by you: 1 task paid, 1.0 HYD earned, balance unknown";
    assert_eq!(last.get().map(String::as_str), Some(line), "a screen that has left does not take it");
    feed.show(&paid);
}

/// Text as a hostile coordinator might send it.
fn remote() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(any::<char>(), 0..60).prop_map(|text| text.into_iter().collect()),
        "(\\x1b\\[[0-9;]{0,4}[a-zA-Z]|\\x1b\\]0;[a-z]{0,5}\\x07|word |\\n){0,12}",
        "[\u{5d0}-\u{5ea}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{200b}e\u{301}👩東 ]{0,40}",
        Just("東x".repeat(5_000)),
    ]
}

fn anything() -> impl Strategy<Value = Vec<Msg>> {
    let text = remote().prop_flat_map(|text| {
        prop_oneof![
            Just(vec![Msg::News(News::Device { device: text.clone(), threads: None })]),
            Just(vec![Msg::User(text.clone())]),
            Just(vec![task(3), Msg::News(News::Preview(text.clone()))]),
            Just(vec![unpaid(3, &text)]),
            Just(vec![Msg::Event(Event::Disconnected { retry_ms: u64::MAX, reason: text })]),
        ]
    });
    let numbers = (any::<u32>(), any::<f32>(), any::<f32>(), any::<f64>(), any::<u64>()).prop_flat_map(
        |(step, loss, tokens_per_s, held, number)| {
            let (task, balance) = (TaskId(number), Credits(number));
            let round_trip = Some(Duration::from_micros(number));
            let silent = round_trip;
            let usage = Usage { up: number, down: number, round_trip, silent, cpu: round_trip, memory: Some(number) };
            prop_oneof![
                Just(vec![Msg::News(News::Step { step, loss, tokens_per_s })]),
                Just(vec![Msg::News(News::HeldOut { version: VersionNo(number), loss: held })]),
                Just(vec![Msg::Event(Event::Credited { task, amount: balance, balance })]),
                Just(vec![Msg::Usage(usage)]),
                Just(vec![Msg::Event(Event::Task { task, version: VersionNo(1), steps: step, tokens: number })]),
                Just(vec![submitted(number), Msg::Page(number as i8 as i64), Msg::Scroll(step as i8 as isize)]),
            ]
        },
    );
    prop_oneof![text, numbers]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_it(
        steps in proptest::collection::vec((anything(), "[pslc?qG+]{0,3}", (0u16..300, 0u16..80)), 1..12),
    ) {
        let mut script = open((80, 24));
        for (msgs, keys, size) in steps {
            for msg in msgs {
                script.msg(msg);
            }
            script.text(&keys).resize(size);
            script.advance(Duration::from_millis(1_700));
            script.screen();
        }
    }
}
