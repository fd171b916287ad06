//! Keys of Proxmox VE's configuration that no attribute stands for: left alone by changes, quiet at import, carried by a move or
//! refused by name.

use std::collections::BTreeMap;

use harness::{SimulatedWorld, clis};
use serde_json::json;
use simulator::{Options, World};

use crate::support::{self, configure, instances, sound, workspace};

const NAME: &str = "web-1";

/// What somebody set by hand, and one that no version knows yet.
const ODD: [(&str, &str); 8] = [
    ("numa", "1"),
    ("args", "-device virtio-rng-pci"),
    ("vga", "serial0"),
    ("serial0", "socket"),
    ("usb0", "spice"),
    ("hookscript", "local:snippets/hook.pl"),
    ("startup", "order=2,up=30"),
    ("key-of-the-future", "some=thing,else=1"),
];

/// The odd ones of a configuration.
fn odd(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    config
        .iter()
        .filter(|(key, _)| ODD.iter().any(|(odd, _)| odd == key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// The three sites, the second with a storage `local`, too.
fn with_local() -> SimulatedWorld {
    let world = include_str!("../simulator/worlds/three-sites.yaml");
    let backups = "      backup-storage: {";
    assert!(world.contains(backups), "the world has changed");
    let local = "      local: { type: dir, content: [snippets], capacity: 100GiB }\n";
    let world = World::from_yaml(&world.replacen(backups, &format!("{local}{backups}"), 1)).expect("the world");
    SimulatedWorld::start(world, Options::default())
}

#[test]
fn keys_that_are_not_modelled_stay_are_quiet_and_are_carried_or_refused_by_name() {
    for cli in clis() {
        let world = with_local();
        let (from, to) = (world.cluster("worldstream-prod"), world.cluster("databarn-dr"));
        from.put_snippet("local", "snippets/hook.pl");
        let vms = |memory: &str, tags: &[&str], cluster: &str| json!({ NAME: { "cluster": cluster, "pool": "production-pool", "memory": memory, "tags": tags } });
        let workspace = workspace(&world, &cli, "app", &vms("2GB", &[], "worldstream-prod"));
        sound(workspace.apply()).expect(0);
        let vmid = instances(&workspace)[NAME].vmid;
        for (key, value) in ODD {
            from.set_config(vmid, key, Some(value));
        }
        let wanted: BTreeMap<String, String> = ODD.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        // Quiet, and left alone by a change of everything around them.
        sound(workspace.plan()).expect(0);
        world.clear_requests();
        configure(&workspace, &vms("4GB", &["web"], "worldstream-prod"));
        sound(workspace.apply()).expect(0);
        for call in world.requests().iter().filter(|call| call.method != "GET") {
            let named = ODD.iter().find(|(key, _)| call.params.contains_key(*key));
            assert_eq!(named, None, "{} {} {:?}", call.method, call.path, call.params);
        }
        assert_eq!(odd(&world.vm("worldstream-prod", NAME).config), wanted);
        from.stop(vmid);
        from.start(vmid).expect("a start");
        drop(sound(workspace.plan()).expect(0).never_says("restart"));
        // Quiet at an import.
        let address = support::address(NAME);
        workspace.run(&["state", "rm", &address]).expect(0);
        world.clear_requests();
        workspace.run(&["import", "-input=false", &address, &format!("worldstream-prod/{vmid}")]).expect(0);
        sound(workspace.apply()).expect(0);
        assert_eq!(world.writes(), Vec::<String>::new(), "an import writes nothing");
        sound(workspace.plan()).expect(0);
        // A device of its node is refused by name, and so is a file that the target doesn't have.
        from.set_config(vmid, "hostpci0", Some("mapping=gpu"));
        configure(&workspace, &vms("4GB", &["web"], "databarn-dr"));
        let refused = sound(workspace.apply()).expect(1);
        let refused = refused.says("passthrough").says("hostpci0 = mapping=gpu").says("nothing was touched");
        drop(refused.says("snippets").says("hookscript is local:snippets/hook.pl").never_says("serial0 = "));
        assert!(world.vm("worldstream-prod", NAME).running, "nothing was touched");
        assert_eq!(world.litter(), Vec::<String>::new());
        from.set_config(vmid, "hostpci0", None);
        to.put_snippet("local", "snippets/hook.pl");
        to.grant("app@pve", "/storage/local", "PVEDatastoreUser").expect("a role");
        sound(workspace.apply()).expect(0);
        let moved = world.vm("databarn-dr", NAME);
        assert_eq!(odd(&moved.config), wanted, "carried");
        assert!(moved.running);
        drop(sound(workspace.plan()).expect(0).never_says("Warning: Virtual machine"));
        sound(workspace.destroy()).expect(0);
        world.assert_clean();
    }
}
