//! Addresses, MAC addresses and firewalls (hazards.md OR 19).
use std::sync::{Arc, Mutex};

use simulator::{Action, Matched, Rule};

use super::*;

/// The network of the target with a subnet.
fn with_subnet(yaml: &str) -> String {
    let network = "app: { bridge: vmbr0, vlan: 220 }";
    assert!(yaml.contains(network), "the file has changed");
    yaml.replace(network, "app: { bridge: vmbr0, vlan: 220, subnet: \"10.2.20.0/24\", gateway: \"10.2.20.1\" }")
}

#[test]
fn static_addresses_that_dont_fit_the_targets_subnet_are_refused_unless_that_is_accepted() {
    for cli in clis() {
        let scene = Scene::with(&cli, GONE, with_subnet);
        scene.source.set_config(scene.vmid, "ipconfig0", Some("ip=10.1.20.5/24,gw=10.1.20.1,ip6=auto"));
        let words = ["network_identity", "address 10.1.20.5 is not in 10.2.20.0/24", "gateway 10.1.20.1 is not in"];
        scene.refused(&words);
        scene.workspace.edit("main.tf", GONE, &format!("{GONE}, accept_loss = [\"addresses\"]"));
        scene.workspace.plan().expect(2).says("A loss is accepted (network_identity)");
        scene.moved();
    }
}

#[test]
fn configured_addresses_count_before_those_that_are() {
    let scene = Scene::with(&cli(), GONE, with_subnet);
    scene.source.set_config(scene.vmid, "ipconfig0", Some("ip=10.1.20.5/24,gw=10.1.20.1"));
    let fits = "network_devices = { net0 = { network = \"app\" } }\n  \
                cloud_init = { addresses = { net0 = { ipv4 = \"10.2.20.5/24\", gateway4 = \"10.2.20.1\" } } }";
    scene.workspace.edit("main.tf", "network_devices = { net0 = { network = \"app\" } }", fits);
    scene.workspace.plan().expect(2).never_says("network_identity");
    let (told, target, vmid) = (Arc::new(Mutex::new(None)), scene.target.clone(), scene.vmid);
    let seen = told.clone();
    let look = move |_: &Matched| {
        *seen.lock().expect("it") = target.vm(vmid).and_then(|vm| vm.config.get("ipconfig0").cloned());
    };
    scene.world.fault(Rule::on("POST", "/nodes/*/status/start", Action::call(look)).cluster(TO));
    scene.workspace.apply().expect(0);
    let told = told.lock().expect("it").clone();
    assert_eq!(told.as_deref(), Some("ip=10.2.20.5/24,gw=10.2.20.1"), "it starts there with what fits");
    assert_eq!(scene.world.vm(TO, NAME).config["ipconfig0"], "ip=10.2.20.5/24,gw=10.2.20.1");
}

#[test]
fn a_mac_address_that_can_not_be_used_there_is_refused() {
    let scene = Scene::new();
    let mac = scene.before.config["net0"].split(['=', ',']).nth(1).expect("an address").to_owned();
    let net0 = format!("e1000={},bridge=vmbr0", mac.to_lowercase());
    let config = [("name", "twin"), ("net0", net0.as_str())].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let guest = GuestSpec { vmid: 900, node: "db1".into(), config: config.into(), pool: None, running: false };
    scene.target.create_vm(&guest).expect("a guest");
    scene.refused(&["mac_policy", mac.as_str(), "databarn-dr/900 (twin)"]);
    // A template can't start, and so can't use it.
    scene.target.set_config(900, "template", Some("1"));
    scene.target.set_option("mac_prefix", "02:AB:CD");
    scene.workspace.plan().expect(2).says("mac_policy").says("the prefix there is 02:AB:CD");
    scene.moved();
}

#[test]
fn a_network_that_takes_new_mac_addresses_alone_gets_one() {
    let new = |yaml: &str| yaml.replace("vlan: 220 }", "vlan: 220, macs: new }");
    let device = "net0 = { network = \"app\"";
    for cli in clis() {
        let scene = Scene::with(&cli, GONE, new);
        let mac_on = |cluster: &str| {
            scene.world.vm(cluster, NAME).config["net0"].split(['=', ',']).nth(1).expect("an address").to_owned()
        };
        let had = mac_on(FROM);
        // The one that it has, by its configuration.
        scene.workspace.edit("main.tf", device, &format!("{device}, mac = \"{had}\""));
        scene.refused(&["mac_policy", had.as_str(), "macs = \"new\""]);
        scene.workspace.edit("main.tf", &format!(", mac = \"{had}\""), "");
        scene.target.set_option("mac_prefix", "02:AB:CD");
        let plan = scene.workspace.plan().expect(2).says("A device gets a new MAC address on databarn-dr");
        assert!(plan.flat().contains(&format!("mac = \"{had}\" -> (known after apply)")), "{}", plan.text());
        scene.moved();
        let has = mac_on(TO);
        assert!(has.starts_with("02:AB:CD:") && has != had, "{has}");
        let state = &scene.workspace.state()["moxxie_virtual_machine.shop"];
        assert_eq!(state["network_devices"]["net0"]["mac"], has.as_str());
    }
    let scene = Scene::with(&cli(), GONE, new);
    scene.workspace.edit("main.tf", device, &format!("{device}, mac = \"02:00:00:00:00:07\""));
    scene.moved();
    assert!(scene.world.vm(TO, NAME).config["net0"].starts_with("virtio=02:00:00:00:00:07,"));
}

#[test]
fn a_filtered_machine_goes_where_it_is_filtered_too_unless_that_is_accepted() {
    let device = "net0 = { network = \"app\" }";
    for accepted in [false, true] {
        let scene = Scene::new();
        let net0 = format!("{},firewall=1", scene.before.config["net0"]);
        scene.source.set_config(scene.vmid, "net0", Some(&net0));
        scene.workspace.edit("main.tf", device, "net0 = { network = \"app\", firewall = true }");
        let rules = [("group", "web", None), ("in", "ACCEPT", Some("+office")), ("in", "ACCEPT", Some("10.0.0.0/8"))];
        scene.source.set_guest_firewall(scene.vmid, &rules);
        // Where the source doesn't filter nothing is lost.
        scene.workspace.plan().expect(2).never_says("firewall_parity");
        scene.source.set_firewall(true, &["group web", "+office", "gateway"]);
        scene.refused(&["firewall_parity", "the firewall is off", "group web, ipset office"]);
        scene.target.set_firewall(true, &["group web"]);
        scene.refused(&["firewall_parity", "there is no ipset office"]);
        if accepted {
            scene.workspace.edit("main.tf", GONE, &format!("{GONE}, accept_loss = [\"firewall\"]"));
            scene.workspace.plan().expect(2).says("A loss is accepted (firewall_parity)");
        } else {
            scene.target.set_firewall(true, &["group web", "+Office"]);
            scene.workspace.plan().expect(2).never_says("firewall_parity");
        }
        scene.moved();
        assert_eq!(scene.target.guest_firewall_rules(scene.vmid), 3, "its own rules went along");
    }
}
