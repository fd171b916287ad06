//! Owns the connections file: the provider block's `clusters` in a file of its own, without secrets.
use std::collections::BTreeMap;

use federation::config::read as read_yaml;
use operations::connections::Written;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    endpoints: Option<Vec<String>>,
    api_token_env: Option<String>,
    migration_token_env: Option<String>,
    username: Option<String>,
    password_env: Option<String>,
    fingerprints: Option<Vec<String>>,
    ca_file: Option<String>,
    insecure: Option<bool>,
    connect_timeout: Option<String>,
    proxy: Option<String>,
    direct: Option<bool>,
}

/// Reads a connections file, YAML or JSON. The map may stand under a key `clusters`, as in a variables file.
///
/// # Errors
/// What is wrong with it, with its line.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, Written>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nested {
        clusters: BTreeMap<String, Entry>,
    }
    for secret in ["api_token", "migration_token", "password"] {
        // The reader's own "unknown field" would quote no value either, but not say what to do.
        let names_it = |line: &str| {
            let key =
                line.trim_start_matches(|c: char| c.is_whitespace() || "{,-".contains(c)).replace(['"', '\''], "");
            key.split_once(':').is_some_and(|(key, _)| key.trim() == secret)
        };
        if text.split(['\n', ',', '{']).any(names_it) {
            return Err(format!(
                "`{secret}`: secrets do not belong into this file; name an environment variable with {secret}_env"
            ));
        }
    }
    let nested = read_yaml::<Nested>(text).map(|nested| nested.clusters);
    // A file that speaks of `clusters` is told what is wrong with it in that form.
    let entries: BTreeMap<String, Entry> = nested
        .or_else(|outer| read_yaml(text).map_err(|inner| if text.contains("clusters") { outer } else { inner }))
        .map_err(|problem| problem.to_string())?;
    if entries.values().filter_map(|entry| entry.proxy.as_ref()).any(|proxy| proxy.contains('@')) {
        return Err(
            "`proxy`: a user and a password don't belong into this file; leave `proxy` out and set HTTPS_PROXY"
                .to_owned(),
        );
    }
    Ok(entries.into_iter().map(|(name, entry)| (name, entry.written())).collect())
}

impl Entry {
    fn written(self) -> Written {
        Written {
            endpoints: self.endpoints,
            api_token: None,
            api_token_env: self.api_token_env,
            migration_token: None,
            migration_token_env: self.migration_token_env,
            username: self.username,
            password: None,
            password_env: self.password_env,
            fingerprints: self.fingerprints,
            ca_file: self.ca_file,
            insecure: self.insecure,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy.map(Into::into),
            direct: self.direct,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_with_and_without_the_outer_key_are_the_same() {
        for text in [
            r#"{"a": {"endpoints": ["https://h:8006"], "api_token_env": "T"}}"#,
            r#"{"clusters": {"a": {"endpoints": ["https://h:8006"], "api_token_env": "T"}}}"#,
            "a:\n  endpoints: [\"https://h:8006\"]\n  api_token_env: T\n",
            "clusters:\n  a:\n    endpoints: [\"https://h:8006\"]\n    api_token_env: T\n",
        ] {
            let read = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read["a"].endpoints.as_deref(), Some(&["https://h:8006".to_owned()][..]), "{text}");
            assert_eq!(read["a"].api_token_env.as_deref(), Some("T"));
            assert!(read["a"].migration_token_env.is_none());
        }
        let read = read("a: {endpoints: [h], api_token_env: T, migration_token_env: M}").unwrap();
        assert_eq!(read["a"].migration_token_env.as_deref(), Some("M"));
    }

    #[test]
    fn secrets_are_refused_without_being_quoted_and_mistakes_have_a_line() {
        for text in [
            "a:\n  api_token: hunter2\n",
            "a:\n  migration_token: hunter2\n",
            r#"{"a": {"username": "x", "password": "hunter2"}}"#,
            "a: {password: hunter2}",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("_env") && !error.contains("hunter2"), "{error}");
        }
        let error = read("a: {proxy: \"http://u:hunter2@proxy:3128\"}").unwrap_err();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("hunter2"), "{error}");
        let through = read("a: {proxy: \"proxy:3128\", direct: false}").unwrap();
        assert!(through["a"].proxy.is_some() && through["a"].direct == Some(false));
        let error = read("a:\n  insecure: yes\n").unwrap_err();
        assert!(error.starts_with("line 2"), "yes is a word, as in the federation file: {error}");
        let error = read("a:\n  endpoint: [x]\n").unwrap_err();
        assert!(error.starts_with("line 2") && error.contains("endpoints"), "{error}");
    }
}
