//! When to draw: only after a change, at most 30 times a second, at once after a key.
//!
//! Changes by themselves are drawn 25 times a second; the rest of the 30 is kept for keys, so that a key need not
//! wait behind an animation. Pure: the loop asks and tells.

use std::time::Duration;

use hydra_core::time::Time;

/// Between frames that no key asked for.
pub const CALM: Duration = Duration::from_millis(40);
/// The mean distance of frames under a storm of keys; with one frame of burst no second has more than 30.
const STEADY: Duration = Duration::from_millis(36);

/// The frame limiter.
#[derive(Debug, Clone, Default)]
pub struct Pacer {
    wants: Wants,
    last: Option<Time>,
    /// When the allowance of frames would be whole again (the generic cell rate algorithm).
    whole: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Wants {
    #[default]
    Nothing,
    Frame,
    FrameAtOnce,
}

impl Pacer {
    /// Something changed.
    pub fn changed(&mut self) {
        self.wants = self.wants.max(Wants::Frame);
    }

    /// Something changed because of a key; the person waits.
    pub fn urged(&mut self) {
        self.wants = Wants::FrameAtOnce;
    }

    /// When to draw; `None` while nothing changed. May lie in the past.
    pub fn due(&self) -> Option<Time> {
        let allowed = Time(self.whole.0.saturating_sub(STEADY.as_micros() as u64));
        match (self.wants, self.last) {
            (Wants::Nothing, _) => None,
            (Wants::Frame, Some(last)) => Some(allowed.max(last.after(CALM))),
            _ => Some(allowed),
        }
    }

    /// A frame was drawn.
    pub fn drawn(&mut self, now: Time) {
        self.wants = Wants::Nothing;
        self.last = Some(now);
        self.whole = self.whole.max(now).after(STEADY);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn idle_draws_nothing_and_a_key_draws_at_once() {
        let mut pacer = Pacer::default();
        assert_eq!(pacer.due(), None);
        let mut now = Time(1_000_000);
        pacer.changed();
        assert!(pacer.due().unwrap() <= now);
        pacer.drawn(now);
        assert_eq!(pacer.due(), None);
        // An animation runs, and a key comes one millisecond after a frame.
        for _ in 0..50 {
            pacer.changed();
            assert_eq!(pacer.due(), Some(now.after(CALM)));
            now = now.after(CALM);
            pacer.drawn(now);
        }
        now = now.after(Duration::from_millis(1));
        pacer.urged();
        assert!(pacer.due().unwrap() <= now, "{:?} {now:?}", pacer.due());
    }

    proptest! {
        #[test]
        fn never_more_than_thirty_in_a_second(steps in proptest::collection::vec((0u64..60_000, any::<bool>()), 500)) {
            let mut pacer = Pacer::default();
            let (mut now, mut frames) = (Time(0), Vec::new());
            for (step, key) in steps {
                if key { pacer.urged() } else { pacer.changed() }
                let until = now.after(Duration::from_micros(step));
                if let Some(due) = pacer.due().map(|due| due.max(now)).filter(|due| *due <= until) {
                    frames.push(due);
                    pacer.drawn(due);
                }
                now = until;
            }
            for second in frames.windows(31) {
                prop_assert!(second[30].since(second[0]) >= Duration::from_secs(1));
            }
        }
    }
}
