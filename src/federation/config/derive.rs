//! What follows from the guide's facts where ours are not given.

use super::cluster::Backend;
use crate::model::{Cluster, Federation, Strategy};

/// Performance classes, slowest first.
pub(super) const PERFORMANCE: [&str; 3] = ["hdd", "ssd", "nvme"];

/// Makes storage classes `hdd`, `ssd` and `nvme` from the backends' `performance_tier`, unless they are given.
///
/// A class asks for at least that speed: where nothing of the class itself is there, the next faster one stands in, never
/// a slower one. Of several the primary storage comes first, then the order of the file.
pub(super) fn storage_classes(cluster: &mut Cluster, backends: &[Backend]) {
    for (index, class) in PERFORMANCE.iter().enumerate() {
        let of = |wanted: &str| {
            let mut fitting: Vec<&Backend> =
                backends.iter().filter(|backend| backend.performance.as_deref() == Some(wanted)).collect();
            fitting.sort_by_key(|backend| cluster.primary_storage.as_deref() != Some(backend.name.as_str()));
            fitting.first().map(|backend| backend.name.clone())
        };
        let found = PERFORMANCE[index..].iter().find_map(|wanted| of(wanted));
        // A storage of that very name stands for itself already.
        let taken = backends.iter().any(|backend| backend.name == *class);
        if let Some(storage) = found.filter(|_| !taken) {
            cluster.storage_classes.entry((*class).to_owned()).or_insert(storage);
        }
    }
}

/// What a reader should know about how pools will rank.
pub(super) fn pool_warnings(federation: &Federation) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, pool) in &federation.pools {
        let lacking = |lacks: &dyn Fn(&Cluster) -> bool| {
            let members = pool.clusters.iter().filter_map(|name| Some((name, federation.clusters.get(name)?)));
            let names: Vec<&str> =
                members.filter(|(_, cluster)| lacks(cluster)).map(|(name, _)| name.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        match pool.policy().strategy {
            Strategy::Cost => {
                if let Some(names) = lacking(&|cluster| cluster.pricing.is_none()) {
                    warnings.push(format!(
                        "pool {name}: strategy \"cost\" without prices for {names} ranks by cluster_weights"
                    ));
                }
            }
            Strategy::Geographic => {
                if let Some(names) = lacking(&|cluster| cluster.coordinates.is_none()) {
                    warnings.push(format!(
                        "pool {name}: strategy \"geographic\" without coordinates for {names} compares location texts"
                    ));
                }
            }
            Strategy::Balanced | Strategy::Performance => {}
        }
        let weights = pool.policy().cluster_weights;
        if !weights.is_empty() {
            let missing: Vec<&str> =
                pool.clusters.iter().filter(|name| !weights.contains_key(*name)).map(|name| name.as_str()).collect();
            if !missing.is_empty() {
                let names = missing.join(", ");
                warnings.push(format!("pool {name}: no weight for {names}; the largest of the others counts"));
            }
        }
    }
    warnings
}
