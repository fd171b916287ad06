//! Builds the first state out of a world, and guests made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::acl::{Access, Token};
use crate::clock::{Clock, Pace};
use crate::qemu::create;
use crate::state::{Cluster, Node, Pool, STATD, State, Vm};
use crate::storage::{StorageDef, Store};
use crate::tls::{Authority, Leaf};
use crate::util::{parse_size, uuid};
use crate::world::{ClusterSpec, GuestSpec, UserSpec, World};
use crate::{Result, SimulatorError};

fn bad(text: impl Into<String>) -> SimulatorError {
    SimulatorError(format!("world file: {}", text.into()))
}

fn size(text: &str) -> Result<u64> {
    // PVE's own spelling or the guide's: 2TB, 2TiB and 2T are the same.
    let short = text.trim().trim_end_matches("iB").trim_end_matches('B').trim();
    parse_size(short).ok_or_else(|| bad(format!("'{text}' is no size")))
}

/// What a listener needs, by cluster and node.
pub(crate) type Leaves = BTreeMap<String, BTreeMap<String, Leaf>>;

pub(crate) fn build(world: &World, seed: u64, pace: Pace, folder: PathBuf) -> Result<(State, Leaves)> {
    let clock = Clock::new(pace);
    let mut st = State {
        seed,
        clock,
        events: 0,
        unique: 0,
        folder,
        content: world.content.min(8 << 20),
        clusters: BTreeMap::new(),
        stores: BTreeMap::new(),
        links: world.links.clone(),
        cut_lines: BTreeSet::new(),
        addresses: BTreeMap::new(),
        faults: crate::faults::Faults::default(),
        log: crate::log::RequestLog::default(),
        written: BTreeMap::new(),
        baseline: BTreeSet::new(),
    };
    let mut leaves = Leaves::new();
    for (name, spec) in &world.clusters {
        let (cluster, of_nodes) = cluster(name, spec, &world.users, seed, st.now())?;
        for (storage, def) in &cluster.storages {
            for node in cluster.nodes.keys().filter(|node| def.on(node)) {
                let key = def.store_key(name, node, storage);
                let store = st.stores.entry(key).or_default();
                *store = Store { capacity: store.capacity.max(def.capacity), ..std::mem::take(store) };
            }
        }
        st.clusters.insert(name.clone(), cluster);
        leaves.insert(name.clone(), of_nodes);
    }
    for (name, spec) in &world.clusters {
        for guest in &spec.guests {
            add_guest(&mut st, name, guest)?;
        }
        let now = st.now();
        st.cluster_mut(name).publish(now);
    }
    for (key, store) in &st.stores {
        st.baseline.extend(store.volumes.keys().chain(store.archives.keys()).map(|name| format!("{key}/{name}")));
    }
    Ok((st, leaves))
}

fn cluster(
    name: &str,
    spec: &ClusterSpec,
    everywhere: &[UserSpec],
    seed: u64,
    now: i64,
) -> Result<(Cluster, BTreeMap<String, Leaf>)> {
    let authority = Authority::new(name)?;
    let mut nodes = BTreeMap::new();
    let mut leaves = BTreeMap::new();
    for (place, (node, facts)) in spec.nodes.iter().enumerate() {
        let leaf = authority.leaf(node)?;
        nodes.insert(
            node.clone(),
            Node {
                cpus: facts.cpus,
                memory: size(&facts.memory)?,
                address: facts.address.clone().unwrap_or_else(|| format!("10.0.0.{}", 10 + place)),
                bridges: facts.bridges.clone(),
                devices: BTreeSet::new(),
                utc_offset: facts.utc_offset_minutes.unwrap_or(spec.utc_offset_minutes),
                silent_since: None,
                cpu_flags: CPU_FLAGS.to_owned(),
                newest_machine: if spec.version == crate::world::Profile::V8_4 { "9.2" } else { "10.1" }.to_owned(),
                online: true,
                back_at: None,
                since: now - 86_400_000,
                vzdump: None,
                leaf_pem: leaf.pem.clone(),
                fingerprint: leaf.fingerprint.clone(),
            },
        );
        leaves.insert(node.clone(), leaf);
    }
    if nodes.len() > 1 && spec.cluster_name.is_none() {
        return Err(bad(format!("{name}: several nodes need a cluster_name")));
    }
    let mut storages = BTreeMap::new();
    for (storage, facts) in &spec.storages {
        storages.insert(storage.clone(), StorageDef::new(facts, size(&facts.capacity)?));
    }
    let mut pools = BTreeMap::new();
    for pool in &spec.pools {
        pools.insert(pool.name.clone(), Pool { comment: pool.comment.clone(), ..Pool::default() });
    }
    let mut access = Access::default();
    access.users.insert("root@pam".to_owned(), None);
    for user in everywhere.iter().chain(&spec.users) {
        add_user(&mut access, name, user, spec, seed)?;
    }
    let cluster = Cluster {
        name: name.to_owned(),
        profile: spec.version,
        corosync: spec.cluster_name.clone(),
        quorate: true,
        dark: false,
        nodes,
        storages,
        vms: BTreeMap::new(),
        pools,
        access,
        options: spec.options.clone(),
        ha: BTreeMap::new(),
        ha_rules: BTreeMap::new(),
        ha_groups: BTreeMap::new(),
        jobs: Vec::new(),
        firewall: crate::firewall::Firewall::default(),
        replicated: BTreeMap::new(),
        tasks: Vec::new(),
        clone_ms: 1_000,
        next_tick: now + STATD,
        ca_fingerprint: authority.fingerprint(),
        ca_pem: authority.pem(),
    };
    Ok((cluster, leaves))
}

/// What processors since about 2010 can do: enough for x86-64-v2-AES.
const CPU_FLAGS: &str = "fpu tsc msr pae cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx lm pni \
                         ssse3 cx16 sse4_1 sse4_2 popcnt aes lahf_lm";

fn add_user(access: &mut Access, cluster: &str, user: &UserSpec, spec: &ClusterSpec, seed: u64) -> Result<()> {
    if !user.id.contains('@') {
        return Err(bad(format!("user '{}' has no realm", user.id)));
    }
    access.users.insert(user.id.clone(), user.password.clone());
    for rule in &user.acl {
        access.grant(&user.id, rule, spec.version)?;
    }
    for token in &user.tokens {
        let id = format!("{}!{}", user.id, token.id);
        let secret = token.secret.clone().unwrap_or_else(|| uuid(seed, &format!("{cluster}/{id}")));
        for rule in &token.acl {
            access.grant(&id, rule, spec.version)?;
        }
        access.tokens.insert(id, Token { secret, privsep: token.privsep });
    }
    Ok(())
}

/// A guest that is simply there, as if made long ago.
pub(crate) fn add_guest(st: &mut State, cluster: &str, guest: &GuestSpec) -> Result<()> {
    let place = |text: String| bad(format!("{cluster}: guest {}: {text}", guest.vmid));
    let c = st.clusters.get(cluster).ok_or_else(|| bad(format!("no cluster '{cluster}'")))?;
    if c.vms.contains_key(&guest.vmid) {
        return Err(place("exists already".to_owned()));
    }
    if !c.nodes.contains_key(&guest.node) {
        return Err(place(format!("no node '{}'", guest.node)));
    }
    let mut made = Vec::new();
    let conf = create::fill(st, cluster, &guest.node, guest.vmid, &guest.config, &mut made)
        .map_err(|error| place(error.message))?;
    let mut vm = Vm::new(guest.vmid, &guest.node);
    vm.conf = conf;
    let c = st.cluster_mut(cluster);
    c.vms.insert(guest.vmid, vm);
    if let Some(pool) = &guest.pool {
        let found = c.pools.get_mut(pool).ok_or_else(|| place(format!("no pool '{pool}'")))?;
        found.vms.insert(guest.vmid);
    }
    if guest.running {
        st.power_on(cluster, guest.vmid);
    }
    let now = st.now();
    st.cluster_mut(cluster).publish(now);
    Ok(())
}
