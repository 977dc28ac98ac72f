//! Which directions came before: sketches of the latest updates and steps, to recognise what is handed in again.

use std::collections::VecDeque;

use hydra_core::hub::{Source, Twin};
use hydra_core::ids::{LeaseId, VersionNo};
use hydra_core::sketch::Sketch;

/// Directions remembered; a sketch takes four kilobytes.
const REMEMBERED: usize = 512;

/// So many of the last updates say how alike they are, where fewer than two others are of one version.
const RECENT: usize = 8;

/// Updates of different versions are about so many times as far from each other as those of one.
const FARTHER: f64 = 3.0;

/// The directions that came lately.
pub struct Likeness {
    /// Known to nobody outside, so that no copy can be made that has another sketch.
    seed: u64,
    seen: VecDeque<Seen>,
}

/// A direction, and the version that it leads on from.
struct Seen {
    of: Source,
    base: VersionNo,
    sketch: Sketch,
}

impl Likeness {
    pub fn new(seed: u64) -> Self {
        Self { seed, seen: VecDeque::new() }
    }

    /// The seed of the sketches to be noted.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Remembers a direction that leads on from `base`, and gives what came before and is most like it.
    pub fn note(&mut self, source: Source, base: VersionNo, sketch: Sketch) -> Option<Twin> {
        self.seen.retain(|seen| seen.of != source);
        let cosines: Vec<f64> = self.seen.iter().map(|seen| sketch.cosine(&seen.sketch).abs()).collect();
        let twin = (0..cosines.len()).max_by(|a, b| cosines[*a].total_cmp(&cosines[*b])).map(|at| Twin {
            of: self.seen[at].of,
            cosine: cosines[at],
            usual: self.usual(at, base, &cosines),
        });
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { of: source, base, sketch });
        twin
    }

    /// How like other updates a direction from `base` is, given its cosines; the one at `twin` does not count.
    fn usual(&self, twin: usize, base: VersionNo, cosines: &[f64]) -> Option<f64> {
        let others = || {
            let updates = self.seen.iter().zip(cosines).enumerate();
            updates.rev().filter(|(at, (seen, _))| *at != twin && matches!(seen.of, Source::Update(_)))
        };
        let same = others().filter(|(_, (seen, _))| seen.base == base).map(|(_, (_, cosine))| *cosine).collect();
        let recent = others().take(RECENT).map(|(_, (_, cosine))| *cosine).collect();
        middle(same).or_else(|| middle(recent).map(|cosine| 1.0 - (1.0 - cosine) / FARTHER))
    }

    /// A refused update's direction says nothing about those who come after it.
    pub fn forget(&mut self, lease: LeaseId) {
        self.seen.retain(|seen| seen.of != Source::Update(lease));
    }
}

/// The middle value, the lower one of two; nothing of a single one, which may be a copy itself.
fn middle(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1).filter(|last| *last > 0)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use hydra_core::rng::Rng;

    use super::*;

    const BASE: VersionNo = VersionNo(1);

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
        assert_eq!(likeness.note(step, BASE, direction(1)), None);
        let twin = likeness.note(first, BASE, direction(2)).unwrap();
        assert!(twin.of == step && twin.cosine < 0.2, "{twin:?}");
        let twin = likeness.note(Source::Update(LeaseId(2)), BASE, turned(1, -2.0)).unwrap();
        assert!(twin.of == step && twin.cosine > 0.999, "{twin:?}");
        let twin = likeness.note(Source::Update(LeaseId(3)), BASE, direction(2)).unwrap();
        assert!(twin.of == first && twin.cosine > 0.999, "{twin:?}");
    }

    #[test]
    fn what_was_refused_is_forgotten_and_nothing_is_its_own_twin() {
        let mut likeness = Likeness::new(3);
        let lease = Source::Update(LeaseId(1));
        likeness.note(lease, BASE, direction(1));
        assert_eq!(likeness.note(lease, BASE, direction(1)), None);
        likeness.forget(LeaseId(1));
        assert_eq!(likeness.note(Source::Update(LeaseId(2)), BASE, direction(1)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut likeness = Likeness::new(3);
        for lease in 0..=REMEMBERED as u64 {
            likeness.note(Source::Update(LeaseId(lease)), BASE, Sketch::new(&[1.0, lease as f32], 3));
        }
        assert_eq!(likeness.seen.len(), REMEMBERED);
    }

    /// What all have in common, and a little of its own.
    fn alike(seed: u64) -> Sketch {
        let (mut all, mut own) = (Rng::new(99), Rng::new(seed));
        let values: Vec<f32> = (0..5000).map(|_| all.normal() as f32 + 0.2 * own.normal() as f32).collect();
        Sketch::new(&values, 3)
    }

    #[test]
    fn how_alike_updates_are_is_told_of_the_version_or_else_of_the_last_ones() {
        let mut likeness = Likeness::new(3);
        let mut note = |lease, base, sketch| likeness.note(Source::Update(LeaseId(lease)), VersionNo(base), sketch);
        note(1, 1, alike(1));
        assert_eq!(note(2, 1, alike(2)).unwrap().usual, None);
        assert_eq!(note(3, 1, alike(3)).unwrap().usual, None, "a single one may be a copy");
        // A copy has its twin, and is as like the others as all are.
        let copy = note(4, 1, alike(1)).unwrap();
        assert!(copy.cosine > 0.999 && (0.93..0.98).contains(&copy.usual.unwrap()), "{copy:?}");
        // In the next version they point elsewhere, and are as like each other.
        let elsewhere = note(5, 2, direction(7)).unwrap();
        assert!((0.66..0.72).contains(&elsewhere.usual.unwrap()), "{elsewhere:?}");
        for (lease, seed) in [(6, 8), (7, 9), (8, 10)] {
            note(lease, 2, direction(seed));
        }
        assert!(note(9, 2, direction(11)).unwrap().usual.unwrap() < 0.2);
    }
}
