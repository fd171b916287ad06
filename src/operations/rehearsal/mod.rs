//! Owns the throw-away machine with which a user proves on their own clusters what moves rely on (`federate rehearse`): what it is, how
//! it is known again, what it looks like. How it is removed is in [`clear`].
//!
//! It is known by its name, its pool, and a line of its notes that says who made it, for which pool. A machine that lacks one of them
//! is somebody else's, and is never touched. Lists show a fresh guest without name or pool for some seconds (`proxmox-ve.md` §18), so
//! that such a one is asked itself.
mod clear;
mod machine;

use federation::PoolName;
use proxmox::Resource;
use serde::{Deserialize, Serialize};

pub use clear::Cleared;
pub use machine::Dressed;

use crate::fleet::Fleet;
use crate::guest::{Guest, rfc3339};
use crate::journal::{Holder, Journal, Place, move_pool};
use crate::site::Site;

/// Name of the machine of every rehearsal: a pool has one at a time.
pub const REHEARSAL: &str = "moxxie-rehearsal";

/// How the line begins that says whose it is.
const LINE: &str = "moxxie-rehearsal ";

/// Who made a machine for a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The pool that it was made in.
    pub pool: PoolName,
    /// The process.
    #[serde(flatten)]
    pub holder: Holder,
    /// When it began, in seconds since 1970 by the clock of the cluster that the machine was made on.
    pub at: i64,
}

impl Maker {
    /// This process, now. `now`: the cluster's clock, in seconds since 1970.
    pub fn me(pool: &PoolName, now: i64) -> Maker {
        Maker { pool: pool.clone(), holder: Holder::me(), at: now }
    }

    /// The notes of the machine. `odd`: what notes of real machines hold, too.
    pub fn notes(&self) -> String {
        // Every field is a plain value with text keys, which always has a JSON form.
        let line = serde_json::to_string(self).unwrap_or_default();
        format!(
            "THROW-AWAY MACHINE of `federate rehearse`. Nothing needs it. The next rehearsal removes it, if this one did not.\n\
             Made by {} on {}.\n\n\
             * Odd on purpose: ÄÖÜ ß € 漢字, 100 %, a:b, # no comment, <b>&amp;</b>, \"quotes\", back\\slash\n\n{LINE}{line}",
            self.holder.run,
            rfc3339(self.at)
        )
    }

    /// Who made the machine with these notes; `None` where none of ours did.
    pub(crate) fn read(notes: &str) -> Option<Maker> {
        notes.lines().find_map(|line| serde_json::from_str(line.strip_prefix(LINE)?).ok())
    }

    /// Whether the rehearsal is over for sure, however it ended: its process is gone, or it is older than the longest one can be.
    fn is_gone(&self, now: i64, longest: i64) -> bool {
        self.holder.process.is_known_dead() || now.saturating_sub(self.at) >= longest
    }
}

/// A machine of a rehearsal, or a copy of it, on one cluster.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// The guest.
    pub guest: Guest,
    /// Who made it.
    pub maker: Maker,
    /// Whether its rehearsal is over: it may be removed.
    pub is_over: bool,
}

impl Rehearsed {
    /// What of a move is left on it, in words; empty where it is the machine.
    pub fn state(&self) -> String {
        let lock = self.guest.config.lock().map(|lock| format!("locked ({lock})"));
        let fenced = self.guest.config.template().then(|| "fenced".to_owned());
        let runs = if self.guest.running { "runs" } else { "stopped" };
        std::iter::once(runs.to_owned()).chain(fenced).chain(lock).collect::<Vec<_>>().join(", ")
    }
}

impl Fleet {
    /// Every machine of rehearsals in `pool` and its pool of retired machines, on the clusters that answer. Who made it is read from
    /// its notes; what only has the name is left out.
    pub async fn rehearsed(&self, pool: &PoolName) -> Vec<Rehearsed> {
        let mut found = Vec::new();
        for site in self.sites() {
            let Ok(overview) = site.fresh().await else { continue };
            for seen in overview.guests().filter(|guest| is_candidate(guest, pool)) {
                let (Some(vmid), Some(node)) = (seen.vmid, seen.node.as_deref()) else { continue };
                let Ok(guest) = site.guest_now(node, vmid).await else { continue };
                found.extend(self.known(site, guest).filter(|found| found.maker.pool == *pool));
            }
        }
        found
    }

    fn known(&self, site: &Site, guest: Guest) -> Option<Rehearsed> {
        let longest = i64::try_from(self.settings().update.as_secs_ceil()).unwrap_or(i64::MAX);
        let maker = Maker::read(&guest.description).filter(|_| guest.config.name() == Some(REHEARSAL))?;
        let is_over = maker.holder == Holder::me() || maker.is_gone(site.now(), longest);
        Some(Rehearsed { guest, maker, is_over })
    }

    /// How far the move of a machine has come, as its journal on one cluster says now; `None` where there is none.
    pub async fn move_journal(&self, cluster: &str, uuid: &str) -> Option<Journal> {
        let pool = self.site(cluster)?.client.pool(&move_pool(uuid)).await.ok().flatten()?;
        Journal::read(&pool.comment?)
    }

    /// The places where a machine with this UUID runs now, among these; `None` where one can't be asked.
    pub async fn running_among(&self, places: &[Place]) -> Option<Vec<Place>> {
        let mut running = Vec::new();
        for place in places {
            let site = self.site(place.cluster.as_str())?;
            match site.client.vm_status(&place.node, place.vmid).await {
                Ok(status) if status.is_stopped() || status.qmpstatus.as_deref() == Some("prelaunch") => {}
                Ok(_) => running.push(place.clone()),
                Err(error) if error.is_not_found() || error.is_permission_denied() => {}
                Err(_) => return None,
            }
        }
        Some(running)
    }
}

/// Whether a guest may be one of a rehearsal, as far as a list tells.
fn is_candidate(guest: &Resource, pool: &PoolName) -> bool {
    let retired = pool.retired();
    let in_pool = guest
        .pool
        .as_deref()
        .is_none_or(|own| own == pool.as_str() || retired.as_ref().is_some_and(|retired| own == retired.as_str()));
    guest.kind == "qemu" && in_pool && guest.name.as_deref().is_none_or(|name| name == REHEARSAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsals_machine_says_who_made_it() {
        let maker = Maker::me(&"production".parse().expect("a name"), 1_767_323_045);
        let notes = maker.notes();
        assert_eq!(Maker::read(&notes), Some(maker.clone()));
        assert!(notes.starts_with("THROW-AWAY MACHINE") && notes.contains("2026-01-02T03:04:05Z"), "{notes}");
        assert_eq!(notes.trim_end(), notes, "Proxmox VE drops white space at the end");
        assert_eq!(Maker::read("moxxie-rehearsal of last year"), None);
        assert_eq!(Maker::read("a machine of mine"), None);
    }

    #[test]
    fn a_rehearsal_is_over_once_its_process_is_dead_or_it_is_too_old() {
        let maker = Maker::me(&"production".parse().expect("a name"), 1000);
        assert!(!maker.is_gone(1500, 3600), "this process lives");
        assert!(maker.is_gone(1000 + 3600, 3600));
        let mut elsewhere = maker.clone();
        elsewhere.holder.process.machine = "another".into();
        assert!(!elsewhere.is_gone(1500, 3600), "one of another machine may live");
        let mut dead = maker;
        dead.holder.process.start += 1;
        assert!(dead.is_gone(1500, 3600));
    }

    #[test]
    fn a_machine_of_another_name_or_pool_is_no_candidate() {
        let pool: PoolName = "production".parse().expect("a name");
        let guest = |name: &str, pool: &str| Resource {
            kind: "qemu".into(),
            name: Some(name.into()),
            pool: Some(pool.into()),
            ..Resource::default()
        };
        assert!(is_candidate(&guest(REHEARSAL, "production"), &pool));
        assert!(is_candidate(&guest(REHEARSAL, "production/retired"), &pool));
        assert!(!is_candidate(&guest(REHEARSAL, "other"), &pool));
        assert!(!is_candidate(&guest("moxxie-rehearsal-2", "production"), &pool));
        let fresh = Resource { name: None, pool: None, ..guest("", "") };
        assert!(is_candidate(&fresh, &pool), "it is asked itself");
    }
}
