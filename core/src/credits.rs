//! Hydra credits (HYD), kept as whole micro-credits so that money is never a fraction that rounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of credits in micro-credits; 1.0 HYD = 1,000,000. Never negative: debts do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(pub u64);

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Micro-credits in one HYD.
    pub const MICROS: u64 = 1_000_000;
    /// The largest amount that an account or a transfer may hold: what SQLite's signed integers and
    /// JSON's exact integers (2^53) both carry.
    pub const MAX: Self = Self(1 << 53);

    /// `whole` HYD.
    pub const fn hyd(whole: u64) -> Self {
        Self(whole * Self::MICROS)
    }

    /// The sum, or nothing past [`Credits::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self).filter(|sum| *sum <= Self::MAX)
    }

    /// The difference, or nothing if it would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// HYD as a number for JSON, exact to the micro-credit for every amount below 2^53.
    pub fn as_hyd(self) -> f64 {
        self.0 as f64 / Self::MICROS as f64
    }
}

impl fmt::Display for Credits {
    /// At least one decimal, as many as needed: `12.5`, `1.0`, `0.000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / Self::MICROS, self.0 % Self::MICROS);
        let digits = format!("{micros:06}");
        let decimals = digits.trim_end_matches('0');
        write!(f, "{whole}.{}", if decimals.is_empty() { "0" } else { decimals })
    }
}

/// Why a text is not an amount of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of credits: write a number such as 0.5, with at most six decimals")]
pub struct CreditsError;

impl FromStr for Credits {
    type Err = CreditsError;

    fn from_str(text: &str) -> Result<Self, CreditsError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 6 {
            return Err(CreditsError);
        }
        let whole: u64 = whole.parse().map_err(|_| CreditsError)?;
        let micros: u64 = format!("{decimals:0<6}").parse().map_err(|_| CreditsError)?;
        whole
            .checked_mul(Self::MICROS)
            .and_then(|sum| sum.checked_add(micros))
            .map(Self)
            .filter(|sum| *sum <= Self::MAX)
            .ok_or(CreditsError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_and_parse_exactly() {
        for (text, micros) in [("12.5", 12_500_000), ("1.0", 1_000_000), ("0.000001", 1), ("0.0", 0)] {
            assert_eq!(text.parse(), Ok(Credits(micros)));
            assert_eq!(Credits(micros).to_string(), text);
        }
        assert_eq!("3".parse(), Ok(Credits::hyd(3)));
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000001", "99999999999999999999"] {
            assert_eq!(text.parse::<Credits>(), Err(CreditsError), "{text}");
        }
    }

    #[test]
    fn sums_stop_at_the_bounds() {
        assert_eq!(Credits::MAX.checked_add(Credits(1)), None);
        assert_eq!(Credits(1).checked_sub(Credits(2)), None);
    }
}
