//! Everything a user can get wrong: each mistake is a clear diagnostic on its attribute or line, none is a panic, and nothing is
//! touched. Each table below is one run of the real CLI; a row is one mistake.
mod batch;
mod clusters;
mod history;
mod pools;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use batch::{Batch, Row};
use harness::{SimulatedWorld, clis};

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-moxxie");
const YAML: &str = include_str!("main_job/multi-site.yaml");

fn row(name: &'static str, block: impl Into<String>, code: &'static str, words: &'static [&'static str]) -> Row {
    Row {
        name,
        block: block.into(),
        code: code.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// A machine with these lines beside its name and pool.
fn vm(lines: &str) -> String {
    format!(
        "resource \"moxxie_virtual_machine\" \"NAME\" {{\n  name = \"web-1\"\n  pool = \"production-pool\"\n  {lines}\n}}\n"
    )
}

/// A provider configuration with these lines, and a machine that uses it (core leaves unused ones alone).
fn provider(lines: &str) -> String {
    format!(
        "provider \"moxxie\" {{\n  alias = \"NAME\"\n  {lines}\n}}\nresource \"moxxie_virtual_machine\" \"NAME\" {{\n  \
         provider = moxxie.NAME\n  name     = \"web-1\"\n  pool     = \"production-pool\"\n}}\n"
    )
}

/// One entry of `clusters` with a sound address, token variable and these lines.
fn cluster(lines: &str) -> String {
    provider(&format!("clusters = {{ a = {{\n    {lines}\n  }} }}"))
}

#[test]
fn machines() {
    let raw = |text: &str| text.to_owned();
    let rows = vec![
        row("a name with a blank", vm("").replace("\"web-1\"", "\"web 1\""), "name =", &["Invalid name", "DNS name"]),
        row("a name that ends in a hyphen", vm("").replace("\"web-1\"", "\"web-\""), "name =", &["inner hyphens"]),
        row("no name", vm("").replace("  name = \"web-1\"\n", ""), "resource", &["name", "required"]),
        row(
            "neither pool nor cluster",
            vm("").replace("  pool = \"production-pool\"\n", ""),
            "resource",
            &["pool or a cluster"],
        ),
        row("a reserved pool", vm("").replace("production-pool", "moxxie-moves"), "pool =", &["reserved"]),
        row("four levels of pools", vm("").replace("production-pool", "a/b/c/d"), "pool =", &["three levels"]),
        row("a cluster that is no name", vm("cluster = \"not a name\""), "cluster =", &["cluster name"]),
        row("memory without a unit", vm("memory = \"8192\""), "memory =", &["no unit"]),
        row("memory as a number", vm("memory = 8192"), "memory =", &["no unit"]),
        row("memory in parsecs", vm("memory = \"4 parsecs\""), "memory =", &["not a unit of size"]),
        row("memory of a list", vm("memory = [\"4GB\"]"), "memory =", &["string required"]),
        row("memory below the least", vm("memory = \"1MB\""), "memory =", &["less than the least"]),
        row("negative memory", vm("memory = \"-4GB\""), "memory =", &["Invalid memory"]),
        row("memory past 64 bits", vm("memory = \"99999999PB\""), "memory =", &["larger than"]),
        row("no cores", vm("cpu = { cores = 0 }"), "cpu", &["whole number from 1"]),
        row("half a core", vm("cpu = { cores = 0.5 }"), "cpu", &["whole number"]),
        row("cores in words", vm("cpu = { cores = \"four\" }"), "cpu", &["number"]),
        row("no sockets", vm("cpu = { sockets = 0 }"), "cpu", &["whole number from 1"]),
        row("a VMID below 100", vm("vmid = 99"), "vmid", &["from 100"]),
        row("a huge VMID", vm("vmid = 10000000000"), "vmid", &["999999999"]),
        row("an ordinal of 0", vm("ordinal = 0"), "ordinal", &["from 1"]),
        row("an unknown attribute", vm("memroy = \"8GB\""), "memroy", &["Unsupported argument"]),
        row(
            "a slot that is none",
            vm("disks = { scsi99 = { size = \"8GB\" } }"),
            "disks",
            &["No such slot", "scsi0–30"],
        ),
        row("a network slot among the disks", vm("disks = { net0 = { size = \"8GB\" } }"), "disks", &["No such slot"]),
        row("a disk without a size", vm("disks = { scsi0 = { storage = \"fast\" } }"), "disks", &["size"]),
        row("a disk size without a unit", vm("disks = { scsi0 = { size = \"8\" } }"), "disks", &["no unit"]),
        row(
            "a disk format that is none",
            vm("disks = { scsi0 = { size = \"8GB\", format = \"vdi\" } }"),
            "disks",
            &["raw, qcow2, vmdk"],
        ),
        row(
            "a disk slot among the networks",
            vm("network_devices = { scsi0 = { network = \"app\" } }"),
            "network_devices",
            &["net0–31"],
        ),
        row(
            "a CPU type that goes on",
            vm("cpu = { type = \"host,flags=+pcid\" }"),
            "cpu",
            &["Invalid type", "holds ','"],
        ),
        row(
            "a bridge that goes on",
            vm("network_devices = { net0 = { bridge = \"vmbr0,tag=5\" } }"),
            "network_devices",
            &["Invalid bridge", "holds ','"],
        ),
        row(
            "a storage with a size",
            vm("disks = { scsi0 = { size = \"8GB\", storage = \"fast:8\" } }"),
            "disks",
            &["Invalid storage", "holds ':'"],
        ),
        row(
            "a VLAN of 5000",
            vm("network_devices = { net0 = { bridge = \"vmbr0\", vlan = 5000 } }"),
            "network_devices",
            &["from 1 to 4094"],
        ),
        row(
            "a multicast MAC",
            vm("network_devices = { net0 = { network = \"app\", mac = \"01:00:00:00:00:00\" } }"),
            "network_devices",
            &["multicast"],
        ),
        row(
            "a NIC model that is none",
            vm("network_devices = { net0 = { network = \"app\", model = \"ne2000\" } }"),
            "network_devices",
            &["virtio, e1000"],
        ),
        row("a tag with a blank", vm("tags = [\"a b\"]"), "tags", &["Not a tag"]),
        row("firmware that is none", vm("bios = \"coreboot\""), "bios", &["seabios, ovmf"]),
        row(
            "a description past the limit",
            vm("description = join(\"\", [for i in range(1024) : \"xxxxxxxxx\"])"),
            "description",
            &["too long", "8192"],
        ),
        row("a source that burns", vm("migration = { source = \"burn\" }"), "migration", &["keep, delete"]),
        row("a method that is none", vm("migration = { method = \"teleport\" }"), "migration", &["backup-restore"]),
        row("a time in words", vm("migration = { keep_source = \"soon\" }"), "migration", &["Invalid keep_source"]),
        row("a loss that is none", vm("migration = { accept_loss = [\"all\"] }"), "migration", &["snapshots"]),
        row("a timeout in words", vm("timeouts = { create = \"later\" }"), "timeouts", &["Invalid create"]),
        row(
            "a resource that is none",
            raw("resource \"moxxie_container\" \"NAME\" {\n  name = \"x\"\n}\n"),
            "resource",
            &["does not support resource type"],
        ),
        row(
            "a data source without its type",
            raw("data \"moxxie_nothing\" \"NAME\" {}\n"),
            "data",
            &["does not support data source"],
        ),
    ];
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        // What core itself refuses about types would hide the rest: it comes alone.
        Batch::new("provider \"moxxie\" {}\n", &rows).check(&workspace, &["validate", "-json"]);
        assert_eq!(world.requests().len(), 0, "validate asks nobody");
    }
}

#[test]
fn provider_blocks_and_their_clusters() {
    let sound = "endpoints = [\"https://127.0.0.1:1\"]\n    api_token_env = \"T\"";
    let with = |lines: &str| cluster(&format!("{sound}\n    {lines}"));
    let rows = vec![
        row(
            "plain http",
            cluster("endpoints = [\"http://10.0.0.1:8006\"]\n    api_token_env = \"T\""),
            "a = {",
            &["clusters[\"a\"].endpoints", "must use https"],
        ),
        row(
            "a password in the address",
            cluster("endpoints = [\"https://root:pw@10.0.0.1\"]\n    api_token_env = \"T\""),
            "a = {",
            &["clusters[\"a\"].endpoints", "must not carry"],
        ),
        row(
            "an address that is none",
            cluster("endpoints = [\"https://\"]\n    api_token_env = \"T\""),
            "a = {",
            &["clusters[\"a\"].endpoints", "not a URL"],
        ),
        row(
            "no address at all",
            cluster("endpoints = []\n    api_token_env = \"T\""),
            "a = {",
            &["clusters[\"a\"].endpoints", "empty list"],
        ),
        row(
            "a cluster that is no name",
            provider("clusters = { \"not a name\" = { endpoints = [\"https://h\"], api_token_env = \"T\" } }"),
            "clusters",
            &["Not a cluster name"],
        ),
        row(
            "two tokens",
            with("api_token = \"a@pve!t=x\""),
            "a = {",
            &["clusters[\"a\"].api_token", "exclude each other"],
        ),
        row(
            "two tokens to hand over",
            with("migration_token = \"a@pve!t=x\"\n    migration_token_env = \"T\""),
            "a = {",
            &["clusters[\"a\"].migration_token_env", "exclude each other"],
        ),
        row(
            "a token and a user",
            with("username = \"root@pam\""),
            "a = {",
            &["clusters[\"a\"].username", "exclude each other"],
        ),
        row(
            "two passwords",
            cluster(
                "endpoints = [\"https://h\"]\n    username = \"u@pve\"\n    password = \"x\"\n    password_env = \"P\"",
            ),
            "a = {",
            &["clusters[\"a\"].password_env", "exclude each other"],
        ),
        row(
            "a short fingerprint",
            with("fingerprints = [\"AB:CD\"]"),
            "a = {",
            &["clusters[\"a\"].fingerprints", "fingerprint"],
        ),
        row(
            "a fingerprint that is text",
            with("fingerprints = [\"sha256 of the certificate\"]"),
            "a = {",
            &["clusters[\"a\"].fingerprints", "fingerprint"],
        ),
        row(
            "pinned and insecure",
            with(
                "fingerprints = [\"AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\"]\n    insecure = true",
            ),
            "a = {",
            &["clusters[\"a\"].insecure", "exclude each other"],
        ),
        row(
            "a CA and insecure",
            with("ca_file = \"ca.pem\"\n    insecure = true"),
            "a = {",
            &["clusters[\"a\"].insecure", "exclude each other"],
        ),
        row(
            "a timeout in words",
            with("connect_timeout = \"soon\""),
            "a = {",
            &["clusters[\"a\"].connect_timeout", "Invalid connect_timeout"],
        ),
        row(
            "a lease in words",
            provider("operation_lease = \"a while\""),
            "operation_lease",
            &["Invalid operation_lease"],
        ),
        row("no concurrency", provider("concurrency = 0"), "concurrency", &["from 1 to 1024"]),
        row("too much concurrency", provider("concurrency = 100000"), "concurrency", &["from 1 to 1024"]),
        // Core drops a key that it doesn't know without a word; what it needs and misses is said.
        row(
            "a misspelt key of a cluster",
            cluster("endpoint = \"https://h\"\n    api_token_env = \"T\""),
            "clusters =",
            &["\"endpoints\" is required"],
        ),
        row("an unknown key of the block", provider("cluster = {}"), "cluster =", &["Unsupported argument"]),
    ];
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        Batch::new("", &rows).check(&workspace, &["validate", "-json"]);
        assert_eq!(world.requests().len(), 0, "validate asks nobody");
    }
}

#[test]
fn clusters_pools_and_data_sources() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        for rows in [clusters::clusters(), pools::pools(), pools::data()] {
            Batch::new("provider \"moxxie\" {}\n", &rows).check(&workspace, &["validate", "-json"]);
        }
        assert_eq!(world.requests().len(), 0, "validate asks nobody");
    }
}

#[test]
fn federation_files() {
    let cases = yaml::cases(YAML);
    let (mut rows, mut files) = (Vec::new(), BTreeMap::new());
    for (index, case) in cases.into_iter().enumerate() {
        let file = format!("f{index}.yaml");
        let mut words = case.words.clone();
        words.push(file.clone());
        words.extend(case.line.map(|line| format!("line {line}, column")));
        let block = provider(&format!("config_file = \"{file}\""));
        rows.push(Row { name: case.name, block, code: "config_file".to_owned(), words });
        files.insert(file, case.bytes);
    }
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        for (name, bytes) in &files {
            workspace.write(name, bytes);
        }
        Batch::new("", &rows).check(&workspace, &["validate", "-json"]);
        assert_eq!(world.requests().len(), 0, "validate asks nobody");
    }
}

#[test]
fn what_only_the_environment_and_the_clusters_know() {
    for cli in clis() {
        let world = SimulatedWorld::three_sites();
        let mut workspace = world.workspace(&cli, Path::new(PROVIDER), "app");
        workspace.write("multi-site.yaml", YAML).write("empty.pem", "");
        workspace.env("WRONG_TOKEN", "app@pve!app=00000000-0000-0000-0000-000000000000").env("NO_TOKEN", "hunter2");
        let (url, pin) = (world.cluster("hetzner-edge").url(), world.cluster("hetzner-edge").fingerprint());
        let other = world.cluster("databarn-dr").fingerprint();
        let reach = |lines: &str| format!("a = {{\n    endpoints = [\"{url}\"]\n    {lines}\n  }}");
        let alone = |lines: &str| provider(&format!("clusters = {{ {} }}", reach(lines)));
        // These connect, and fail where the machine is placed.
        let pinned = |lines: &str| alone(lines).replace("pool     = \"production-pool\"", "cluster  = \"a\"");
        let token = "api_token_env = \"MOXXIE_TOKEN_HETZNER_EDGE\"";
        let placed = |lines: &str| {
            format!("resource \"moxxie_virtual_machine\" \"NAME\" {{\n  name = \"web-1\"\n  {lines}\n}}\n")
        };
        let rows = vec![
            row(
                "a variable that is not set",
                alone("api_token_env = \"NOT_SET\""),
                "a = {",
                &["clusters[\"a\"].api_token_env", "NOT_SET", "not set"],
            ),
            row(
                "a password variable that is not set",
                alone("username = \"u@pve\"\n    password_env = \"NOT_SET\""),
                "a = {",
                &["clusters[\"a\"].password_env", "NOT_SET"],
            ),
            row(
                "a token of another form",
                alone("api_token_env = \"NO_TOKEN\""),
                "a = {",
                &["clusters[\"a\"].api_token_env", "USER@REALM!TOKENID=UUID"],
            ),
            row(
                "a variable of a token to hand over that is not set",
                alone(&format!("{token}\n    migration_token_env = \"NOT_SET\"")),
                "a = {",
                &["clusters[\"a\"].migration_token_env", "NOT_SET", "not set"],
            ),
            row(
                "a token to hand over of another form",
                alone(&format!("{token}\n    migration_token_env = \"NO_TOKEN\"")),
                "a = {",
                &["clusters[\"a\"].migration_token_env", "USER@REALM!TOKENID=UUID"],
            ),
            // State may say both, so it is the plan of a new machine that finds them.
            row(
                "a network and a bridge",
                placed(
                    "pool = \"production-pool\"\n  network_devices = { net0 = { network = \"app\", bridge = \"vmbr0\" } }",
                ),
                "network_devices",
                &["network_devices[\"net0\"].bridge", "leave it out"],
            ),
            row(
                "a network and a VLAN",
                placed("pool = \"production-pool\"\n  network_devices = { net0 = { network = \"app\", vlan = 5 } }"),
                "network_devices",
                &["network_devices[\"net0\"].vlan", "leave it out"],
            ),
            row("no credentials", alone(""), "clusters", &["has no credentials"]),
            row("a user without a password", alone("username = \"u@pve\""), "clusters", &["neither `password` nor"]),
            row(
                "a CA file that is not there",
                alone(&format!("{token}\n    ca_file = \"nowhere.pem\"")),
                "a = {",
                &["clusters[\"a\"].ca_file", "nowhere.pem"],
            ),
            row(
                "a CA file without a certificate",
                alone(&format!("{token}\n    ca_file = \"empty.pem\"")),
                "a = {",
                &["clusters[\"a\"].ca_file", "certificate"],
            ),
            row(
                "a federation file that is not there",
                provider("config_file = \"nowhere.yaml\""),
                "config_file",
                &["nowhere.yaml"],
            ),
            row("an inventory that is none", provider("inventory = \"some text\""), "inventory", &["inventory"]),
            row(
                "one cluster under two names",
                provider(&format!(
                    "clusters = {{ {}\n  b = {{\n    endpoints = [\"{url}\"]\n    {token}\n  }} }}",
                    reach(token)
                )),
                "b = {",
                &["two names"],
            ),
            row(
                "a wrong token",
                pinned(&format!("api_token_env = \"WRONG_TOKEN\"\n    fingerprints = [\"{pin}\"]")),
                "cluster",
                &["401"],
            ),
            row(
                "another certificate",
                pinned(&format!("{token}\n    fingerprints = [\"{other}\"]")),
                "cluster",
                &["fingerprint"],
            ),
            row("a certificate nobody vouches for", pinned(token), "cluster", &["certificate"]),
            row("a pool that is nowhere", placed("pool = \"no-such-pool\""), "pool", &["no-such-pool"]),
            row("a cluster that is nowhere", placed("cluster = \"no-such-cluster\""), "cluster", &["no-such-cluster"]),
            row(
                "a pin outside the pool",
                placed("pool = \"production-pool\"\n  cluster = \"hetzner-edge\""),
                "cluster",
                &["not a member of production-pool"],
            ),
            row(
                "more memory than any node",
                placed("pool = \"production-pool\"\n  memory = \"900TB\""),
                "pool",
                &["435.2 GiB free", "raise max_memory"],
            ),
            row(
                "a storage that is nowhere",
                placed("pool = \"production-pool\"\n  disks = { scsi0 = { size = \"8GB\", storage = \"gold\" } }"),
                "pool",
                &["no storage \"gold\""],
            ),
            row(
                "a bridge that is nowhere",
                placed("pool = \"production-pool\"\n  network_devices = { net0 = { bridge = \"vmbr9\" } }"),
                "pool",
                &["vmbr9"],
            ),
            row(
                "a VLAN outside every range",
                placed("pool = \"production-pool\"\n  network_devices = { net0 = { bridge = \"vmbr0\", vlan = 999 } }"),
                "pool",
                &["outside its range"],
            ),
        ];
        let head = "variable \"clusters\" { type = any }\nprovider \"moxxie\" {\n  config_file = \"multi-site.yaml\"\n  clusters = var.clusters\n}\n";
        Batch::new(head, &rows).check(&workspace, &["plan", "-json", "-input=false", "-parallelism=10"]);
        let written: Vec<String> =
            world.writes().into_iter().filter(|call| !call.ends_with("/access/ticket")).collect();
        assert_eq!(written, Vec::<String>::new(), "a plan touches nothing");
        world.assert_clean();
    }
}

#[test]
fn the_tables_are_long_enough() {
    let source = include_str!("wrong_input.rs");
    let rows = source.matches("        row(\"").count() + source.matches("            row(\n").count();
    let of_pools = clusters::clusters().len() + pools::pools().len() + pools::data().len();
    let all = rows + of_pools + yaml::cases(YAML).len() + history::CASES.len();
    println!("wrong configurations: {all}");
    assert!(all >= 150, "{all} mistakes");
}

#[test]
fn the_historical_programs_failures_are_not_ours() {
    let world = SimulatedWorld::three_sites();
    history::check(&world, YAML);
    assert_eq!(world.writes(), Vec::<String>::new());
}
