//! Owns the other ending of a move: the target ran and was not well, and the source becomes the machine again.
//!
//! The target may have accepted writes, so it is fenced and kept as a retired copy. It is fenced before "returned" is written,
//! and the source is unfenced after: at no instant can both be started.
use federation::migration::{Step, following_unwell};
use proxmox::Params;

use super::Move;
use super::ending::until;
use crate::failure::{Failure, FailureKind};
use crate::guest::{Guest, rfc3339};
use crate::notes::Copy;
use crate::spec::{MigrationWish, OnUnhealthy};

impl Move<'_> {
    /// Where a failed step goes on all the same: the target is not well, and the user wants the machine back then.
    pub(super) fn turn(&mut self, failure: &Failure) -> Option<Step> {
        // Of a recovery there is no source to go back to, and one that Proxmox VE left locked can't be started.
        let wanted =
            self.spec.migration.on_unhealthy == OnUnhealthy::Return && !self.is_recovery() && !self.is_direct();
        let next = following_unwell(self.journal.step).filter(|_| wanted && failure.kind == FailureKind::Unwell)?;
        tracing::warn!(operation = %self.journal.op, why = %failure.place, "the target is not well; the source takes over");
        self.journal.unwell = Some(failure.place.clone());
        Some(next)
    }

    /// Stops the target. It was found unwell, so it is stopped hard where it doesn't shut down in time.
    pub(super) async fn halt(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        if !self.target_runs().await? {
            return Ok(());
        }
        let timeout = self.spec.migration.shutdown_timeout;
        let upid = self.target.client.shutdown_vm(&to.node, to.vmid, Some(timeout.into()), true).await;
        let upid = upid.map_err(|error| self.at(&to, "it can't be shut down", error))?;
        self.wait_target(&upid).await?;
        if self.target_runs().await? {
            return Err(Failure::new(&self.what).at(format!("{to}: it was shut down and runs")).next("apply again"));
        }
        Ok(())
    }

    async fn target_runs(&self) -> Result<bool, Failure> {
        let to = &self.journal.to;
        let status = self.target.client.vm_status(&to.node, to.vmid).await;
        let status = status.map_err(|error| self.at(to, "its status can't be read", error))?;
        Ok(status.status != "stopped")
    }

    /// Fences the target as a source is fenced. Started by somebody meanwhile, it is stopped again first.
    pub(super) async fn disown(&mut self) -> Result<(), Failure> {
        let to = self.journal.to.clone();
        let config = |current| self.target.client.vm_config(&to.node, to.vmid, current);
        let unread = |error| self.at(&to, "its configuration can't be read", error);
        let fenced = config(true).await.map_err(unread)?.template();
        if !fenced {
            self.revert_fence_of(&self.target, &to).await?;
            self.halt().await?;
            let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
            let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
            let params = Params::new().flag("onboot", false).flag("template", true).flag("protection", true);
            let set = self.target.client.set_config(&to.node, to.vmid, params, config.digest()).await;
            set.map_err(|error| self.at(&to, "it can't be fenced", error))?;
        }
        let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        if config.template() && !self.target_runs().await? {
            return Ok(());
        }
        Err(Failure::new(&self.what).at(format!("{to}: somebody started it meanwhile")).next("apply again"))
    }

    /// Makes the source the machine again; the target stays, listed as a retired copy. The archive holds what the source
    /// holds, and goes.
    pub(super) async fn revive(&mut self) -> Result<(), Failure> {
        let (from, to) = (self.from(), self.journal.to.clone());
        let config = self.target.client.vm_config(&to.node, to.vmid, true).await;
        let config = config.map_err(|error| self.at(&to, "its configuration can't be read", error))?;
        let now = self.target.now();
        let until = until(now, kept_for(&self.spec.migration));
        self.keep(&self.target, &to, &from, &config, until).await?;
        let op = Some(self.journal.op.clone());
        self.returned_copy = Some(Copy { cluster: to.cluster.clone(), vmid: to.vmid, until, returned: true, op });
        self.restore_source(&from).await?;
        self.remove_archives(&from).await
    }

    /// What a move that ended here comes to for who asked for it. `back`: the source is where the machine is wanted, or may be.
    pub(super) fn ended(&self, guest: Guest, back: bool) -> Result<Guest, Failure> {
        if back || !self.journal.is_returned() {
            return Ok(guest);
        }
        let why = self.journal.unwell.clone().unwrap_or_else(|| format!("{} was not well", self.journal.to));
        let kept =
            self.returned_copy.as_ref().map_or_else(String::new, |copy| format!(" until {}", rfc3339(copy.until)));
        let runs = if guest.running { "runs" } else { "is the machine" };
        Err(Failure::new(&self.what)
            .at(why)
            .state(format!(
                "{} {runs} again as before the move. {} was stopped and fenced, and is kept{kept}: it may hold what the machine \
                 wrote meanwhile",
                guest.place, self.journal.to
            ))
            .next("see why it was not well. Set the machine's cluster or pool back to stay; applying again moves it again"))
    }
}

/// How long the copy stays: as a kept source would, and never not at all, for it may hold the newest writes.
pub(crate) fn kept_for(wish: &MigrationWish) -> federation::Span {
    if wish.keep_source.as_secs_ceil() == 0 { MigrationWish::default().keep_source } else { wish.keep_source }
}
