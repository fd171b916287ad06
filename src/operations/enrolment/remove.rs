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
        let mut warnings = self.may_leave(&what, name, &all).await?;
        for (index, cluster) in all.iter().enumerate() {
            let left = self.leave(name, cluster).await;
            warnings.extend(left.as_ref().ok().cloned().flatten());
            if let Err(mut failure) = left {
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

    /// Takes a pool away from one cluster, or its record alone where others need the pool: a warning says who.
    pub(crate) async fn leave(&self, name: &PoolName, cluster: &ClusterName) -> Result<Option<Failure>, Failure> {
        let Some(site) = self.site(cluster.as_str()) else { return Ok(None) };
        let kept = site.drop_pool(name).await.map_err(|error| {
            let denied = error.is_permission_denied();
            let next =
                if denied { format!("give the token Pool.Allocate on /pool/{name}") } else { "apply again".into() };
            Failure::new(format!("Resource pool {name} stays on {cluster}"))
                .at(format!("cluster {cluster}, pool {name}"))
                .said(error)
                .next(next)
        })?;
        Ok((!kept.is_empty()).then(|| {
            Failure::new(format!("Pool {name} stays on {cluster}, without its record"))
                .at(format!("It holds {}", kept.join(", ")))
                .next(format!(
                    "where nobody needs that any more, as root on a node of {cluster}: pveum pool delete {name}. Proxmox VE removes the \
                     rights on a pool together with it"
                ))
        }))
    }
}

impl Site {
    /// Removes the pool and its empty `retired`. Where storages are in it, or somebody has rights on it, it stays without our record:
    /// answers with these. Rights on a pool go with it, and don't come back (`proxmox-ve.md` §18.3).
    async fn drop_pool(&self, name: &PoolName) -> Result<Vec<String>, Error> {
        let one_at_a_time = self.document(name.as_str()).await;
        let _only_writer = one_at_a_time.lock().await;
        let Some(pool) = self.client.pool(name.as_str()).await? else { return Ok(Vec::new()) };
        let storages: BTreeSet<&str> = pool.members.iter().filter_map(|member| member.storage.as_deref()).collect();
        let mut kept: Vec<String> = storages.into_iter().map(|storage| format!("storage {storage}")).collect();
        kept.extend(self.rights_on_pool(name).await?);
        let dropped = if !kept.is_empty() {
            let comment = block::remove(pool.comment.as_deref().unwrap_or_default());
            self.client.update_pool(name.as_str(), &comment).await
        } else {
            if let Some(retired) = name.retired() {
                gone(self.client.delete_pool(retired.as_str()).await)?;
            }
            gone(self.client.delete_pool(name.as_str()).await)
        };
        self.changed().await;
        dropped.map(|()| kept)
    }

    /// Who has which role on a pool, or on what is nested in it. All of it is seen by whoever may remove the pool.
    async fn rights_on_pool(&self, name: &PoolName) -> Result<Vec<String>, Error> {
        let path = format!("/pool/{name}");
        let inside =
            |other: &str| other.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let acl = self.client.acl().await?.into_iter().filter(|entry| inside(&entry.path));
        Ok(acl.map(|entry| format!("the role {} of {} on {}", entry.roleid, entry.ugid, entry.path)).collect())
    }
}

/// A pool that doesn't exist is as removed as can be.
fn gone(outcome: proxmox::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(error) if matches!(error.missing(), Some(Missing::Pool(_))) => Ok(()),
        other => other,
    }
}
