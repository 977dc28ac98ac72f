//! Text on its way out of the model: up to the first stop, and without leading white space unless that is wanted.
//!
//! Text that may be the beginning of a stop is kept back until it is clear that it is none.

/// The text of one answer.
pub struct Outgoing {
    stops: Vec<String>,
    kept: String,
    begun: bool,
    /// Whether a stop has come.
    pub stopped: bool,
}

impl Outgoing {
    /// Before the first text; `whole` keeps white space at its beginning.
    pub fn new(stops: Vec<String>, whole: bool) -> Self {
        Self { stops, kept: String::new(), begun: whole, stopped: false }
    }

    /// Adds text; gives what may go out.
    pub fn push(&mut self, text: &str) -> String {
        let text = if self.begun { text } else { text.trim_start() };
        self.begun |= !text.is_empty();
        self.kept.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.kept.find(stop.as_str())).min() {
            self.stopped = true;
            self.kept.truncate(at);
            return std::mem::take(&mut self.kept);
        }
        // The longest end of the text with which some stop begins.
        let held = self
            .stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(move |(at, c)| &stop[..at + c.len_utf8()]))
            .filter(|begin| self.kept.ends_with(begin))
            .map(str::len)
            .max()
            .unwrap_or(0);
        let rest = self.kept.split_off(self.kept.len() - held);
        std::mem::replace(&mut self.kept, rest)
    }

    /// What was kept back for a stop that did not come.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        outgoing(stops, false, pieces)
    }

    fn outgoing(stops: &[&str], whole: bool, pieces: &[&str]) -> (Vec<String>, bool) {
        let mut out = Outgoing::new(stops.iter().map(|&s| s.to_owned()).collect(), whole);
        let mut said = Vec::new();
        for piece in pieces {
            if !out.stopped {
                said.push(out.push(piece));
            }
        }
        let stopped = out.stopped;
        said.push(out.rest());
        (said.into_iter().filter(|s| !s.is_empty()).collect(), stopped)
    }

    #[test]
    fn a_stop_across_pieces_ends_the_text() {
        let (said, stopped) = run(&["\nQuestion:", "\n\n"], &["  Hy", "dra.", "\n", "Ques", "tion: no"]);
        assert_eq!((said.concat().as_str(), stopped), ("Hydra.", true));
        assert_eq!(said, ["Hy", "dra."]);
    }

    #[test]
    fn what_only_looks_like_a_stop_goes_out() {
        let (said, stopped) = run(&["\n\n"], &["a\n", "b", "\n"]);
        assert_eq!((said.concat().as_str(), stopped), ("a\nb\n", false));
        assert_eq!(said, ["a", "\nb", "\n"]);
    }

    #[test]
    fn a_continuation_keeps_its_first_blanks() {
        assert_eq!(outgoing(&["X"], true, &[" ", "\n a", "X"]), (vec![" ".to_owned(), "\n a".to_owned()], true));
    }

    #[test]
    fn without_stops_nothing_waits() {
        assert_eq!(run(&[], &[" ", " é", "x"]).0, ["é", "x"]);
    }
}
