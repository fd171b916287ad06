//! Owns ReadDataSource of `data.moxxie_validation`.
use std::path::Path;

use operations::connections::Outside;
use operations::validation::{Probe, Problem, Validation};
use protocol::{AttributePath, Diagnostics, Value};

use crate::placing::Ready;
use crate::values::text;

/// Checks the file and, on request, the clusters. What is wrong with them is the answer, not an error: a data source that
/// fails would block everything else, `destroy` included.
pub(crate) async fn read(
    ready: Option<&Ready>,
    config: &Value,
    outside: &dyn Outside,
    diags: &mut Diagnostics,
) -> Value {
    let connect = config.attr("check_connectivity").as_bool().unwrap_or(false);
    let file = text(config, "config_file").or_else(|| ready.and_then(|ready| ready.config_file.clone()));
    if file.is_none() && !connect {
        let detail = "Set `config_file` here or in the provider block, or `check_connectivity`.";
        diags.error_at(AttributePath::new("config_file"), "There is nothing to check", detail);
    }
    let (mut found, loaded) = match file.as_deref().map(|path| (path, outside.file(Path::new(path)))) {
        Some((_, Ok(bytes))) => Validation::of_file(bytes),
        Some((path, Err(error))) => {
            let mut found = Validation::default();
            found.problem("", format!("{path} can't be read: {error}"));
            (found, None)
        }
        None => (Validation::default(), None),
    };
    match ready.filter(|_| connect) {
        Some(ready) => {
            let declared = match loaded {
                Some(loaded) => loaded.federation.clusters,
                None => ready.fleet.declared().clusters.clone(),
            };
            found.connectivity(&ready.fleet, &declared).await;
        }
        None if connect => {
            let detail = "The provider block holds values that are not known yet.";
            diags.warning_at(AttributePath::new("check_connectivity"), "The clusters are not asked", detail);
        }
        None => {}
    }
    answer(config, &found)
}

fn answer(config: &Value, found: &Validation) -> Value {
    let problem = |problem: &Problem| {
        Value::object([
            ("line", Value::from(problem.line)),
            ("column", problem.column.into()),
            ("path", problem.path.as_str().into()),
            ("message", problem.message.as_str().into()),
        ])
    };
    let cluster = |probe: &Probe| {
        Value::object([
            ("reachable", Value::from(probe.reachable)),
            ("quorate", probe.quorate.into()),
            ("version", probe.version.as_deref().into()),
            ("message", probe.message.as_str().into()),
        ])
    };
    Value::object([
        ("config_file", config.attr("config_file").clone()),
        ("check_connectivity", config.attr("check_connectivity").clone()),
        ("valid", found.is_valid().into()),
        ("problems", Value::list(found.problems.iter().map(problem))),
        ("warnings", Value::list(found.warnings.iter())),
        ("not_acted_on", Value::list(found.not_acted_on.iter())),
        ("clusters", Value::map(found.clusters.iter().map(|(name, probe)| (name.clone(), cluster(probe))))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_fits_the_schema() {
        let mut found = Validation::default();
        found.problem("clusters.a", "it is dark");
        found.clusters.insert("a".into(), Probe { message: "it is dark".into(), ..Probe::default() });
        let config = Value::object([("config_file", "x.yaml")]);
        let value = super::super::schema::schema().ty().conform(answer(&config, &found)).expect("it fits the schema");
        assert_eq!(value.attr("valid"), &false.into());
        assert_eq!(value.attr("problems").as_list().map(<[Value]>::len), Some(1));
        assert!(value.attr("clusters").attr("a").attr("quorate").is_null());
    }
}
