//! Times, durations and tables, for people.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::macaroon::Text;

/// A message without the tokens that it repeats, because somebody has put them in a wrong place: a
/// header value without its quotes is several arguments. What is printed may be kept, in the log of
/// a CI job for one.
pub fn without_tokens(message: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(message);
    for prefix in PREFIXES {
        let mut from = 0;
        while let Some(rest) = shown.get(from..)
            && let Some((before, token)) = rest.split_once(prefix)
        {
            let start = from + before.len() + prefix.len();
            let end = token.find(|c| !is_of_token(c)).unwrap_or(token.len());
            if end >= SHORTEST_TOKEN {
                shown
                    .to_mut()
                    .replace_range(start..start + end, "[redacted]");
            }
            from = start;
        }
    }
    shown
}

/// Letters of base64, in either alphabet.
fn is_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=' | '-' | '_')
}

/// What tokens begin with, those of other kinds included.
const PREFIXES: [&str; 4] = ["fm2_", "fm1r_", "fm1a_", "fo1_"];

/// What is shorter was made up, or is an example.
const SHORTEST_TOKEN: usize = 8;

/// How long a new token is valid, in seconds; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(i64);

impl Lifetime {
    /// The last second, counted from `now`.
    pub fn end(self, now: i64) -> i64 {
        now.saturating_add(self.0)
    }
}

impl FromStr for Lifetime {
    type Err = LifetimeError;

    fn from_str(text: &str) -> Result<Self, LifetimeError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let (_, seconds) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or(LifetimeError::Unit)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(LifetimeError::Number);
        }
        let number: i64 = digits.parse().map_err(|_| LifetimeError::Number)?;
        match number.checked_mul(seconds) {
            Some(1..=LONGEST) => Ok(Self(number * seconds)),
            _ => Err(LifetimeError::Range),
        }
    }
}

/// Why text is no lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LifetimeError {
    /// No unit, or an unknown one.
    #[error("give it a unit: s, m, h, d, w or y, as in 12h")]
    Unit,
    /// No number.
    #[error("give a whole number and a unit, as in 12h")]
    Number,
    /// Nothing, or more than a lifetime.
    #[error("give at least 1s and at most 100y")]
    Range,
}

/// A moment, in UTC, to the second.
pub(crate) fn moment(unix: i64) -> impl fmt::Display {
    let (days, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    fmt::from_fn(move |f| {
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    })
}

/// How long a span of seconds is, in its largest unit that fits once.
pub(super) fn span(seconds: i64) -> impl fmt::Display {
    let seconds = seconds.unsigned_abs();
    let (unit, length) = UNITS
        .into_iter()
        .map(|(unit, length)| (unit, length.unsigned_abs()))
        .filter(|(unit, length)| *unit != "w" && *length <= seconds)
        .max_by_key(|(_, length)| *length)
        .unwrap_or(("s", 1));
    fmt::from_fn(move |f| write!(f, "{} {unit}", seconds / length))
}

/// Columns as wide as their widest cell, two spaces between them; the first row is the heading.
/// Control characters are escaped: a cell may hold text of a stranger's choice.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| printable(cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells.map(|(cell, w)| format!("{cell:<w$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Text with its control characters escaped.
pub(super) fn printable(text: &str) -> String {
    Text::from(text).to_string()
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Days are counted from 0000-03-01, so that the leap day is the last of its year, and split into
/// eras of 400 years (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = month_from_march + if month_from_march < 10 { 3 } else { -9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// More would be a slip of the finger, and is past what some clients can add to a date.
const LONGEST: i64 = 100 * YEAR;

const UNITS: [(&str, i64); 6] = [
    ("s", 1),
    ("m", 60),
    ("h", 3600),
    ("d", DAY),
    ("w", 7 * DAY),
    ("y", YEAR),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_out_of_messages() {
        for (message, expected) in [
            (
                "unexpected argument 'fm2_lJPEEAAA+/x=' found",
                "unexpected argument 'fm2_[redacted]' found",
            ),
            (
                "fm1r_lJPEEAAAA,fm1a_lJPEEAAAA fo1_lJ-EE_AAA",
                "fm1r_[redacted],fm1a_[redacted] fo1_[redacted]",
            ),
            ("fm2_fm2_lJPEEAAAA", "fm2_[redacted]"),
        ] {
            assert_eq!(without_tokens(message), expected);
        }
        for message in ["", "Bearer fm2_...", "it does not begin with fm2_", "fm2_x"] {
            assert!(matches!(without_tokens(message), Cow::Borrowed(same) if same == message));
        }
    }

    #[test]
    fn lifetimes_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("1s", 1),
            ("90m", 5400),
            ("12h", 43_200),
            ("2d", 172_800),
            ("1w", 604_800),
            ("1y", 31_536_000),
            ("100y", LONGEST),
        ] {
            assert_eq!(text.parse(), Ok(Lifetime(seconds)), "{text}");
        }
        for (text, error) in [
            ("", LifetimeError::Unit),
            ("3600", LifetimeError::Unit),
            ("1month", LifetimeError::Unit),
            ("1H", LifetimeError::Unit),
            ("h", LifetimeError::Number),
            ("-1h", LifetimeError::Number),
            ("+1h", LifetimeError::Number),
            ("1.5h", LifetimeError::Number),
            ("1h30m", LifetimeError::Number),
            ("99999999999999999999y", LifetimeError::Number),
            ("0s", LifetimeError::Range),
            ("101y", LifetimeError::Range),
            ("9223372036854775807y", LifetimeError::Range),
        ] {
            assert_eq!(text.parse::<Lifetime>(), Err(error), "{text}");
        }
    }

    #[test]
    fn moments_are_in_utc() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_764_000_000, "2025-11-24T16:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(moment(unix).to_string(), text);
        }
        // The ends of what a token can say are far past any year, but must not panic.
        assert!(moment(i64::MAX).to_string().ends_with('Z'));
        assert!(moment(i64::MIN).to_string().ends_with('Z'));
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (-3600, "1 h"),
            (86_399, "23 h"),
            (14 * DAY, "14 d"),
            (YEAR, "1 y"),
        ] {
            assert_eq!(span(seconds).to_string(), text);
        }
    }

    #[test]
    fn tables_are_aligned_and_escape_control_characters() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(
            table(&[row("ID", "NAME"), row("1", "\u{1b}[31m"), row("long", "")]),
            "ID    NAME\n1     \\u{1b}[31m\nlong\n"
        );
    }
}
