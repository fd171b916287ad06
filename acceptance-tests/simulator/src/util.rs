//! Small things everything needs: seeded randomness, dates, percent coding, sizes.

use sha2::{Digest, Sha256};

/// A number that depends on the seed and a label alone, so that a run can be repeated.
pub(crate) fn mix(seed: u64, label: &str) -> u64 {
    let digest = Sha256::digest(format!("{seed}/{label}").as_bytes());
    digest.iter().take(8).fold(0, |acc, byte| (acc << 8) | u64::from(*byte))
}

/// SplitMix64: enough for disk contents.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A version 4 UUID made of seed and label.
pub(crate) fn uuid(seed: u64, label: &str) -> String {
    let mut random = Random::new(mix(seed, label));
    let (a, b) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}

/// Lower-case hex of a SHA-1 digest, as PVE's `digest` parameters hold it.
pub(crate) fn sha1_hex(text: &str) -> String {
    use sha1::Digest as _;
    hex(&sha1::Sha1::digest(text.as_bytes()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Upper-case hex with colons, the form of PVE's fingerprints.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

/// Year, month, day, hour, minute, second and weekday (0 = Thursday) of seconds since 1970.
pub(crate) fn civil(seconds: i64) -> (i64, i64, i64, i64, i64, i64, i64) {
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400);
    // Days to civil date: eras of 400 years, years beginning in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60, days.rem_euclid(7))
}

/// The first second of a day, in seconds since 1970: the way back from [`civil`].
pub(crate) fn seconds_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe - 719_468) * 86_400
}

/// An HTTP date.
pub(crate) fn http_date(seconds: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, h, m, s, weekday) = civil(seconds);
    let name = MONTHS.get(usize::try_from(month - 1).unwrap_or(0)).unwrap_or(&"Jan");
    let weekday = DAYS.get(usize::try_from(weekday).unwrap_or(0)).unwrap_or(&"Thu");
    format!("{weekday}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT")
}

/// `2026-01-02 03:04:05`.
pub(crate) fn log_date(seconds: i64) -> String {
    let (year, month, day, h, m, s, _) = civil(seconds);
    format!("{year}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}")
}

/// `2026_01_02-03_04_05`, as in archive names.
pub(crate) fn archive_date(seconds: i64) -> String {
    let (year, month, day, h, m, s, _) = civil(seconds);
    format!("{year}_{month:02}_{day:02}-{h:02}_{m:02}_{s:02}")
}

/// Undoes `%XX` (and `+` where `plus` says so); what is not valid stays.
pub(crate) fn percent_decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if plus && bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How PVE keeps the notes in a configuration file.
pub(crate) fn percent_encode_notes(text: &str) -> String {
    text.bytes()
        .map(|b| if b == b'%' || !(0x20..0x7f).contains(&b) { format!("%{b:02X}") } else { char::from(b).to_string() })
        .collect()
}

/// Bytes of `32G`, `512M`, `1T`, `8192K` or a plain number; 1024 based, as PVE's `parse_size`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.strip_suffix("iB").unwrap_or(text);
    let (number, unit) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 1u64 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        'T' => (&text[..text.len() - 1], 1 << 40),
        _ => (text, 1),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let value: f64 = number.parse().ok()?;
    (value >= 0.0).then_some((value * unit as f64) as u64)
}

/// The shortest of PVE's spellings (`format_size`).
pub(crate) fn format_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The separators of every PVE list.
pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', ' ', '\t', '\n', '\0']).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(log_date(1_767_323_045), "2026-01-02 03:04:05");
        for days in [0, 59, 60, 365, 11_016, 20_454] {
            let (year, month, day, ..) = civil(days * 86_400);
            assert_eq!(seconds_of(year, month, day), days * 86_400);
        }
    }

    #[test]
    fn sizes_are_1024_based() {
        assert_eq!(parse_size("32G"), Some(32 << 30));
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        assert_eq!(format_size(32 << 30), "32G");
        assert_eq!(format_size(4 << 40), "4T");
    }
}
