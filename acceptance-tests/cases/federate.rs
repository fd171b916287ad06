//! The command `federate` against the simulator: the guide's commands as the guide types them, tables, JSON, exit codes.
//!
//! `MOXXIE_BLESS=1` writes the tables in `federate/` anew.
mod rehearse;

use std::path::PathBuf;
use std::process::Command;

use harness::SimulatedWorld;
use serde_json::Value;

const YAML: &str = include_str!("main_job/multi-site.yaml");

/// A folder with a federation file and connections to a world, and the environment that holds the tokens.
struct Desk {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new(world: &SimulatedWorld, yaml: &str) -> Desk {
        let dir = tempfile::tempdir().expect("a folder");
        let desk = Desk { env: world.tokens("platform"), dir };
        desk.write("multi-site.yaml", yaml);
        desk.write("connections.json", &world.connections().to_string());
        desk
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_federate"));
        command.args(words).current_dir(self.dir.path()).env_remove("MOXXIE_CONFIG_FILE");
        command.env("MOXXIE_CONNECTIONS", "connections.json").envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        let out = self.command(words).output().expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: out.status.code().unwrap_or(-1), stdout: text(&out.stdout), stderr: text(&out.stderr) }
    }

    /// One line of a shell, without quotes in it.
    fn line(&self, line: &str) -> Said {
        self.run(&line.split_whitespace().skip(1).collect::<Vec<_>>())
    }
}

impl Said {
    #[track_caller]
    fn code(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Said {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(words), "not there: {words:?}\n{all}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// Compares the tables with `federate/NAME.txt`; addresses of the simulator, which differ every time, are masked.
    #[track_caller]
    fn shows(self, name: &str) -> Said {
        let file =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("acceptance-tests/cases/federate/{name}.txt"));
        let shown = masked(&format!("{}{}", self.stdout, self.stderr));
        if std::env::var_os("MOXXIE_BLESS").is_some() {
            std::fs::write(&file, &shown).expect("the golden");
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(shown, golden, "{} differs (MOXXIE_BLESS=1 writes it anew)", file.display());
        self
    }
}

/// `127.0.0.1:40123` becomes `127.0.0.1:PORT`, and what the table wrote in the address's width stays aligned enough.
fn masked(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "127.0.0.1:PORT";
        out += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out
}

#[test]
fn the_guides_commands_work_as_the_guide_types_them() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    machine(&world);
    for quoted in [false, true] {
        let run = |line: &str| if quoted { desk.run(&[line]) } else { desk.line(&line.replace("\\\n", "")) };
        run("federate status -c multi-site.yaml").code(0).says("3 of 3 clusters healthy");
        run("federate allocate -c multi-site.yaml \\\n  -p production-pool --cpu 4 --memory 8GB --location Amsterdam")
            .code(0)
            .says("goes to worldstream-prod");
        run("federate validate -c multi-site.yaml").code(0).says("multi-site.yaml is valid");
        run("federate validate -c multi-site.yaml --check-connectivity").code(0).says("worldstream-prod  yes");
        // The guide leaves -c out here: the file in the working directory is meant.
        run("federate allocate -p production-pool --explain").code(0).says("WHAT COUNTS");
        run("federate -c multi-site.yaml status").code(0);
        run("federate migrate vm-100 --from worldstream-prod --to databarn-dr --dry-run")
            .code(0)
            .says("guide-vm can move")
            .says("nothing was done");
        run("federate migrate vm-100 --from source --to target --dry-run")
            .code(2)
            .says("there is no cluster \"source\"; there are: databarn-dr, hetzner-edge, worldstream-prod");
    }
    let writes: Vec<String> = world.writes();
    assert_eq!(writes, Vec::<String>::new(), "the command changes nothing");
    let newest = world.vm("worldstream-prod", "guide-vm").disks[0].newest;
    desk.run(&["federate migrate -c multi-site.yaml \\\n  vm-100 --from worldstream-prod --to databarn-dr"])
        .code(0)
        .says("guide-vm moved from cluster worldstream-prod, node ws1, vmid 100 to cluster databarn-dr");
    let moved = world.vm("databarn-dr", "guide-vm");
    assert!(moved.running && moved.disks[0].newest >= newest, "{moved:?}");
    assert!(moved.config["net0"].contains("tag=220"), "the network is mapped: {}", moved.config["net0"]);
    assert!(world.vm("worldstream-prod", "guide-vm").template, "its source is kept, fenced");
    desk.line("federate migrate vm-100 --from worldstream-prod --to databarn-dr").code(1).says("template");
}

/// A machine that nobody manages, as the guide has one: VMID 100 on the first cluster.
fn machine(world: &SimulatedWorld) {
    let config = [
        ("name", "guide-vm"),
        ("memory", "2048"),
        ("cores", "2"),
        ("scsi0", "ceph-pool:8"),
        ("net0", "virtio=BC:24:11:00:00:64,bridge=vmbr0,tag=120"),
    ];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let pool = Some("production-pool".to_owned());
    world.cluster("worldstream-prod").create_pool("production-pool");
    world.cluster("databarn-dr").create_pool("production-pool");
    let guest = simulator::GuestSpec { vmid: 100, node: "ws1".into(), config, pool, running: true };
    world.cluster("worldstream-prod").create_vm(&guest).expect("a machine made by hand");
    world.advance(std::time::Duration::from_secs(15));
}

#[test]
fn a_move_is_shown_before_it_is_made_and_refused_with_every_reason() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    machine(&world);
    desk.line("federate migrate guide-vm --from worldstream-prod --to databarn-dr --dry-run").code(0).shows("migrate");
    let dry = "federate migrate guide-vm --from worldstream-prod --to databarn-dr --dry-run --json";
    let value = desk.line(dry).code(0).json();
    assert_eq!((&value["feasible"], &value["bytes"]), (&true.into(), &(8_u64 << 30).into()));
    assert!(value["downtime_seconds"].as_u64() > Some(0) && value["steps"].as_array().is_some_and(|s| s.len() > 10));
    assert_eq!(value["mappings"][0]["to"], "zfs-pool");
    // Everything in the way at once: no path's storage, another pool's cluster, too long.
    let refused = desk
        .line("federate migrate guide-vm --from worldstream-prod --to hetzner-edge --max-downtime 1s")
        .code(1)
        .says("not a member of production-pool")
        .says("max_downtime");
    assert!(refused.stdout.contains("transport_same"), "{}", refused.stdout);
    desk.line("federate migrate nobody --from worldstream-prod --to databarn-dr").code(1).says("no virtual machine");
    desk.line("federate migrate guide-vm --from databarn-dr --to databarn-dr").code(2).says("the same cluster");
    desk.line("federate migrate guide-vm --from worldstream-prod --to databarn-dr --async").code(2).says("--async");
    assert_eq!(world.writes(), Vec::<String>::new(), "nothing was touched");
    let back = desk
        .line("federate migrate 100 --from worldstream-prod --to databarn-dr --delete-source --keep-archive 0s --json --audit-file audit.jsonl")
        .code(0)
        .json();
    assert_eq!((&back["moved"], &back["to"]["cluster"]), (&true.into(), &"databarn-dr".into()));
    let audit = std::fs::read_to_string(desk.dir.path().join("audit.jsonl")).expect("the trail");
    assert!(audit.lines().count() > 10 && audit.contains("\"step\""), "{audit}");
    assert_eq!((world.machines(), world.litter()), (vec!["databarn-dr/guide-vm".to_owned()], Vec::new()));
}

#[test]
fn the_guides_own_file_works_unchanged() {
    let yaml = include_str!("guide/multi-site-example.yaml");
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, yaml);
    desk.line("federate validate -c multi-site.yaml --check-connectivity").code(0);
    desk.line("federate status -c multi-site.yaml").code(0).says("development-pool  cost");
    desk.line("federate allocate -c multi-site.yaml -p production-pool --cpu 4 --memory 8GB --location Amsterdam")
        .code(0)
        .says("goes to worldstream-prod");
    // Its comment says "keep dev away from prod"; its rule names a cluster where a place was meant.
    desk.line("federate allocate -c multi-site.yaml -p development-pool").code(0).says("goes to hetzner-edge");
}

#[test]
fn tables_are_for_people() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    desk.line("federate status").code(0).shows("status");
    desk.line("federate validate").code(0).shows("validate");
    desk.line("federate validate --check-connectivity").code(0).shows("connectivity");
    desk.line("federate allocate -p production-pool --name web-2 --cpu 4 --memory 8GB --disk 40GB --storage fast --network app --explain")
        .code(0)
        .shows("allocate-explained");
    desk.line("federate allocate -p development-pool --cpu 2 --memory 4GB --explain").code(0).shows("allocate-cost");
    desk.line("federate allocate -p production-pool --name web-1 --count 5 --cpu 2 --memory 4GB")
        .code(0)
        .shows("allocate-five");
    desk.line("federate allocate -p production-pool --name db-1 --count 4 --tag database")
        .code(0)
        .shows("allocate-spread");
    desk.line("federate allocate -p production-pool --cpu 99999 --memory 8GB").code(2).shows("allocate-misuse");
    desk.line("federate allocate -p production-pool --cpu 4 --memory 900TB").code(1).shows("allocate-refused");
    desk.line("federate allocate -p production-pool --needs supports_ceph --name web-3")
        .code(0)
        .says("goes to worldstream-prod");
    desk.line("federate allocate -p production-pool --needs nested_virtualization")
        .code(1)
        .says("nested_virtualization");
    desk.line("federate allocate -p production-pool --needs wings").code(2).says("supports_ha");
    desk.line("federate allocate -p no-such-pool").code(2).says("there are: development-pool, production-pool");
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn a_wrong_file_is_named_line_by_line() {
    let world = SimulatedWorld::three_sites();
    // What the historical program passed as valid.
    let yaml = YAML
        .replace("strategy: balanced", "strategy: bogus")
        .replacen("method: backup-restore", "method: teleport", 1)
        .replace("target_cluster: worldstream-prod, type", "target_cluster: worldstream-prd, type")
        .replace("tier: edge", "teir: edge")
        + "federation:\n  primary_cluster: nonexist\n  failover_priority: [zzz]\n";
    let desk = Desk::new(&world, &yaml);
    desk.line("federate validate --check-connectivity").code(1).shows("validate-wrong");
    let value = desk.line("federate validate --json").code(1).json();
    assert_eq!(value["valid"], false);
    assert!(value["problems"].as_array().is_some_and(|problems| problems.iter().all(|p| p["line"].as_u64() > Some(0))));
    desk.line("federate status").code(1).says("6 mistakes");
    assert_eq!(world.requests().len(), 0, "a wrong file is never tried on the clusters");
}

#[test]
fn a_dark_cluster_an_unset_variable_and_a_wrong_token_are_told_apart() {
    let world = SimulatedWorld::three_sites();
    let mut desk = Desk::new(&world, YAML);
    let mut connections = world.connections();
    // A port that nobody listens on any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    connections["hetzner-edge"]["endpoints"] = serde_json::json!([format!("https://{closed}")]);
    desk.write("connections.json", &connections.to_string());
    desk.env.retain(|(name, _)| name != "MOXXIE_TOKEN_DATABARN_DR");
    for (name, value) in &mut desk.env {
        if name == "MOXXIE_TOKEN_WORLDSTREAM_PROD" {
            *value = "platform@pve!platform=00000000-0000-0000-0000-000000000000".to_owned();
        }
    }
    let said = desk.line("federate validate --check-connectivity").code(1).shows("connectivity-wrong");
    assert!(!said.stdout.contains("00000000-"), "no secret is shown");
    desk.line("federate status").code(1).says("0 of 3 clusters healthy");
    // Without being asked, validate looks at the file alone: no environment, no cluster.
    desk.line("federate validate").code(0);
    desk.line("federate allocate -p production-pool").code(1).says("MOXXIE_TOKEN_DATABARN_DR");
    desk.write("connections.json", &world.connections().to_string().replace("api_token_env", "api_token"));
    desk.line("federate status").code(2).says("secrets do not belong");
    desk.line("federate status -c nowhere.yaml").code(2).says("nowhere.yaml");
    desk.line("federate stauts").code(2).says("status");
}

#[test]
fn a_drain_lists_who_leaves_who_waits_and_whom_nobody_will_move() {
    let world = SimulatedWorld::three_sites();
    let drains = YAML.replacen("    tier: primary\n", "    tier: primary\n    draining: true\n", 1).replacen(
        "    limits: { max_vms: 150",
        "    automatic_moves: [drain]\n    limits: { max_vms: 150",
        1,
    );
    let desk = Desk::new(&world, &drains);
    machine(&world);
    for (vmid, name, pool, device) in
        [(101, "second", true, false), (102, "gpu", true, true), (103, "legacy", false, false)]
    {
        let mut config = vec![("name".to_owned(), name.to_owned()), ("memory".to_owned(), "512".to_owned())];
        config.extend(device.then(|| ("hostpci0".to_owned(), "0000:01:00.0".to_owned())));
        let pool = pool.then(|| "production-pool".to_owned());
        let config = config.into_iter().collect();
        let guest = simulator::GuestSpec { vmid, node: "ws1".into(), config, pool, running: false };
        world.cluster("worldstream-prod").create_vm(&guest).expect("a machine made by hand");
    }
    world.advance(std::time::Duration::from_secs(15));
    let said = desk.line("federate status").code(0);
    let said = said.says("nobody will move: 103 legacy (in no pool of this federation)");
    let said = said.says("guide-vm moves from worldstream-prod to databarn-dr (worldstream-prod drains)");
    let said = said.says("second waits to move").says("max_moves_per_apply = 1: first guide-vm");
    said.says("gpu stays on worldstream-prod, and nobody will move it: hostpci0 = 0000:01:00.0");
    let value = desk.line("federate status --json").code(0).json();
    assert_eq!(value["moves"]["production-pool"].as_array().map(Vec::len), Some(3));
    assert_eq!(world.writes(), Vec::<String>::new());
}

#[test]
fn json_is_for_programs() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    let status = desk.line("federate status --json").code(0).json();
    assert_eq!(status["clusters"]["worldstream-prod"]["state"], "ok");
    assert_eq!(status["clusters"]["worldstream-prod"]["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["pools"]["production-pool"]["limits"]["max_vms"], 150);
    let valid = desk.line("federate validate --check-connectivity --json").code(0).json();
    assert_eq!((&valid["valid"], &valid["clusters"]["databarn-dr"]["quorate"]), (&true.into(), &true.into()));
    let placed = desk.line("federate allocate -p production-pool --count 3 --json --explain").code(0).json();
    assert_eq!(placed["machines"].as_array().map(Vec::len), Some(3));
    assert!(placed["machines"][0]["explanation"]["candidates"].is_array());
    let refused = desk.line("federate --json allocate -p production-pool --memory 900TB").code(1).json();
    assert!(refused["machines"][0]["cluster"].is_null());
    assert!(refused["machines"][0]["smallest_relaxation"].as_str().is_some_and(|text| !text.is_empty()));
    let wrong = desk.line("federate allocate -p nope --json").code(2).json();
    assert!(wrong["error"].as_str().is_some_and(|text| text.contains("nope")));
}

#[test]
fn a_refused_move_begins_with_what_is_in_the_way() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    machine(&world);
    let line = "federate migrate guide-vm --from worldstream-prod --to hetzner-edge --dry-run";
    let refused = desk.line(line).code(1).says("--verbose lists all");
    let at = |words: &str| refused.stdout.find(words).unwrap_or_else(|| panic!("no {words:?}: {}", refused.stdout));
    assert!(at("in the way:") < at("predicted time"), "{}", refused.stdout);
    assert!(!refused.stdout.contains("does the archive fit on the transfer storage"), "{}", refused.stdout);
    desk.line(&format!("{line} --verbose")).code(1).says("does the archive fit on the transfer storage");
}

#[test]
fn a_machine_that_is_not_there_is_not_told_of_imports() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    let said = desk.line("federate migrate vm-999 --from worldstream-prod --to databarn-dr").code(1);
    assert!(!said.stderr.contains("import") && said.stderr.contains("has no virtual machine 999"), "{}", said.stderr);
}

#[test]
fn a_thousand_machines_that_do_not_fit_are_announced_and_told_of_once() {
    let world = SimulatedWorld::three_sites();
    let desk = Desk::new(&world, YAML);
    let said = desk.line("federate allocate -p production-pool --name big-1 --count 1000 --memory 900GB").code(1);
    assert!(said.stderr.contains("placing 1000 machines in production-pool"), "{}", said.stderr);
    assert!(said.stdout.contains("big-1 to big-1000, 1000 machines, go nowhere"), "{}", said.stdout);
    assert_eq!(said.stdout.matches("Smallest change that would help").count(), 1);
}

#[test]
fn a_move_heeds_what_is_enrolled_on_the_clusters() {
    let world = SimulatedWorld::three_sites();
    let cli = &harness::clis()[0];
    let platform =
        world.workspace(cli, std::path::Path::new(env!("CARGO_BIN_EXE_terraform-provider-moxxie")), "platform");
    let main = include_str!("teams/platform.tf");
    let clusters = main.split("resource \"moxxie_resource_pool\"").next().unwrap_or_default();
    platform.write("main.tf", clusters);
    platform.apply().expect(0);
    machine(&world);
    // The file knows nothing of storage classes.
    let bare: String =
        YAML.lines().filter(|line| !line.contains("storage_classes:")).map(|line| format!("{line}\n")).collect();
    let desk = Desk::new(&world, &bare);
    let value = desk.line("federate migrate guide-vm --from worldstream-prod --to databarn-dr --dry-run --json").json();
    let disk = value["mappings"].as_array().into_iter().flatten().find(|one| one["slot"] == "scsi0").cloned();
    let disk = disk.unwrap_or_else(|| panic!("{value}"));
    assert_eq!((&disk["name"], &disk["to"]), (&"fast".into(), &"zfs-pool".into()), "{value}");
}
