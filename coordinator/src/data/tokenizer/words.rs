//! Cuts texts into words that can be tokenized by themselves, so that each is looked at by the slow library only once.
//!
//! A cut lies before whitespace that follows a visible character: no match of the byte-level pattern spans such a
//! place, nor does one look back over it, so the ids of the words are the ids of the whole. Only a word that is too
//! long is cut elsewhere (between characters).

/// The words of `text`, in order, each with the whitespace before it; none empty, each at most `bound` bytes. `bound`
/// is at least 4.
pub fn words(text: &str, bound: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, left) = rest.split_at(end_of_word(rest, bound));
        rest = left;
        Some(word).filter(|word| !word.is_empty())
    })
}

fn end_of_word(text: &str, bound: usize) -> usize {
    let bytes = text.as_bytes();
    for (at, pair) in bytes[..bytes.len().min(bound + 1)].windows(2).enumerate() {
        let [before, byte] = [pair[0], pair[1]];
        // Whitespace beyond ASCII is no place to cut before, but the pattern knows it: it is not visible either.
        let visible = if before.is_ascii() {
            !char::from(before).is_whitespace()
        } else {
            byte.is_ascii() && !text[..=at].ends_with(char::is_whitespace)
        };
        if visible && char::from(byte).is_ascii() && char::from(byte).is_whitespace() {
            return at + 1;
        }
    }
    text.floor_char_boundary(bound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_lie_before_whitespace() {
        let cut = |text, bound| words(text, bound).collect::<Vec<_>>();
        assert_eq!(cut("one two\n\n three ", 99), ["one", " two", "\n\n three", " "]);
        assert_eq!(cut("éa é\u{a0} b", 99), ["éa", " é\u{a0} b"]);
        assert_eq!(cut("", 8), Vec::<&str>::new());
        assert_eq!(cut("ééé abcdef", 5), ["éé", "é", " abcd", "ef"]);
        assert_eq!(cut("abcd ef", 4), ["abcd", " ef"]);
    }

    proptest! {
        #[test]
        fn words_are_the_whole(text in "(?s)[a é\n\u{2003}]{0,80}", bound in 4usize..20) {
            let words: Vec<&str> = words(&text, bound).collect();
            prop_assert_eq!(&words.concat(), &text);
            prop_assert!(words.iter().all(|word| !word.is_empty() && word.len() <= bound));
        }
    }
}
