//! Configuration keys: who may set them, and what PVE makes of a value before it is stored.

use crate::acl::Auth;
use crate::error::ApiError;
use crate::http::Call;
use crate::qemu::{Drive, is_drive, is_net, is_unused};
use crate::state::{Cluster, State};
use crate::storage::{Place, owner_of, split_volid};
use crate::util::{format_size, parse_size, split_list};

/// Only the real root sets these (proxmox-ve.md §1.2).
const ROOT_ONLY: [&str; 12] = [
    "affinity",
    "amd-sev",
    "arch",
    "args",
    "hugepages",
    "intel-tdx",
    "ivshmem",
    "keephugepages",
    "lock",
    "spice_enhancements",
    "vmgenid",
    "hookscript",
];

fn stem(key: &str) -> &str {
    key.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The privilege a key asks for on the guest.
fn privilege(key: &str, value: Option<&str>) -> &'static str {
    if is_drive(key) || is_unused(key) {
        let drive = Drive::parse(key, value.unwrap_or_default());
        if drive.is_cloud_init() {
            return "VM.Config.Cloudinit";
        }
        return if drive.is_cdrom() { "VM.Config.CDROM" } else { "VM.Config.Disk" };
    }
    match stem(key) {
        "boot" | "bootdisk" | "vmstatestorage" => "VM.Config.Disk",
        "cores" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "smp" | "sockets" | "vcpus" => "VM.Config.CPU",
        "memory" | "balloon" | "shares" | "allow-ksm" => "VM.Config.Memory",
        "net" => "VM.Config.Network",
        "cicustom" | "cipassword" | "citype" | "ciuser" | "ciupgrade" | "nameserver" | "searchdomain" | "sshkeys"
        | "ipconfig" => "VM.Config.Cloudinit",
        "acpi" | "hotplug" | "kvm" | "machine" | "scsihw" | "smbios" | "tablet" | "vga" | "watchdog" | "audio"
        | "rng" | "usb" | "hostpci" | "serial" | "virtiofs" => "VM.Config.HWType",
        _ => "VM.Config.Options",
    }
}

/// May this caller set (or, without value, delete) the key?
pub(crate) fn permit(
    c: &Cluster,
    auth: &Auth,
    on: &str,
    key: &str,
    value: Option<&str>,
    old: Option<&str>,
) -> Result<(), ApiError> {
    if auth.is_root() {
        return Ok(());
    }
    if ROOT_ONLY.contains(&key) || stem(key) == "parallel" {
        if let Some(script) = value.filter(|_| key == "hookscript") {
            return Err(ApiError::param("hookscript", format!("script '{script}' does not exist")));
        }
        return Err(ApiError::die(format!("only root can set '{key}' config")));
    }
    let socket = value.or(old).is_some_and(|v| v == "socket");
    if stem(key) == "serial" && !socket {
        return Err(ApiError::die(format!("only root can modify '{key}' config for real devices")));
    }
    let mapped = value.or(old).is_some_and(|v| v.contains("mapping=") || v == "spice");
    if stem(key) == "usb" && !mapped {
        return Err(ApiError::die(format!("only root can set '{key}' config for real devices")));
    }
    if stem(key) == "hostpci" && !mapped {
        return Err(ApiError::die(format!("only root can set '{key}' config for non-mapped devices")));
    }
    if key == "startup" {
        c.need(auth, "/", &["Sys.Modify"])?;
    }
    let wanted = privilege(key, value.or(old));
    if wanted == "VM.Config.Cloudinit" && c.has(auth, on, &["VM.Config.Network"]) {
        // Either right will do.
        return Ok(());
    }
    c.need(auth, on, &[wanted])?;
    if is_net(key) && value.is_some() {
        permit_bridge(c, auth, value.unwrap_or_default())?;
    }
    Ok(())
}

/// SDN.Use on the bridge, or on its tag.
pub(crate) fn permit_bridge(c: &Cluster, auth: &Auth, net: &str) -> Result<(), ApiError> {
    let part = |name: &str| net.split(',').find_map(|part| part.strip_prefix(name));
    let Some(bridge) = part("bridge=") else { return Ok(()) };
    let path = match part("tag=") {
        Some(tag) => format!("/sdn/zones/localnetwork/{bridge}/{tag}"),
        None => format!("/sdn/zones/localnetwork/{bridge}"),
    };
    if auth.is_root() { Ok(()) } else { c.need(auth, &path, &["SDN.Use"]) }
}

/// A new NIC address with the datacenter's prefix.
fn new_mac(st: &mut State, cluster: &str) -> String {
    let prefix = st.cluster(cluster).options.get("mac_prefix").and_then(|p| p.as_str()).unwrap_or("BC:24:11");
    let prefix = prefix.to_owned();
    let random = st.fresh("mac");
    let missing = 6 - prefix.split(':').count();
    let tail: String = (0..missing).map(|i| format!(":{:02X}", (random >> (8 * i)) & 0xff)).collect();
    format!("{prefix}{tail}")
}

/// `virtio=BC:…,bridge=vmbr0`: the model first, a MAC made where none was given.
pub(crate) fn normal_net(st: &mut State, cluster: &str, value: &str) -> String {
    let mut model = String::from("virtio");
    let mut mac = None;
    let mut options = std::collections::BTreeMap::new();
    for part in value.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            None => model = part.to_owned(),
            Some(("model", value)) => model = value.to_owned(),
            Some(("macaddr", value)) => mac = Some(value.to_owned()),
            Some((key @ ("firewall" | "link_down"), value)) => {
                options.insert(key.to_owned(), flag(value));
            }
            Some((key @ ("bridge" | "mtu" | "queues" | "rate" | "tag" | "trunks" | "host-tunnel"), value)) => {
                options.insert(key.to_owned(), value.to_owned());
            }
            Some((key, value)) => {
                model = key.to_owned();
                mac = Some(value.to_owned());
            }
        }
    }
    let mac = mac.unwrap_or_else(|| new_mac(st, cluster));
    let options: String = options.iter().map(|(key, value)| format!(",{key}={value}")).collect();
    format!("{model}={mac}{options}")
}

/// A boolean of a property string, in whichever spelling, as it is printed.
fn flag(value: &str) -> String {
    match value.to_lowercase().as_str() {
        "on" | "yes" | "true" => "1".to_owned(),
        "off" | "no" | "false" => "0".to_owned(),
        _ => value.to_owned(),
    }
}

/// Options of drives that are booleans.
const DRIVE_FLAGS: [&str; 10] = [
    "backup",
    "detect_zeroes",
    "iothread",
    "pre-enrolled-keys",
    "replicate",
    "ro",
    "scsiblock",
    "shared",
    "snapshot",
    "ssd",
];

/// Each once, in lower case and in order unless the datacenter's `tag-style` says otherwise; a blank where there is none.
fn normal_tags(c: &Cluster, value: &str) -> String {
    let style = c.options.get("tag-style").and_then(|style| style.as_str()).unwrap_or_default();
    let says = |part: &str| style.split(',').any(|one| one == part);
    let case = |tag: &str| if says("case-sensitive=1") { tag.to_owned() } else { tag.to_lowercase() };
    let mut tags: Vec<String> = Vec::new();
    for tag in split_list(value).map(case) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if !says("ordering=config") {
        tags.sort();
    }
    if tags.is_empty() { " ".to_owned() } else { tags.join(";") }
}

/// `STORAGE:SIZE` of an allocation, in bytes: whole KiB, rounded up.
fn allocation(volume: &str) -> Option<(&str, u64)> {
    let (storage, size) = volume.split_once(':')?;
    let gib: f64 = size.parse().ok()?;
    let whole = size.parse::<u64>().ok().map(|gib| gib << 30);
    Some((storage, whole.unwrap_or(((gib * (1u64 << 20) as f64).ceil() as u64) << 10)))
}

/// May this caller use what a drive line names? Checked before anything is changed.
pub(crate) fn permit_volume(call: &Call<'_>, vmid: u32, key: &str, value: &str) -> Result<(), ApiError> {
    let drive = Drive::parse(key, value);
    if drive.volume.starts_with('/') {
        let suffix = " at /usr/share/perl5/PVE/Storage.pm line 651.";
        return Err(ApiError::die(format!("Only root can pass arbitrary filesystem paths.{suffix}")));
    }
    if let Some((storage, _)) = allocation(&drive.volume) {
        return call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"]);
    }
    let Some((storage, name)) = split_volid(&drive.volume) else { return Ok(()) };
    if name == "cloudinit" {
        return call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"]);
    }
    call.c().need_volume(&call.auth, storage, false, owner_of(name), Some(vmid), &drive.volume)
}

/// What is stored for a drive: volumes are made, sizes are filled in.
pub(crate) fn normal_drive(
    st: &mut State,
    cluster: &str,
    node: &str,
    vmid: u32,
    key: &str,
    value: &str,
) -> Result<String, ApiError> {
    let mut drive = Drive::parse(key, value);
    for (_, option) in drive.options.iter_mut().filter(|(name, _)| DRIVE_FLAGS.contains(&name.as_str())) {
        *option = flag(option);
    }
    let asked = drive.volume.clone();
    if let Some((storage, size)) = allocation(&asked) {
        // EFI variables and TPM state have sizes of their own.
        let size = match stem(key) {
            "efidisk" => 528 << 10,
            "tpmstate" => 4 << 20,
            _ => size,
        };
        let format = drive.options.get("format").cloned().unwrap_or_else(|| "raw".to_owned());
        drive.volume = st.allocate_as(&Place { cluster, node, storage }, vmid, size, "disk", &format)?;
        drive.options.insert("size".to_owned(), format_size(size));
        drive.options.remove("format");
        drive.options.remove("import-from");
        return Ok(drive.print());
    }
    match split_volid(&asked) {
        Some((storage, "cloudinit")) => {
            drive.volume = st.allocate(&Place { cluster, node, storage }, vmid, 4 << 20, "cloudinit")?;
            drive.options.insert("media".to_owned(), "cdrom".to_owned());
            drive.options.insert("size".to_owned(), "4M".to_owned());
        }
        Some((storage, name)) if !name.starts_with("iso/") => {
            st.cluster(cluster).usable(storage, node, None)?;
            let Some(volume) = st.volume(cluster, node, &asked) else {
                return Err(ApiError::die(format!("volume '{asked}' does not exist")));
            };
            if !drive.is_cdrom() {
                drive.options.insert("size".to_owned(), format_size(volume.logical));
            }
        }
        _ => {}
    }
    Ok(drive.print())
}

/// What is stored for any key.
pub(crate) fn normal(
    st: &mut State,
    cluster: &str,
    node: &str,
    vmid: u32,
    key: &str,
    value: &str,
) -> Result<String, ApiError> {
    if is_drive(key) {
        return normal_drive(st, cluster, node, vmid, key, value);
    }
    Ok(match key {
        _ if is_net(key) => normal_net(st, cluster, value),
        "tags" => normal_tags(st.cluster(cluster), value),
        "description" => value.trim_end().to_owned(),
        "vmgenid" if value == "1" => st.fresh_uuid("vmgenid"),
        // The password is kept as a hash; which one makes no difference here.
        "cipassword" => format!("$5$sim${}", crate::util::sha1_hex(value)),
        _ => value.to_owned(),
    })
}

/// What a boot order names has to be there, or to come with the same call.
pub(crate) fn check_boot(boot: Option<&str>, is_there: impl Fn(&str) -> bool) -> Result<(), ApiError> {
    let order = boot.into_iter().flat_map(|boot| boot.split(',')).filter_map(|part| part.strip_prefix("order="));
    match order.flat_map(split_list).find(|device| !is_there(device)) {
        // The stray quote is Proxmox VE's.
        Some(device) => Err(ApiError::die(format!("invalid bootorder: device '{device}' does not exist'"))),
        None => Ok(()),
    }
}

/// Rules between keys.
pub(crate) fn check_memory(memory: Option<&str>, balloon: Option<&str>) -> Result<(), ApiError> {
    let number = |text: &str| text.strip_prefix("current=").unwrap_or(text).parse::<u64>().ok();
    let memory = memory.and_then(number).unwrap_or(512);
    match balloon.and_then(number) {
        Some(balloon) if balloon > memory => {
            Err(ApiError::die("balloon value too large (must be smaller than assigned memory)"))
        }
        _ => Ok(()),
    }
}

/// Bytes of a `resize` argument against the present size.
pub(crate) fn resized(now: u64, size: &str) -> Option<u64> {
    match size.strip_prefix('+') {
        Some(more) => now.checked_add(parse_size(more)?),
        None => parse_size(size),
    }
}
