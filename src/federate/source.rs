//! Owns opening the federation: the file, the connections over it, and the clusters that can be reached with them.
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use federation::ClusterName;
use federation::config::Loaded;
use operations::connections::{Connections, Here, Mistake, Outside};
use operations::validation::Validation;
use operations::{Fleet, Settings};

use crate::arguments::Common;
use crate::connections;
use crate::report::{Wrong, counted};

/// Read where no file is named.
const DEFAULT_FILE: &str = "multi-site.yaml";

/// A federation that was opened.
pub(crate) struct Source {
    /// The file, as named.
    pub(crate) path: String,
    /// What it says.
    pub(crate) loaded: Loaded,
    /// The clusters.
    pub(crate) fleet: Fleet,
    /// Why a cluster can't even be asked.
    pub(crate) unusable: BTreeMap<ClusterName, String>,
    /// What is to be said about connections.
    pub(crate) warnings: Vec<String>,
}

/// Says on standard error, at once, what a command that takes its time is doing.
pub(crate) fn say(what: &str) {
    // Who closed standard error doesn't want to hear it.
    let _ = writeln!(std::io::stderr(), "federate: {what}");
}

/// The file to read, and its bytes.
pub(crate) fn file(common: &Common) -> Result<(String, Vec<u8>), Wrong> {
    let path = common.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let shown = path.display().to_string();
    match Here.file(&path) {
        Ok(bytes) => Ok((shown, bytes)),
        Err(_) if common.config.is_none() => Err(Wrong::misuse(format!(
            "no federation file: name one with -c FILE or in MOXXIE_CONFIG_FILE (there is no {DEFAULT_FILE} here)"
        ))),
        Err(error) => Err(Wrong::misuse(format!("{shown}: {error}"))),
    }
}

/// Opens the federation; a file with mistakes is none.
pub(crate) fn open(common: &Common) -> Result<Source, Wrong> {
    let (path, bytes) = file(common)?;
    let (found, loaded) = Validation::of_file(bytes);
    let Some(loaded) = loaded else {
        let problems: Vec<String> = found.problems.iter().map(|problem| format!("  {problem}")).collect();
        let count = counted(problems.len(), "mistake");
        return Err(Wrong::problem(format!("{path} has {count}:\n{}", problems.join("\n"))));
    };
    connect(common, path, loaded)
}

/// Puts the connections over the file's.
pub(crate) fn connect(common: &Common, path: String, loaded: Loaded) -> Result<Source, Wrong> {
    let written = match &common.connections {
        Some(file) => over(file)?,
        None => BTreeMap::new(),
    };
    let mut federation = loaded.federation.clone();
    for name in written.keys().filter_map(|name| ClusterName::new(name).ok()) {
        federation.clusters.entry(name).or_default();
    }
    let read = Connections::read(&written, &loaded.connections, &Here);
    let mut unusable: BTreeMap<ClusterName, String> = BTreeMap::new();
    let mut warnings = Vec::new();
    for mistake in &read.mistakes {
        match ClusterName::new(&mistake.cluster) {
            Ok(_) if mistake.warning => warnings.push(said(mistake)),
            Ok(name) => {
                let known = unusable.entry(name).or_default();
                *known = if known.is_empty() { said(mistake) } else { format!("{known}; {}", said(mistake)) };
            }
            Err(error) => return Err(Wrong::misuse(format!("the connections file: {error}"))),
        }
    }
    for name in federation.clusters.keys() {
        if !read.usable.iter().any(|connection| connection.name == name.as_str()) {
            unusable.entry(name.clone()).or_insert_with(|| "it has no connection".to_owned());
        }
    }
    let fleet = Fleet::new(read.usable, federation, Settings::default())
        .map_err(|failures| Wrong::problem(failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    Ok(Source { path, loaded, fleet, unusable, warnings })
}

/// A cluster of the federation that can be asked, by its name.
///
/// # Errors
/// A name that stands for none, or one without a usable connection.
pub(crate) fn cluster(source: &Source, name: &str) -> Result<ClusterName, Wrong> {
    let known = || {
        let names: Vec<&str> = source.fleet.declared().clusters.keys().map(ClusterName::as_str).collect();
        names.join(", ")
    };
    let found = ClusterName::new(name).ok().filter(|name| source.fleet.declared().clusters.contains_key(name));
    let name = found.ok_or_else(|| Wrong::misuse(format!("there is no cluster {name:?}; there are: {}", known())))?;
    match source.unusable.get(&name) {
        Some(why) => Err(Wrong::problem(format!("cluster {name} can't be asked: {why}"))),
        None => Ok(name),
    }
}

fn over(file: &Path) -> Result<BTreeMap<String, operations::connections::Written>, Wrong> {
    let shown = file.display();
    let bytes = Here.file(file).map_err(|error| Wrong::misuse(format!("{shown}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| Wrong::misuse(format!("{shown} is not UTF-8 text")))?;
    connections::read(&text).map_err(|error| Wrong::misuse(format!("{shown}: {error}")))
}

fn said(mistake: &Mistake) -> String {
    mistake.detail.trim_end_matches('.').to_owned()
}
