//! Quantities with their unit in the type: bytes, bits per second, time spans.
//!
//! Sizes are binary whatever the suffix (`8G`, `8GB` and `8GiB` are all 8 × 2³⁰ bytes), as in Proxmox VE's own
//! configuration; bandwidths are decimal bits (`500Mbps` is 500 × 10⁶ bit/s). Each type keeps one canonical spelling
//! ([`std::fmt::Display`]); what a user wrote is compared with [`same_meaning`], never rewritten.

mod bandwidth;
mod bytes;
mod cidr;
mod span;

use std::fmt;
use std::str::FromStr;

pub use bandwidth::Bandwidth;
pub use bytes::Bytes;
pub use cidr::Cidr;
pub use span::Span;

/// A text that is not a quantity of the wanted kind; says what was written, why it was refused and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not a {what}: {why}; accepted: {accepted}")]
pub struct UnitError {
    /// The kind of quantity that was expected ("size", "bandwidth", "duration").
    pub what: &'static str,
    /// The text as written, shortened to 64 characters.
    pub got: String,
    /// What is wrong with it.
    pub why: String,
    /// Examples of accepted spellings.
    pub accepted: &'static str,
}

impl UnitError {
    fn new(what: &'static str, got: &str, why: impl Into<String>, accepted: &'static str) -> UnitError {
        UnitError { what, got: got.chars().take(64).collect(), why: why.into(), accepted }
    }
}

/// Whether two spellings mean the same quantity (`8G` and `8192MiB`). Texts that do not parse are the same only when
/// they are equal letter by letter.
///
/// ```
/// use federation::units::{same_meaning, Bytes};
/// assert!(same_meaning::<Bytes>("8G", "8192MiB"));
/// assert!(!same_meaning::<Bytes>("8G", "9G"));
/// ```
pub fn same_meaning<T: FromStr + PartialEq>(a: &str, b: &str) -> bool {
    a == b || matches!((a.parse::<T>(), b.parse::<T>()), (Ok(a), Ok(b)) if a == b)
}

/// A decimal number split from its unit: `value × 10^-scale`.
struct Quantity<'a> {
    digits: u128,
    scale: u32,
    unit: &'a str,
}

/// Splits `2.5 TB` into 25 × 10⁻¹ and `TB`. At most 20 digits in all (every `u64`), so that nothing below can overflow a `u128`.
fn split(text: &str) -> Result<Quantity<'_>, &'static str> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') {
        return Err("it does not begin with a number");
    }
    if whole.len() + fraction.len() > 20 {
        return Err("it has more than 20 digits");
    }
    let digits = format!("{whole}{fraction}").parse::<u128>().map_err(|_| "it does not begin with a number")?;
    Ok(Quantity { digits, scale: fraction.len() as u32, unit: unit.trim() })
}

impl Quantity<'_> {
    /// The quantity in base units, fractions of a base unit cut off; `None` beyond 64 bits.
    fn times(&self, unit: u64) -> Option<u64> {
        u64::try_from(self.digits * u128::from(unit) / 10u128.pow(self.scale)).ok()
    }
}

/// Writes `value` in the largest of `units` (largest first) that divides it exactly.
fn write_exact(f: &mut fmt::Formatter<'_>, value: u64, units: &[(u64, &str)]) -> fmt::Result {
    match units.iter().find(|(size, _)| value != 0 && value.is_multiple_of(*size)) {
        Some((size, name)) => write!(f, "{}{name}", value / size),
        None => write!(f, "{value}{}", units.last().map_or("", |(_, name)| name)),
    }
}

#[cfg(test)]
mod tests;
