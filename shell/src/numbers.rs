//! Numbers that people give, as flags or after a command, with words that say what would do.

use std::num::IntErrorKind;
use std::ops::RangeInclusive;

/// How every complaint begins.
pub const MUST: &str = "it must be ";

/// A whole number within bounds.
pub fn whole(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = bounds.clone().into_inner();
    match text.parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        // So large a bound is told only to who meets it.
        Err(error) if most == u64::MAX && *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("{MUST}at most {most}"))
        }
        _ if most == u64::MAX => Err(format!("{MUST}a whole number, {least} or more")),
        _ => Err(format!("{MUST}a whole number from {least} to {most}")),
    }
}

/// A number of `unit` within bounds.
pub fn number(text: &str, bounds: RangeInclusive<f64>, unit: &str) -> Result<f64, String> {
    let (least, most) = bounds.clone().into_inner();
    // No bounds contain what is no number.
    let wrong = || format!("{MUST}a number of {unit} from {least} to {most}");
    text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_say_what_would_do() {
        assert_eq!((whole("7", 0..=9), whole("0", 0..=u64::MAX)), (Ok(7), Ok(0)));
        assert_eq!(number("0.5", 0.0..=60.0, "seconds"), Ok(0.5));
        for wrong in ["", "x", "-1", "1.5", "10", "18446744073709551616", "٣"] {
            assert_eq!(whole(wrong, 1..=9).unwrap_err(), "it must be a whole number from 1 to 9", "{wrong}");
        }
        assert_eq!(whole("0", 1..=u64::MAX).unwrap_err(), "it must be a whole number, 1 or more");
        assert_eq!(whole("18446744073709551616", 0..=u64::MAX).unwrap_err(), "it must be at most 18446744073709551615");
        assert_eq!(whole("-1", 0..=u64::MAX).unwrap_err(), "it must be a whole number, 0 or more");
        for wrong in ["", "x", "-1", "nan", "inf", "1e9"] {
            assert_eq!(
                number(wrong, 0.0..=60.0, "seconds").unwrap_err(),
                "it must be a number of seconds from 0 to 60"
            );
        }
    }
}
