//! Names of virtual machines, and the families they form.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NameError, text_newtype};

/// A VM's name: what PVE takes for a DNS name (labels of letters, digits and inner hyphens, joined by dots), 253 characters at most. A
/// label may be longer than the 63 that a name server takes, as in PVE.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

text_newtype!(VmName);

/// The family a numbered name belongs to: `web-7` is number 7 of `web-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The name without its number and without separators before it, plus the domain if there is one.
    pub stem: String,
    /// The family as people write it (`web-*`).
    pub pattern: String,
    /// The number at the end of the first label.
    pub number: u32,
}

impl VmName {
    /// What a machine without a name goes by, as Proxmox VE's own tools call it: `vm-100`.
    pub fn of_vmid(vmid: u32) -> VmName {
        VmName(format!("vm-{vmid}"))
    }

    /// The family of a name whose first label ends in a number of at most nine digits (`web-7`, `web07`,
    /// `web-7.example.net`); `None` for other names.
    pub fn family(&self) -> Option<Family> {
        let (label, domain) = match self.0.split_once('.') {
            Some((label, domain)) => (label, format!(".{domain}")),
            None => (self.0.as_str(), String::new()),
        };
        let stem = label.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &label[stem.len()..];
        if digits.is_empty() || digits.len() > 9 {
            return None;
        }
        Some(Family {
            number: digits.parse().ok()?,
            pattern: format!("{stem}*{domain}"),
            stem: format!("{}{domain}", stem.trim_end_matches('-')),
        })
    }
}

impl FromStr for VmName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<VmName, NameError> {
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label_ok) {
            let why = "a DNS name: labels of letters, digits and inner hyphens, joined by dots";
            return Err(NameError::new("VM name", text, why));
        }
        Ok(VmName(text.to_owned()))
    }
}
