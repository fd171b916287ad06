//! Lengths of time as users write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::UnitError;

const ACCEPTED: &str = "whole numbers with ms, s, m, h, d or w, the largest first, e.g. \"15m\", \"7d\", \"1h30m\"";

/// Milliseconds per unit, largest first; a day is 24 hours.
const UNITS: [(u64, &str); 6] =
    [(7 * 86_400_000, "w"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];

/// A length of time in whole milliseconds. Serialised as its canonical text.
///
/// ```
/// use federation::Span;
/// let lease: Span = "90m".parse().unwrap();
/// assert_eq!(lease.to_string(), "1h30m");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl Span {
    /// So many whole seconds.
    pub const fn from_secs(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Span {
        Span(Duration::from_millis(milliseconds))
    }

    /// Whole seconds, rounded up: what PVE's timeouts take.
    pub const fn as_secs_ceil(self) -> u64 {
        let seconds = self.0.as_secs();
        if self.0.subsec_nanos() == 0 { seconds } else { seconds.saturating_add(1) }
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Span, UnitError> {
        let error = |why: String| UnitError::new("duration", text, why, ACCEPTED);
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Span::default());
        }
        if rest.is_empty() {
            return Err(error("it is empty".into()));
        }
        let mut total: u64 = 0;
        let mut largest_allowed = UNITS.len() + 1;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let number: u64 = number.parse().map_err(|_| error("a number is missing or too large".into()))?;
            if unit.is_empty() {
                return Err(error(format!("{number} has no unit")));
            }
            // Counted from the smallest, so that "the next must be smaller" is a comparison.
            let place = UNITS
                .iter()
                .rev()
                .position(|(_, name)| *name == unit)
                .ok_or_else(|| error(format!("{unit:?} is not a unit of time")))?;
            if place >= largest_allowed {
                return Err(error("units must go from large to small, each once".into()));
            }
            largest_allowed = place;
            total = number
                .checked_mul(UNITS[UNITS.len() - 1 - place].0)
                .and_then(|ms| total.checked_add(ms))
                .ok_or_else(|| error("it is too long".into()))?;
            rest = tail.trim_start();
        }
        Ok(Span(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        // No weeks: people write "14d", and the canonical spelling should look like what they wrote.
        for (size, name) in &UNITS[1..] {
            if rest >= *size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
