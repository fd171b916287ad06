//! The roles of the guide's page of rights, which are read off that page: exactly those suffice, and a privilege that is missing is
//! named, with its path, before anything is touched.
pub mod guide;
mod ha;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{PROVIDER, configure, instances, sound, workspace, yaml};
use guide::Team;
use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{GuestSpec, Options, Profile, World};

/// The app team of the page.
fn app() -> Team {
    guide::team(&["App team"])
}

/// The world with Proxmox VE 9.2 everywhere: it asks for what older versions don't (`proxmox-ve.md` §18.2).
fn newest() -> World {
    let mut world = World::three_sites().expect("the world");
    world.clusters.values_mut().for_each(|cluster| cluster.version = Profile::V9_2);
    world
}

fn start(team: &Team) -> SimulatedWorld {
    SimulatedWorld::start(team.join(newest(), None), Options::default())
}

/// What the app team's role holds, and which step of a machine's life is refused without it. Once refused, nothing follows.
const APP: &[(&str, &str, &str)] = &[
    ("/", "Sys.Audit", "create"),
    ("/", "VM.Audit", "create"),
    ("/pool/production-pool", "VM.Allocate", "create"),
    ("/pool/production-pool", "VM.Audit", "move"),
    ("/pool/production-pool", "VM.Backup", "move"),
    ("/pool/production-pool", "VM.Clone", "copy"),
    ("/pool/production-pool", "VM.Config.CDROM", "copy"),
    ("/pool/production-pool", "VM.Config.CPU", "create"),
    ("/pool/production-pool", "VM.Config.Cloudinit", "copy"),
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

/// What it holds beside that, and for what: the sight of clusters' records and of operations; and what the built-in roles bring
/// along.
const BESIDE: &[(&str, &str)] = &[
    ("/pool/moxxie", "Pool.Audit"),
    ("/pool/moxxie-moves", "Pool.Audit"),
    ("/storage/ceph-pool", "Datastore.Audit"),
    ("/storage/zfs-pool", "Datastore.Audit"),
    ("/sdn/zones/localnetwork", "SDN.Audit"),
];

/// Makes a copy of a template of the team's own, with cloud-init.
const COPY: &str = r#"
resource "moxxie_virtual_machine" "copy" {
  name            = "copy"
  pool            = "production-pool"
  cluster         = "worldstream-prod"
  disks           = { scsi0 = { size = "6GB" } }
  network_devices = { net0 = { network = "app" } }
  clone           = { template = "golden" }
  cloud_init      = { user = "ops" }
  tags            = ["copied"]
}
"#;

/// A workspace that is to make the copy; the template is there.
fn copying(world: &SimulatedWorld, cli: &Cli, token: &str) -> Workspace {
    let config =
        [("name", "golden"), ("template", "1"), ("memory", "1024"), ("boot", "order=scsi0"), ("scsi0", "ceph-pool:4")];
    let config: BTreeMap<_, _> = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let pool = Some("production-pool".to_owned());
    let guest = GuestSpec { vmid: 9000, node: "ws1".to_owned(), config, pool, running: false };
    world.cluster("worldstream-prod").create_vm(&guest).expect("room for the template");
    let workspace = world.workspace(cli, Path::new(PROVIDER), token);
    workspace.write_main(COPY).write("multi-site.yaml", yaml());
    workspace
}

#[test]
fn the_app_role_is_what_the_table_says() {
    let listed = APP.iter().map(|(path, privilege, _)| (path, privilege)).chain(BESIDE.iter().map(|(p, q)| (p, q)));
    let listed: BTreeSet<_> = listed.map(|(path, privilege)| ((*path).to_owned(), (*privilege).to_owned())).collect();
    assert_eq!(app().rights, listed);
}

/// What root of another cluster can do with it (`proxmox-ve.md` §1.4).
#[test]
fn the_token_that_a_move_hands_over_is_a_user_of_its_own_with_what_a_machine_that_comes_needs() {
    let mover = guide::team(&["The token that a move hands over"]);
    assert_ne!(mover.user, app().user);
    let configures = app().rights.into_iter().map(|(_, privilege)| privilege).filter(|it| it.starts_with("VM.Config."));
    let mut expected: BTreeSet<_> = configures.map(|privilege| ("/vms".to_owned(), privilege)).collect();
    let more = [("/", "Sys.Audit"), ("/", "Sys.Incoming"), ("/vms", "VM.Allocate")];
    let beside = ["/storage/ceph-pool", "/storage/zfs-pool"].map(|storage| (storage, "Datastore.Audit"));
    let space = ["/storage/ceph-pool", "/storage/zfs-pool"].map(|storage| (storage, "Datastore.AllocateSpace"));
    let network = ["SDN.Use", "SDN.Audit"].map(|privilege| ("/sdn/zones/localnetwork", privilege));
    let all = more.into_iter().chain(beside).chain(space).chain(network);
    expected.extend(all.map(|(path, privilege)| (path.to_owned(), privilege.to_owned())));
    assert_eq!(mover.rights, expected);
}

#[test]
fn the_app_teams_commands_of_the_guide_carry_a_machine_through_its_life() {
    let team = app();
    for cli in clis() {
        let world = start(&team);
        let vm = |cluster: &str, tag: &str| json!({ "api": { "pool": "production-pool", "cluster": cluster, "tags": [tag] } });
        let own = workspace(&world, &cli, &team.token, &vm("worldstream-prod", "one"));
        sound(own.apply()).expect(0);
        assert_eq!(world.vm("worldstream-prod", "api").config["tags"], "one");
        configure(&own, &vm("worldstream-prod", "two"));
        sound(own.apply()).expect(0);
        configure(&own, &vm("databarn-dr", "two"));
        sound(own.apply()).expect(0);
        sound(own.plan()).expect(0);
        assert_eq!(world.machines(), ["databarn-dr/api"]);
        sound(own.destroy()).expect(0);
        world.assert_clean();
        drop(own);
        let copy = copying(&world, &cli, &team.token);
        sound(copy.apply()).expect(0);
        sound(copy.plan()).expect(0);
        sound(copy.destroy()).expect(0);
        assert_eq!(world.machines(), ["worldstream-prod/golden"]);
        assert_eq!(world.litter(), Vec::<String>::new());
    }
}

/// A team whose rights to machines come from its pool alone: what others use it can't tell, and it has to take what the nodes
/// report. A copy joins its pool at its end only, and is out of this token's sight till then.
#[test]
fn a_copy_is_made_with_a_token_that_sees_its_own_pool_alone() {
    let team = app().without("/", "VM.Audit");
    let blind = team.without("/", "Sys.Audit").without("/pool/moxxie", "Pool.Audit");
    for cli in clis() {
        let cluster = "  - id: worldstream-prod\n";
        let reported = |workspace: &Workspace| {
            workspace.edit("multi-site.yaml", cluster, &format!("{cluster}    capacity: reported\n"));
        };
        let world = start(&blind);
        let workspace = copying(&world, &cli, &blind.token);
        let refused = sound(workspace.plan()).expect(1).says("VM.Audit on /vms, Sys.Audit on /, Sys.Audit on /nodes");
        refused.says("or set capacity = \"reported\"");
        reported(&workspace);
        sound(workspace.plan()).expect(1).says("the token lacks Sys.Audit on /nodes");
        drop(workspace);

        let world = start(&team);
        let workspace = copying(&world, &cli, &team.token);
        reported(&workspace);
        sound(workspace.apply()).expect(0);
        sound(workspace.plan()).expect(0);
        assert_eq!(world.machines(), ["worldstream-prod/copy", "worldstream-prod/golden"]);
        assert!(world.vm("worldstream-prod", "copy").running);
        sound(workspace.destroy()).expect(0);
        assert_eq!(world.machines(), ["worldstream-prod/golden"]);
        assert_eq!(world.litter(), Vec::<String>::new());
    }
}

fn refused(cli: &Cli, path: &str, privilege: &str, step: &str) -> Result<(), String> {
    let team = app().without(path, privilege);
    let world = start(&team);
    let vm = |cluster: &str| json!({ "api": { "pool": "production-pool", "cluster": cluster, "tags": ["one"] } });
    let workspace = match step {
        "copy" => copying(&world, cli, &team.token),
        _ => workspace(&world, cli, &team.token, &vm("worldstream-prod")),
    };
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
    let (known, there) = (usize::from(step == "move"), usize::from(step != "create"));
    if instances(&workspace).len() != known || world.machines().len() != there || !world.litter().is_empty() {
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
