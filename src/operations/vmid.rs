//! Owns the VMID of a new machine where no range is declared: one that is free on every cluster, so that moves keep it.
use std::collections::BTreeSet;

use proxmox::Error;

use crate::fleet::Fleet;
use crate::site::Site;

/// The largest VMID.
const LAST: u32 = 999_999_999;

impl Fleet {
    /// The next VMID that is free on this cluster, and on every other one as far as it answers and shows its guests; nobody
    /// else in this process gets the same.
    ///
    /// # Errors
    /// What this cluster said.
    pub(crate) async fn free_everywhere(&self, site: &Site) -> Result<u32, Error> {
        let first = site.client.next_id(None).await?;
        let mut taken = BTreeSet::new();
        for other in self.sites() {
            // A dark cluster's guests can't be avoided; a move there finds out.
            if let Ok(overview) = other.overview(self.settings().fact_age.into()).await {
                taken.extend(overview.guests().filter_map(|guest| guest.vmid));
                // What others are about to make.
                taken.extend(overview.operations().values().map(|journal| journal.to.vmid));
            }
        }
        let mut vmid = first;
        loop {
            vmid = self.reserve(vmid, &taken);
            // The cluster has the last word: it also knows guests that the token doesn't see.
            if vmid >= LAST || site.client.next_id(Some(vmid)).await.is_ok() {
                return Ok(vmid);
            }
            vmid += 1;
        }
    }
}
