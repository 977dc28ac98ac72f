//! The demo's lines on standard output. While an answer is streaming, lines wait, so that nothing cuts into it.

use std::io::Write;
use std::time::Duration;

/// Prints now, or after the answer.
#[derive(Debug, Default)]
pub struct Narrator {
    answering: bool,
    silent: bool,
    held: Vec<String>,
}

impl Narrator {
    /// One line with the time since the start.
    pub fn tell(&mut self, at: Duration, line: &str) {
        let line = format!("[{:>5.1} s] {line}", at.as_secs_f64());
        if self.answering {
            self.held.push(line);
        } else if !self.silent {
            say(&line);
        }
    }

    /// From here on pieces of an answer may come.
    pub fn begin_answer(&mut self) {
        self.answering = true;
        write("          > ");
    }

    /// Ends the answer's line; what was told meanwhile.
    pub fn end_answer(&mut self) -> Vec<String> {
        self.answering = false;
        say("");
        std::mem::take(&mut self.held)
    }

    /// No further lines: the demo is being taken down.
    pub fn silence(&mut self) {
        self.silent = true;
    }
}

/// A young model says anything: its control characters must not reach the terminal.
fn shown(text: &str) -> String {
    let clean: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    clean.replace('\n', "\n            ")
}

/// A piece of the answer, with further lines set in like the first one.
pub fn piece(text: &str) {
    write(&shown(text));
}

/// One line on standard output.
pub fn say(line: &str) {
    write(&format!("{line}\n"));
}

fn write(text: &str) {
    let mut output = std::io::stdout();
    // A reader that went away, as with `| head`, must not keep the demo from ending in order.
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_for_the_end_of_an_answer() {
        let mut narrator = Narrator::default();
        narrator.begin_answer();
        narrator.tell(Duration::from_millis(1500), "later");
        assert_eq!(narrator.end_answer(), ["[  1.5 s] later"]);
        narrator.tell(Duration::from_secs(2), "now");
        assert!(narrator.end_answer().is_empty());
    }

    #[test]
    fn a_model_cannot_send_commands_to_the_terminal() {
        assert_eq!(shown("a\x1b[2Jb\r\u{9b}c\nd"), "a[2Jbc\n            d");
    }
}
