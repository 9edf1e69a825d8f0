//! Quantities as people write them: `20GB`, `36h`.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

const SIZES: [(&str, u64); 15] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
    ("pb", 1_000_000_000_000_000),
];
const SPANS: [(&str, u64); 6] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("min", 60), ("m", 60), ("s", 1)];

/// How many bytes: `20GB` (decimal), `20GiB` (binary), `1.5 TB`, `1048576`; in any case of letters.
///
/// ```
/// use ckpt_core::quantity::bytes;
/// assert_eq!(bytes("20GB")?, 20_000_000_000);
/// assert_eq!(bytes("1.5 GiB")?, 1_610_612_736);
/// assert!(bytes("20 apples").is_err());
/// # Ok::<(), ckpt_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is no such text, or more than a file can have.
pub fn bytes(text: &str) -> Result<u64> {
    let (number, rest) = split_number(text.trim());
    let unit = rest.trim().to_ascii_lowercase();
    SIZES
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, unit)| times(number, *unit))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| Error::new(ErrorKind::Invalid, text, "not a size such as 20GB or 20GiB:"))
}

/// How long: `36h`, `7d`, `90min`, `1.5h`, `11h30m`. Units are `w`, `d`, `h`, `m` or `min`, and `s`; a day has 24 hours.
///
/// ```
/// use std::time::Duration;
/// use ckpt_core::quantity::duration;
/// assert_eq!(duration("11h30m")?, Duration::from_secs(41_400));
/// assert!(duration("36").is_err());
/// # Ok::<(), ckpt_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is no such text, or longer than 584 years.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong = || Error::new(ErrorKind::Invalid, text, "not a time such as 36h, 7d or 11h30m:");
    let mut rest = text.trim();
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let end = tail.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end).ok_or_else(wrong)?;
        let (_, seconds) = SPANS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
        let part = times(number, seconds.saturating_mul(1_000_000_000)).ok_or_else(wrong)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    let is_empty = text.trim().is_empty();
    u64::try_from(nanoseconds).ok().filter(|_| !is_empty).map(Duration::from_nanos).ok_or_else(wrong)
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A decimal number times a unit, exactly, what is left of one cut off. None for a text that is no number.
fn times(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Nobody means more digits, and these cannot overflow.
    if whole.len() > 20 || fraction.len() > 9 || (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = digits(whole)?.checked_mul(u128::from(unit))?;
    whole.checked_add(digits(fraction)?.checked_mul(u128::from(unit))? / scale)
}

/// `23.4 MB`: decimal units, three digits.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1d12h`: the two largest units, what is smaller cut off.
#[must_use]
pub fn span(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut left = duration.as_secs();
    let mut shown = String::new();
    let first = UNITS.iter().position(|(_, seconds)| left >= *seconds).unwrap_or(UNITS.len() - 1);
    for (unit, seconds) in UNITS.iter().skip(first).take(2) {
        let count = left / seconds;
        left %= seconds;
        if count > 0 || shown.is_empty() {
            shown.push_str(&format!("{count}{unit}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (23_412_000, "23.4 MB"), (999_960, "1.0 MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_in_decimal_and_binary_units() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("20GB", 20_000_000_000),
            ("20 gb", 20_000_000_000),
            ("20G", 20_000_000_000),
            ("20GiB", 20 << 30),
            ("1.5kB", 1_500),
            (".5k", 500),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for text in
            ["", "GB", "-1GB", "1e9", "1.2.3k", ".", "1 000", "1_000", "20XB", "18446744073709551616", "99999PB", "٣GB"]
        {
            assert_eq!(bytes(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn times_are_read_with_their_units_and_never_without() {
        for (text, seconds) in [
            ("36h", 129_600),
            ("7d", 604_800),
            ("1w", 604_800),
            ("90min", 5_400),
            ("11h30m", 41_400),
            ("1.5h", 5_400),
            ("1d 2h", 93_600),
            ("0s", 0),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", " ", "36", "h", "-1h", "1h-2m", "1y", "9999999999w", "1h30", "..h", "1hé"] {
            assert_eq!(duration(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn times_are_shown_by_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (129_600, "1d12h"),
            (41_400, "11h30m"),
            (604_800, "7d"),
            (90_061, "1d1h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
