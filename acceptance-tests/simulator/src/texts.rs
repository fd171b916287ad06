//! Every text that clusters keep, for looking for what must not be there.

use crate::backup::archive;
use crate::snapshot::each_store;
use crate::{ClusterHandle, Simulator};

impl ClusterHandle {
    /// Every text of this cluster and where it stands: configurations with what is pending in them, comments of pools and HA
    /// resources, options of the datacenter, logs of tasks, notes of archives and the configuration in them.
    pub fn texts(&self) -> Vec<(String, String)> {
        let st = self.lock();
        let c = st.cluster(self.name());
        let mut all = Vec::new();
        for (vmid, vm) in &c.vms {
            all.extend(vm.conf.iter().map(|(key, value)| (format!("vm {vmid} {key}"), value.clone())));
            all.extend(
                vm.pending.iter().map(|(key, value)| (format!("vm {vmid} pending {key}"), format!("{value:?}"))),
            );
        }
        all.extend(c.pools.iter().map(|(name, pool)| (format!("pool {name}"), pool.comment.clone())));
        let comments = c.ha.iter().filter_map(|(sid, ha)| Some((format!("HA resource {sid}"), ha.comment.clone()?)));
        all.extend(comments);
        all.extend(c.options.iter().map(|(name, value)| (format!("option {name}"), value.to_string())));
        all.extend(c.tasks.iter().map(|task| (format!("log of {}", task.upid), task.log.join("\n"))));
        each_store(&st, self.name(), |storage, _, _, key| {
            for (file, archived) in st.stores.get(key).into_iter().flat_map(|store| &store.archives) {
                all.push((format!("notes of {storage}:{file}"), archived.notes.clone()));
                let held = archive::read(&archived.file).map(|(header, _)| header.conf.clone());
                all.extend(held.ok().map(|conf| (format!("configuration in {storage}:{file}"), conf)));
            }
        });
        all
    }
}

impl Simulator {
    /// The same of the whole federation, and paths and parameters of all requests but those that carry a secret by their name.
    pub fn texts(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for cluster in self.clusters() {
            all.extend(cluster.texts().into_iter().map(|(place, text)| (format!("{}, {place}", cluster.name()), text)));
        }
        for call in self.requests() {
            all.push((
                format!("{} {} {}", call.cluster, call.method, call.path),
                format!("{} {:?}", call.path, call.params),
            ));
        }
        all
    }
}
