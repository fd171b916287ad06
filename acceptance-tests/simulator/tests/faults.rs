//! Injected faults, the gate, the log, the clock and the seed.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use reqwest::Method;
use simulator::{Action, Listen, NodePower, Nth, Options, Pace, Rule, Simulator, World};
use support::{Api, guest, three_sites};

#[tokio::test]
async fn rules_count_and_choose() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    let rule = Rule::on("GET", "/version", Action::Refuse(596, "Connection timed out".into())).nth(Nth::Only(2));
    let id = sim.fault(rule.cluster("worldstream-prod"));
    assert_eq!(api.get("/version").await.status, 200);
    let refused = api.get("/version").await;
    assert_eq!((refused.status, refused.reason.as_str(), refused.text.as_str()), (596, "Connection timed out", ""));
    assert_eq!(api.get("/version").await.status, 200);
    assert_eq!(sim.fault_hits(id), 3);
    let only = Rule::on("POST", "/pools", Action::Refuse(500, "no".into()));
    sim.fault(only.params(|params| params.get("poolid").is_some_and(|name| name == "x")));
    assert_eq!(api.post("/pools", &[("poolid", "x")]).await.status, 500);
    assert_eq!(api.post("/pools", &[("poolid", "y")]).await.status, 200);
}

#[tokio::test]
async fn a_dropped_answer_was_done() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    sim.fault(Rule::on("POST", "/pools", Action::DropAnswer).nth(Nth::Only(1)));
    sim.fault(Rule::on("POST", "/pools", Action::DropBefore).nth(Nth::Only(2)));
    for (name, done) in [("a", true), ("b", false)] {
        assert!(api.request(Method::POST, "/pools").form(&[("poolid", name)]).send().await.is_err());
        assert_eq!(prod.pools().contains_key(name), done);
    }
}

#[tokio::test]
async fn tasks_fail_early_and_late() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, Some("platform"));
    let fail = |late| Action::FailTask { message: "broken".into(), late };
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    sim.fault(Rule::on("POST", "*/vzdump", fail(false)).nth(Nth::Only(1)));
    sim.fault(Rule::on("POST", "*/vzdump", fail(true)).nth(Nth::Only(2)));
    let form = [("vmid", "100"), ("storage", "transfer"), ("compress", "zstd")];
    for archives in [0, 1] {
        let dump = api.post("/nodes/ws1/vzdump", &form).await;
        assert_eq!(api.wait(&dump).await, "broken");
        assert_eq!(prod.archives("transfer").len(), archives);
    }
    sim.fault(Rule::on("POST", "*/qemu", fail(true)));
    let volid = prod.archives("transfer")[0].volid.clone();
    let form = [("vmid", "101"), ("archive", volid.as_str()), ("storage", "ceph-pool")];
    let restore = api.post("/nodes/ws1/qemu", &form).await;
    assert_eq!(api.wait(&restore).await, "broken");
    let litter = sim.litter();
    assert!(litter.iter().any(|line| line.contains("VM 101 is a stub")), "{litter:?}");
    assert!(litter.iter().any(|line| line.contains("vm-101-disk-0")), "data written, configuration not: {litter:?}");
}

#[tokio::test]
async fn the_gate_holds_the_nth_call() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    for (executed, n) in [(false, 2), (true, 1)] {
        let hit = sim.gate(n, executed);
        let api = Api::new(&prod, Some("platform"));
        let name = format!("pool{n}");
        let client = async {
            for call in 0..n {
                let form = if call + 1 == n { name.clone() } else { format!("before{n}") };
                if api.request(Method::POST, "/pools").form(&[("poolid", form)]).send().await.is_err() {
                    return call + 1;
                }
            }
            0
        };
        let test = async {
            let hit = hit.await.expect("reached");
            assert_eq!((hit.call.method.as_str(), hit.call.path.as_str()), ("POST", "/pools"));
            assert_eq!(prod.pools().contains_key(&name), executed);
            sim.release();
        };
        let (cut_at, ()) = tokio::join!(client, test);
        assert_eq!(cut_at, n);
        assert_eq!(sim.calls_since_arm(), n);
        assert_eq!(Api::new(&prod, Some("platform")).get("/version").await.status, 200);
    }
}

#[tokio::test]
async fn dark_clusters_refuse_connections() {
    let sim = three_sites().await;
    let edge = sim.cluster("hetzner-edge");
    let request = || async { Api::new(&edge, Some("platform")).request(Method::GET, "/version").send().await };
    edge.set_dark(true).await;
    assert!(request().await.expect_err("dark").is_connect());
    edge.set_dark(false).await;
    assert_eq!(request().await.expect("an answer").status().as_u16(), 200);
}

#[tokio::test]
async fn the_log_keeps_no_secrets() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    let api = Api::new(&prod, None);
    api.post("/access/ticket", &[("username", "platform@pve"), ("password", "platform-secret")]).await;
    Api::new(&prod, Some("app")).get("/version").await;
    let log = sim.requests();
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].params["password"].as_str(), log[0].status), ("***", 200));
    assert_eq!((log[1].user.as_str(), log[1].path.as_str(), log[1].sequence), ("app@pve!app", "/version", 2));
    assert!(!format!("{log:?}").contains("platform-secret"));
    sim.clear_requests();
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn nodes_have_addresses_of_their_own() {
    let options = Options { listen: Listen::PerNode, ..Options::default() };
    let sim = Simulator::start(World::three_sites().expect("a world"), options).await.expect("a simulator");
    let prod = sim.cluster("worldstream-prod");
    assert_eq!(prod.urls().len(), 3);
    prod.power_node("ws1", NodePower::Off);
    assert!(Api::new(&prod, Some("platform")).request(Method::GET, "/version").send().await.is_err());
}

#[tokio::test]
async fn one_seed_one_history() {
    let mut seen = Vec::new();
    for seed in [7, 7, 8] {
        let options = Options { seed, ..Options::default() };
        let sim = Simulator::start(World::three_sites().expect("a world"), options).await.expect("a simulator");
        let prod = sim.cluster("worldstream-prod");
        prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
        Api::new(&prod, Some("app")).get("/version").await;
        seen.push((prod.token("app"), prod.vm(100)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
}

#[tokio::test]
async fn guests_write_while_they_run() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let first = prod.guest_write(100).expect("runs");
    Api::new(&prod, Some("app")).get("/version").await;
    assert_eq!(prod.guest_write(100), Some(first + 2));
    prod.stop(100);
    assert_eq!(prod.guest_write(100), None);
    assert_eq!(prod.vm(100).expect("there").disks[0].newest, first + 2);
}

#[tokio::test]
async fn wall_time_goes_on_by_itself() {
    let options = Options { clock: Pace::Wall { scale: 1000.0 }, ..Options::default() };
    let sim = Simulator::start(World::three_sites().expect("a world"), options).await.expect("a simulator");
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    let api = Api::new(&prod, Some("platform"));
    api.post("/nodes/ws1/qemu/100/status/shutdown", &[]).await;
    while prod.vm(100).expect("there").running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A callback may act on the clusters: here somebody starts the source in the middle of its backup.
#[tokio::test]
async fn callbacks_may_act() {
    let sim = three_sites().await;
    let prod = sim.cluster("worldstream-prod");
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, false)).expect("a guest");
    let hand = prod.clone();
    let start = Action::call(move |_| hand.start(100).expect("resumes"));
    sim.fault(Rule::on("GET", "*/tasks/*/status", start).nth(Nth::Only(2)));
    let api = Api::new(&prod, Some("platform"));
    let dump = api.post("/nodes/ws1/vzdump", &[("vmid", "100"), ("storage", "transfer")]).await;
    assert_eq!(api.wait(&dump).await, "OK");
    assert!(prod.vm(100).expect("there").running);
}

#[tokio::test]
async fn a_hand_carries_a_vm() {
    let sim = three_sites().await;
    let (prod, dr) = (sim.cluster("worldstream-prod"), sim.cluster("databarn-dr"));
    prod.create_vm(&guest(100, "ws1", "ceph-pool", None, true)).expect("a guest");
    prod.guest_write(100).expect("runs");
    prod.stop(100);
    let before = prod.vm(100).expect("there");
    prod.move_vm_by_hand(100, "databarn-dr", "db2", "zfs-pool").expect("carried");
    assert!(prod.vm(100).is_none());
    let after = dr.vm(100).expect("there");
    assert_eq!((&after.uuid, &after.disks[0].sha256), (&before.uuid, &before.disks[0].sha256));
    assert_eq!(sim.copies(&after.uuid.expect("a uuid")).len(), 1);
    assert!(sim.litter().is_empty(), "{:?}", sim.litter());
}
