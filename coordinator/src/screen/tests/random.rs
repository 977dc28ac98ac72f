//! Random keys, sizes and remote text never panic, never emit a control character, never draw outside.

use proptest::prelude::*;

use super::*;

/// Text as a hostile worker or model might send it.
fn remote() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(any::<char>(), 0..60).prop_map(|text| text.into_iter().collect()),
        "(\\x1b\\[[0-9;]{0,4}[a-zA-Z]|\\x1b\\]0;[a-z]{0,5}\\x07|word |\\n){0,12}",
        "[\u{5d0}-\u{5ea}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{200b}e\u{301}👩東 ]{0,40}",
        Just("東x".repeat(5_000)),
    ]
}

fn state() -> impl Strategy<Value = WorkerState> {
    (any::<u64>(), any::<u32>(), any::<u32>(), 0usize..6).prop_map(|(number, step, steps, which)| {
        let (task, version, deadline) = (TaskId(number), VersionNo(number), Time(number));
        [
            WorkerState::Training { task, version, step, steps, deadline },
            WorkerState::Sending(task),
            WorkerState::Free(deadline),
            WorkerState::Waiting,
            WorkerState::Barred(deadline),
            WorkerState::Resting,
        ][which]
    })
}

fn any_row() -> impl Strategy<Value = Row> {
    (state(), remote(), any::<f32>(), any::<f64>(), any::<u64>(), 0u64..40).prop_map(
        |(state, device, loss, speed, number, session)| {
            let mut row = worker(session, "mallory", state);
            row.worker.device = device.into();
            (row.worker.loss, row.worker.tokens_per_s) = (Some(loss), Some(speed));
            (row.worker.accepted, row.worker.refused) = (number, number);
            (row.worker.earned, row.worker.since) = (Credits(number), Time(number));
            row.latency = Some(Duration::from_micros(number));
            row
        },
    )
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let round = (any::<usize>(), any::<usize>(), any::<bool>(), any::<Option<u64>>(), any::<Option<u64>>());
    (proptest::collection::vec(any_row(), 0..12), round, remote(), any::<u64>()).prop_map(
        |(mut rows, (accepted, needed, merging, enough, closes), memo, number)| {
            rows.sort_by_key(|row| row.worker.session);
            rows.dedup_by_key(|row| row.worker.session);
            let mut told = snapshot(rows);
            let opened = Time(number);
            let (enough, closes) = (enough.map(Time), closes.map(Time));
            told.view.round =
                RoundView { accepted, needed, merging, enough, closes, opened, late: needed, ..told.view.round };
            (told.view.at, told.view.status.tokens, told.view.queue) = (Time(number), number, number as usize);
            (told.up, told.down) = (number / 2, number / 2);
            let hostile = TransferView { memo, at_ms: number, amount: Credits(number), ..(*transfer(99)).clone() };
            told.view.ledger.newest.insert(0, Arc::new(hostile));
            (told.view.ledger.issued, told.view.ledger.held) = (Credits(number), Credits(number));
            told
        },
    )
}

fn any_msg() -> impl Strategy<Value = Msg> {
    prop_oneof![
        3 => any_snapshot().prop_map(|snapshot| Msg::Snapshot(Box::new(snapshot))),
        1 => (any::<u64>(), any::<f64>(), any::<f64>()).prop_map(|(version, loss, bits_per_byte)| {
            Msg::Scored(Point { version: VersionNo(version), loss, bits_per_byte, updates: None })
        }),
        2 => (remote(), any::<f64>(), any::<u64>()).prop_map(|(text, loss, number)| {
            Msg::Sample(Sample { version: VersionNo(number), loss, text, at_ms: number })
        }),
        1 => any::<u64>().prop_map(|number| {
            Msg::Saving(Saving::Closing { version: VersionNo(number), updates: number as usize })
        }),
    ]
}

const KEYS: [&str; 16] = [
    "<enter>",
    "<esc>",
    "<tab>",
    "<shift-tab>",
    "<up>",
    "<down>",
    "<pageup>",
    "<pagedown>",
    "<home>",
    "<end>",
    "K",
    "/",
    "?",
    "<backspace>",
    "<space>",
    "ctrl-w",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_it(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec(any_msg(), 0..3),
                "[12345pso+lrw]{0,3}",
                proptest::collection::vec(proptest::sample::select(&KEYS[..]), 0..4),
                (0u16..300, 0u16..80),
                (0u16..80, 0u16..24, -2i32..3),
                remote(),
            ),
            1..10,
        ),
    ) {
        let mut script = open((80, 24));
        for (msgs, letters, keys, size, (x, y, turns), pasted) in steps {
            for msg in msgs {
                script.msg(msg);
            }
            script.text(&letters).resize(size);
            for key in keys {
                script.keys(key);
            }
            script.click(x, y).wheel(x, y, turns).paste(&pasted);
            script.advance(Duration::from_millis(1_700));
            // Fails on control characters; ratatui fails on drawing outside.
            script.screen();
        }
    }
}
