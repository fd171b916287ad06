//! Owns pinning: the cluster that a plan shows is the one that apply uses, on every core (design.md §5).
use std::sync::Arc;

use federation::journal::decision_key;
use federation::model::{Layered, Strategy};
use federation::placement::{Decision, Ledger, Refusal, Request, resident_ok};
use federation::{Cluster, ClusterName, Federation, Pool, PoolName};
use operations::Fleet;
use protocol::{ClientCapabilities, Diagnostics};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::decisions::{Decisions, Entry, workspace};
use crate::layers::{Layers, Planned};
use crate::parent::Parent;
use crate::private::Private;
use crate::proposals::Told;
use crate::snapshot::Snapshot;

/// What a configured process decides with.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The provider block's `config_file`.
    pub(crate) config_file: Option<String>,
    /// The clusters.
    pub(crate) fleet: Arc<Fleet>,
    /// The decision journal; none in reattach mode, whose folder and parent are the debugger's.
    pub(crate) decisions: Option<Decisions>,
    /// `plan_id`, or the digest of `inventory`.
    pub(crate) plan_identity: Option<String>,
    /// The facts and enrolled rules of `inventory`.
    pub(crate) snapshot: Option<Snapshot>,
    /// What this process has placed already.
    pub(crate) ledger: Mutex<Ledger>,
    /// What this process plans of pools.
    pub(crate) layers: Layers,
    /// The CLI that started this process.
    pub(crate) parent: Parent,
    /// What was said once.
    pub(crate) told: Told,
}

/// A decision as it travels in `planned_private`, and to the apply that forgets it in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pinned {
    /// Key in the decision journal.
    pub(crate) key: String,
    /// The cluster.
    pub(crate) cluster: String,
    /// Why, in words.
    pub(crate) placement: String,
}

/// Which of core's two plan walks a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// The plan that a person sees.
    Plan,
    /// The plan that runs again inside apply.
    Apply,
}

impl Ready {
    /// What is declared of the federation: the same in every walk, whatever the clusters say.
    pub(crate) fn federation(&self) -> &Federation {
        self.fleet.declared()
    }

    /// What is declared, and planned in this process so far: no cluster's answer is in it.
    pub(crate) fn written(&self) -> Layered {
        self.layers.written(self.federation())
    }

    /// The federation's rules in all three layers: what is declared, enrolled (as `inventory` has it, where that is set), and
    /// planned in this process so far.
    pub(crate) async fn rules(&self) -> Arc<Layered> {
        let enrolled = match &self.snapshot {
            Some(snapshot) => snapshot.enrolled.clone(),
            None => self.fleet.enrolled().await,
        };
        self.layers.together(self.federation(), &enrolled)
    }

    /// Tells the rest of this process what a pool becomes. Whether a machine was decided with another idea of it: then it
    /// named the pool literally, for by reference the pool comes first.
    pub(crate) async fn plan_pool(&self, name: &PoolName, planned: Planned<Pool>) -> bool {
        let unknown = matches!(planned, Planned::Unknown(_));
        self.layers.plan(name, planned);
        let rules = self.rules().await;
        let now = rules.federation.pools.get(name).filter(|_| !unknown);
        // In reattach mode one process serves the walks of many runs: who asked in an earlier one doesn't count.
        self.decisions.is_some() && self.layers.came_too_late(name, now)
    }

    /// Tells the rest of this process what a cluster's facts become. Whether a machine was decided with another idea of them:
    /// then a pool or a machine named the cluster literally.
    pub(crate) async fn plan_cluster(&self, name: &ClusterName, planned: Planned<Cluster>) -> bool {
        let facts = match &planned {
            Planned::Known(facts) => Some(facts.clone()),
            Planned::Unknown(_) => None,
        };
        let unknown = facts.is_none();
        self.layers.plan_cluster(name, planned);
        self.fleet.plan_cluster(name, facts).await;
        let rules = self.rules().await;
        let now = rules.federation.clusters.get(name).filter(|_| !unknown);
        self.decisions.is_some() && self.layers.cluster_came_too_late(name, now)
    }

    /// A cluster did not become what was planned, or left the federation.
    pub(crate) async fn forget_cluster(&self, name: &ClusterName) {
        self.layers.forget_cluster(name);
        self.fleet.plan_cluster(name, None).await;
    }

    /// The clusters that a machine may be placed on.
    pub(crate) async fn candidates(&self, request: &Request) -> Vec<ClusterName> {
        candidates(request, self.rules().await.as_ref())
    }

    /// What is not known yet of what this configuration plans: of a machine's pool, and of the clusters it may be placed on.
    pub(crate) async fn unknown_inputs(&self, request: &Request) -> Option<Vec<String>> {
        let mut unknown = Vec::new();
        if let Some(pool) = &request.pool {
            let inputs = self.layers.unknown(pool).into_iter().flatten();
            unknown.extend(inputs.map(|input| format!("{input} of pool {pool}")));
        }
        for cluster in self.candidates(request).await {
            let inputs = self.layers.unknown_cluster(&cluster).into_iter().flatten();
            unknown.extend(inputs.map(|input| format!("{input} of cluster {cluster}")));
        }
        (!unknown.is_empty()).then_some(unknown)
    }

    /// A pool did not become what was planned, or is gone.
    pub(crate) fn forget_pool(&self, name: &PoolName) {
        self.layers.forget(name);
    }

    /// Which walk this is, by the best sign there is (design.md §5): `planned_private`; the deferral flag, which Terraform
    /// sets in the apply walk only; a saved plan that the CLI applies; the run's history.
    pub(crate) fn walk(&self, client: ClientCapabilities, planned_private: &[u8]) -> Walk {
        if !planned_private.is_empty() || client.deferral_allowed || self.parent.planned().is_some() {
            return Walk::Apply;
        }
        if client.store_planned_private {
            return Walk::Plan;
        }
        match &self.decisions {
            // Its plans have no validate walk of their own where the provider block is in the test file.
            _ if self.parent.tests() => Walk::Plan,
            Some(decisions) if decisions.history_says_apply() => Walk::Apply,
            _ => Walk::Plan,
        }
    }

    /// Decides where a machine goes, or finds what was decided. `anew`: one that is there may leave for what ranks higher.
    ///
    /// # Errors
    /// A refusal, as a diagnostic's summary and detail. In the apply walk only where no decision was found.
    pub(crate) async fn place(
        &self,
        request: &Request,
        anew: bool,
        walk: Walk,
        client: ClientCapabilities,
        planned_private: &[u8],
        diags: &mut Diagnostics,
    ) -> Result<Pinned, Box<Refusal>> {
        if let Some(pinned) = decode(planned_private) {
            return Ok(pinned);
        }
        let key = self.key(request);
        if let Some(pinned) = self.found(&key, walk) {
            self.note(&pinned.cluster, request).await;
            return Ok(pinned);
        }
        // A saved plan that holds no decision about this machine left it to apply, and said so.
        let lost = walk == Walk::Apply && self.parent.planned().is_none();
        if lost && self.snapshot.is_none() && request.pin.is_none() {
            diags.warning(
                "The plan's decision did not travel with the plan",
                format!(
                    "{}: this apply found no entry of its plan in the working folder and decides again from live facts. \
                     Where they changed since, the outcome differs from the plan and is refused. Keep the folder between \
                     plan and apply, or feed `inventory` from data.moxxie_federation.",
                    request.name
                ),
            );
        }
        if let Some(cluster) = self.stays(request).await.filter(|_| !anew) {
            let pool = request.pool.as_ref().map_or("its pool", |pool| pool.as_str());
            let placement = format!("stays on {cluster}, a member of {pool}");
            let pinned = Pinned { key, cluster: cluster.to_string(), placement };
            if walk == Walk::Plan && !client.store_planned_private {
                self.remember(&pinned, diags);
            }
            return Ok(pinned);
        }
        let decision = self.decide(request).await?;
        if decision.leaned_on_siblings && !client.store_planned_private {
            diags.warning(
                "A placement leans on other machines of this plan",
                format!(
                    "{} goes to {} because of where others of this plan go. Only the plan file and the working folder carry \
                     that to apply.",
                    request.name, decision.cluster
                ),
            );
        }
        let pinned = Pinned { key, cluster: decision.cluster.to_string(), placement: decision.why };
        if walk == Walk::Plan && !client.store_planned_private {
            self.remember(&pinned, diags);
        }
        Ok(pinned)
    }

    /// What was decided already: in this very run, which showed it to a person or is about to; in the saved plan; in the
    /// journal, of which the plan walk reads no other run's entries.
    fn found(&self, key: &str, walk: Walk) -> Option<Pinned> {
        let remembered =
            |entry: Entry| Pinned { key: key.to_owned(), cluster: entry.cluster, placement: entry.placement };
        let plan = self.plan_identity.as_deref();
        if let Some(entry) = self.decisions.as_ref().and_then(|decisions| decisions.own_entry(key, plan)) {
            return Some(remembered(entry));
        }
        if walk == Walk::Plan {
            return None;
        }
        if let Some(planned) = self.parent.planned() {
            return planned.get(key).cloned();
        }
        self.decisions.as_ref()?.entry(key, plan).map(remembered)
    }

    /// The cluster a machine is on, where its new pool lets it stay: membership and rules alone are asked, no load.
    async fn stays(&self, request: &Request) -> Option<ClusterName> {
        let current = request.current.as_ref()?;
        let rules = self.rules().await;
        self.asked(request, &rules);
        resident_ok(&rules.federation, &Default::default(), request, &current.cluster).ok()?;
        Some(current.cluster.clone())
    }

    /// Notes what a machine was decided with.
    pub(crate) fn asked(&self, request: &Request, rules: &Layered) {
        if let Some(pool) = &request.pool {
            self.layers.asked(pool, rules.federation.pools.get(pool));
        }
        for cluster in candidates(request, rules) {
            self.layers.asked_cluster(&cluster, rules.federation.clusters.get(&cluster));
        }
    }

    /// Whether its pool ranks clusters by distance.
    pub(crate) async fn is_geographic(&self, request: &Request) -> bool {
        let rules = self.rules().await;
        let pool = request.pool.as_ref().and_then(|pool| rules.federation.pools.get(pool));
        pool.is_some_and(|pool| pool.policy().strategy == Strategy::Geographic)
    }

    /// Decides from `inventory`, else from this process's one snapshot of live facts.
    pub(crate) async fn decide(&self, request: &Request) -> Result<Decision, Box<Refusal>> {
        let rules = self.rules().await;
        self.asked(request, &rules);
        let facts = match &self.snapshot {
            Some(snapshot) => snapshot.inventory.clone(),
            None => self.fleet.inventory().await,
        };
        let mut ledger = self.ledger.lock().await;
        // Planned twice in one walk (replace), a machine is no sibling of itself.
        ledger.forget(request.pool.as_ref(), &request.name);
        let decision = federation::placement::choose(&rules.federation, &facts, request, &ledger).map_err(Box::new)?;
        ledger.record(decision.cluster.clone(), request.clone());
        Ok(decision)
    }

    async fn note(&self, cluster: &str, request: &Request) {
        if let Ok(cluster) = ClusterName::new(cluster) {
            self.ledger.lock().await.record(cluster, request.clone());
        }
    }

    fn remember(&self, pinned: &Pinned, diags: &mut Diagnostics) {
        let Some(decisions) = &self.decisions else { return };
        let plan = self.plan_identity.as_deref();
        if let Err(error) = decisions.record(&pinned.key, &pinned.cluster, &pinned.placement, plan) {
            diags.warning(
                "A decision can't be kept for apply",
                format!(
                    "The working folder takes no files ({error}); apply decides again, from the facts it finds then."
                ),
            );
        }
    }

    /// Drops what was remembered: its apply succeeded or refused.
    pub(crate) fn forget(&self, planned_private: &[u8]) {
        if let (Some(decisions), Some(pinned)) = (&self.decisions, decode(planned_private)) {
            decisions.forget(&pinned.key);
        }
    }

    /// The journal's key: who the federation is (the names of its clusters, which are for life; no endpoint and no
    /// credential), the workspace, and everything that placement looks at, in canonical units.
    fn key(&self, request: &Request) -> String {
        let clusters: Vec<&ClusterName> = self.federation().clusters.keys().collect();
        decision_key(&clusters, &workspace(), request)
    }
}

/// The clusters that a machine may be placed on: the one it is pinned to, else its pool's.
fn candidates(request: &Request, rules: &Layered) -> Vec<ClusterName> {
    if let Some(pin) = &request.pin {
        return vec![pin.clone()];
    }
    let pool = request.pool.as_ref().and_then(|pool| rules.federation.pools.get(pool));
    pool.into_iter().flat_map(|pool| pool.clusters.iter().cloned()).collect()
}

/// The decision in a planned private, if there is one.
pub(crate) fn decode(planned_private: &[u8]) -> Option<Pinned> {
    Private::read(planned_private).pinned
}
