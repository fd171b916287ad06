//! Which names are names, and what they say.

use super::*;

#[test]
fn what_would_end_a_text_in_proxmox_ve_is_found() {
    assert_eq!(ends_early("host,flags=+pcid", VALUE_ENDS), Some(','));
    assert_eq!(ends_early("vmbr0\nargs: x", VALUE_ENDS), Some('\n'));
    assert_eq!(ends_early("fast:8", STORAGE_ENDS), Some(':'));
    assert_eq!(ends_early("x86-64-v2-AES", VALUE_ENDS), None);
}

#[test]
fn pool_names_follow_pve_and_keep_the_reserved_ones_out() {
    for good in ["production-pool", "a/b/c", "Team_1.x", "1pool", "_a/2"] {
        PoolName::new(good).unwrap();
    }
    for bad in ["", "a/b/c/d", "a//b", "/a", "a/", "pool x", "moxxie", "moxxie-moves/x", "Moxxie2", "é"] {
        PoolName::new(bad).expect_err(bad);
    }
    assert_eq!(PoolName::new("a/b").unwrap().retired().unwrap().as_str(), "a/b/retired");
    assert_eq!(PoolName::new("a/b/c").unwrap().retired(), None);
    assert_eq!(PoolName::new("a/b").unwrap().parent(), Some(PoolName::new("a").unwrap()));
}

#[test]
fn vm_names_are_dns_names() {
    for good in ["web-1", "a", "db.example.net", "7"] {
        VmName::new(good).unwrap();
    }
    for bad in ["", "-a", "a-", "a..b", "a_b", "ä", "a b", &"x".repeat(254)] {
        VmName::new(bad).expect_err(bad);
    }
}

#[test]
fn a_trailing_number_makes_a_family() {
    for (name, stem, pattern, number) in [
        ("web-7", "web", "web-*", 7),
        ("web7", "web", "web*", 7),
        ("web-007", "web", "web-*", 7),
        ("web-7.example.net", "web.example.net", "web-*.example.net", 7),
    ] {
        let family = VmName::new(name).unwrap().family().unwrap();
        assert_eq!((family.stem.as_str(), family.pattern.as_str(), family.number), (stem, pattern, number));
    }
    for name in ["web", "web-blue", "web-1-blue", "web-1234567890"] {
        assert_eq!(VmName::new(name).unwrap().family(), None, "{name}");
    }
}

#[test]
fn slots_have_pves_ranges_and_order() {
    for good in ["scsi0", "scsi30", "virtio15", "sata5", "ide3", "net31"] {
        assert_eq!(good.parse::<Slot>().unwrap().to_string(), good);
    }
    for bad in ["scsi31", "virtio16", "sata6", "ide4", "net32", "scsi", "scsi01", "efidisk0", "", "0"] {
        bad.parse::<Slot>().expect_err(bad);
    }
    assert!("scsi2".parse::<Slot>().unwrap() < "scsi10".parse().unwrap());
    assert!(!"net0".parse::<Slot>().unwrap().is_disk());
}

#[test]
fn tags_and_cluster_names() {
    assert_eq!(Tag::new("Database").unwrap().as_str(), "database");
    for bad in ["", "-x", "a b", "a;b", "é"] {
        Tag::new(bad).expect_err(bad);
    }
    for good in ["worldstream-prod", "a", "1st.site"] {
        ClusterName::new(good).unwrap();
    }
    for bad in ["", "-a", "a/b", "a b", &"x".repeat(64)] {
        ClusterName::new(bad).expect_err(bad);
    }
}

#[test]
fn names_travel_as_plain_strings_and_are_checked_on_arrival() {
    let name: ClusterName = serde_json::from_str("\"ams\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"ams\"");
    serde_json::from_str::<PoolName>("\"moxxie\"").unwrap_err();
}
