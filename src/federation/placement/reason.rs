//! Why a cluster is refused, with the numbers, and what would change it.

use serde::{Deserialize, Serialize};

use crate::model::{Capability, Rule, Tier};
use crate::names::{ClusterName, PoolName};
use crate::units::Bytes;

/// Which kind of rule refused, from the easiest to the hardest to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonClass {
    /// Not enough free now.
    Capacity,
    /// A limit somebody set on the pool or cluster.
    Limit,
    /// Nothing new comes in.
    Cordon,
    /// A storage, network, node or template that is not there.
    Structure,
    /// A placement rule of the pool.
    Rule,
    /// Not a member, or not connected.
    Membership,
    /// It does not answer, has no quorum, or cannot be seen.
    Health,
}

/// One reason why a cluster is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The provider has no connection to it.
    #[error("there is no connection to it in the provider configuration")]
    NotConnected,
    /// The pool does not list it.
    #[error("it is not a member of {pool}")]
    NotMember {
        /// The pool.
        pool: PoolName,
    },
    /// What is enrolled there of the pool can't be trusted.
    #[error("nothing new of {pool} is placed there: {why}")]
    Closed {
        /// The pool.
        pool: PoolName,
        /// What is wrong with its record.
        why: String,
    },
    /// What is enrolled of the cluster itself can't be trusted or seen.
    #[error("nothing new is placed there: {why}")]
    ClosedCluster {
        /// What is wrong with its record.
        why: String,
    },
    /// The VM is pinned elsewhere.
    #[error("the VM is pinned to {pin}")]
    PinnedElsewhere {
        /// Where to.
        pin: ClusterName,
    },
    /// It does not answer.
    #[error("it does not answer ({why})")]
    Unreachable {
        /// What happened.
        why: String,
    },
    /// Its health is not known, which is not healthy.
    #[error("its health is unknown ({why})")]
    UnknownHealth {
        /// Why.
        why: String,
    },
    /// It has no quorum.
    #[error("it has no quorum")]
    NotQuorate,
    /// What it has free is not known.
    #[error("its free capacity is unknown: the token lacks {missing_right}")]
    CapacityUnknown {
        /// The right that is missing.
        missing_right: String,
    },
    /// What its nodes have is not known.
    #[error("what its nodes have is not shown: the token lacks Sys.Audit on /nodes")]
    NodesUnseen,
    /// It is cordoned.
    #[error("it is cordoned: nothing new comes in")]
    Cordoned,
    /// It is draining.
    #[error("it is draining: nothing new comes in")]
    Draining,
    /// A `must` or `must_not` rule refuses it.
    #[error("the rule \"{rule}\" refuses it{because}")]
    Rule {
        /// The rule.
        rule: Rule,
        /// What the rule looked at, beginning with ": ", or empty.
        because: String,
    },
    /// One more there would break the spread of a group.
    #[error(
        "the rule \"{rule}\" spreads its VMs: {here} are here and {least} on {least_cluster}, one more here would be {} more than there",
        .here + 1 - .least
    )]
    Spread {
        /// The rule.
        rule: Rule,
        /// VMs of the group on this cluster.
        here: u32,
        /// VMs of the group on the emptiest candidate.
        least: u32,
        /// The emptiest candidate.
        least_cluster: ClusterName,
    },
    /// An ability the VM needs is not declared.
    #[error("it does not declare {capability}")]
    Capability {
        /// The ability.
        capability: Capability,
    },
    /// It is not of the tier the VM asks for.
    #[error("its tier is {}, and {tier} is asked for", .declared.map_or("not declared", |declared| declared.as_str()))]
    Tier {
        /// The tier.
        tier: Tier,
        /// The tier that the cluster declares.
        declared: Option<Tier>,
    },
    /// A storage is not there.
    #[error("it has no storage {storage:?}{asked} for disks{elsewhere}")]
    NoStorage {
        /// The storage looked for.
        storage: String,
        /// " (asked for as …)" when mapped, else empty.
        asked: String,
        /// What it has instead, or what is wrong, beginning with ": ", or empty.
        elsewhere: String,
    },
    /// A disk names no storage, and the cluster has no primary one.
    #[error("a disk names no storage, and the cluster has neither a primary storage nor a class \"default\"")]
    NoDefaultStorage,
    /// A bridge is not there.
    #[error("no usable node has the bridge or vnet {bridge:?} for {slot}")]
    NoBridge {
        /// The bridge looked for.
        bridge: String,
        /// The device that wants it.
        slot: String,
    },
    /// A device names neither network nor bridge.
    #[error("{slot} names neither a network nor a bridge")]
    NoNetwork {
        /// The device.
        slot: String,
    },
    /// A literal VLAN tag means nothing here.
    #[error("VLAN {vlan} of {slot} is outside its range {first}–{last}")]
    VlanOutOfRange {
        /// The tag.
        vlan: u16,
        /// The device.
        slot: String,
        /// First tag of the range.
        first: u16,
        /// Last tag of the range.
        last: u16,
    },
    /// The template is not there.
    #[error("it has no template {template:?}")]
    NoTemplate {
        /// The template.
        template: String,
    },
    /// The pinned node is not there or takes nothing.
    #[error("node {node:?} {problem}")]
    Node {
        /// The node.
        node: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No node can take anything.
    #[error("none of its {nodes} nodes is online and out of maintenance")]
    NoUsableNode {
        /// How many it has.
        nodes: u32,
    },
    /// No single node has all that is needed at once, though each thing alone would fit somewhere.
    #[error("no single node offers cores, memory, storage and networks together")]
    NoSingleNode,
    /// Too few cores on every node.
    #[error("needs {needed} cores, {free} free after overcommit and the {reserve} % reserve{planned}")]
    Cpu {
        /// Cores needed.
        needed: u32,
        /// Most cores free on one node.
        free: u32,
        /// Reserve in per cent.
        reserve: u32,
        /// What is planned there already, beginning with ", ", or empty.
        planned: String,
    },
    /// Too little memory on every node.
    #[error("needs {} of memory, {} free after the {reserve} % reserve{planned}", .needed.human(), .free.human())]
    Memory {
        /// Memory needed.
        needed: Bytes,
        /// Most memory free on one node.
        free: Bytes,
        /// Reserve in per cent.
        reserve: u32,
        /// What is planned there already, beginning with ", ", or empty.
        planned: String,
    },
    /// Too little space.
    #[error("needs {} on storage {storage:?}, {} free after the {reserve} % reserve{planned}", .needed.human(), .free.human())]
    Storage {
        /// The storage.
        storage: String,
        /// Space needed on it.
        needed: Bytes,
        /// Space free on it.
        free: Bytes,
        /// Reserve in per cent.
        reserve: u32,
        /// What is planned there already, beginning with ", ", or empty.
        planned: String,
    },
    /// A limit of the pool.
    #[error("{pool} would hold {would} of at most {most} ({limit})")]
    PoolLimit {
        /// The pool.
        pool: PoolName,
        /// The limit's name (`max_memory`).
        limit: String,
        /// What it would hold, in words.
        would: String,
        /// The limit, in words.
        most: String,
        /// The value of the limit that would do, as one would write it.
        enough: String,
    },
    /// The cluster's declared most guests.
    #[error("it would hold {would} guests of at most {most} (max_vms)")]
    ClusterLimit {
        /// What it would hold.
        would: u32,
        /// The limit.
        most: u32,
    },
}

impl Reason {
    /// Which kind of rule this is.
    pub fn class(&self) -> ReasonClass {
        match self {
            Reason::Cpu { .. } | Reason::Memory { .. } | Reason::Storage { .. } | Reason::NoSingleNode => {
                ReasonClass::Capacity
            }
            Reason::PoolLimit { .. } | Reason::ClusterLimit { .. } => ReasonClass::Limit,
            Reason::Cordoned | Reason::Draining => ReasonClass::Cordon,
            Reason::NoStorage { .. }
            | Reason::NoDefaultStorage
            | Reason::NoBridge { .. }
            | Reason::NoNetwork { .. }
            | Reason::VlanOutOfRange { .. }
            | Reason::NoTemplate { .. }
            | Reason::Capability { .. }
            | Reason::Tier { .. }
            | Reason::Node { .. } => ReasonClass::Structure,
            Reason::Rule { .. } | Reason::Spread { .. } => ReasonClass::Rule,
            Reason::NotConnected | Reason::NotMember { .. } | Reason::PinnedElsewhere { .. } => ReasonClass::Membership,
            Reason::Closed { .. }
            | Reason::ClosedCluster { .. }
            | Reason::Unreachable { .. }
            | Reason::UnknownHealth { .. }
            | Reason::NotQuorate
            | Reason::CapacityUnknown { .. }
            | Reason::NodesUnseen
            | Reason::NoUsableNode { .. } => ReasonClass::Health,
        }
    }

    /// What would make this reason go away, as an instruction ("lower memory to 41 GiB").
    pub fn relaxation(&self) -> String {
        match self {
            Reason::NotConnected => "connect it in the provider's clusters".to_owned(),
            Reason::NotMember { pool } => format!("add it to the clusters of {pool}"),
            Reason::Closed { pool, .. } => format!("mend the record of {pool} there: apply its moxxie_resource_pool"),
            Reason::ClosedCluster { .. } => "mend its record: apply its moxxie_cluster".to_owned(),
            Reason::PinnedElsewhere { pin } => format!("take the pin to {pin} away"),
            Reason::Unreachable { .. } => "bring it back into reach".to_owned(),
            // It answers, and not with what was asked: a refused token, say.
            Reason::UnknownHealth { .. } => "mend what it says".to_owned(),
            Reason::NotQuorate => "restore its quorum".to_owned(),
            Reason::CapacityUnknown { missing_right } => {
                format!("give the token {missing_right}, or set capacity = \"reported\"")
            }
            Reason::NodesUnseen => "give the token Sys.Audit on /nodes".to_owned(),
            Reason::Cordoned => "set cordoned = false".to_owned(),
            Reason::Draining => "set draining = false".to_owned(),
            Reason::Rule { rule, .. } | Reason::Spread { rule, .. } => format!("drop the rule \"{rule}\""),
            Reason::Capability { capability } => format!("declare {capability}"),
            Reason::Tier { tier, .. } => format!("declare its tier as {tier}"),
            Reason::NoStorage { storage, .. } => format!("map or create the storage {storage:?}"),
            Reason::NoDefaultStorage => "name a storage for every disk, or set storage_classes.default".to_owned(),
            Reason::NoBridge { bridge, .. } => format!("map or create the bridge {bridge:?}"),
            Reason::NoNetwork { slot } => format!("name a network for {slot}"),
            Reason::VlanOutOfRange { slot, .. } => format!("use a federation network for {slot}"),
            Reason::NoTemplate { template } => format!("put a template {template:?} there"),
            Reason::Node { node, .. } => format!("take the pin to node {node:?} away"),
            Reason::NoUsableNode { .. } => "bring a node online and out of maintenance".to_owned(),
            Reason::NoSingleNode => "free one node a little more".to_owned(),
            Reason::Cpu { needed, free, .. } => format!("free {} more cores on one node", needed - free),
            Reason::Memory { needed, free, .. } => {
                format!("free {} more memory on one node", needed.saturating_sub(*free).human_at_least())
            }
            Reason::Storage { storage, needed, free, .. } => {
                format!("free {} more on {storage:?}", needed.saturating_sub(*free).human_at_least())
            }
            Reason::PoolLimit { pool, limit, enough, .. } => format!("raise {limit} of {pool} to {enough}"),
            Reason::ClusterLimit { would, .. } => format!("raise its max_vms to {would}"),
        }
    }
}
