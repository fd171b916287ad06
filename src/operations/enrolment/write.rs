//! Writing a pool's record to every member: read, change our own part, write, read back, try again (hazards.md F18).
use std::collections::{BTreeMap, BTreeSet};

use federation::block::{self, BlockError, Envelope};
use federation::model::{Record, Sight, counts};
use federation::{ClusterName, Pool, PoolName};
use proxmox::Error;
use serde::{Deserialize, Serialize};

use super::untouched;
use crate::failure::{Failure, Object, Remedy};
use crate::fleet::Fleet;
use crate::journal::Holder;
use crate::site::Site;

/// Which record of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Which pool this is, whatever it is called.
    pub id: String,
    /// Revision, from 1.
    pub rev: u64,
    /// Checksum of the block.
    pub sum: String,
    /// Who wrote it.
    #[serde(skip)]
    pub by: String,
}

impl Revision {
    pub(crate) fn of<T>(record: &Record<T>) -> Revision {
        Revision { id: record.id.clone(), rev: record.rev, sum: record.sum.clone(), by: record.by.clone() }
    }
}

/// A pool that was written.
#[derive(Debug)]
pub struct PoolWritten {
    /// The record it has now.
    pub revision: Revision,
    /// Members that could not be written, and what else went less than well: the next plan shows the difference.
    pub warnings: Vec<Failure>,
}

/// How often a record is written again that reads back as something else.
const TRIES: u32 = 3;

impl Fleet {
    /// Makes a pool on each of its clusters, with its record. A member that can't be written is a warning: the next plan
    /// completes it. A create that was killed on its way is gone on with, where this working folder began it.
    ///
    /// # Errors
    /// Any other PVE pool of that name that exists, with the import line; no member that could be written. Nothing is there
    /// then.
    pub async fn create_pool(&self, name: &PoolName, pool: &Pool) -> Result<PoolWritten, Failure> {
        let what = format!("Unable to create resource pool {name}");
        self.refresh(&pool.clusters).await;
        let (mut sights, _) = self.pool_sights(name, &pool.clusters).await;
        // What a killed create of this folder has written is ours to complete.
        let begun = self.births().record_of(name.as_str());
        let mut rev = 0;
        sights.retain(|_, sight| match sight {
            Sight::Record(record) if begun.as_deref() == Some(&record.id) => {
                rev = rev.max(record.rev);
                false
            }
            _ => true,
        });
        refuse_existing(&what, name, pool, &sights)?;
        let id = begun.filter(|_| rev > 0).unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if let Err(error) = self.births().note_record(name.as_str(), &id) {
            tracing::warn!(pool = %name, %error, "the working folder takes no note of what is made");
        }
        let revision = Revision { id, rev: rev + 1, by: Holder::me().run, ..Revision::default() };
        self.write_all(&what, name, pool, revision, "nothing was made").await
    }

    /// Changes a pool: the new record to its clusters, then the old one out of those that left. `known`: the record that the
    /// plan was made from; `before`: the clusters it had then.
    ///
    /// # Errors
    /// A newer record of somebody else; guests on a cluster that leaves; no member that could be written.
    pub async fn update_pool(
        &self,
        name: &PoolName,
        pool: &Pool,
        before: &BTreeSet<ClusterName>,
        known: Option<&Revision>,
    ) -> Result<PoolWritten, Failure> {
        let what = format!("Unable to change resource pool {name}");
        let all: BTreeSet<ClusterName> = pool.clusters.union(before).cloned().collect();
        self.refresh(&all).await;
        let (sights, _) = self.pool_sights(name, &all).await;
        let newest = counts(&sights).map_err(|conflict| untouched(&what, conflict.to_string()).next("plan again"))?;
        if let (Some(newest), Some(known)) = (newest, known)
            && (newest.rev, &newest.sum) != (known.rev, &known.sum)
        {
            let changed =
                format!("{} wrote revision {} of it, the plan was made from {}", newest.by, newest.rev, known.rev);
            return Err(Failure::stale(what, changed));
        }
        // Members of the record that the configuration never listed leave too.
        let mut leaving: BTreeSet<ClusterName> = before.clone();
        leaving.extend(newest.into_iter().flat_map(|record| record.body.clusters.iter().cloned()));
        leaving.retain(|cluster| !pool.clusters.contains(cluster));
        let mut warnings = self.may_leave(&what, name, &leaving).await?;
        let rev = newest.map_or(0, |newest| newest.rev).max(known.map_or(0, |known| known.rev)) + 1;
        let id = newest.map(|newest| newest.id.clone()).or_else(|| known.map(|known| known.id.clone()));
        let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let revision = Revision { id, rev, by: Holder::me().run, ..Revision::default() };
        let mut written = self.write_all(&what, name, pool, revision, "the former record holds").await?;
        for cluster in &leaving {
            warnings.extend(self.leave(name, cluster).await.unwrap_or_else(Some));
        }
        written.warnings.append(&mut warnings);
        Ok(written)
    }

    /// Fresh overviews of clusters that are about to be written. One that doesn't answer isn't tried again.
    pub(crate) async fn refresh(&self, clusters: &BTreeSet<ClusterName>) {
        for site in clusters.iter().filter_map(|cluster| self.site(cluster.as_str())) {
            // How it ends is seen by whoever looks next.
            let _ = site.fresh().await;
        }
    }

    /// Writes one record to every member.
    async fn write_all(
        &self,
        what: &str,
        name: &PoolName,
        pool: &Pool,
        mut revision: Revision,
        state: &str,
    ) -> Result<PoolWritten, Failure> {
        let mut warnings = Vec::new();
        let mut written = 0;
        // All copies are the same to the letter, so they carry one time: that of the first cluster which answers.
        let now = self.sites().map(|site| site.now()).find(|now| *now > 0).unwrap_or_default();
        let envelope = Envelope {
            id: revision.id.clone(),
            rev: revision.rev,
            by: revision.by.clone(),
            at: u64::try_from(now).unwrap_or_default(),
            body: pool.clone(),
        };
        let value = envelope.to_value().map_err(|error| untouched(what, error.to_string()))?;
        for cluster in &pool.clusters {
            let incomplete = |failure: Failure| {
                failure.state(format!("{cluster} has no current record; nothing new of the pool is placed there"))
            };
            let Some(site) = self.site(cluster.as_str()) else {
                let place = format!("cluster {cluster} has no connection in this configuration");
                warnings
                    .push(incomplete(Failure::new(not_written(name, cluster)).at(place).next("add it to `clusters`")));
                continue;
            };
            match site.write_record(name, &value, pool.description.as_deref()).await {
                Ok(sum) => {
                    written += 1;
                    revision.sum = sum;
                }
                Err(failure) => warnings.push(incomplete(failure)),
            }
        }
        if written == 0 {
            let mut failure = Failure::new(what).at("no cluster of the pool could be written").state(state);
            failure.said = warnings.iter().find_map(|warning| warning.said.clone());
            failure.next = warnings.first().map(|warning| warning.next.clone()).unwrap_or_default();
            return Err(failure);
        }
        Ok(PoolWritten { revision, warnings })
    }
}

fn not_written(name: &PoolName, cluster: &ClusterName) -> String {
    format!("Resource pool {name} is not complete: {cluster} was not written")
}

/// A create takes over nothing: what exists is imported (hazards.md E7).
fn refuse_existing(
    what: &str,
    name: &PoolName,
    pool: &Pool,
    sights: &BTreeMap<ClusterName, Sight>,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    for (cluster, sight) in sights {
        match sight {
            Sight::Record(record) => {
                found.push(format!("{cluster} (enrolled: revision {} by {})", record.rev, record.by));
            }
            Sight::Damaged(_) if pool.clusters.contains(cluster) => {
                found.push(format!("{cluster} (its record is damaged)"))
            }
            Sight::Plain if pool.clusters.contains(cluster) => found.push(format!("{cluster} (without a record)")),
            _ => {}
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(untouched(what, format!("a pool {name} exists already on {}", found.join(", ")))
        .next("import it")
        .remedy(Remedy::Import(Object::Pool, name.to_string())))
}

impl Site {
    /// Writes a record into a pool's comment, making the pool where there is none. Answers with the block's checksum.
    async fn write_record(
        &self,
        name: &PoolName,
        value: &serde_json::Value,
        description: Option<&str>,
    ) -> Result<String, Failure> {
        let comment = |before: Option<&str>| next_comment(before, value, description);
        let too_big = "shorten the policy: fewer rules, or shorter texts";
        self.write_block(name.as_str(), &not_written(name, &self.name), too_big, &comment).await
    }

    /// Writes the comment of a pool that `next` makes of the one there is, making the pool where there is none, and reads it
    /// back. Answers with the checksum of its block.
    ///
    /// # Errors
    /// `what` failed: the right that is missing, what Proxmox VE said, a block that is `too_big`, another writer.
    pub(super) async fn write_block(
        &self,
        pool: &str,
        what: &str,
        too_big: &str,
        next: &(dyn Fn(Option<&str>) -> Result<String, BlockError> + Sync),
    ) -> Result<String, Failure> {
        let what = || Failure::new(what);
        let said = |error: Error| {
            let denied = error.is_permission_denied();
            let next = if denied {
                format!("give the token Pool.Allocate on /pool/{pool} there, and apply again")
            } else {
                "apply again when the cluster answers".to_owned()
            };
            what().at(format!("cluster {}, pool {pool}", self.name)).said(error).next(next)
        };
        let one_at_a_time = self.document(pool).await;
        let _only_writer = one_at_a_time.lock().await;
        for _ in 0..TRIES {
            let before = self.client.pool(pool).await.map_err(said)?;
            let comment = before.as_ref().map(|pool| pool.comment.clone().unwrap_or_default());
            let next = next(comment.as_deref()).map_err(|error| what().at(error.to_string()).next(too_big))?;
            let sent = match comment {
                None => self.make(pool, &next).await,
                Some(comment) if comment == next => Ok(()),
                Some(_) => self.client.update_pool(pool, &next).await,
            };
            match sent {
                // Somebody made it meanwhile, or the answer was lost: what it holds now is read next.
                Err(error) if error.is_already_exists() || error.is_ambiguous() => {}
                sent => sent.map_err(said)?,
            }
            self.changed().await;
            let after = self.client.pool(pool).await.map_err(said)?;
            let found = block::read(after.and_then(|pool| pool.comment).as_deref().unwrap_or_default());
            if let (Ok(found), Ok(wanted)) = (found, block::read(&next))
                && found.checksum == wanted.checksum
            {
                return Ok(wanted.checksum);
            }
        }
        Err(what()
            .at(format!("cluster {}, pool {pool}: somebody else writes its comment at the same time", self.name))
            .next("apply again"))
    }

    /// Makes a pool and those it is nested in.
    async fn make(&self, name: &str, comment: &str) -> Result<(), Error> {
        for (at, _) in name.match_indices('/') {
            let parent = &name[..at];
            if self.client.pool(parent).await?.is_some() {
                continue;
            }
            match self.client.create_pool(parent, None).await {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
        }
        self.client.create_pool(name, Some(comment)).await
    }
}

/// The comment with our block in it. The text around it is people's, except that a description which still stands there as
/// we wrote it follows the configuration.
fn next_comment(
    before: Option<&str>,
    value: &serde_json::Value,
    description: Option<&str>,
) -> Result<String, block::BlockError> {
    let wanted = description.unwrap_or_default();
    let Some(before) = before else { return block::write(&one_line(wanted), value) };
    let former = block::read(before).ok();
    let former = former.as_ref().and_then(|block| block.value.get("description")?.as_str()).map(one_line);
    let around = block::remove(before);
    let ours = former.is_some_and(|former| former == around.trim()) || around.trim().is_empty();
    if ours { block::write(&one_line(wanted), value) } else { block::write(before, value) }
}

/// The GUI's field has one line, and our block must stay the last thing that looks like one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("[moxxie", "(moxxie")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_of_people_is_kept_and_our_own_follows_the_configuration() {
        let value = |description: &str| json!({"rev": 1, "description": description});
        let made = next_comment(None, &value("Web\nfarm"), Some("Web\nfarm")).expect("a comment");
        assert!(made.starts_with("Web farm [moxxie v1 "), "{made}");
        let changed = next_comment(Some(&made), &value("Shop"), Some("Shop")).expect("a comment");
        assert!(changed.starts_with("Shop [moxxie v1 "), "{changed}");
        let dropped = next_comment(Some(&changed), &json!({"rev": 2}), None).expect("a comment");
        assert!(dropped.starts_with("[moxxie v1 "), "{dropped}");
        let edited = changed.replace("Shop [", "Ask Ann first [");
        let kept = next_comment(Some(&edited), &value("Other"), Some("Other")).expect("a comment");
        assert!(kept.starts_with("Ask Ann first [moxxie v1 "), "{kept}");
        let plain = next_comment(Some("Production"), &value("Other"), Some("Other")).expect("a comment");
        assert!(plain.starts_with("Production [moxxie v1 "), "{plain}");
    }

    #[test]
    fn a_create_names_every_pool_that_exists_and_the_way_to_import_it() {
        let pool = Pool { clusters: ["a".parse().expect("a name")].into(), ..Pool::default() };
        let record = Record { id: "i".into(), rev: 3, sum: "x".into(), by: "ann".into(), body: Pool::default() };
        let name: PoolName = "prod".parse().expect("a name");
        let refuse = |sights: &[(&str, Sight)]| {
            let sights = sights.iter().map(|(name, sight)| (name.parse().expect("a name"), sight.clone())).collect();
            refuse_existing("what", &name, &pool, &sights)
        };
        let failure = refuse(&[("a", Sight::Plain), ("b", Sight::Record(Box::new(record)))]).expect_err("a refusal");
        let text = failure.to_string();
        assert!(text.contains("a (without a record), b (enrolled: revision 3 by ann)"), "{text}");
        assert!(text.contains("nothing was touched"), "{text}");
        assert_eq!(failure.remedy, Some(Remedy::Import(Object::Pool, "prod".to_owned())));
        assert!(refuse(&[("a", Sight::Absent), ("b", Sight::Plain)]).is_ok(), "a plain pool elsewhere is none of ours");
    }
}
