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
        self.kept.push_str(text);
        let lead = self.lead();
        // Before the first word white space is nothing, and no stop either; what begins with it may be one.
        let ends = |stop: &String| self.kept.match_indices(stop).map(|(at, _)| at).find(|at| at + stop.len() > lead);
        if let Some(at) = self.stops.iter().filter_map(ends).min() {
            self.stopped = true;
            self.kept.truncate(at);
            return self.rest();
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
        let out = self.rest();
        self.begun |= !out.is_empty();
        self.kept = rest;
        out
    }

    /// Bytes of white space at the beginning that are left out.
    fn lead(&self) -> usize {
        if self.begun { 0 } else { self.kept.len() - self.kept.trim_start().len() }
    }

    /// What was kept back for a stop that did not come.
    pub fn rest(&mut self) -> String {
        let lead = self.lead();
        let mut kept = std::mem::take(&mut self.kept);
        kept.drain(..lead);
        kept
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
    fn a_stop_may_come_first_but_white_space_alone_does_not_end_what_has_not_begun() {
        let stops = ["\nQuestion:", "\n\n"];
        assert_eq!(run(&stops, &["\nQuestion: What"]), (vec![], true));
        assert_eq!(run(&stops, &[" ", "\n", "Question", ": What"]), (vec![], true));
        assert_eq!(run(&stops, &["\n\n", "\n", "Hy\n", "\ndra"]), (vec!["Hy".to_owned()], true));
        assert_eq!(run(&stops, &["\n\nHy\n\ndra"]), (vec!["Hy".to_owned()], true));
        assert_eq!(run(&stops, &["\nQuest", "s"]), (vec!["Quests".to_owned()], false));
        assert_eq!(run(&stops, &["\n", "\n"]), (vec![], false));
        assert_eq!(outgoing(&["\n"], true, &["\n"]), (vec![], true), "a continuation is taken as it is");
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
