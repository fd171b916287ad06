//! A cluster's own record, in the comment of its empty pool `moxxie`: found, written, and taken away. Nothing else of a cluster
//! is changed, but options of the datacenter that were asked for.
use std::collections::{BTreeMap, BTreeSet};

use federation::ClusterName;
use federation::block::{self, Envelope};
use federation::model::{Cluster, ClusterSight, Datacenter, Enrolment, Record, Sight};

use super::datacenter::Turn;
use super::untouched;
use super::write::Revision;
use crate::failure::{Failure, Object, Remedy};
use crate::fleet::Fleet;
use crate::journal::{Holder, OPERATIONS};
use crate::site::{ENROLMENT, Overview, Site, TAKEN_OUT};

/// What a cluster's record says.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRecord {
    /// Its facts.
    pub facts: Cluster,
    /// Options of the datacenter that were taken over.
    pub datacenter: Datacenter,
    /// Which record it is. Its `id` is the cluster's identity.
    pub revision: Revision,
}

/// What can be said of a cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterFound {
    /// It is enrolled.
    Recorded(Box<ClusterRecord>),
    /// It is not enrolled: it has no pool `moxxie`.
    Absent,
    /// Its pool `moxxie` has no record.
    Lost,
    /// Its record can't be trusted; why.
    Damaged(String),
    /// Nothing can be said; why.
    Unsure(String),
}

/// A cluster that was enrolled or changed.
#[derive(Debug)]
pub struct ClusterWritten {
    /// The record it has now.
    pub revision: Revision,
    /// Options of the datacenter that are taken over now.
    pub datacenter: Datacenter,
    /// What went less than well.
    pub warnings: Vec<Failure>,
}

/// What stands for the pool of a cluster's record in the notes of a working folder.
fn noted(name: &ClusterName) -> String {
    format!("moxxie of {name}")
}

impl Fleet {
    /// Finds a cluster's record. `known`: the one it had when it was looked at last.
    ///
    /// # Errors
    /// A cluster that is another one than it was, that has two names, or whose record contradicts the known one.
    pub async fn find_cluster(&self, name: &ClusterName, known: Option<&Revision>) -> Result<ClusterFound, Failure> {
        let what = format!("Unable to read the record of cluster {name}");
        let Some(site) = self.site(name.as_str()) else {
            return Ok(ClusterFound::Unsure("it has no connection in this configuration".into()));
        };
        let overview = match site.glance().await {
            Ok(overview) => overview,
            Err(error) => return Ok(ClusterFound::Unsure(error.to_string())),
        };
        self.is_itself(&what, site, known).await?;
        Ok(match self.seen(&what, site, &overview).await? {
            Sight::Record(record) => {
                if let Some(known) = known {
                    same_revision(&what, name, known, &record)?;
                }
                self.births().forget_record(&noted(name), &record.sum);
                ClusterFound::Recorded(Box::new(ClusterRecord {
                    revision: Revision::of(&record),
                    facts: record.body.facts,
                    datacenter: record.body.datacenter,
                }))
            }
            Sight::Plain => ClusterFound::Lost,
            Sight::Damaged(why) => ClusterFound::Damaged(why),
            Sight::Absent => ClusterFound::Absent,
            Sight::NoRight(right) => ClusterFound::Unsure(format!("the token lacks {right}")),
        })
    }

    /// How a cluster is enrolled, in words; `None` where it isn't, or can't be seen.
    pub async fn enrolled_as(&self, name: &ClusterName) -> Option<String> {
        let overview = self.site(name.as_str())?.glance().await.ok()?;
        match &overview.enrolment {
            Sight::Record(record) => Some(format!("revision {} by {}", record.rev, record.by)),
            Sight::Damaged(why) => Some(format!("a damaged record: {why}")),
            _ => None,
        }
    }

    /// Options of the datacenter as they are now, by Proxmox VE's names; `None` where the token may not see them.
    pub async fn datacenter_options(&self, name: &ClusterName) -> Option<BTreeMap<String, String>> {
        self.site(name.as_str())?.datacenter("").await.ok()
    }

    /// The cluster that is not connected under this name alone, or is another one than it was.
    async fn is_itself(&self, what: &str, site: &Site, known: Option<&Revision>) -> Result<(), Failure> {
        let Ok(is) = site.who().await else { return Ok(()) };
        if let Some(known) = known.filter(|known| !known.id.is_empty() && known.id != is) {
            return Err(untouched(
                what,
                format!(
                    "cluster {} is not the one that was enrolled: its CA has the fingerprint {is}, and had {}",
                    site.name, known.id
                ),
            )
            .next("if it was installed anew, forget the old one and enrol it again; else mend its `endpoints`")
            .remedy(Remedy::Forget(Object::Cluster)));
        }
        for other in self.sites().filter(|other| other.name != site.name) {
            // One that doesn't answer is not asked a second time.
            if other.glance().await.is_ok() && other.who().await.is_ok_and(|twin| twin == is) {
                return Err(untouched(
                    what,
                    format!("{} and {} are one cluster: its CA has the fingerprint {is}", site.name, other.name),
                )
                .next("keep one of the two names in `clusters` of the provider block; a cluster's name is for life"));
            }
        }
        Ok(())
    }

    /// What the cluster's pool `moxxie` shows.
    ///
    /// # Errors
    /// A record that is not one of this cluster under this name.
    async fn seen(&self, what: &str, site: &Site, overview: &Overview) -> Result<Sight<Enrolment>, Failure> {
        let shown = ClusterSight { sight: site.enrolment(overview).await, identity: site.who().await.ok() };
        match shown.mistaken(&site.name) {
            Some(why) => Err(untouched(what, format!("cluster {}: {why}", site.name))
                .next("mend `clusters` of the provider block, or remove the record there by hand")),
            None => Ok(shown.sight),
        }
    }

    /// Enrols a cluster: writes its record, then sets the datacenter options that are taken over.
    ///
    /// # Errors
    /// A cluster that is enrolled, with the import line; a missing right by name, before anything is touched; what Proxmox VE
    /// said. Nothing is there then, unless the error says so.
    pub async fn create_cluster(
        &self,
        name: &ClusterName,
        facts: &Cluster,
        options: &BTreeMap<String, String>,
    ) -> Result<ClusterWritten, Failure> {
        let what = format!("Unable to enrol cluster {name}");
        let site = self.need(name.as_str(), &what)?;
        let overview = self.fresh(&what, site).await?;
        self.is_itself(&what, site, None).await?;
        let mut revision = Revision { rev: 1, by: Holder::me().run, ..Revision::default() };
        let mut held = Datacenter::default();
        match self.seen(&what, site, &overview).await? {
            // Written by a create of this folder that was killed before state had it.
            Sight::Record(record) if self.births().record_of(&noted(name)).as_ref() == Some(&record.sum) => {
                revision.rev = record.rev + 1;
                held = record.body.datacenter;
            }
            Sight::Record(record) => {
                return Err(exists(&what, name, format!("revision {} by {}", record.rev, record.by)));
            }
            Sight::Damaged(why) => return Err(exists(&what, name, format!("its record is damaged: {why}"))),
            _ => {}
        }
        self.write_cluster(&what, site, revision, facts, &held, options).await
    }

    /// Changes a cluster's record, and the datacenter options that are taken over. `known`: the record that the plan was made
    /// from, `held`: its options, where the record is lost.
    ///
    /// # Errors
    /// A newer record of somebody else; a missing right by name, before anything is touched; what Proxmox VE said.
    pub async fn update_cluster(
        &self,
        name: &ClusterName,
        facts: &Cluster,
        options: &BTreeMap<String, String>,
        known: Option<&Revision>,
        held: &Datacenter,
    ) -> Result<ClusterWritten, Failure> {
        let what = format!("Unable to change cluster {name}");
        let site = self.need(name.as_str(), &what)?;
        let overview = self.fresh(&what, site).await?;
        self.is_itself(&what, site, known).await?;
        let mut held = held.clone();
        let mut rev = known.map_or(0, |known| known.rev);
        if let Sight::Record(record) = self.seen(&what, site, &overview).await? {
            current(&what, name, known, &record)?;
            rev = rev.max(record.rev);
            held = record.body.datacenter;
        }
        let revision = Revision { rev: rev + 1, by: Holder::me().run, ..Revision::default() };
        self.write_cluster(&what, site, revision, facts, &held, options).await
    }

    async fn fresh(&self, what: &str, site: &Site) -> Result<std::sync::Arc<Overview>, Failure> {
        site.fresh().await.map_err(|error| {
            untouched(what, format!("cluster {} doesn't answer", site.name))
                .said(error)
                .next("apply again when it does")
        })
    }

    async fn write_cluster(
        &self,
        what: &str,
        site: &Site,
        mut revision: Revision,
        facts: &Cluster,
        held: &Datacenter,
        options: &BTreeMap<String, String>,
    ) -> Result<ClusterWritten, Failure> {
        for right in ["Pool.Allocate", "Pool.Audit"] {
            site.need_right(what, "/pool/moxxie", right).await?;
        }
        revision.id = site.who().await.map_err(|error| {
            untouched(what, format!("cluster {} doesn't say who it is", site.name))
                .said(error)
                .next("apply again when it does")
        })?;
        let mut turn = Turn::default();
        if !options.is_empty() || !held.is_empty() {
            turn = Turn::new(&site.datacenter(what).await?, held, options);
            if !turn.is_nothing() {
                site.need_right(what, "/", "Sys.Modify").await?;
            }
        }
        site.release(what, &turn).await?;
        let envelope = Envelope {
            id: revision.id.clone(),
            rev: revision.rev,
            by: revision.by.clone(),
            at: u64::try_from(site.now()).unwrap_or_default(),
            body: Enrolment { name: site.name.clone(), facts: facts.clone(), datacenter: turn.held.clone() },
        };
        let value = envelope.to_value().map_err(|error| untouched(what, error.to_string()))?;
        let comment = |before: Option<&str>| block::write(&words_of_people(before.unwrap_or_default()), &value);
        if let Ok(Ok(block)) = comment(None).map(|text| block::read(&text))
            && let Err(error) = self.births().note_record(&noted(&site.name), &block.checksum)
        {
            tracing::warn!(cluster = %site.name, %error, "the working folder takes no note of what is written");
        }
        let too_big = "shorten it: fewer networks, storage classes or paths, or shorter texts";
        revision.sum = site.write_block(ENROLMENT, what, too_big, &comment).await?;
        let mut warnings = left(site, &turn);
        // The record holds: what fails from here on shows as a difference in the next plan.
        warnings.extend(site.take(what, &turn).await.err());
        self.put_together_again().await;
        Ok(ClusterWritten { revision, datacenter: turn.held, warnings })
    }

    /// Guests on a cluster, of any kind, as far as the token sees; `None` where it doesn't answer.
    pub async fn guests_on(&self, name: &ClusterName) -> Option<usize> {
        Some(self.site(name.as_str())?.glance().await.ok()?.guests().count())
    }

    /// Takes a cluster out of the federation: puts the datacenter options back and removes the record. Answers with warnings.
    ///
    /// # Errors
    /// What holds it, by name; no connection; a missing right by name, before anything is touched; what Proxmox VE said.
    pub async fn delete_cluster(
        &self,
        name: &ClusterName,
        known: Option<&Revision>,
        held: &Datacenter,
    ) -> Result<Vec<Failure>, Failure> {
        let what = format!("Unable to take cluster {name} out of the federation");
        let Some(site) = self.site(name.as_str()) else {
            return Err(untouched(&what, format!("cluster {name} has no connection in this configuration"))
                .next(
                    "delete in two steps: first the cluster, then its entry in `clusters` of the provider block; one that \
                     is gone for good is forgotten",
                )
                .remedy(Remedy::Forget(Object::Cluster)));
        };
        let overview = self.fresh(&what, site).await?;
        let is = site.who().await.ok();
        if let Some(known) = known.filter(|known| !known.id.is_empty() && is.as_ref().is_some_and(|is| *is != known.id))
        {
            let another = format!(
                "it is another cluster than the one that was enrolled: its CA has the fingerprint {}, and had {}",
                is.unwrap_or_default(),
                known.id
            );
            return Ok(vec![
                Failure::new(format!("Cluster {name} was left as it is"))
                    .at(another)
                    .state("nothing was touched there; it is gone from state"),
            ]);
        }
        let mut held = held.clone();
        let mut warnings = Vec::new();
        match self.seen(&what, site, &overview).await {
            Ok(Sight::Record(record)) => {
                current(&what, name, known, &record)?;
                held = record.body.datacenter;
            }
            Ok(Sight::NoRight(right)) => {
                return Err(
                    untouched(&what, format!("cluster {name}: the token lacks {right}")).next("give it that right")
                );
            }
            Ok(_) => {}
            Err(failure) => return Err(failure),
        }
        let inside = self.holds(&what, site, &overview).await?;
        if !inside.is_empty() {
            return Err(untouched(&what, format!("it is in use: {}", inside.join(", ")))
                .next(
                    "drain it first (draining = true), and take it out of the pools' `clusters`. A machine that no state \
                     knows any more stops holding it when the last line of its notes (<!-- moxxie … -->) is taken out",
                )
                .remedy(Remedy::Refer(Object::Cluster)));
        }
        site.need_right(&what, "/pool/moxxie", "Pool.Allocate").await?;
        if !held.is_empty() {
            let turn = Turn::new(&site.datacenter(&what).await?, &held, &BTreeMap::new());
            if !turn.is_nothing() {
                site.need_right(&what, "/", "Sys.Modify").await?;
            }
            site.release(&what, &turn).await?;
            warnings.extend(left(site, &turn));
        }
        let kept = site.drop_enrolment().await.map_err(|error| {
            Failure::new(&what)
                .at(format!("cluster {name}, pool {ENROLMENT}"))
                .said(error)
                .state("it is enrolled; options of the datacenter that were taken over are as they were before")
                .next("apply again")
        })?;
        warnings.extend(kept_pools(name, &kept));
        self.put_together_again().await;
        Ok(warnings)
    }
}

/// Says which pools stay, and how whoever wants them gone removes them.
fn kept_pools(name: &ClusterName, pools: &[&str]) -> Option<Failure> {
    let (first, _) = pools.split_first()?;
    let commands: Vec<String> = pools.iter().map(|pool| format!("pveum pool delete {pool}")).collect();
    let what =
        if pools.len() == 1 { format!("Pool {first} stays") } else { format!("Pools {} stay", pools.join(" and ")) };
    let they = if pools.len() == 1 { "It is" } else { "They are" };
    Some(
        Failure::new(format!("{what} on {name}"))
            .at(format!(
                "{they} empty. Proxmox VE removes the rights that everybody has on a pool together with the pool"
            ))
            .next(format!("where nobody needs them any more, as root on a node of {name}: {}", commands.join("; "))),
    )
}

/// A comment without what we put there when the cluster was taken out.
fn words_of_people(comment: &str) -> String {
    match comment.contains(TAKEN_OUT) {
        true => comment.replace(TAKEN_OUT, "").trim().to_owned(),
        false => comment.to_owned(),
    }
}

/// Options that stay as somebody else has made them.
fn left(site: &Site, turn: &Turn) -> Vec<Failure> {
    if turn.left.is_empty() {
        return Vec::new();
    }
    vec![
        Failure::new(format!("Datacenter options of {} are not put back", site.name))
            .at(format!("somebody else has changed them since: {}", turn.left.join(", "))),
    ]
}

/// A create takes over nothing: what exists is imported (hazards.md E7).
fn exists(what: &str, name: &ClusterName, how: String) -> Failure {
    untouched(what, format!("cluster {name} is enrolled already ({how})"))
        .next("import it")
        .remedy(Remedy::Import(Object::Cluster, name.to_string()))
}

/// Two records of one revision that differ: both writers believe theirs holds.
fn same_revision<T>(what: &str, name: &ClusterName, known: &Revision, found: &Record<T>) -> Result<(), Failure> {
    if known.rev != found.rev || known.sum == found.sum {
        return Ok(());
    }
    Err(untouched(
        what,
        format!(
            "revision {} of the record of {name} was {} and is {} (by {}): two were written at once",
            known.rev, known.sum, found.sum, found.by
        ),
    )
    .next("see which of the two is right; then take the cluster in again and apply, which writes a newer revision")
    .remedy(Remedy::TakeInAgain(Object::Cluster, name.to_string())))
}

/// The plan was made from the record that is there.
fn current<T>(what: &str, name: &ClusterName, known: Option<&Revision>, found: &Record<T>) -> Result<(), Failure> {
    let Some(known) = known else { return Ok(()) };
    same_revision(what, name, known, found)?;
    if known.rev == found.rev {
        return Ok(());
    }
    let changed = format!("{} wrote revision {} of it, the plan was made from {}", found.by, found.rev, known.rev);
    Err(Failure::stale(what, changed))
}

impl Site {
    /// What is seen of the cluster's own record; where nothing is, whether the token would see it.
    pub(crate) async fn enrolment(&self, overview: &Overview) -> Sight<Enrolment> {
        match &overview.enrolment {
            Sight::Absent if !self.may_see(ENROLMENT).await => {
                Sight::NoRight(format!("Pool.Audit on /pool/{ENROLMENT} of {}", self.name))
            }
            sight => sight.clone(),
        }
    }

    /// A right without which nothing is touched. A cluster that doesn't say what the token may do is asked by doing.
    ///
    /// # Errors
    /// The token lacks it, by privilege and path.
    pub(crate) async fn need_right(&self, what: &str, path: &str, privilege: &str) -> Result<(), Failure> {
        if self.permissions().await.is_none_or(|all| all.has(path, privilege)) {
            return Ok(());
        }
        Err(untouched(what, format!("cluster {}: the token lacks {privilege} on {path}", self.name))
            .next(format!("give the token a role with {privilege} on {path} there")))
    }

    /// Takes the record away and leaves the pools: Proxmox VE drops everybody's rights on a pool's path with it, and who makes it again
    /// doesn't bring them back (`proxmox-ve.md` §18.3). Answers with the pools that stay.
    async fn drop_enrolment(&self) -> proxmox::Result<Vec<&'static str>> {
        let one_at_a_time = self.document(ENROLMENT).await;
        let _only_writer = one_at_a_time.lock().await;
        let there: BTreeSet<String> = self.client.pools().await?.into_iter().map(|pool| pool.poolid).collect();
        if let Some(pool) = self.client.pool(ENROLMENT).await? {
            let rest = words_of_people(&block::remove(pool.comment.as_deref().unwrap_or_default()));
            self.client.update_pool(ENROLMENT, format!("{} {TAKEN_OUT}", rest.trim()).trim()).await?;
            self.changed().await;
        }
        Ok([ENROLMENT, OPERATIONS].into_iter().filter(|pool| there.contains(*pool)).collect())
    }
}
