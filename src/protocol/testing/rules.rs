//! What core checks about plans and results (`plugin-protocol.md` §2), as lists of violations in words.

use crate::{Attribute, AttributeKind, AttributePath, NestingMode, Refinement, Schema, Value};

/// Whether a plan may follow from this prior state and configuration: every configured leaf is planned as configured or
/// as it was, only computed attributes are filled in, nothing write-only is planned.
pub fn plan_valid(schema: &Schema, prior: &Value, config: &Value, planned: &Value) -> Vec<String> {
    let mut check = Check { schema, violations: Vec::new() };
    match (config.is_null(), planned.is_null()) {
        (true, true) => {}
        (true, false) => check.say(&AttributePath::root(), "an object is planned where a destroy was asked for"),
        (false, true) => check.say(&AttributePath::root(), "no object is planned where one is configured"),
        (false, false) => check.planned_object(&schema.attributes, prior, config, planned, &AttributePath::root()),
    }
    check.violations
}

/// Whether `later` keeps what `earlier` promised: every known leaf is the same, an unknown one may be anything that its
/// refinement allows. Holds from plan to re-plan and from plan to result.
pub fn object_compatible(schema: &Schema, earlier: &Value, later: &Value) -> Vec<String> {
    let mut check = Check { schema, violations: Vec::new() };
    check.compatible(earlier, later, &AttributePath::root());
    check.violations
}

struct Check<'a> {
    schema: &'a Schema,
    violations: Vec<String>,
}

impl Check<'_> {
    fn say(&mut self, path: &AttributePath, what: &str) {
        self.violations.push(format!("{path}: {what}"));
    }

    /// A value as it may be shown.
    fn show(&self, path: &AttributePath, value: &Value) -> String {
        let secret = self.schema.attribute(path).is_some_and(|a| a.sensitive || a.write_only);
        match value {
            Value::Unknown(_) => "unknown".into(),
            Value::Null => "null".into(),
            _ if secret => "(sensitive)".into(),
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.to_string(),
            Value::String(s) => format!("{s:?}"),
            other => format!("{} of {}", other.kind(), other.as_list().map_or(0, <[Value]>::len)),
        }
    }

    fn planned_object(
        &mut self,
        attributes: &[Attribute],
        prior: &Value,
        config: &Value,
        planned: &Value,
        path: &AttributePath,
    ) {
        for a in attributes {
            let path = path.clone().attribute(&a.name);
            self.planned_attribute(a, prior.attr(&a.name), config.attr(&a.name), planned.attr(&a.name), &path);
        }
    }

    fn planned_attribute(
        &mut self,
        a: &Attribute,
        prior: &Value,
        config: &Value,
        planned: &Value,
        path: &AttributePath,
    ) {
        if a.write_only {
            if !planned.is_null() {
                self.say(path, "a write-only value is planned");
            }
            return;
        }
        let as_configured = same(planned, config);
        let as_before = same(planned, prior) && !prior.is_null() && !config.is_null();
        if as_configured || as_before {
            return;
        }
        if config.is_null() {
            if !a.computed {
                let planned = self.show(path, planned);
                self.say(
                    path,
                    &format!("{planned} is planned for an attribute that is neither configured nor computed"),
                );
            }
            return;
        }
        if let AttributeKind::Nested { mode, attributes } = &a.kind
            && config.is_known()
        {
            return self.planned_nested(*mode, attributes, [prior, config, planned], path);
        }
        let text = format!(
            "planned is {}, configured is {}, before it was {}",
            self.show(path, planned),
            self.show(path, config),
            self.show(path, prior)
        );
        self.say(path, &text);
    }

    fn planned_nested(
        &mut self,
        mode: NestingMode,
        attributes: &[Attribute],
        [prior, config, planned]: [&Value; 3],
        path: &AttributePath,
    ) {
        if planned.is_null() || planned.is_unknown() {
            let planned = self.show(path, planned);
            return self.say(path, &format!("{planned} is planned where objects are configured"));
        }
        match mode {
            NestingMode::Single => self.planned_object(attributes, prior, config, planned, path),
            NestingMode::Map => {
                let (Some(c), Some(p)) = (config.as_map(), planned.as_map()) else { return };
                if !c.keys().eq(p.keys()) {
                    return self.say(path, "the planned keys are not the configured ones");
                }
                for (key, config) in c {
                    let path = path.clone().key(key);
                    self.planned_element(attributes, [prior.attr(key), config, planned.attr(key)], &path);
                }
            }
            NestingMode::List | NestingMode::Set => {
                let (Some(c), Some(p)) = (config.as_list(), planned.as_list()) else { return };
                if c.len() != p.len() {
                    return self.say(path, &format!("{} elements are planned, {} are configured", p.len(), c.len()));
                }
                if mode == NestingMode::Set {
                    return self.planned_set(attributes, prior, c, p, path);
                }
                for (i, (config, planned)) in c.iter().zip(p).enumerate() {
                    let before = prior.as_list().and_then(|l| l.get(i)).cloned().unwrap_or_default();
                    self.planned_element(attributes, [&before, config, planned], &path.clone().index(i));
                }
            }
        }
    }

    fn planned_element(
        &mut self,
        attributes: &[Attribute],
        [prior, config, planned]: [&Value; 3],
        path: &AttributePath,
    ) {
        match (config.as_map(), planned.as_map()) {
            (Some(_), Some(_)) => self.planned_object(attributes, prior, config, planned, path),
            _ if same(config, planned) => {}
            _ => self.say(path, "the planned element is not the configured one"),
        }
    }

    /// Every configured element must be met by a planned one of its own.
    fn planned_set(
        &mut self,
        attributes: &[Attribute],
        prior: &Value,
        config: &[Value],
        planned: &[Value],
        path: &AttributePath,
    ) {
        let before = prior.as_list().unwrap_or_default();
        let mut left: Vec<&Value> = planned.iter().collect();
        for (i, configured) in config.iter().enumerate() {
            let fits = |planned: &&Value| {
                before.contains(planned) || {
                    let mut trial = Check { schema: self.schema, violations: Vec::new() };
                    trial.planned_element(attributes, [&Value::Null, configured, planned], path);
                    trial.violations.is_empty()
                }
            };
            match left.iter().position(fits) {
                Some(found) => drop(left.swap_remove(found)),
                None => self.say(&path.clone().index(i), "no planned element matches the configured one"),
            }
        }
    }

    fn compatible(&mut self, earlier: &Value, later: &Value, path: &AttributePath) {
        match (earlier.inner(), later.inner()) {
            (Value::Unknown(refinement), later) => {
                if let Some(broken) = refinement.as_deref().and_then(|r| broken_promise(r, later)) {
                    self.say(path, broken);
                }
            }
            (Value::Object(a), Value::Object(b)) | (Value::Map(a), Value::Map(b)) => {
                let is_map = matches!(earlier.inner(), Value::Map(_));
                let step = |name: &str| if is_map { path.clone().key(name) } else { path.clone().attribute(name) };
                for (name, value) in a {
                    match b.get(name) {
                        Some(later) => self.compatible(value, later, &step(name)),
                        None => self.say(&step(name), "was there and is gone"),
                    }
                }
                for name in b.keys().filter(|name| !a.contains_key(*name)) {
                    self.say(&step(name), "was not there before");
                }
            }
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                if a.len() != b.len() {
                    return self.say(path, &format!("had {} elements and now has {}", a.len(), b.len()));
                }
                for (i, (earlier, later)) in a.iter().zip(b).enumerate() {
                    self.compatible(earlier, later, &path.clone().index(i));
                }
            }
            (Value::Set(a), Value::Set(b)) => self.compatible_set(a, b, path),
            (earlier, later) if earlier == later => {}
            (earlier, later) => {
                let text = format!("was {} and is now {}", self.show(path, earlier), self.show(path, later));
                self.say(path, &text);
            }
        }
    }

    fn compatible_set(&mut self, earlier: &[Value], later: &[Value], path: &AttributePath) {
        let open = earlier.iter().any(|v| !v.is_wholly_known());
        if later.len() > earlier.len() || (!open && later.len() < earlier.len()) {
            return self.say(path, &format!("had {} elements and now has {}", earlier.len(), later.len()));
        }
        for (i, value) in later.iter().enumerate() {
            let matches = |earlier: &Value| {
                let mut trial = Check { schema: self.schema, violations: Vec::new() };
                trial.compatible(earlier, value, path);
                trial.violations.is_empty()
            };
            if !earlier.iter().any(matches) {
                self.say(&path.clone().index(i), "is an element that was not there before");
            }
        }
    }
}

/// Equality as core has it here: what is known about an unknown does not count.
fn same(a: &Value, b: &Value) -> bool {
    bare(a) == bare(b)
}

/// The value without refinements.
fn bare(value: &Value) -> Value {
    let all = |list: &[Value]| list.iter().map(bare).collect();
    match value {
        Value::Unknown(_) => Value::unknown(),
        Value::List(l) => Value::List(all(l)),
        Value::Set(l) => Value::Set(all(l)),
        Value::Tuple(l) => Value::Tuple(all(l)),
        Value::Map(m) => Value::Map(m.iter().map(|(k, v)| (k.clone(), bare(v))).collect()),
        Value::Object(m) => Value::Object(m.iter().map(|(k, v)| (k.clone(), bare(v))).collect()),
        Value::Dynamic(d) if d.value.is_unknown() => Value::unknown(),
        other => other.clone(),
    }
}

fn broken_promise(promise: &Refinement, value: &Value) -> Option<&'static str> {
    if value.is_unknown() {
        return None; // core lets a plan promise less than the one before
    }
    if value.is_null() {
        return (promise.null == Some(false)).then_some("is null, and was promised not to be");
    }
    if let (Some(prefix), Some(text)) = (&promise.prefix, value.as_str())
        && !text.starts_with(prefix.as_str())
    {
        return Some("does not begin as was promised");
    }
    if let Some(number) = value.as_number() {
        let low = promise.number_min.as_ref().is_some_and(|(min, eq)| number < min || (!eq && number == min));
        let high = promise.number_max.as_ref().is_some_and(|(max, eq)| number > max || (!eq && number == max));
        if low || high {
            return Some("is outside of the promised range");
        }
    }
    let length = value.as_list().map(<[Value]>::len).or_else(|| Some(value.as_map()?.len()))? as u64;
    let short = promise.length_min.is_some_and(|min| length < min);
    let long = promise.length_max.is_some_and(|max| length > max);
    (short || long).then_some("has another number of elements than promised")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let disk = vec![Attribute::string("size").required(), Attribute::string("volume").computed()];
        Schema::new(
            "",
            vec![
                Attribute::string("id").computed(),
                Attribute::string("name").required(),
                Attribute::string("note").optional(),
                Attribute::string("cpu").optional().computed(),
                Attribute::string("password").optional().write_only(),
                Attribute::nested("disks", NestingMode::Map, disk).optional(),
            ],
        )
    }

    fn object(attributes: &[(&str, Value)]) -> Value {
        schema().ty().conform(Value::object(attributes.iter().cloned())).unwrap()
    }

    fn disks(size: &str, volume: Value) -> (&'static str, Value) {
        ("disks", Value::map([("a", Value::object([("size", Value::from(size)), ("volume", volume)]))]))
    }

    #[test]
    fn a_plan_is_configuration_or_prior_and_fills_in_only_what_is_computed() {
        let prior = object(&[("name", "N".into()), disks("8GB", "v".into())]);
        let config = object(&[("name", "n".into()), disks("8GiB", Value::Null)]);
        let good = object(&[
            ("name", "N".into()), // the prior spelling
            ("id", Value::unknown()),
            ("cpu", "x".into()),
            disks("8GiB", Value::unknown()),
        ]);
        assert_eq!(plan_valid(&schema(), &prior, &config, &good), Vec::<String>::new());

        let bad = object(&[
            ("name", "third".into()),
            ("note", "made up".into()),
            ("password", "secret".into()),
            disks("8", Value::Null),
        ]);
        let violations = plan_valid(&schema(), &prior, &config, &bad);
        let paths: Vec<_> = violations.iter().map(|v| v.split(": ").next().unwrap()).collect();
        assert_eq!(paths, ["name", "note", "password", r#"disks["a"].size"#]);
        assert!(!violations.concat().contains("secret"));
        assert_eq!(plan_valid(&schema(), &prior, &Value::Null, &prior).len(), 1);
    }

    #[test]
    fn what_was_known_stays_and_what_was_unknown_keeps_its_promise() {
        let promise = Refinement { null: Some(false), prefix: Some("i-".into()), ..Refinement::default() };
        let id = Value::Unknown(Some(Box::new(promise)));
        let planned = object(&[("id", id), ("name", "n".into()), disks("1", Value::unknown())]);
        let result = |id: Value, volume: &str| object(&[("id", id), ("name", "n".into()), disks("1", volume.into())]);
        assert!(object_compatible(&schema(), &planned, &result("i-1".into(), "v")).is_empty());
        assert_eq!(object_compatible(&schema(), &planned, &result(Value::Null, "v")).len(), 1);
        assert_eq!(object_compatible(&schema(), &planned, &result("x-1".into(), "v")).len(), 1);

        let first = result("i-1".into(), "v");
        let violations = object_compatible(&schema(), &first, &result("i-1".into(), "w"));
        assert_eq!(violations, [r#"disks["a"].volume: was "v" and is now "w""#]);
        assert_eq!(object_compatible(&schema(), &first, &planned).len(), 2, "known must not become unknown");
        assert_eq!(object_compatible(&schema(), &first, &Value::Null).len(), 1);
    }

    #[test]
    fn sets_keep_their_elements() {
        let schema = Schema::default();
        let set = |v: &[&str]| Value::set(v.iter().copied());
        assert!(object_compatible(&schema, &set(&["a", "b"]), &set(&["b", "a"])).is_empty());
        assert_eq!(object_compatible(&schema, &set(&["a", "b"]), &set(&["a", "c"])).len(), 1);
        assert_eq!(object_compatible(&schema, &set(&["a", "b"]), &set(&["a"])).len(), 1);
        let open = Value::Set(vec!["a".into(), Value::unknown()]);
        assert!(object_compatible(&schema, &open, &set(&["a", "z"])).is_empty());
        assert!(object_compatible(&schema, &open, &set(&["a"])).is_empty());
    }
}
