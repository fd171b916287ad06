//! Owns what is otherwise where the steps carry out a recovery: there is no source, and the archive is not ours.
use std::sync::Arc;
use std::time::Instant;

use federation::model::MigrationPath;
use proxmox::VmConfig;

use super::Move;
use crate::failure::Failure;
use crate::fleet::{Fleet, is_silence};
use crate::journal::{Journal, Kind, Place};
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

impl<'a> Move<'a> {
    /// The steps of a recovery. `archived`: the machine's configuration in its backup.
    #[expect(clippy::too_many_arguments, reason = "everything that the steps of a recovery need, once")]
    pub(crate) fn recovering(
        fleet: &'a Fleet,
        site: Arc<Site>,
        spec: &'a VmSpec,
        resolved: Resolved,
        journal: Journal,
        archived: VmConfig,
        what: String,
        deadline: Instant,
    ) -> Move<'a> {
        let transfer = journal.transfer.clone().unwrap_or_default();
        let archived = Some(archived);
        let begun =
            Move::of(fleet, (site.clone(), site), spec, journal, (transfer, MigrationPath::default()), what, deadline);
        Move { resolved, archived, ..begun }
    }

    pub(crate) fn is_recovery(&self) -> bool {
        self.journal.kind == Kind::Recovery
    }

    /// Where the journal is kept: with the source; of a recovery, with the target.
    pub(super) fn keeper(&self) -> Place {
        if self.is_recovery() { self.journal.to.clone() } else { self.from() }
    }

    /// Asks the lost cluster once more, right before the machine is started elsewhere: restoring may have taken hours.
    pub(super) async fn source_is_lost(&self) -> Result<(), Failure> {
        let lost = self.from().cluster;
        match self.fleet.still_lost(&lost).await {
            true => Ok(()),
            false => Err(Failure::stale(&self.what, format!("cluster {lost} answers again"))),
        }
    }

    /// Past "live" there is no way back: where the cluster answers again before the machine was started, the old copy is fenced first.
    /// Asked anew: that this process found it silent may be hours ago.
    pub(super) async fn fence_what_came_back(&mut self) -> Result<(), Failure> {
        let (from, to) = (self.from(), self.journal.to.clone());
        let Some(site) = self.fleet.site(from.cluster.as_str()) else { return Ok(()) };
        let copy = match site.stands_at(&from, &self.journal.uuid).await {
            Ok(None) => return Ok(()),
            Err(error) if is_silence(&error) => return Ok(()),
            Ok(Some(copy)) => copy,
            Err(error) => {
                return Err(Failure::new(&self.what)
                    .at(format!("{from}: its cluster answers again, and whether the old copy runs there can't be seen"))
                    .said(error)
                    .state(format!("{to} is the machine, and is not started beside it"))
                    .next("mend that, and apply again"));
            }
        };
        let guest = self.target.guest_now(&to.node, to.vmid).await;
        let guest = guest.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let fenced = self.fleet.fence_old_copy(self.spec, guest, &copy, &self.what, self.deadline).await?;
        self.warnings.extend(fenced.warnings);
        Ok(())
    }

    /// Waits for what an earlier run started on the target and left running.
    pub(crate) async fn end_of_target_tasks(&self) -> Result<(), Failure> {
        self.tasks_end(&self.target, &self.journal.to).await
    }

    /// Takes a recovery back: what it restored goes, the backup stays. May run any number of times.
    pub(crate) async fn take_recovery_back(&mut self) -> Result<(), Failure> {
        if self.journal.is_past_live() {
            return Err(Failure::new(&self.what).at("the recovery went past \"live\"").next("apply again to go on"));
        }
        self.journal.taking_back = true;
        self.write().await?;
        let to = self.journal.to.clone();
        if self.journal.restored {
            self.end_of_target_tasks().await?;
            self.remove_target(&to).await?;
        }
        let given = self.fleet.give_back(&self.target, &self.pool, self.journal.epoch).await;
        given.map_err(|error| self.at(&to, "the operation can't be given back", error))
    }

    /// What to say of a recovery that failed, and of what became of it. `back`: whether it could be taken back.
    pub(super) fn recovery_failed(&mut self, failure: Failure, back: Result<(), Failure>) -> Failure {
        match back {
            Ok(()) => {
                let left: Vec<String> = self.warnings.drain(..).map(|left| left.to_string()).collect();
                failure.state(if left.is_empty() {
                    "nothing of the recovery is left; the backup is as it was".to_owned()
                } else {
                    format!("the recovery was taken back; the backup is as it was. {}", left.join("; "))
                })
            }
            Err(undo) => failure
                .state(format!("it could not be taken back yet: {} ({})", undo.detail(), self.journal.in_words()))
                .next("mend that, and apply again: it is taken back or finished first"),
        }
    }
}
