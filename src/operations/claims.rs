//! Owns that machines which several runs make at once don't clash: the name, the VMID, what a pool or cluster has room for
//! (decision 13). The rule is [`turn`]; here its facts are read, and what it says is done.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use federation::placement::{Claim, ClusterFacts, GuestFacts, Inventory, Request, Turn, VmidScope, turn};
use federation::{Bytes, ClusterName};
use tokio::task::JoinSet;

use crate::failure::{Failure, FailureKind};
use crate::fleet::Fleet;
use crate::inventory::unseen;
use crate::journal::{Holder, Journal, Kind, is_create_pool};
use crate::site::{Overview, Site};
use crate::spec::VmSpec;

/// What there is, and what others are about to make.
pub(crate) struct Survey {
    /// Guests that were made a moment ago are whole in it, and moves under way are on their targets too.
    pub(crate) inventory: Inventory,
    /// Creates whose machine is no guest yet.
    pub(crate) claims: Vec<Claim>,
    /// Who holds them, for people.
    holders: BTreeMap<String, String>,
}

impl Fleet {
    /// Waits until the machine of a journal that everybody can read by now may be made, and has it claim another VMID where that
    /// is somebody else's. Where it may not be made, the operation is given back.
    ///
    /// # Errors
    /// A name that is taken, a plan that is stale by now, or others that don't come to an end; nothing was made.
    pub(crate) async fn take_turn(
        &self,
        site: &Site,
        key: &str,
        journal: &mut Journal,
        spec: &VmSpec,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let scope = match spec.vmid {
            Some(_) => VmidScope::Chosen,
            None if self.facts(site.name.as_str()).vmid_range.is_some() => VmidScope::Cluster,
            None => VmidScope::Everywhere,
        };
        let mut pause = site.client.settings().task_poll_first;
        loop {
            let Some(mine) = claim(journal, true) else { return Ok(()) };
            let survey = self.survey(Instant::now(), &journal.op).await;
            let rules = self.rules().await;
            let refused = match turn(&rules.federation, &survey.inventory, &mine, &survey.claims, scope) {
                Turn::Go => return Ok(()),
                Turn::AnotherVmid => match self.pick_vmid(site, spec, what).await {
                    Ok(vmid) => {
                        journal.to.vmid = vmid;
                        self.remember(spec, journal);
                        self.note(site, key, journal, what).await?;
                        continue;
                    }
                    Err(failure) => failure,
                },
                Turn::ClaimAgain => {
                    journal.steps_back = false;
                    self.note(site, key, journal, what).await?;
                    continue;
                }
                Turn::NameTaken { cluster, vmid } => name_taken(what, &cluster, vmid),
                Turn::Refused(reasons) => {
                    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                    let cluster = &site.name;
                    Failure::stale(what, format!("cluster {cluster} can't take it any more: {}", reasons.join("; ")))
                }
                Turn::Wait | Turn::StepBack if self.is_stopping() => interrupted(what, journal),
                Turn::Wait | Turn::StepBack if Instant::now() >= deadline => no_end(what, journal, &survey),
                again @ (Turn::Wait | Turn::StepBack) => {
                    let stale = site.now() - journal.at > self.lease_seconds() / 2;
                    if again == Turn::StepBack || stale {
                        journal.steps_back |= again == Turn::StepBack;
                        self.note(site, key, journal, what).await?;
                    }
                    tracing::info!(machine = %journal.name, "others make machines beside it: looking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 3 / 2).min(site.client.settings().task_poll_max);
                    continue;
                }
            };
            let undone = self.give_back(site, key, journal.epoch).await;
            return Err(if undone.is_ok() {
                refused
            } else {
                refused.state("nothing was made; the create is not closed")
            });
        }
    }

    /// All clusters as they are after `since`, and what others than the operation `own` are about to make there, unless they are
    /// abandoned.
    pub(crate) async fn survey(&self, since: Instant, own: &str) -> Survey {
        let mut asked = JoinSet::new();
        let age = self.settings().fact_age.into();
        for site in self.sites() {
            let (site, own) = (Arc::clone(site), own.to_owned());
            asked.spawn(async move {
                let seen = site.overview_since(since).await;
                let facts = match &seen {
                    Ok(overview) => site.whole(site.facts_of(age, overview).await, overview, &own).await,
                    Err(error) => unseen(error),
                };
                (site, facts, seen.ok())
            });
        }
        let mut survey = Survey { inventory: Inventory::default(), claims: Vec::new(), holders: BTreeMap::new() };
        let mut moves = Vec::new();
        // A panic in one cluster's task leaves that cluster out, which placement reads as "not connected".
        for (site, facts, overview) in asked.join_all().await {
            survey.inventory.taken_at = survey.inventory.taken_at.max(u64::try_from(site.now()).unwrap_or(0));
            let operations = overview.iter().flat_map(|overview| overview.operations());
            for (pool, journal) in operations.filter(|(_, journal)| journal.op != own) {
                match journal.kind {
                    Kind::Create if is_create_pool(pool) && !self.is_abandoned(&site, &journal) => {
                        let own = journal.holder == Holder::me();
                        survey.holders.insert(journal.op.clone(), journal.holder.run.clone());
                        survey.claims.extend(claim(&journal, own));
                    }
                    Kind::Move | Kind::Recovery if !journal.is_live() => moves.push(journal),
                    _ => {}
                }
            }
            survey.inventory.clusters.insert(site.name.clone(), facts);
        }
        let is_guest = |claim: &Claim| {
            let facts = survey.inventory.clusters.get(&claim.cluster);
            facts.is_some_and(|facts| facts.guests.iter().any(|guest| guest.vmid == claim.vmid && of(claim, guest)))
        };
        survey.claims = survey.claims.iter().filter(|claim| !is_guest(claim)).cloned().collect();
        moves.iter().for_each(|journal| arrives(&mut survey.inventory, journal));
        survey
    }
}

impl Site {
    /// The facts with the guests whole that the overview shows without name and sizes: they were made a moment ago, by others than
    /// the operation `own`, which waits for its turn.
    async fn whole(&self, mut facts: ClusterFacts, overview: &Overview, own: &str) -> ClusterFacts {
        let online: Vec<&str> = overview.online_nodes().collect();
        let operations = overview.operations();
        let mut newborn = self.newborn.lock().await;
        let bare =
            |guest: &GuestFacts| guest.name.is_empty() && !guest.container && online.contains(&guest.node.as_str());
        newborn.retain(|vmid, _| facts.guests.iter().any(|guest| guest.vmid == *vmid && bare(guest)));
        for guest in facts.guests.iter_mut().filter(|guest| bare(guest)) {
            let claimed = claimed(&operations, guest.vmid, own);
            let known = match (newborn.get(&guest.vmid), &claimed[..]) {
                (Some(known), _) => Some(known.clone()),
                (None, [only]) => Some(guest_of(only)),
                (None, _) => match self.client.vm_config(&guest.node, guest.vmid, false).await {
                    Ok(config) if config.name().is_some() => {
                        let known = guest_as(&config);
                        newborn.insert(guest.vmid, known.clone());
                        Some(known)
                    }
                    // While Proxmox VE makes it, it has a lock and nothing else: it is one of theirs.
                    _ => claimed.first().map(|wants| guest_of(wants)),
                },
            };
            if let Some(known) = known {
                guest.name = known.name;
                guest.pool = guest.pool.take().or(known.pool);
                (guest.cpus, guest.memory, guest.disk) = (known.cpus, known.memory, known.disk);
                guest.template = known.template;
            }
        }
        facts
    }
}

/// What creates other than `own` say they make under this VMID.
fn claimed<'a>(operations: &'a BTreeMap<&str, Journal>, vmid: u32, own: &str) -> Vec<&'a Request> {
    let creates = operations.iter().filter(|(pool, _)| is_create_pool(pool)).map(|(_, journal)| journal);
    let theirs = creates.filter(|journal| journal.to.vmid == vmid && journal.op != own);
    theirs.filter_map(|journal| journal.wants.as_deref()).collect()
}

fn guest_as(config: &proxmox::VmConfig) -> GuestFacts {
    let disks = config.disks();
    GuestFacts {
        name: config.name().unwrap_or_default().to_owned(),
        cpus: u32::try_from(config.cores().saturating_mul(config.sockets())).unwrap_or(u32::MAX),
        memory: Bytes::from_mib(config.memory_mib()),
        disk: Bytes(disks.values().filter_map(proxmox::DiskSpec::size_bytes).sum()),
        template: config.template(),
        ..GuestFacts::default()
    }
}

/// What a create's journal claims; `None` where it doesn't say what it makes, as older ones.
fn claim(journal: &Journal, same_run: bool) -> Option<Claim> {
    Some(Claim {
        id: journal.op.clone(),
        cluster: journal.to.cluster.clone(),
        vmid: journal.to.vmid,
        request: journal.wants.as_deref()?.clone(),
        same_run,
        steps_back: journal.steps_back,
    })
}

/// Whether a guest is what a claim is about.
fn of(claim: &Claim, guest: &GuestFacts) -> bool {
    guest.name == claim.request.name.as_str()
        && guest.pool.as_deref() == claim.request.pool.as_ref().map(federation::PoolName::as_str)
}

pub(crate) fn guest_of(wants: &Request) -> GuestFacts {
    GuestFacts {
        name: wants.name.to_string(),
        pool: wants.pool.as_ref().map(ToString::to_string),
        cpus: wants.cpus,
        memory: wants.memory,
        disk: wants.disks.values().map(|disk| disk.size).sum(),
        ..GuestFacts::default()
    }
}

/// Counts a machine that is on its way also where it goes.
fn arrives(inventory: &mut Inventory, journal: &Journal) {
    let Some(from) = &journal.from else { return };
    let source = inventory.clusters.get(&from.cluster);
    let seen = source.and_then(|facts| facts.guests.iter().find(|guest| guest.vmid == from.vmid)).cloned();
    // Of a recovery nobody shows the source.
    let Some(guest) = seen.or_else(|| journal.wants.as_deref().map(guest_of)) else { return };
    let arriving = GuestFacts { vmid: journal.to.vmid, node: journal.to.node.clone(), ..guest.clone() };
    let Some(target) = inventory.clusters.get_mut(&journal.to.cluster) else { return };
    match target.guests.iter_mut().find(|guest| guest.vmid == arriving.vmid) {
        None => target.guests.push(arriving),
        // It is being restored, which shows no name and no sizes.
        Some(stub) if stub.name.is_empty() => *stub = arriving,
        Some(_) => {}
    }
}

fn name_taken(what: &str, cluster: &ClusterName, vmid: u32) -> Failure {
    Failure::new(what)
        .at(format!("cluster {cluster}: guest {vmid} of the same pool has this name, made by somebody else just now"))
        .state("nothing was made")
        .next(format!("choose another name, or import it (id \"{cluster}/{vmid}\")"))
}

fn no_end(what: &str, journal: &Journal, survey: &Survey) -> Failure {
    let mut holders: Vec<&str> = survey.holders.values().map(String::as_str).collect();
    holders.sort_unstable();
    holders.dedup();
    Failure::new(what)
        .at(format!(
            "{}: machines that others make beside it ({}) don't come to an end",
            journal.to,
            holders.join(", ")
        ))
        .state("nothing was made")
        .next("wait for them, and apply again")
}

fn interrupted(what: &str, journal: &Journal) -> Failure {
    let mut failure = Failure::new(what)
        .at(format!("{}: interrupted while others make machines beside it", journal.to))
        .state("nothing was made")
        .next("apply again to go on");
    failure.kind = FailureKind::Interrupted;
    failure
}

#[cfg(test)]
mod tests {
    use federation::VmName;
    use federation::migration::Step;

    use super::*;
    use crate::journal::tests::journal;

    /// Two creates of one run claimed one VMID. Whose guest it is that the cluster shows there without a name: never that of the one
    /// that asks, which makes nothing before its turn.
    #[test]
    fn a_guest_without_a_name_is_not_what_the_create_that_asks_is_about_to_make() {
        let create = |op: &str, name: &str, vmid: u32| {
            let wants = Box::new(Request::new(VmName::new(name).expect("a name")));
            let mut made = Journal { op: op.into(), kind: Kind::Create, wants: Some(wants), ..journal(Step::Taken) };
            made.to.vmid = vmid;
            made
        };
        let operations = BTreeMap::from([
            ("moxxie-moves/create-1", create("a", "web-1", 1000)),
            ("moxxie-moves/create-1/e1", create("a", "web-1", 1000)),
            ("moxxie-moves/create-2", create("b", "web-2", 1000)),
            ("moxxie-moves/create-3", create("c", "web-3", 1001)),
        ]);
        let names = |vmid: u32, own: &str| -> Vec<String> {
            claimed(&operations, vmid, own).into_iter().map(|wants| wants.name.to_string()).collect()
        };
        assert_eq!(names(1000, "b"), ["web-1"]);
        assert_eq!(names(1000, "c"), ["web-1", "web-2"]);
        assert_eq!(names(1001, "c"), Vec::<String>::new());
    }
}
