//! Owns ReadDataSource of `data.moxxie_placement`.
use std::collections::BTreeMap;
use std::sync::Arc;

use federation::model::{Capability, Plans, Policy};
use federation::placement::{Inventory, Placed, Wanted, place_set};
use federation::{ClusterName, Federation, PoolName};
use protocol::{AttributePath, Diagnostics, Value};

use crate::placing::Ready;
use crate::resource_pool::model as pools;
use crate::values::text;
use crate::virtual_machine::model;

/// Static checks.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    if let Some(Err(error)) = config.attr("pool").as_str().map(PoolName::new) {
        diags.error_at(AttributePath::new("pool"), "Invalid pool", error.to_string());
    }
    pools::validate(&as_pool(config), diags);
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (key, request) in config.attr("requests").as_map().into_iter().flatten() {
        let mut found = Diagnostics::new();
        let value = machine(config, key, request);
        model::validate(&value, &mut found);
        model::networks(&value, &Value::Null, &mut found);
        diags.extend(found.into_iter().map(|mut diagnostic| {
            let mut path = AttributePath::new("requests").key(key.as_str());
            path.steps.extend(diagnostic.path.take().into_iter().flat_map(|path| path.steps));
            diagnostic.path = Some(path);
            diagnostic
        }));
        for error in needs(request).filter_map(|text| text.parse::<Capability>().err()) {
            let at = AttributePath::new("requests").key(key.as_str()).attribute("needs");
            diags.error_at(at, "Invalid needs", error.to_string());
        }
        let Some(name) = text(&value, "name") else { continue };
        if let Some(other) = names.insert(name.clone(), key) {
            let at = AttributePath::new("requests").key(key.as_str());
            diags.error_at(at, "Two requests for one machine", format!("{other} and {key} are both called {name}."));
        }
    }
}

fn needs(request: &Value) -> impl Iterator<Item = &str> {
    request.attr("needs").as_list().into_iter().flatten().filter_map(Value::as_str)
}

/// The inline parts as a pool's configuration. Without clusters a weight may be for any.
fn as_pool(config: &Value) -> Value {
    let clusters = config.attr("clusters");
    Value::object([
        ("clusters", if clusters.is_null() { Value::unknown() } else { clusters.clone() }),
        ("limits", config.attr("limits").clone()),
        ("placement_policy", config.attr("placement_policy").clone()),
    ])
}

/// A request as a machine's configuration.
fn machine(config: &Value, key: &str, request: &Value) -> Value {
    let name = if request.attr("name").is_null() { key.into() } else { request.attr("name").clone() };
    request.clone().with_attr("name", name).with_attr("pool", config.attr("pool").clone())
}

/// What is answered for one.
struct Answer {
    key: String,
    /// Cluster, why, and whether it is there already; or what would help.
    place: Result<(ClusterName, String, bool), String>,
    explanation: Option<String>,
}

/// Places the machines. What exists keeps its cluster; what is new is decided jointly.
pub(crate) async fn read(ready: Option<&Ready>, config: Value, diags: &mut Diagnostics) -> Value {
    let Some(ready) = ready else {
        diags.warning("Nothing is placed", "The provider block holds values that are not known yet.");
        return answered(&config, &[]);
    };
    let Some((federation, pool)) = rules(ready, &config, diags).await else { return answered(&config, &[]) };
    let inventory: Arc<Inventory> = match &ready.snapshot {
        Some(snapshot) => snapshot.inventory.clone(),
        None => ready.fleet.inventory().await,
    };
    let (keys, wanted) = wanted(&config, diags);
    let placed = place_set(&federation, &inventory, &wanted);
    let mut answers = in_words(keys, placed, &pool, diags);
    let allowed = config.attr("allow_unplaced").as_bool().unwrap_or(false);
    let destroys = ready.parent.destroys();
    for answer in answers.iter_mut().filter(|_| !allowed) {
        let Err(help) = &answer.place else { continue };
        let detail =
            format!("{}\nSmallest change that would help: {help}", answer.explanation.as_deref().unwrap_or(""));
        let at = AttributePath::new("requests").key(answer.key.as_str());
        let what = format!("No cluster can take {}", answer.key);
        let first = federation.pools.get(&pool).and_then(|pool| pool.clusters.first());
        match first.filter(|_| destroys) {
            // Where everything is to be destroyed, what fits nowhere must not be in the way, nor a key that is missing.
            Some(first) => {
                diags.warning_at(at, what, detail);
                answer.place = Ok((first.clone(), "fits nowhere".to_owned(), false));
            }
            None => diags.error_at(at, what, detail),
        }
    }
    answered(&config, &answers)
}

/// The federation as declared and enrolled, with the inline parts in the pool's place. What this run plans is not in it: the
/// answer must not depend on what core happens to visit first.
async fn rules(ready: &Ready, config: &Value, diags: &mut Diagnostics) -> Option<(Federation, PoolName)> {
    let pool = PoolName::new(config.attr("pool").as_str()?).ok()?;
    let enrolled = match &ready.snapshot {
        Some(snapshot) => snapshot.enrolled.clone(),
        None => ready.fleet.enrolled().await,
    };
    let mut federation = ready.federation().layered(&enrolled, &Plans::default()).federation;
    let inline = pools::pool(&as_pool(config));
    if !federation.pools.contains_key(&pool) && inline.clusters.is_empty() {
        let known: Vec<&str> = federation.pools.keys().map(|name| name.as_str()).collect();
        let detail = format!(
            "{pool} is neither in the federation file nor enrolled on a cluster that answers. Known: {}. A pool that this run \
             makes is named together with `clusters` and `placement_policy`.",
            known.join(", ")
        );
        diags.error_at(AttributePath::new("pool"), "No such resource pool", detail);
        return None;
    }
    let facts = federation.pools.entry(pool.clone()).or_default();
    if !inline.clusters.is_empty() {
        facts.clusters = inline.clusters;
        federation.closed.remove(&pool);
    }
    if !inline.limits.is_empty() {
        facts.limits = inline.limits;
    }
    let policy: Option<Policy> = inline.policy;
    facts.policy = policy.or(facts.policy.take());
    for name in facts.clusters.clone() {
        if !federation.clusters.contains_key(&name) {
            let detail = format!("{name} is neither in `clusters` of the provider block nor in the file.");
            diags.error_at(AttributePath::new("clusters"), "No such cluster", detail);
            return None;
        }
    }
    Some((federation, pool))
}

/// The requests that can be read, beside their keys.
fn wanted(config: &Value, diags: &mut Diagnostics) -> (Vec<String>, Vec<Wanted>) {
    let mut all = (Vec::new(), Vec::new());
    for (key, request) in config.attr("requests").as_map().into_iter().flatten() {
        let value = machine(config, key, request);
        match model::request(&value, request.attr("cluster").as_str(), None) {
            Ok(mut asked) => {
                asked.needs = needs(request).filter_map(|text| text.parse().ok()).collect();
                let former = request.attr("former_names").as_list().into_iter().flatten().filter_map(Value::as_str);
                all.0.push(key.clone());
                all.1.push(Wanted { request: asked, former_names: former.map(str::to_owned).collect() });
            }
            Err(inputs) => {
                let at = AttributePath::new("requests").key(key.as_str());
                diags.error_at(at, "A request can't be read", inputs.join(", "));
            }
        }
    }
    all
}

/// What was decided, as it is told.
fn in_words(keys: Vec<String>, placed: Vec<Placed>, pool: &PoolName, diags: &mut Diagnostics) -> Vec<Answer> {
    let mut maybe_dark = Vec::new();
    let mut answers = Vec::new();
    for (key, placed) in keys.into_iter().zip(placed) {
        let (place, explanation) = match placed {
            Placed::Stays(at) => {
                let why = format!("stays on {at}, a machine of {pool}");
                (Ok((at, why, true)), None)
            }
            Placed::MayBe(dark) => {
                let why = format!("may be on {dark}, which doesn't answer");
                maybe_dark.push(format!("{key} ({dark})"));
                (Ok((dark, why, false)), None)
            }
            Placed::Decided(Ok(decision)) => {
                (Ok((decision.cluster, decision.why, false)), Some(decision.explanation.to_string()))
            }
            Placed::Decided(Err(refusal)) => (Err(refusal.smallest_relaxation), Some(refusal.explanation.to_string())),
        };
        answers.push(Answer { key, place, explanation });
    }
    if !maybe_dark.is_empty() {
        diags.warning(
            "A cluster that doesn't answer may hold machines already",
            format!(
                "Nobody can tell whether these exist: {}. They are taken to be there, so that nothing moves because a site is \
                 dark. What is new among them is refused at apply; a `cluster` in its request sends it elsewhere.",
                maybe_dark.join(", ")
            ),
        );
    }
    answers
}

fn answered(config: &Value, answers: &[Answer]) -> Value {
    let placed = answers.iter().filter_map(|answer| {
        let (cluster, why, existing) = answer.place.as_ref().ok()?;
        let value = Value::object([
            ("cluster", Value::from(cluster.as_str())),
            ("placement", why.as_str().into()),
            ("existing", (*existing).into()),
        ]);
        Some((answer.key.clone(), value))
    });
    let placements = Value::map(placed);
    let unplaced = answers.iter().filter_map(|answer| {
        let help = answer.place.as_ref().err()?;
        Some((answer.key.clone(), Value::from(help.as_str())))
    });
    let unplaced = Value::map(unplaced);
    let explained = answers.iter().filter_map(|answer| {
        let explanation = answer.explanation.as_deref()?;
        Some((answer.key.clone(), Value::from(explanation)))
    });
    let explanations = Value::map(explained);
    config
        .clone()
        .with_attr("placements", placements)
        .with_attr("unplaced", unplaced)
        .with_attr("explanations", explanations)
}
