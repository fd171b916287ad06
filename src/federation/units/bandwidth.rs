//! Bandwidths in bits per second, spelled in decimal units.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bytes, UnitError, split, write_exact};

const ACCEPTED: &str = "bits per second with kbps, Mbps, Gbps or Tbps (powers of 1000), e.g. \"500Mbps\"";

/// A bandwidth in bits per second; 0 is not a bandwidth. Serialised as a plain number of bits per second.
///
/// ```
/// use federation::Bandwidth;
/// let limit: Bandwidth = "500Mbps".parse().unwrap();
/// assert_eq!(limit.bits_per_second(), 500_000_000);
/// assert_eq!(limit.to_kib_per_second(), 61_035);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// So many bits per second (at least 1).
    pub const fn from_bits_per_second(bits: u64) -> Bandwidth {
        Bandwidth(if bits == 0 { 1 } else { bits })
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// KiB per second, the unit of PVE's `bwlimit`, rounded down; at least 1, because there 0 means "no limit".
    pub const fn to_kib_per_second(self) -> u64 {
        let kib = self.0 / (8 * 1024);
        if kib == 0 { 1 } else { kib }
    }

    /// How long `size` takes at this rate, in whole seconds rounded up.
    pub fn time_for(self, size: Bytes) -> Duration {
        let seconds = (u128::from(size.0) * 8).div_ceil(u128::from(self.0.max(1)));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
    }
}

impl FromStr for Bandwidth {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Bandwidth, UnitError> {
        let error = |why: &str| UnitError::new("bandwidth", text, why, ACCEPTED);
        let quantity = split(text).map_err(error)?;
        // MB/s and Mb/s differ by 8 and by one letter's case only; guessing would be wrong half of the time.
        if quantity.unit.contains('B') {
            return Err(error("B means bytes, and bandwidths are in bits"));
        }
        let unit = quantity.unit.to_ascii_lowercase();
        let prefix = ["bps", "bit/s", "b/s"]
            .iter()
            .find_map(|suffix| unit.strip_suffix(suffix))
            .ok_or_else(|| error("it has no unit of bits per second"))?;
        let unit = match prefix {
            "" => 1,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "t" => 1_000_000_000_000,
            _ => return Err(error(&format!("{prefix:?} is not a prefix"))),
        };
        match quantity.times(unit) {
            Some(0) => Err(error("nothing could ever be transferred")),
            Some(bits) => Ok(Bandwidth(bits)),
            None => Err(error("it is larger than 2⁶⁴ bit/s")),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] =
            [(1_000_000_000_000, "Tbps"), (1_000_000_000, "Gbps"), (1_000_000, "Mbps"), (1_000, "kbps"), (1, "bps")];
        write_exact(f, self.0, &UNITS)
    }
}
