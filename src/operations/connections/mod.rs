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
mod tests {
    //! What wins over what, and where each mistake is.

    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;

    use super::*;

    struct Fake(BTreeMap<&'static str, &'static str>);

    impl Outside for Fake {
        fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
            self.0.get(path.to_str().unwrap_or_default()).map(|text| text.as_bytes().to_vec()).ok_or("not there".into())
        }

        fn env(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }
    }

    const TOKEN: &str = "a@pve!t=00000000-0000-0000-0000-000000000000";

    fn file(name: &str) -> BTreeMap<ClusterName, FileConnection> {
        let connection = FileConnection {
            endpoints: vec!["https://file:8006".into()],
            username: Some("root@pam".into()),
            password_env: Some("FILE_PW".into()),
            verify_ssl: Some(false),
            connection_timeout: Some(Span::from_secs(45)),
            ..FileConnection::default()
        };
        BTreeMap::from([(ClusterName::new(name).unwrap(), connection)])
    }

    fn read(written: Written) -> Connections {
        let outside = Fake(BTreeMap::from([("FILE_PW", "x"), ("TOKEN", TOKEN), ("BAD", "nonsense")]));
        Connections::read(&BTreeMap::from([("a".to_owned(), written)]), &file("a"), &outside)
    }

    fn mistakes(written: Written) -> Vec<(&'static str, bool)> {
        read(written).mistakes.into_iter().filter(|m| !m.warning).map(|m| (m.key, m.in_file)).collect()
    }

    #[test]
    fn the_file_alone_connects_and_a_written_key_wins() {
        let alone = read(Written::default());
        assert!(!alone.has_errors() && alone.mistakes.len() == 1, "insecure is warned about: {:?}", alone.mistakes);
        assert_eq!(alone.usable[0].connect_timeout.as_secs(), 45);
        let over = Written {
            endpoints: Some(vec!["https://here:1".into()]),
            api_token_env: Some("TOKEN".into()),
            fingerprints: Some(vec!["AA".repeat(32)]),
            ..Written::default()
        };
        let over = read(over);
        assert!(over.mistakes.is_empty(), "{:?}", over.mistakes);
        assert_eq!(over.usable[0].endpoints, ["https://here:1"]);
        assert!(matches!(over.usable[0].auth, Auth::Token(_)));
        assert!(matches!(over.usable[0].tls, TlsTrust::Fingerprints(_)), "pinned here beats verify_ssl: false there");
    }

    #[test]
    fn each_mistake_has_its_key() {
        let w = Written::default;
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (Written { endpoints: Some(vec![]), ..w() }, ("endpoints", false)),
            (Written { endpoints: Some(vec!["http://h:8006".into()]), ..w() }, ("endpoints", false)),
            (Written { api_token_env: text("NOT_SET"), ..w() }, ("api_token_env", false)),
            (Written { api_token_env: text("BAD"), ..w() }, ("api_token_env", false)),
            (Written { password_env: text("NOT_SET"), ..w() }, ("password_env", false)),
            (Written { fingerprints: Some(vec!["AB".into()]), ..w() }, ("fingerprints", false)),
            (Written { ca_file: text("/nowhere"), ..w() }, ("ca_file", false)),
            (Written { connect_timeout: text("soon"), ..w() }, ("connect_timeout", false)),
            (Written { api_token_env: text("TOKEN"), username: text("a@pve"), ..w() }, ("username", false)),
        ];
        for (written, expected) in cases {
            assert_eq!(mistakes(written.clone()), [expected], "{written:?}");
        }
        let outside = Fake(BTreeMap::new());
        let unset = Connections::read(&BTreeMap::new(), &file("a"), &outside);
        assert!(unset.usable.is_empty());
        let unset =
            unset.mistakes.iter().find(|m| !m.warning).map(|m| (m.key, m.in_file, m.detail.contains("FILE_PW")));
        assert_eq!(unset, Some(("password_env", true, true)));
    }

    #[test]
    fn the_environments_proxy_counts_unless_the_connection_says_otherwise() {
        let way = |environment: &[(&'static str, &'static str)], written: Written| {
            let mut known = BTreeMap::from([("FILE_PW", "x")]);
            known.extend(environment.iter().copied());
            let read = Connections::read(&BTreeMap::from([("a".to_owned(), written)]), &file("a"), &Fake(known));
            let wrong = read.mistakes.iter().filter(|m| !m.warning).map(|m| m.detail.clone()).collect::<String>();
            (read.usable.into_iter().next().map(|connection| connection.route), wrong)
        };
        let w = Written::default;
        let set = ("HTTPS_PROXY", "http://u:hunter2@10.0.0.1:3128");
        assert!(matches!(way(&[], w()).0, Some(Route::Direct)));
        assert!(matches!(way(&[set], w()).0, Some(Route::Environment { .. })));
        assert!(matches!(way(&[("https_proxy", "10.0.0.1:3128")], w()).0, Some(Route::Environment { .. })));
        assert!(matches!(way(&[set], Written { direct: Some(true), ..w() }).0, Some(Route::Direct)));
        assert!(matches!(way(&[set], Written { direct: Some(false), ..w() }).0, Some(Route::Environment { .. })));
        let own = Written { proxy: Some("10.0.0.2:3128".into()), ..w() };
        assert!(matches!(way(&[set], own.clone()).0, Some(Route::Through(_))));
        for (environment, written, says) in [
            (vec![], Written { direct: Some(true), ..own }, "exclude each other"),
            (vec![], Written { proxy: Some("socks5://u:hunter2@h".into()), ..w() }, "socks5:// is not supported"),
            (vec![("HTTPS_PROXY", "https://u:hunter2@h")], w(), "HTTPS_PROXY: a proxy of the kind https://"),
        ] {
            let (route, wrong) = way(&environment, written);
            assert!(route.is_none() && wrong.contains(says) && !wrong.contains("hunter2"), "{says}: {wrong}");
        }
    }

    #[test]
    fn the_token_to_hand_over_is_one_of_its_own() {
        let w = || Written { api_token_env: Some("TOKEN".into()), insecure: Some(true), ..Written::default() };
        let own = read(w());
        assert!(own.usable[0].migration_token.is_none(), "the connection's own token is no token to hand over");
        let inline = Written { migration_token: Some(TOKEN.into()), ..w() };
        let named = Written { migration_token_env: Some("TOKEN".into()), ..w() };
        for written in [&inline, &named] {
            let read = read(written.clone());
            assert!(!read.has_errors(), "{:?}", read.mistakes);
            let token = read.usable[0].migration_token.as_ref().map(ExposeSecret::expose_secret);
            assert_eq!(token, Some(TOKEN));
            assert!(!format!("{written:?} {read:?}").contains("0000-0000"));
        }
        let with = |token: &str| Written { migration_token: Some(token.into()), ..w() };
        let env = |name: &str| Written { migration_token_env: Some(name.into()), ..w() };
        let cases = [
            (Written { migration_token: Some(TOKEN.into()), ..named }, "migration_token_env", "exclude each other"),
            (env("NOT_SET"), "migration_token_env", "NOT_SET, which is not set"),
            (env("BAD"), "migration_token_env", "USER@REALM!TOKENID=UUID"),
            (with("nonsense"), "migration_token", "USER@REALM!TOKENID=UUID"),
            (with(""), "migration_token", "USER@REALM!TOKENID=UUID"),
            (with("a@pve!t=nonsense,b"), "migration_token", "comma"),
        ];
        for (written, key, says) in cases {
            let read = read(written.clone());
            let errors: Vec<_> = read.mistakes.iter().filter(|mistake| !mistake.warning).collect();
            assert!(matches!(errors[..], [m] if m.key == key && !m.in_file && m.detail.contains(says)), "{errors:?}");
            assert!(read.usable.is_empty() && !format!("{read:?}").contains("nonsense"), "{read:?}");
        }
    }

    #[test]
    fn one_cluster_under_two_names_is_refused() {
        let mut both = file("a");
        both.extend(file("b"));
        let read = Connections::read(&BTreeMap::new(), &both, &Fake(BTreeMap::from([("FILE_PW", "x")])));
        assert!(read.mistakes.iter().any(|m| m.summary.contains("two names") && m.in_file), "{:?}", read.mistakes);
        assert_eq!(read.usable.len(), 1, "the first name keeps it");
    }
}
