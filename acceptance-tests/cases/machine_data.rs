//! `data.moxxie_virtual_machine` through the real CLIs: what a machine is, and the addresses that its agent tells.

use harness::{SimulatedWorld, Workspace, clis};
use serde_json::{Value, json};

use crate::support::{self, PROVIDER, broken, by_hand};

const MAIN: &str = r#"
variable "machine" { default = null }

resource "moxxie_virtual_machine" "web" {
  name            = "web-1"
  pool            = "production-pool"
  cluster         = "worldstream-prod"
  agent           = true
  tags            = ["web"]
  disks           = { scsi0 = { size = "8GB", storage = "fast" } }
  network_devices = { net0 = { network = "app" } }
  cloud_init      = { password_wo = "canary-of-the-guest", password_wo_version = 1, addresses = { net0 = { ipv4 = "10.1.20.5/24" } } }
}

data "moxxie_virtual_machine" "web" {
  machine            = coalesce(var.machine, "${moxxie_virtual_machine.web.cluster}/${moxxie_virtual_machine.web.vmid}")
  wait_for_addresses = "30s"
}

output "is" { value = data.moxxie_virtual_machine.web }
"#;

/// What the data source says, by the output of an apply.
#[track_caller]
fn is(workspace: &Workspace) -> (String, Value) {
    let run = workspace.apply();
    assert_eq!(broken(&run.flat()), None, "{}\n{}", run.command, run.text());
    let said = run.expect(0).flat();
    let run = workspace.run(&["output", "-json", "is"]).expect(0);
    (said, serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.text())))
}

#[test]
fn a_machine_is_read_with_the_addresses_that_its_agent_tells() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, std::path::Path::new(PROVIDER), "platform");
        workspace.write("multi-site.yaml", support::yaml()).write_main(MAIN);
        // One apply makes the machine, and waits until its guest has an address.
        let (said, web) = is(&workspace);
        assert!(!said.contains("Warning: No address"), "{said}");
        let vm = world.vm("worldstream-prod", "web-1");
        let mac = vm.config["net0"].split(['=', ',']).nth(1).expect("a MAC address").to_lowercase();
        let interface = json!([{ "slot": "net0", "name": "eth0", "mac": mac, "addresses": ["10.1.20.5/24"] }]);
        assert_eq!(web["network_interfaces"], interface);
        assert_eq!((&web["ipv4_addresses"], &web["ipv6_addresses"]), (&json!(["10.1.20.5"]), &json!([])));
        let place = (&web["cluster"], &web["node"], &web["vmid"], &web["pool"]);
        assert_eq!(place, (&json!("worldstream-prod"), &json!(vm.node), &json!(vm.vmid), &json!("production-pool")));
        assert_eq!((&web["id"], &web["name"], &web["memory"]), (&json!(vm.uuid), &json!("web-1"), &json!("2GiB")));
        assert_eq!((&web["tags"], &web["started"], &web["template"]), (&json!(["web"]), &json!(true), &json!(false)));
        assert_eq!((&web["config"]["scsi0"], &web["waiting"]), (&json!(vm.config["scsi0"]), &json!([])));
        assert!(vm.config.contains_key("cipassword") && web["config"].get("cipassword").is_none(), "{web}");
        workspace.plan().expect(0);
        // By UUID, and by a name; one that nobody has is an error.
        for id in [vm.uuid.clone().unwrap_or_default(), "web-1".to_owned()] {
            workspace.write("machine.auto.tfvars.json", json!({ "machine": id }).to_string());
            assert_eq!(is(&workspace).1["vmid"], json!(vm.vmid), "{id}");
        }
        workspace.write("machine.auto.tfvars.json", json!({ "machine": "nobody" }).to_string());
        drop(
            workspace
                .plan()
                .expect(1)
                .says("Unable to read nobody")
                .says("no cluster has a virtual machine of that name"),
        );
        // One that nobody manages, without an agent: no addresses, no error, and nothing waits.
        world.cluster("hetzner-edge").create_vm(&by_hand(700, "hz1", "legacy", 2048, None)).expect("room");
        workspace.write("machine.auto.tfvars.json", json!({ "machine": "hetzner-edge/700" }).to_string());
        let (said, legacy) = is(&workspace);
        assert!(legacy["network_interfaces"].is_null() && legacy["ipv4_addresses"].is_null(), "{legacy}");
        assert!(!said.contains("No address"), "{said}");
        // An agent that is configured and not there: it is waited for, and said.
        world.cluster("hetzner-edge").set_config(700, "agent", Some("1"));
        workspace.edit("main.tf", "\"30s\"", "\"0s\"");
        let (said, legacy) = is(&workspace);
        assert!(said.contains("No address of legacy is known"), "{said}");
        assert_eq!(legacy["ipv4_addresses"], json!([]), "it tells its loopback alone");
        world.cluster("hetzner-edge").stop(700);
        let (said, legacy) = is(&workspace);
        assert!(legacy["network_interfaces"].is_null() && legacy["started"] == json!(false), "{legacy}");
        assert!(!said.contains("No address"), "{said}");
    }
}

#[test]
fn without_the_right_to_ask_an_agent_there_are_no_addresses_and_a_warning_names_it() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, std::path::Path::new(PROVIDER), "app");
        workspace.write("multi-site.yaml", support::yaml()).write_main(MAIN);
        let (said, web) = is(&workspace);
        assert!(said.contains("VM.GuestAgent.Audit"), "{said}");
        assert!(web["network_interfaces"].is_null(), "{web}");
        assert_eq!(web["name"], json!("web-1"));
        workspace.plan().expect(0);
    }
}
