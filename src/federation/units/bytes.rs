//! Sizes in bytes, spelled in binary units.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{UnitError, split, write_exact};

const ACCEPTED: &str = "a number with K, M, G, T or P (also KB, KiB, …; always powers of 1024), e.g. \"8GB\"";

/// A size in bytes, 0 to 2⁶⁴−1. Serialised as a plain number of bytes.
///
/// ```
/// use federation::Bytes;
/// let size: Bytes = "8GB".parse().unwrap();
/// assert_eq!(size, Bytes(8 << 30));
/// assert_eq!(size.to_string(), "8GiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Nothing.
    pub const ZERO: Bytes = Bytes(0);
    /// 2¹⁰ bytes.
    pub const KIB: Bytes = Bytes(1 << 10);
    /// 2²⁰ bytes.
    pub const MIB: Bytes = Bytes(1 << 20);
    /// 2³⁰ bytes.
    pub const GIB: Bytes = Bytes(1 << 30);
    /// 2⁴⁰ bytes.
    pub const TIB: Bytes = Bytes(1 << 40);

    /// So many MiB, held at the largest size where that overflows.
    pub const fn from_mib(mib: u64) -> Bytes {
        Bytes(mib.saturating_mul(1 << 20))
    }

    /// So many GiB, held at the largest size where that overflows.
    pub const fn from_gib(gib: u64) -> Bytes {
        Bytes(gib.saturating_mul(1 << 30))
    }

    /// Whole MiB, rounded down: the unit of `memory` in a VM's configuration.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }

    /// Whole GiB, rounded up: what a new volume must be asked for (`storage:N`), so that it is never too small.
    pub const fn as_gib_ceil(self) -> u64 {
        self.0.div_ceil(1 << 30)
    }

    /// Reads PVE's own spelling of a size (`size=32G` of a drive): like [`FromStr`], but a bare number is bytes.
    ///
    /// # Errors
    /// What is neither a bare number nor a size.
    pub fn from_pve(text: &str) -> Result<Bytes, UnitError> {
        match text.trim().parse::<u64>() {
            Ok(bytes) => Ok(Bytes(bytes)),
            Err(_) => text.parse(),
        }
    }

    /// The difference, nothing when `other` is larger.
    pub const fn saturating_sub(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }

    /// `self × factor`, rounded down; `factor` is finite and not negative (anything else gives nothing).
    pub fn scaled(self, factor: f64) -> Bytes {
        // `as` saturates, and turns NaN and negative products into 0: exactly the documented meaning.
        Bytes((self.0 as f64 * factor) as u64)
    }

    /// For people: at most one decimal, rounded down, in the unit that keeps the number readable ("41 GiB", "1.5 TiB").
    pub fn human(self) -> String {
        // What is off by less than a millionth is floating point, not bytes.
        self.in_words(|tenths| (tenths + 1e-6).floor())
    }

    /// Like [`Bytes::human`], rounded up: for what is missing.
    pub fn human_at_least(self) -> String {
        self.in_words(|tenths| (tenths - 1e-6).ceil())
    }

    fn in_words(self, round: fn(f64) -> f64) -> String {
        const NAMES: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < NAMES.len() {
            value /= 1024.0;
            unit += 1;
        }
        let tenths = round(value * 10.0);
        let decimals = usize::from(tenths % 10.0 != 0.0);
        format!("{:.decimals$} {}", tenths / 10.0, NAMES[unit])
    }
}

impl Add for Bytes {
    type Output = Bytes;

    /// Saturating: a sum beyond 64 bits stays at the largest size, so that it can never look small.
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        iter.fold(Bytes::ZERO, Add::add)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Bytes, UnitError> {
        let error = |why: &str| UnitError::new("size", text, why, ACCEPTED);
        let quantity = split(text).map_err(error)?;
        let unit = match quantity.unit.to_ascii_lowercase().as_str() {
            "" if quantity.digits == 0 => 1,
            "" => {
                return Err(error("it has no unit, and a bare number could be bytes, MiB or GiB"));
            }
            "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            "p" | "pb" | "pib" => 1 << 50,
            _ => return Err(error(&format!("{:?} is not a unit of size", quantity.unit))),
        };
        quantity.times(unit).map(Bytes).ok_or_else(|| error("it is larger than 2⁶⁴ bytes"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
        write_exact(f, self.0, &UNITS)
    }
}
