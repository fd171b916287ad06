//! Owns reading the provider block and the file it names: into connections, a federation, and settings.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use federation::config::{FileConnection, Loaded};
use federation::{ClusterName, Federation, Span};
use operations::connections::{Connections, Mistake, Outside, Written, check};
use operations::{ClusterConnection, SecretString};
use protocol::{AttributePath, Diagnostic, Diagnostics, Value};

use crate::values::text;

/// What the provider block says.
#[derive(Debug)]
pub(crate) struct Block {
    /// How to reach each cluster.
    pub(crate) connections: Vec<ClusterConnection>,
    /// Clusters that are declared lost.
    pub(crate) lost: BTreeSet<ClusterName>,
    /// Facts, pools, policies and paths.
    pub(crate) federation: Federation,
    /// The text of `config_file`'s path, where there is one.
    pub(crate) config_file: Option<String>,
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

/// Static checks of a block: what is wrong whatever the environment and the clusters say. Unknown values pass.
pub(crate) fn validate(config: &Value, outside: &dyn Outside, diags: &mut Diagnostics) {
    check(&written(config)).iter().for_each(|mistake| report(mistake, diags));
    settings(config, diags);
    // A file that another step of a pipeline makes is not there yet; configuring says so where it matters.
    if let Some(Ok(bytes)) = text(config, "config_file").map(|path| outside.file(Path::new(&path))) {
        let mut found = Diagnostics::new();
        load(&text(config, "config_file").unwrap_or_default(), bytes, &mut found);
        // Its warnings come once, from the process that uses it.
        found.iter().filter(|diag| diag.is_error()).for_each(|diag| diags.push(diag.clone()));
    }
}

/// Reads a wholly known provider block. `None` where it can't be used; the diagnostics then hold an error.
pub(crate) fn read(config: &Value, outside: &dyn Outside, diags: &mut Diagnostics) -> Option<Block> {
    let config_file = text(config, "config_file");
    let (federation, in_file) = match &config_file {
        Some(path) => open(path, outside, diags).map(|loaded| (loaded.federation, loaded.connections))?,
        None => Default::default(),
    };
    let connections = connections(config, &in_file, outside, diags);
    let (lease, concurrency) = settings(config, diags);
    if diags.has_errors() {
        return None;
    }
    let mut federation = federation;
    let lost = lost(config, &connections, diags)?;
    for connection in &connections {
        if let Ok(name) = ClusterName::new(&connection.name) {
            federation.clusters.entry(name).or_default();
        }
    }
    Some(Block {
        connections,
        lost,
        federation,
        config_file,
        plan_id: text(config, "plan_id"),
        inventory: text(config, "inventory"),
        lease,
        concurrency,
        audit_file: text(config, "audit_file"),
    })
}

/// `operation_lease` and `concurrency`, or their defaults.
fn settings(config: &Value, diags: &mut Diagnostics) -> (Span, usize) {
    let lease = text(config, "operation_lease").map_or(Ok(Span::from_secs(15 * 60)), |text| text.parse());
    let lease = lease.unwrap_or_else(|error: federation::units::UnitError| {
        diags.error_at(AttributePath::new("operation_lease"), "Invalid operation_lease", error.to_string());
        Span::from_secs(15 * 60)
    });
    let written = config.attr("concurrency");
    let given = written.as_number().map(|number| number.as_u64().and_then(|number| usize::try_from(number).ok()));
    match given {
        None => (lease, 32),
        Some(Some(number)) if (1..=1024).contains(&number) => (lease, number),
        Some(_) => {
            let path = AttributePath::new("concurrency");
            diags.error_at(path, "Invalid concurrency", "A whole number from 1 to 1024 is accepted.");
            (lease, 32)
        }
    }
}

fn open(path: &str, outside: &dyn Outside, diags: &mut Diagnostics) -> Option<Loaded> {
    match outside.file(Path::new(path)) {
        Ok(bytes) => load(path, bytes, diags),
        Err(error) => {
            let detail = format!(
                "{path}: {error}. A relative path starts at the working directory (after -chdir): `${{path.root}}/…` is safe."
            );
            diags.error_at(AttributePath::new("config_file"), "The federation file can't be read", detail);
            None
        }
    }
}

fn load(path: &str, bytes: Vec<u8>, diags: &mut Diagnostics) -> Option<Loaded> {
    let at = || AttributePath::new("config_file");
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

fn connections(
    config: &Value,
    in_file: &BTreeMap<ClusterName, FileConnection>,
    outside: &dyn Outside,
    diags: &mut Diagnostics,
) -> Vec<ClusterConnection> {
    let read = Connections::read(&written(config), in_file, outside);
    read.mistakes.iter().for_each(|mistake| report(mistake, diags));
    read.usable
}

/// The clusters that are declared lost. A name that is misspelt would leave a site unrecovered without a word.
fn lost(config: &Value, connections: &[ClusterConnection], diags: &mut Diagnostics) -> Option<BTreeSet<ClusterName>> {
    let mut lost = BTreeSet::new();
    for name in config.attr("lost_clusters").as_list().into_iter().flatten().filter_map(Value::as_str) {
        let connected = connections.iter().any(|connection| connection.name == name);
        match ClusterName::new(name).ok().filter(|_| connected) {
            Some(name) => drop(lost.insert(name)),
            None => {
                let known: Vec<&str> = connections.iter().map(|connection| connection.name.as_str()).collect();
                let detail = format!(
                    "{name} has no connection here, which is how one knows that it doesn't answer. Connections: {}.",
                    known.join(", ")
                );
                diags.error_at(AttributePath::new("lost_clusters"), "No such cluster", detail);
            }
        }
    }
    (!diags.has_errors()).then_some(lost)
}

/// The entries of `clusters`, with what is known of them.
fn written(config: &Value) -> BTreeMap<String, Written> {
    let entry = |block: &Value| Written {
        endpoints: texts(block, "endpoints"),
        api_token: text(block, "api_token").map(SecretString::from),
        api_token_env: text(block, "api_token_env"),
        migration_token: text(block, "migration_token").map(SecretString::from),
        migration_token_env: text(block, "migration_token_env"),
        username: text(block, "username"),
        password: text(block, "password").map(SecretString::from),
        password_env: text(block, "password_env"),
        fingerprints: texts(block, "fingerprints"),
        ca_file: text(block, "ca_file"),
        insecure: block.attr("insecure").as_bool(),
        connect_timeout: text(block, "connect_timeout"),
        proxy: text(block, "proxy").map(SecretString::from),
        direct: block.attr("direct").as_bool(),
    };
    let clusters = config.attr("clusters").as_map().into_iter().flatten();
    clusters.map(|(name, block)| (name.clone(), entry(block))).collect()
}

/// A list of texts, `None` when it or one of them is null or unknown.
fn texts(block: &Value, name: &str) -> Option<Vec<String>> {
    block.attr(name).as_list()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Reports a mistake where it was made: on the key of `clusters`, or on the file.
fn report(mistake: &Mistake, diags: &mut Diagnostics) {
    let mut path = AttributePath::new("clusters").key(mistake.cluster.as_str());
    if mistake.in_file {
        path = AttributePath::new("config_file");
    } else if !mistake.key.is_empty() {
        path = path.attribute(mistake.key);
        path = mistake.index.into_iter().fold(path, |path, index| path.index(index));
    }
    let made = if mistake.warning { Diagnostic::warning } else { Diagnostic::error };
    diags.push(made(mistake.summary.clone(), mistake.detail.clone()).at(path));
}
