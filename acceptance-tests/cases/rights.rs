//! The roles of the rights table: exactly those suffice, and a privilege that is missing is named, with its path, before anything
//! is touched.
mod support;

use std::collections::BTreeSet;

use harness::{Cli, SimulatedWorld, clis};
use serde_json::json;
use simulator::{Options, World};
use support::{configure, instances, workspace};

/// The world with one privilege less.
fn without(path: &str, privilege: &str) -> SimulatedWorld {
    let mut world = World::three_sites().expect("the world");
    for user in world.users.iter_mut().filter(|user| user.id == "app@pve") {
        for entry in user.acl.iter_mut().filter(|entry| entry.path == path) {
            if let Some(role) = entry.role.take() {
                entry.privileges = in_role(&role);
            }
            entry.privileges.retain(|own| own != privilege);
        }
        user.acl.retain(|entry| entry.role.is_some() || !entry.privileges.is_empty());
    }
    SimulatedWorld::start(world, Options::default())
}

/// Privileges of the built-in roles that the table uses.
fn in_role(role: &str) -> Vec<String> {
    let privileges: &[&str] = match role {
        "PVEDatastoreUser" => &["Datastore.AllocateSpace", "Datastore.Audit"],
        "PVESDNUser" => &["SDN.Audit", "SDN.Use"],
        other => panic!("{other} is not a role of the table"),
    };
    privileges.iter().map(|own| (*own).to_owned()).collect()
}

/// What the app team's role holds, and which step of a machine's life is refused without it. Once refused, nothing follows.
const APP: &[(&str, &str, &str)] = &[
    ("/", "Sys.Audit", "create"),
    ("/vms", "VM.Audit", "create"),
    ("/pool/production-pool", "VM.Allocate", "create"),
    ("/pool/production-pool", "VM.Audit", "move"),
    ("/pool/production-pool", "VM.Backup", "move"),
    ("/pool/production-pool", "VM.Config.CPU", "create"),
    ("/pool/production-pool", "VM.Config.Disk", "create"),
    ("/pool/production-pool", "VM.Config.HWType", "create"),
    ("/pool/production-pool", "VM.Config.Memory", "create"),
    ("/pool/production-pool", "VM.Config.Network", "create"),
    ("/pool/production-pool", "VM.Config.Options", "create"),
    ("/pool/production-pool", "VM.PowerMgmt", "create"),
    ("/pool/production-pool", "Pool.Audit", "create"),
    ("/pool/moxxie-moves", "Pool.Allocate", "create"),
    ("/storage/ceph-pool", "Datastore.AllocateSpace", "create"),
    ("/storage/zfs-pool", "Datastore.AllocateSpace", "move"),
    ("/storage/transfer", "Datastore.Allocate", "move"),
    ("/storage/transfer", "Datastore.AllocateSpace", "move"),
    ("/storage/transfer", "Datastore.Audit", "move"),
    ("/sdn/zones/localnetwork", "SDN.Use", "create"),
];

/// What it holds beside that, and for what: clones and cloud-init; the sight of clusters' records and of operations; and what
/// the built-in roles bring along.
const BESIDE: &[(&str, &str)] = &[
    ("/pool/production-pool", "VM.Clone"),
    ("/pool/production-pool", "VM.Config.Cloudinit"),
    ("/pool/production-pool", "VM.Config.CDROM"),
    ("/pool/moxxie", "Pool.Audit"),
    ("/pool/moxxie-moves", "Pool.Audit"),
    ("/storage/ceph-pool", "Datastore.Audit"),
    ("/storage/zfs-pool", "Datastore.Audit"),
    ("/sdn/zones/localnetwork", "SDN.Audit"),
];

/// Other pools and storages of the world, which this machine never meets.
const OTHERS: [&str; 2] = ["/pool/development-pool", "/storage/local-lvm"];

#[test]
fn the_app_role_is_what_the_table_says() {
    let world = World::three_sites().expect("the world");
    let user = world.users.iter().find(|user| user.id == "app@pve").expect("the app team's user");
    let mut held = BTreeSet::new();
    for entry in user.acl.iter().filter(|entry| !OTHERS.contains(&entry.path.as_str())) {
        let privileges = entry.role.as_deref().map_or_else(|| entry.privileges.clone(), in_role);
        held.extend(privileges.into_iter().map(|privilege| (entry.path.clone(), privilege)));
    }
    let listed = APP.iter().map(|(path, privilege, _)| (path, privilege)).chain(BESIDE.iter().map(|(p, q)| (p, q)));
    let listed: BTreeSet<_> = listed.map(|(path, privilege)| ((*path).to_owned(), (*privilege).to_owned())).collect();
    assert_eq!(held, listed);
}

fn refused(cli: &Cli, path: &str, privilege: &str, step: &str) -> Result<(), String> {
    let world = without(path, privilege);
    let vm = |cluster: &str| json!({ "api": { "pool": "production-pool", "cluster": cluster } });
    let workspace = workspace(&world, cli, "app", &vm("worldstream-prod"));
    if step == "move" {
        let run = workspace.apply();
        if run.code != 0 {
            return Err(format!("it can't be created: {}", run.flat()));
        }
        configure(&workspace, &vm("databarn-dr"));
    }
    world.clear_requests();
    let run = workspace.apply();
    let flat = run.flat();
    let mut wrong = Vec::new();
    if run.code == 0 {
        wrong.push("it is not refused".to_owned());
    }
    if !flat.contains(privilege) || !(flat.contains(&format!("on {path}")) || flat.contains("on /vms/")) {
        wrong.push(format!("it is not named: {flat}"));
    }
    let writes = world.writes();
    if !writes.is_empty() {
        wrong.push(format!("something was touched first: {writes:?}"));
    }
    let expected = usize::from(step == "move");
    if instances(&workspace).len() != expected || world.machines().len() != expected || !world.litter().is_empty() {
        wrong.push(format!("{:?} {:?}", world.machines(), world.litter()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[test]
fn each_missing_privilege_is_named_with_its_path_before_anything_is_touched() {
    let clis = clis();
    let wrong: Vec<String> = APP
        .iter()
        .enumerate()
        .filter_map(|(n, (path, privilege, step))| {
            let why = refused(&clis[n % clis.len()], path, privilege, step).err()?;
            Some(format!("{step} without {privilege} on {path}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), APP.len(), wrong.join("\n"));
}
