//! Numbers of any size that keep the text they came as.

use std::{cmp::Ordering, fmt, hash, str::FromStr};

/// Exponents beyond this are refused: no configuration needs them, and printing them would exhaust memory.
const MAX_EXPONENT: i64 = 100_000;

/// A decimal number of any size and precision.
///
/// It keeps the text it was made from (without leading zeros) and is compared by value: `1.50`, `15e-1` and `1.5` are equal. Terraform compares
/// numbers by their decimal text, so a value that passes through us must not become a float on the way.
#[derive(Debug, Clone)]
pub struct Number(String);

/// A text that is not a decimal number, or one whose exponent is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number")]
pub struct ParseNumberError;

/// A number as `±digits × 10^exponent`, digits without zeros at either end; zero has no digits.
#[derive(PartialEq, Eq, Hash)]
struct Canonical<'a> {
    negative: bool,
    digits: std::borrow::Cow<'a, str>,
    exponent: i64,
}

impl Number {
    /// The number of a float; `None` for infinities and NaN.
    pub fn from_f64(value: f64) -> Option<Self> {
        // `{:?}` is the shortest text that gives the same float back.
        value.is_finite().then(|| Self(format!("{value:?}").trim_end_matches(".0").to_owned()))
    }

    /// The text, as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value, if it is a whole number in the range of `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        self.whole()?.parse().ok()
    }

    /// The value, if it is a whole number in the range of `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        self.whole()?.parse().ok()
    }

    /// The nearest float; large magnitudes become infinite.
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN) // our grammar is a subset of Rust's
    }

    /// The float that is exactly this number, if there is one.
    pub(crate) fn as_exact_f64(&self) -> Option<f64> {
        let float = self.as_f64();
        if !float.is_finite() {
            return None;
        }
        // 1074 places are enough for the exact decimal expansion of any float.
        let expansion = format!("{float:.1074}");
        (canonical(&expansion) == self.canonical()).then_some(float)
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.canonical().exponent >= 0
    }

    /// The digits of a whole number of at most 20 digits, with its sign.
    fn whole(&self) -> Option<String> {
        let c = self.canonical();
        if c.digits.is_empty() {
            return Some("0".into());
        }
        let zeros = usize::try_from(c.exponent).ok()?;
        if c.digits.len() + zeros > 20 {
            return None;
        }
        Some(format!("{}{}{}", if c.negative { "-" } else { "" }, c.digits, "0".repeat(zeros)))
    }

    fn canonical(&self) -> Canonical<'_> {
        canonical(&self.0)
    }
}

/// Reads a text that [`Number::from_str`] has accepted.
fn canonical(text: &str) -> Canonical<'_> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let mut exponent: i64 = exponent.parse().unwrap_or(0);
    let mut digits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            exponent -= fraction.len() as i64;
            std::borrow::Cow::Owned(format!("{whole}{fraction}"))
        }
        None => std::borrow::Cow::Borrowed(mantissa),
    };
    let end = digits.trim_end_matches('0').len();
    exponent += (digits.len() - end) as i64;
    let start = end - digits[..end].trim_start_matches('0').len();
    digits = match digits {
        std::borrow::Cow::Borrowed(d) => std::borrow::Cow::Borrowed(&d[start..end]),
        std::borrow::Cow::Owned(d) => std::borrow::Cow::Owned(d[start..end].to_owned()),
    };
    if digits.is_empty() {
        return Canonical { negative: false, digits, exponent: 0 };
    }
    Canonical { negative, digits, exponent }
}

impl FromStr for Number {
    type Err = ParseNumberError;

    /// `-?digits(.digits)?([eE][+-]?digits)?`
    fn from_str(text: &str) -> Result<Self, ParseNumberError> {
        let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        if !is_digits(whole) || !fraction.is_none_or(is_digits) {
            return Err(ParseNumberError);
        }
        if let Some(exponent) = exponent {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let in_range = exponent.parse::<i64>().is_ok_and(|e| e.abs() <= MAX_EXPONENT);
            if !is_digits(digits) || !in_range {
                return Err(ParseNumberError);
            }
        }
        // JSON, where the text may have to go, has no leading zeros.
        let zeros = whole.len() - whole.trim_start_matches('0').len().max(1);
        let sign = text.len() - unsigned.len();
        Ok(Self(format!("{}{}", &text[..sign], &unsigned[zeros..])))
    }
}

macro_rules! from_integer {
    ($($t:ty),*) => {$(
        impl From<$t> for Number {
            fn from(value: $t) -> Self {
                Self(value.to_string())
            }
        }
    )*};
}
from_integer!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }
}

impl Eq for Number {}

impl hash::Hash for Number {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.canonical(), other.canonical());
        let sign = |c: &Canonical<'_>| match (c.digits.is_empty(), c.negative) {
            (true, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        let magnitude = || {
            // The place of the first digit decides, then the digits themselves.
            let place = |c: &Canonical<'_>| c.digits.len() as i64 + c.exponent;
            place(&a).cmp(&place(&b)).then_with(|| a.digits.cmp(&b.digits))
        };
        sign(&a).cmp(&sign(&b)).then_with(|| match sign(&a) {
            0 => Ordering::Equal,
            1 => magnitude(),
            _ => magnitude().reverse(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn equal_values_are_equal_however_they_are_written() {
        for (a, b) in [("1.50", "15e-1"), ("0", "-0.00"), ("100", "1e2"), ("007", "7"), ("0.1", "1E-1")] {
            assert_eq!(n(a), n(b), "{a} {b}");
        }
        assert_ne!(n("0.12345678901234567890123"), n("0.12345678901234567890124"));
    }

    #[test]
    fn order_is_by_value() {
        let sorted = ["-12", "-9.5", "0", "0.05", "0.5", "9", "10", "18446744073709551616"];
        for pair in sorted.windows(2) {
            assert!(n(pair[0]) < n(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1e",
            "1e+",
            "+1",
            "NaN",
            "inf",
            "1_000",
            "0x10",
            "1e999999999",
            "1e99999999999999999999",
        ] {
            assert!(text.parse::<Number>().is_err(), "{text}");
        }
    }

    #[test]
    fn conversions_are_exact_or_none() {
        assert_eq!(n("42.0").as_i64(), Some(42));
        assert_eq!(n("-9223372036854775808").as_i64(), Some(i64::MIN));
        assert_eq!(n("9223372036854775808").as_i64(), None);
        assert_eq!(n("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(n("1.5").as_i64(), None);
        assert_eq!(n("1e100000").as_i64(), None);
        assert_eq!(n("1.5").as_exact_f64(), Some(1.5));
        assert_eq!(n("0.1").as_exact_f64(), None);
        assert_eq!(Number::from_f64(3.0).unwrap().as_str(), "3");
        assert_eq!(Number::from_f64(1e300).unwrap().as_f64(), 1e300);
        assert!(Number::from_f64(f64::NAN).is_none());
    }
}
