//! What people asked of the screen after they had sat with it.

use super::*;

/// One more machine of a user's.
fn another(number: u64, user: &str) -> Row {
    worker(number, user, WorkerState::Free(Time(55_000_000)))
}

#[test]
fn the_footer_says_what_keys_do_now() {
    let mut script = running((80, 24));
    let footer = |script: &Script<Screen>| script.screen().lines().last().unwrap().to_owned();
    assert!(footer(&script).contains("p pause"), "{}", footer(&script));
    script.keys("p");
    assert!(footer(&script).contains("p go on"), "{}", footer(&script));
    script.keys("2");
    assert!(footer(&script).contains("Enter hide detail") && footer(&script).contains("K kick"), "{}", footer(&script));
    script.keys("<enter>");
    assert!(footer(&script).contains("Enter detail"), "{}", footer(&script));
    script.keys("5");
    assert!(footer(&script).contains("w wrap") && footer(&script).contains("Esc newest"), "{}", footer(&script));
    script.keys("w /").text("alice").keys("<enter>");
    assert!(footer(&script).contains("w cut") && footer(&script).contains("Esc no filter"), "{}", footer(&script));
    let mut script = open((80, 24));
    script.keys("2 <enter>");
    assert!(!footer(&script).contains("Enter"), "nobody is chosen: {}", footer(&script));
    tell(&mut script, snapshot(workers()));
    assert!(footer(&script).contains("Enter hide detail"), "{}", footer(&script));
}

#[test]
fn goals_stand_beside_what_was_trained() {
    let goal = |stop: StopAt, size: (u16, u16)| {
        let mut script = Script::new(Screen::new(Facts { stop, ..facts() }, History::default()), size);
        tell(&mut script, snapshot(workers()));
        script.screen()
    };
    for size in SIZES {
        let seen = goal(StopAt { after_tasks: Some(50), ..StopAt::default() }, size);
        assert!(seen.contains("40 of 50 tasks"), "{seen}");
    }
    let tokens = goal(StopAt { after_tokens: Some(1_000_000), ..StopAt::default() }, (80, 24));
    assert!(tokens.contains("655,360 of 1.0M tokens"), "{tokens}");
    let rounds = goal(StopAt { after_rounds: Some(20), ..StopAt::default() }, (80, 24));
    assert!(rounds.contains("12 of 20 rounds"), "{rounds}");
    let loss = goal(StopAt { at_loss: Some(2.0), ..StopAt::default() }, (80, 24));
    assert!(loss.contains("until loss 2.000"), "{loss}");
}

#[test]
fn each_fact_of_a_worker_has_one_place() {
    for size in [(80, 24), (120, 40)] {
        let mut script = running(size);
        script.keys("2");
        let place = |script: &Script<Screen>, name: &str| {
            let screen = script.screen();
            let line = screen.lines().position(|line| line.contains(name)).unwrap();
            let column = screen.lines().nth(line).unwrap().split(name).next().unwrap().chars().count();
            (line, column)
        };
        let names = ["here for ", "worker   0"];
        let training = names.map(|name| place(&script, name));
        assert!(script.screen().contains("step 1/8 · lease ends in 30s"), "{}", script.screen());
        script.keys("down down");
        assert_eq!(names.map(|name| place(&script, name)), training, "{}", script.screen());
        assert!(script.screen().contains("worker   0303030303030303"), "{}", script.screen());
    }
}

#[test]
fn the_order_is_named_also_where_its_column_is_hidden() {
    let mut script = running((80, 24));
    script.keys("2 o o");
    assert!(script.screen().contains("tokens/s▲") && script.screen().contains("by tokens/s ▲"), "{}", script.screen());
    script.keys("o o o");
    assert!(script.screen().contains("paid/not▲"), "{}", script.screen());
    script.keys("o o o");
    assert!(script.screen().contains("user▲"), "what has no room is passed over: {}", script.screen());
    assert!(script.resize((200, 55)).screen().contains("device"), "{}", script.screen());
    script.keys("o o o o o o o o r").resize((80, 24));
    assert!(script.screen().contains("by device ▼"), "{}", script.screen());
    script.resize((40, 12)).keys("r");
    assert!(script.screen().contains("by device ▲"), "{}", script.screen());
}

#[test]
fn who_has_done_every_step_is_finishing() {
    let mut script = running((80, 24));
    let mut rows = workers();
    let WorkerState::Training { step, .. } = &mut rows[1].worker.state else { unreachable!("bob trains") };
    *step = 7;
    tell(&mut script, snapshot(rows.clone()));
    script.keys("2");
    assert!(script.screen().contains("bob        ▶ training 87%"), "{}", script.screen());
    let WorkerState::Training { step, steps, .. } = &mut rows[1].worker.state else { unreachable!("bob trains") };
    *step = *steps;
    tell(&mut script, snapshot(rows));
    assert!(script.screen().contains("bob        ▶ finishing"), "{}", script.screen());
    for words in ["finishing", "training"] {
        script.keys("/").text(words).keys("<enter>");
        assert!(script.screen().contains("bob  "), "{}", script.screen());
        script.keys("<esc>");
    }
}

#[test]
fn only_who_trains_has_a_speed() {
    let mut script = running((80, 24));
    let mut rows = workers();
    rows[5].worker.tokens_per_s = Some(13_500.0);
    tell(&mut script, snapshot(rows));
    script.keys("2");
    assert!(!script.screen().contains("13.5k"), "{}", script.screen());
}

#[test]
fn workers_of_one_user_are_told_apart() {
    let mut script = running((80, 24));
    let mut rows = workers();
    rows.push(another(8, "alice"));
    tell(&mut script, snapshot(rows));
    script.keys("2");
    let seen = script.screen();
    assert!(seen.contains("│ alice 0101 ") && seen.contains("│ alice 0808 ") && seen.contains("│ bob  "), "{seen}");
    script.keys("/").text("e 0808").keys("<enter>");
    let seen = script.screen();
    assert!(seen.contains("│ alice 0808 ") && !seen.contains("alice 0101"), "{seen}");
    script.keys("<esc> home K");
    assert!(script.screen().contains("Kick alice 0101?"), "{}", script.screen());
    script.keys("<enter>");
    assert!(script.screen().contains("• alice 0101 is kicked"), "{}", script.screen());
}

#[test]
fn a_lost_worker_is_told_of_unless_all_go() {
    let mut script = running((80, 24));
    let lost = || Msg::Lost { user: "alice".parse().unwrap(), worker: WorkerId([0xe7; 8]) };
    script.keys("2").msg(lost());
    assert!(script.screen().contains("• alice e7e7 is gone: connection lost ╯"), "{}", script.screen());
    tell(&mut script, snapshot(workers()));
    assert!(script.screen().contains("is gone"), "others are connected: {}", script.screen());
    let mut rows = workers();
    rows[0].worker.worker = WorkerId([0xe7; 8]);
    tell(&mut script, snapshot(rows));
    let seen = script.screen();
    assert!(seen.contains("• alice e7e7 is connected again") && !seen.contains("is gone"), "{seen}");
    let mut script = running((80, 24));
    script.keys("q y").msg(lost());
    assert!(!script.screen().contains("is gone"), "{}", script.screen());
}

#[test]
fn averages_say_over_what_they_are() {
    let mut script = running((80, 24));
    assert!(script.screen().contains("Traffic since start · last 30s"), "{}", script.screen());
    let mut later = snapshot(workers());
    later.view.at = Time(95_000_000);
    script.advance(Duration::from_secs(35));
    tell(&mut script, later);
    let seen = script.screen();
    assert!(seen.contains("tasks in the last minute") && !seen.contains("tok/s"), "{seen}");
    assert!(seen.contains("Traffic since start · last minute"), "{seen}");
}

#[test]
fn a_loss_that_grows_is_explained() {
    let worse = |script: &Script<Screen>| {
        let seen = script.screen();
        seen.contains("worse than before") || seen.contains("was 1.772")
    };
    for size in SIZES {
        let mut script = running(size);
        assert!(!worse(&script), "{}", script.screen());
        let point =
            |version, loss| Msg::Scored(Point { version: VersionNo(version), loss, bits_per_byte: 1.0, updates: None });
        script.msg(point(13, 1.772)).msg(point(14, 1.8));
        assert!(!worse(&script), "not by two in a hundred: {}", script.screen());
        script.msg(point(15, 2.861)).msg(point(16, 2.9));
        assert!(!worse(&script), "nor by one or two versions: {}", script.screen());
        script.msg(point(17, 2.95));
        let seen = script.screen();
        assert!(worse(&script) && seen.contains("1.772 at v13"), "{seen}");
        // Small screens have no room for reasons.
        assert!(size.0 < 80 || seen.contains("memorises its text"), "{seen}");
        let mut fewer = snapshot(workers());
        fewer.view.status.workers -= 1;
        tell(&mut script, fewer);
        let both = ["(begin a run with more)", "fewer"].iter().all(|words| script.screen().contains(words));
        assert!(size.0 < 80 || both, "{}", script.screen());
    }
}

#[test]
fn a_low_screen_gives_its_chart_room_beside_a_warning() {
    for height in 16..=24 {
        let mut script = running((80, height));
        for (version, loss) in [(13, 1.772), (14, 2.861), (15, 2.9), (16, 2.95)] {
            let (version, updates) = (VersionNo(version), None);
            script.msg(Msg::Scored(Point { version, loss, bits_per_byte: 1.0, updates }));
        }
        let seen = script.screen();
        assert!(seen.contains("memorises its text") || seen.contains("! loss 2.950, was 1.772 at v13"), "{seen}");
        assert!(seen.contains("loss 2.950") && seen.contains('┤'), "the chart says what its lines are: {seen}");
    }
}

#[test]
fn what_helps_a_model_that_was_better_before_this_start() {
    for (updates, told) in [(8, "(begin a run with more)"), (7, "most likely it memorises")] {
        let losses = [5.0, 4.0, 4.5, 4.5, 4.5];
        let points = losses.into_iter().zip(0..).map(|(loss, version)| Point {
            version: VersionNo(version),
            loss,
            bits_per_byte: 1.0,
            updates: Some(updates),
        });
        let history = History { points: points.collect(), ..History::default() };
        let mut script = Script::new(Screen::new(facts(), history), (120, 40));
        tell(&mut script, snapshot(workers()));
        assert!(script.screen().contains(told), "{}", script.screen());
    }
}

#[test]
fn the_log_beside_the_overview_has_its_keys() {
    let mut script = running((120, 40));
    script.keys("/").text("merged").keys("<enter>");
    assert!(script.screen().contains("with “merged”"), "{}", script.screen());
    script.keys("<esc> w");
    assert!(!script.screen().contains("with “") && script.app.log.wraps(), "{}", script.screen());
}

#[test]
fn the_loss_of_an_older_version_says_whose_it_is() {
    let mut script = running((80, 24));
    assert!(script.screen().contains(" v12 · loss 4.304\n"), "{}", script.screen());
    let mut next = snapshot(workers());
    next.view.status.version = VersionNo(13);
    tell(&mut script, next);
    assert!(script.screen().contains(" v13 · loss 4.304 of v12"), "{}", script.screen());
}

#[test]
fn the_log_is_filtered_and_wrapped() {
    let mut script = running((80, 24));
    let line = "2026-01-31T12:34:57.789Z  WARN run: an update was not accepted\n";
    script.app.facts.ring.clone().write_all(line.as_bytes()).unwrap();
    script.keys("5");
    assert!(!script.screen().contains("user=alice"), "{}", script.screen());
    script.keys("w");
    assert!(script.screen().contains("user=alice"), "{}", script.screen());
    script.keys("/").text("not accepted");
    let seen = script.screen();
    assert!(seen.contains("with “not accepted”") && !seen.contains("task=7"), "{seen}");
    script.keys("<enter> <esc>");
    assert!(script.screen().contains("task=7") && !script.screen().contains("with “"), "{}", script.screen());
    script.keys("2");
    assert!(script.screen().contains("Workers: 7 "), "the workers' filter is another");
}

#[test]
fn a_newer_notice_of_one_kind_replaces_the_older() {
    let mut script = running((80, 24));
    script.keys("5 l l l l");
    assert_eq!(script.screen().matches("log: ").count(), 1, "{}", script.screen());
    assert!(script.screen().contains("ERROR only"), "{}", script.screen());
    script.keys("1 p +");
    let seen = script.screen();
    assert!(seen.contains("9 tasks kept ready after the pause") && seen.contains("ready · paused"), "{seen}");
}

#[test]
fn a_worker_that_does_not_answer_is_not_shown_at_work() {
    for size in [(80, 24), (120, 40)] {
        let mut script = running(size);
        let mut rows = workers();
        rows[0].silent = Some(Duration::from_secs(12));
        tell(&mut script, snapshot(rows));
        script.keys("2");
        let seen = script.screen();
        let row = seen.lines().find(|line| line.starts_with("│ alice ")).unwrap();
        assert!(row.contains("? silent 12s") && !row.contains("1.0k"), "{row}");
        assert!(seen.contains("no answer for 12s") && seen.contains("– tokens/s"), "{seen}");
        script.keys("/").text("silent").keys("<enter>");
        assert!(script.screen().contains("Workers: 1 of"), "{}", script.screen());
        script.keys("/ <ctrl-u>").text("train").keys("<enter>");
        assert!(!script.screen().contains("silent 12s"), "{}", script.screen());
    }
}

#[test]
fn the_help_scrolls_alike_over_every_page() {
    let texts = ["1", "2", "3", "4", "5"].map(|page| {
        let mut script = running((80, 24));
        let mut inside = |keys| {
            script.keys(keys);
            let lines: Vec<String> =
                script.screen().lines().map(|line| line.chars().skip(4).take(70).collect()).collect();
            lines[2..22].join("\n")
        };
        inside(page);
        ["? end", "home pagedown", "down down pageup"].map(inside)
    });
    assert!(texts[0][0].contains("to the last") && !texts[0][1].contains("to the last"), "{texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn esc_on_a_small_screen_brings_the_table_back_and_then_its_rows() {
    let mut script = running((40, 12));
    script.keys("2 /").text("alice").keys("<enter> <enter>");
    assert!(script.screen().contains("Esc table"), "{}", script.screen());
    script.keys("<esc>");
    assert!(script.screen().contains("Esc no filter") && !script.screen().contains("bob"), "{}", script.screen());
    script.keys("<esc>");
    assert!(script.screen().contains("bob"), "{}", script.screen());
    // Nothing is in full where no row is left.
    script.keys("<enter> /").text("zzz").keys("<enter> <esc>");
    assert!(script.app.workers.filter().is_empty());
}

#[test]
fn balances_without_room_are_told_of() {
    let mut script = running((80, 24));
    let mut many = snapshot(workers());
    let user = |n: u64| (format!("user{n:02}").parse().unwrap(), Credits::hyd(100 - n));
    (many.view.ledger.top, many.view.ledger.users) = ((0..50).map(user).collect(), 70);
    tell(&mut script, many);
    script.keys("3");
    let shown = script.screen();
    assert!(shown.contains("user04") && !shown.contains("user05") && shown.contains("65 more: hydra-coo"), "{shown}");
    assert!(shown.contains("Newest 30 of 60 transfers"), "{shown}");
}

#[test]
fn a_toast_leaves_no_half_words_where_the_overview_has_no_panels() {
    for size in [(80, 20), (100, 18), (40, 12)] {
        let mut script = running(size);
        script.keys("p");
        let shown = script.screen();
        let toast = shown.lines().find(|line| line.contains("no new tasks")).unwrap();
        assert!(!toast.contains("no query"), "{shown}");
    }
}
