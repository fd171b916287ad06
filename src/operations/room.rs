//! Owns asking, before anything is touched, whether what a plan decided still has room.
use std::time::Instant;

use federation::ClusterName;
use federation::placement::{Ledger, Reason, ReasonClass, Request, admissible, recheck};

use crate::failure::Failure;
use crate::fleet::Fleet;

impl Fleet {
    /// Asks of a machine that grows where it is, before anything is touched, whether there is still room: capacity and limits.
    /// What else placement would say of a newcomer doesn't concern it.
    ///
    /// # Errors
    /// A stale plan, with the numbers.
    pub async fn still_grows(&self, request: &Request, cluster: &ClusterName) -> Result<(), Failure> {
        let what = format!("Unable to update virtual machine {}", request.name);
        let inventory = self.recent_inventory().await;
        let rules = self.rules().await;
        let Err(mut reasons) = recheck(&rules.federation, &inventory, request, cluster) else { return Ok(()) };
        reasons.retain(|reason| matches!(reason.class(), ReasonClass::Capacity | ReasonClass::Limit));
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Failure::stale(what, format!("cluster {cluster} has no room for what it grows to: {}", reasons.join("; "))))
    }

    /// Asks again what siblings can't break by being half-done, before anything is touched.
    pub(crate) async fn still_fits(&self, request: &Request, cluster: &ClusterName, what: &str) -> Result<(), Failure> {
        let inventory = self.recent_inventory().await;
        recheck(&self.rules().await.federation, &inventory, request, cluster).map_err(|reasons| {
            let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            Failure::stale(what, format!("cluster {cluster} can't take it any more: {}", reasons.join("; ")))
        })
    }

    /// Asks of a machine that is about to move, whose journal everybody can read by now, whether there is room for it beside what
    /// others make and move at the same time. Where two see each other, both may refuse: nothing was touched then.
    ///
    /// # Errors
    /// A stale plan, with the numbers.
    pub(crate) async fn fits_beside_others(
        &self,
        request: &Request,
        cluster: &ClusterName,
        own: &str,
        what: &str,
    ) -> Result<(), Failure> {
        let survey = self.survey(Instant::now(), own).await;
        let mut ledger = Ledger::new();
        for claim in survey.claims.iter().filter(|claim| !claim.steps_back) {
            ledger.record(claim.cluster.clone(), claim.request.clone());
        }
        let rules = self.rules().await;
        let reasons = admissible(&rules.federation, &survey.inventory, request, cluster, &ledger);
        let short = |reason: &&Reason| matches!(reason.class(), ReasonClass::Capacity | ReasonClass::Limit);
        let reasons: Vec<String> = reasons.iter().filter(short).map(ToString::to_string).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        let others = "with what others make and move there at the same time";
        Err(Failure::stale(what, format!("cluster {cluster} can't take it {others}: {}", reasons.join("; "))))
    }
}
