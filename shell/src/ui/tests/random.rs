//! Any keys, sizes and remote text: no panic, no control character, nothing outside. `draw_within` and `Script` check
//! the latter two.

use std::io::Write as _;

use hydra_core::time::Time;
use proptest::prelude::*;
use ratatui::style::Style;

use crate::logs::Ring;
use crate::ui::keys::{self, Binding};
use crate::ui::log::LogPane;
use crate::ui::overlay::{self, Toasts};
use crate::ui::spark::Spark;
use crate::ui::table::{Column, Table, Width};
use crate::ui::testkit::draw_within;
use crate::ui::theme::{Sign, Theme};
use crate::ui::transcript::{Entry, Transcript, Who};
use crate::ui::{gauge, help, tabs, text};

/// Text as a hostile or merely foreign peer might send it.
fn remote() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,60}",
        proptest::collection::vec(any::<char>(), 0..80).prop_map(|text| text.into_iter().collect()),
        "[\\x00-\\x1f\\x7f-\\u{9f}a-z]{0,40}",
        "(\\x1b\\[[0-9;]{0,4}[a-zA-Z]|\\x1b\\]0;[a-z]{0,5}\\x07|word ){0,12}",
        "[\u{5d0}-\u{5ea}\u{627}-\u{64a}\u{202a}-\u{202e}\u{2066}-\u{2069} ]{0,40}",
        "[e\u{301}\u{308}\u{200b}\u{200d}\u{fe0f}\u{feff}👩👧🏽🇩🇪東ﾞ\u{ad} ]{0,40}",
        Just("x".repeat(10_000)),
        Just("東".repeat(5_000)),
        Just("e".to_owned() + &"\u{301}".repeat(5_000)),
    ]
}

fn size() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![(0u16..300, 0u16..80), (0u16..12, 0u16..6)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn transcripts(
        entries in proptest::collection::vec((remote(), remote(), 0..3u8), 0..8),
        moves in proptest::collection::vec((any::<i8>(), size()), 1..6),
    ) {
        let mut transcript = Transcript::default();
        for (text, foot, who) in entries {
            let who = [Who::You, Who::Model, Who::Note(Sign::Bad)][usize::from(who)];
            transcript.push(Entry::new(who, &text));
            transcript.append(&foot);
            transcript.set_foot(&foot);
        }
        for (by, (width, height)) in moves {
            transcript.scroll(isize::from(by));
            draw_within(width, height, |buffer, area| {
                transcript.draw(buffer, area, Theme::colour(), ("alice", "hydra"), by > 0);
            });
        }
    }

    #[test]
    fn tables(
        cells in proptest::collection::vec(remote(), 0..60), filter in "[a-z]{0,1}", sort in 0usize..4,
        moves in proptest::collection::vec((any::<i8>(), size()), 1..6),
    ) {
        let mut table: Table<String> = Table::new(vec![
            Column::words("user", Width::AtLeast(6), 0),
            Column::number("loss", 7, 2),
            Column::words("what", Width::AtLeast(0), 1),
        ]);
        table.set_filter(filter);
        table.sort_by(sort);
        table.arrange(&cells, Clone::clone, |a, b, _| a.cmp(b), |cell, words| cell.contains(words));
        for (by, (width, height)) in moves {
            table.step(&cells, Clone::clone, isize::from(by));
            draw_within(width, height, |buffer, area| {
                table.draw(buffer, area, Theme::colour(), &cells, |cell, _| (cell.clone(), Style::new()));
                for position in area.positions() {
                    if let Some(place) = table.at((position.x, position.y)) {
                        assert!(place < table.shown());
                    }
                    table.heading_at((position.x, position.y));
                }
            });
        }
    }

    #[test]
    fn lines_and_overlays(words in remote(), more in remote(), ratio in any::<f64>(), (width, height) in size()) {
        draw_within(width, height, |buffer, area| gauge::draw(buffer, area, Theme::colour(), ratio, &words));
        draw_within(width, height, |buffer, area| {
            tabs::draw(buffer, area, Theme::colour(), &[&words, &more, "x"], 1);
            for x in 0..area.right() + 2 {
                tabs::at(area, &[&words, &more, "x"], 1, (x, area.y));
            }
        });
        draw_within(width, height, |buffer, area| {
            text::put(buffer, area, (area.x, area.y), &words, area.width, Style::new());
            overlay::dialog(buffer, area, Theme::colour(), "Title", &words, &text::clean(&more));
            let mut toasts = Toasts::default();
            toasts.push(Time(0), Sign::Good, words.clone());
            toasts.push(Time(0), Sign::Good, more.clone());
            toasts.draw(buffer, area, Theme::colour());
        });
        let ring = Ring::default();
        let lines = format!("{words}\n{more}\n2025-01-31T12:34:56.789Z  INFO {words}\n");
        ring.clone().write_all(lines.as_bytes()).unwrap();
        draw_within(width, height, |buffer, area| {
            let mut pane = LogPane::default();
            if ratio > 0.5 {
                pane.toggle_wrap(&ring);
            }
            pane.scroll(&ring, -1);
            pane.draw(buffer, area, Theme::colour(), &ring);
        });
        let mut spark = Spark::new(9);
        spark.push(ratio);
        prop_assert_eq!(text::width(&spark.bars(usize::from(width))), usize::from(width));
    }

    #[test]
    fn help_fits_everywhere(lines in any::<isize>(), (width, height) in size()) {
        const TABLE: &[Binding<u8>] = &[
            Binding::new("q ctrl-c", 1, "quit").group("Program").hint("quit"),
            Binding::new("up k", 2, "up").group("Table"),
            Binding::new("minus less", 3, "fewer threads"),
        ];
        let mut scroll = help::Scroll::default();
        scroll.by(lines);
        draw_within(width, height, |buffer, area| help::draw(buffer, area, Theme::colour(), TABLE, &scroll));
        prop_assert!(keys::hints(TABLE, Theme::colour(), width).width() <= usize::from(width));
    }
}
