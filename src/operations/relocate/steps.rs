//! Owns which step calls what, and what all steps share. Every step may run twice: it recognises on the clusters what it did.
use federation::migration::Step;
use proxmox::{Error, Upid, VmConfig};

use super::Move;
use crate::failure::Failure;
use crate::journal::Place;
use crate::operation::Taken;

impl Move<'_> {
    /// Carries out one step.
    pub(super) async fn perform(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Taken => self.take_target().await,
            Step::Shutdown => self.shut_down().await,
            Step::Onboot => self.fence_onboot().await,
            Step::Backup => self.back_up().await,
            Step::Fence => self.fence().await,
            Step::Transfer => self.await_archive().await,
            Step::Restore => self.restore().await,
            Step::Carry => self.carry().await,
            Step::Spread => self.spread().await,
            Step::Verify => self.verify().await,
            Step::Live => self.record_live().await,
            Step::Start => self.start_target().await,
            Step::Health => self.is_well().await,
            Step::Commit => self.commit().await,
            Step::Retire => self.retire().await,
            Step::Release => self.release().await,
            Step::Halt => self.halt().await,
            Step::Disown => self.disown().await,
            Step::Returned => self.record_live().await,
            Step::Revive => self.revive().await,
            Step::Close => self.give_both_back().await,
        }
    }

    /// A failure at a place, with what Proxmox VE said.
    pub(super) fn at(&self, place: &Place, doing: &str, error: Error) -> Failure {
        Failure::new(&self.what).at(format!("{place}: {doing}")).said(error).next("mend that, and apply again")
    }

    async fn take_target(&mut self) -> Result<(), Failure> {
        let taken = self.fleet.take(&self.target, &self.pool, &self.journal, &self.what).await?;
        if let Taken::Over(theirs) = taken {
            self.journal.epoch = self.journal.epoch.max(theirs.epoch);
            let mut copy = self.journal.clone();
            self.fleet.note(&self.target, &self.pool, &mut copy, &self.what).await?;
        }
        Ok(())
    }

    /// Where the machine is, "live" or "returned", is written on the source already; now on the target, before anything
    /// depends on it.
    async fn record_live(&mut self) -> Result<(), Failure> {
        let mut copy = self.journal.clone();
        self.fleet.note(&self.target, &self.pool, &mut copy, &self.what).await
    }

    pub(super) async fn source_config(&self, current: bool) -> Result<VmConfig, Failure> {
        if let Some(archived) = &self.archived {
            return Ok(archived.clone());
        }
        let from = self.from();
        let config = self.source.client.vm_config(&from.node, from.vmid, current).await;
        config.map_err(|error| self.at(&from, "its configuration can't be read", error))
    }

    pub(super) async fn wait_source(&self, upid: &Upid) -> Result<(), Failure> {
        self.fleet.wait(&self.source, upid, self.deadline, &self.what).await
    }

    pub(super) async fn wait_target(&self, upid: &Upid) -> Result<(), Failure> {
        self.fleet.wait(&self.target, upid, self.deadline, &self.what).await
    }

    /// The archive's volume id on the target: the same file on a storage that may have another name there.
    pub(super) fn archive_on_target(&self) -> Result<String, Failure> {
        let archive = self.journal.archive.as_deref().and_then(|volid| volid.split_once(':'));
        let (_, file) = archive.ok_or_else(|| Failure::new(&self.what).at("the journal names no archive"))?;
        Ok(format!("{}:{file}", self.transfer.1))
    }

    /// Gives the operation back, the source's side first: while the target's is there, whoever looks at the machine finds it.
    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        for (site, place) in [(&self.source, &self.keeper()), (&self.target, &self.journal.to)] {
            // Of a recovery they are one, and giving back what is given back is fine.
            let given = self.fleet.give_back(site, &self.pool, self.journal.epoch).await;
            given.map_err(|error| self.at(place, "the operation can't be given back", error))?;
        }
        Ok(())
    }
}
