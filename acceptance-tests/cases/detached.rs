//! Disks and network devices that somebody takes out of a machine: what state knows comes back as it was, or is refused; an empty disk
//! never takes the place of a known one without a word.
use std::path::Path;

use crate::support::{self, PROVIDER, sound};
use harness::{Cli, Killed, SimulatedWorld, Workspace, clis};
use simulator::{ClusterHandle, VmSnapshot};

const MAIN: &str = r#"
resource "moxxie_virtual_machine" "api" {
  name    = "api"
  pool    = "production-pool"
  cluster = "worldstream-prod"
  memory  = "2GB"
  disks = {
    scsi0 = { size = "8GB", storage = "fast" }
    scsi1 = { size = "4GB", storage = "fast", discard = true }
  }
  network_devices = { net0 = { network = "app" } }
  migration       = { source = "delete", keep_archive = "0s" }
}
"#;

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

/// A machine that apply made, and what was there then.
struct Scene {
    world: SimulatedWorld,
    workspace: Workspace,
    cluster: ClusterHandle,
    before: VmSnapshot,
}

impl Scene {
    fn new(cli: &Cli) -> Scene {
        Scene::with(cli, MAIN)
    }

    fn with(cli: &Cli, main: &str) -> Scene {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
        workspace.write("multi-site.yaml", support::yaml()).write_main(main);
        workspace.apply().expect(0);
        let (cluster, before) = (world.cluster("worldstream-prod"), world.vm("worldstream-prod", "api"));
        Scene { world, workspace, cluster, before }
    }

    fn now(&self) -> VmSnapshot {
        self.world.vm("worldstream-prod", "api")
    }

    /// The volume that the machine was made with in a slot.
    fn volume(&self, slot: &str) -> String {
        self.before.disks.iter().find(|disk| disk.slot == slot).expect("the disk").volid.clone()
    }

    fn remove(&self, key: &str) {
        self.cluster.remove_key(self.before.vmid, key).expect("it is removed");
    }

    fn volumes(&self) -> usize {
        self.cluster.volumes().into_iter().filter(|volume| volume.volid.contains("disk")).count()
    }

    /// The second disk is there as it was, once; the first is what the machine boots from; nothing is left to do.
    #[track_caller]
    fn is_whole(&self, at: &str) {
        let now = self.now();
        for slot in ["scsi0", "scsi1"] {
            let line = now.config.get(slot).cloned().unwrap_or_default();
            assert!(line.starts_with(&self.volume(slot)), "{at}: {:?}", now.config);
        }
        assert!(now.config["scsi1"].contains("discard=on"), "{at}: {:?}", now.config);
        assert_eq!(now.config["boot"], self.before.config["boot"], "{at}");
        assert_eq!(now.config["net0"], self.before.config["net0"], "{at}");
        let bytes = |vm: &VmSnapshot| vm.disks.iter().find(|disk| disk.slot == "scsi1").map(|disk| disk.sha256.clone());
        assert_eq!(bytes(&now), bytes(&self.before), "{at}");
        assert_eq!(self.volumes(), 2, "{at}: {:?}", self.cluster.volumes());
        assert!(now.running && !now.config.contains_key("unused0"), "{at}: {:?}", now.config);
        sound(self.workspace.plan()).expect(0);
    }
}

#[test]
fn a_detached_disk_is_attached_again_with_every_byte() {
    for cli in clis() {
        let scene = Scene::new(&cli);
        scene.remove("scsi1");
        let again = format!("disk scsi1 is detached: apply attaches {} again", scene.volume("scsi1"));
        drop(sound(scene.workspace.plan()).expect(2).says(&again).says("0 to add, 1 to change, 0 to destroy"));
        sound(scene.workspace.apply()).expect(0);
        scene.is_whole("a data disk");
        // What it boots from can be detached while it is off alone, and leaves the boot order.
        scene.cluster.stop(scene.before.vmid);
        scene.remove("scsi0");
        assert!(!scene.now().config["boot"].contains("scsi0"), "{:?}", scene.now().config);
        drop(sound(scene.workspace.plan()).expect(2).says("disk scsi0 is detached"));
        sound(scene.workspace.apply()).expect(0);
        scene.is_whole("the disk that it boots from");
        // Taken out of the configuration, too, it stays where it is: unused.
        scene.remove("scsi1");
        scene.workspace.edit("main.tf", "    scsi1 = { size = \"4GB\", storage = \"fast\", discard = true }\n", "");
        sound(scene.workspace.apply()).expect(0);
        assert_eq!(scene.now().config.get("unused0"), Some(&scene.volume("scsi1")));
        sound(scene.workspace.plan()).expect(0);
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn an_apply_that_is_killed_attaches_a_detached_disk_once() {
    let clis = clis();
    let detached = |cli: &Cli| {
        let scene = Scene::new(cli);
        scene.cluster.stop(scene.before.vmid);
        for key in ["scsi0", "scsi1", "net0"] {
            scene.remove(key);
        }
        scene
    };
    let calls = {
        let scene = detached(&clis[0]);
        scene.world.clear_requests();
        scene.workspace.apply().expect(0);
        let all = scene.world.requests();
        let first = all.iter().position(|call| call.method != "GET").expect("it writes") as u64;
        first..=all.len() as u64
    };
    let mut killed = 0;
    for (call, executed) in calls.flat_map(|call| [(call, true), (call, false)]) {
        let scene = detached(&clis[usize::try_from(call).unwrap_or(0) % clis.len()]);
        let Killed::At(hit) = scene.workspace.killed_at(&scene.world, &APPLY, call, executed, || {}) else { continue };
        killed += 1;
        let at = format!("killed at {} {}, executed: {executed}", hit.call.method, hit.call.path);
        let run = sound(scene.workspace.apply());
        assert_eq!(run.code, 0, "{at}: {}", run.text());
        scene.is_whole(&at);
    }
    assert!(killed >= 4, "{killed} kills");
}

#[test]
fn a_disk_that_is_gone_with_its_volume_is_said_before_an_empty_one_is_made() {
    for cli in clis() {
        let scene = Scene::new(&cli);
        scene.remove("scsi1");
        scene.workspace.plan_to("attach.tfplan").expect(2);
        scene.remove("unused0");
        assert_eq!(scene.volumes(), 1);
        // A plan that attaches a volume makes no empty disk.
        let refused = sound(scene.workspace.apply_plan("attach.tfplan")).expect(1);
        drop(refused.says(&scene.volume("scsi1")).says("plan again"));
        assert_eq!(scene.volumes(), 1);
        let plan = sound(scene.workspace.plan()).expect(2);
        drop(plan.says("disk scsi1 is gone with its volume: apply makes an empty one").says("(known after apply)"));
        // It is said until it is done, not once.
        scene.workspace.run(&["apply", "-refresh-only", "-input=false", "-auto-approve"]).expect(0);
        drop(sound(scene.workspace.plan()).expect(2).says("disk scsi1 is gone with its volume"));
        sound(scene.workspace.apply()).expect(0);
        assert_eq!(scene.volumes(), 2);
        sound(scene.workspace.plan()).expect(0);
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn a_disk_that_somebody_put_on_another_slot_is_not_made_anew() {
    for cli in clis() {
        let scene = Scene::new(&cli);
        let volume = scene.volume("scsi1");
        scene.remove("scsi1");
        scene.cluster.change(scene.before.vmid, "virtio3", &volume).expect("it is attached");
        let words = format!("disk scsi1 is on virtio3 ({volume})");
        drop(sound(scene.workspace.plan()).expect(2).says(&words));
        scene.world.clear_requests();
        drop(sound(scene.workspace.apply()).expect(1).says(&words).says("nothing was changed"));
        assert_eq!((scene.volumes(), scene.world.writes()), (2, Vec::<String>::new()));
        scene.workspace.edit("main.tf", "    scsi1 = { size", "    virtio3 = { size");
        sound(scene.workspace.apply()).expect(0);
        assert_eq!(scene.volumes(), 2);
        assert!(scene.now().config["virtio3"].starts_with(&volume));
        sound(scene.workspace.plan()).expect(0);
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn a_machine_with_a_detached_disk_of_its_configuration_does_not_move() {
    for cli in clis() {
        let scene = Scene::new(&cli);
        let accepted = r#"keep_archive = "0s", accept_loss = ["unused-disks"]"#;
        scene.workspace.edit("main.tf", r#"keep_archive = "0s""#, accepted);
        scene.workspace.apply().expect(0);
        scene.remove("scsi1");
        scene.workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        scene.world.clear_requests();
        let words = format!("disk scsi1 is detached ({})", scene.volume("scsi1"));
        drop(sound(scene.workspace.plan()).expect(2).says(&words));
        drop(sound(scene.workspace.apply()).expect(1).says(&words).says("nothing was touched"));
        assert_eq!(scene.world.writes(), Vec::<String>::new());
        scene.workspace.edit("main.tf", "databarn-dr", "worldstream-prod");
        sound(scene.workspace.apply()).expect(0);
        scene.is_whole("before the move");
        scene.workspace.edit("main.tf", "worldstream-prod", "databarn-dr");
        sound(scene.workspace.apply()).expect(0);
        assert!(scene.world.vm("databarn-dr", "api").running);
        scene.workspace.destroy().expect(0);
        scene.world.assert_clean();
    }
}

#[test]
fn a_removed_network_device_comes_back_with_its_address() {
    for cli in clis() {
        let scene = Scene::new(&cli);
        scene.remove("net0");
        let plan = sound(scene.workspace.plan()).expect(2);
        drop(plan.says("network device net0 is gone: apply adds it again").says("0 to add, 1 to change, 0 to destroy"));
        sound(scene.workspace.apply()).expect(0);
        scene.is_whole("with its network device");
    }
}

#[test]
fn a_disk_that_leaves_at_the_next_restart_stays() {
    for cli in clis() {
        // On this bus a running machine keeps it until then.
        let scene = Scene::with(&cli, &MAIN.replace("scsi1", "sata1"));
        let line = scene.before.config["sata1"].clone();
        scene.remove("sata1");
        assert!(scene.now().pending.contains("sata1"));
        drop(sound(scene.workspace.plan()).expect(2).says("disk sata1 is detached: apply attaches"));
        sound(scene.workspace.apply()).expect(0);
        let now = scene.now();
        assert!(now.pending.is_empty() && now.config["sata1"] == line, "{now:?}");
        assert_eq!(scene.volumes(), 2);
        sound(scene.workspace.plan()).expect(0);
    }
}
