//! Typing, killing, history and the cursor.

use proptest::prelude::*;

use super::*;
use crate::ui::keys::Key;

fn press(composer: &mut Composer, keys: &str) {
    for key in keys.split_whitespace() {
        if let Some(edit) = edit(&key.parse::<Key>().unwrap().event()) {
            composer.apply(edit);
        }
    }
}

fn shown(composer: &Composer) -> String {
    let (before, after) = composer.text().split_at(composer.cursor());
    format!("{before}|{after}")
}

#[test]
fn editing_moves_by_graphemes_and_words() {
    let mut composer = Composer::default();
    composer.set("one two e\u{301}東");
    press(&mut composer, "left left");
    assert_eq!(shown(&composer), "one two |e\u{301}東");
    press(&mut composer, "delete backspace");
    assert_eq!(shown(&composer), "one two|東");
    press(&mut composer, "ctrl-w");
    assert_eq!(shown(&composer), "one |東");
    press(&mut composer, "ctrl-e ctrl-y ctrl-a ctrl-right");
    assert_eq!(shown(&composer), "one| 東two");
    press(&mut composer, "ctrl-k ctrl-u");
    assert_eq!(shown(&composer), "|");
}

#[test]
fn lines_and_history() {
    let mut composer = Composer::default();
    composer.set("first");
    assert_eq!(composer.take(), "first");
    composer.set("second");
    composer.take();
    composer.set("  ");
    composer.take();
    press(&mut composer, "d r a f t up");
    assert_eq!(shown(&composer), "second|");
    press(&mut composer, "up up");
    assert_eq!(shown(&composer), "first|");
    press(&mut composer, "down down down");
    assert_eq!(shown(&composer), "draft|");
    press(&mut composer, "alt-enter x up");
    assert_eq!(shown(&composer), "d|raft\nx");
    press(&mut composer, "down ctrl-j");
    assert_eq!(shown(&composer), "draft\nx\n|");
}

#[test]
fn a_draft_outlives_the_message_that_was_recalled_in_its_place() {
    let mut composer = Composer::default();
    composer.set("first");
    composer.take();
    press(&mut composer, "d r a f t up");
    assert_eq!(composer.take(), "first");
    press(&mut composer, "up");
    assert_eq!(shown(&composer), "first|");
    press(&mut composer, "up");
    assert_eq!(shown(&composer), "draft|");
}

#[test]
fn a_recalled_message_that_was_changed_is_not_lost() {
    let mut composer = Composer::default();
    for text in ["first", "second"] {
        composer.set(text);
        composer.take();
    }
    press(&mut composer, "d up ! up");
    assert_eq!(shown(&composer), "first|");
    press(&mut composer, "down");
    assert_eq!(shown(&composer), "second!|");
    press(&mut composer, "down");
    assert_eq!(shown(&composer), "d|");
    press(&mut composer, "up up up");
    assert_eq!(composer.take(), "first");
    let mut kept = Vec::new();
    for _ in 0..5 {
        press(&mut composer, "up");
        kept.push(composer.text().to_owned());
    }
    assert_eq!(kept, ["first", "d", "second!", "second", "first"]);
}

#[test]
fn up_and_down_go_by_the_lines_that_are_shown() {
    let mut composer = Composer::default();
    composer.set("old");
    composer.take();
    composer.set("one two three four abcdefghijklmnop");
    composer.draw(&mut Buffer::empty(Rect::new(0, 0, 12, 6)), Rect::new(0, 0, 12, 6), Theme::plain(), "");
    let mut seen = Vec::new();
    for keys in ["up", "up", "up", "home", "down", "ctrl-e", "up"] {
        press(&mut composer, keys);
        seen.push(shown(&composer));
    }
    assert_eq!(
        seen,
        [
            "one two three four abcdef|ghijklmnop",
            "one two three |four abcdefghijklmnop",
            "one tw|o three four abcdefghijklmnop",
            "|one two three four abcdefghijklmnop",
            "one two |three four abcdefghijklmnop",
            "one two three four abcdefghijklmnop|",
            "one two three four abcdef|ghijklmnop",
        ]
    );
    press(&mut composer, "ctrl-a up");
    assert_eq!(shown(&composer), "old|");
    press(&mut composer, "down");
    assert_eq!(composer.text(), "one two three four abcdefghijklmnop");
}

#[test]
fn a_paste_is_cleaned_and_bounded() {
    let mut composer = Composer::default();
    composer.apply(Edit::Insert("a\u{1b}[2J\r\nb\rc\r\r\n\u{200b}".to_owned()));
    assert_eq!(composer.text(), "a␛[2J\nb\nc\n\n");
    composer.apply(Edit::Insert("é".repeat(LONGEST)));
    assert!(composer.text().len() <= LONGEST);
}

#[test]
fn what_has_no_room_is_told_by_what_would_be_inserted() {
    let left_out = |composer: &mut Composer, edit| {
        composer.apply(edit);
        composer.left_out()
    };
    let mut composer = Composer::default();
    // A tab becomes four blanks: short enough as it is pasted, too long as it is kept.
    assert!(left_out(&mut composer, Edit::Insert("\t".repeat(LONGEST / 2))));
    assert_eq!(composer.text().len(), LONGEST);
    assert!(left_out(&mut composer, Edit::Newline));
    assert!(!left_out(&mut composer, Edit::Backspace));
    assert!(!left_out(&mut composer, Edit::Newline));
    assert!(!left_out(&mut composer, Edit::Backspace));
    // And the other way: what is not kept needs no room.
    assert!(!left_out(&mut composer, Edit::Insert("\u{200b}\u{200b}".to_owned())));
    assert!(!left_out(&mut composer, Edit::KillToStart));
    assert!(!left_out(&mut composer, Edit::Yank));
    assert!(left_out(&mut composer, Edit::Yank));
}

#[test]
fn marks_that_are_typed_one_by_one_stay_with_their_letters() {
    for word in ["น้ำ", "हिन्दी", "தமிழ்", "e\u{301}", "שָׁלוֹם", "👍🏽"] {
        let mut composer = Composer::default();
        composer.apply(Edit::Insert(word.to_owned()));
        let pasted = composer.take();
        for c in word.chars() {
            composer.apply(Edit::Insert(c.to_string()));
        }
        assert_eq!((composer.text(), pasted.as_str()), (word, word));
    }
    // As many as may be, and none without a letter.
    let mut composer = Composer::default();
    for c in format!("\u{301}e{}", "\u{301}".repeat(50)).chars() {
        composer.apply(Edit::Insert(c.to_string()));
    }
    assert_eq!(composer.text(), text::clean(&format!("e{}", "\u{301}".repeat(50))));
}

#[test]
fn arrows_show_that_there_is_more() {
    let signs = |composer: &Composer| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 3));
        composer.draw(&mut buffer, Rect::new(0, 0, 10, 3), Theme::plain(), "");
        (0..3).map(|y| buffer[(0, y)].symbol().to_owned()).collect::<String>()
    };
    let mut composer = Composer::default();
    composer.set("1\n2\n3");
    assert_eq!(signs(&composer), "›  ");
    composer.set("1\n2\n3\n4\n5");
    assert_eq!(signs(&composer), "↑  ");
    composer.apply(Edit::Up);
    assert_eq!(signs(&composer), "↑ ↓");
    (0..3).for_each(|_| composer.apply(Edit::Up));
    assert_eq!(signs(&composer), "› ↓");
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        proptest::collection::vec(any::<char>(), 0..4).prop_map(|text| Edit::Insert(text.into_iter().collect())),
        "[a東e\u{301}👩 \n]{0,4}".prop_map(Edit::Insert),
        proptest::sample::select(vec![
            Edit::Newline,
            Edit::Backspace,
            Edit::Delete,
            Edit::KillWord,
            Edit::KillToEnd,
            Edit::KillToStart,
            Edit::Yank,
            Edit::Left,
            Edit::Right,
            Edit::WordLeft,
            Edit::WordRight,
            Edit::Home,
            Edit::End,
            Edit::Up,
            Edit::Down,
        ]),
    ]
}

proptest! {
    #[test]
    fn any_edits_keep_cursor_and_screen_sound(
        edits in proptest::collection::vec(edits(), 0..60), width in 0u16..40, height in 0u16..8,
    ) {
        let mut composer = Composer::default();
        for edit in edits {
            composer.apply(edit);
            let edges = composer.text().grapheme_indices(true).map(|(at, _)| at);
            prop_assert!(edges.chain([composer.text().len()]).any(|at| at == composer.cursor()));
        }
        let mut cursor = None;
        crate::ui::testkit::draw_within(width, height, |buffer, area| {
            cursor = composer.draw(buffer, area, Theme::plain(), "say something");
            if let Some(cursor) = cursor {
                assert!(area.contains(cursor), "{cursor} outside {area}");
            }
        });
        prop_assert_eq!(cursor.is_some(), width >= 3 && height > 0);
    }
}
