//! Owns taking, writing and giving back an operation: a PVE pool that exactly one process can create (design.md §6).
use proxmox::Error;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::{Holder, Journal, OPERATIONS};
use crate::site::Site;

/// How often a journal is written again whose answer was lost.
const NOTE_TRIES: u32 = 2;

/// What came of taking an operation.
pub(crate) enum Taken {
    /// It is ours, from the start.
    New,
    /// It was there, its holder is gone, and now it is ours: the journal as the holder left it, with us as holder.
    Over(Box<Journal>),
}

impl Fleet {
    /// Takes the operation in `pool` on one cluster; its comment becomes `journal`.
    ///
    /// # Errors
    /// A living holder, by name; or what Proxmox VE said.
    pub(crate) async fn take(&self, site: &Site, pool: &str, journal: &Journal, what: &str) -> Result<Taken, Failure> {
        let refuse = |error: Error| {
            Failure::new(what)
                .at(format!("cluster {}, pool {pool}", site.name))
                .said(error)
                .state("nothing was touched")
                .next("the token needs Pool.Allocate on /pool/moxxie-moves")
        };
        // From its first line on it says when it was written, or everybody takes its holder for long gone.
        let journal = &Journal { at: site.now(), ..journal.clone() };
        for _ in 0..2 {
            let error = match site.client.create_pool(pool, Some(&journal.write())).await {
                Ok(()) => {
                    site.changed().await;
                    return Ok(Taken::New);
                }
                Err(error) => error,
            };
            let there = site.client.pool(pool).await.map_err(refuse)?;
            if let Some(there) = there {
                let comment = there.comment.unwrap_or_default();
                let Some(found) = Journal::read(&comment) else {
                    return Err(
                        refuse(error).next(format!("pool {pool} holds no journal of ours: look at it and remove it"))
                    );
                };
                // Our own call whose answer was lost.
                if found.op == journal.op && found.holder == journal.holder {
                    return Ok(Taken::New);
                }
                return self.take_over(site, pool, found, what).await.map(|journal| Taken::Over(Box::new(journal)));
            }
            if error.is_permission_denied() || error.is_ambiguous() || error.is_unreachable() {
                return Err(refuse(error));
            }
            // The root pool of operations is made on first need; losing that race to somebody else is fine.
            if let Err(error) = site.client.create_pool(OPERATIONS, None).await
                && !error.is_already_exists()
            {
                return Err(refuse(error));
            }
        }
        Err(Failure::new(what).at(format!("cluster {}: pool {pool} can't be created", site.name)).next("apply again"))
    }

    /// Takes over an operation that exists; `None` where its pool is gone.
    ///
    /// # Errors
    /// A living holder, by name; a pool that holds no journal; or what Proxmox VE said.
    pub(crate) async fn adopt(&self, site: &Site, pool: &str, what: &str) -> Result<Option<Journal>, Failure> {
        let asked = site.client.pool(pool).await;
        let there = asked.map_err(|error| crate::create::dark(what, &site.name, error))?;
        let Some(there) = there else { return Ok(None) };
        let Some(found) = Journal::read(there.comment.as_deref().unwrap_or_default()) else {
            return Err(Failure::new(what)
                .at(format!("cluster {}: pool {pool} holds no journal of ours", site.name))
                .state("nothing was touched")
                .next("look at it, and remove it"));
        };
        self.take_over(site, pool, found, what).await.map(Some)
    }

    /// Takes over from a holder that is gone: exactly one process can create the child pool of the next epoch.
    async fn take_over(&self, site: &Site, pool: &str, found: Journal, what: &str) -> Result<Journal, Failure> {
        self.refuse_living(site, &found, what)?;
        let mut journal = found;
        journal.holder = Holder::me();
        journal.at = site.now();
        loop {
            journal.epoch += 1;
            let child = format!("{pool}/e{}", journal.epoch);
            let Err(error) = site.client.create_pool(&child, Some(&journal.write())).await else { break };
            // Somebody was faster: alive, it goes on; dead before it wrote the journal, the next epoch is free.
            let claim = site.client.pool(&child).await.ok().flatten().and_then(|there| Journal::read(&there.comment?));
            match claim {
                Some(claim) if error.is_already_exists() => self.refuse_living(site, &claim, what)?,
                _ => {
                    return Err(Failure::new(what)
                        .at(format!("cluster {}: operation {} can't be taken over", site.name, journal.op))
                        .said(error)
                        .state("nothing was touched by this run")
                        .next("apply again"));
                }
            }
        }
        self.note(site, pool, &mut journal, what).await?;
        tracing::info!(operation = %journal.op, epoch = journal.epoch, step = ?journal.step, "taken over");
        Ok(journal)
    }

    /// Whether the holder is gone: known to be dead, or silent for longer than the lease.
    pub(crate) fn is_abandoned(&self, site: &Site, found: &Journal) -> bool {
        found.holder.process.is_known_dead() || site.now() - found.at >= self.lease_seconds()
    }

    /// `operation_lease` in seconds.
    pub(crate) fn lease_seconds(&self) -> i64 {
        i64::try_from(self.settings().lease.as_secs_ceil()).unwrap_or(i64::MAX)
    }

    /// Refuses where the holder may be alive, naming it.
    fn refuse_living(&self, site: &Site, found: &Journal, what: &str) -> Result<(), Failure> {
        if found.holder == Holder::me() || self.is_abandoned(site, found) {
            return Ok(());
        }
        let silent_for = site.now() - found.at;
        let lease = self.lease_seconds();
        let until = crate::guest::rfc3339(found.at + lease);
        Err(Failure::new(what)
            .at(format!("{} is under way: {} (operation {})", found.in_words(), found.holder.run, found.op))
            .state(format!("the holder wrote last {silent_for} s ago; nothing was touched by this run"))
            .next(format!("wait for it; if it is dead, apply again after {until}")))
    }

    /// Writes the journal, before the calls it speaks of.
    ///
    /// # Errors
    /// What Proxmox VE said; the operation goes no further then.
    pub(crate) async fn note(&self, site: &Site, pool: &str, journal: &mut Journal, what: &str) -> Result<(), Failure> {
        journal.at = site.now();
        let mut written = site.client.update_pool(pool, &journal.write()).await;
        for _ in 0..NOTE_TRIES {
            match &written {
                // Writing the same comment again is writing it once.
                Err(error) if error.is_ambiguous() => {
                    written = site.client.update_pool(pool, &journal.write()).await;
                }
                _ => break,
            }
        }
        site.changed().await;
        written.map_err(|error| {
            Failure::new(what)
                .at(format!("cluster {}: the journal in pool {pool} can't be written", site.name))
                .said(error)
                .state(journal.in_words())
                .next("apply again to go on")
        })
    }

    /// Gives the operation back: its pool goes, with the children of its epochs. What is gone already is fine.
    ///
    /// # Errors
    /// What Proxmox VE said.
    pub(crate) async fn give_back(&self, site: &Site, pool: &str, epoch: u32) -> Result<(), Error> {
        for epoch in (1..=epoch).rev() {
            gone(site.client.delete_pool(&format!("{pool}/e{epoch}")).await)?;
        }
        gone(site.client.delete_pool(pool).await)?;
        site.changed().await;
        Ok(())
    }
}

/// A pool that doesn't exist is as removed as can be.
fn gone(outcome: proxmox::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(error) if matches!(error.missing(), Some(proxmox::Missing::Pool(_))) => Ok(()),
        other => other,
    }
}
