//! Taking a pool away: never while it holds guests, and nothing of somebody else's with it.
use std::collections::BTreeSet;

use federation::block;
use federation::{ClusterName, PoolName};
use proxmox::{Error, Missing};

use super::{guests, untouched};
use crate::failure::{Failure, Object, Remedy};
use crate::fleet::Fleet;
use crate::site::Site;

impl Fleet {
    /// Removes a pool from every cluster that holds it. What is gone already is fine. Answers with warnings.
    ///
    /// # Errors
    /// Guests in it, by name; a member that can't be asked; what Proxmox VE said. Before the first removal all is checked.
    pub async fn delete_pool(&self, name: &PoolName, members: &BTreeSet<ClusterName>) -> Result<Vec<Failure>, Failure> {
        let what = format!("Unable to remove resource pool {name}");
        let mut all = members.clone();
        all.extend(self.has_pool(name).await.into_iter().filter_map(|(cluster, recorded)| recorded.then_some(cluster)));
        self.refresh(&all).await;
        let warnings = self.may_leave(&what, name, &all).await?;
        for (index, cluster) in all.iter().enumerate() {
            if let Err(mut failure) = self.leave(name, cluster).await {
                let done: Vec<&str> = all.iter().take(index).map(ClusterName::as_str).collect();
                let state = if done.is_empty() {
                    "it exists".to_owned()
                } else {
                    format!("it is gone from {}", done.join(", "))
                };
                failure.what = what;
                return Err(failure.state(state));
            }
        }
        Ok(warnings)
    }

    /// Checks that a pool may go from these clusters, before anything is touched. A cluster without a connection is none of
    /// ours any more: a warning.
    pub(crate) async fn may_leave(
        &self,
        what: &str,
        name: &PoolName,
        clusters: &BTreeSet<ClusterName>,
    ) -> Result<Vec<Failure>, Failure> {
        let mut inside = Vec::new();
        let mut warnings = Vec::new();
        for cluster in clusters {
            let Some(site) = self.site(cluster.as_str()) else {
                let left = Failure::new(format!("Resource pool {name} stays on {cluster}"));
                warnings.push(
                    left.at("the cluster has no connection in this configuration")
                        .next("remove the pool there by hand"),
                );
                continue;
            };
            let overview = site.fresh().await.map_err(|error| {
                untouched(what, format!("whether machines are in it on {cluster} can't be told"))
                    .said(error)
                    .next("bring the cluster back; or take its connection out of the provider block, which leaves the pool there")
            })?;
            inside.extend(guests(site, &overview, name));
            let nested = overview.pools.iter().filter(|pool| {
                let rest = pool.poolid.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/'));
                rest.is_some_and(|rest| rest != "retired")
            });
            inside.extend(nested.map(|pool| format!("pool {} on {cluster}", pool.poolid)));
        }
        if inside.is_empty() {
            return Ok(warnings);
        }
        Err(untouched(what, format!("it is not empty: {}", inside.join(", ")))
            .next("move or remove them first")
            .remedy(Remedy::Refer(Object::Pool)))
    }

    /// Takes a pool away from one cluster.
    pub(crate) async fn leave(&self, name: &PoolName, cluster: &ClusterName) -> Result<(), Failure> {
        let Some(site) = self.site(cluster.as_str()) else { return Ok(()) };
        site.drop_pool(name).await.map_err(|error| {
            let denied = error.is_permission_denied();
            let next =
                if denied { format!("give the token Pool.Allocate on /pool/{name}") } else { "apply again".into() };
            Failure::new(format!("Resource pool {name} stays on {cluster}"))
                .at(format!("cluster {cluster}, pool {name}"))
                .said(error)
                .next(next)
        })
    }
}

impl Site {
    /// Removes the pool and its empty `retired`. Where storages are in it, it stays without our record.
    async fn drop_pool(&self, name: &PoolName) -> Result<(), Error> {
        let one_at_a_time = self.document(name.as_str()).await;
        let _only_writer = one_at_a_time.lock().await;
        let Some(pool) = self.client.pool(name.as_str()).await? else { return Ok(()) };
        let dropped = if pool.members.iter().any(|member| member.kind == "storage") {
            let comment = block::remove(pool.comment.as_deref().unwrap_or_default());
            self.client.update_pool(name.as_str(), &comment).await
        } else {
            if let Some(retired) = name.retired() {
                gone(self.client.delete_pool(retired.as_str()).await)?;
            }
            gone(self.client.delete_pool(name.as_str()).await)
        };
        self.changed().await;
        dropped
    }
}

/// A pool that doesn't exist is as removed as can be.
fn gone(outcome: proxmox::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(error) if matches!(error.missing(), Some(Missing::Pool(_))) => Ok(()),
        other => other,
    }
}
