//! Owns the smaller values of a guest's configuration: `smbios1`, `agent`, `boot`.

use std::{convert::Infallible, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{PropertyString, de::parse_bool};

/// The SMBIOS type 1 fields. Its uuid is how a guest is recognised across clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Smbios1(PropertyString);

impl Smbios1 {
    /// With this uuid only.
    pub fn with_uuid(uuid: &str) -> Self {
        let mut all = Self::default();
        all.set_uuid(uuid);
        all
    }

    /// The uuid as PVE wrote it.
    pub fn uuid(&self) -> Option<&str> {
        self.0.get("uuid")
    }

    /// Sets the uuid, in place.
    pub fn set_uuid(&mut self, uuid: &str) {
        self.0.set("uuid", uuid);
    }

    /// A text field (`manufacturer`, `product`, `version`, `serial`, `sku`, `family`), decoded if `base64=1` says so.
    pub fn text(&self, key: &str) -> Option<String> {
        let raw = self.0.get(key)?;
        if self.0.get_bool("base64") != Some(true) {
            return Some(raw.to_owned());
        }
        STANDARD.decode(raw).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    }

    /// All entries in order, as written.
    pub fn properties(&self) -> &PropertyString {
        &self.0
    }
}

/// The guest agent's setting: `1`, `enabled=1,fstrim_cloned_disks=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent(PropertyString);

impl Agent {
    /// Whether PVE talks to the agent (default false).
    pub fn enabled(&self) -> bool {
        self.0.default_value().and_then(parse_bool).or_else(|| self.0.get_bool("enabled")).unwrap_or(false)
    }

    /// Switches it, keeping the other entries.
    pub fn set_enabled(&mut self, enabled: bool) {
        let value = if enabled { "1" } else { "0" };
        if self.0.get("enabled").is_some() { self.0.set("enabled", value) } else { self.0.set_default(value) }
    }

    /// All entries in order.
    pub fn properties(&self) -> &PropertyString {
        &self.0
    }
}

/// The boot setting: `order=scsi0;net0`, or the old letters (`cdn`), which are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot(PropertyString);

impl Boot {
    /// Booting from these devices in turn.
    pub fn from_order<S: AsRef<str>>(devices: impl IntoIterator<Item = S>) -> Self {
        let mut boot = Self::default();
        let devices: Vec<String> = devices.into_iter().map(|device| device.as_ref().to_owned()).collect();
        boot.0.set("order", devices.join(";"));
        boot
    }

    /// The devices in turn; empty in the old form.
    pub fn order(&self) -> Vec<&str> {
        let order = self.0.get("order").unwrap_or_default();
        let separates = |c: char| c == ';' || c == '\0' || c.is_whitespace();
        order.split(separates).filter(|device| !device.is_empty()).collect()
    }

    /// All entries in order.
    pub fn properties(&self) -> &PropertyString {
        &self.0
    }
}

macro_rules! as_property_string {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = Infallible;
            fn from_str(text: &str) -> Result<Self, Infallible> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

as_property_string!(Smbios1, Agent, Boot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smbios_fields_are_decoded_and_kept() {
        let text = "uuid=6f1cc8f2-55b7-4a39-9b9f-0f7b5b3f6a11,manufacturer=RXhhbXBsZSBJbmM=,base64=1";
        let mut smbios: Smbios1 = text.parse().unwrap();
        assert_eq!(smbios.uuid(), Some("6f1cc8f2-55b7-4a39-9b9f-0f7b5b3f6a11"));
        assert_eq!(smbios.text("manufacturer").as_deref(), Some("Example Inc"));
        assert_eq!(smbios.to_string(), text);
        smbios.set_uuid("11111111-2222-3333-4444-555555555555");
        assert!(smbios.to_string().ends_with(",manufacturer=RXhhbXBsZSBJbmM=,base64=1"));
    }

    #[test]
    fn the_agent_has_two_spellings() {
        for (text, enabled) in
            [("1", true), ("0", false), ("enabled=1,type=virtio", true), ("1,fstrim_cloned_disks=1", true)]
        {
            let mut agent: Agent = text.parse().unwrap();
            assert_eq!(agent.enabled(), enabled, "{text}");
            assert_eq!(agent.to_string(), text);
            agent.set_enabled(!enabled);
            assert_eq!(agent.enabled(), !enabled);
        }
    }

    #[test]
    fn boot_order_and_old_letters() {
        assert_eq!("order=scsi0;net0".parse::<Boot>().unwrap().order(), ["scsi0", "net0"]);
        let old: Boot = "cdn".parse().unwrap();
        assert!(old.order().is_empty());
        assert_eq!(old.to_string(), "cdn");
        assert_eq!(Boot::from_order(["scsi0", "net0"]).to_string(), "order=scsi0;net0");
    }
}
