//! The API table: which calls there are, what they take, who may make them. Data from `api/table.json`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock};

use regex::Regex;
use serde::Deserialize;

/// One call.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) protected: bool,
    #[serde(default)]
    pub(crate) proxyto: Option<String>,
    #[serde(default = "yes")]
    pub(crate) allowtoken: bool,
    pub(crate) permissions: Option<Permissions>,
    pub(crate) parameters: BTreeMap<String, Rule>,
    #[serde(default)]
    pub(crate) since9: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Permissions {
    pub(crate) user: Option<String>,
    pub(crate) check: Option<serde_json::Value>,
}

/// What a parameter, or a key of a property string, may be.
#[derive(Debug, Deserialize)]
pub(crate) struct Rule {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "enum")]
    values: Option<Vec<serde_json::Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    #[serde(rename = "minLength")]
    min_length: Option<usize>,
    #[serde(rename = "maxLength")]
    max_length: Option<usize>,
    optional: Option<serde_json::Value>,
    requires: Option<String>,
    alias: Option<String>,
    #[serde(rename = "keyAlias")]
    key_alias: Option<String>,
    default_key: Option<serde_json::Value>,
    pattern: Option<String>,
    shape: Option<String>,
    format: Option<String>,
    max_index: Option<u32>,
    #[serde(default)]
    since9: bool,
}

#[derive(Debug, Deserialize)]
struct Format {
    kind: String,
    regex: Option<String>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    flags: String,
    of: Option<String>,
    shape: Option<String>,
}

type Shape = BTreeMap<String, Rule>;

#[derive(Debug, Deserialize)]
pub(crate) struct Table {
    formats: BTreeMap<String, Format>,
    shapes: BTreeMap<String, Shape>,
    pub(crate) endpoints: Vec<Endpoint>,
}

fn yes() -> bool {
    true
}

/// The table; parsed once.
pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| match serde_json::from_str(include_str!("../api/table.json")) {
        Ok(table) => table,
        Err(error) => unreachable!("api/table.json is checked by a test: {error}"),
    })
}

/// Perl's `/^PATTERN$/`: compiled once, and `$` also matches before a last line feed.
fn matches(pattern: &str, flags: &str, value: &str) -> bool {
    static CACHE: OnceLock<Mutex<HashMap<String, Option<Regex>>>> = OnceLock::new();
    let cache = CACHE.get_or_init(Mutex::default);
    let key = if flags.contains('i') { format!("(?i)^(?:{pattern})$") } else { format!("^(?:{pattern})$") };
    let mut cache = cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let regex = cache.entry(key).or_insert_with_key(|key| Regex::new(key).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(value.strip_suffix('\n').unwrap_or(value)))
}

impl Rule {
    fn is_optional(&self) -> bool {
        self.optional.as_ref().is_some_and(|value| *value != serde_json::json!(0) && *value != serde_json::json!(false))
    }
}

impl Endpoint {
    /// The rule of a parameter, `net3` being an instance of `net[n]`.
    fn rule(&self, name: &str, nine: bool) -> Option<&Rule> {
        let rule = self.parameters.get(name).or_else(|| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            let index: u32 = digits.parse().ok()?;
            let stem = &name[..name.len() - digits.len()];
            let canonical = index.to_string() == digits;
            self.parameters
                .get(&format!("{stem}[n]"))
                .filter(|rule| canonical && rule.max_index.is_none_or(|max| index <= max))
        })?;
        (nine || !rule.since9).then_some(rule)
    }

    /// Checks all parameters; `nine` is the PVE 9 profile. The map of errors is PVE's (§2.4).
    pub(crate) fn validate(&self, params: &BTreeMap<String, String>, nine: bool) -> BTreeMap<String, String> {
        let table = table();
        let mut errors = BTreeMap::new();
        for (name, value) in params {
            let Some(rule) = self.rule(name, nine) else {
                let text = "property is not defined in schema and the schema does not allow additional properties";
                errors.insert(name.clone(), text.to_owned());
                continue;
            };
            if let Err(text) = table.check(rule, name, value) {
                errors.insert(name.clone(), text);
            }
            if let Some(other) = rule.requires.as_ref().filter(|other| !params.contains_key(*other)) {
                errors.insert(other.clone(), format!("missing property required by '{name}'"));
            }
        }
        for (name, rule) in &self.parameters {
            if !rule.is_optional() && rule.max_index.is_none() && !params.contains_key(name) {
                errors.entry(name.clone()).or_insert_with(|| "property is missing and it is not optional".to_owned());
            }
        }
        errors
    }
}

impl Table {
    fn check(&self, rule: &Rule, name: &str, value: &str) -> Result<(), String> {
        let kind = rule.kind.as_deref().unwrap_or("string");
        check_type(kind, value)?;
        if let Some(values) = &rule.values {
            let names: Vec<_> =
                values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
            if !names.iter().any(|n| n == value) {
                return Err(format!("value '{value}' does not have a value in the enumeration '{}'", names.join(", ")));
            }
        }
        let length = value.chars().count();
        if let Some(max) = rule.max_length.filter(|max| length > *max) {
            return Err(format!("value may only be {max} characters long"));
        }
        if let Some(min) = rule.min_length.filter(|min| length < *min) {
            return Err(format!("value must be at least {min} characters long"));
        }
        if rule.pattern.as_ref().is_some_and(|pattern| !matches(pattern, "", value)) {
            return Err("value does not match the regex pattern".to_owned());
        }
        if let Some(format) = &rule.format {
            self.check_format(format, name, value).map_err(|text| format!("invalid format - {text}"))?;
        }
        if let Some(shape) = rule.shape.as_ref().and_then(|shape| self.shapes.get(shape)) {
            self.check_properties(shape, name, value).map_err(|text| format!("invalid format - {text}"))?;
        }
        if let Ok(number) = value.parse::<f64>() {
            if let Some(min) = rule.minimum.filter(|min| number < *min) {
                return Err(format!("value must have a minimum value of {min}"));
            }
            if let Some(max) = rule.maximum.filter(|max| number > *max) {
                return Err(format!("value must have a maximum value of {max}"));
            }
        }
        Ok(())
    }

    fn check_format(&self, format: &str, name: &str, value: &str) -> Result<(), String> {
        let Some(known) = self.formats.get(format) else { return Ok(()) };
        let error = |fallback: &str| {
            let text = if known.error.is_empty() { fallback } else { known.error.as_str() };
            text.replace("{value}", value).replace("{part}", value)
        };
        match known.kind.as_str() {
            "regex" => match &known.regex {
                Some(regex) if !matches(regex, &known.flags, value) => Err(error("value is not valid")),
                _ => Ok(()),
            },
            "list" => match &known.of {
                Some(of) => crate::util::split_list(value).try_for_each(|part| self.check_format(of, name, part)),
                None => Ok(()),
            },
            "property-string" => match known.shape.as_ref().and_then(|shape| self.shapes.get(shape)) {
                Some(shape) => self.check_properties(shape, name, value),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A property string: `key=value,key=value`, one key possibly without its name.
    fn check_properties(&self, shape: &Shape, name: &str, value: &str) -> Result<(), String> {
        let mut seen = BTreeMap::<String, String>::new();
        let mut put = |key: &str, value: &str| match seen.insert(key.to_owned(), value.to_owned()) {
            Some(_) => Err(format!("duplicate key in comma-separated list property: {key}")),
            None => Ok(()),
        };
        let mut foreign = None;
        for part in value.split(',').filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                let default = shape.iter().find(|(_, rule)| rule.default_key.is_some());
                let Some((key, _)) = default else {
                    return Err("value without key, but schema does not define a default key".to_owned());
                };
                put(key, part)?;
                continue;
            };
            let Some(rule) = shape.get(key) else {
                foreign.get_or_insert_with(|| key.to_owned());
                continue;
            };
            if let Some(other) = &rule.key_alias {
                put(other, key)?;
            }
            put(rule.alias.as_deref().unwrap_or(key), value)?;
        }
        let bad = |key: &str, text: &str| Err(format!("format error\n{name}.{key}: {text}"));
        if let Some(key) = foreign {
            return bad(&key, "property is not defined in schema and the schema does not allow additional properties");
        }
        for (key, value) in &seen {
            let Some(rule) = shape.get(key) else { continue };
            let loose = rule.kind.as_deref() == Some("boolean")
                && matches!(value.to_lowercase().as_str(), "on" | "off" | "yes" | "no" | "true" | "false");
            if !loose && let Err(text) = self.check(rule, key, value) {
                return bad(key, &text);
            }
        }
        let missing = shape.iter().find(|(key, rule)| {
            !rule.is_optional() && rule.alias.is_none() && !seen.contains_key(*key) && rule.kind.is_some()
        });
        match missing {
            // Keys with a default (agent's `enabled`, memory's `current`) are required all the same.
            Some((key, _)) => bad(key, "property is missing and it is not optional"),
            None => Ok(()),
        }
    }
}

fn check_type(kind: &str, value: &str) -> Result<(), String> {
    let wrong = || Err(format!("type check ('{kind}') failed - got '{value}'"));
    match kind {
        "boolean" if value != "0" && value != "1" => wrong(),
        "integer" => {
            let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) { wrong() } else { Ok(()) }
        }
        "number" if value.parse::<f64>().is_err() => wrong(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(call: &str, params: &[(&str, &str)]) -> BTreeMap<String, String> {
        let endpoint = table().endpoints.iter().find(|e| format!("{} {}", e.method, e.path) == call).expect("served");
        let mut map = BTreeMap::from([("node".to_owned(), "pve1".to_owned()), ("vmid".to_owned(), "100".to_owned())]);
        map.extend(params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        endpoint.validate(&map, true)
    }

    #[test]
    fn every_pattern_of_the_table_compiles() {
        let t = table();
        let rules =
            t.endpoints.iter().flat_map(|e| e.parameters.values()).chain(t.shapes.values().flat_map(BTreeMap::values));
        for pattern in
            rules.filter_map(|r| r.pattern.as_ref()).chain(t.formats.values().filter_map(|f| f.regex.as_ref()))
        {
            assert!(Regex::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn ordinary_values_pass() {
        let call = "POST /nodes/{node}/qemu";
        for (key, value) in [
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120,link_down=1"),
            ("net0", "virtio,bridge=vmbr0"),
            ("scsi0", "ceph-pool:40,ssd=1,discard=on,backup=0"),
            ("scsi0", "ceph-pool:vm-100-disk-0,size=40G"),
            ("ide2", "none,media=cdrom"),
            ("ide2", "ceph-pool:cloudinit"),
            ("memory", "4096"),
            ("agent", "1"),
            ("agent", "enabled=1,fstrim_cloned_disks=1"),
            ("smbios1", "uuid=7f3a2c4e-0000-4000-8000-000000000001"),
            ("boot", "order=scsi0;net0"),
            ("cpu", "x86-64-v2-AES"),
            ("tags", "a;b"),
            ("ipconfig0", "ip=10.0.0.2/24,gw=10.0.0.1"),
            ("efidisk0", "ceph-pool:1,efitype=4m"),
            ("machine", "q35"),
        ] {
            assert_eq!(errors(call, &[(key, value)]), BTreeMap::new(), "{key}={value}");
        }
    }
}
