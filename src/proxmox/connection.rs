//! Owns what is needed to reach one cluster: endpoints, credentials, trust, and how patient to be.

use std::time::Duration;

use secrecy::SecretString;

use crate::{Error, Fingerprint, Result, Route, session};

/// How one cluster is reached.
#[derive(Clone, Debug)]
pub struct ClusterConnection {
    /// The cluster's name, for errors and logs.
    pub name: String,
    /// Base URLs, tried in turn: `https://10.0.0.10:8006`, with or without `/api2/json`. Without a scheme, `https` is
    /// meant, and then port 8006 unless one is given. Plain `http` is refused: it would send the secret in clear.
    pub endpoints: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// A token of this cluster that may be handed to another one, which then logs in here with it
    /// ([`Client::remote_migrate`](crate::Client::remote_migrate)). Root there can read it, so `auth` never stands in.
    pub migration_token: Option<SecretString>,
    /// How we know that it is the cluster.
    pub tls: TlsTrust,
    /// Which way leads there. [`ClusterConnection::new`] goes straight; nobody here reads the environment.
    pub route: Route,
    /// Time to reach an endpoint, TLS handshake included, before the next one is tried. Default 5 s.
    pub connect_timeout: Duration,
    /// Time for one whole call. Default 60 s: PVE's own hop between nodes gives up after 30 s without data.
    pub request_timeout: Duration,
}

/// Credentials. Debug shows no secret.
#[derive(Clone, Debug)]
pub enum Auth {
    /// An API token, `USER@REALM!TOKENID=UUID`; a leading `PVEAPIToken=` is accepted.
    Token(SecretString),
    /// A user's password, exchanged for a ticket that is renewed in time. A user without realm is of `pam`.
    Password {
        /// `USER@REALM`.
        username: String,
        /// The password.
        password: SecretString,
    },
}

impl Auth {
    /// Whether the credentials have the form that Proxmox VE takes; contacts nobody.
    ///
    /// # Errors
    /// What is wrong, without the secret.
    pub fn check(&self) -> std::result::Result<(), String> {
        session::Session::new("", self).map(drop).map_err(detail)
    }
}

/// What a configuration's error says, without the name of the cluster.
fn detail(error: Error) -> String {
    match error {
        Error::Config { detail, .. } => detail,
        other => other.to_string(),
    }
}

/// Which server certificates are believed.
#[derive(Clone, Debug, Default)]
pub enum TlsTrust {
    /// Those the operating system trusts, with matching name.
    #[default]
    System,
    /// Those signed by one of these CAs (PEM), with matching name.
    Ca(Vec<u8>),
    /// Those whose SHA-256 fingerprint is in the list, whatever their name and dates. A certificate is per node.
    Fingerprints(Vec<Fingerprint>),
    /// Any: no protection against a man in the middle.
    Insecure,
}

/// How patient a client is. Every wait is here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often a GET is repeated after a reset, 595 or 596. Other methods never are. Default 3.
    pub get_retries: u32,
    /// Wait before the first repetition; doubles each time. Default 200 ms.
    pub get_retry_first: Duration,
    /// Longest wait between repetitions. Default 5 s.
    pub get_retry_max: Duration,
    /// Wait after a task's first look; grows by half. Default 20 ms.
    pub task_poll_first: Duration,
    /// Longest wait between two looks at a task. Default 2 s.
    pub task_poll_max: Duration,
    /// How long a node that runs our task may be unreachable before waiting ends. Tasks outlive a restart of the
    /// API's services (`proxmox-ve.md` §13 G9). Default 60 s.
    pub task_patience: Duration,
    /// How long a change of a guest's configuration is tried again while another operation holds its file, beyond the 10 s that
    /// Proxmox VE itself waits each time. Default 60 s.
    pub held_patience: Duration,
    /// Age at which a ticket is renewed; it lives 2 h (`proxmox-ve.md` §1.1). Default 90 min.
    pub ticket_renew_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            get_retries: 3,
            get_retry_first: Duration::from_millis(200),
            get_retry_max: Duration::from_secs(5),
            task_poll_first: Duration::from_millis(20),
            task_poll_max: Duration::from_secs(2),
            task_patience: Duration::from_secs(60),
            held_patience: Duration::from_secs(60),
            ticket_renew_after: Duration::from_secs(90 * 60),
        }
    }
}

impl ClusterConnection {
    /// A connection with system trust and default timeouts.
    pub fn new<E: Into<String>>(name: impl Into<String>, endpoints: impl IntoIterator<Item = E>, auth: Auth) -> Self {
        Self {
            name: name.into(),
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            auth,
            migration_token: None,
            tls: TlsTrust::default(),
            route: Route::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
        }
    }

    /// Whether `text` can be one of [`ClusterConnection::endpoints`]; contacts nobody.
    ///
    /// # Errors
    /// What is wrong with it, in words that don't repeat a password.
    pub fn check_endpoint(text: &str) -> std::result::Result<(), String> {
        base_url(text).map(drop)
    }

    /// Whether `token` can be [`ClusterConnection::migration_token`]; contacts nobody.
    ///
    /// # Errors
    /// What is wrong, without the secret.
    pub fn check_migration_token(token: &SecretString) -> std::result::Result<(), String> {
        session::handed_over("", token).map(drop).map_err(detail)
    }

    /// The endpoints as base URLs without path, checked.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none, or one is not an `https` URL of a host.
    pub(crate) fn base_urls(&self) -> Result<Vec<String>> {
        if self.endpoints.is_empty() {
            return Err(Error::config(&self.name, "no endpoint is configured"));
        }
        self.endpoints.iter().map(|text| base_url(text).map_err(|why| Error::config(&self.name, why))).collect()
    }
}

/// `10.0.0.10` → `https://10.0.0.10:8006`; `https://pve.example/api2/json/` → `https://pve.example`.
fn base_url(text: &str) -> std::result::Result<String, String> {
    let bare = text.trim().trim_end_matches('/');
    let bare = bare.strip_suffix("/api2/json").unwrap_or(bare).trim_end_matches('/');
    let schemeless = !text.contains("://");
    let full = if schemeless { format!("https://{bare}") } else { bare.to_owned() };
    if !full.is_ascii() {
        return Err("an endpoint has letters outside of ASCII: write such a name as DNS has it (xn--…)".into());
    }
    // The text is not repeated here: somebody may have put a password into the URL.
    let mut url = reqwest::Url::parse(&full).map_err(|e| format!("an endpoint is not a URL: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an endpoint must not carry a user or password".into());
    }
    if url.scheme() != "https" {
        return Err(format!("endpoint `{bare}` must use https"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("endpoint `{bare}` must not have a query or fragment"));
    }
    // `https://host:443` says its port too, although the parser drops it as the default.
    let has_port = url.port().is_some() || bare.ends_with(":443");
    if schemeless && !has_port && url.set_port(Some(8006)).is_err() {
        return Err(format!("endpoint `{bare}` has no host"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_forgiving_about_their_spelling() {
        for (text, url) in [
            ("https://10.0.0.10:8006", "https://10.0.0.10:8006"),
            ("https://10.0.0.10:8006/", "https://10.0.0.10:8006"),
            ("https://10.0.0.10:8006/api2/json", "https://10.0.0.10:8006"),
            ("https://pve.example.com/api2/json/", "https://pve.example.com"),
            ("https://gate.example.com/site-a", "https://gate.example.com/site-a"),
            ("10.0.0.10", "https://10.0.0.10:8006"),
            ("pve1:8007", "https://pve1:8007"),
            ("pve1:443", "https://pve1"),
            ("[fd00::1]", "https://[fd00::1]:8006"),
        ] {
            assert_eq!(base_url(text).as_deref(), Ok(url), "{text}");
        }
    }

    #[test]
    fn endpoints_that_would_leak_or_fail_are_refused() {
        for text in ["", "http://10.0.0.1:8006", "https://", "https://h/?a=b"] {
            assert!(base_url(text).is_err(), "{text}");
        }
        let error = base_url("https://root:hunter2@pve1:8006").unwrap_err();
        assert!(!error.contains("hunter2"));
        assert!(base_url("https://pve.münchen.example:8006").unwrap_err().contains("xn--"));
        assert!(base_url("https://pve.xn--mnchen-3ya.example:8006").is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Auth::Token("root@pam!t=aaaa-bbbb".into());
        let password = Auth::Password { username: "root@pam".into(), password: "hunter2".into() };
        let mut second = ClusterConnection::new("b", ["h"], password);
        second.migration_token = Some("mover@pve!t=cccc-dddd".into());
        let text = format!("{:?}", [ClusterConnection::new("a", ["h"], token), second]);
        assert!(!["aaaa-bbbb", "hunter2", "cccc-dddd"].iter().any(|secret| text.contains(secret)), "{text}");
    }
}
