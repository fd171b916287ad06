//! What the parts cost that are functions of their arguments: `cargo bench --bench rules`, with criterion's figures.
//!
//! The federation has four clusters of three nodes. Its machines are spread evenly and belong to one pool.
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use federation::placement::{
    ClusterFacts, DiskRequest, GuestFacts, Health, Inventory, Ledger, NodeFacts, Request, StorageFacts, choose,
    choose_all, due,
};
use federation::{Bytes, ClusterName, Federation, PoolName, block, config};
use protocol::{Provider, Value};

const CLUSTERS: u32 = 4;
const NODES: u32 = 3;
const POOL: &str = "shop";

fn federation(strategy: &str) -> Federation {
    let names: Vec<String> = (0..CLUSTERS).map(|n| format!("site-{n}")).collect();
    let cluster = |name: &String| {
        format!(
            "  - {{ id: {name}, name: {name}, provider: ours, location: here, tier: primary, \
             pricing: {{ currency: EUR, core_hour: 0.01, gb_hour: 0.004 }} }}\n"
        )
    };
    let rule = "{ type: anti-affinity, target: tag, operator: should, value: database }";
    let text = format!(
        "clusters:\n{}resource_pools:\n  - name: {POOL}\n    clusters: [{}]\n    automatic_moves: [violations, improve]\n    \
         placement_policy: {{ strategy: {strategy}, rules: [{rule}] }}\n",
        names.iter().map(cluster).collect::<String>(),
        names.join(", ")
    );
    let loaded = config::load(&text).expect("a federation");
    loaded.federation
}

fn inventory(machines: u32) -> Inventory {
    let names: BTreeSet<String> = (0..NODES).map(|n| format!("n{n}")).collect();
    let cluster = |index: u32| {
        let nodes = names.iter().map(|name| NodeFacts {
            name: name.clone(),
            online: true,
            cpus: 4096,
            memory: Bytes::from_gib(64 << 10),
            ..NodeFacts::default()
        });
        let guests = (index..machines).step_by(CLUSTERS as usize).map(|n| GuestFacts {
            vmid: 100 + n,
            node: format!("n{}", n / CLUSTERS % NODES),
            name: format!("service-{n}"),
            pool: Some(POOL.to_owned()),
            tags: BTreeSet::from([if n % 10 == 0 { "database".to_owned() } else { "web".to_owned() }]),
            cpus: 2,
            memory: Bytes::from_gib(4),
            disk: Bytes::from_gib(20),
            running: true,
            ..GuestFacts::default()
        });
        let storage = StorageFacts {
            name: "fast".to_owned(),
            kind: "rbd".to_owned(),
            shared: true,
            thin: true,
            content: BTreeSet::from(["images".to_owned()]),
            total: Bytes::from_gib(900 << 10),
            avail: Bytes::from_gib(600 << 10),
            nodes: names.clone(),
            ..StorageFacts::default()
        };
        let facts = ClusterFacts {
            health: Health::Reachable,
            quorate: true,
            complete_sight: true,
            nodes: nodes.collect(),
            guests: guests.collect(),
            storages: vec![storage],
            bridges: names.iter().map(|node| (node.clone(), BTreeSet::from(["vmbr0".to_owned()]))).collect(),
            pools: BTreeSet::from([POOL.to_owned()]),
            ..ClusterFacts::default()
        };
        (format!("site-{index}").parse::<ClusterName>().expect("a name"), facts)
    };
    Inventory { taken_at: 0, clusters: (0..CLUSTERS).map(cluster).collect() }
}

fn request(n: u32) -> Request {
    let disk = DiskRequest { size: Bytes::from_gib(20), storage: Some("fast".to_owned()) };
    Request {
        pool: Some(POOL.parse().expect("a name")),
        memory: Bytes::from_gib(4),
        disks: BTreeMap::from([("scsi0".parse().expect("a slot"), disk)]),
        ..Request::new(format!("new-{n}").parse().expect("a name"))
    }
}

/// One machine in a federation of so many; a whole set at once; and who of those that are there should leave.
fn placement(c: &mut Criterion) {
    let rules = federation("balanced");
    let pool: PoolName = POOL.parse().expect("a name");
    let mut group = c.benchmark_group("place one among");
    for there in [1_000, 10_000] {
        let facts = inventory(there);
        assert!(choose(&rules, &facts, &request(1), &Ledger::new()).is_ok(), "it finds a place");
        group.bench_with_input(BenchmarkId::from_parameter(there), &facts, |bench, facts| {
            bench.iter(|| choose(&rules, facts, black_box(&request(1)), &Ledger::new()));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("place a set among 1000");
    group.sample_size(10);
    let facts = inventory(1_000);
    for many in [10, 100] {
        let requests: Vec<Request> = (0..many).map(request).collect();
        assert!(choose_all(&rules, &facts, &requests, &Ledger::new()).iter().all(Result::is_ok), "all find a place");
        group.bench_with_input(BenchmarkId::from_parameter(many), &requests, |bench, requests| {
            bench.iter(|| choose_all(&rules, &facts, requests, &Ledger::new()));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("who should leave");
    group.sample_size(10);
    let by_price = federation("cost");
    for there in [100, 1_000] {
        let facts = inventory(there);
        group.bench_with_input(BenchmarkId::from_parameter(there), &facts, |bench, facts| {
            bench.iter(|| due(&by_price, facts, &pool));
        });
    }
    group.finish();
}

/// The records on the clusters, and the federation's file.
fn texts(c: &mut Criterion) {
    let body = federation("balanced").pools.into_values().next().expect("a pool");
    let comment = block::write("The shop. Ask before you change it.", &body).expect("a record");
    c.bench_function("write a pool's record", |bench| bench.iter(|| block::write(black_box(&comment), &body)));
    c.bench_function("read a pool's record", |bench| bench.iter(|| block::read(black_box(&comment))));
    let file = include_str!("../../examples/quickstart/multi-site.yaml");
    c.bench_function("read the federation's file", |bench| bench.iter(|| config::load(black_box(file))));
}

/// The schema, and a machine as core sends it.
fn wire(c: &mut Criterion) {
    let provider = provider::Moxxie::new();
    c.bench_function("the schema", |bench| bench.iter(|| provider.schema()));
    let schema = provider.schema();
    let of_machine = schema.resources["moxxie_virtual_machine"].ty();
    let disk = || Value::object([("size", "20GiB"), ("storage", "fast")]);
    let machine = Value::object([
        ("name", Value::from("service-1")),
        ("pool", POOL.into()),
        ("cluster", "site-1".into()),
        ("memory", "4GB".into()),
        ("disks", Value::map([("scsi0", disk()), ("scsi1", disk())])),
    ]);
    let machine = of_machine.conform(machine).expect("a machine");
    let bytes = machine.to_msgpack(&of_machine).expect("its bytes");
    c.bench_function("write a machine", |bench| {
        bench.iter_batched(|| machine.clone(), |machine| machine.to_msgpack(&of_machine), BatchSize::SmallInput);
    });
    c.bench_function("read a machine", |bench| bench.iter(|| Value::from_msgpack(black_box(&bytes), &of_machine)));
}

criterion_group!(rules, placement, texts, wire);
criterion_main!(rules);
