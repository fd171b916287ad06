//! Owns finding a virtual machine: where it was, elsewhere, or gone; and when none of these may be said (design.md §5, Identity).
use std::time::Instant;

use proxmox::Resource;

use crate::adopt::adopt;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::{Answer, Guest, Record};
use crate::journal::{Journal, Kind, Place, move_pool};
use crate::kept::Standing;
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

    /// A copy that Proxmox VE locked, or whose fence or notes somebody changed, is removed by no apply, so that past its date it is no
    /// unfinished business while it is there.
    async fn expired_by_now(&self, guest: &mut Guest) {
        if guest.expired.is_none() {
            return;
        }
        let mut stuck = Vec::new();
        for copy in &guest.mark.copies {
            let Some(site) = self.site(copy.cluster.as_str()) else { continue };
            if let Answer::Is(found) = site.ask(copy.vmid, "", &guest.uuid, Some(false)).await
                && matches!(copy.is(&found, &guest.uuid), Standing::Locked | Standing::Changed)
            {
                stuck.push(copy.clone());
            }
        }
        let now = self.site(guest.place.cluster.as_str()).map_or(0, |site| site.now());
        guest.expired_but(&stuck, now);
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
            Answer::Is(guest) if guest.was_left() => self.left_open(record, guest).await,
            Answer::Is(mut guest) => {
                // Its cluster answers again before it was recovered.
                guest.operation = guest.operation.or(recovery);
                Found::Here(guest)
            }
            Answer::Silent(_) if self.is_lost(&record.cluster).await => self.lost(record, elsewhere).await,
            Answer::Silent(why) => Found::Unsure(why),
            Answer::IsNot => match site.is_another(record).await {
                Some(why) => Found::Unsure(why),
                None => match self.search(record).await {
                    Found::Gone => site.lost_its_uuid(record).await.map_or(Found::Gone, Found::Unsure),
                    found => found,
                },
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

    /// What stands where it was recorded says that a move left it there, and can be started: somebody took its fence or lock off. The
    /// machine is where that move has brought it.
    async fn left_open(&self, record: &Record, left: Box<Guest>) -> Found {
        match self.search(record).await {
            Found::Here(machine) | Found::Elsewhere(machine) if left.running => Found::Unsure(format!(
                "a move left it on {}, where somebody took its fence off, and it runs again beside the one that was moved: {}; see \
                 which of them has to stop",
                left.place, machine.place
            )),
            found @ (Found::Here(_) | Found::Elsewhere(_)) => found,
            Found::Unsure(why) if !left.running && !self.only_copies_are_left(record).await => Found::Unsure(why),
            // Nothing else has its UUID: who took the fence off wants it to be the machine again.
            _ => Found::Here(left),
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
    let converted = guest.config.disks().values().any(|disk| disk.volume_name().is_some_and(is_base));
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
/// one whose node's statistics are silent (`proxmox-ve.md` §18).
pub(crate) fn looks_like(guest: &Resource, record: &Record) -> bool {
    let name = guest.name.as_deref();
    guest.kind == "qemu" && (name.is_none_or(|name| name == record.name) || guest.vmid == Some(record.vmid))
}
