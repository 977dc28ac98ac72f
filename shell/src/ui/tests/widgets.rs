//! Snapshots of the widgets, and how they answer to clicks and keys.

use std::io::Write as _;
use std::time::{Duration, Instant};

use hydra_core::time::Time;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::logs::Ring;
use crate::ui::log::{Level, LogPane};
use crate::ui::overlay::{self, Toasts};
use crate::ui::table::{Column, Table, Width};
use crate::ui::testkit::{draw_within, styles_of, text_of};
use crate::ui::theme::{Sign, Theme};
use crate::ui::transcript::{Entry, Transcript, Who};
use crate::ui::{Binding, gauge, help, panel, tabs};

fn look(width: u16, height: u16, draw: impl FnOnce(&mut Buffer, Rect)) -> String {
    let buffer = draw_within(width, height, draw);
    format!("{}\n{}", text_of(&buffer), styles_of(&buffer))
}

fn text(width: u16, height: u16, draw: impl FnOnce(&mut Buffer, Rect)) -> String {
    text_of(&draw_within(width, height, draw))
}

#[test]
fn gauges() {
    let mut all = String::new();
    for ratio in [0.0, 0.3, 1.0, f64::NAN, 7.0] {
        all += &look(20, 1, |buffer, area| gauge::draw(buffer, area, Theme::plain(), ratio, "30 of 100"));
    }
    all += &look(4, 1, |buffer, area| gauge::draw(buffer, area, Theme::colour(), 0.5, "30 of 100"));
    insta::assert_snapshot!(all);
}

const TITLES: [&str; 4] = ["Overview", "Workers", "Ledger", "Log"];

#[test]
fn tabs_and_clicks() {
    let mut all = String::new();
    for width in [80, 40, 24] {
        all += &look(width, 1, |buffer, area| tabs::draw(buffer, area, Theme::plain(), &TITLES, 1));
    }
    insta::assert_snapshot!(all);
    let area = Rect::new(2, 1, 60, 1);
    let hits = [2, 13, 14, 24, 70].map(|x| tabs::at(area, &TITLES, 0, (x, 1)));
    assert_eq!(hits, [Some(0), Some(0), None, Some(1), None]);
    assert_eq!(tabs::at(area, &TITLES, 0, (2, 0)), None);
    let narrow = Rect { width: 10, ..area };
    assert_eq!([2, 11].map(|x| tabs::at(narrow, &TITLES, 1, (x, 1))), [Some(0), Some(2)]);
}

#[derive(Clone)]
struct Row {
    id: u64,
    user: String,
    loss: f64,
}

fn rows(count: u64) -> Vec<Row> {
    (0..count)
        .map(|id| Row { id, user: format!("user-{:03}", id * 37 % 1_000), loss: 3.0 + (id * 13 % 100) as f64 / 10.0 })
        .collect()
}

fn table() -> Table<u64> {
    Table::new(vec![
        Column::words("user", Width::AtLeast(8), 0),
        Column::number("loss", 8, 1),
        Column::words("device", Width::Exactly(10), 3),
        Column::words("what", Width::AtLeast(10), 2),
    ])
}

fn arrange(table: &mut Table<u64>, rows: &[Row]) {
    table.arrange(
        rows,
        |row| row.id,
        |a, b, column| match column {
            1 => a.loss.total_cmp(&b.loss),
            _ => a.user.cmp(&b.user),
        },
        |row, words| row.user.contains(words),
    );
}

fn draw_table(table: &Table<u64>, rows: &[Row], buffer: &mut Buffer, area: Rect) {
    table.draw(buffer, area, Theme::plain(), rows, |row, column| {
        let words = match column {
            0 => row.user.clone(),
            1 => format!("{:.3}", row.loss),
            2 => "cpu".to_owned(),
            _ => "training".to_owned(),
        };
        (words, Style::new())
    });
}

#[test]
fn tables_sort_filter_and_follow_their_row() {
    let mut rows = rows(30);
    let mut table = table();
    arrange(&mut table, &rows);
    table.step(&rows, |row| row.id, 12);
    for (width, height) in [(80, 12), (40, 8), (16, 4)] {
        let shown = look(width, height, |buffer, area| draw_table(&table, &rows, buffer, area));
        insta::assert_snapshot!(format!("table_{width}x{height}"), shown);
    }
    let chosen = *table.chosen().unwrap();
    table.sort_by(1);
    table.sort_by(1);
    arrange(&mut table, &rows);
    assert_eq!(table.chosen(), Some(&chosen), "the choice stays with its row");
    insta::assert_snapshot!("table_by_loss", text(40, 8, |buffer, area| draw_table(&table, &rows, buffer, area)));
    // The area of draw_within begins at (2, 1), so its first row is row 2.
    let clicked = table.at((5, 3)).unwrap();
    table.choose(&rows, |row| row.id, clicked);
    let shown = text(40, 8, |buffer, area| draw_table(&table, &rows, buffer, area));
    assert_ne!(table.chosen(), Some(&chosen));
    assert_eq!(table.at((5, 1)), None);
    assert_eq!((table.heading_at((3, 1)), table.heading_at((3, 2))), (Some(0), None));
    assert!(shown.contains("loss▼"), "{shown}");
    rows.retain(|row| Some(&row.id) != table.chosen());
    arrange(&mut table, &rows);
    assert!(table.chosen().is_some(), "its neighbour takes the place of a row that left");
    table.set_filter("USER-03");
    arrange(&mut table, &rows);
    assert!(table.shown() >= 1 && table.shown() < 5);
    table.set_filter("nobody");
    arrange(&mut table, &rows);
    assert_eq!((table.shown(), table.chosen()), (0, None));
    let shown = text(40, 3, |buffer, area| draw_table(&table, &rows, buffer, area));
    assert!(shown.contains("no row has these words"), "{shown}");
}

#[test]
fn the_next_order_is_one_that_can_be_seen() {
    let rows = rows(3);
    let mut table = table();
    arrange(&mut table, &rows);
    let mut orders = |width| {
        text(width, 4, |buffer, area| draw_table(&table, &rows, buffer, area));
        let mut next = || {
            table.sort_next();
            table.order()
        };
        [next(), next(), next()]
    };
    assert_eq!(orders(24), ["loss ▲", "user ▲", "loss ▲"]);
    assert_eq!(orders(80), ["device ▲", "what ▲", "user ▲"]);
}

#[test]
fn the_chosen_row_has_one_look() {
    let rows = rows(3);
    let mut table = table();
    arrange(&mut table, &rows);
    let buffer = draw_within(40, 4, |buffer, area| {
        table.draw(buffer, area, Theme::colour(), &rows, |row, column| {
            let theme = Theme::colour();
            (row.user.clone(), [theme.accent(), theme.bad(), theme.dim(), theme.good()][column])
        });
    });
    let chosen: Vec<String> =
        styles_of(&buffer).lines().filter(|line| line.starts_with("2:")).map(str::to_owned).collect();
    assert!(matches!(&chosen[..], [run] if run.starts_with("2:2 reversed ")), "{chosen:?}");
    assert!(styles_of(&buffer).contains("3:2 cyan"), "others keep their colours");
}

#[test]
fn five_thousand_rows_stay_quick() {
    let rows = rows(5_000);
    let mut table = table();
    let area = Rect::new(0, 0, 120, 40);
    let mut buffer = Buffer::empty(area);
    let start = Instant::now();
    arrange(&mut table, &rows);
    let arranged = start.elapsed();
    let mut asked = 0;
    let asks = std::cell::Cell::new(0);
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            asks.set(0);
            table.draw(&mut buffer, area, Theme::plain(), &rows, |row, _| {
                asks.set(asks.get() + 1);
                (row.user.clone(), Style::new())
            });
            asked = asks.get();
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("5,000 rows: arranged in {arranged:?}, drawn in {best:?}");
    assert_eq!(asked, 39 * 4, "only what is seen is formatted");
    assert!(cfg!(debug_assertions) || best < Duration::from_millis(2), "{best:?}");
}

fn conversation() -> Transcript {
    let mut transcript = Transcript::default();
    transcript.push(Entry::new(Who::You, "What is Python?"));
    transcript.push(Entry::new(Who::Model, ""));
    for piece in ["Python is a", " programming language that many people ", "like.\n\nIt is e", "\u{301}legant."] {
        transcript.append(piece);
    }
    transcript.set_foot("0.5 HYD · 31 tokens/s · version 12 · held-out loss 3.21");
    transcript.push(Entry::new(Who::Note(Sign::Bad), "the coordinator is lost: trying again in 3 s"));
    transcript
}

#[test]
fn transcripts_scroll_and_stick() {
    let mut transcript = conversation();
    let names = ("alice", "hydra");
    for (width, height) in [(60, 14), (24, 8)] {
        let shown = look(width, height, |buffer, area| transcript.draw(buffer, area, Theme::plain(), names, true));
        insta::assert_snapshot!(format!("transcript_{width}x{height}"), shown);
    }
    let show = |transcript: &Transcript| {
        text(24, 8, |buffer, area| transcript.draw(buffer, area, Theme::plain(), names, false))
    };
    transcript.to_top();
    assert!(show(&transcript).starts_with("alice\n"), "{}", show(&transcript));
    let before = show(&transcript);
    transcript.push(Entry::new(Who::You, "more"));
    let after = show(&transcript);
    assert_eq!(before.lines().take(7).collect::<Vec<_>>(), after.lines().take(7).collect::<Vec<_>>());
    assert!(after.contains("more"), "it says that there is more: {after}");
    assert!(after.lines().last().is_some_and(|row| row.trim_start().starts_with('↓')), "in a row of its own: {after}");
    for _ in 0..10 {
        transcript.page(1);
        show(&transcript);
    }
    let end = show(&transcript);
    assert!(!end.contains('↓') && end.contains("alice\n  more"), "{end}");
    assert!(transcript.last_answer().unwrap().ends_with("e\u{301}legant."));
    let plain = transcript.plain("alice", "hydra");
    assert!(plain.contains("alice: What is Python?\n") && plain.contains("[0.5 HYD"), "{plain}");
    assert!(plain.contains("\n* the coordinator is lost"), "{plain}");
}

#[test]
fn a_transcript_stays_with_its_text_when_the_width_changes() {
    let names = ("alice", "hydra");
    let mut transcript = Transcript::default();
    let words: Vec<_> = (0..400).map(|n| format!("word{n:03}")).collect();
    for part in words.chunks(40) {
        transcript.push(Entry::new(Who::Model, &part.join(" ")));
        transcript.set_foot("0.5 HYD · 31 tokens/s · version 12");
    }
    let first = |transcript: &Transcript, width| {
        let shown = text(width, 8, |buffer, area| transcript.draw(buffer, area, Theme::plain(), names, false));
        shown.lines().next().unwrap_or_default().trim().to_owned()
    };
    first(&transcript, 60);
    transcript.to_top();
    for rows in [5, 6, 8, 9, 1] {
        transcript.scroll(rows);
        let before = first(&transcript, 60);
        let word = before.split(' ').next().unwrap_or_default().to_owned();
        for width in [30, 120, 59, 58, 57, 200] {
            let there = first(&transcript, width);
            assert!(there.contains(&word), "{width}: {before:?}, {there:?}");
        }
        assert_eq!(first(&transcript, 60), before, "and back");
        transcript.to_top();
        first(&transcript, 60);
    }
}

#[test]
fn a_transcript_that_a_larger_window_shows_to_its_end_sticks_there() {
    let mut transcript = Transcript::default();
    for number in 0..20 {
        transcript.push(Entry::new(Who::Note(Sign::Info), &format!("note {number}.")));
    }
    let show = |transcript: &Transcript, height| {
        text(24, height, |buffer, area| transcript.draw(buffer, area, Theme::plain(), ("alice", "hydra"), false))
    };
    let scrolled = |transcript: &mut Transcript| {
        show(transcript, 8);
        transcript.to_end();
        transcript.scroll(-4);
        assert!(show(transcript, 8).contains('↓'));
    };
    // What was the top lies below the larger window's: a row back is a row back of what it shows.
    scrolled(&mut transcript);
    let large = show(&transcript, 24);
    transcript.scroll(-1);
    assert_ne!(show(&transcript, 24), large);
    scrolled(&mut transcript);
    show(&transcript, 24);
    for number in 20..40 {
        transcript.push(Entry::new(Who::Note(Sign::Info), &format!("note {number}.")));
    }
    assert!(show(&transcript, 24).contains("note 39."));
}

#[test]
fn a_header_leaves_out_what_it_could_only_begin() {
    let theme = Theme::plain();
    let left = [("HydraAI worker", 0, theme.title()), ("ws://lab:5000/ws", 2, theme.dim())];
    let show = |width| text(width, 1, |buffer, area| panel::header(buffer, area, ("10.0 HYD", theme.title()), &left));
    assert_eq!(show(30), "HydraAI worker        10.0 HYD\n");
    assert_eq!(show(40), "HydraAI worker  ws://lab:5000/… 10.0 HYD\n");
    assert_eq!(show(44), "HydraAI worker  ws://lab:5000/ws    10.0 HYD\n");
}

#[test]
fn a_full_transcript_drops_its_oldest() {
    let mut transcript = Transcript::default();
    for number in 0..2_100 {
        transcript.push(Entry::new(Who::You, &number.to_string()));
    }
    assert_eq!(transcript.entries().len(), 2_000);
    assert_eq!(transcript.entries()[0].text(), "100");
}

fn log_line(ring: &Ring, level: &str, words: &str) {
    // In one piece, as `tracing` writes an event.
    ring.clone()
        .write_all(format!("2025-01-31T12:34:56.789012Z {level:>5} hydra_worker: {words}\n").as_bytes())
        .unwrap();
}

#[test]
fn logs_filter_and_hold_still() {
    let ring = Ring::default();
    let mut pane = LogPane::default();
    let show = |pane: &LogPane, ring: &Ring| look(60, 4, |buffer, area| pane.draw(buffer, area, Theme::colour(), ring));
    insta::assert_snapshot!("log_empty", show(&pane, &ring));
    for number in 0..3 {
        log_line(&ring, "INFO", &format!("task {number}"));
        log_line(&ring, "DEBUG", "details");
    }
    log_line(&ring, "WARN", "connection lost\u{1b}[2J");
    ring.clone().write_all(b"a line of its own\n").unwrap();
    insta::assert_snapshot!("log_lines", show(&pane, &ring));
    pane.scroll(&ring, -4);
    let held = show(&pane, &ring);
    log_line(&ring, "ERROR", "one more");
    assert_eq!(show(&pane, &ring), held, "held lines do not move");
    assert!(!pane.follows());
    pane.scroll(&ring, 100);
    assert!(pane.follows() && show(&pane, &ring).contains("one more"));
    // The first page is full, and one line on is one line on.
    pane.scroll(&ring, i64::MIN);
    let first = show(&pane, &ring);
    assert!(first.contains("task 0") && first.contains("connection lost"), "{first}");
    pane.scroll(&ring, 1);
    assert!(!show(&pane, &ring).contains("task 0"), "{}", show(&pane, &ring));
    pane.level = Level::Error;
    assert!(!show(&pane, &ring).contains("WARN"));
    pane.scroll(&ring, i64::MIN);
    show(&pane, &ring);
    pane.scroll(&ring, i64::MIN);
    assert!(pane.follows(), "what fits whole does not scroll");
}

#[test]
fn a_filtered_log_scrolls_along_what_it_shows() {
    let (ring, mut pane) = (Ring::default(), LogPane::default());
    for number in 0..9 {
        log_line(&ring, "INFO", &format!("task {number}"));
        (0..20).for_each(|_| log_line(&ring, "DEBUG", "details"));
    }
    let tasks = |pane: &LogPane| {
        let shown = text(60, 3, |buffer, area| pane.draw(buffer, area, Theme::plain(), &ring));
        (0..9).filter(|number| shown.contains(&format!("task {number}"))).collect::<Vec<_>>()
    };
    assert_eq!(tasks(&pane), [6, 7, 8]);
    pane.scroll(&ring, -3);
    assert_eq!(tasks(&pane), [3, 4, 5]);
    pane.scroll(&ring, -1);
    assert_eq!(tasks(&pane), [2, 3, 4]);
    pane.scroll(&ring, -3);
    assert_eq!(tasks(&pane), [0, 1, 2], "the first page is full");
    pane.scroll(&ring, 5);
    assert_eq!((tasks(&pane), pane.follows()), (vec![5, 6, 7], false));
    pane.scroll(&ring, 1);
    assert_eq!((tasks(&pane), pane.follows()), (vec![6, 7, 8], true));
}

#[test]
fn levels_that_never_come_are_passed_over() {
    let (mut pane, all) = (LogPane::default(), Ring::default());
    let words = [(); 4].map(|()| pane.next_level(&all));
    assert_eq!(words[..3], ["log: DEBUG and above", "log: TRACE and above", "log: ERROR only"]);
    for (finest, want) in [("info", "log: ERROR only (for DEBUG: HYDRA_LOG=debug)"), ("debug", "log: DEBUG and above")]
    {
        let (mut pane, ring) = (LogPane::default(), Ring::with_finest(finest.parse().unwrap()));
        assert_eq!(pane.next_level(&ring), want);
    }
    for (finest, want) in [("warn", Level::Info), ("info", Level::Info), ("debug", Level::Debug)] {
        assert_eq!(
            LogPane::new(&Ring::with_finest(finest.parse().unwrap())).level,
            want,
            "what was asked for is shown"
        );
    }
}

#[test]
fn dialogs_and_toasts() {
    let draw = |buffer: &mut Buffer, area: Rect| {
        gauge::draw(buffer, area, Theme::plain(), 0.2, "behind");
        overlay::dialog(
            buffer,
            area,
            Theme::plain(),
            "Leave?",
            "A task is running. Finish it first, or leave at once and lose it.",
            "Enter finish · q leave · Esc stay",
        );
        let mut toasts = Toasts::default();
        toasts.push(Time(0), Sign::Good, "+1.0 HYD");
        toasts.push(Time(1), Sign::Bad, "not paid: the update came too late\n");
        toasts.draw(buffer, area, Theme::plain());
    };
    for (width, height) in [(80, 12), (40, 12), (30, 6), (12, 3)] {
        insta::assert_snapshot!(format!("dialog_{width}x{height}"), text(width, height, draw));
    }
    let mut toasts = Toasts::default();
    toasts.push(Time(5), Sign::Info, "x");
    assert_eq!(toasts.wake_at(), Some(Time(4_000_005)));
    toasts.expire(Time(4_000_005));
    assert_eq!(toasts.wake_at(), None);
}

#[test]
fn a_newer_toast_takes_the_place_of_one_about_the_same() {
    let mut toasts = Toasts::default();
    toasts.push(Time(0), Sign::Good, "+1.0 HYD");
    toasts.renew(Time(1), "level", Sign::Info, "log: DEBUG");
    toasts.renew(Time(2), "queue", Sign::Info, "9 tasks");
    toasts.renew(Time(3), "level", Sign::Info, "log: TRACE");
    let shown = text(40, 4, |buffer, area| toasts.draw(buffer, area, Theme::plain()));
    assert_eq!(shown.trim(), "✓ +1.0 HYD  • 9 tasks  • log: TRACE");
    assert!(!shown.contains("log: DEBUG"), "{shown}");
    // Where they do not all fit into the one row, the newest do.
    let shown = text(30, 4, |buffer, area| toasts.draw(buffer, area, Theme::plain()));
    assert_eq!(shown.trim(), "• 9 tasks  • log: TRACE");
    // Where there is no border, nothing of the row stays beside them.
    let shown = |draw: fn(&Toasts, &mut Buffer, Rect, Theme)| {
        text(30, 4, |buffer, area| {
            buffer.set_string(area.x, area.bottom() - 1, "n".repeat(30), Style::new());
            draw(&toasts, buffer, area, Theme::plain());
        })
    };
    assert_eq!(shown(Toasts::draw).trim(), "nnnnn • 9 tasks  • log: TRACE");
    assert_eq!(shown(Toasts::draw_alone).trim(), "• 9 tasks  • log: TRACE");
}

#[test]
fn a_toast_that_nobody_asked_for_stays_longer() {
    let mut toasts = Toasts::default();
    toasts.push_long(Time(0), Sign::Warn, "by itself");
    toasts.push(Time(0), Sign::Good, "+1.0 HYD");
    assert_eq!(toasts.wake_at(), Some(Time(4_000_000)));
    toasts.expire(Time(4_000_000));
    let shown = text(40, 4, |buffer, area| toasts.draw(buffer, area, Theme::plain()));
    assert!(shown.contains("by itself") && !shown.contains("HYD"), "{shown}");
}

#[test]
fn logs_show_lines_with_some_words_and_wrap_long_ones() {
    let (ring, mut pane) = (Ring::default(), LogPane::default());
    for number in 0..9 {
        log_line(&ring, "INFO", &format!("task {number} was accepted and paid to user=alice for her work, amount=1.0"));
        log_line(&ring, "WARN", "connection lost");
    }
    let show = |pane: &LogPane| text(40, 4, |buffer, area| pane.draw(buffer, area, Theme::plain(), &ring));
    pane.filter = "Task 7".to_owned();
    assert!(show(&pane).contains("task 7") && !show(&pane).contains("lost"), "{}", show(&pane));
    assert!(pane.title().contains("with “Task 7”"), "{}", pane.title());
    assert!(!show(&pane).contains("amount=1.0"), "{}", show(&pane));
    pane.toggle_wrap(&ring);
    assert!(show(&pane).contains("amount=1.0"), "{}", show(&pane));
    pane.filter = "nobody".to_owned();
    assert!(show(&pane).contains("no line at INFO or above has these words"), "{}", show(&pane));
    // Also where lines take several rows the oldest can be reached, and the newest again.
    pane.filter.clear();
    pane.scroll(&ring, i64::MIN);
    assert!(show(&pane).contains("INFO  hydra_worker: task 0"), "its first row: {}", show(&pane));
    // Whichever way lines are shown, the uppermost stays.
    for _ in 0..2 {
        pane.toggle_wrap(&ring);
        assert!(show(&pane).contains("INFO  hydra_worker: task 0"), "{}", show(&pane));
    }
    // Words need not stand side by side.
    pane.filter = "paid accepted 7".to_owned();
    assert!(show(&pane).contains("task 7"), "{}", show(&pane));
    pane.filter.clear();
    pane.scroll(&ring, i64::MAX);
    assert!(pane.follows() && show(&pane).contains("WARN"), "{}", show(&pane));
}

#[test]
fn help_is_scrolled_as_far_as_there_is_more() {
    const TABLE: &[Binding<u8>] =
        &[Binding::new("a", 1, "one"), Binding::new("b", 1, "two"), Binding::new("c", 1, "three")];
    let mut scroll = help::Scroll::default();
    let mut after = |lines| {
        scroll.by(lines);
        let shown = text(30, 4, |buffer, area| help::draw(buffer, area, Theme::plain(), TABLE, &scroll));
        ["one", "two", "three"].map(|words| shown.contains(words))
    };
    assert_eq!(after(0), [true, true, false]);
    assert_eq!(after(isize::MAX), [false, true, true]);
    assert_eq!(after(50), [false, true, true]);
    assert_eq!(after(-1), [true, true, false], "the first step back is seen");
    assert_eq!(after(isize::MIN), [true, true, false]);
}

#[test]
fn long_help_is_wrapped_where_it_is_narrow() {
    const TABLE: &[Binding<u8>] = &[Binding::new("q", 1, "finish what is under way, then stop, and say so")];
    let shown = text(30, 8, |buffer, area| help::draw(buffer, area, Theme::plain(), TABLE, &help::Scroll::default()));
    assert!(shown.contains("finish") && shown.contains("say so") && !shown.contains('…'), "{shown}");
}

#[test]
fn pages_of_a_log_leave_no_line_out() {
    let (ring, mut pane) = (Ring::default(), LogPane::default());
    for number in 0..40 {
        log_line(&ring, "INFO", &format!("n{number:02} {}", "and more of it ".repeat(1 + number % 4)));
    }
    let show = |pane: &LogPane| text(40, 7, |buffer, area| pane.draw(buffer, area, Theme::plain(), &ring));
    for _ in ["wrapped", "cut"] {
        pane.toggle_wrap(&ring);
        for on in [false, true] {
            let mut pages = vec![show(&pane)];
            for _ in 0..40 {
                pane.page(&ring, on);
                pages.push(show(&pane));
            }
            for number in 0..40 {
                let begun = format!("n{number:02}");
                assert!(pages.iter().any(|page| page.contains(&begun)), "{begun} is on no page: {pages:#?}");
            }
        }
        assert!(pane.follows());
    }
}
