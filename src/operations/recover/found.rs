//! Owns finding a machine that a recovery has to do with: where it was brought, or is being brought, whatever its old cluster says.
use federation::ClusterName;

use crate::fleet::Fleet;
use crate::guest::{Answer, Guest, Record, locked_for_good};
use crate::identity::{Found, looks_like};
use crate::journal::{Journal, Kind, move_pool};

impl Fleet {
    /// What is under way with a recorded machine off its cluster, as another one tells: a recovery, or, where its own cluster doesn't
    /// answer, a move. As the process found it when it first looked: it is read again before anything is done about it.
    pub(crate) async fn open_elsewhere(&self, record: &Record) -> Option<Journal> {
        let pool = move_pool(&record.uuid);
        let open = self.open.get_or_init(|| self.all_open()).await;
        let open = open.iter().find(|(at, name, journal)| {
            *name == pool
                && *at != record.cluster
                && journal.from.as_ref().is_some_and(|from| from.cluster == record.cluster)
        });
        open.map(|(_, _, journal)| journal.clone())
    }

    /// Every open recovery and move: cluster that tells, pool, journal. One look at each cluster for all machines of a process.
    async fn all_open(&self) -> Vec<(ClusterName, String, Journal)> {
        let mut open = Vec::new();
        for site in self.sites() {
            let Ok(overview) = site.glance().await else { continue };
            let moves = overview.operations().into_iter().filter(|(_, journal)| journal.kind != Kind::Create);
            open.extend(moves.map(|(pool, journal)| (site.name.clone(), pool.to_owned(), journal)));
        }
        open
    }

    /// Whether all that the other clusters have of a machine are retired copies, and every one of them answered.
    pub(crate) async fn only_copies_are_left(&self, record: &Record) -> bool {
        for site in self.sites().filter(|site| site.name != record.cluster) {
            let overview = match site.glance().await {
                Ok(overview) => overview,
                Err(_) if self.is_lost(&site.name).await => continue,
                Err(_) => return false,
            };
            if !site.sees_all().await {
                return false;
            }
            for candidate in overview.guests().filter(|guest| looks_like(guest, record)) {
                let (Some(vmid), Some(node)) = (candidate.vmid, candidate.node.as_deref()) else { continue };
                match site.ask(vmid, node, &record.uuid, record.running).await {
                    Answer::Is(guest) if guest.is_retired() && guest.config.template() => {}
                    // A source that Proxmox VE locked. What an open move has sent may be the newest there is.
                    Answer::Is(guest)
                        if locked_for_good(&guest.config) && !guest.running && guest.operation.is_none() => {}
                    Answer::Is(_) | Answer::Silent(_) => return false,
                    Answer::IsNot => {}
                }
            }
        }
        true
    }

    /// The machine where a recovery has brought it: state never heard of that, because the run was killed after its last call. Only
    /// asked while its old cluster is declared lost, for it takes a look at every cluster.
    pub(crate) async fn recovered(&self, record: &Record) -> Option<Found> {
        if !self.is_declared_lost(&record.cluster) {
            return None;
        }
        for site in self.sites().filter(|site| site.name != record.cluster) {
            let Ok(overview) = site.glance().await else { continue };
            for candidate in overview.guests().filter(|guest| looks_like(guest, record)) {
                let (Some(vmid), Some(node)) = (candidate.vmid, candidate.node.as_deref()) else { continue };
                match site.ask(vmid, node, &record.uuid, record.running).await {
                    Answer::Is(guest) if is_from(&guest, record) => return Some(Found::Here(guest)),
                    _ => {}
                }
            }
        }
        None
    }
}

/// Whether a guest is what was recovered from where the record has it.
fn is_from(guest: &Guest, record: &Record) -> bool {
    let mut lost = guest.mark.lost.iter();
    lost.any(|lost| (&lost.cluster, lost.vmid) == (&record.cluster, record.vmid)) && !guest.is_retired()
}
