//! What people with a shell do: rights given and taken, a daemon that hangs.

use super::ClusterHandle;
use crate::Result;

impl ClusterHandle {
    /// Grants a role on a path.
    ///
    /// # Errors
    /// For a role that PVE doesn't have.
    pub fn grant(&self, subject: &str, path: &str, role: &str) -> Result<()> {
        let mut st = self.lock();
        let c = st.cluster_mut(&self.name);
        let spec = crate::world::AclSpec {
            path: path.to_owned(),
            role: Some(role.to_owned()),
            privileges: Vec::new(),
            propagate: true,
        };
        c.access.grant(subject, &spec, c.profile)
    }

    /// Whether anybody has rights of their own on a path, not counting what comes down to it.
    pub fn has_rights_on(&self, path: &str) -> bool {
        self.lock().cluster(&self.name).access.acl.iter().any(|rule| rule.path == path)
    }

    /// Takes all rights on a path from a subject.
    pub fn revoke(&self, subject: &str, path: &str) {
        self.lock()
            .cluster_mut(&self.name)
            .access
            .acl
            .retain(|rule| (rule.subject.as_str(), rule.path.as_str()) != (subject, path));
    }

    /// A guest switches itself off, as from inside.
    pub fn guest_off(&self, vmid: u32) {
        self.lock().power_off(&self.name, vmid);
    }

    /// Whether a node's pvestatd tells nobody anything any more (a storage that hangs is enough): what the cluster knows of its guests
    /// grows old, and after five minutes is gone (proxmox-ve.md §18.17). The node answers as before.
    pub fn set_silent(&self, node: &str, silent: bool) {
        let mut st = self.lock();
        let now = st.now();
        if let Some(node) = st.cluster_mut(&self.name).nodes.get_mut(node) {
            node.silent_since = silent.then_some(now);
        }
    }
}
