//! Owns what a guest on a cluster looks like as state: federation names and the prior spelling where they mean the same.
use std::collections::BTreeMap;

use federation::model::NicRequest;
use federation::{Bytes, Cluster, Slot};
use operations::restart::due;
use operations::{AddressWish, CloudInitWish, DiskSpec, Guest, NicSpec};
use protocol::Value;

use super::missing;
use super::sameness::spelled;
use super::schema::defaults;
use crate::values::Object;

/// State of `guest`. `prior` is state or plan: its spelling stays where it means the same, its configuration-only parts
/// are kept, and only slots it has are taken in. `all_slots`: take in every slot (import).
pub(crate) fn state(guest: &Guest, facts: &Cluster, prior: &Value, all_slots: bool) -> Value {
    let config = &guest.config;
    let mut object = Object::default();
    for name in ["ordinal", "location", "tier", "needs", "migration", "timeouts", "placement", "clone"] {
        object.set(name, known(prior.attr(name)));
    }
    object.set("id", guest.uuid.as_str());
    object.set("name", config.name().unwrap_or_default());
    object.set("pool", pool(guest, prior));
    object.set("cluster", guest.place.cluster.as_str()).set("node", guest.place.node.as_str());
    object.set("vmid", guest.place.vmid);
    object.set(
        "cpu",
        Value::object([
            ("cores", Value::from(config.cores())),
            ("sockets", config.sockets().into()),
            ("type", config.cpu_type().unwrap_or("kvm64").into()),
        ]),
    );
    let memory = Bytes::from_mib(config.memory_mib()).to_string();
    object.set("memory", spelled("memory", memory.into(), prior.attr("memory")));
    object.set("disks", disks(guest, facts, prior.attr("disks"), all_slots));
    object.set("network_devices", nics(guest, facts, prior.attr("network_devices"), all_slots));
    object.set("bios", config.bios());
    object.set("machine", spelled("machine", config.machine().into(), prior.attr("machine")));
    object.set("boot_order", missing::boot_order(guest, prior, all_slots));
    object.set("cloud_init", cloud_init(guest, prior.attr("cloud_init")));
    let policy = prior.attr("reboot_policy").as_str().unwrap_or(defaults::REBOOT_POLICY);
    object.set("reboot_policy", policy);
    object.set("tags", spelled("tags", Value::set(config.tags()), prior.attr("tags")));
    object.set("description", spelled("description", guest.description.as_str().into(), prior.attr("description")));
    object.set("started", guest.running).set("on_boot", guest.on_boot());
    object.set("protection", guest.protection()).set("agent", config.agent().enabled());
    let restart = || (policy == "reboot").then(|| restart_owed(guest, prior)).flatten();
    let owed = || missing::in_words(guest, prior, all_slots).or_else(|| owed_while_off(guest, prior)).or_else(restart);
    object.set("operation", guest.operation_in_words().or_else(owed));
    let retired = guest.retired_copies.iter().map(|copy| {
        Value::object([
            ("cluster", Value::from(copy.cluster.as_str())),
            ("vmid", copy.vmid.into()),
            ("until", copy.until.as_str().into()),
        ])
    });
    object.set("retired_copies", Value::list(retired));
    object.done()
}

/// Keys that a restart of the machine is owed for, `configured` being its state or plan.
pub(crate) fn restart_due(guest: &Guest, configured: &Value) -> Vec<String> {
    if guest.running { waiting_for(guest, configured) } else { Vec::new() }
}

/// Keys of what waits that our attributes become.
fn waiting_for(guest: &Guest, configured: &Value) -> Vec<String> {
    let has =
        |map: &str, slot: Slot| configured.attr(map).as_map().is_some_and(|map| map.contains_key(&slot.to_string()));
    due(&guest.waiting, |slot| has("disks", slot) || has("network_devices", slot))
}

/// What waited when the machine was shut down waits on, and nothing takes it by itself.
fn owed_while_off(guest: &Guest, configured: &Value) -> Option<String> {
    let due = if guest.running { Vec::new() } else { waiting_for(guest, configured) };
    let waits = if due.len() == 1 { "waits" } else { "wait" };
    (!due.is_empty()).then(|| format!("{} {waits}, and the machine is off: apply writes it again", due.join(", ")))
}

/// The same as unfinished business.
fn restart_owed(guest: &Guest, configured: &Value) -> Option<String> {
    let due = restart_due(guest, configured);
    (!due.is_empty()).then(|| format!("restart for what waits for it ({}): apply makes it", due.join(", ")))
}

pub(super) fn known(value: &Value) -> Value {
    if value.is_unknown() { Value::Null } else { value.clone() }
}

/// What cloud-init is told, part by part where it is configured; the rest is not ours.
fn cloud_init(guest: &Guest, prior: &Value) -> Value {
    if prior.is_null() || prior.is_unknown() {
        return Value::Null;
    }
    let is = CloudInitWish::of(&guest.config);
    let told = |name: &str, is: Value| if prior.attr(name).is_null() { Value::Null } else { is };
    let mut object = Object::default();
    object.set("user", told("user", is.user.into()));
    object.set("ssh_keys", told("ssh_keys", words("cloud_init.ssh_keys", is.ssh_keys, prior.attr("ssh_keys"))));
    object.set("password_wo", Value::Null);
    object.set("password_wo_version", known(prior.attr("password_wo_version")));
    object.set("addresses", told("addresses", addresses(&is.addresses, prior.attr("addresses"))));
    object.set("dns", told("dns", words("cloud_init.dns", is.dns, prior.attr("dns"))));
    object.done()
}

fn words(path: &str, is: Option<Vec<String>>, prior: &Value) -> Value {
    spelled(path, Value::list(is.unwrap_or_default()), prior)
}

fn addresses(is: &BTreeMap<Slot, AddressWish>, prior: &Value) -> Value {
    let configured = prior.as_map().into_iter().flatten();
    Value::map(configured.filter_map(|(slot, _)| {
        let wish = is.get(&slot.parse().ok()?)?;
        let parts =
            [("ipv4", &wish.ipv4), ("gateway4", &wish.gateway4), ("ipv6", &wish.ipv6), ("gateway6", &wish.gateway6)];
        Some((slot.clone(), Value::object(parts.map(|(name, part)| (name, Value::from(part.clone()))))))
    }))
}

/// The pool of state while the guest is in no other: a pool is shown as Proxmox VE's only where it differs from the prior
/// one, and a token that may not see pools shows none.
fn pool(guest: &Guest, prior: &Value) -> Value {
    match &guest.pool {
        Some(pool) => pool.as_str().into(),
        None if guest.pool_is_known => Value::Null,
        None => known(prior.attr("pool")),
    }
}

/// A disk up to one allocation unit larger than asked equals what was asked (hazards.md E11): storages round up.
const ALLOCATION_UNIT: Bytes = Bytes::from_mib(4);

/// `is`: nothing where Proxmox VE doesn't tell, which it does of a drive that somebody wrote into the file. It is what it was then, and no
/// bytes (`0B`) where nobody knew.
fn disk_size(is: Option<u64>, prior: &Value) -> Value {
    let asked = prior.as_str().and_then(|text| text.parse::<Bytes>().ok());
    let bytes = match is {
        Some(bytes) => Bytes(bytes),
        None if asked.is_some() => return prior.clone(),
        None => Bytes::ZERO,
    };
    match asked {
        Some(asked) if bytes >= asked && bytes.saturating_sub(asked) <= ALLOCATION_UNIT => prior.clone(),
        _ => spelled("disks.*.size", bytes.to_string().into(), prior),
    }
}

/// The slots to take in: those of `prior`, or all of them.
fn wanted<'a, T>(
    found: &'a BTreeMap<String, T>,
    prior: &'a Value,
    all: bool,
) -> impl Iterator<Item = (&'a String, &'a T)> + 'a {
    found.iter().filter(move |(slot, _)| all || prior.as_map().is_some_and(|map| map.contains_key(*slot)))
}

fn disks(guest: &Guest, facts: &Cluster, prior: &Value, all: bool) -> Value {
    if prior.is_null() && !all {
        return Value::Null;
    }
    let found = guest.config.disks();
    let ours = |(slot, disk): &(&String, &DiskSpec)| {
        slot.parse::<Slot>().is_ok_and(Slot::is_disk) && !disk.is_cdrom() && !disk.is_cloudinit()
    };
    let map = wanted(&found, prior, all).filter(ours);
    let map = map.map(|(slot, spec)| (slot.clone(), disk(spec, facts, prior.attr(slot))));
    Value::map(map.chain(missing::disks(guest, prior)))
}

fn disk(spec: &DiskSpec, facts: &Cluster, prior: &Value) -> Value {
    let prior_name = prior.attr("storage");
    let stands_for = facts.resolve_storage(prior_name.as_str());
    let same = !prior.is_null() && stands_for.as_deref().is_none_or(|storage| Some(storage) == spec.storage());
    let storage = match spec.storage() {
        // A drive by path is on none.
        None if prior_name.as_str() != Some("") => Value::Null,
        _ if same => known(prior_name),
        _ => federation_storage(spec, facts),
    };
    // Only a file has a format: elsewhere what is configured says nothing. Where nothing is, an import alone takes it in.
    let format = match (prior.is_null(), prior.attr("format").as_str()) {
        (true, _) => spec.format().into(),
        (false, Some(configured)) => spec.format().unwrap_or(configured).into(),
        (false, None) => Value::Null,
    };
    Value::object([
        ("size", disk_size(spec.size_bytes(), prior.attr("size"))),
        ("storage", storage),
        ("format", format),
        ("ssd", spec.option_bool("ssd").unwrap_or(false).into()),
        ("discard", (spec.option("discard") == Some("on")).into()),
        ("backup", spec.backup().into()),
        ("volume", spec.volume().into()),
    ])
}

/// The federation name of a volume's storage: the class that maps to it, else its own name.
fn federation_storage(spec: &DiskSpec, facts: &Cluster) -> Value {
    let storage = spec.storage().unwrap_or_default();
    let class = facts.storage_classes.iter().find(|(_, mapped)| mapped.as_str() == storage);
    class.map_or(storage, |(class, _)| class.as_str()).into()
}

fn nics(guest: &Guest, facts: &Cluster, prior: &Value, all: bool) -> Value {
    if prior.is_null() && !all {
        return Value::Null;
    }
    let found = guest.config.nics();
    let is_slot = |(slot, _): &(&String, &NicSpec)| slot.parse::<Slot>().is_ok();
    let map = wanted(&found, prior, all).filter(is_slot);
    let map = map.map(|(slot, spec)| (slot.clone(), nic(spec, facts, prior.attr(slot))));
    Value::map(map.chain(missing::nics(guest, prior)))
}

fn nic(spec: &NicSpec, facts: &Cluster, prior: &Value) -> Value {
    let is_here = |name: &str| {
        let wish = NicRequest { network: Some(name.to_owned()), bridge: None, vlan: None };
        let on = facts.resolve_network(&wish);
        on.is_some_and(|on| Some(on.bridge.as_str()) == spec.bridge() && on.vlan == spec.tag())
    };
    let imported = || facts.networks.keys().find(|name| is_here(name)).cloned();
    let network = match prior.attr("network").as_str() {
        Some(name) => is_here(name).then(|| name.to_owned()),
        None if prior.is_null() => imported(),
        None => None,
    };
    let mac = spelled("network_devices.*.mac", spec.mac().into(), prior.attr("mac"));
    Value::object([
        ("network", network.into()),
        ("bridge", spec.bridge().into()),
        ("vlan", spec.tag().into()),
        ("model", if spec.model().is_empty() { defaults::NIC_MODEL } else { spec.model() }.into()),
        ("mac", mac),
        ("firewall", spec.firewall().into()),
    ])
}
