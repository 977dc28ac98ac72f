//! Which directions came before: sketches of the latest updates and steps, to recognise what is handed in again.

use std::collections::VecDeque;

use hydra_core::hub::{Source, Twin};
use hydra_core::ids::LeaseId;
use hydra_core::sketch::Sketch;

/// Directions remembered; a sketch takes four kilobytes.
const REMEMBERED: usize = 512;

/// The directions that came lately.
pub struct Likeness {
    /// Known to nobody outside, so that no copy can be made that has another sketch.
    seed: u64,
    seen: VecDeque<(Source, Sketch)>,
}

impl Likeness {
    pub fn new(seed: u64) -> Self {
        Self { seed, seen: VecDeque::new() }
    }

    /// The seed of the sketches to be noted.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Remembers a direction and gives what came before and is most like it.
    pub fn note(&mut self, source: Source, sketch: Sketch) -> Option<Twin> {
        self.seen.retain(|(of, _)| *of != source);
        let like = |(of, other): &(Source, Sketch)| Twin { of: *of, cosine: sketch.cosine(other).abs() };
        let twin = self.seen.iter().map(like).max_by(|a, b| a.cosine.total_cmp(&b.cosine));
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((source, sketch));
        twin
    }

    /// A refused update's direction says nothing about those who come after it.
    pub fn forget(&mut self, lease: LeaseId) {
        self.seen.retain(|(of, _)| *of != Source::Update(lease));
    }
}

#[cfg(test)]
mod tests {
    use hydra_core::ids::VersionNo;
    use hydra_core::rng::Rng;

    use super::*;

    fn direction(seed: u64) -> Sketch {
        turned(seed, 1.0)
    }

    fn turned(seed: u64, factor: f32) -> Sketch {
        let mut rng = Rng::new(seed);
        let values: Vec<f32> = (0..5000).map(|_| factor * rng.normal() as f32).collect();
        Sketch::new(&values, 3)
    }

    #[test]
    fn what_came_before_is_found_again() {
        let mut likeness = Likeness::new(3);
        let (step, first) = (Source::Step(VersionNo(1)), Source::Update(LeaseId(1)));
        assert_eq!(likeness.note(step, direction(1)), None);
        let twin = likeness.note(first, direction(2)).unwrap();
        assert!(twin.of == step && twin.cosine < 0.2, "{twin:?}");
        let twin = likeness.note(Source::Update(LeaseId(2)), turned(1, -2.0)).unwrap();
        assert!(twin.of == step && twin.cosine > 0.999, "{twin:?}");
        let twin = likeness.note(Source::Update(LeaseId(3)), direction(2)).unwrap();
        assert!(twin.of == first && twin.cosine > 0.999, "{twin:?}");
    }

    #[test]
    fn what_was_refused_is_forgotten_and_nothing_is_its_own_twin() {
        let mut likeness = Likeness::new(3);
        let lease = Source::Update(LeaseId(1));
        likeness.note(lease, direction(1));
        assert_eq!(likeness.note(lease, direction(1)), None);
        likeness.forget(LeaseId(1));
        assert_eq!(likeness.note(Source::Update(LeaseId(2)), direction(1)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut likeness = Likeness::new(3);
        for lease in 0..=REMEMBERED as u64 {
            likeness.note(Source::Update(LeaseId(lease)), Sketch::new(&[1.0, lease as f32], 3));
        }
        assert_eq!(likeness.seen.len(), REMEMBERED);
    }
}
