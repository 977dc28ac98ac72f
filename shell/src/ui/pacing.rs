//! The pure streaming policy: pieces that arrive in lumps are shown at an even pace, faster when behind.
//!
//! What waits is let out at a rate that would empty it in [`LAG`]; with a steady stream that settles at the stream's
//! own rate, about [`LAG`] late. Nothing is lost or reordered, and cuts fall between graphemes.

use std::time::Duration;

use hydra_core::time::Time;
use unicode_segmentation::UnicodeSegmentation as _;

/// How far the screen stays behind a steady stream.
pub const LAG: Duration = Duration::from_millis(250);
/// The same once the last piece is there.
const LAG_AT_END: Duration = Duration::from_millis(100);
/// Between two portions: that of frames.
const BEAT: Duration = super::frames::CALM;
/// Characters a second below which a stream looks stuck.
const SLOWEST: f64 = 30.0;

/// Text on its way to the screen.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    waiting: String,
    last: Option<Time>,
    /// Characters that may be shown but have not been, as parts of one.
    owed: f64,
    /// Whether the first piece after a silence waits, of which something shows at once.
    fresh: bool,
    ended: bool,
}

impl Pace {
    /// A piece arrived.
    pub fn push(&mut self, now: Time, piece: &str) {
        if self.waiting.is_empty() {
            // Time without text earns nothing.
            self.last = Some(now);
            self.owed = 0.0;
            self.fresh = true;
        }
        self.ended = false;
        self.waiting.push_str(piece);
    }

    /// No more pieces come: what waits is shown a little faster.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Everything that waits, at once; for a cancelled or saved answer.
    pub fn flush(&mut self) -> String {
        self.fresh = false;
        std::mem::take(&mut self.waiting)
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When to [`take`](Self::take) next.
    pub fn wake_at(&self) -> Option<Time> {
        self.last.filter(|_| !self.is_idle()).map(|last| if self.fresh { last } else { last.after(BEAT) })
    }

    /// What to show in addition, perhaps nothing.
    pub fn take(&mut self, now: Time) -> String {
        let Some(last) = self.last.filter(|_| !self.is_idle()) else { return String::new() };
        let backlog = self.waiting.chars().count() as f64;
        let lag = if self.ended { LAG_AT_END } else { LAG };
        let rate = (backlog / lag.as_secs_f64()).max(SLOWEST);
        self.owed = (self.owed + rate * now.since(last).as_secs_f64()).min(backlog);
        self.last = Some(now);
        let mut end = 0;
        // The whole backlog is affordable in the end, as it is what `owed` is cut to.
        for (at, grapheme) in self.waiting.grapheme_indices(true) {
            let cost = grapheme.chars().count() as f64;
            if self.owed < cost && !self.fresh {
                break;
            }
            self.fresh = false;
            self.owed = (self.owed - cost).max(0.0);
            end = at + grapheme.len();
        }
        self.fresh = false;
        let rest = self.waiting.split_off(end);
        std::mem::replace(&mut self.waiting, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs the policy over pieces with the milliseconds between them; gives what was shown when.
    fn play(pieces: &[(u64, &str)]) -> Vec<(u64, String)> {
        let (mut pace, mut now, mut shown) = (Pace::default(), Time(0), Vec::new());
        let mut until_idle = |pace: &mut Pace, now: &mut Time, end: Time| {
            while let Some(wake) = pace.wake_at().filter(|wake| *wake <= end) {
                *now = wake.max(*now);
                shown.push((now.0 / 1000, pace.take(*now)));
            }
        };
        for (after, piece) in pieces {
            let at = now.after(Duration::from_millis(*after));
            until_idle(&mut pace, &mut now, at);
            now = at;
            pace.push(now, piece);
        }
        pace.end();
        until_idle(&mut pace, &mut now, Time(u64::MAX));
        shown
    }

    #[test]
    fn a_steady_stream_is_even() {
        let shown = play(&[(120, "twelve chars"); 50]);
        let calm: Vec<usize> =
            shown.iter().filter(|(at, _)| (1_000..5_500).contains(at)).map(|(_, text)| text.len()).collect();
        // 12 characters in 120 ms are 4 in a beat of 40 ms.
        assert!(calm.len() > 90 && calm.iter().all(|len| (2..=6).contains(len)), "{calm:?}");
    }

    #[test]
    fn a_flood_is_caught_up() {
        let flood = "x".repeat(10_000);
        let shown = play(&[(0, &flood)]);
        assert!(shown[0].1.len() == 1 && shown.last().unwrap().0 < 1_500, "{:?}", shown.last().unwrap().0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(pieces in proptest::collection::vec((0u64..300, "[a-zé\u{301}東👩]{0,12}"), 0..20)) {
            let borrowed: Vec<(u64, &str)> = pieces.iter().map(|(after, piece)| (*after, piece.as_str())).collect();
            let shown: String = play(&borrowed).into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(shown, pieces.into_iter().map(|(_, piece)| piece).collect::<String>());
        }
    }
}
