//! What somebody does by hand in the GUI or on a node.

use crate::inspect::ClusterHandle;
use crate::{Result, SimulatorError};

impl ClusterHandle {
    /// What somebody does who detaches a disk, removes a network device or an unused volume, or takes a setting out in the GUI.
    ///
    /// # Errors
    /// PVE's text.
    pub fn remove_key(&self, vmid: u32, key: &str) -> Result<()> {
        let mut st = self.lock();
        let node = st.cluster(&self.name).vms.get(&vmid).map(|vm| vm.node.clone());
        let Some(node) = node else { return Err(SimulatorError(format!("no VM {vmid}"))) };
        crate::qemu::config::unset(&mut st, &self.name, &node, vmid, key).map_err(|error| SimulatorError(error.message))
    }

    /// Puts a device or a directory mapping on a node: `/dev/disk/by-id/…` for a drive by path, `dir:NAME` for virtiofs.
    pub fn put_device(&self, node: &str, device: &str) {
        if let Some(facts) = self.lock().cluster_mut(&self.name).nodes.get_mut(node) {
            facts.devices.insert(device.to_owned());
        }
    }
}
