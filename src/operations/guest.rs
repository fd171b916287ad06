//! Owns finding a virtual machine: where it was, elsewhere, or gone; and when none of these may be said (design §5, Identity).
use std::sync::Arc;

use federation::{ClusterName, PoolName};
use proxmox::{Error, Resource, VmConfig};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::journal::{Journal, Place, move_pool};
use crate::notes::{self, Mark};
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
    /// Its unfinished operation.
    pub operation: Option<Journal>,
    /// Fenced sources of its moves.
    pub retired_copies: Vec<RetiredCopy>,
    /// Whether something of it is past its date.
    pub expired: Option<String>,
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
}

impl Guest {
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
        self.operation.as_ref().map(Journal::in_words).or_else(|| self.expired.clone())
    }

    /// Whether this is a fenced source of a move, and not the machine itself.
    pub fn is_retired(&self) -> bool {
        self.mark.retired.is_some()
    }
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
    /// The cluster's identity then, if it was known: a cluster that was installed anew says of every machine that it does
    /// not exist.
    pub identity: Option<String>,
}

/// What can be said of a recorded virtual machine.
#[derive(Debug)]
pub enum Found {
    /// It is where it was recorded, or where its own unfinished move has brought it.
    Here(Box<Guest>),
    /// It is on another cluster: moved there by somebody else.
    Elsewhere(Box<Guest>),
    /// It does not exist any more.
    Gone,
    /// Neither can be said; why, and what was seen.
    Unsure(String),
}

/// What one place says of a virtual machine.
enum Answer {
    Is(Box<Guest>),
    IsNot,
    Silent(String),
}

impl Fleet {
    /// Finds a recorded machine.
    ///
    /// State may be older than the machine's last move: the run that moved it was killed before core stored its answer. So
    /// where a move of ours has brought it counts as where it was recorded.
    pub async fn find(&self, record: &Record) -> Found {
        // A record comes from state, so state has it.
        let pool = record.pool.as_ref().map_or("", |pool| pool.as_str());
        self.births().forget(pool, &record.name, &record.uuid);
        let Some(site) = self.site(record.cluster.as_str()) else {
            return Found::Unsure(format!("cluster {} has no connection in this configuration", record.cluster));
        };
        if let Some(journal) = live_elsewhere(site, record).await {
            return self.at_target(record, journal).await;
        }
        match site.ask(record.vmid, &record.node, &record.uuid, record.running).await {
            Answer::Is(guest) if guest.is_retired() && guest.config.template() => self.moved_on(record, &guest).await,
            Answer::Is(guest) => Found::Here(guest),
            Answer::Silent(why) => Found::Unsure(why),
            Answer::IsNot => match site.is_another(record).await {
                Some(why) => Found::Unsure(why),
                None => self.search(record).await,
            },
        }
    }

    /// Its own move went past "live": the target is the machine, whatever state still says.
    async fn at_target(&self, record: &Record, journal: Journal) -> Found {
        let place = journal.to.clone();
        let Some(site) = self.site(place.cluster.as_str()) else {
            return Found::Unsure(format!("it moved to {}, which has no connection here", place.cluster));
        };
        match site.ask(place.vmid, &place.node, &record.uuid, record.running).await {
            Answer::Is(mut guest) => {
                // The source's journal is the one that is kept; the target's is a copy.
                guest.operation = Some(journal);
                Found::Here(guest)
            }
            Answer::IsNot => Found::Unsure(format!("its move to {place} went past \"live\", but it is not there")),
            Answer::Silent(why) => Found::Unsure(format!("its move to {place} went past \"live\": {why}")),
        }
    }

    /// What stands where it was recorded is the fenced source of a move that is done: the machine is where that went.
    async fn moved_on(&self, record: &Record, retired: &Guest) -> Found {
        match self.search(record).await {
            Found::Gone => Found::Unsure(format!(
                "it was moved away from {} and is nowhere; a retired copy is left there (import id {}/{})",
                retired.place, retired.place.cluster, retired.place.vmid
            )),
            found => found,
        }
    }

    /// Looks for a machine that is not where it was recorded, by name and VMID first, one configuration read each.
    async fn search(&self, record: &Record) -> Found {
        let mut found = Vec::new();
        let mut unseen = Vec::new();
        for site in self.sites() {
            let overview = match site.glance().await {
                Ok(overview) => overview,
                Err(error) => {
                    unseen.push(format!("{}: {error}", site.name));
                    continue;
                }
            };
            if !site.sees_all().await {
                unseen.push(format!("{}: the token doesn't see every guest (VM.Audit on /vms)", site.name));
            }
            for candidate in overview.guests().filter(|guest| looks_like(guest, record)) {
                if site.name == record.cluster && candidate.vmid == Some(record.vmid) {
                    continue;
                }
                let (Some(vmid), Some(node)) = (candidate.vmid, candidate.node.as_deref()) else { continue };
                match site.ask(vmid, node, &record.uuid, record.running).await {
                    Answer::Is(guest) => found.push(*guest),
                    Answer::IsNot => {}
                    Answer::Silent(why) => unseen.push(why),
                }
            }
        }
        adopt(record, found, unseen)
    }

    /// Finds an existing machine for import: `cluster/vmid`, a UUID, or a name that is unique in the federation.
    ///
    /// # Errors
    /// Nothing or more than one thing of that id, or a cluster that could not be asked.
    pub async fn import(&self, id: &str) -> Result<Guest, Failure> {
        let what = format!("Unable to import {id}");
        if let Some((cluster, vmid)) = id.split_once('/') {
            let site = self.need(cluster, &what)?;
            let vmid: u32 = vmid.parse().map_err(|_| {
                Failure::new(&what).at(format!("{vmid:?} is not a VMID")).next("use cluster/vmid, a UUID, or a name")
            })?;
            return match site.ask(vmid, "", "", None).await {
                Answer::Is(guest) => Ok(*guest),
                Answer::IsNot => Err(Failure::new(what).at(format!("cluster {cluster} has no virtual machine {vmid}"))),
                Answer::Silent(why) => Err(Failure::new(what).at(why)),
            };
        }
        let is_uuid = uuid::Uuid::parse_str(id).is_ok();
        let mut found = Vec::new();
        for site in self.sites() {
            let overview = site.glance().await.map_err(|error| {
                Failure::new(&what)
                    .at(format!("cluster {} can't be searched", site.name))
                    .said(error)
                    .next("use cluster/vmid")
            })?;
            for candidate in overview.guests().filter(|guest| guest.kind == "qemu") {
                if !is_uuid && candidate.name.as_deref() != Some(id) {
                    continue;
                }
                let (Some(vmid), Some(node)) = (candidate.vmid, candidate.node.as_deref()) else { continue };
                if let Answer::Is(guest) = site.ask(vmid, node, if is_uuid { id } else { "" }, None).await {
                    found.push(*guest);
                }
            }
        }
        found.retain(|guest| !guest.is_retired());
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Failure::new(what).at("no cluster has a virtual machine of that name or UUID")),
            _ => {
                let places: Vec<String> = found.iter().map(|guest| guest.place.to_string()).collect();
                Err(Failure::new(what)
                    .at(format!("more than one is called so: {}", places.join("; ")))
                    .next("use cluster/vmid"))
            }
        }
    }
}

/// The machine's own move, if that went past "live".
async fn live_elsewhere(site: &Site, record: &Record) -> Option<Journal> {
    let overview = site.glance().await.ok()?;
    let journal = overview.operation(&move_pool(&record.uuid))?;
    (journal.is_live() && journal.to.cluster != record.cluster).then_some(journal)
}

fn looks_like(guest: &Resource, record: &Record) -> bool {
    guest.kind == "qemu" && (guest.name.as_deref() == Some(record.name.as_str()) || guest.vmid == Some(record.vmid))
}

/// Whether what was found elsewhere may be taken for the machine (design §5): everybody answered, exactly one guest has the
/// UUID, it runs, and it is neither part of an operation nor retired nor a template. What a move of ours has brought from
/// the recorded place is the machine, running or not.
fn adopt(record: &Record, mut found: Vec<Guest>, unseen: Vec<String>) -> Found {
    if !unseen.is_empty() {
        return Found::Unsure(format!(
            "it is not on {} any more, and whether it is elsewhere can't be said: {}",
            record.cluster,
            unseen.join("; ")
        ));
    }
    let sound = |guest: &Guest| {
        guest.running
            && guest.operation.is_none()
            && !guest.is_retired()
            && !guest.config.template()
            && guest.mark.op.is_none()
    };
    let ours = |guest: &Guest| {
        let from =
            guest.mark.from.as_ref().is_some_and(|from| (&from.cluster, from.vmid) == (&record.cluster, record.vmid));
        let moving = guest.operation.as_ref().is_some_and(|journal| {
            let from =
                journal.from.as_ref().is_some_and(|from| (&from.cluster, from.vmid) == (&record.cluster, record.vmid));
            from && journal.is_live()
                && journal.to.cluster == guest.place.cluster
                && journal.to.vmid == guest.place.vmid
        });
        !guest.is_retired() && !guest.config.template() && (moving || (from && guest.operation.is_none()))
    };
    match found.as_slice() {
        [] => Found::Gone,
        [one] if ours(one) => Found::Here(Box::new(found.remove(0))),
        [one] if sound(one) => Found::Elsewhere(Box::new(found.remove(0))),
        copies => {
            let lines: Vec<String> = copies
                .iter()
                .map(|copy| {
                    let state = if copy.running { "running" } else { "stopped" };
                    format!("{} ({state}; import id {}/{})", copy.place, copy.place.cluster, copy.place.vmid)
                })
                .collect();
            Found::Unsure(format!(
                "it is not on {} any more; copies with its UUID that may not be taken for it: {}",
                record.cluster,
                lines.join("; ")
            ))
        }
    }
}

impl Site {
    /// Whether the token sees every guest of the cluster.
    async fn sees_all(&self) -> bool {
        let permissions = self.client.permissions(Some("/vms")).await;
        permissions.is_ok_and(|permissions| permissions.has("/vms", "VM.Audit"))
    }

    /// The cluster's identity: its CA's fingerprint, or that of its single node.
    pub async fn identity(&self) -> Option<String> {
        self.client.cluster_identity().await.ok().map(|identity| identity.to_string())
    }

    /// Why this is not known to be the cluster that was recorded.
    async fn is_another(&self, record: &Record) -> Option<String> {
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
    async fn ask(&self, vmid: u32, node: &str, uuid: &str, running: Option<bool>) -> Answer {
        let overview = match self.glance().await {
            Ok(overview) => overview,
            Err(error) => return Answer::Silent(format!("cluster {} doesn't answer: {error}", self.name)),
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
        match self.client.vm_config(on, vmid, false).await {
            Ok(config) => self.answer(&overview, on, vmid, config, uuid, running).await,
            Err(error) if error.is_not_found() => self.missing(vmid, on, uuid, running).await,
            Err(error) => Answer::Silent(format!("cluster {}, vmid {vmid}: {error}", self.name)),
        }
    }

    /// The node asked doesn't have it: it may have moved inside the cluster since the overview (`pve-behaviour.md` §12).
    async fn missing(&self, vmid: u32, asked: &str, uuid: &str, running: Option<bool>) -> Answer {
        let overview = match self.fresh().await {
            Ok(overview) => overview,
            Err(error) => return Answer::Silent(format!("cluster {} doesn't answer: {error}", self.name)),
        };
        let Some(node) = overview.guest(vmid).and_then(|guest| guest.node.clone()).filter(|node| node != asked) else {
            return Answer::IsNot;
        };
        match self.client.vm_config(&node, vmid, false).await {
            Ok(config) => self.answer(&overview, &node, vmid, config, uuid, running).await,
            Err(error) if error.is_not_found() => Answer::IsNot,
            Err(error) => Answer::Silent(format!("cluster {}, vmid {vmid}: {error}", self.name)),
        }
    }

    async fn answer(
        &self,
        overview: &Arc<Overview>,
        node: &str,
        vmid: u32,
        config: VmConfig,
        uuid: &str,
        running: Option<bool>,
    ) -> Answer {
        let own = config.uuid().unwrap_or_default();
        if !uuid.is_empty() && !own.eq_ignore_ascii_case(uuid) {
            return Answer::IsNot;
        }
        match self.guest(overview, node, vmid, config, running).await {
            Ok(guest) => Answer::Is(Box::new(guest)),
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
            _ => self.client.vm_status(node, vmid).await?.status == "running",
        };
        let (description, mark) = notes::split(config.description().unwrap_or_default());
        let uuid = config.uuid().unwrap_or_default();
        let now = self.now();
        let retired_copies = mark.copies.iter().map(|copy| RetiredCopy {
            cluster: copy.cluster.clone(),
            vmid: copy.vmid,
            until: rfc3339(copy.until),
        });
        Ok(Guest {
            place: Place { cluster: self.name.clone(), node: node.to_owned(), vmid },
            pool: seen.and_then(|guest| guest.pool.as_deref()).and_then(|pool| PoolName::new(pool).ok()),
            pool_is_known: seen.is_some(),
            operation: overview.operation(&move_pool(&uuid)),
            retired_copies: retired_copies.collect(),
            expired: expired(&mark, now),
            uuid,
            config,
            running,
            description,
            mark,
        })
    }

    /// A guest as it is now, past every cache.
    ///
    /// # Errors
    /// What the cluster said; [`Error::is_not_found`] where it doesn't exist on that node.
    pub(crate) async fn guest_now(&self, node: &str, vmid: u32) -> Result<Guest, Error> {
        let overview = self.fresh().await?;
        let node = overview.guest(vmid).and_then(|guest| guest.node.as_deref()).unwrap_or(node).to_owned();
        let config = self.client.vm_config(&node, vmid, false).await?;
        self.guest(&overview, &node, vmid, config, None).await
    }
}

/// What of a machine is past its date, in words.
fn expired(mark: &Mark, now: i64) -> Option<String> {
    let copy = mark.copies.iter().find(|copy| copy.until <= now);
    let copy =
        copy.map(|copy| format!("retired copy {}/{} is past its date: apply removes it", copy.cluster, copy.vmid));
    copy.or_else(|| {
        let archive = mark.archives.iter().find(|archive| archive.until <= now)?;
        Some(format!("archive {} is past its date: apply removes it", archive.volid))
    })
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s since 1970"), |time| time.to_string())
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

    fn record() -> Record {
        Record {
            name: "web-1".into(),
            cluster: "a".parse().expect("a name"),
            node: "n1".into(),
            vmid: 100,
            uuid: "u".into(),
            pool: None,
            running: Some(true),
            identity: None,
        }
    }

    fn guest(running: bool) -> Guest {
        Guest {
            place: Place { cluster: "b".parse().expect("a name"), node: "n1".into(), vmid: 100 },
            uuid: "u".into(),
            config: VmConfig::from_pairs([("name", "web-1")]),
            running,
            pool: None,
            pool_is_known: true,
            description: String::new(),
            mark: Mark::default(),
            operation: None,
            retired_copies: Vec::new(),
            expired: None,
        }
    }

    #[test]
    fn only_one_running_copy_on_a_fully_seen_federation_is_adopted() {
        assert!(matches!(adopt(&record(), vec![guest(true)], Vec::new()), Found::Elsewhere(_)));
        assert!(matches!(adopt(&record(), vec![guest(false)], Vec::new()), Found::Unsure(_)));
        assert!(matches!(adopt(&record(), vec![guest(true), guest(true)], Vec::new()), Found::Unsure(_)));
        assert!(matches!(adopt(&record(), vec![guest(true)], vec!["c is dark".into()]), Found::Unsure(_)));
        let mut fenced = guest(true);
        fenced.config = VmConfig::from_pairs([("template", "1")]);
        assert!(matches!(adopt(&record(), vec![fenced], Vec::new()), Found::Unsure(_)));
        let mut clone = guest(true);
        clone.mark.op = Some("op".into());
        assert!(matches!(adopt(&record(), vec![clone], Vec::new()), Found::Unsure(_)));
    }

    #[test]
    fn gone_is_only_said_when_everybody_answered() {
        assert!(matches!(adopt(&record(), Vec::new(), Vec::new()), Found::Gone));
        assert!(matches!(adopt(&record(), Vec::new(), vec!["c is dark".into()]), Found::Unsure(_)));
    }
}
