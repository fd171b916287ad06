//! A platform team and two app teams over one federation: three workspaces that share what is on the clusters, and nothing else.

use std::path::Path;

use crate::support;
use harness::{Cli, SimulatedWorld, Workspace, clis};
use serde_json::json;
use simulator::{Options, World};

const PROVIDER: &str = support::PROVIDER;
const PLATFORM: &str = include_str!("teams/platform.tf");
const APP: &str = include_str!("teams/app.tf");
const STALE: &str = include_str!("teams/stale.yaml");

/// The world without its pools: the platform team makes them.
fn world() -> SimulatedWorld {
    let mut world = World::three_sites().expect("the world of three sites");
    world.clusters.values_mut().for_each(|cluster| cluster.pools.clear());
    SimulatedWorld::start(world, Options::default())
}

fn platform(world: &SimulatedWorld, cli: &Cli) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "platform");
    workspace.write("main.tf", PLATFORM);
    workspace
}

fn app(world: &SimulatedWorld, cli: &Cli, pool: &str, machines: u32) -> Workspace {
    let workspace = world.workspace(cli, Path::new(PROVIDER), "app");
    workspace.write("main.tf", APP);
    wants(&workspace, pool, machines);
    workspace
}

fn wants(workspace: &Workspace, pool: &str, machines: u32) {
    workspace.write("app.auto.tfvars.json", json!({ "pool": pool, "machines": machines }).to_string());
}

/// Nothing is warned of but that the provider under test is no released one.
#[track_caller]
fn quiet(run: &harness::Run) {
    assert_eq!(run.text().matches("Warning: ").count(), 1, "{}", run.text());
}

/// Where the only machines of a pool may be.
fn members(pool: &str) -> &'static [&'static str] {
    if pool == "production-pool" { &["worldstream-prod", "databarn-dr"] } else { &["hetzner-edge"] }
}

#[test]
fn a_platform_team_and_two_app_teams_share_one_federation() {
    for cli in clis() {
        let world = world();
        // One after the other: a workspace holds a place among the CLI tests while it lives.
        let team = platform(&world, &cli);
        team.apply().expect(0);
        team.plan().expect(0);
        let state = team.state();
        let prod = world.cluster("worldstream-prod").ca_fingerprint();
        assert_eq!(state["moxxie_cluster.prod"]["id"], json!(prod));
        let platform_files = team.files();
        drop(team);

        let mut apps = Vec::new();
        for (pool, machines) in [("production-pool", 2), ("development-pool", 1)] {
            let team = app(&world, &cli, pool, machines);
            quiet(&team.apply().expect(0));
            team.plan().expect(0);
            for (address, values) in team.state() {
                let cluster = values["cluster"].as_str().unwrap_or_default();
                assert!(members(pool).contains(&cluster), "{address} is on {cluster}");
            }
            if pool == "production-pool" {
                weakens_nothing(&world, &team);
            }
            apps.push((pool, machines, team.files()));
        }
        assert_eq!(world.machines().len(), 4, "{:?}", world.machines());

        imported(&world, &cli);

        // Nothing goes from under somebody.
        let team = platform(&world, &cli);
        restore(&team, &platform_files);
        let refused = team.destroy().expect(1).says("Unable to remove resource pool production-pool");
        let refused = refused.says("production-pool-1").says("Unable to remove resource pool development-pool");
        refused.never_says("Destroy complete");
        assert_eq!(world.machines().len(), 3, "the team's own machine went first: {:?}", world.machines());
        assert!(world.cluster("hetzner-edge").pools().contains_key("moxxie"));
        let platform_files = team.files();
        drop(team);
        for (pool, machines, files) in apps {
            let team = app(&world, &cli, pool, machines);
            restore(&team, &files);
            team.destroy().expect(0);
        }
        let team = platform(&world, &cli);
        restore(&team, &platform_files);
        team.destroy().expect(0);
        world.assert_clean();
        for cluster in world.clusters() {
            // Whatever somebody has rights on stays, empty and without a record.
            for (name, (comment, _)) in cluster.pools() {
                assert!(!comment.contains("[moxxie"), "{}: {name} says {comment}", cluster.name());
                assert!(cluster.has_rights_on(&format!("/pool/{name}")), "{}: {name} is litter", cluster.name());
            }
        }
    }
}

/// Puts the state of an earlier workspace in place.
fn restore(workspace: &Workspace, files: &[(std::path::PathBuf, Vec<u8>)]) {
    let state = files.iter().find(|(path, _)| path.ends_with("terraform.tfstate")).expect("a state");
    workspace.write("terraform.tfstate", &state.1);
}

/// An app team's own file, its own resources and its token do not get past what is enrolled.
fn weakens_nothing(world: &SimulatedWorld, team: &Workspace) {
    let pool = "production-pool";
    // Five with the platform team's own: one too many.
    wants(team, pool, 4);
    team.plan().expect(1).says("max_vms");
    // A file that says otherwise is named, and holds nothing.
    team.write("stale.yaml", STALE);
    team.edit("main.tf", "clusters = var.clusters\n", "clusters = var.clusters\n  config_file = \"stale.yaml\"\n");
    let stale = team.plan().expect(1).says("The federation file contradicts the record of pool production-pool");
    stale.says("limits.max_vms is 100 in the file and 4 on the clusters, which holds").says("max_vms");
    wants(team, pool, 3);
    let stale = team.plan().expect(2).says("The federation file contradicts the record of cluster worldstream-prod");
    stale.says("location is \"Utrecht, NL\" in the file and \"Amsterdam, NL\" on the clusters, which holds");
    wants(team, pool, 2);
    team.write("main.tf", APP).remove("stale.yaml");
    // What is enrolled can be taken into its state, but not written with its token.
    let grab = "\nimport {\n  to = moxxie_cluster.mine\n  id = \"worldstream-prod\"\n}\n\
                resource \"moxxie_cluster\" \"mine\" {\n  name = \"worldstream-prod\"\n  location = \"Elsewhere\"\n}\n\
                import {\n  to = moxxie_resource_pool.mine\n  id = \"production-pool\"\n}\n\
                resource \"moxxie_resource_pool\" \"mine\" {\n  name = \"production-pool\"\n  \
                clusters = [\"worldstream-prod\", \"databarn-dr\"]\n}\n";
    team.write("grab.tf", grab);
    world.clear_requests();
    let refused = team.apply().expect(1).says("the token lacks Pool.Allocate on /pool/moxxie");
    refused.says("Pool.Allocate").says("/pool/production-pool");
    let refused: Vec<String> = world
        .requests()
        .iter()
        .filter(|call| call.method != "GET" && call.status < 400)
        .map(|call| call.path.clone())
        .collect();
    assert_eq!(refused, Vec::<String>::new(), "nothing was written");
    for address in ["moxxie_cluster.mine", "moxxie_resource_pool.mine"] {
        team.run(&["state", "rm", address]);
    }
    team.remove("grab.tf");
    team.plan().expect(0);
}

/// A fresh workspace takes everything in, without a change and without a write.
fn imported(world: &SimulatedWorld, cli: &Cli) {
    let team = platform(world, cli);
    let dns: Vec<String> = world
        .clusters()
        .into_iter()
        .flat_map(|cluster| {
            let name = cluster.name().to_owned();
            let found = cluster.vms().into_iter().filter(|vm| vm.config.get("name").is_some_and(|name| name == "dns"));
            found.map(|vm| format!("{name}/{}", vm.vmid)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(dns.len(), 1, "{dns:?}");
    let mut blocks = String::new();
    for (to, id) in [
        ("moxxie_cluster.prod", "worldstream-prod"),
        ("moxxie_cluster.dr", "databarn-dr"),
        ("moxxie_cluster.edge", "hetzner-edge"),
        ("moxxie_resource_pool.production", "production-pool"),
        ("moxxie_resource_pool.development", "development-pool"),
        ("moxxie_virtual_machine.dns", dns[0].as_str()),
    ] {
        blocks += &format!("import {{\n  to = {to}\n  id = \"{id}\"\n}}\n");
    }
    team.write("import.tf", blocks);
    world.clear_requests();
    team.apply().expect(0).says("6 imported, 0 added").says("0 destroyed");
    quiet(&team.plan().expect(0));
    assert_eq!(world.writes(), Vec::<String>::new());
}
