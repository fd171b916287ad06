//! HA across versions: groups before Proxmox VE 9, rules from it on (proxmox-ve.md §10.4, §14).
use simulator::Profile;

use super::*;

const NAMED: &str = "prefer-new";

#[test]
fn ha_groups_and_rules_are_carried_to_the_group_or_rule_of_the_same_name_whatever_the_versions() {
    for (from, to) in [(Profile::V8_4, Profile::V8_4), (Profile::V8_4, Profile::V9_1), (Profile::V9_1, Profile::V8_4)] {
        for cli in clis() {
            let world = machine().world_with(|world| {
                for (cluster, version) in [(FROM, from), (TO, to)] {
                    world.clusters.get_mut(cluster).expect("the cluster").version = version;
                }
            });
            let scene = Scene::in_world(world, "platform", &cli, GONE);
            scene.source.set_ha(scene.vmid, Some("started"));
            scene.source.add_ha_rule(NAMED, "ws1:2,ws2", Some(scene.vmid));
            scene.refused(&["ha_rules", "databarn-dr doesn't have: prefer-new"]);
            scene.target.add_ha_rule(NAMED, "db1", None);
            scene.moved();
            assert_eq!(scene.target.ha_state(scene.vmid).as_deref(), Some("started"), "{from:?} → {to:?}");
            assert_eq!(scene.target.ha_rules_of(scene.vmid), [NAMED], "{from:?} → {to:?}");
            assert_eq!(scene.source.ha_state(scene.vmid), None);
        }
    }
}
