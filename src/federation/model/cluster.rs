//! What is declared about one cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::path::{CrossConnect, LinkKind, MigrationPath};
use super::words::words;
use crate::names::ClusterName;
use crate::units::Bytes;

words! {
    /// How good a site is: the guide's three tiers.
    Tier {
        /// Main production clusters.
        Primary = "primary",
        /// Disaster recovery and backup clusters.
        Secondary = "secondary",
        /// Development and edge clusters.
        Edge = "edge",
    }
}

words! {
    /// What a cluster can do, beyond running VMs.
    Capability {
        /// It has Ceph.
        SupportsCeph = "supports_ceph",
        /// It has Proxmox VE's high availability.
        SupportsHa = "supports_ha",
        /// Its guests are backed up.
        BackupEnabled = "backup_enabled",
        /// Guests migrate between its nodes while they run.
        LiveMigration = "live_migration",
        /// Guests may be hypervisors themselves.
        NestedVirtualization = "nested_virtualization",
    }
}

words! {
    /// What happens to MAC addresses on a network of this cluster when a VM moves in.
    MacPolicy {
        /// Addresses are kept.
        Keep = "keep",
        /// New addresses are made, for providers that cut off unknown ones.
        New = "new",
    }
}

words! {
    /// Where the numbers for free capacity come from.
    CapacitySource {
        /// Only full sight counts: with less, capacity is unknown and nothing new is placed there.
        Audited = "audited",
        /// What the nodes report as used, or what the token sees allocated, whichever is more.
        Reported = "reported",
    }
}

/// Facts of one cluster. A field that is `None` or empty is not declared, so that layers can complete each other; the
/// methods give the value with its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The name people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The site's tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// The hosting company.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosting_provider: Option<String>,
    /// Free text, usually "City, CC".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Country, as the organisation writes it; else what stands after the last comma of `location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Where on earth it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Coordinates>,
    /// The cluster's own tags (not those of its guests).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// What capacity costs there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// Federation storage name → storage of this cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_classes: BTreeMap<String, String>,
    /// Storage used where a VM names none; `storage_classes["default"]` wins over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_storage: Option<String>,
    /// Storage of this cluster → performance (`nvme`, `ssd`, `hdd`), as declared.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_performance: BTreeMap<String, String>,
    /// Federation network name → what it is here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// VLAN tags that mean something here; a literal `vlan` outside is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_range: Option<VlanRange>,
    /// Bridges declared in the configuration file; used where the inventory cannot tell.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub bridges: BTreeSet<String>,
    /// VM ids for creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmid_range: Option<VmidRange>,
    /// Nothing new comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<bool>,
    /// Cordoned, and its VMs leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// How often capacity may be given out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<Overcommit>,
    /// What is kept free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
    /// Where capacity numbers come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacitySource>,
    /// Declared abilities; one that is not declared is not assumed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<Capability, bool>,
    /// Most guests the cluster may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vms: Option<u32>,
    /// Paths out of this cluster by target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub migration_paths: BTreeMap<ClusterName, MigrationPath>,
    /// Links to other clusters by target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cross_connects: BTreeMap<ClusterName, CrossConnect>,
}

impl Cluster {
    /// Whether new VMs are kept out: cordoned, or draining.
    pub fn keeps_out(&self) -> bool {
        self.cordoned.unwrap_or(false) || self.is_draining()
    }

    /// Whether its VMs are to leave.
    pub fn is_draining(&self) -> bool {
        self.draining.unwrap_or(false)
    }

    /// Overcommit factors, or the defaults.
    pub fn overcommit(&self) -> Overcommit {
        self.overcommit.unwrap_or_default()
    }

    /// Reserves, or the defaults.
    pub fn reserve(&self) -> Reserve {
        self.reserve.unwrap_or_default()
    }

    /// The country: declared, else what follows the last comma of `location`.
    pub fn country(&self) -> Option<&str> {
        self.country.as_deref().or_else(|| {
            let (_, country) = self.location.as_deref()?.rsplit_once(',')?;
            Some(country.trim()).filter(|country| !country.is_empty())
        })
    }

    /// The city: what stands before the first comma of `location`.
    pub fn city(&self) -> Option<&str> {
        let location = self.location.as_deref()?;
        Some(location.split(',').next().unwrap_or(location).trim()).filter(|city| !city.is_empty())
    }

    /// Whether the link to `target` is encrypted: the path says so, or a `vpn` or `direct` cross-connect leads there.
    pub fn link_encrypted(&self, target: &ClusterName) -> bool {
        let by_path = self.migration_paths.get(target).is_some_and(|path| path.link_encrypted);
        let by_link = self
            .cross_connects
            .get(target)
            .is_some_and(|link| matches!(link.kind, Some(LinkKind::Vpn | LinkKind::Direct)));
        by_path || by_link
    }
}

/// A place on earth in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinates {
    /// −90 (south) to 90 (north).
    pub latitude: f64,
    /// −180 (west) to 180 (east).
    pub longitude: f64,
}

impl Coordinates {
    /// Both numbers, if they are on the globe.
    pub fn new(latitude: f64, longitude: f64) -> Option<Coordinates> {
        ((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude))
            .then_some(Coordinates { latitude, longitude })
    }

    /// Great-circle distance in kilometres (haversine, mean radius 6371 km).
    pub fn distance_km(self, other: Coordinates) -> f64 {
        let (lat_a, lat_b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = ((lat_b - lat_a) / 2.0).sin();
        let half_lon = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let h = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
        2.0 * 6371.0 * h.sqrt().min(1.0).asin()
    }
}

/// Prices of one cluster, in its currency.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pricing {
    /// ISO 4217 code; prices in different currencies are never compared.
    pub currency: String,
    /// One core for one hour.
    pub core_hour: f64,
    /// One GiB of memory for one hour.
    pub gb_hour: f64,
    /// One GiB of storage for one month (730 hours), by federation storage name; `default` for the rest.
    pub storage_gb_month: BTreeMap<String, f64>,
    /// One GiB leaving the site.
    pub egress_gb: f64,
}

impl Pricing {
    /// Hours in a month, by common billing practice (8760 ÷ 12).
    pub const HOURS_PER_MONTH: f64 = 730.0;

    /// Price per month of so many cores, so much memory, and disks given as (federation storage name, size).
    pub fn per_month<'a>(
        &self,
        cores: u32,
        memory: Bytes,
        disks: impl IntoIterator<Item = (Option<&'a str>, Bytes)>,
    ) -> f64 {
        let gib = |size: Bytes| size.0 as f64 / Bytes::GIB.0 as f64;
        let compute = (self.core_hour * f64::from(cores) + self.gb_hour * gib(memory)) * Self::HOURS_PER_MONTH;
        let storage: f64 = disks
            .into_iter()
            .map(|(class, size)| {
                let by_class = class.and_then(|class| self.storage_gb_month.get(class));
                by_class.or_else(|| self.storage_gb_month.get("default")).copied().unwrap_or(0.0) * gib(size)
            })
            .sum();
        compute + storage
    }
}

/// What a federation network is on one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The bridge or SDN vnet.
    pub bridge: String,
    /// VLAN tag, 1 to 4094.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Its addresses in CIDR notation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// What becomes of MAC addresses that move in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<MacPolicy>,
}

/// An inclusive range of VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanRange {
    /// The first tag, at least 1.
    pub first: u16,
    /// The last tag, at most 4094, not below `first`.
    pub last: u16,
}

impl VlanRange {
    /// Whether `vlan` lies inside.
    pub fn contains(self, vlan: u16) -> bool {
        (self.first..=self.last).contains(&vlan)
    }
}

/// An inclusive range of VM ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmidRange {
    /// The first id, at least 100.
    pub first: u32,
    /// The last id, at most 999999999, not below `first`.
    pub last: u32,
}

/// How often each kind of capacity may be given out; factors above 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overcommit {
    /// Virtual cores per physical core (default 4.0).
    pub cpu: f64,
    /// Memory given out per memory there is (default 1.0).
    pub memory: f64,
    /// Provisioned bytes per byte of storage (default 1.5).
    pub storage: f64,
}

impl Default for Overcommit {
    fn default() -> Overcommit {
        Overcommit { cpu: 4.0, memory: 1.0, storage: 1.5 }
    }
}

/// The share of each kind of physical capacity that is kept free, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reserve {
    /// Of the cores (default 0.10).
    pub cpu: f64,
    /// Of the memory (default 0.15).
    pub memory: f64,
    /// Of the storage, held as really free space (default 0.10).
    pub storage: f64,
}

impl Default for Reserve {
    fn default() -> Reserve {
        Reserve { cpu: 0.10, memory: 0.15, storage: 0.10 }
    }
}
