//! Owns ReadResource and ImportResourceState of a resource pool.
use std::collections::{BTreeMap, BTreeSet};

use federation::{ClusterName, Pool, PoolName};
use operations::{PoolCopies, PoolFound};
use protocol::{Diagnostics, ImportedResource, ReadRequest, ReadResponse, Value};

use super::{apply::private, model};
use crate::failures::{is_dark, not_refreshed, report};
use crate::placing::Ready;

/// Refreshes a pool: the newest record counts, and a cluster without it is not in `clusters`.
pub(crate) async fn read(ready: Option<&Ready>, req: ReadRequest, diags: &mut Diagnostics) -> ReadResponse {
    let as_it_was = ReadResponse { new_state: req.current_state.clone(), private: req.private.clone() };
    let Some(ready) = ready else {
        diags.warning("Resource pools are not refreshed", "The provider block holds values that are not known yet.");
        return as_it_was;
    };
    let Some(name) = model::name(&req.current_state) else {
        diags.error("State can't be read", "It lacks the name of the pool. Import it again.");
        return as_it_was;
    };
    match ready.fleet.find_pool(&name, &model::clusters(&req.current_state)).await {
        Ok(PoolFound::Recorded(copies)) => {
            incomplete(&name, &copies, ready, diags).await;
            let state = model::state(&name, &copies.pool, &copies.complete, &req.current_state);
            ReadResponse { new_state: state, private: private(&copies.revision) }
        }
        Ok(PoolFound::Unrecorded(there)) => {
            // One that was just imported never had a record.
            if !req.private.is_empty() {
                unrecorded(&name, &there, diags);
            }
            let state = req.current_state.with_attr("clusters", Value::set(Vec::<Value>::new()));
            ReadResponse { new_state: state, private: req.private }
        }
        Ok(PoolFound::Gone) => ReadResponse { new_state: Value::Null, private: Vec::new() },
        Ok(PoolFound::Unsure(why)) => {
            let members = model::clusters(&req.current_state);
            let mut dark = 0;
            for cluster in &members {
                dark += usize::from(is_dark(cluster, ready, diags).await);
            }
            if dark > 0 && dark == members.len() {
                return as_it_was;
            }
            diags.warning(format!("Resource pool {name} is not refreshed"), why);
            as_it_was
        }
        Err(failure) => {
            not_refreshed(&failure, ready, diags);
            as_it_was
        }
    }
}

async fn incomplete(name: &PoolName, copies: &PoolCopies, ready: &Ready, diags: &mut Diagnostics) {
    for (cluster, why) in &copies.faults {
        diags.warning(
            format!("Resource pool {name} is not complete on {cluster}"),
            format!("{}. Nothing new of it is placed there until apply writes the record again.", capital(why)),
        );
    }
    for (cluster, why) in &copies.dark {
        if is_dark(cluster, ready, diags).await {
            continue;
        }
        // The same summary for every pool of a cluster, so that core groups them.
        diags.warning(format!("Pools of cluster {cluster} are not refreshed"), format!("{name}: {why}"));
    }
}

fn unrecorded(name: &PoolName, there: &BTreeMap<ClusterName, String>, diags: &mut Diagnostics) {
    let places: Vec<String> = there.iter().map(|(cluster, why)| format!("{cluster}: {why}")).collect();
    diags.warning(
        format!("Resource pool {name} has lost its record"),
        format!("{}. Apply writes it again from the configuration; no machine is touched.", places.join("; ")),
    );
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Imports a pool by name, from every connected cluster that has it. A plain PVE pool comes with the default policy and no
/// clusters: none holds a record yet, and the next apply writes them.
pub(crate) async fn import(ready: Option<&Ready>, id: &str, diags: &mut Diagnostics) -> Vec<ImportedResource> {
    let Some(ready) = ready else {
        diags.error("Unable to import", "The provider block holds values that are not known yet.");
        return Vec::new();
    };
    let name = match PoolName::new(id) {
        Ok(name) => name,
        Err(error) => {
            diags.error(format!("Unable to import {id}"), error.to_string());
            return Vec::new();
        }
    };
    let (state, private) = match ready.fleet.import_pool(&name).await {
        Ok(PoolFound::Recorded(copies)) => {
            (model::state(&name, &copies.pool, &copies.complete, &Value::Null), private(&copies.revision))
        }
        Ok(_) => (model::state(&name, &Pool::default(), &BTreeSet::new(), &Value::Null), Vec::new()),
        Err(failure) => {
            report(&failure, diags);
            return Vec::new();
        }
    };
    vec![ImportedResource { type_name: super::TYPE.to_owned(), state, private }]
}
