//! Cuts the last tenth off each source, for measuring: text that the model is never trained on.
//!
//! Invariants: a pure function of the text; both parts together are the text, nothing lost or doubled; cuts lie between
//! characters, if possible between documents, paragraphs or lines.

use super::read::Source;

/// One part in this many is held out.
const PART: usize = 10;
/// A better place for the cut is looked for this far to both sides, at most, and within a twentieth of the text.
const SLACK: usize = 64 * 1024;

/// The training part and the held-out part of a source.
pub fn hold_out(source: &Source) -> (Vec<&str>, Vec<&str>) {
    let documents = &source.documents;
    let total: usize = documents.iter().map(String::len).sum();
    let target = total - total / PART;
    let slack = (total / (2 * PART)).min(SLACK);

    let between = documents
        .iter()
        .scan(0, |end, document| {
            *end += document.len();
            Some(*end)
        })
        .take(documents.len().saturating_sub(1))
        .enumerate()
        .filter(|(_, end)| end.abs_diff(target) <= slack)
        .min_by_key(|(last, end)| (end.abs_diff(target), *last));
    if let Some((last, _)) = between {
        let (train, held_out) = documents.split_at(last + 1);
        return (train.iter().map(String::as_str).collect(), held_out.iter().map(String::as_str).collect());
    }

    let mut train = Vec::new();
    let mut held_out = Vec::new();
    let mut start = 0;
    for document in documents {
        let (before, after) = document.split_at(match target.saturating_sub(start) {
            0 => 0,
            local if local >= document.len() => document.len(),
            local => cut_near(document, local, slack),
        });
        train.extend(Some(before).filter(|part| !part.is_empty()));
        held_out.extend(Some(after).filter(|part| !part.is_empty()));
        start += document.len();
    }
    (train, held_out)
}

/// The best place to cut `text` at most `slack` bytes from `target`: after an empty line, else after a line, else
/// between two characters.
fn cut_near(text: &str, target: usize, slack: usize) -> usize {
    let from = target.saturating_sub(slack).max(1);
    let to = (target + slack).min(text.len() - 1);
    let nearest = |mark: &[u8]| {
        (from..=to).filter(|at| text.as_bytes()[..*at].ends_with(mark)).min_by_key(|at| (at.abs_diff(target), *at))
    };
    nearest(b"\n\n").or_else(|| nearest(b"\n")).unwrap_or_else(|| text.floor_char_boundary(target))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(documents: &[&str]) -> Source {
        Source { name: "t".into(), origin: None, documents: documents.iter().map(|d| (*d).to_owned()).collect() }
    }

    #[test]
    fn the_cut_prefers_an_empty_line_then_a_line() {
        // 200 bytes: the target is 180 and the slack 10.
        let text = format!("{}\n\n{}\n{}", "a".repeat(170), "b".repeat(7), "c".repeat(20));
        let whole = source(&[&text]);
        let (train, held_out) = hold_out(&whole);
        assert_eq!((train[0].len(), held_out[0]), (172, format!("{}\n{}", "b".repeat(7), "c".repeat(20)).as_str()));

        let text = format!("{}\n{}", "a".repeat(175), "b".repeat(24));
        let whole = source(&[&text]);
        assert_eq!(hold_out(&whole).0[0].len(), 176);
    }

    #[test]
    fn a_wall_of_text_is_cut_between_characters() {
        let text = "é".repeat(101);
        let whole = source(&[&text]);
        let (train, held_out) = hold_out(&whole);
        assert_eq!((train[0].len(), held_out[0].len()), (182, 20));
    }

    #[test]
    fn documents_stay_whole_when_one_ends_near_the_target() {
        let long = "x".repeat(50);
        let whole = source(&[&long, &long[..38], &long[..12]]);
        let (train, held_out) = hold_out(&whole);
        assert_eq!((train.len(), held_out.len()), (2, 1));
        // One huge document after a tiny one: it has to be cut.
        let whole = source(&["tiny", &"line\n".repeat(100)]);
        let (train, held_out) = hold_out(&whole);
        assert_eq!((train.len(), held_out.len()), (2, 1));
        assert!(train[1].ends_with('\n'));
    }

    #[test]
    fn tiny_text_is_all_for_training() {
        assert_eq!(hold_out(&source(&["abc"])), (vec!["abc"], vec![]));
        assert_eq!(hold_out(&source(&[])), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(documents in prop::collection::vec("(?s).{0,60}", 0..8)) {
            let refs: Vec<&str> = documents.iter().map(String::as_str).collect();
            let whole = source(&refs);
            let (train, held_out) = hold_out(&whole);
            prop_assert_eq!([train.concat(), held_out.concat()].concat(), documents.concat());
            let total = documents.concat().len();
            if total >= 40 {
                // A tenth, give or take the slack and the width of one character.
                let held = held_out.concat().len();
                prop_assert!(held + total / 20 + 4 >= total / 10 && held <= total / 10 + total / 20 + 4, "{} of {}", held, total);
            }
        }
    }
}
