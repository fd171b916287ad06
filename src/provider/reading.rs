//! Owns reading typed values out of a configuration, and reporting on its path what can't be read.
use std::ops::RangeInclusive;

use protocol::{AttributePath, Diagnostics, Value};

/// Reads values. Null and unknown values read as nothing; what is wrong is reported where it stands.
pub(crate) struct Reader<'a> {
    /// Where mistakes go.
    pub(crate) diags: &'a mut Diagnostics,
}

impl Reader<'_> {
    /// One element of a collection, or the key of a map. The summary names the outermost attribute.
    pub(crate) fn element<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        text: &str,
        at: AttributePath,
    ) -> Option<T> {
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let what = at.steps.iter().find_map(|step| match step {
                    protocol::Step::Attribute(name) => Some(name.clone()),
                    _ => None,
                });
                self.diags.error_at(at, format!("Invalid {}", what.unwrap_or_default()), error.to_string());
                None
            }
        }
    }

    /// The text of an attribute, read as what it is to be.
    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        value: &Value,
        at: &AttributePath,
        name: &str,
    ) -> Option<T> {
        match value.attr(name).as_str()?.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.wrong(at, name, error.to_string());
                None
            }
        }
    }

    /// A whole number in a range.
    pub(crate) fn whole(
        &mut self,
        value: &Value,
        at: &AttributePath,
        name: &str,
        fits: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = value.attr(name).as_number()?;
        match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if fits.contains(&number) => Some(number),
            _ => {
                let (least, most) = (fits.start(), fits.end());
                self.wrong(at, name, format!("{} is not a whole number from {least} to {most}.", number.as_str()));
                None
            }
        }
    }

    /// A number, whole or not, that `fits`; `accepted` says so in words.
    pub(crate) fn number(
        &mut self,
        value: &Value,
        at: &AttributePath,
        name: &str,
        accepted: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        let number = value.attr(name).as_number()?;
        if fits(number.as_f64()) {
            return Some(number.as_f64());
        }
        self.wrong(at, name, format!("{} is not {accepted}.", number.as_str()));
        None
    }

    /// Reports an attribute that is wrong.
    pub(crate) fn wrong(&mut self, at: &AttributePath, name: &str, detail: impl Into<String>) {
        self.diags.error_at(at.clone().attribute(name), format!("Invalid {name}"), detail.into());
    }
}
