//! Owns asking a moved machine whether it is well.
use std::time::{Duration, Instant};

use super::Move;
use crate::failure::{Failure, FailureKind};
use crate::journal::Place;
use crate::spec::{HealthWish, OnUnhealthy};

impl Move<'_> {
    /// Asks the target whether it is well. The failure's place says what is silent; nothing that may have accepted writes is
    /// removed for it.
    pub(super) async fn is_well(&mut self) -> Result<(), Failure> {
        let Some(wish) = self.spec.migration.health.clone() else { return Ok(()) };
        let to = self.journal.to.clone();
        let until = Instant::now() + Duration::from(wish.deadline);
        let most = self.target.client.settings().task_poll_max;
        let mut pause = self.target.client.settings().task_poll_first;
        if wish.agent
            && let Err(error) = self.target.client.agent_ping(&to.node, to.vmid).await
            && error.is_permission_denied()
        {
            // That says nothing of the machine. Preflight has asked for it; somebody took it away since.
            return Err(self.at(&to, "its guest agent can't be asked whether it is well", error));
        }
        loop {
            let Err(silent) = self.ask(&wish, &to, most).await else { return Ok(()) };
            if self.fleet.is_stopping() {
                let mut failure = Failure::new(&self.what).at("stopped by the user while the target was asked");
                failure.kind = FailureKind::Interrupted;
                return Err(failure.state(self.journal.in_words()).next("apply again to go on"));
            }
            if Instant::now() >= until {
                let next = match self.spec.migration.on_unhealthy {
                    _ if self.is_recovery() => {
                        "see to the machine, and apply again: it is asked again. Without `health` the recovery goes on"
                    }
                    OnUnhealthy::Keep => {
                        "see to the machine, and apply again: it is asked again. Without `health` the move goes on; with \
                         on_unhealthy = \"return\" the source takes the machine back"
                    }
                    OnUnhealthy::Return => "see why, before it is moved again",
                };
                let place = format!("{to}: {silent} within {} (asked from where apply runs)", wish.deadline);
                let mut failure = Failure::new(&self.what).at(place).next(next);
                failure.kind = FailureKind::Unwell;
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(most);
        }
    }

    /// Asks everything once; the first thing that is silent.
    async fn ask(&self, wish: &HealthWish, to: &Place, patience: Duration) -> Result<(), String> {
        if wish.agent && !self.target.client.agent_ping(&to.node, to.vmid).await.unwrap_or(false) {
            return Err("the guest agent does not answer".into());
        }
        if let Some(address) = &wish.tcp
            && !takes_connections(address, patience).await
        {
            return Err(format!("{address} does not answer"));
        }
        match &wish.http {
            Some(url) => proxmox::answers_http(url, patience).await.map_err(|why| format!("{url} is not well ({why})")),
            None => Ok(()),
        }
    }
}

/// Whether a TCP address takes a connection within `patience`.
async fn takes_connections(address: &str, patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
}
