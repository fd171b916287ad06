//! What happens to a machine with a past between its moves: days, people, and strangers.
use std::time::Duration;

use protocol::Diagnostics;
use simulator::{GuestSpec, VmSnapshot};

use super::{Past, SITES, texts};

impl Past {
    /// Something that happens to machines with a past.
    pub(super) fn happens(&mut self) {
        let copies: Vec<VmSnapshot> = self.sim.copies(&self.uuid).into_iter().filter(|vm| !vm.running).collect();
        let locked: Vec<&VmSnapshot> = copies.iter().filter(|vm| vm.lock.is_some()).collect();
        let fenced: Vec<&VmSnapshot> = copies.iter().filter(|vm| vm.template).collect();
        let what = self.random.below(10);
        let told = match (what, locked.first(), fenced.first()) {
            (0 | 1, Some(copy), _) => self.root_removes(copy),
            (2, Some(copy), _) => {
                self.sim.cluster(&copy.cluster).unlock(copy.vmid).expect("qm unlock");
                format!("root unlocks {}/{} and leaves it", copy.cluster, copy.vmid)
            }
            (3, _, Some(copy)) => {
                self.sim.cluster(&copy.cluster).set_config(copy.vmid, "template", None);
                format!("somebody takes the fence off {}/{}", copy.cluster, copy.vmid)
            }
            (4, _, Some(copy)) => {
                self.sim.cluster(&copy.cluster).remove_vm(copy.vmid);
                format!("somebody removes {}/{}", copy.cluster, copy.vmid)
            }
            (5, _, Some(copy)) => {
                self.sim.cluster(&copy.cluster).set_config(copy.vmid, "description", Some("mine"));
                format!("somebody saves over the notes of {}/{}", copy.cluster, copy.vmid)
            }
            (6, ..) => {
                let archive = self.sim.cluster(SITES[0]).archives("transfer").into_iter().next();
                let Some(archive) = archive else { return };
                self.sim.cluster(SITES[0]).remove_archive(&archive.volid);
                format!("somebody removes {}", archive.volid)
            }
            (7, ..) => {
                self.sim.advance(Duration::from_secs(36 * 3600));
                "a day and a half goes by".to_owned()
            }
            (8, ..) => self.a_stranger_comes(),
            _ => return,
        };
        self.told.push(told);
        // What people left is theirs to tidy, one day.
        if copies.len() > 5 {
            for copy in copies
                .iter()
                .filter(|vm| !vm.template || vm.config.get("description").is_some_and(|notes| notes == "mine"))
            {
                let told = self.root_removes(copy);
                self.told.push(told);
            }
        }
    }

    /// Does what a refusal says where a copy was unfenced or unlocked.
    pub(super) fn follow(&mut self, said: &Diagnostics) {
        let said: Vec<String> = texts(said).collect();
        for copy in self.sim.copies(&self.uuid).into_iter().filter(|vm| !vm.running && !vm.template) {
            let advice = format!("on {}: qm set {} --template 1 --protection 1", copy.node, copy.vmid);
            if said.iter().any(|text| text.contains(&advice)) {
                let cluster = self.sim.cluster(&copy.cluster);
                for (key, value) in [("template", "1"), ("protection", "1"), ("description", "mine")] {
                    cluster.set_config(copy.vmid, key, Some(value));
                }
                self.told.push(format!("as advised {}/{} is fenced", copy.cluster, copy.vmid));
            }
        }
    }

    /// `qm unlock` and `qm destroy`, as the message says.
    pub(super) fn root_removes(&self, copy: &VmSnapshot) -> String {
        let cluster = self.sim.cluster(&copy.cluster);
        // Somebody may have removed it a moment ago.
        if cluster.unlock(copy.vmid).is_ok() {
            cluster.remove_vm(copy.vmid);
        }
        format!("root removes {}/{}", copy.cluster, copy.vmid)
    }

    /// Another guest takes its number where it isn't, or leaves again.
    fn a_stranger_comes(&mut self) -> String {
        if let Some((site, vmid)) = self.strangers.pop() {
            self.sim.cluster(SITES[site]).remove_vm(vmid);
            return format!("the stranger {}/{vmid} leaves", SITES[site]);
        }
        let site = 1 - self.at;
        let vmid = u32::try_from(self.state.value.attr("vmid").as_i64().unwrap_or_default()).unwrap_or_default();
        let node = ["ws1", "db1"][site].to_owned();
        let config = [("name".to_owned(), "stranger".to_owned())].into();
        let guest = GuestSpec { vmid, node, config, pool: None, running: false };
        if self.sim.cluster(SITES[site]).create_vm(&guest).is_err() {
            return "a stranger finds its number taken".to_owned();
        }
        self.strangers.push((site, vmid));
        self.sim.advance(Duration::from_secs(15));
        format!("a stranger takes {}/{vmid}", SITES[site])
    }
}
