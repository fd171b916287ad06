//! A directory that people mount by hand on both sites, and call shared.
use std::time::Duration;

use super::*;

/// The scene whose transfer storage is such a directory: the same one, or one for each site.
fn mounted(cli: &Cli, same: bool) -> Scene {
    let world = machine().world_with(|world| {
        for name in [FROM, TO] {
            let cluster = world.clusters.get_mut(name).expect("the cluster");
            let transfer = cluster.storages.get_mut("transfer").expect("its transfer storage");
            transfer.kind = "dir".into();
            transfer.shared = true;
            (transfer.server, transfer.export) = (None, None);
            transfer.backing = Some(if same { "by hand".into() } else { format!("of {name}") });
        }
    });
    Scene::in_world(world, "app", cli, GONE)
}

/// A guest of the pool is backed up to it, by the source's own job.
fn backed_up(scene: &Scene) {
    scene.source.schedule_backup("nightly", Some("production-pool"), "transfer", Duration::ZERO);
    scene.world.advance(Duration::from_secs(3600));
    assert!(!scene.source.archives("transfer").is_empty(), "{:?}", scene.source.newest_log("vzdump"));
}

#[test]
fn a_directory_that_both_mount_by_hand_carries_once_both_show_the_same_files() {
    let cli = cli();
    let scene = mounted(&cli, true);
    scene.refused(&["transport_same", "nothing is on it yet that both could show", "back up any machine to it"]);
    backed_up(&scene);
    scene.workspace.plan().expect(2).never_says("transport_same");
    scene.workspace.apply().expect(0);
    scene.workspace.plan().expect(0);
    assert_eq!(scene.world.machines(), [format!("{TO}/{NAME}")]);
}

#[test]
fn two_directories_of_one_name_are_told_apart_by_their_files() {
    let scene = mounted(&cli(), false);
    backed_up(&scene);
    scene.refused(&["transport_same", "is not the same directory", &format!("{FROM} shows backup/vzdump-qemu-")]);
}
