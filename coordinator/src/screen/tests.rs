//! The screen as people see it: every page at each size and in each state, and what its keys ask of the run.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hydra_core::credits::Credits;
use hydra_core::hub::{LedgerView, RoundView, Stop as StopAt, TransferView, View, WorkerState, WorkerView};
use hydra_core::ids::{SessionId, TaskId, TransferId, VersionNo, WorkerId};
use hydra_core::ledger::Kind;
use hydra_core::proto::{Status, UnpaidCode};
use hydra_core::time::Time;
use hydra_shell::logs::Ring;
use hydra_shell::signals::Stop;
use hydra_shell::ui::Theme;
use hydra_shell::ui::testkit::{SIZES, Script};

use super::model::Tab;
use super::*;

mod asked;
mod random;

/// One more than the kit's: a wide one.
const WIDE: (u16, u16) = (300, 80);

fn facts() -> Facts {
    let ring = Ring::with_finest(tracing::level_filters::LevelFilter::INFO);
    let line = "2026-01-31T12:34:56.789Z  INFO hydra_coordinator: a task was accepted and paid task=7 user=alice\n";
    ring.clone().write_all(line.as_bytes()).unwrap();
    Facts {
        addr: "127.0.0.1:5000".into(),
        join: "hydra-worker NAME".into(),
        run: "./hydra-run".into(),
        prompt: "What is a neural network?".into(),
        stop: StopAt::default(),
        theme: Theme::colour(),
        ring,
        started: Time(0),
    }
}

fn open(size: (u16, u16)) -> Script<Screen> {
    Script::new(Screen::new(facts(), History::default()), size)
}

fn worker(number: u64, user: &str, state: WorkerState) -> Row {
    let training = matches!(state, WorkerState::Training { .. });
    let worker = WorkerView {
        session: SessionId(number),
        user: user.parse().unwrap(),
        worker: WorkerId([number as u8; 8]),
        device: "cpu ×2".into(),
        state,
        loss: training.then_some(3.25 + number as f32 / 100.0),
        tokens_per_s: training.then_some(1_000.0 * number as f64),
        accepted: 2 * number,
        refused: number / 3,
        refusal: (number >= 3).then_some(UnpaidCode::NotFinite),
        earned: Credits::hyd(2 * number),
        since: Time(1_000_000 * number),
    };
    Row { worker, latency: (number != 2).then_some(Duration::from_micros(700 * number)), silent: None }
}

fn training(number: u64, user: &str) -> Row {
    let (task, version, deadline) = (TaskId(40 + number), VersionNo(12), Time(90_000_000));
    worker(number, user, WorkerState::Training { task, version, step: number as u32, steps: 8, deadline })
}

fn workers() -> Vec<Row> {
    vec![
        training(1, "alice"),
        training(2, "bob"),
        worker(3, "carol", WorkerState::Waiting),
        worker(4, "dave", WorkerState::Barred(Time(75_000_000))),
        worker(5, "erin", WorkerState::Sending(TaskId(39))),
        worker(6, "frank", WorkerState::Free(Time(55_000_000))),
        worker(7, "grace", WorkerState::Resting),
    ]
}

fn transfer(seq: u64) -> Arc<TransferView> {
    let user = ["alice", "bob"][seq as usize % 2];
    let (kind, debit, credit, memo) = match seq % 4 {
        0 => (Kind::Hold, format!("user:{user}"), "holds".to_owned(), "query 0123456789abcdef"),
        1 => (Kind::Post, "holds".to_owned(), "revenue".to_owned(), ""),
        _ => (Kind::Reward, "issuance".to_owned(), format!("user:{user}"), "task 17"),
    };
    let amount = if kind == Kind::Reward { Credits::hyd(1) } else { Credits(500_000) };
    let at_ms = 1_769_862_896_000 + 1000 * seq;
    let id = |seq: u64| TransferId(std::array::from_fn(|at| if at < 8 { seq.to_le_bytes()[at] } else { 0 }));
    let hold = (kind == Kind::Post).then(|| id(seq - 1));
    Arc::new(TransferView { seq, id: id(seq), hold, kind, debit, credit, amount, memo: memo.to_owned(), at_ms })
}

fn ledger() -> LedgerView {
    let user = |name: &str, hyd: u64| (name.parse().unwrap(), Credits::hyd(hyd));
    LedgerView {
        issued: Credits::hyd(40),
        held: Credits(500_000),
        holds: 1,
        revenue: Credits(4_500_000),
        transfers: 60,
        users: 3,
        top: vec![user("alice", 20), user("bob", 10), user("carol", 5)],
        newest: (1..=30).rev().map(|back| transfer(30 + back)).collect(),
    }
}

/// A minute after the start, with these workers.
fn snapshot(rows: Vec<Row>) -> Snapshot {
    let status = Status {
        version: VersionNo(12),
        workers: rows.len() as u32,
        tasks: 40,
        tokens: 655_360,
        params: 4_140_000,
        queries: 1,
        val_loss: Some(3.9),
        val_version: None,
        val_bits_per_byte: Some(1.9),
        paused: false,
    };
    let training = rows.iter().filter(|row| super::workers::is_training(&row.worker)).count();
    let round = RoundView {
        accepted: 1,
        needed: 2,
        training,
        judging: 1,
        merging: false,
        opened: Time(50_000_000),
        enough: None,
        closes: Some(Time(120_000_000)),
        late: 0,
        returning: false,
        asked: false,
        kept: false,
    };
    let view = View {
        at: Time(60_000_000),
        status,
        version_age: Duration::from_secs(10),
        task_tokens: 16_384,
        chats: 1,
        queued: 8,
        queue: 8,
        averaged: true,
        paused: false,
        behind: false,
        stopping: None,
        round,
        ledger: ledger(),
        workers: Vec::new(),
    };
    Snapshot { view, rows, trouble: None, up: 83_000_000, down: 170_000_000, heard: u64::MAX }
}

fn tell(script: &mut Script<Screen>, snapshot: Snapshot) {
    script.msg(Msg::Snapshot(Box::new(snapshot)));
}

/// A run of a minute.
fn running(size: (u16, u16)) -> Script<Screen> {
    let mut script = open(size);
    let mut early = snapshot(workers());
    early.view.at = Time(30_000_000);
    (early.view.status.tokens, early.view.status.tasks) = (300_000, 20);
    (early.up, early.down) = (23_000_000, 50_000_000);
    script.advance(Duration::from_secs(30));
    tell(&mut script, early);
    for version in 1..=12 {
        let loss = 3.0 + 6.0 / (1.0 + 0.3 * version as f64);
        let point = Point { version: VersionNo(version), loss, bits_per_byte: loss / 2.1, updates: None };
        script.msg(Msg::Scored(point));
        let text = "A neural network is made of layers of numbers. Each layer takes the numbers of the one before. "
            .repeat(1 + version as usize % 3);
        script.msg(Msg::Sample(Sample { version: point.version, loss, text, at_ms: 1_769_862_896_000 }));
    }
    script.advance(Duration::from_secs(30));
    tell(&mut script, snapshot(workers()));
    script
}

fn sizes() -> impl Iterator<Item = (u16, u16)> {
    SIZES.into_iter().chain([WIDE])
}

#[test]
fn no_key_is_bound_twice() {
    let mut script = running((80, 24));
    for page in ["1", "2", "3", "4", "5"] {
        script.keys(page);
        for overlay in ["<esc>", "?", "/", "K", "q"] {
            script.keys(overlay);
            let faults = hydra_shell::ui::keys::faults(hydra_shell::ui::App::keys(&script.app));
            assert_eq!(faults, Vec::<String>::new(), "page {page}, {overlay}");
            script.keys("<esc>");
        }
    }
    assert_eq!(hydra_shell::ui::keys::faults(super::keys::ALL), Vec::<String>::new());
}

#[test]
fn every_page_at_each_size() {
    for (width, height) in sizes() {
        let mut script = running((width, height));
        for (number, title) in Tab::TITLES.iter().enumerate() {
            script.text(&(number + 1).to_string());
            let name = title.to_lowercase();
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), script.screen());
        }
        script.keys("1 ?");
        insta::assert_snapshot!(format!("help_{width}x{height}"), script.screen());
    }
}

#[test]
fn styles_do_not_rest_on_colour() {
    let mut script = running((80, 24));
    insta::assert_snapshot!("overview_styles", script.snapshot());
    script.keys("2");
    insta::assert_snapshot!("workers_styles", script.snapshot());
}

#[test]
fn before_anything_and_without_workers() {
    for (width, height) in SIZES {
        let mut script = open((width, height));
        insta::assert_snapshot!(format!("starting_{width}x{height}"), script.screen());
        let mut empty = snapshot(Vec::new());
        (empty.view.ledger, empty.view.round) = (LedgerView::default(), RoundView::default());
        empty.view.status = Status { workers: 0, queries: 0, tasks: 0, tokens: 0, ..empty.view.status };
        script.advance(Duration::from_secs(1));
        tell(&mut script, empty);
        for (number, title) in Tab::TITLES.iter().enumerate().take(4) {
            script.text(&(number + 1).to_string());
            insta::assert_snapshot!(format!("empty_{}_{width}x{height}", title.to_lowercase()), script.screen());
        }
    }
}

#[test]
fn the_chosen_worker_in_full() {
    for (width, height) in SIZES {
        let mut script = running((width, height));
        script.keys("2 down down down");
        if (width, height) == (40, 12) {
            script.keys("<enter>");
        }
        insta::assert_snapshot!(format!("detail_{width}x{height}"), script.screen());
        script.keys("<enter>");
        assert!(!script.screen().contains("it failed"), "{}", script.screen());
    }
}

#[test]
fn clicks_do_not_reach_a_hidden_table() {
    let mut script = running((40, 12));
    // Drawn once, so that its place is known.
    script.keys("2").click(3, 5);
    let chosen = script.app.chosen().map(|row| row.worker.session);
    script.keys("<enter>");
    let shown = script.screen();
    script.click(3, 4).click(3, 2);
    assert_eq!((script.app.chosen().map(|row| row.worker.session), script.screen()), (chosen, shown));
    script.keys("<enter>").click(3, 4);
    assert_ne!(script.app.chosen().map(|row| row.worker.session), chosen);
}

#[test]
fn workers_are_sorted_and_filtered() {
    let mut script = running((120, 40));
    script.keys("2 o o o r");
    let lines = script.screen();
    let order: Vec<_> =
        ["grace", "frank", "erin", "alice"].map(|user| lines.find(&format!("│ {user} ")).unwrap()).into();
    assert!(order.is_sorted(), "{lines}");
    script.keys("/").text("carol").keys("<enter>");
    let seen = script.screen();
    assert!(seen.contains("Workers: 1 of 7 with “carol”") && !seen.contains("frank"), "{seen}");
    script.keys("/ ctrl-u").text("training").keys("<enter>");
    assert!(script.screen().contains("2 of 7"), "{}", script.screen());
    script.keys("<esc>");
    assert!(script.screen().contains("Workers: 7 "), "{}", script.screen());
    // A click on a heading sorts by it, one on a row chooses it.
    let heading = script.screen().lines().nth(3).unwrap().chars().position(|c| c == 'p').unwrap();
    script.click(heading as u16, 3).click(5, 6);
    assert_eq!(script.app.chosen().map(|row| row.worker.user.as_str()), Some("carol"), "{}", script.screen());
}

#[test]
fn a_worker_that_leaves_is_gone_and_the_choice_stays() {
    let mut script = running((120, 40));
    script.keys("2 down");
    assert_eq!(script.app.chosen().map(|row| row.worker.user.as_str()), Some("bob"));
    let mut fewer = workers();
    fewer.remove(0);
    tell(&mut script, snapshot(fewer));
    assert_eq!(script.app.chosen().map(|row| row.worker.user.as_str()), Some("bob"));
    assert!(!script.screen().contains("alice "), "{}", script.screen());
    // Another session, but the same worker.
    let mut again = workers();
    again[1].worker.session = SessionId(99);
    tell(&mut script, snapshot(again));
    assert_eq!(script.app.chosen().map(|row| row.worker.session), Some(SessionId(99)));
}

#[test]
fn kicking_a_worker_asks_for_the_reason() {
    let kick = |reason: &str| Request::Kick("bob".parse().unwrap(), WorkerId([2; 8]), reason.to_owned());
    for (width, height) in SIZES {
        let mut script = running((width, height));
        script.keys("2 down K").text("too slow, sorry");
        insta::assert_snapshot!(format!("kick_{width}x{height}"), script.screen());
        script.keys("<enter>");
        assert_eq!(script.cmds(), [Cmd::Request(kick("too slow, sorry"))]);
        script.keys("K <esc> K <enter>");
        assert_eq!(script.cmds(), [Cmd::Request(kick("no reason given"))]);
    }
    let mut script = open((80, 24));
    script.keys("2 K <enter>");
    assert_eq!(script.cmds(), [], "there is nobody to kick");
}

#[test]
fn pausing_and_the_queue() {
    let mut script = running((80, 24));
    script.keys("p");
    assert!(script.screen().contains("! paused"), "{}", script.screen());
    script.keys("p + + minus");
    let expected = [Request::Pause, Request::Resume, Request::Queue(9), Request::Queue(10), Request::Queue(9)];
    assert_eq!(script.cmds(), expected.map(Cmd::Request));
    assert!(script.screen().contains("9 tasks kept ready"), "{}", script.screen());
    let mut script = open((80, 24));
    script.keys("p +");
    assert_eq!(script.cmds(), [], "nothing is known yet");
}

#[test]
fn every_press_counts() {
    let mut script = running((80, 24));
    script.keys("+ p");
    // Made before anything was done, and after the first request alone.
    for heard in [0, 1] {
        tell(&mut script, Snapshot { heard, ..snapshot(workers()) });
    }
    script.keys("+ p");
    let expected = [Request::Queue(9), Request::Pause, Request::Queue(10), Request::Resume];
    assert_eq!(script.cmds(), expected.map(Cmd::Request));
    let mut done = Snapshot { heard: 4, ..snapshot(workers()) };
    done.view.queue = 5;
    tell(&mut script, done);
    script.keys("+");
    assert_eq!(script.cmds(), [Cmd::Request(Request::Queue(6))], "the run has the last word");
}

#[test]
fn saving_says_what_is_saved() {
    let mut script = running((80, 24));
    script.keys("s");
    assert_eq!(script.cmds(), [Cmd::Request(Request::Save)]);
    script.msg(Msg::Saving(Saving::Waiting { version: VersionNo(13) }));
    let waits = "version 13 waits: now, it would make a task in hand too old to be paid";
    assert!(script.screen().contains(waits), "{}", script.screen());
    script.msg(Msg::Saving(Saving::Closing { version: VersionNo(13), updates: 1 }));
    assert!(script.screen().contains("making version 13 of 1 update"), "{}", script.screen());
    let mut saved = snapshot(workers());
    saved.view.status.version = VersionNo(13);
    tell(&mut script, saved.clone());
    assert!(script.screen().contains("✓ version 13 is made and safe"), "{}", script.screen());
    script.advance(Duration::from_secs(5));
    tell(&mut script, saved);
    assert!(!script.screen().contains("is made and safe"), "told once");
    script.msg(Msg::Saving(Saving::Nothing { version: VersionNo(13), transfers: 60 }));
    assert!(script.screen().contains("nothing new to save: version 13, 60 transfers are safe"), "{}", script.screen());
}

#[test]
fn what_was_said_before_the_screen_is_on_it() {
    let line = "this run goes on with its own text; --data is for a new one (--run DIR)";
    for (lines, seen) in [(vec![line.to_owned()], line), (vec![line.to_owned(); 2], "2 warnings about this start")] {
        let mut screen = Screen::new(facts(), History::default());
        screen.caution(&lines);
        let mut script = Script::new(screen, (80, 24));
        script.advance(Duration::from_secs(10));
        assert!(script.screen().contains(seen), "{}", script.screen());
        script.advance(Duration::from_secs(11));
        assert!(!script.screen().contains(seen), "{}", script.screen());
    }
}

#[test]
fn quitting_asks_drains_and_then_does_not_wait() {
    for (width, height) in SIZES {
        let mut script = running((width, height));
        script.keys("q");
        insta::assert_snapshot!(format!("quit_{width}x{height}"), script.screen());
        script.keys("n");
        assert_eq!(script.cmds(), []);
        script.keys("q q q");
        assert_eq!(script.cmds(), [], "whoever hits it twice does not end the run");
        script.keys("<enter>");
        assert_eq!(script.cmds(), [Cmd::Request(Request::Drain)]);
        insta::assert_snapshot!(format!("stopping_{width}x{height}"), script.screen());
        // A closed terminal is no second request.
        script.msg(Msg::Stop(Stop::Cleanly));
        assert_eq!(script.cmds(), []);
        script.keys("q");
        assert_eq!(script.cmds(), [Cmd::Request(Request::StopAtOnce)]);
        script.msg(Msg::Ended);
        assert_eq!(script.cmds(), [Cmd::Leave]);
    }
}

#[test]
fn trouble_is_told_on_every_page() {
    let mut script = running((80, 24));
    let mut behind = snapshot(workers());
    behind.view.behind = true;
    tell(&mut script, behind);
    assert!(script.screen().contains("! catching up"), "{}", script.screen());
    for (width, height) in SIZES {
        script.resize((width, height));
        tell(&mut script, Snapshot { trouble: Some("payments wait for the disk"), ..snapshot(workers()) });
        insta::assert_snapshot!(format!("trouble_{width}x{height}"), script.screen());
    }
    script.resize((80, 24));
    let mut ending = snapshot(workers());
    ending.view.stopping = Some("tokens");
    tell(&mut script, ending);
    script.keys("3");
    assert!(script.screen().contains("! stopping"), "{}", script.screen());
}

#[test]
fn the_round_in_its_states() {
    let mut script = running((80, 24));
    let mut told = |change: fn(&mut RoundView)| {
        let mut now = snapshot(workers());
        change(&mut now.view.round);
        tell(&mut script, now);
        script.screen()
    };
    assert!(told(|_| ()).contains("closes within 1m 00s"));
    assert!(told(|_| ()).contains("2 train · 1 send · 1 wait · 3 idle"));
    let grace = told(|round| (round.enough, round.closes) = (Some(Time(59_000_000)), Some(Time(62_500_000))));
    assert!(grace.contains("enough; waits 3s for more"), "{grace}");
    let late = told(|round| round.accepted = round.needed);
    assert!(late.contains("waits for workers; 1m 00s at most"), "{late}");
    let asked = told(|round| (round.accepted, round.asked) = (1, true));
    assert!(asked.contains("waits for workers; 1m 00s at most"), "{asked}");
    let slow = told(|round| (round.accepted, round.closes, round.late) = (0, None, 1));
    assert!(slow.contains("waiting for the first update; 1 late"), "{slow}");
    let again = told(|round| (round.returning, round.closes) = (true, Some(Time(61_500_000))));
    assert!(again.contains("waits 2s for others to come back"), "{again}");
    let kept = told(|round| (round.kept, round.judging, round.closes) = (true, 0, None));
    assert!(kept.contains("stopping; kept for the next start"), "{kept}");
    let taken = told(|round| (round.kept, round.accepted, round.closes) = (true, 0, None));
    assert!(taken.contains("stopping; waits for updates sent"), "{taken}");
    let gone = told(|round| (round.accepted, round.needed) = (2, 1));
    assert!(gone.contains("·2 updates·") || gone.contains(" 2 updates "), "not 2 of 1: {gone}");
    assert!(told(|round| round.merging = true).contains("the version is being made"));
    assert!(told(|round| (round.accepted, round.closes) = (0, None)).contains("waiting for the first update"));
    assert!(told(|round| *round = RoundView::default()).contains("nobody trains"));
    let mut rows = workers();
    rows[1].silent = Some(Duration::from_secs(9));
    tell(&mut script, snapshot(rows));
    assert!(script.screen().contains("1 train 1 send 1 wait 1 silent 3 id…"), "{}", script.screen());
}

#[test]
fn mouse_and_keys_turn_pages() {
    let mut script = running((80, 24));
    script.click(18, 1);
    assert_eq!(script.app.tab, Tab::Workers);
    script.keys("<tab>");
    assert_eq!(script.app.tab, Tab::Ledger);
    script.wheel(5, 15, 1);
    assert_eq!(script.app.transfers.chosen(), Some(&57));
    script.keys("<shift-tab> <shift-tab> <shift-tab>");
    assert_eq!(script.app.tab, Tab::Log);
}

#[test]
fn the_ledger_follows_the_newest_unless_one_is_chosen() {
    let mut script = running((80, 24));
    script.keys("3");
    let mut later = snapshot(workers());
    later.view.ledger.newest.insert(0, transfer(61));
    tell(&mut script, later.clone());
    assert_eq!(script.app.transfers.chosen(), Some(&61));
    script.keys("down");
    later.view.ledger.newest.insert(0, transfer(62));
    tell(&mut script, later);
    assert_eq!(script.app.transfers.chosen(), Some(&60));
    let seen = script.screen();
    assert!(!seen.contains("newer") && !seen.contains('▼'), "the newest are in sight, and nothing is sorted: {seen}");
    assert!(seen.contains("Home newest"), "{seen}");
    script.keys("<end>");
    assert!(script.screen().contains(" newer "), "{}", script.screen());
    script.keys("<home>");
    assert!(!script.screen().contains(" newer ") && !script.screen().contains("Home newest"), "{}", script.screen());
}

#[test]
fn samples_stay_where_they_are_read() {
    let mut script = running((80, 24));
    script.keys("4 down");
    assert!(script.screen().contains("version 11") && !script.screen().contains("version 12  loss"));
    let text = "newer".to_owned();
    script.msg(Msg::Sample(Sample { version: VersionNo(13), loss: 3.0, text, at_ms: 0 }));
    assert!(script.screen().contains("version 11") && script.screen().contains("↑ 2 newer"), "{}", script.screen());
    script.keys("g");
    assert!(script.screen().contains("newer"));
    let tops = |script: &mut Script<Screen>, keys| {
        script.keys(keys);
        script.app.sample
    };
    let page = tops(&mut script, "pagedown");
    assert!(page > 1, "{}", script.screen());
    assert_eq!([tops(&mut script, "down"), tops(&mut script, "pageup"), tops(&mut script, "pageup")], [page + 1, 1, 0]);
    for version in 14..400 {
        let sample = Sample { version: VersionNo(version), loss: 3.0, text: String::new(), at_ms: 0 };
        script.msg(Msg::Sample(sample));
    }
    assert_eq!(script.app.samples.len(), super::model::SAMPLES);
}

#[test]
fn what_was_before_the_start_is_shown_once() {
    let points: Vec<_> = (0..5)
        .map(|v| Point { version: VersionNo(v), loss: 9.0 - v as f64, bits_per_byte: 3.0, updates: Some(2) })
        .collect();
    let last = points[4];
    let past = (1..=31).rev().map(transfer).collect();
    let mut script =
        Script::new(Screen::new(facts(), History { points, transfers: past, samples: Vec::new() }), (80, 24));
    // Measured again, and a little else came of it.
    script.msg(Msg::Scored(Point { loss: 4.9, bits_per_byte: 2.9, ..last }));
    let chart = &script.app.chart;
    assert_eq!((chart.raw.iter().count(), chart.raw.last()), (5, Some((4.0, 4.9))));
    assert_eq!(script.app.point.map(|point| point.bits_per_byte.to_bits()), Some(2.9_f64.to_bits()));
    // The hub's go back to 31, the file's begin there; a gap is not papered over.
    let shown = |script: &Script<Screen>| script.app.snapshot.as_ref().unwrap().view.ledger.newest.len();
    tell(&mut script, snapshot(workers()));
    assert_eq!(shown(&script), 30);
    let mut told = snapshot(workers());
    told.view.ledger.newest.pop();
    told.view.ledger.newest.retain(|transfer| transfer.seq > 31);
    tell(&mut script, told.clone());
    assert_eq!(shown(&script), 29 + 31);
    told.view.ledger.newest.clear();
    told.view.ledger.transfers = 31;
    tell(&mut script, told);
    assert_eq!(shown(&script), 31);
}

#[test]
fn rates_are_those_of_the_last_minute() {
    let script = running((80, 24));
    let rates = script.app.rates().unwrap();
    assert!(rates.tasks == 20 && (rates.up - 2e6).abs() < 1.0, "{rates:?}");
    assert_eq!(rates.span(), "the last 30s");
    assert!(script.screen().contains("20 tasks in the last 30s"), "{}", script.screen());
    assert!((script.app.bytes_a_token().unwrap() - 253e6 / 355_360.0).abs() < 1e-6);
    let span = |seconds| super::rates::Rates { over: Duration::from_secs(seconds), ..Default::default() }.span();
    assert_eq!([span(61), span(605)], ["the last minute", "the last 10m 05s"]);
}

#[test]
fn speeds_add_up_and_are_nothing_where_nobody_trains() {
    assert_eq!(super::model::speed(&workers()).to_bits(), 3_000_f64.to_bits());
    assert_eq!(super::model::speed(&[]).to_bits(), 0_f64.to_bits());
}
