//! Why a task has no update, told apart as far as it matters: stopped, failed, or failed by the graphics card.

use hydra_engine::EngineError;

/// A graphics card that fails so often in a row is given up: after one bad operation CUDA refuses all others.
const CARD_FAILURES: u32 = 3;

/// Why there is no update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unable {
    /// It was asked to stop.
    Stopped,
    /// For people.
    Why(String),
    /// The same, where the graphics card fails and not the task.
    Card(String),
}

/// What an error means on a graphics card or beside one, with the next step where there is one.
pub fn unable(error: &EngineError, gpu: bool) -> Unable {
    match error {
        EngineError::Stopped => Unable::Stopped,
        EngineError::OutOfMemory(_) if gpu => {
            Unable::Why(format!("{error}; close other programs, or start with --device cpu"))
        }
        EngineError::OutOfMemory(_) => {
            Unable::Why(format!("{error}; close other programs, or leave this model to a machine with more memory"))
        }
        EngineError::Libtorch(_) if gpu => Unable::Card(format!("{error}; start with --device cpu")),
        error => Unable::Why(error.to_string()),
    }
}

/// How often in a row the graphics card has failed.
#[derive(Debug, Default)]
pub struct Failures(u32);

impl Failures {
    /// Counts what came of a task; gives the reason once the card is to be given up.
    pub fn count(&mut self, failed: Option<&Unable>) -> Option<String> {
        match failed {
            Some(Unable::Card(text)) => {
                self.0 = self.0.saturating_add(1);
                (self.0 == CARD_FAILURES).then(|| text.clone())
            }
            Some(Unable::Stopped) => None,
            Some(Unable::Why(_)) | None => {
                self.0 = 0;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_keeps_failing_is_given_up() {
        let mut failures = Failures::default();
        let broken = EngineError::Libtorch("CUDA error: an illegal memory access was encountered".to_owned());
        let full = EngineError::OutOfMemory("CUDA out of memory".to_owned());
        let mut failed = |error: &EngineError, gpu| failures.count(Some(&unable(error, gpu)));
        for error in [&broken, &broken, &full, &broken, &broken, &EngineError::Stopped] {
            assert_eq!(failed(error, true), None, "not so often in a row: {error}");
        }
        let why = failed(&broken, true).expect("it was the third in a row");
        assert!(why.contains("illegal memory access") && why.contains("--device cpu"), "{why}");
        assert!((0..9).all(|_| failed(&broken, true).is_none()), "told once");
        assert!((0..9).all(|_| failed(&broken, false).is_none()), "there is nothing else than the CPU");
        assert!((0..2).all(|_| failed(&broken, true).is_none()));
        assert_eq!(failures.count(None), None);
        assert_eq!(failures.count(Some(&unable(&broken, true))), None, "a task that was trained shows that it works");
    }

    #[test]
    fn the_next_step_fits_the_device() {
        let told = |gpu| match unable(&EngineError::OutOfMemory("a test".to_owned()), gpu) {
            Unable::Why(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(told(true).contains("--device cpu"));
        assert!(!told(false).contains("--device") && told(false).contains("more memory"));
    }
}
