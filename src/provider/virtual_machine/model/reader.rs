//! Owns reading leaves of a machine: what is there is taken as well as it can be, and what the rules for a configuration don't allow is
//! reported beside that.
use federation::Bytes;
use federation::names::ends_early;
use protocol::{AttributePath, Value};

use super::Reader;
use crate::values::text;

impl Reader<'_> {
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        value: &Value,
        path: &AttributePath,
        name: &str,
    ) -> Option<T> {
        match value.attr(name).as_str()?.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.diags.error_at(path.clone().attribute(name), format!("Invalid {name}"), error.to_string());
                None
            }
        }
    }

    /// A size; nothing where it is not known yet, no bytes where it is none.
    pub(super) fn size(&mut self, value: &Value, path: &AttributePath, name: &str) -> Option<Bytes> {
        value.attr(name).as_str()?;
        Some(self.parsed(value, path, name).unwrap_or(Bytes::ZERO))
    }

    pub(super) fn number(
        &mut self,
        value: &Value,
        path: &AttributePath,
        name: &str,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let number = value.attr(name).as_number()?;
        match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(fits) if (least..=most).contains(&fits) => Some(fits),
            other => {
                let detail = format!("{} is not a whole number from {least} to {most}.", number.as_str());
                self.diags.error_at(path.clone().attribute(name), format!("Invalid {name}"), detail);
                other
            }
        }
    }

    pub(super) fn word(&mut self, value: &Value, path: &AttributePath, name: &str, accepted: &[&str]) {
        if let Some(word) = value.attr(name).as_str().filter(|word| !accepted.contains(word)) {
            let detail = format!("{word:?} is not one of {}.", accepted.join(", "));
            self.diags.error_at(path.clone().attribute(name), format!("Invalid {name}"), detail);
        }
    }

    /// A text that becomes a part of a property string. `ends`: the characters that would end it there; white space and control
    /// characters always do.
    pub(super) fn part(&mut self, value: &Value, path: &AttributePath, name: &str, ends: &[char]) -> Option<String> {
        let part = text(value, name)?;
        if let Some(wrong) = ends_early(&part, ends) {
            let detail = format!("{part:?} holds {wrong:?}, which Proxmox VE would take for the end of the value.");
            self.diags.error_at(path.clone().attribute(name), format!("Invalid {name}"), detail);
        }
        Some(part)
    }
}

pub(super) fn is_web_address(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let printable = url.chars().all(|c| !c.is_whitespace() && !c.is_control());
    printable && host.is_some_and(|host| !host.is_empty() && !host.starts_with(':') && !host.contains('@'))
}

pub(super) fn is_mac(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    let hexadecimal = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unicast = || u8::from_str_radix(pairs[0], 16).is_ok_and(|first| first & 1 == 0);
    pairs.len() == 6 && pairs.iter().all(hexadecimal) && unicast()
}
