//! Owns finding a virtual machine: where it was, elsewhere, or gone; and when none of these may be said (design §5, Identity).
use std::time::Instant;

use federation::ClusterName;
use federation::model::Method;
use proxmox::Resource;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Answer, Guest, Record};
use crate::journal::{Journal, Kind, Place, move_pool};
use crate::notes::MarkFound;
use crate::relocate::LOCK;
use crate::site::Site;

/// What can be said of a recorded virtual machine.
#[derive(Debug)]
pub enum Found {
    /// It is where it was recorded, or where its own unfinished move has brought it.
    Here(Box<Guest>),
    /// It is on another cluster: moved there by somebody else.
    Elsewhere(Box<Guest>),
    /// Its cluster is lost ([`Fleet::is_lost`]), and it is nowhere else; the recovery that is under way, if one is.
    Lost(Option<Box<Journal>>),
    /// It does not exist any more.
    Gone,
    /// Neither can be said; why, and what was seen.
    Unsure(String),
}

impl Fleet {
    /// Finds a recorded machine.
    ///
    /// State may be older than the machine's last move: the run that moved it was killed before core stored its answer. So
    /// where a move of ours has brought it counts as where it was recorded.
    pub async fn find(&self, record: &Record) -> Found {
        match self.locate(record).await {
            Found::Here(guest) => Found::Here(self.whole(record, guest).await),
            Found::Elsewhere(guest) => Found::Elsewhere(self.whole(record, guest).await),
            found => found,
        }
    }

    /// What is known of its copies, beside what stands where it is.
    async fn whole(&self, record: &Record, guest: Box<Guest>) -> Box<Guest> {
        let mut guest = self.recalled(record, guest).await;
        guest.old_copy = self.old_copy_of(&guest).await;
        self.expired_by_now(&mut guest).await;
        guest
    }

    /// A copy that Proxmox VE locked can't be removed by any apply, so that past its date it is no unfinished business while it is there.
    async fn expired_by_now(&self, guest: &mut Guest) {
        if guest.expired.is_none() {
            return;
        }
        let mut locked = Vec::new();
        for copy in &guest.mark.copies {
            let Some(site) = self.site(copy.cluster.as_str()) else { continue };
            let is_locked = |found: &Resource| found.lock.as_deref() == Some(LOCK);
            if site.glance().await.is_ok_and(|now| now.guest(copy.vmid).is_some_and(is_locked)) {
                locked.push(copy.clone());
            }
        }
        let now = self.site(guest.place.cluster.as_str()).map_or(0, |site| site.now());
        guest.expired_but(&locked, now);
    }

    /// Somebody may have saved other notes over our mark, in a tab of Proxmox VE's interface that was open for long. The
    /// retired copies that were known then and still stand there fenced are not forgotten.
    async fn recalled(&self, record: &Record, mut guest: Box<Guest>) -> Box<Guest> {
        if guest.mark_found == MarkFound::Sound || guest.operation.is_some() {
            return guest;
        }
        let mut copies = Vec::new();
        for copy in &record.copies {
            let Some(site) = self.site(copy.cluster.as_str()) else { continue };
            let fenced = |found: &Resource| found.template || found.lock.as_deref() == Some(LOCK);
            let there = site.glance().await.is_ok_and(|now| now.guest(copy.vmid).is_some_and(fenced));
            if there && (&copy.cluster, copy.vmid) != (&guest.place.cluster, guest.place.vmid) {
                copies.push(copy.clone());
            }
        }
        let now = self.site(guest.place.cluster.as_str()).map_or(0, |site| site.now());
        guest.recall(copies, now);
        guest
    }

    async fn locate(&self, record: &Record) -> Found {
        // A record comes from state, so state has it.
        let pool = record.pool.as_ref().map_or("", |pool| pool.as_str());
        self.births().forget(pool, &record.name, &record.uuid);
        let Some(site) = self.site(record.cluster.as_str()) else {
            return Found::Unsure(format!("cluster {} has no connection in this configuration", record.cluster));
        };
        if let Some((journal, place)) = moved_elsewhere(site, record).await {
            return self.at_other_end(record, journal, place).await;
        }
        let elsewhere = self.open_elsewhere(record).await;
        let recovery = elsewhere.clone().filter(|journal| journal.kind == Kind::Recovery);
        if let Some((journal, place)) = recovery.clone().and_then(with_machine) {
            return self.at_other_end(record, journal, place).await;
        }
        if let Some(found) = self.recovered(record).await {
            return found;
        }
        match site.ask(record.vmid, &record.node, &record.uuid, record.running).await {
            // A fenced source, whose notes somebody may have saved over; or no machine any more.
            Answer::Is(guest) if guest.is_left_behind() && (guest.is_retired() || guest.operation.is_none()) => {
                self.moved_on(record, &guest).await
            }
            Answer::Is(mut guest) => {
                // Its cluster answers again before it was recovered.
                guest.operation = guest.operation.or(recovery);
                Found::Here(guest)
            }
            Answer::Silent(_) if self.is_lost(&record.cluster).await => self.lost(record, elsewhere).await,
            Answer::Silent(why) => Found::Unsure(why),
            Answer::IsNot => match site.is_another(record).await {
                Some(why) => Found::Unsure(why),
                None => self.search(record).await,
            },
        }
    }

    /// Its own move has made the other end the machine, whatever state still says.
    async fn at_other_end(&self, record: &Record, journal: Journal, place: Place) -> Found {
        let Some(site) = self.site(place.cluster.as_str()) else {
            return Found::Unsure(format!("it moved to {}, which has no connection here", place.cluster));
        };
        let its_move = || {
            let end = if journal.is_returned() { "was returned" } else { "went past \"live\"" };
            format!("its move {end}, so it is on {place}")
        };
        match site.ask(place.vmid, &place.node, &record.uuid, record.running).await {
            Answer::Is(mut guest) => {
                // The source's journal is the one that is kept; the target's is a copy.
                if !journal.is_returned() || guest.operation.is_none() {
                    guest.operation = Some(journal);
                }
                Found::Here(guest)
            }
            Answer::IsNot => Found::Unsure(format!("{}, but it is not there", its_move())),
            Answer::Silent(why) => Found::Unsure(format!("{}: {why}", its_move())),
        }
    }

    /// The machine of a lost cluster: recovered by now, or to be recovered.
    async fn lost(&self, record: &Record, open: Option<Journal>) -> Found {
        match open.clone().map(with_machine) {
            // A move went past "live" before its source was lost.
            Some(Some((journal, place))) => return self.at_other_end(record, journal, place).await,
            // What was restored so far is not the machine.
            Some(None) => return Found::Lost(open.map(Box::new)),
            None => {}
        }
        match self.search(record).await {
            Found::Gone => Found::Lost(None),
            // Fenced copies of earlier moves are older than any backup.
            Found::Unsure(_) if self.only_copies_are_left(record).await => Found::Lost(None),
            found => found,
        }
    }

    /// What stands where it was recorded is the fenced source of a move that is done: the machine is where that went.
    async fn moved_on(&self, record: &Record, retired: &Guest) -> Found {
        match self.search(record).await {
            Found::Gone if retired.config.template() && !retired.is_retired() => {
                Found::Unsure(template_by_hand(retired))
            }
            Found::Gone => Found::Unsure(format!(
                "it was moved away from {} and is nowhere; a fenced copy is left there (import id {}/{})",
                retired.place, retired.place.cluster, retired.place.vmid
            )),
            found => found,
        }
    }

    /// Looks for a machine that is not where it was recorded, by name and VMID first, one configuration read each.
    async fn search(&self, record: &Record) -> Found {
        let mut found = Vec::new();
        let mut unseen = Vec::new();
        // Every list is taken from here on: an older one may be from before the machine came there.
        let since = Instant::now();
        for site in self.sites() {
            let overview = match site.overview_since(since).await {
                Ok(overview) => overview,
                // Of a machine that is given up for lost with its cluster, what is on another lost one is given up too. Of one that
                // was elsewhere nothing is.
                Err(_) if self.is_lost(&record.cluster).await && self.is_lost(&site.name).await => continue,
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
        self.by_id(id, format!("Unable to import {id}")).await
    }

    /// Finds an existing machine to look at, by the same ids.
    ///
    /// # Errors
    /// As [`Fleet::import`].
    pub async fn look_at(&self, id: &str) -> Result<Guest, Failure> {
        self.by_id(id, format!("Unable to read {id}")).await
    }

    async fn by_id(&self, id: &str, what: String) -> Result<Guest, Failure> {
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
        // A template that nobody retired is looked at, too.
        found.retain(|guest| !guest.is_retired() && (guest.config.template() || !guest.is_left_behind()));
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

/// What is told of a machine that is a template without a mark of a move. `qm template` renames its disks.
fn template_by_hand(guest: &Guest) -> String {
    let place = &guest.place;
    let converted =
        guest.config.disks().values().any(|disk| disk.volume_name().is_some_and(is_base));
    let back = if converted {
        "its disks were converted, so it can be cloned and not be taken back".to_owned()
    } else {
        format!("on {}: qm set {} --template 0 takes that back", place.node, place.vmid)
    };
    format!("somebody made it a template on {place}, which is neither started, changed nor moved; {back}")
}

/// Whether a volume is one that clones are made of: `base-100-disk-0`, `100/base-100-disk-0.qcow2`.
fn is_base(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|name| name.starts_with("base-"))
}

/// An operation with where it has made the machine be; none before.
fn with_machine(journal: Journal) -> Option<(Journal, Place)> {
    let place = journal.machine()?.clone();
    Some((journal, place))
}

/// The machine's own move, and where that has made it be, if that is another cluster than was recorded.
async fn moved_elsewhere(site: &Site, record: &Record) -> Option<(Journal, Place)> {
    let overview = site.glance().await.ok()?;
    let (journal, place) = with_machine(overview.operation(&move_pool(&record.uuid))?)?;
    (place.cluster != record.cluster).then_some((journal, place))
}

/// Whether a listed guest may be the machine. One that the list shows without a name may be any: a guest that was made a moment ago, or
/// one whose node's statistics are silent (`pve-behaviour.md` §18).
pub(crate) fn looks_like(guest: &Resource, record: &Record) -> bool {
    let name = guest.name.as_deref();
    guest.kind == "qemu" && (name.is_none_or(|name| name == record.name) || guest.vmid == Some(record.vmid))
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
            && !guest.is_left_behind()
            && guest.mark.op.is_none()
    };
    let recorded = |cluster: &ClusterName, vmid: u32| (cluster, vmid) == (&record.cluster, record.vmid);
    let ours = |guest: &Guest| {
        let mark = &guest.mark;
        let from = mark.from.as_ref().is_some_and(|from| recorded(&from.cluster, from.vmid))
            || mark.copies.iter().any(|copy| copy.returned && recorded(&copy.cluster, copy.vmid));
        let moving = guest.operation.as_ref().is_some_and(|journal| {
            let end = |place: &Place| recorded(&place.cluster, place.vmid);
            let is_here = |place: &Place| (&place.cluster, place.vmid) == (&guest.place.cluster, guest.place.vmid);
            (journal.from.as_ref().is_some_and(end) || end(&journal.to)) && journal.machine().is_some_and(is_here)
        });
        // All that is left of a move that Proxmox VE carries out, whose source a person has removed: its next apply goes on with it.
        let sent = guest.operation.as_ref().is_some_and(|journal| {
            let is_here = (&journal.to.cluster, journal.to.vmid) == (&guest.place.cluster, guest.place.vmid);
            let from = journal.from.as_ref().is_some_and(|from| recorded(&from.cluster, from.vmid));
            journal.method != Method::BackupRestore && is_here && from && guest.config.lock().is_none()
        });
        let fenced = guest.is_retired() || guest.is_left_behind();
        moving || sent || (from && guest.operation.is_none() && !fenced)
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

#[cfg(test)]
mod tests {
    use proxmox::VmConfig;

    use super::*;
    use crate::notes::{Copy, Mark};

    fn record() -> Record {
        Record {
            name: "web-1".into(),
            cluster: "a".parse().expect("a name"),
            node: "n1".into(),
            vmid: 100,
            uuid: "u".into(),
            pool: None,
            running: Some(true),
            copies: Vec::new(),
            identity: None,
        }
    }

    fn guest(running: bool) -> Guest {
        Guest {
            place: Place { cluster: "b".parse().expect("a name"), node: "n1".into(), vmid: 100 },
            uuid: "u".into(),
            waiting: Vec::new(),
            config: VmConfig::from_pairs([("name", "web-1")]),
            running,
            pool: None,
            pool_is_known: true,
            description: String::new(),
            mark: Mark::default(),
            mark_found: MarkFound::Missing,
            operation: None,
            retired_copies: Vec::new(),
            expired: None,
            old_copy: None,
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

    #[test]
    fn a_machine_that_was_returned_is_known_by_its_copy() {
        let mut back = guest(false);
        let cluster: ClusterName = "a".parse().expect("a name");
        let copy = |vmid, returned| Copy { cluster: cluster.clone(), vmid, until: 0, returned };
        back.mark.copies = vec![copy(100, true)];
        assert!(matches!(adopt(&record(), vec![back.clone()], Vec::new()), Found::Here(_)));
        back.mark.copies = vec![copy(100, false), copy(101, true)];
        assert!(matches!(adopt(&record(), vec![back], Vec::new()), Found::Unsure(_)));
    }
}
