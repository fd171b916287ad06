//! The guide's two policies as texts a person can read: who goes where, why, and what each candidate is worth. MOXXIE_BLESS=1
//! writes `goldens/` anew.

use std::fmt::Write;
use std::path::Path;

use super::*;

/// The guide's pools, word for word, over three small sites.
const FILE: &str = include_str!("goldens/guide.yaml");

fn guide() -> (Federation, Inventory) {
    let loaded = crate::config::load(FILE).unwrap_or_else(|error| panic!("{error}"));
    let mut inventory = Inventory::default();
    for (name, nodes) in [("worldstream-prod", 3), ("databarn-dr", 2), ("hetzner-edge", 1)] {
        let primary = loaded.federation.clusters[name].primary_storage.clone().unwrap();
        let mut facts = facts(nodes);
        facts.storages[0].name = primary;
        inventory.clusters.insert(cluster(name), facts);
    }
    (loaded.federation, inventory)
}

fn request(pool: &str, name: &str, tag: Option<&str>) -> Request {
    Request {
        pool: Some(PoolName::new(pool).unwrap()),
        memory: Bytes::from_gib(8),
        cpus: 4,
        tags: tag.map(|tag| Tag::new(tag).unwrap()).into_iter().collect(),
        ..Request::new(VmName::new(name).unwrap())
    }
}

/// Where a set of machines goes, and the whole explanation of its last one.
fn chapter(text: &mut String, title: &str, federation: &Federation, inventory: &Inventory, requests: &[Request]) {
    writeln!(text, "{title}").unwrap();
    let mut ledger = Ledger::new();
    let mut last = None;
    for request in requests {
        match choose(federation, inventory, request, &ledger) {
            Ok(decision) => {
                writeln!(text, "  {:<8} {:<17} {}", request.name, decision.cluster, decision.why).unwrap();
                ledger.record(decision.cluster, request.clone());
                last = Some(decision.explanation);
            }
            Err(refusal) => {
                writeln!(text, "  {:<8} nowhere", request.name).unwrap();
                last = Some(refusal.explanation);
                writeln!(text, "           to mend that: {}", refusal.smallest_relaxation).unwrap();
            }
        }
    }
    if let Some(explanation) = last {
        for line in explanation.to_string().lines() {
            writeln!(text, "    {line}").unwrap();
        }
    }
    text.push('\n');
}

#[track_caller]
fn shows(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("placement/tests/goldens/{name}.txt"));
    if std::env::var_os("MOXXIE_BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, golden, "{} differs (MOXXIE_BLESS=1 writes it anew)", file.display());
}

fn family(pool: &str, stem: &str, n: u32, tag: Option<&str>) -> Vec<Request> {
    (1..=n).map(|i| request(pool, &format!("{stem}-{i}"), tag)).collect()
}

#[test]
fn the_guides_production_policy() {
    let (mut federation, mut inventory) = guide();
    let pool = "production-pool";
    let mut text = String::new();
    let web = family(pool, "web", 9, None);
    chapter(&mut text, "Nine web servers: 80 to 20, and the primary preferred", &federation, &inventory, &web);
    let databases = family(pool, "db", 4, Some("database"));
    chapter(&mut text, "Four databases: spread, weights or not", &federation, &inventory, &databases);
    let named: Vec<Request> = ["api", "cache", "mail"].iter().map(|name| request(pool, name, None)).collect();
    chapter(&mut text, "Machines without a number", &federation, &inventory, &named);
    inventory.clusters.get_mut("worldstream-prod").unwrap().health = Health::Unreachable("timeout".into());
    chapter(
        &mut text,
        "The primary is dark: its places fall to the other, nobody else's change",
        &federation,
        &inventory,
        &web,
    );
    let huge = vec![Request { memory: Bytes::from_gib(500), ..request(pool, "huge", None) }];
    chapter(&mut text, "And more memory than the other has", &federation, &inventory, &huge);
    federation.clusters.get_mut("databarn-dr").unwrap().cordoned = Some(true);
    chapter(&mut text, "And the other is cordoned", &federation, &inventory, &web[..1]);
    shows("production-pool", &text);
}

#[test]
fn the_guides_development_policy() {
    let (mut federation, inventory) = guide();
    let pool = "development-pool";
    let mut text = String::new();
    let lab = family(pool, "lab", 3, None);
    chapter(&mut text, "As the file has it, without prices: by weight", &federation, &inventory, &lab);
    for (name, core_hour, gb_hour) in [("hetzner-edge", 0.006, 0.002), ("databarn-dr", 0.012, 0.004)] {
        let facts = federation.clusters.get_mut(name).unwrap();
        facts.pricing = Some(crate::model::Pricing {
            currency: "EUR".into(),
            core_hour,
            gb_hour,
            ..crate::model::Pricing::default()
        });
    }
    chapter(&mut text, "With prices: where it is cheapest", &federation, &inventory, &lab);
    let big: Vec<Request> = lab.iter().map(|one| Request { memory: Bytes::from_gib(60), ..one.clone() }).collect();
    chapter(&mut text, "Until that is full", &federation, &inventory, &big);
    let pinned = Request { pin: Some(cluster("worldstream-prod")), ..request(pool, "stray", None) };
    chapter(&mut text, "Pinned to production: away from it, whoever asks", &federation, &inventory, &[pinned]);
    shows("development-pool", &text);
}
