//! Owns what is known of a virtual machine on one cluster, and asking one cluster about it.
use std::sync::Arc;

use federation::{ClusterName, PoolName};
use proxmox::{Error, PendingValue, TaskFilter, TaskSource, VmConfig};

use crate::absence::Trace;
use crate::journal::{Journal, Place, move_pool};
use crate::notes::{self, Copy, Mark, MarkFound};
use crate::site::{Overview, Site};

/// A virtual machine as it is on its cluster.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Where it is.
    pub place: Place,
    /// Its SMBIOS UUID; empty where it has none.
    pub uuid: String,
    /// Its configuration, pending changes merged.
    pub config: VmConfig,
    /// Changes that it takes only when it is stopped and started, as a refresh sees them; a look before a write asks for
    /// them where it needs them.
    pub waiting: Vec<PendingValue>,
    /// Whether it runs.
    pub running: bool,
    /// The PVE pool it is in.
    pub pool: Option<PoolName>,
    /// Whether the token sees which pool it is in.
    pub pool_is_known: bool,
    /// Its notes without our mark.
    pub description: String,
    /// Our mark.
    pub mark: Mark,
    /// Whether its notes hold one.
    pub mark_found: MarkFound,
    /// Its unfinished operation.
    pub operation: Option<Journal>,
    /// Fenced sources of its moves.
    pub retired_copies: Vec<RetiredCopy>,
    /// Whether something of it is past its date.
    pub expired: Option<String>,
    /// Of a machine that was recovered: its old copy, where the cluster that was lost answers again.
    pub old_copy: Option<Place>,
}

/// A fenced source of a move, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredCopy {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its VMID.
    pub vmid: u32,
    /// When it expires, RFC 3339.
    pub until: String,
    /// It ran as the machine and was returned, so it may hold what the machine wrote meanwhile.
    pub returned: bool,
}

impl Guest {
    /// A machine of which nothing is there but its configuration in a backup.
    pub(crate) fn archived(place: Place, config: VmConfig) -> Guest {
        let split = notes::split(config.description().unwrap_or_default());
        Guest {
            place,
            uuid: config.uuid().unwrap_or_default(),
            config,
            waiting: Vec::new(),
            running: false,
            pool: None,
            pool_is_known: false,
            description: split.text,
            mark: split.mark,
            mark_found: split.found,
            operation: None,
            retired_copies: Vec::new(),
            expired: None,
            old_copy: None,
        }
    }

    /// Whether it starts with its node.
    pub fn on_boot(&self) -> bool {
        self.config.onboot()
    }

    /// Whether Proxmox VE refuses to remove it.
    pub fn protection(&self) -> bool {
        self.config.protection()
    }

    /// The value of the attribute `operation`.
    pub fn operation_in_words(&self) -> Option<String> {
        let old = |copy: &Place| {
            format!("{} answers again: apply fences the old copy {}/{}", copy.cluster, copy.cluster, copy.vmid)
        };
        self.operation
            .as_ref()
            .map(Journal::in_words)
            .or_else(|| self.old_copy.as_ref().map(old))
            .or_else(|| self.expired.clone())
    }

    /// Whether nobody can start it: fenced by us, or locked for good. While it is still being sent it runs, and is the machine.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.config.template() || (locked_for_good(&self.config) && !self.running)
    }

    /// Whether this is a fenced source of a move, and not the machine itself.
    pub fn is_retired(&self) -> bool {
        self.mark.retired.is_some()
    }

    /// Whether its notes say that a move which is over left it behind, although it could be started: a person took its fence or lock off.
    pub(crate) fn was_left(&self) -> bool {
        self.operation.is_none() && (self.is_retired() || self.mark.op.is_some())
    }

    /// Itself as it runs: without what waits for its restart.
    pub fn in_force(&self) -> Guest {
        Guest { config: self.config.clone().without(&self.waiting), ..self.clone() }
    }

    /// Leaves copies out that are past their date and that nothing can be done about. `now`: its cluster's clock.
    pub(crate) fn expired_but(&mut self, kept: &[Copy], now: i64) {
        self.expired = expired_but(&self.mark, kept, now);
    }

    /// Takes in copies that its notes don't tell of any more. `now`: its cluster's clock.
    pub(crate) fn recall(&mut self, copies: Vec<Copy>, now: i64) {
        self.mark.copies.extend(copies);
        self.retired_copies = listed(&self.mark);
        self.expired = expired(&self.mark, now);
    }
}

fn listed(mark: &Mark) -> Vec<RetiredCopy> {
    let copy = |copy: &Copy| RetiredCopy {
        cluster: copy.cluster.clone(),
        vmid: copy.vmid,
        until: rfc3339(copy.until),
        returned: copy.returned,
    };
    mark.copies.iter().map(copy).collect()
}

/// What is recorded of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its node then.
    pub node: String,
    /// Its VMID.
    pub vmid: u32,
    /// Its SMBIOS UUID.
    pub uuid: String,
    /// Its pool.
    pub pool: Option<PoolName>,
    /// Whether it ran then: what the overview says of that is believed only where it agrees.
    pub running: Option<bool>,
    /// Its retired copies then: what is known of them where somebody saved other notes over our mark.
    pub copies: Vec<Copy>,
    /// The cluster's identity then, if it was known: a cluster that was installed anew says of every machine that it does
    /// not exist.
    pub identity: Option<String>,
}

/// What one place says of a virtual machine.
pub(crate) enum Answer {
    Is(Box<Guest>),
    IsNot,
    Silent(String),
}

impl Site {
    /// Why nothing is known of what is on the cluster, in words.
    pub(crate) fn unanswered(&self, error: &Error) -> String {
        let how = if error.is_auth() { "refuses the connection's token" } else { "doesn't answer" };
        format!("cluster {} {how}: {error}", self.name)
    }

    /// Whether the token sees every guest of the cluster.
    pub(crate) async fn sees_all(&self) -> bool {
        let permissions = self.client.permissions(Some("/vms")).await;
        permissions.is_ok_and(|permissions| permissions.has("/vms", "VM.Audit"))
    }

    /// The cluster's identity: its CA's fingerprint, or that of its single node.
    pub async fn identity(&self) -> Option<String> {
        self.who().await.ok()
    }

    /// Why this is not known to be the cluster that was recorded.
    pub(crate) async fn is_another(&self, record: &Record) -> Option<String> {
        let was = record.identity.as_ref()?;
        match self.identity().await {
            Some(is) if is == *was => None,
            Some(is) => Some(format!(
                "cluster {} is not the one that the machine was on: its CA has the fingerprint {is}, and had {was}",
                self.name
            )),
            None => Some(format!("cluster {} does not say who it is", self.name)),
        }
    }

    /// Asks about one VMID. `uuid` empty: any. `node`: where it was last, for a guest that the overview doesn't show.
    pub(crate) async fn ask(&self, vmid: u32, node: &str, uuid: &str, running: Option<bool>) -> Answer {
        let overview = match self.glance().await {
            Ok(overview) => overview,
            Err(error) => return Answer::Silent(self.unanswered(&error)),
        };
        let seen = overview.guest(vmid);
        if seen.is_some_and(|guest| guest.kind != "qemu") {
            return Answer::IsNot;
        }
        let on = seen.and_then(|guest| guest.node.as_deref()).unwrap_or(node);
        if on.is_empty() {
            return if self.sees_all().await {
                Answer::IsNot
            } else {
                Answer::Silent(format!(
                    "cluster {} shows no guest {vmid}, and the token doesn't see every guest",
                    self.name
                ))
            };
        }
        match self.client.vm_pending(on, vmid).await {
            Ok(values) => self.answer(&overview, on, vmid, values, uuid, running).await,
            Err(error) if error.is_not_found() => self.missing(vmid, on, uuid, running).await,
            Err(error) => Answer::Silent(format!("cluster {}, vmid {vmid}: {error}", self.name)),
        }
    }

    /// The node asked doesn't have it: it may have moved inside the cluster since the overview, or be moving.
    async fn missing(&self, vmid: u32, asked: &str, uuid: &str, running: Option<bool>) -> Answer {
        match self.trace(vmid, asked).await {
            Trace::Nowhere => Answer::IsNot,
            Trace::On(overview, node, values) => self.answer(&overview, &node, vmid, values, uuid, running).await,
            Trace::Unclear(why) => Answer::Silent(why),
        }
    }

    /// `values`: everything that is configured, with what waits apart. One call tells both.
    async fn answer(
        &self,
        overview: &Arc<Overview>,
        node: &str,
        vmid: u32,
        values: Vec<PendingValue>,
        uuid: &str,
        running: Option<bool>,
    ) -> Answer {
        let config = VmConfig::merged(&values);
        let own = config.uuid().unwrap_or_default();
        if !uuid.is_empty() && !own.eq_ignore_ascii_case(uuid) {
            return Answer::IsNot;
        }
        match self.guest(overview, node, vmid, config, running).await {
            Ok(guest) => {
                let waiting = values.into_iter().filter(PendingValue::is_pending).collect();
                Answer::Is(Box::new(Guest { waiting, ..guest }))
            }
            Err(error) => Answer::Silent(format!("cluster {}, vmid {vmid}: {error}", self.name)),
        }
    }

    /// Puts together what is known of a guest. `running`: what was recorded; the overview's status is believed only where
    /// it agrees, for it lags by up to 10 s.
    async fn guest(
        &self,
        overview: &Overview,
        node: &str,
        vmid: u32,
        config: VmConfig,
        running: Option<bool>,
    ) -> Result<Guest, Error> {
        let seen = overview.guest(vmid);
        let shown = match seen.and_then(|guest| guest.status.as_deref()) {
            Some("running") => Some(true),
            Some("stopped") => Some(false),
            _ => None,
        };
        let running = match (shown, running) {
            (Some(shown), Some(recorded)) if shown == recorded => shown,
            _ => {
                let status = self.client.vm_status(node, vmid).await?;
                // A backup in mode `stop` stops a guest for a moment, and has it run again (`proxmox-ve.md` §18.16).
                let for_a_backup = status.is_stopped() && running == Some(true) && config.lock() == Some("backup");
                status.runs_itself() || (for_a_backup && self.is_backing_up(node).await)
            }
        };
        let mut split = notes::split(config.description().unwrap_or_default());
        // Where it stands now a copy of it stood once: it is not its own copy.
        split.mark.without_copy_at(&self.name, vmid);
        let uuid = config.uuid().unwrap_or_default();
        let now = self.now();
        Ok(Guest {
            place: Place { cluster: self.name.clone(), node: node.to_owned(), vmid },
            pool: seen.and_then(|guest| guest.pool.as_deref()).and_then(|pool| PoolName::new(pool).ok()),
            // A new guest's row has neither name nor pool yet (`proxmox-ve.md` §18.18); one without a name is called after its VMID.
            pool_is_known: seen.is_some_and(|guest| guest.name.is_some() || guest.pool.is_some()),
            operation: overview.operation(&move_pool(&uuid)),
            retired_copies: listed(&split.mark),
            expired: expired(&split.mark, now),
            old_copy: None,
            uuid,
            config,
            waiting: Vec::new(),
            running,
            description: split.text,
            mark: split.mark,
            mark_found: split.found,
        })
    }

    /// Whether a backup is under way on a node, as far as the token sees.
    async fn is_backing_up(&self, node: &str) -> bool {
        let filter = TaskFilter { kind: Some("vzdump".into()), source: TaskSource::Active, ..TaskFilter::default() };
        self.client.find_tasks(node, &filter).await.is_ok_and(|tasks| !tasks.is_empty())
    }

    /// A guest as it is now, past every cache.
    ///
    /// # Errors
    /// What the cluster said; [`Error::is_not_found`] only where it is on no node.
    pub(crate) async fn guest_now(&self, node: &str, vmid: u32) -> Result<Guest, Error> {
        let overview = self.fresh().await?;
        let node = overview.guest(vmid).and_then(|guest| guest.node.as_deref()).unwrap_or(node);
        let (node, config) = self.config_and_node(node, vmid, false).await?;
        self.guest(&overview, &node, vmid, config, None).await
    }
}

/// What of a machine is past its date, in words.
fn expired(mark: &Mark, now: i64) -> Option<String> {
    expired_but(mark, &[], now)
}

fn expired_but(mark: &Mark, kept: &[Copy], now: i64) -> Option<String> {
    let copy = mark.copies.iter().find(|copy| copy.until <= now && !kept.contains(copy));
    let copy =
        copy.map(|copy| format!("retired copy {}/{} is past its date: apply removes it", copy.cluster, copy.vmid));
    copy.or_else(|| {
        let archive = mark.archives.iter().find(|archive| archive.until <= now)?;
        Some(format!("archive {} is past its date: apply removes it", archive.volid))
    })
}

impl Copy {
    /// A copy as state lists it; `None` where its date can't be read.
    pub fn listed(cluster: ClusterName, vmid: u32, until: &str) -> Option<Copy> {
        let until = until.parse::<jiff::Timestamp>().ok()?.as_second();
        Some(Copy { cluster, vmid, until, returned: false, op: None })
    }
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s since 1970"), |time| time.to_string())
}

/// Whether a migration of Proxmox VE's that a move of ours asked for has locked a guest, so that no token can start or change it. One
/// that somebody migrates inside its cluster is locked too, and belongs to no operation.
pub(crate) fn locked_for_good(config: &VmConfig) -> bool {
    let of_a_move = || notes::split(config.description().unwrap_or_default()).mark.op.is_some();
    config.lock() == Some(crate::relocate::LOCK) && of_a_move()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_by_people() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_767_323_045), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn a_copy_is_known_from_how_state_lists_it() {
        let cluster: ClusterName = "a".parse().expect("a name");
        let copy = Copy::listed(cluster.clone(), 100, &rfc3339(1_767_323_045)).expect("a date");
        assert_eq!(copy, Copy { cluster: cluster.clone(), vmid: 100, until: 1_767_323_045, returned: false, op: None });
        assert_eq!(Copy::listed(cluster, 100, "some day"), None);
    }
}
