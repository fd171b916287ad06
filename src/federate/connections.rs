//! Owns the connections file: the provider block's `clusters` in a file of its own, without secrets.
use std::collections::BTreeMap;

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
    let nested: Result<Nested, _> = serde_saphyr::from_str(text);
    let entries = match nested {
        Ok(nested) => nested.clusters,
        Err(_) if !text.contains("clusters") => serde_saphyr::from_str(text).map_err(|error| words(&error))?,
        Err(error) => serde_saphyr::from_str(text).map_err(|_| words(&error))?,
    };
    Ok(entries.into_iter().map(|(name, entry)| (name, entry.written())).collect())
}

fn words(error: &serde_saphyr::Error) -> String {
    let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{}{}", place.unwrap_or_default(), line.split(" at line ").next().unwrap_or(line))
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
        let error = read("a:\n  endpoint: [x]\n").unwrap_err();
        assert!(error.starts_with("line 2") && error.contains("endpoints"), "{error}");
    }
}
