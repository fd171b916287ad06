//! Owns removing what moves leave: retired copies and archives. It goes by what was written down of each, never by where the machine is now,
//! and what can't be found or removed is said.
use std::time::Instant;

use federation::ClusterName;
use proxmox::StorageDefinition;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::inventory::backing;
use crate::journal::Place;
use crate::notes::{Copy, Kept};
use crate::relocate::{remove_archive, remove_fenced};
use crate::rights::held;
use crate::site::Site;

/// An archive as one cluster names it.
struct Side<'a> {
    site: &'a Site,
    node: String,
    volid: String,
}

/// What one cluster says of an archive.
enum Seen {
    /// It is listed there.
    Listed,
    /// The whole storage was seen, without it.
    Absent,
    /// A list that may lack it: the token doesn't see every archive there.
    Unseen,
}

impl Fleet {
    /// Removes an archive that a move of a machine kept, from whichever cluster may: a token's right to it comes through a machine of its
    /// VMID in the pool (`proxmox-ve.md` §17). `here`: where the machine is.
    ///
    /// A note where somebody removed it before.
    ///
    /// # Errors
    /// Why it stays, and what removes it.
    pub(crate) async fn remove_kept(
        &self,
        kept: &Kept,
        here: &ClusterName,
        deadline: Instant,
    ) -> Result<Option<Failure>, Failure> {
        let at = kept.cluster.as_ref().unwrap_or(here);
        let name = format!("{} of cluster {at}", kept.volid);
        let stays = || Failure::new(format!("An archive of a move stays: {name}"));
        let mut absent = false;
        let mut why = Vec::new();
        let mut listed = None;
        for side in self.sides(kept, at).await {
            match side.looked(kept.vmid()).await {
                Ok(Seen::Absent) => absent = true,
                Ok(Seen::Unseen) => why.push(format!(
                    "cluster {}: the token may not see every archive on {}",
                    side.site.name,
                    side.storage()
                )),
                Ok(Seen::Listed) if !side.may_remove(kept.vmid()).await => {
                    why.push(side.lacks(kept.vmid()));
                    listed.get_or_insert_with(|| side.by_hand());
                }
                Ok(Seen::Listed) => {
                    let place = Place { cluster: side.site.name.clone(), node: side.node.clone(), vmid: 0 };
                    let removed = remove_archive(side.site, &place, &side.volid, self, deadline).await;
                    return removed.map(|()| None).map_err(|error| stays().said(error).next(side.by_hand()));
                }
                Err(error) => why.push(format!("cluster {}: {error}", side.site.name)),
            }
        }
        match listed {
            None if absent => Ok(Some(
                Failure::new(format!("An archive of a move is not there any more: {name}"))
                    .at("somebody removed it before")
                    .next("nothing: it is forgotten"),
            )),
            None if why.is_empty() => Err(stays()
                .at("no cluster that answers has its storage")
                .next("bring that cluster or storage back; or, where it is there, remove it by hand")),
            None => Err(stays().at(why.join("; ")).next("bring back what can't be asked; or remove it by hand")),
            Some(next) => Err(stays().at(why.join("; ")).next(next)),
        }
    }

    /// The archive on the cluster that it was written down for, and then on every other one that mounts the same storage.
    async fn sides(&self, kept: &Kept, at: &ClusterName) -> Vec<Side<'_>> {
        let Some((storage, file)) = kept.volid.split_once(':') else { return Vec::new() };
        let mut sides = Vec::new();
        let Some(site) = self.site(at.as_str()) else { return sides };
        let definitions = site.client.storage_index().await.unwrap_or_default();
        let home = definitions.into_iter().find(|one| one.storage == storage);
        sides.extend(site.side(storage.to_owned(), file, kept.vmid()).await);
        let Some(home) = home.filter(|one| backing(one).is_some()) else { return sides };
        for other in self.sites().filter(|other| other.name != *at) {
            let definitions = other.client.storage_index().await.unwrap_or_default();
            let same = |one: &&StorageDefinition| backing(one) == backing(&home);
            for one in definitions.iter().filter(same) {
                sides.extend(other.side(one.storage.clone(), file, kept.vmid()).await);
            }
        }
        sides
    }

    /// Removes a retired copy, after proving that it is the one that was written down. One that is gone, or whose place is another's by
    /// now, is removed; a note where a token that doesn't see every guest can't tell.
    ///
    /// # Errors
    /// Why it stays.
    pub(crate) async fn remove_copy(
        &self,
        copy: &Copy,
        uuid: &str,
        deadline: Instant,
        what: &str,
    ) -> Result<Option<Failure>, Failure> {
        let site = self.need(copy.cluster.as_str(), what)?.clone();
        let overview = site.fresh().await.map_err(|error| crate::create::dark(what, &site.name, error))?;
        let Some(node) = overview.guest(copy.vmid).and_then(|guest| guest.node.clone()) else {
            // Removed by hand, or out of sight for this token: in neither case is there anything to do for us.
            let unseen = Failure::new(format!("Retired copy {}/{} is not seen any more", copy.cluster, copy.vmid))
                .at("it was removed, or left the pools that the token sees; it is forgotten")
                .next("see whether it is there with a token that has VM.Audit on /vms");
            return Ok((!site.sees_all().await).then_some(unseen));
        };
        let place = Place { cluster: copy.cluster.clone(), node: node.clone(), vmid: copy.vmid };
        let guest = match site.guest_now(&node, copy.vmid).await {
            Ok(guest) => guest,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(Failure::new(what).at(place.to_string()).said(error).next("apply again")),
        };
        match copy.is(&guest, uuid) {
            Standing::Another => return Ok(None),
            Standing::Locked => {
                let id = copy.vmid;
                return Err(Failure::new(format!("A source that Proxmox VE locked stays: {}/{id}", copy.cluster))
                    .at(format!("{place}: no token can remove it"))
                    .next(format!("on {node}: qm unlock {id} && qm set {id} --protection 0 && qm destroy {id}")));
            }
            Standing::Changed if guest.config.template() => {
                return Err(Failure::new(format!("A retired copy stays: {}/{}", copy.cluster, copy.vmid))
                    .at(format!("{place}: its notes were saved over, so that nothing proves what it is"))
                    .next("see what it is; while it is a template nobody can start it"));
            }
            Standing::Changed => {
                // Whoever took the fence off may have run it: nobody is told to remove it.
                return Err(Failure::new(format!(
                    "A retired copy is not as it was left, and stays: {}/{}",
                    copy.cluster, copy.vmid
                ))
                .at(format!("{place}: somebody took its fence or lock off, and it can be started"))
                .next("keep it stopped, and see whether it ran since: what it wrote then is nowhere else"));
            }
            Standing::Fenced => {}
        }
        remove_fenced(&site, &place, self, deadline, what).await?;
        site.changed().await;
        Ok(None)
    }
}

/// What stands at the place of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The copy, fenced by us: nobody ran it since.
    Fenced,
    /// The copy, locked by Proxmox VE for good.
    Locked,
    /// The copy, without fence and lock.
    Changed,
    /// Something else: another guest, the machine itself, or what a later move left there.
    Another,
}

impl Copy {
    /// What a guest at this copy's place is. `uuid`: the machine's.
    pub(crate) fn is(&self, guest: &Guest, uuid: &str) -> Standing {
        let mark = &guest.mark;
        let op = mark.retired.as_ref().map(|retired| &retired.op).or(mark.op.as_ref());
        let other_op = self.op.as_ref().zip(op).is_some_and(|(ours, theirs)| ours != theirs);
        // A machine that lives there names no operation.
        let lives = op.is_none() && guest.mark.from.is_some();
        if !guest.uuid.eq_ignore_ascii_case(uuid) || other_op || lives {
            return Standing::Another;
        }
        if guest.is_retired() && guest.config.template() && !guest.running {
            return Standing::Fenced;
        }
        if guest.is_left_behind() && !guest.config.template() { Standing::Locked } else { Standing::Changed }
    }
}

impl Site {
    /// The side of this cluster: on the node that has the machine of the archive's VMID, else on any that answers.
    async fn side(&self, storage: String, file: &str, vmid: Option<u32>) -> Option<Side<'_>> {
        let overview = self.glance().await.ok()?;
        let owner = vmid.and_then(|vmid| overview.guest(vmid)?.node.clone());
        let node = owner.or_else(|| overview.online_nodes().next().map(str::to_owned))?;
        Some(Side { site: self, node, volid: format!("{storage}:{file}") })
    }
}

impl Side<'_> {
    fn storage(&self) -> &str {
        self.volid.split_once(':').map_or("", |(storage, _)| storage)
    }

    async fn looked(&self, vmid: Option<u32>) -> proxmox::Result<Seen> {
        let all = self.site.client.storage_content(&self.node, self.storage(), Some("backup"), vmid).await?;
        if all.iter().any(|volume| volume.volid == self.volid) {
            return Ok(Seen::Listed);
        }
        // Without a right the list is merely shorter (`proxmox-ve.md` §18.25).
        let sees_all = self.may(&format!("/storage/{}", self.storage()), "Datastore.Allocate").await;
        Ok(if sees_all || self.may_remove(vmid).await { Seen::Absent } else { Seen::Unseen })
    }

    /// Whether the token may remove it: Datastore.AllocateSpace on the storage, and VM.Backup on a machine of its VMID.
    async fn may_remove(&self, vmid: Option<u32>) -> bool {
        let Some(vmid) = vmid else { return true };
        self.may(&format!("/storage/{}", self.storage()), "Datastore.AllocateSpace").await
            && self.may(&format!("/vms/{vmid}"), "VM.Backup").await
    }

    async fn may(&self, path: &str, privilege: &str) -> bool {
        let Some(all) = self.site.permissions().await else { return true };
        // Those on a machine come and go with it.
        let now = self.site.client.permissions(Some(path)).await;
        match now {
            Ok(now) => now.has(path, privilege),
            Err(_) => held(self.site, all, &[path.to_owned()], privilege).await,
        }
    }

    fn lacks(&self, vmid: Option<u32>) -> String {
        let path = vmid.map_or_else(|| "/vms".to_owned(), |vmid| format!("/vms/{vmid}"));
        format!(
            "cluster {}: the token lacks VM.Backup on {path}, which came with a machine of that VMID, or \
             Datastore.AllocateSpace on /storage/{}",
            self.site.name,
            self.storage()
        )
    }

    /// What root types.
    fn by_hand(&self) -> String {
        let (node, storage, volid) = (&self.node, self.storage(), &self.volid);
        format!(
            "on {node}: pvesh set /nodes/{node}/storage/{storage}/content/{volid} --protected 0 && pvesm free {volid}"
        )
    }
}

#[cfg(test)]
mod tests {
    use proxmox::VmConfig;

    use super::*;
    use crate::notes::{Mark, Origin, Retired};

    #[test]
    fn the_vmid_of_an_archive_is_in_its_name() {
        let vmid = |volid: &str| Kept { volid: volid.into(), until: 0, cluster: None }.vmid();
        assert_eq!(vmid("transfer:backup/vzdump-qemu-104-2026_01_02-03_04_05.vma.zst"), Some(104));
        assert_eq!(vmid("pbs:backup/vm/105/2026-01-02T02:04:05Z"), Some(105));
        assert_eq!((vmid("transfer:iso/x.iso"), vmid("nothing")), (None, None));
    }

    #[test]
    fn a_copy_is_compared_by_more_than_its_place() {
        let cluster: ClusterName = "a".parse().expect("a name");
        let place = Place { cluster: cluster.clone(), node: "n1".into(), vmid: 100 };
        let copy = |op: Option<&str>| Copy {
            cluster: cluster.clone(),
            vmid: 100,
            until: 0,
            returned: false,
            op: op.map(str::to_owned),
        };
        let guest = |template: &str, running: bool, mark: Mark| {
            let pairs = [("smbios1", "uuid=u-1"), ("template", template)];
            let archived = Guest::archived(place.clone(), VmConfig::from_pairs(pairs));
            Guest { mark, running, uuid: "u-1".into(), ..archived }
        };
        let retired = |op: &str| Mark {
            retired: Some(Retired { op: op.into(), to: cluster.clone(), until: 0, at: None }),
            ..Mark::default()
        };
        let fenced = guest("1", false, retired("op1"));
        for known in [copy(Some("op1")), copy(None)] {
            assert_eq!(known.is(&fenced, "U-1"), Standing::Fenced);
        }
        assert_eq!(copy(Some("op1")).is(&fenced, "u-2"), Standing::Another, "another machine");
        assert_eq!(copy(Some("op2")).is(&fenced, "u-1"), Standing::Another, "what a later move left");
        let lives = Mark { from: Some(Origin { cluster: cluster.clone(), vmid: 7 }), ..Mark::default() };
        assert_eq!(copy(Some("op1")).is(&guest("0", true, lives.clone()), "u-1"), Standing::Another);
        assert_eq!(copy(None).is(&guest("0", true, lives), "u-1"), Standing::Another, "the machine itself");
        let unfenced = guest("0", false, retired("op1"));
        assert_eq!(copy(Some("op1")).is(&unfenced, "u-1"), Standing::Changed);
        assert_eq!(copy(None).is(&guest("1", false, Mark::default()), "u-1"), Standing::Changed, "its notes are gone");
    }
}
