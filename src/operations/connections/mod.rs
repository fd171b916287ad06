//! Owns reading connections as a person writes them: a provider block or a connections file over the federation file.
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use federation::config::FileConnection;
use federation::{ClusterName, Span};
use proxmox::{Auth, ClusterConnection, Fingerprint, NoProxy, Proxy, Route, TlsTrust};
use secrecy::{ExposeSecret, SecretString};

pub use written::{Written, check};

/// Where files and environment variables come from, so that reading is a function of its arguments.
pub trait Outside: Sync {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Why it can't be read, in words.
    fn file(&self, path: &Path) -> Result<Vec<u8>, String>;
    /// An environment variable that is set and not empty.
    fn env(&self, name: &str) -> Option<String>;
}

/// The process's own files and environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here;

impl Outside for Here {
    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// Something that is wrong with a connection, or odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The cluster, as written.
    pub cluster: String,
    /// The key of its connection, empty for the connection as a whole.
    pub key: &'static str,
    /// Position in a list, from 0.
    pub index: Option<usize>,
    /// Whether the value came from the federation file.
    pub in_file: bool,
    /// Whether the connection works all the same.
    pub warning: bool,
    /// What is wrong, in a few words.
    pub summary: String,
    /// What exactly, and what is accepted. Holds no secret.
    pub detail: String,
}

/// Connections that were read.
#[derive(Debug, Default)]
pub struct Connections {
    /// Those that can be used, by name.
    pub usable: Vec<ClusterConnection>,
    /// What is wrong with the others, and warnings.
    pub mistakes: Vec<Mistake>,
}

impl Connections {
    /// Reads every connection that is written or in the file. Of one that can't be used every mistake is there.
    pub fn read(
        written: &BTreeMap<String, Written>,
        file: &BTreeMap<ClusterName, FileConnection>,
        outside: &dyn Outside,
    ) -> Connections {
        let mut read = Connections { mistakes: check(written), ..Connections::default() };
        let bad: BTreeSet<String> = read.mistakes.iter().map(|mistake| mistake.cluster.clone()).collect();
        let names: BTreeSet<&str> =
            written.keys().map(String::as_str).chain(file.keys().map(ClusterName::as_str)).collect();
        let nothing = Written::default();
        for name in names {
            let mut reader = Reader {
                name,
                written: written.get(name).unwrap_or(&nothing),
                file: file.get(name),
                outside,
                mistakes: Vec::new(),
            };
            let connection = reader.connection();
            let failed = reader.mistakes.iter().any(|mistake| !mistake.warning);
            // What the static check said already is not said again by another name.
            let known = |mistake: &Mistake| bad.contains(&mistake.cluster);
            read.mistakes.extend(reader.mistakes.into_iter().filter(|mistake| !known(mistake) || mistake.warning));
            if let Some(connection) = connection.filter(|_| !failed && !bad.contains(name)) {
                read.usable.push(connection);
            }
        }
        read.shared_addresses(written);
        read
    }

    /// One cluster under two names would be two candidates, and the source of a move its own target. The first name keeps it.
    fn shared_addresses(&mut self, written: &BTreeMap<String, Written>) {
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        let mistakes = &mut self.mistakes;
        self.usable.retain(|connection| {
            let bare = |endpoint: &String| {
                endpoint
                    .trim()
                    .trim_end_matches('/')
                    .trim_end_matches("/api2/json")
                    .trim_end_matches('/')
                    .to_lowercase()
            };
            let taken = connection.endpoints.iter().find_map(|endpoint| Some((endpoint, owners.get(&bare(endpoint))?)));
            let Some((endpoint, owner)) = taken else {
                owners.extend(connection.endpoints.iter().map(|endpoint| (bare(endpoint), connection.name.clone())));
                return true;
            };
            mistakes.push(Mistake {
                cluster: connection.name.clone(),
                key: "endpoints",
                index: None,
                in_file: written.get(&connection.name).is_none_or(|written| written.endpoints.is_none()),
                warning: false,
                summary: "One cluster under two names".to_owned(),
                detail: format!("{endpoint} is an address of {owner} and of {}.", connection.name),
            });
            false
        });
    }

    /// Whether something can't be used.
    pub fn has_errors(&self) -> bool {
        self.mistakes.iter().any(|mistake| !mistake.warning)
    }
}

struct Reader<'a> {
    name: &'a str,
    written: &'a Written,
    file: Option<&'a FileConnection>,
    outside: &'a dyn Outside,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn say(&mut self, key: &'static str, in_file: bool, summary: &str, detail: String) {
        let (cluster, summary) = (self.name.to_owned(), summary.to_owned());
        self.mistakes.push(Mistake { cluster, key, index: None, in_file, warning: false, summary, detail });
    }

    fn connection(&mut self) -> Option<ClusterConnection> {
        let endpoints = match &self.written.endpoints {
            Some(endpoints) => endpoints.clone(),
            None => self.file.map(|file| file.endpoints.clone()).unwrap_or_default(),
        };
        if endpoints.is_empty() && self.written.endpoints.is_none() {
            let detail =
                format!("Cluster {} has neither `endpoints` here nor an `api_url` in the federation file.", self.name);
            self.say("endpoints", false, "A cluster has no address", detail);
        }
        let auth = self.auth();
        let migration_token = self.migration_token();
        let tls = self.tls();
        let route = self.route();
        let mut connection = ClusterConnection::new(self.name, endpoints, auth?);
        connection.migration_token = migration_token;
        connection.tls = tls?;
        connection.route = route?;
        let timeout = self.written.connect_timeout.as_ref().and_then(|text| text.parse::<Span>().ok());
        if let Some(timeout) = timeout.or_else(|| self.file.and_then(|file| file.connection_timeout)) {
            connection.connect_timeout = timeout.into();
        }
        Some(connection)
    }

    fn auth(&mut self) -> Option<Auth> {
        let (key, in_file, auth) = self.credentials()?;
        match auth.check() {
            Ok(()) => Some(auth),
            Err(why) => self.other_form(key, in_file, &why),
        }
    }

    /// The token that may be handed over. The file names none: who writes it doesn't decide whom a cluster trusts.
    fn migration_token(&mut self) -> Option<SecretString> {
        let (key, token) = match (&self.written.migration_token, &self.written.migration_token_env) {
            (Some(token), _) => ("migration_token", token.clone()),
            (None, Some(variable)) => {
                let key = "migration_token_env";
                (key, self.variable(key, false, variable)?)
            }
            (None, None) => return None,
        };
        match ClusterConnection::check_migration_token(&token) {
            Ok(()) => Some(token),
            Err(why) => self.other_form(key, false, &why),
        }
    }

    fn other_form<T>(&mut self, key: &'static str, in_file: bool, why: &str) -> Option<T> {
        let detail = format!("Cluster {}: {why}.", self.name);
        self.say(key, in_file, "The credentials have another form", detail);
        None
    }

    /// The credentials, with the key that they come from and whether that key is the file's.
    fn credentials(&mut self) -> Option<(&'static str, bool, Auth)> {
        let (written, file) = (self.written, self.file);
        if let Some(token) = &written.api_token {
            return Some(("api_token", false, Auth::Token(token.clone())));
        }
        // A user named here is no reason to take the file's token.
        let in_file = file.filter(|_| written.username.is_none()).and_then(|file| file.api_token_env.as_ref());
        if let Some(variable) = written.api_token_env.as_ref().or(in_file) {
            let in_file = written.api_token_env.is_none();
            let token = self.variable("api_token_env", in_file, variable)?;
            return Some(("api_token_env", in_file, Auth::Token(token)));
        }
        let Some(username) = written.username.clone().or_else(|| file.and_then(|file| file.username.clone())) else {
            let detail = format!(
                "Cluster {} needs `api_token`, `api_token_env`, or `username` with `password` or `password_env`.",
                self.name
            );
            self.say("", false, "A cluster has no credentials", detail);
            return None;
        };
        if let Some(password) = &written.password {
            return Some(("password", false, Auth::Password { username, password: password.clone() }));
        }
        let in_file = file.and_then(|file| file.password_env.as_ref());
        let Some(variable) = written.password_env.as_ref().or(in_file) else {
            let detail =
                format!("Cluster {} has the user {username}, but neither `password` nor `password_env`.", self.name);
            self.say("", false, "A cluster has no credentials", detail);
            return None;
        };
        let in_file = written.password_env.is_none();
        let password = self.variable("password_env", in_file, variable)?;
        Some(("password_env", in_file, Auth::Password { username, password }))
    }

    fn variable(&mut self, key: &'static str, in_file: bool, variable: &str) -> Option<SecretString> {
        let value = self.outside.env(variable);
        if value.is_none() {
            let detail = format!(
                "Cluster {} takes its credentials from {variable}, which is not set in this environment.",
                self.name
            );
            self.say(key, in_file, "An environment variable is not set", detail);
        }
        value.map(SecretString::from)
    }

    fn tls(&mut self) -> Option<TlsTrust> {
        let (written, file) = (self.written, self.file);
        let own = written.fingerprints.is_some() || written.ca_file.is_some() || written.insecure == Some(true);
        // Trust that is named here takes the place of the file's altogether.
        let file = file.filter(|_| !own);
        let listed = written.fingerprints.as_ref().or_else(|| file.map(|file| &file.fingerprints));
        if let Some(listed) = listed.filter(|listed| !listed.is_empty()) {
            return self.fingerprints(listed, !own);
        }
        if let Some(ca) = written.ca_file.as_ref().or_else(|| file.and_then(|file| file.ca_file.as_ref())) {
            return match self.outside.file(Path::new(ca)) {
                Ok(pem) if !holds_certificate(&pem) => {
                    let detail = format!("{ca} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).");
                    self.say("ca_file", !own, "The CA file holds no certificate", detail);
                    None
                }
                Ok(pem) => Some(TlsTrust::Ca(pem)),
                Err(error) => {
                    self.say("ca_file", !own, "The CA file can't be read", format!("{ca}: {error}"));
                    None
                }
            };
        }
        let insecure = written.insecure.or_else(|| file.and_then(|file| file.verify_ssl).map(|verify| !verify));
        if !insecure.unwrap_or(false) {
            return Some(TlsTrust::System);
        }
        self.mistakes.push(Mistake {
            cluster: self.name.to_owned(),
            key: "insecure",
            index: None,
            in_file: !own,
            warning: true,
            summary: "Certificates are not verified".to_owned(),
            detail: format!(
                "Cluster {}: anybody on the way can read its credentials. Set `fingerprints` or `ca_file` instead.",
                self.name
            ),
        });
        Some(TlsTrust::Insecure)
    }

    /// The way there: what is written of it, else what the environment says, by the names that Terraform's own programs read.
    fn route(&mut self) -> Option<Route> {
        if self.written.direct == Some(true) {
            return Some(Route::Direct);
        }
        if let Some(text) = &self.written.proxy {
            // What is wrong with it was said by the static check.
            return Proxy::parse(text.expose_secret(), "`proxy`").ok().map(Route::Through);
        }
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, self.outside.env(name)?)));
        let Some((name, text)) = first(["HTTPS_PROXY", "https_proxy"]) else { return Some(Route::Direct) };
        let except = first(["NO_PROXY", "no_proxy"]).map(|(_, text)| NoProxy::parse(&text)).unwrap_or_default();
        match Proxy::parse(&text, name) {
            Ok(proxy) => Some(Route::Environment { proxy, except }),
            Err(why) => {
                let detail = format!(
                    "Cluster {}: this environment's {name}: {why}. Next: set `proxy` on the connection, or `direct = true` to \
                     go without one.",
                    self.name
                );
                self.say("", false, "The environment's proxy can't be used", detail);
                None
            }
        }
    }

    fn fingerprints(&mut self, listed: &[String], in_file: bool) -> Option<TlsTrust> {
        let mut fingerprints = Vec::new();
        for (index, text) in listed.iter().enumerate() {
            match text.parse::<Fingerprint>() {
                Ok(fingerprint) => fingerprints.push(fingerprint),
                // Written ones were checked before.
                Err(error) if in_file => self.mistakes.push(Mistake {
                    cluster: self.name.to_owned(),
                    key: "fingerprints",
                    index: Some(index),
                    in_file,
                    warning: false,
                    summary: "Not a certificate's fingerprint".to_owned(),
                    detail: error.to_string(),
                }),
                Err(_) => return None,
            }
        }
        (!fingerprints.is_empty()).then_some(TlsTrust::Fingerprints(fingerprints))
    }
}

fn holds_certificate(pem: &[u8]) -> bool {
    let mark = b"-----BEGIN CERTIFICATE-----";
    pem.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests;
