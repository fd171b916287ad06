//! Owns the parameters of a call and how they are spelled on the wire.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

/// Everything but unreserved characters: PVE splits forms on `&` *and* `;`, and cuts a value at a second `=`
/// (`proxmox-ve.md` §2.3).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same for one component of a path; colons, `@` and `!` (UPIDs, volumes) may be raw there.
const SEGMENT: &AsciiSet = &FORM.remove(b':').remove(b'@').remove(b'!');

/// The parameters of a call, in order. Sent as the form of a POST or PUT, as the query of a GET or DELETE.
///
/// ```
/// let params = proxmox::Params::new().set("cores", 4).flag("onboot", true).opt("name", None::<&str>);
/// assert_eq!(params.encode(), "cores=4&onboot=1");
/// ```
#[derive(Clone, Default)]
pub struct Params(Vec<(String, Value)>);

#[derive(Clone)]
enum Value {
    Plain(String),
    Secret(SecretString),
}

impl Value {
    fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose_secret(),
        }
    }
}

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`, replacing an earlier value of it.
    ///
    /// An empty text is sent as `key=`, which PVE validates as the empty string: it clears a description or a
    /// comment and is refused for most other keys; those are cleared with `delete` (`proxmox-ve.md` §17).
    pub fn set(self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.put(key.into(), Value::Plain(value.to_string()))
    }

    /// Sets `key` to `1` or `0`, the only booleans PVE's forms know.
    pub fn flag(self, key: impl Into<String>, value: bool) -> Self {
        self.set(key, u8::from(value))
    }

    /// Sets `key` if there is a value.
    pub fn opt(self, key: impl Into<String>, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Sets `key` to `1` or `0` if there is a value.
    pub fn opt_flag(self, key: impl Into<String>, value: Option<bool>) -> Self {
        self.opt(key, value.map(u8::from))
    }

    /// Sets `key` to the items joined by commas (PVE's `*-list`), or leaves it out if there are none.
    pub fn list<T: fmt::Display>(self, key: impl Into<String>, items: impl IntoIterator<Item = T>) -> Self {
        let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        if items.is_empty() { self } else { self.set(key, items.join(",")) }
    }

    /// Sets `key` to a secret: sent, but never shown in Debug, errors or logs.
    pub fn secret(self, key: impl Into<String>, value: SecretString) -> Self {
        self.put(key.into(), Value::Secret(value))
    }

    /// Sets `key` to the percent-encoded text, as `sshkeys` wants it (on top of the form's own encoding).
    pub fn url_encoded(self, key: impl Into<String>, text: &str) -> Self {
        self.set(key, utf8_percent_encode(text, FORM))
    }

    /// Adds all of `other`, whose values win.
    pub fn merge(self, other: Params) -> Self {
        other.0.into_iter().fold(self, |all, (key, value)| all.put(key, value))
    }

    /// The value of `key`, unless it is a secret.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).and_then(|(_, value)| match value {
            Value::Plain(text) => Some(text.as_str()),
            Value::Secret(_) => None,
        })
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The wire form, secrets included: never print it.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (key, value) in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            out.extend(utf8_percent_encode(key, FORM));
            out.push('=');
            out.extend(utf8_percent_encode(value.expose(), FORM));
        }
        out
    }

    /// The secret values of this call, and the secrets inside them, to be scrubbed from what the server says.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter_map(|(_, value)| match value {
            Value::Secret(secret) => Some(secret.expose_secret()),
            Value::Plain(_) => None,
        });
        values.flat_map(telling)
    }

    fn put(mut self, key: String, value: Value) -> Self {
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
        self
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(key, value)| {
                let shown = match value {
                    Value::Plain(text) => text.as_str(),
                    Value::Secret(_) => "[redacted]",
                };
                (key, shown)
            }))
            .finish()
    }
}

/// What gives a secret away: all of it, and the secret of each API token in it. Of `target-endpoint` a server may quote the
/// token alone, while its host and fingerprint are to be read in what the server says.
pub(crate) fn telling(secret: &str) -> impl Iterator<Item = &str> {
    let tokens = secret.split(',').filter_map(|part| part.split_once('!')?.1.split_once('='));
    std::iter::once(secret).chain(tokens.map(|(_, secret)| secret))
}

/// A call's path from its components, each percent-encoded: `["nodes", "pve1", "qemu", "100"]` → `/nodes/pve1/qemu/100`.
pub fn api_path<S: AsRef<str>>(components: impl IntoIterator<Item = S>) -> String {
    components.into_iter().fold(String::new(), |mut path, component| {
        path.push('/');
        path.extend(utf8_percent_encode(component.as_ref(), SEGMENT));
        path
    })
}

/// Whether every component of a path is one PVE would see as we wrote it: none empty, none `.` or `..`.
pub(crate) fn is_sound_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.contains(['?', '#', '\\']) && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_pve_would_cut() {
        let params = Params::new().set("net0", "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0").set("d", "a+b;c&d e/ä");
        assert_eq!(
            params.encode(),
            "net0=virtio%3DBC%3A24%3A11%3AAA%3ABB%3ACC%2Cbridge%3Dvmbr0&d=a%2Bb%3Bc%26d%20e%2F%C3%A4"
        );
    }

    #[test]
    fn a_later_value_wins_and_keeps_its_place() {
        let params = Params::new().set("a", 1).set("b", 2).set("a", 3).merge(Params::new().set("b", 4).set("c", 5));
        assert_eq!(params.encode(), "a=3&b=4&c=5");
    }

    #[test]
    fn secrets_are_sent_but_not_shown() {
        let params = Params::new().secret("cipassword", SecretString::from("s3cret"));
        assert_eq!(params.encode(), "cipassword=s3cret");
        assert!(!format!("{params:?}").contains("s3cret"));
        assert_eq!(params.get("cipassword"), None);
    }

    #[test]
    fn a_token_inside_of_a_secret_is_one_too_and_the_rest_is_not() {
        let endpoint = "host=10.0.0.5,apitoken=PVEAPIToken=mover@pve!t=aaaa-bbbb,fingerprint=AA:BB,port=8006";
        let params = Params::new().set("target-vmid", 7).secret("target-endpoint", endpoint.into());
        assert_eq!(params.secrets().collect::<Vec<_>>(), [endpoint, "aaaa-bbbb"]);
        assert_eq!(telling("plain=password").collect::<Vec<_>>(), ["plain=password"]);
    }

    #[test]
    fn paths_keep_their_components() {
        let path = api_path(["nodes", "pve1", "storage", "nfs", "content", "nfs:backup/a b.vma"]);
        assert_eq!(path, "/nodes/pve1/storage/nfs/content/nfs:backup%2Fa%20b.vma");
        assert!(is_sound_path(&path));
        assert!(!is_sound_path(&api_path(["nodes", "", "qemu"])));
        assert!(!is_sound_path(&api_path(["nodes", "..", "qemu"])));
    }
}
