//! Finding a pool: the copy of its record that counts, and what is wrong with the others.
use std::collections::{BTreeMap, BTreeSet};

use federation::model::{Sight, counts};
use federation::{ClusterName, Pool, PoolName};

use super::write::Revision;
use crate::failure::Failure;
use crate::fleet::Fleet;

/// What the clusters hold of one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolCopies {
    /// What the record that counts says.
    pub pool: Pool,
    /// Which record that is.
    pub revision: Revision,
    /// Members that hold it, and those that can't be asked: of them nothing else is known.
    pub complete: BTreeSet<ClusterName>,
    /// What is wrong with the other members' copies, in words.
    pub faults: BTreeMap<ClusterName, String>,
    /// Members that can't be asked, and why.
    pub dark: BTreeMap<ClusterName, String>,
}

/// What can be said of a pool.
#[derive(Debug, Clone, PartialEq)]
pub enum PoolFound {
    /// It has a record.
    Recorded(Box<PoolCopies>),
    /// PVE pools of that name exist, none with a record that can be read; where, and what is wrong with each.
    Unrecorded(BTreeMap<ClusterName, String>),
    /// It does not exist.
    Gone,
    /// Neither can be said; why.
    Unsure(String),
}

impl Fleet {
    /// Finds a pool. `members`: the clusters it was last known on.
    ///
    /// # Errors
    /// Copies of one revision that differ, by name.
    pub async fn find_pool(&self, name: &PoolName, members: &BTreeSet<ClusterName>) -> Result<PoolFound, Failure> {
        let (sights, mut dark) = self.pool_sights(name, members).await;
        let record = counts(&sights).map_err(|conflict| {
            Failure::new(format!("The records of resource pool {name} contradict each other"))
                .at(conflict.to_string())
                .state("nothing new is placed in the pool; no machine is touched")
                .next(format!(
                    "take the wrong block out of the comment of pool {name} on one of the two, and plan again"
                ))
        })?;
        let Some(record) = record else { return Ok(without_record(&sights, &dark)) };
        let members = &record.body.clusters;
        let mut faults = BTreeMap::new();
        for member in members {
            match sights.get(member).and_then(|sight| sight.fault(record)) {
                Some((why, true)) => drop(faults.insert(member.clone(), why)),
                // What can't be seen may well be there.
                Some((why, false)) => drop(dark.insert(member.clone(), why)),
                None => {}
            }
        }
        for member in members.iter().filter(|member| self.site(member.as_str()).is_none()) {
            dark.insert(member.clone(), "it has no connection in this configuration".into());
        }
        dark.retain(|cluster, _| members.contains(cluster));
        self.births().forget_record(name.as_str(), &record.id);
        Ok(PoolFound::Recorded(Box::new(PoolCopies {
            complete: members.iter().filter(|member| !faults.contains_key(*member)).cloned().collect(),
            pool: record.body.clone(),
            revision: Revision::of(record),
            faults,
            dark,
        })))
    }

    /// What each cluster that answers shows of a pool, and why the others don't.
    pub(crate) async fn pool_sights(
        &self,
        name: &PoolName,
        members: &BTreeSet<ClusterName>,
    ) -> (BTreeMap<ClusterName, Sight>, BTreeMap<ClusterName, String>) {
        let mut sights = BTreeMap::new();
        let mut dark = BTreeMap::new();
        let seen = self.glances().await;
        for (site, overview) in &seen {
            sights.insert(site.name.clone(), site.sight(overview, name).await);
        }
        for site in self.sites().filter(|site| !sights.contains_key(&site.name)) {
            let why = site.glance().await.err().map_or_else(|| "it doesn't answer".into(), |error| error.to_string());
            dark.insert(site.name.clone(), why);
        }
        for member in members.iter().filter(|member| self.site(member.as_str()).is_none()) {
            dark.insert(member.clone(), "it has no connection in this configuration".into());
        }
        (sights, dark)
    }

    /// The pool as it is imported: its record, or PVE pools that have none yet.
    ///
    /// # Errors
    /// No such pool on any cluster that answers, or contradicting records.
    pub async fn import_pool(&self, name: &PoolName) -> Result<PoolFound, Failure> {
        match self.find_pool(name, &BTreeSet::new()).await? {
            found @ (PoolFound::Recorded(_) | PoolFound::Unrecorded(_)) => Ok(found),
            PoolFound::Gone => Err(Failure::new(format!("Unable to import resource pool {name}"))
                .at("no cluster of the provider block has a pool of that name")
                .next("leave the import out: apply creates the pool")),
            PoolFound::Unsure(why) => Err(Failure::new(format!("Unable to import resource pool {name}")).at(why)),
        }
    }
}

/// Nobody shows a record: plain pools, damaged records, nothing at all, or no way to tell.
fn without_record(sights: &BTreeMap<ClusterName, Sight>, dark: &BTreeMap<ClusterName, String>) -> PoolFound {
    let mut there = BTreeMap::new();
    let mut unseen: Vec<String> = dark.iter().map(|(cluster, why)| format!("{cluster}: {why}")).collect();
    for (cluster, sight) in sights {
        match sight {
            Sight::Plain => drop(there.insert(cluster.clone(), "the pool there has no record".to_owned())),
            Sight::Damaged(why) => drop(there.insert(cluster.clone(), format!("the record there is damaged: {why}"))),
            Sight::NoRight(right) => unseen.push(format!("{cluster}: the token lacks {right}")),
            Sight::Absent | Sight::Record(_) => {}
        }
    }
    // A cluster that can't be asked may hold the record.
    if !unseen.is_empty() {
        return PoolFound::Unsure(unseen.join("; "));
    }
    if there.is_empty() { PoolFound::Gone } else { PoolFound::Unrecorded(there) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sights(of: &[(&str, Sight)]) -> BTreeMap<ClusterName, Sight> {
        of.iter().map(|(name, sight)| (name.parse().expect("a name"), sight.clone())).collect()
    }

    #[test]
    fn a_pool_is_gone_only_where_everybody_said_so() {
        let dark = BTreeMap::from([("c".parse().expect("a name"), "no route".to_owned())]);
        let absent = sights(&[("a", Sight::Absent), ("b", Sight::Absent)]);
        assert_eq!(without_record(&absent, &BTreeMap::new()), PoolFound::Gone);
        assert!(matches!(without_record(&absent, &dark), PoolFound::Unsure(why) if why.contains("no route")));
        let blind = sights(&[("a", Sight::Absent), ("b", Sight::NoRight("Pool.Audit".into()))]);
        assert!(
            matches!(without_record(&blind, &BTreeMap::new()), PoolFound::Unsure(why) if why.contains("Pool.Audit"))
        );
    }

    #[test]
    fn a_missing_and_a_damaged_record_are_told_apart() {
        let found = without_record(
            &sights(&[("a", Sight::Plain), ("b", Sight::Damaged("cut".into())), ("c", Sight::Absent)]),
            &BTreeMap::new(),
        );
        let PoolFound::Unrecorded(there) = found else { panic!("{found:?}") };
        let words: Vec<&str> = there.values().map(String::as_str).collect();
        assert_eq!(words, ["the pool there has no record", "the record there is damaged: cut"]);
    }
}
