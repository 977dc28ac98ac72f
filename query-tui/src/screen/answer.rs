//! The answer that is awaited or on its way to the screen: paced text, times, and what is told below it.

use std::time::Duration;

use hydra_core::chat::Event;
use hydra_core::proto::Finish;
use hydra_core::time::Time;
use hydra_shell::ui::pacing::Pace;
use hydra_shell::ui::text::count;

use crate::print::{Model, answered};

/// Below this, a speed would be that of the clock.
const LEAST: Duration = Duration::from_millis(1);

/// An answer from its question to its last character on the screen.
#[derive(Debug, Clone)]
pub struct Running {
    /// Pieces that are not yet shown.
    pub pace: Pace,
    /// When it was asked for.
    pub asked: Time,
    /// Whether it has an entry in the transcript.
    pub begun: bool,
    /// Whether somebody wants it to stop.
    pub cancelled: bool,
    /// What is told below it, once it has its end.
    pub foot: Option<String>,
}

impl Running {
    /// One that was asked for at `now`.
    pub fn new(now: Time) -> Self {
        Self { pace: Pace::default(), asked: now, begun: false, cancelled: false, foot: None }
    }

    /// Whether pieces may still come.
    pub fn is_open(&self) -> bool {
        self.foot.is_none()
    }
}

/// What is told below a complete answer: cost, size, speed over the time since it was asked for, version, loss.
pub fn foot(event: &Event, took: Duration) -> String {
    let Event::Answer { tokens, version, averaged, val_loss, val_version, charged, finish, .. } = event else {
        return String::new();
    };
    let mut parts = vec![format!("{charged} HYD"), count(u64::from(*tokens), "token", "tokens")];
    if *tokens > 0 && took >= LEAST {
        parts.push(format!("{} tokens/s", two_digits(f64::from(*tokens) / took.as_secs_f64())));
    }
    parts.push(answered(Model { version: *version, val_loss: *val_loss, val_version: *val_version }, *averaged));
    match finish {
        Finish::Stop => {}
        Finish::Length => parts.push("cut at its length limit".to_owned()),
        Finish::Cancelled => parts.push("stopped by you".to_owned()),
    }
    parts.join(" · ")
}

/// A positive number to two digits: one answer's speed is not known better.
fn two_digits(number: f64) -> String {
    let unit = 10f64.powf(number.log10().floor() - 1.0);
    let decimals = usize::from(unit < 1.0);
    format!("{:.decimals$}", (number / unit).round() * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_have_two_digits() {
        let numbers = [0.04, 0.51, 3.17, 9.96, 48.6, 397.3, 1562.0, 25_600.0];
        let want = ["0.0", "0.5", "3.2", "10.0", "49", "400", "1600", "26000"];
        assert_eq!(numbers.map(two_digits), want);
    }
}
