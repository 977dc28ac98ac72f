//! Lines of standard input: whole, as text, and none longer than a question may be.

use std::io::{self, BufRead, Read as _};
use std::string::FromUtf8Error;

use hydra_core::limits::PROMPT_BYTES;
use tokio::sync::mpsc;

/// A line of standard input, if it is text.
pub type Line = Result<String, FromUtf8Error>;

/// Lines of standard input, read on a thread of their own: it cannot be woken from its waiting, and dies with the
/// program.
pub fn read_lines() -> io::Result<mpsc::Receiver<Line>> {
    let (lines, input) = mpsc::channel(1);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        take_lines(io::stdin().lock(), |line| lines.blocking_send(line).is_ok());
    })?;
    Ok(input)
}

/// Hands on each line. In place of one that is too long to be a prompt it hands on something that is refused for its
/// length: a part of the line might be taken for a prompt.
fn take_lines(mut input: impl BufRead, mut take: impl FnMut(Line) -> bool) {
    const LONGEST: usize = PROMPT_BYTES + 1;
    loop {
        let mut bytes = Vec::new();
        match (&mut input).take(LONGEST as u64).read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) if bytes.len() == LONGEST && !bytes.ends_with(b"\n") => {
                bytes.fill(b'x');
                if input.skip_until(b'\n').is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "standard input cannot be read");
                return;
            }
        }
        if !take(String::from_utf8(bytes)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{self, Said};

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        take_lines(input, |line| {
            lines.push(line);
            true
        });
        lines
    }

    #[test]
    fn lines_come_whole_and_those_that_are_too_long_are_refused() {
        let read = lines(b"a\n\nb\xff\nc");
        let text: Vec<_> = read.iter().map(|line| line.as_deref().ok()).collect();
        assert_eq!(text, [Some("a\n"), Some("\n"), None, Some("c")]);
        for begin in ["x", "  ", "//"] {
            let read = lines((begin.to_owned() + &" y".repeat(3 * PROMPT_BYTES) + "\nnext\n").as_bytes());
            assert_eq!((read.len(), read[1].as_deref()), (2, Ok("next\n")));
            let Said::Question(text) = commands::read(read[0].as_ref().unwrap()) else {
                panic!("a question after {begin:?}")
            };
            assert!(text.len() > PROMPT_BYTES, "nothing of it is answered");
        }
    }
}
