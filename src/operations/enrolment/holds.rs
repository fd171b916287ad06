//! What keeps a cluster from leaving the federation: operations, pools of ours, and machines that are in none of them.
use federation::PoolName;
use proxmox::Resource;
use tokio::task::JoinSet;

use super::untouched;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::OPERATIONS;
use crate::notes;
use crate::site::{Overview, Site};

impl Fleet {
    /// Everything of ours on a cluster, in words. Of guests that are in no pool of ours the notes are read, one call each.
    ///
    /// # Errors
    /// Where of one of them it can't be told.
    pub(super) async fn holds(&self, what: &str, site: &Site, overview: &Overview) -> Result<Vec<String>, Failure> {
        let mut inside = operations(overview);
        for name in overview.records.keys() {
            let guests = super::guests(site, overview, name);
            let some = if guests.is_empty() { String::new() } else { format!(" with {}", guests.join(", ")) };
            inside.push(format!("resource pool {name}{some}"));
        }
        let declared = self.declared().pools.keys().filter(|name| !overview.records.contains_key(*name));
        let declared: Vec<&PoolName> = declared.collect();
        for name in &declared {
            let guests = super::guests(site, overview, name);
            if !guests.is_empty() {
                inside.push(format!("resource pool {name}, which is declared here, with {}", guests.join(", ")));
            }
        }
        let known = |name: &PoolName| overview.records.contains_key(name) || declared.contains(&name);
        inside.extend(alone(what, site, overview, known).await?);
        Ok(inside)
    }
}

fn operations(overview: &Overview) -> Vec<String> {
    let below = |pool: &&str| pool.strip_prefix(OPERATIONS).is_some_and(|rest| rest.starts_with('/'));
    let open = overview.pools.iter().map(|pool| pool.poolid.as_str()).filter(below);
    open.map(|pool| {
        let what = overview.operation(pool).map(|journal| journal.in_words());
        format!("operation {pool} ({})", what.unwrap_or_else(|| "its journal can't be read".into()))
    })
    .collect()
}

/// Machines in no pool that is known to be ours, and retired copies of such: their own notes say so.
async fn alone(
    what: &str,
    site: &Site,
    overview: &Overview,
    known: impl Fn(&PoolName) -> bool,
) -> Result<Vec<String>, Failure> {
    let mut asked = JoinSet::new();
    for guest in overview.guests().filter(|guest| guest.kind == "qemu" && !in_one_of(guest, &known)) {
        let (Some(vmid), Some(node)) = (guest.vmid, guest.node.clone()) else { continue };
        let (client, name) = (site.client.clone(), guest.name.clone().unwrap_or_default());
        asked.spawn(async move {
            let config = client.vm_config(&node, vmid, false).await;
            (vmid, name, node, config)
        });
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(vmid, ..)| *vmid);
    let mut inside = Vec::new();
    for (vmid, name, node, config) in found {
        // It may be moving inside the cluster.
        let config = match config {
            Err(error) if error.is_not_found() => {
                site.config_and_node(&node, vmid, false).await.map(|(_, config)| config)
            }
            config => config,
        };
        let place = format!("{}/{vmid} ({name})", site.name);
        let config = match config {
            Ok(config) => config,
            Err(error) if error.is_not_found() => continue,
            Err(error) => {
                return Err(untouched(what, format!("whether {place} is one of ours can't be told"))
                    .said(error)
                    .next("bring its node back, or give the token VM.Audit on it; then apply again"));
            }
        };
        let mark = notes::split(config.description().unwrap_or_default()).mark;
        if mark.retired.is_some() {
            inside.push(format!("retired copy {place}"));
        } else if mark.is_of(config.uuid().as_deref()) {
            inside.push(format!("virtual machine {place}"));
        }
    }
    Ok(inside)
}

/// Whether a guest is in one of these pools or nested in one.
fn in_one_of(guest: &Resource, known: impl Fn(&PoolName) -> bool) -> bool {
    let Some(pool) = guest.pool.as_deref() else { return false };
    let ends = pool.match_indices('/').map(|(at, _)| at).chain([pool.len()]);
    ends.filter_map(|end| PoolName::new(&pool[..end]).ok()).any(|name| known(&name))
}
