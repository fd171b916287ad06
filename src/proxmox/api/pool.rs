//! Owns the calls about resource pools. All use the calls without the pool in the path: only those know nested pools.

use serde::Deserialize;

use crate::{Client, Params, Result, de};

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Its name, `a/b` for a nested one.
    pub poolid: String,
    /// Its comment.
    #[serde(deserialize_with = "de::opt_text")]
    pub comment: Option<String>,
    /// What is in it; only when asked for by name.
    pub members: Vec<PoolMember>,
}

/// A guest or storage in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PoolMember {
    /// `qemu/100`, `storage/pve1/nfs`.
    pub id: String,
    /// `qemu`, `lxc` or `storage`.
    #[serde(rename = "type", deserialize_with = "de::text")]
    pub kind: String,
    /// The guest.
    #[serde(deserialize_with = "de::opt_vmid")]
    pub vmid: Option<u32>,
    /// The node.
    #[serde(deserialize_with = "de::opt_text")]
    pub node: Option<String>,
    /// The guest's name.
    #[serde(deserialize_with = "de::opt_text")]
    pub name: Option<String>,
    /// The guest's status, up to 10 s old.
    #[serde(deserialize_with = "de::opt_text")]
    pub status: Option<String>,
    /// The storage.
    #[serde(deserialize_with = "de::opt_text")]
    pub storage: Option<String>,
}

const POOLS: &str = "/pools";

impl Client {
    /// The pools we may see (Pool.Audit or Pool.Allocate on `/pool/POOL`), with comments and without members.
    ///
    /// # Errors
    /// None of its own.
    pub async fn pools(&self) -> Result<Vec<Pool>> {
        self.get(POOLS, Params::new()).await
    }

    /// One pool with comment and members; None if it does not exist. Right: Pool.Audit on `/pool/POOL`.
    ///
    /// # Errors
    /// 403 without the right, which is not absence.
    pub async fn pool(&self, poolid: &str) -> Result<Option<Pool>> {
        match self.get::<Vec<Pool>>(POOLS, Params::new().set("poolid", poolid)).await {
            Ok(pools) => Ok(pools.into_iter().find(|pool| pool.poolid == poolid)),
            Err(error) if matches!(error.missing(), Some(crate::Missing::Pool(_))) && !error.is_permission_denied() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a pool, atomically: of several at once, one succeeds. The parent of `a/b` must exist. Right:
    /// Pool.Allocate on `/pool/POOL`.
    ///
    /// # Errors
    /// [`crate::Error::is_already_exists`]; [`crate::Error::is_no_quorum`].
    pub async fn create_pool(&self, poolid: &str, comment: Option<&str>) -> Result<()> {
        self.post(POOLS, Params::new().set("poolid", poolid).opt("comment", comment)).await.map(|_| ())
    }

    /// Replaces a pool's comment; there is no digest, so read it back. Right: Pool.Allocate on `/pool/POOL`.
    ///
    /// # Errors
    /// [`crate::Missing::Pool`].
    pub async fn update_pool(&self, poolid: &str, comment: &str) -> Result<()> {
        self.put(POOLS, Params::new().set("poolid", poolid).set("comment", comment)).await.map(|_| ())
    }

    /// Puts guests into a pool; `allow_move` takes them out of another. A vmid that doesn't exist is accepted
    /// (`proxmox-ve.md` §17.c14). Rights: Pool.Allocate on `/pool/POOL`, VM.Allocate or Permissions.Modify on each.
    ///
    /// # Errors
    /// 500 for a guest that is in this or another pool.
    pub async fn add_pool_members(&self, poolid: &str, vmids: &[u32], allow_move: bool) -> Result<()> {
        let params = Params::new().set("poolid", poolid).list("vms", vmids);
        let params = if allow_move { params.flag("allow-move", true) } else { params };
        self.put(POOLS, params).await.map(|_| ())
    }

    /// Takes guests out of a pool. Rights as [`Client::add_pool_members`].
    ///
    /// # Errors
    /// 500 for a guest that is not in it.
    pub async fn remove_pool_members(&self, poolid: &str, vmids: &[u32]) -> Result<()> {
        let params = Params::new().set("poolid", poolid).list("vms", vmids).flag("delete", true);
        self.put(POOLS, params).await.map(|_| ())
    }

    /// Removes an empty pool. Right: Pool.Allocate on `/pool/POOL`.
    ///
    /// # Errors
    /// 500 `pool 'x' is not empty (contains …)`; [`crate::Missing::Pool`].
    pub async fn delete_pool(&self, poolid: &str) -> Result<()> {
        self.delete(POOLS, Params::new().set("poolid", poolid)).await.map(|_| ())
    }
}
