//! The four objectives: the order in which a VM prefers the clusters its rules allow.
//!
//! Score = Σ share × factor, times weight ÷ largest weight, plus or minus [`PREFERENCE`] per soft rule. `balanced` has no
//! score but a sequence or a hash; there a kept `should` doubles the weight. Factors are made of what is configured
//! (allocations, prices, distances), never of measured load, and never of siblings planned meanwhile.

use std::collections::BTreeMap;

use super::capacity::{Room, storage_for};
use super::decision::Factor;
use super::inventory::{ClusterFacts, Inventory};
use super::request::Request;
use super::rules::{self, Meaning, meaning};
use super::sequence::{Weighted, family_preference, hash, rendezvous_preference};
use crate::model::{Cluster, Coordinates, Federation, Policy, Strategy, Tier};
use crate::names::ClusterName;
use crate::units::Bytes;

/// What one kept `should` adds to a score, and one kept `should_not` takes.
const PREFERENCE: f64 = 0.25;
/// Distance in kilometres at which the distance factor is one half.
const HALF_DISTANCE_KM: f64 = 100.0;

/// The preference list with what it is made of.
#[derive(Default)]
pub(super) struct Ranking {
    /// Clusters, best first.
    pub(super) order: Vec<ClusterName>,
    pub(super) scores: BTreeMap<ClusterName, f64>,
    pub(super) factors: BTreeMap<ClusterName, Vec<Factor>>,
    pub(super) notes: Vec<String>,
    /// How it was done, in words made of configuration only ("balanced 80:20").
    pub(super) how: String,
    /// "place 2 of web-*" where a sequence decided.
    pub(super) place: Option<String>,
}

/// All a strategy looks at.
pub(super) struct Question<'a> {
    pub(super) federation: &'a Federation,
    pub(super) inventory: &'a Inventory,
    pub(super) request: &'a Request,
    pub(super) policy: &'a Policy,
    /// The clusters that pass every rule but capacity and health, sorted.
    pub(super) eligible: &'a [ClusterName],
}

/// Where a name stands in a family: which family, which number.
pub(super) struct Place {
    pub(super) stem: String,
    pub(super) number: u32,
    pattern: Option<String>,
}

impl Place {
    /// The family and number of a request: the attribute `ordinal`, else the number at the end of its name. Names without
    /// a number that have an ordinal form one family per pool.
    pub(super) fn of(request: &Request) -> Option<Place> {
        let family = request.name.family();
        let (stem, pattern) = match &family {
            Some(family) => (family.stem.clone(), Some(family.pattern.clone())),
            None => (String::new(), None),
        };
        let number = request.ordinal.or(family.map(|family| family.number))?;
        Some(Place { stem, number, pattern })
    }

    fn words(&self) -> String {
        match &self.pattern {
            Some(pattern) => format!("place {} of {pattern}", self.number),
            None => format!("place {} by ordinal", self.number),
        }
    }
}

impl Question<'_> {
    /// The preference list.
    pub(super) fn rank(&self) -> Ranking {
        let mut ranking = match (self.spread_tag(), self.policy.strategy) {
            (Some((tag, _)), Strategy::Balanced) => self.by_spread(&tag),
            (Some((tag, true)), _) => self.by_spread(&tag),
            (_, Strategy::Balanced) => self.balanced(),
            (_, Strategy::Performance) => self.performance(),
            (_, Strategy::Cost) => self.cost(),
            (_, Strategy::Geographic) => self.geographic(),
        };
        if self.request.location.is_some() && self.policy.strategy != Strategy::Geographic {
            ranking.notes.push("location counts as a preference: the strategy is not geographic".to_owned());
        }
        ranking
    }

    /// The first tag the VM is to be spread by, and whether it must be.
    fn spread_tag(&self) -> Option<(String, bool)> {
        let spread = |rule: &crate::model::Rule| match meaning(rule, self.request) {
            Meaning::Spread(hard) => Some((rule.value.to_lowercase(), hard)),
            _ => None,
        };
        let mut all: Vec<(String, bool)> = self.policy.rules.iter().filter_map(spread).collect();
        all.sort_by_key(|(_, hard)| !hard);
        all.into_iter().next()
    }

    fn by_spread(&self, tag: &str) -> Ranking {
        let equal: Vec<Weighted> = self.eligible.iter().map(|name| (name.clone(), 1)).collect();
        let place = Place::of(self.request);
        let order = match &place {
            Some(place) => family_preference(&equal, self.phase(&["spread", tag]), place.number),
            None => rendezvous_preference(&equal, &self.key()),
        };
        Ranking {
            order,
            how: format!("spread over tag {tag}"),
            place: place.map(|place| place.words()),
            ..Ranking::default()
        }
    }

    fn balanced(&self) -> Ranking {
        let (mut weights, how) = self.weights();
        let mut ranking = Ranking { how: format!("balanced {how}"), ..Ranking::default() };
        let soft: BTreeMap<ClusterName, i32> =
            self.eligible.iter().map(|name| (name.clone(), self.soft(name, &mut ranking))).collect();
        // Doubling and halving, on whole numbers: everything is first doubled as often as the worst is to be halved.
        let lowest = soft.values().copied().min().unwrap_or(0).clamp(-16, 0);
        for (name, weight) in &mut weights {
            let times = (soft.get(name).copied().unwrap_or(0) - lowest).clamp(0, 32) as u32;
            *weight = weight.saturating_mul(1 << times);
            let detail = format!("weight {weight}");
            factor(&mut ranking, name, "weight", 0.0, 0.0, detail);
        }
        let together = self.together_tag();
        let place = Place::of(self.request);
        ranking.order = match (together, place) {
            (Some(tag), _) => rendezvous_preference(&weights, &format!("together/{tag}")),
            (None, Some(place)) => {
                ranking.place = Some(place.words());
                family_preference(&weights, self.phase(&["family", &place.stem]), place.number)
            }
            (None, None) => rendezvous_preference(&weights, &self.key()),
        };
        ranking
    }

    /// The tag whose VMs must be together: all of them have to ask the same cluster first.
    fn together_tag(&self) -> Option<String> {
        self.policy.rules.iter().find_map(|rule| match meaning(rule, self.request) {
            Meaning::Together(operator) if operator.is_hard() => Some(rule.value.to_lowercase()),
            _ => None,
        })
    }

    fn phase(&self, parts: &[&str]) -> u64 {
        let pool = self.request.pool.as_ref().map_or("", |pool| pool.as_str());
        let mut all = vec![pool];
        all.extend(parts);
        hash(&all)
    }

    fn key(&self) -> String {
        let pool = self.request.pool.as_ref().map_or("", |pool| pool.as_str());
        format!("{pool}/{}", self.request.name)
    }

    /// Weights for `balanced`: configured, or the memory of the cluster's nodes in two significant digits.
    fn weights(&self) -> (Vec<Weighted>, String) {
        if let Some(how) = self.configured() {
            let weigh = |name: &ClusterName| (name.clone(), u64::from(self.weight(name)));
            return (self.eligible.iter().map(weigh).collect(), how);
        }
        let memory = |name: &ClusterName| self.inventory.clusters.get(name).map(ClusterFacts::total_memory);
        let digits: Vec<(ClusterName, Option<u64>)> = self
            .eligible
            .iter()
            .map(|name| {
                (name.clone(), memory(name).filter(|size| size.0 > 0).map(|size| two_digits(size.as_gib_ceil())))
            })
            .collect();
        // A dark cluster whose size nobody knows keeps a place in the sequence, as large as the largest known.
        let largest = digits.iter().filter_map(|(_, weight)| *weight).max().unwrap_or(1);
        let weights = digits.into_iter().map(|(name, weight)| (name, weight.unwrap_or(largest))).collect();
        (weights, "by memory".to_owned())
    }

    /// The configured weights of the pool's members in words ("80:20"), largest first; `None` when there are none.
    fn configured(&self) -> Option<String> {
        if self.policy.cluster_weights.is_empty() {
            return None;
        }
        let members = self.request.pool.as_ref().and_then(|pool| self.federation.pools.get(pool));
        let mut weights: Vec<u32> = members?.clusters.iter().map(|name| self.weight(name)).collect();
        weights.sort_unstable_by(|a, b| b.cmp(a));
        Some(weights.iter().map(u32::to_string).collect::<Vec<_>>().join(":"))
    }

    /// A cluster's configured weight; one without counts as the largest, and all are equal where all are 0.
    fn weight(&self, name: &ClusterName) -> u32 {
        let weights = &self.policy.cluster_weights;
        match weights.values().copied().max().unwrap_or(0) {
            0 => 1,
            largest => weights.get(name).copied().unwrap_or(largest),
        }
    }

    fn weight_share(&self, name: &ClusterName) -> f64 {
        let largest = self.policy.cluster_weights.values().copied().max().unwrap_or(1).max(1);
        f64::from(self.weight(name)) / f64::from(largest).max(f64::from(self.weight(name)))
    }

    fn performance(&self) -> Ranking {
        let mut ranking = Ranking { how: self.how("performance"), ..Ranking::default() };
        let headroom = self.headroom();
        for name in self.eligible {
            let cluster = self.cluster(name);
            let (value, detail) = relative_headroom(name, &headroom);
            factor(&mut ranking, name, "headroom", 0.6, value, detail);
            let (value, detail) = self.storage_class(name);
            factor(&mut ranking, name, "storage class", 0.3, value, detail);
            let (value, detail) = match cluster.and_then(|cluster| cluster.tier) {
                Some(Tier::Primary) => (1.0, "primary"),
                Some(Tier::Secondary) => (2.0 / 3.0, "secondary"),
                Some(Tier::Edge) => (1.0 / 3.0, "edge"),
                None => (1.0 / 3.0, "no tier declared"),
            };
            factor(&mut ranking, name, "tier", 0.1, value, detail.to_owned());
        }
        self.by_score(ranking, true)
    }

    fn cost(&self) -> Ranking {
        let mut prices: BTreeMap<&ClusterName, (f64, &str)> = BTreeMap::new();
        let mut without = Vec::new();
        for name in self.eligible {
            match self.cluster(name).and_then(|cluster| cluster.pricing.as_ref()) {
                Some(pricing) => {
                    let disks = self.request.disks.values().map(|disk| (disk.storage.as_deref(), disk.size));
                    let price = pricing.per_month(self.request.cpus, self.request.memory, disks);
                    prices.insert(name, (price, pricing.currency.as_str()));
                }
                None => without.push(name.as_str()),
            }
        }
        let mut currencies: Vec<&str> = prices.values().map(|(_, currency)| *currency).collect();
        currencies.sort_unstable();
        currencies.dedup();
        let problem = if !without.is_empty() {
            format!("no prices for {}: cost ranks by weight", without.join(", "))
        } else if currencies.len() > 1 {
            format!("prices in {} cannot be compared: cost ranks by weight", currencies.join(" and "))
        } else {
            String::new()
        };
        if !problem.is_empty() {
            return self.by_weight("cost", problem);
        }
        let mut ranking = Ranking { how: self.how("cost"), ..Ranking::default() };
        let headroom = self.headroom();
        let cheapest = prices.values().map(|(price, _)| *price).fold(f64::INFINITY, f64::min);
        for (name, (price, currency)) in prices {
            let value = if price > 0.0 { cheapest / price } else { 1.0 };
            factor(&mut ranking, name, "price", 0.9, value, format!("{price:.2} {currency} a month"));
            let (value, detail) = relative_headroom(name, &headroom);
            factor(&mut ranking, name, "headroom", 0.1, value, detail);
        }
        self.by_score(ranking, true)
    }

    fn geographic(&self) -> Ranking {
        let Some(wanted) = self.request.location.as_deref() else {
            return self.by_weight("geographic", "no location was asked for: geographic ranks by weight".to_owned());
        };
        let how = format!("{}, near {wanted}", self.how("geographic"));
        let mut ranking = Ranking { how, ..Ranking::default() };
        let headroom = self.headroom();
        let here = self.coordinates_of(wanted);
        let coordinates = |name: &ClusterName| self.cluster(name).and_then(|cluster| cluster.coordinates);
        let without: Vec<&str> =
            self.eligible.iter().filter(|name| coordinates(name).is_none()).map(ClusterName::as_str).collect();
        match (here, without.is_empty()) {
            (None, _) => ranking.notes.push(format!(
                "{wanted:?} is neither \"latitude,longitude\" nor the place of a cluster with coordinates: locations are compared as texts"
            )),
            (_, false) => {
                let names = without.join(", ");
                ranking.notes.push(format!("no coordinates for {names}: locations are compared as texts"));
            }
            _ => {}
        }
        for name in self.eligible {
            let (value, detail) = match (here, coordinates(name)) {
                (Some(here), Some(there)) if without.is_empty() => {
                    let km = here.distance_km(there);
                    (HALF_DISTANCE_KM / (HALF_DISTANCE_KM + km), format!("{km:.0} km"))
                }
                _ => self.compare_texts(name, wanted),
            };
            factor(&mut ranking, name, "distance", 0.9, value, detail);
            let (value, detail) = relative_headroom(name, &headroom);
            factor(&mut ranking, name, "headroom", 0.1, value, detail);
        }
        self.by_score(ranking, true)
    }

    /// `latitude,longitude`, or the coordinates of the first cluster of that name or city.
    fn coordinates_of(&self, wanted: &str) -> Option<Coordinates> {
        if let Some((latitude, longitude)) = wanted.split_once(',')
            && let (Ok(latitude), Ok(longitude)) = (latitude.trim().parse(), longitude.trim().parse())
        {
            return Coordinates::new(latitude, longitude);
        }
        if let Some((_, cluster)) = self.federation.cluster_called(wanted) {
            return cluster.coordinates;
        }
        let city = city_of(wanted);
        let in_city = |cluster: &&Cluster| cluster.city().is_some_and(|own| own.to_lowercase() == city);
        self.federation.clusters.values().filter(in_city).find_map(|cluster| cluster.coordinates)
    }

    /// 1 for the same city, ½ for the same country, else 0.
    fn compare_texts(&self, name: &ClusterName, wanted: &str) -> (f64, String) {
        let Some(cluster) = self.cluster(name) else {
            return (0.0, "no location declared".to_owned());
        };
        let called = self.federation.cluster_called(wanted);
        let (city, country) = match called {
            Some((_, other)) => {
                (other.city().unwrap_or("").to_lowercase(), other.country().unwrap_or("").to_lowercase())
            }
            None => {
                let country = wanted.rsplit(',').next().unwrap_or(wanted).trim().to_lowercase();
                (city_of(wanted), country)
            }
        };
        let same =
            |own: Option<&str>, other: &str| !other.is_empty() && own.is_some_and(|own| own.to_lowercase() == other);
        let place = cluster.location.as_deref().unwrap_or("no location declared");
        if called.is_some_and(|(other, _)| other == name) || same(cluster.city(), &city) {
            (1.0, format!("same city: {place}"))
        } else if same(cluster.country(), &country) {
            (0.5, format!("same country: {place}"))
        } else {
            (0.0, format!("elsewhere: {place}"))
        }
    }

    /// The fallback of strategies that lack what they rank by.
    fn by_weight(&self, strategy: &str, note: String) -> Ranking {
        let how = match self.configured() {
            Some(weights) => format!("{strategy}, by weight {weights}"),
            None => format!("{strategy}, all weights equal"),
        };
        let mut ranking = Ranking { how, notes: vec![note], ..Ranking::default() };
        for name in self.eligible {
            let detail = format!("weight {}", self.weight(name));
            factor(&mut ranking, name, "weight", 1.0, self.weight_share(name), detail);
        }
        self.by_score(ranking, false)
    }

    /// Sums the factors, applies weight and preferences, and sorts; ties by name.
    fn by_score(&self, mut ranking: Ranking, weighted: bool) -> Ranking {
        for name in self.eligible {
            let factors = ranking.factors.get(name).map(Vec::as_slice).unwrap_or_default();
            let mut score: f64 = factors.iter().map(|factor| factor.share * factor.value).sum();
            if weighted {
                score *= self.weight_share(name);
            }
            score += PREFERENCE * f64::from(self.soft(name, &mut ranking));
            ranking.scores.insert(name.clone(), score);
        }
        ranking.order = self.eligible.to_vec();
        let scores = &ranking.scores;
        ranking.order.sort_by(|a, b| scores[b].total_cmp(&scores[a]).then_with(|| a.cmp(b)));
        ranking
    }

    /// Preferences kept less things to avoid, on one cluster; each is noted as a factor.
    fn soft(&self, name: &ClusterName, ranking: &mut Ranking) -> i32 {
        let mut sum = 0;
        for (rule, sign) in rules::soft(self.federation, self.inventory, &self.policy.rules, self.request, name) {
            factor(ranking, name, if sign > 0 { "kept" } else { "avoid" }, 0.0, 0.0, rule.to_string());
            sum += sign;
        }
        if self.policy.strategy != Strategy::Geographic
            && let Some(wanted) = self.request.location.as_deref()
            && self.is_at(name, wanted)
        {
            factor(ranking, name, "kept", 0.0, 0.0, format!("location {wanted:?}"));
            sum += 1;
        }
        if let Some((tag, false)) = self.spread_tag()
            && self.policy.strategy != Strategy::Balanced
            && self.by_spread(&tag).order.first() == Some(name)
        {
            factor(ranking, name, "kept", 0.0, 0.0, format!("its place in the spread over tag {tag}"));
            sum += 1;
        }
        sum
    }

    fn is_at(&self, name: &ClusterName, wanted: &str) -> bool {
        let called = self.federation.cluster_called(wanted).is_some_and(|(other, _)| other == name);
        called || self.cluster(name).is_some_and(|cluster| rules::lies_in(cluster, &wanted.to_lowercase()))
    }

    fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.federation.clusters.get(name)
    }

    /// "performance", with the configured weights where there are some.
    fn how(&self, strategy: &str) -> String {
        match self.configured() {
            Some(weights) => format!("{strategy} {weights}"),
            None => strategy.to_owned(),
        }
    }

    /// Cores and memory each cluster has left once it holds the VM.
    fn headroom(&self) -> BTreeMap<ClusterName, (u64, Bytes)> {
        let undeclared = Cluster::default();
        let left = |name: &ClusterName| {
            let facts = self.inventory.clusters.get(name)?;
            let cluster = self.cluster(name).unwrap_or(&undeclared);
            let (cpus, memory) = Room::new(name, cluster, facts, self.request).headroom();
            let cpus = cpus.saturating_sub(u64::from(self.request.cpus));
            Some((name.clone(), (cpus, memory.saturating_sub(self.request.memory))))
        };
        self.eligible.iter().filter_map(left).collect()
    }

    /// How fast the storages of the disks are, by size; one half where nobody declared it.
    fn storage_class(&self, name: &ClusterName) -> (f64, String) {
        let (Some(cluster), Some(facts)) = (self.cluster(name), self.inventory.clusters.get(name)) else {
            return (0.5, "not declared".to_owned());
        };
        let (mut sum, mut size, mut words) = (0.0, 0.0, Vec::new());
        for disk in self.request.disks.values() {
            let storage = storage_for(cluster, facts, disk.storage.as_deref());
            let class = storage.as_ref().and_then(|storage| cluster.storage_performance.get(storage));
            let value = match class.map(String::as_str) {
                Some("nvme") => 1.0,
                Some("ssd") => 0.7,
                Some("hdd") => 0.3,
                _ => 0.5,
            };
            sum += value * disk.size.0 as f64;
            size += disk.size.0 as f64;
            let word = class.cloned().unwrap_or_else(|| "not declared".to_owned());
            if !words.contains(&word) {
                words.push(word);
            }
        }
        if size == 0.0 { (0.5, "no disks".to_owned()) } else { (sum / size, words.join(", ")) }
    }
}

fn city_of(place: &str) -> String {
    place.split(',').next().unwrap_or(place).trim().to_lowercase()
}

/// Headroom in proportion to the largest of the candidates: the smaller of cores and memory.
fn relative_headroom(name: &ClusterName, all: &BTreeMap<ClusterName, (u64, Bytes)>) -> (f64, String) {
    let Some((cpus, memory)) = all.get(name) else {
        return (0.0, "unknown".to_owned());
    };
    let most_cpus = all.values().map(|(cpus, _)| *cpus).max().unwrap_or(0).max(1);
    let most_memory = all.values().map(|(_, memory)| memory.0).max().unwrap_or(0).max(1);
    let value = (*cpus as f64 / most_cpus as f64).min(memory.0 as f64 / most_memory as f64);
    (value, format!("{cpus} cores and {} left", memory.human()))
}

/// Rounds to two significant digits, halves up.
fn two_digits(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    (value + unit / 2) / unit * unit
}

fn factor(ranking: &mut Ranking, cluster: &ClusterName, name: &str, share: f64, value: f64, detail: String) {
    let factor = Factor { name: name.to_owned(), share, value, detail };
    ranking.factors.entry(cluster.clone()).or_default().push(factor);
}
