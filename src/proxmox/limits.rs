//! Owns how many calls may be under way at once, in this process and per target node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A two-level limit on concurrent calls, shared by all clients of a process (cheap to clone).
///
/// A PVE node answers with three worker processes, each one call at a time, so a few slow calls block everyone
/// (`proxmox-ve.md` §2.5); hence the limit per *target* node beside the one in all.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: Arc<Semaphore>,
    per_node: usize,
    nodes: Mutex<HashMap<(String, String), Arc<Semaphore>>>,
}

/// Held while a call is under way.
#[derive(Debug)]
pub(crate) struct Permit {
    _node: Option<OwnedSemaphorePermit>,
    _total: Option<OwnedSemaphorePermit>,
}

impl Limits {
    /// At most `total` calls in all and `per_node` per node of a cluster; zero is taken as one.
    pub fn new(total: usize, per_node: usize) -> Self {
        Self(Arc::new(Shared {
            total: Arc::new(Semaphore::new(total.clamp(1, Semaphore::MAX_PERMITS))),
            per_node: per_node.clamp(1, Semaphore::MAX_PERMITS),
            nodes: Mutex::default(),
        }))
    }

    /// Waits for a place. The node's place is taken first, so that waiting for a busy node blocks no other node.
    pub(crate) async fn acquire(&self, cluster: &str, node: &str) -> Permit {
        let of_node = {
            let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (cluster.to_owned(), node.to_owned());
            nodes.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.0.per_node))).clone()
        };
        // `acquire_owned` fails only on a closed semaphore, and ours are never closed.
        let node = of_node.acquire_owned().await.ok();
        let total = self.0.total.clone().acquire_owned().await.ok();
        Permit { _node: node, _total: total }
    }
}

impl Default for Limits {
    /// 32 in all, 4 per target node.
    fn default() -> Self {
        Self::new(32, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_node_blocks_only_itself() {
        let limits = Limits::new(3, 2);
        let _a = limits.acquire("c", "n1").await;
        let b = limits.acquire("c", "n1").await;
        let waiting = tokio::spawn({
            let limits = limits.clone();
            async move { limits.acquire("c", "n1").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let _c = limits.acquire("c", "n2").await;
        drop(b);
        waiting.await.unwrap();
    }
}
