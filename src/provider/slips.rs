//! Owns what a slip inside a nested attribute looks like here: core drops keys that an object doesn't have without a word, so
//! `limits = { max_memry = "2TB" }` arrives as an object in which nothing is set.
use protocol::{Attribute, AttributeKind, AttributePath, Diagnostics, NestingMode, Schema, Value};

/// Attributes whose entries say nothing where nothing is set in them. Elsewhere an entry alone says something: a path with
/// every default, `migration_paths = { dr = {} }`.
const ENTRIES: &[&str] = &["addresses"];

/// Refuses objects in which everything is null, on their path.
pub(crate) fn refuse(schema: &Schema, config: &Value, diags: &mut Diagnostics) {
    inside(&schema.attributes, config, &AttributePath::root(), diags);
}

fn inside(attributes: &[Attribute], value: &Value, at: &AttributePath, diags: &mut Diagnostics) {
    for attribute in attributes {
        let AttributeKind::Nested { mode, attributes } = &attribute.kind else { continue };
        let (part, at) = (value.attr(&attribute.name), at.clone().attribute(attribute.name.as_str()));
        match mode {
            NestingMode::Single => object(&attribute.name, attributes, part, at, true, diags),
            NestingMode::Map => {
                let refused = ENTRIES.contains(&attribute.name.as_str());
                for (key, entry) in part.as_map().into_iter().flatten() {
                    object(&attribute.name, attributes, entry, at.clone().key(key.as_str()), refused, diags);
                }
            }
            NestingMode::List => {
                for (index, entry) in part.as_list().into_iter().flatten().enumerate() {
                    object(&attribute.name, attributes, entry, at.clone().index(index), false, diags);
                }
            }
            // An element of a set has no path of its own.
            NestingMode::Set => {}
        }
    }
}

fn object(
    name: &str,
    attributes: &[Attribute],
    value: &Value,
    at: AttributePath,
    refused: bool,
    diags: &mut Diagnostics,
) {
    let Value::Object(parts) = value else { return };
    if refused && parts.values().all(Value::is_null) {
        let known = attributes.iter().filter(|attribute| attribute.required || attribute.optional);
        let known: Vec<&str> = known.map(|attribute| attribute.name.as_str()).collect();
        let detail = format!(
            "{at} is an object in which every attribute is null. Terraform and OpenTofu drop a key that an object doesn't have \
             without a word, so a misspelt key looks just like this. It has {}.\n\nNext: correct the key (`federate lint` \
             finds it), or leave {name} out where nothing is to be set; from a module's variables: `{name} = var.x == null ? \
             null : {{ … }}`.",
            known.join(", ")
        );
        diags.error_at(at, format!("Nothing is set in {name}"), detail);
        return;
    }
    inside(attributes, value, &at, diags);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: &Schema, config: Value) -> Vec<String> {
        let config = schema.ty().conform(config).expect("a value of the schema");
        let mut diags = Diagnostics::new();
        refuse(schema, &config, &mut diags);
        diags.iter().map(|diag| diag.path.as_ref().map(ToString::to_string).unwrap_or_default()).collect()
    }

    fn empty() -> Value {
        Value::object(Vec::<(&str, Value)>::new())
    }

    #[test]
    fn an_object_in_which_nothing_is_set_is_refused_on_its_path() {
        let pool = crate::resource_pool::schema::schema();
        let machine = crate::virtual_machine::schema::schema();
        assert_eq!(refused(&pool, Value::object([("limits", empty())])), ["limits"]);
        assert_eq!(refused(&pool, Value::object([("limits", Value::object([("max_vms", Value::Null)]))])), ["limits"]);
        for name in ["cpu", "migration", "timeouts", "cloud_init"] {
            assert_eq!(refused(&machine, Value::object([(name, empty())])), [name]);
        }
        let health = Value::object([("migration", Value::object([("health", empty())]))]);
        assert_eq!(refused(&machine, health), ["migration.health"]);
        let address = Value::object([("addresses", Value::map([("net0", empty())]))]);
        let address = refused(&machine, Value::object([("cloud_init", address)]));
        assert_eq!(address, [r#"cloud_init.addresses["net0"]"#]);
    }

    #[test]
    fn what_is_set_unknown_left_out_or_says_something_by_itself_passes() {
        let pool = crate::resource_pool::schema::schema();
        let cluster = crate::cluster::schema::schema();
        for limits in [Value::Null, Value::unknown(), Value::object([("max_vms", Value::unknown())])] {
            assert_eq!(refused(&pool, Value::object([("limits", limits)])), Vec::<String>::new());
        }
        assert_eq!(refused(&pool, Value::object([("limits", Value::object([("max_vms", 0)]))])), Vec::<String>::new());
        let path = Value::object([("migration_paths", Value::map([("dr", empty())]))]);
        assert_eq!(refused(&cluster, path), Vec::<String>::new(), "a path with every default");
        let transport = Value::map([("dr", Value::object([("transport", empty())]))]);
        let transport = refused(&cluster, Value::object([("migration_paths", transport)]));
        assert_eq!(transport, [r#"migration_paths["dr"].transport"#]);
    }
}
