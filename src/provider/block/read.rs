//! Owns reading the provider block and the file it names: into connections, a federation, and settings.
use std::collections::BTreeMap;
use std::path::Path;

use federation::config::{FileConnection, Loaded};
use federation::{ClusterName, Federation, Span};
use operations::{Auth, ClusterConnection, Fingerprint, SecretString, TlsTrust};
use protocol::{AttributePath, Diagnostic, Diagnostics, Value};

use crate::values::text;

/// What the provider block says.
#[derive(Debug)]
pub(crate) struct Block {
    /// How to reach each cluster.
    pub(crate) connections: Vec<ClusterConnection>,
    /// Facts, pools, policies and paths.
    pub(crate) federation: Federation,
    /// `plan_id`.
    pub(crate) plan_id: Option<String>,
    /// `inventory`.
    pub(crate) inventory: Option<String>,
    /// `operation_lease`.
    pub(crate) lease: Span,
    /// `concurrency`.
    pub(crate) concurrency: usize,
    /// `audit_file`.
    pub(crate) audit_file: Option<String>,
}

/// Where files and environment variables come from, so that reading is a function of its arguments.
pub(crate) trait Outside {
    /// The text of a file.
    fn file(&self, path: &Path) -> Result<Vec<u8>, String>;
    /// An environment variable that is set and not empty.
    fn env(&self, name: &str) -> Option<String>;
}

/// The process's own files and environment.
pub(crate) struct Process;

impl Outside for Process {
    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// Reads a wholly known provider block. `None` where it can't be used; the diagnostics then hold an error.
pub(crate) fn read(config: &Value, outside: &dyn Outside, diags: &mut Diagnostics) -> Option<Block> {
    let (federation, in_file) = match text(config, "config_file") {
        Some(path) => load(&path, outside, diags).map(|loaded| (loaded.federation, loaded.connections))?,
        None => Default::default(),
    };
    let mut connections = Vec::new();
    for name in connected(config, &in_file, diags) {
        let block = config.attr("clusters").attr(name.as_str());
        if let Some(connection) = connection(&name, block, in_file.get(&name), outside, diags) {
            connections.push(connection);
        }
    }
    let lease = span(config, "operation_lease", diags).unwrap_or(Span::from_secs(15 * 60));
    let concurrency = config.attr("concurrency").as_u64().unwrap_or(32);
    if !(1..=1024).contains(&concurrency)
        || (!config.attr("concurrency").is_null() && config.attr("concurrency").as_u64().is_none())
    {
        diags.error_at(
            AttributePath::new("concurrency"),
            "Invalid concurrency",
            "A whole number from 1 to 1024 is accepted.",
        );
    }
    if diags.has_errors() {
        return None;
    }
    let mut federation = federation;
    for connection in &connections {
        if let Ok(name) = ClusterName::new(&connection.name) {
            federation.clusters.entry(name).or_default();
        }
    }
    Some(Block {
        connections,
        federation,
        plan_id: text(config, "plan_id"),
        inventory: text(config, "inventory"),
        lease,
        concurrency: usize::try_from(concurrency).unwrap_or(32),
        audit_file: text(config, "audit_file"),
    })
}

fn load(path: &str, outside: &dyn Outside, diags: &mut Diagnostics) -> Option<Loaded> {
    let at = || AttributePath::new("config_file");
    let bytes = match outside.file(Path::new(path)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let detail = format!(
                "{path}: {error}. A relative path starts at the working directory (after -chdir): `${{path.root}}/…` is safe."
            );
            diags.error_at(at(), "The federation file can't be read", detail);
            return None;
        }
    };
    let Ok(yaml) = String::from_utf8(bytes) else {
        diags.error_at(at(), "The federation file can't be read", format!("{path} is not UTF-8 text."));
        return None;
    };
    match federation::config::load(&yaml) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                diags.warning_at(
                    at(),
                    "The federation file leaves something to be desired",
                    format!("{path}: {warning}"),
                );
            }
            Some(loaded)
        }
        Err(error) => {
            for problem in error.problems {
                diags.error_at(at(), "The federation file has a mistake", format!("{path}: {problem}"));
            }
            None
        }
    }
}

/// The clusters that have a connection, in the block or in the file.
fn connected(
    config: &Value,
    in_file: &BTreeMap<ClusterName, FileConnection>,
    diags: &mut Diagnostics,
) -> Vec<ClusterName> {
    let mut names: Vec<ClusterName> = in_file.keys().cloned().collect();
    for key in config.attr("clusters").as_map().into_iter().flat_map(BTreeMap::keys) {
        match ClusterName::new(key) {
            Ok(name) => names.push(name),
            Err(error) => {
                diags.error_at(
                    AttributePath::new("clusters").key(key.as_str()),
                    "Not a cluster name",
                    error.to_string(),
                );
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

fn connection(
    name: &ClusterName,
    block: &Value,
    file: Option<&FileConnection>,
    outside: &dyn Outside,
    diags: &mut Diagnostics,
) -> Option<ClusterConnection> {
    let path = AttributePath::new("clusters").key(name.as_str());
    let mut errors = Diagnostics::new();
    let endpoints: Vec<String> = match block.attr("endpoints").as_list() {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => file.map(|file| file.endpoints.clone()).unwrap_or_default(),
    };
    if endpoints.is_empty() {
        let detail = format!("Cluster {name} has neither `endpoints` here nor an `api_url` in the federation file.");
        errors.error_at(path.clone().attribute("endpoints"), "A cluster has no address", detail);
    }
    let auth = auth(name, block, file, &path, outside, &mut errors);
    let tls = tls(name, block, file, &path, outside, &mut errors);
    let mut connection =
        ClusterConnection::new(name.as_str(), endpoints, auth.unwrap_or(Auth::Token(SecretString::default())));
    connection.tls = tls;
    let timeout = span(block, "connect_timeout", &mut errors).or_else(|| file.and_then(|file| file.connection_timeout));
    if let Some(timeout) = timeout {
        connection.connect_timeout = timeout.into();
    }
    let failed = errors.has_errors();
    diags.extend(errors);
    (!failed).then_some(connection)
}

fn auth(
    name: &ClusterName,
    block: &Value,
    file: Option<&FileConnection>,
    path: &AttributePath,
    outside: &dyn Outside,
    errors: &mut Diagnostics,
) -> Option<Auth> {
    let from_env = |attribute: &str, variable: &str, errors: &mut Diagnostics| {
        let value = outside.env(variable);
        if value.is_none() {
            let detail =
                format!("Cluster {name} takes its credentials from {variable}, which is not set in this environment.");
            errors.error_at(path.clone().attribute(attribute), "An environment variable is not set", detail);
        }
        value
    };
    if let Some(token) = text(block, "api_token") {
        return Some(Auth::Token(token.into()));
    }
    let variable = text(block, "api_token_env").or_else(|| {
        // A user named in the block is no reason to take the file's token.
        file.filter(|_| block.attr("username").is_null()).and_then(|file| file.api_token_env.clone())
    });
    if let Some(variable) = variable {
        return from_env("api_token_env", &variable, errors).map(|token| Auth::Token(token.into()));
    }
    let username = text(block, "username").or_else(|| file.and_then(|file| file.username.clone()));
    let Some(username) = username else {
        let detail = format!(
            "Cluster {name} needs `api_token`, `api_token_env`, or `username` with `password` or `password_env`."
        );
        errors.error_at(path.clone(), "A cluster has no credentials", detail);
        return None;
    };
    if let Some(password) = text(block, "password") {
        return Some(Auth::Password { username, password: password.into() });
    }
    let variable = text(block, "password_env").or_else(|| file.and_then(|file| file.password_env.clone()));
    let Some(variable) = variable else {
        let detail = format!("Cluster {name} has the user {username}, but neither `password` nor `password_env`.");
        errors.error_at(path.clone(), "A cluster has no credentials", detail);
        return None;
    };
    from_env("password_env", &variable, errors).map(|password| Auth::Password { username, password: password.into() })
}

fn tls(
    name: &ClusterName,
    block: &Value,
    file: Option<&FileConnection>,
    path: &AttributePath,
    outside: &dyn Outside,
    errors: &mut Diagnostics,
) -> TlsTrust {
    let listed = match block.attr("fingerprints").as_list() {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None if text(block, "ca_file").is_none() => file.map(|file| file.fingerprints.clone()).unwrap_or_default(),
        None => Vec::new(),
    };
    if !listed.is_empty() {
        let mut fingerprints = Vec::new();
        for (index, text) in listed.iter().enumerate() {
            match text.parse::<Fingerprint>() {
                Ok(fingerprint) => fingerprints.push(fingerprint),
                Err(error) => {
                    let at = path.clone().attribute("fingerprints").index(index);
                    errors.error_at(at, "Not a certificate's fingerprint", error.to_string());
                }
            }
        }
        return TlsTrust::Fingerprints(fingerprints);
    }
    if let Some(ca) = text(block, "ca_file").or_else(|| file.and_then(|file| file.ca_file.clone())) {
        match outside.file(Path::new(&ca)) {
            Ok(pem) => return TlsTrust::Ca(pem),
            Err(error) => {
                errors.error_at(
                    path.clone().attribute("ca_file"),
                    "The CA file can't be read",
                    format!("{ca}: {error}"),
                );
                return TlsTrust::System;
            }
        }
    }
    let insecure =
        block.attr("insecure").as_bool().or_else(|| file.and_then(|file| file.verify_ssl).map(|verify| !verify));
    if insecure.unwrap_or(false) {
        errors.push(
            Diagnostic::warning(
                "Certificates are not verified",
                format!("Cluster {name}: anybody on the way can read its credentials. Set `fingerprints` or `ca_file` instead."),
            )
            .at(path.clone()),
        );
        return TlsTrust::Insecure;
    }
    TlsTrust::System
}

fn span(value: &Value, name: &str, diags: &mut Diagnostics) -> Option<Span> {
    match value.attr(name).as_str()?.parse() {
        Ok(span) => Some(span),
        Err(error) => {
            let error: federation::units::UnitError = error;
            diags.error_at(AttributePath::new(name), format!("Invalid {name}"), error.to_string());
            None
        }
    }
}
