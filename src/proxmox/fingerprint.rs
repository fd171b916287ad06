//! Owns the fingerprint of a certificate: SHA-256 over its DER form, as Proxmox VE prints it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// SHA-256 over a certificate's DER bytes; printed as 32 upper-case hex pairs with colons (`proxmox-ve.md` §2.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is not a SHA-256 fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 fingerprint: 64 hex digits, in pairs separated by colons or in one piece")]
pub struct InvalidFingerprint(String);

impl Fingerprint {
    /// The fingerprint of a certificate given as DER.
    pub fn of_der(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Accepts colons or none, either case, and surrounding white space.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidFingerprint(text.to_owned());
        let trimmed = text.trim();
        let pairs: Vec<&str> = if trimmed.contains(':') {
            trimmed.split(':').collect()
        } else if trimmed.is_ascii() {
            (0..trimmed.len()).step_by(2).filter_map(|i| trimmed.get(i..i + 2)).collect()
        } else {
            return Err(invalid());
        };
        let whole = trimmed.contains(':') || trimmed.len() == 64;
        if !whole || pairs.len() != 32 {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        let print = Fingerprint::of_der(b"certificate");
        let text = print.to_string();
        assert_eq!(text.len(), 95);
        assert_eq!(text, text.to_uppercase());
        assert_eq!(text.parse(), Ok(print));
        assert_eq!(text.to_lowercase().replace(':', "").parse(), Ok(print));
    }

    #[test]
    fn refuses_sha1_and_noise() {
        for text in ["", "AA:BB", &"A1:".repeat(32), &"+1:".repeat(32)[..95], &"ä".repeat(32), &"0".repeat(63)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
