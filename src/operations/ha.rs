//! Owns taking a machine out of HA: whether the token may, and the call. Rules that name the machine are left alone.
use proxmox::Error;

use crate::journal::Place;
use crate::site::Site;

/// What the token needs to change what HA does with a machine, and where (`proxmox-ve.md` §1.4).
const RIGHT: (&str, &str) = ("/", "Sys.Console");

impl Site {
    /// Why the token can't change what HA does with a machine that it manages; `None` where it can.
    pub(crate) async fn lacks_ha(&self) -> Option<String> {
        let (path, privilege) = RIGHT;
        match self.client.permissions(Some(path)).await {
            Ok(held) if held.has(path, privilege) => None,
            Ok(_) => Some(format!("it is managed by HA, and the token lacks {privilege} on {path}")),
            Err(error) => {
                Some(format!("it is managed by HA, and whether the token may change that is not known: {error}"))
            }
        }
    }

    /// Takes a machine out of HA, if it is in it. Proxmox VE removes no guest that HA knows (`proxmox-ve.md` §5).
    ///
    /// # Errors
    /// What Proxmox VE said. A token that can't see resources finds none, and the removal says so.
    pub(crate) async fn leave_ha(&self, vmid: u32) -> Result<bool, Error> {
        if !self.client.ha_resource(vmid).await.is_ok_and(|resource| resource.is_some()) {
            return Ok(false);
        }
        let removed = self.client.delete_ha_resource(vmid, Some(false)).await;
        if removed.as_ref().is_err_and(Error::is_param_invalid) {
            // Before PVE 9 there is no such choice.
            self.client.delete_ha_resource(vmid, None).await?;
        } else {
            removed?;
        }
        Ok(true)
    }
}

/// What mends a missing right to it.
pub(crate) fn without_the_right(place: &Place) -> String {
    format!("grant it; or take the machine out of HA: `ha-manager remove vm:{}` on {}", place.vmid, place.node)
}
