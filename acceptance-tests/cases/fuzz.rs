//! Mutated input into every reader of bytes that others write: federation files, core's messages, Proxmox VE's replies. None may
//! panic, and what is read must be written and read again as the same.
//!
//! `MOXXIE_FUZZ` executions for each target (20,000), `MOXXIE_FUZZ_SEED` to repeat a run. A panic prints target, seed and input.
mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutation::{Chance, mutated};
use protocol::{Type, Value};
use serde::de::DeserializeOwned;

const EXECUTIONS: u64 = 20_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs one target; returns how many inputs it read as sound.
fn fuzz(target: &str, corpus: &[Vec<u8>], read: impl Fn(&[u8]) -> bool) {
    for sound in corpus {
        assert!(read(sound), "{target}: the corpus is sound: {}", String::from_utf8_lossy(sound));
    }
    let seed = number("MOXXIE_FUZZ_SEED", 20_261_125);
    let executions = number("MOXXIE_FUZZ", EXECUTIONS);
    let mut chance = Chance::new(seed);
    let mut sound = 0;
    for round in 0..executions {
        let input = mutated(corpus, &mut chance);
        match catch_unwind(AssertUnwindSafe(|| read(&input))) {
            Ok(read) => sound += u64::from(read),
            Err(_) => {
                panic!("{target} panicked: seed {seed}, round {round}, input {:?}", String::from_utf8_lossy(&input))
            }
        }
    }
    println!("fuzz {target}: {executions} executions, {sound} read, 0 panics, seed {seed}");
    assert!(sound > 0, "{target}: mutations that nothing gets through test the first check alone");
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn federation_files() {
    let corpus = bytes(&[
        include_str!("main_job/multi-site.yaml"),
        include_str!("guide/three-continents.yaml"),
        include_str!("../../examples/quickstart/multi-site.yaml"),
        include_str!("../../src/federation/fixtures/full.yaml"),
    ]);
    fuzz("yaml", &corpus, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        match federation::config::load(text) {
            Ok(_) => true,
            Err(error) => {
                assert!(!error.to_string().is_empty(), "an error says something");
                false
            }
        }
    });
}

/// Every schema of the provider, with a value of each in both encodings of core.
fn schemas() -> Vec<(Type, Value)> {
    let schema = protocol::Provider::schema(&provider::Moxxie::new());
    let all = schema.resources.into_values().chain(schema.data_sources.into_values()).chain([schema.provider]);
    all.map(|schema| (schema.ty(), filled(&schema.ty()))).collect()
}

/// A value of a type with something everywhere.
fn filled(ty: &Type) -> Value {
    match ty {
        Type::Bool => true.into(),
        Type::Number => 42.into(),
        Type::List(of) => Value::list([filled(of), Value::unknown()]),
        Type::Set(of) => Value::set([filled(of)]),
        Type::Map(of) => Value::map([("scsi0", filled(of)), ("net0", Value::Null)]),
        Type::Object(fields) => Value::object(fields.iter().map(|(name, of)| (name.clone(), filled(of)))),
        Type::Tuple(of) => Value::list(of.iter().map(filled)),
        Type::String | Type::Dynamic => "8GB".into(),
    }
}

#[test]
fn messages_of_core() {
    let schemas = schemas();
    let packed: Vec<Vec<u8>> =
        schemas.iter().map(|(ty, value)| value.to_msgpack(ty).expect("it is of its type")).collect();
    // Each input is read as every type, its own among them.
    fuzz("msgpack", &packed, |input| {
        let mut any = false;
        for (ty, _) in &schemas {
            let Ok(value) = Value::from_msgpack(input, ty) else { continue };
            let again = value.to_msgpack(ty).expect("what was read can be written");
            assert_eq!(Value::from_msgpack(&again, ty).expect("and read again"), value);
            any = true;
        }
        any
    });
    let known = |(ty, value): &(Type, Value)| {
        let text = value.to_json(ty).ok()?;
        Some(text)
    };
    let mut json: Vec<Vec<u8>> = schemas.iter().filter_map(known).collect();
    json.push(b"{\"name\":\"web-1\",\"pool\":\"p\",\"memory\":\"8GB\"}".to_vec());
    fuzz("state json", &json, |input| {
        let typed = schemas.iter().any(|(ty, _)| Value::from_json_dropping_extra(input, ty).is_ok());
        typed | Value::from_json_untyped(input).is_ok()
    });
}

fn is<T: DeserializeOwned>(input: &[u8]) -> bool {
    serde_json::from_slice::<T>(input).is_ok()
}

#[test]
fn replies_of_proxmox_ve() {
    let corpus = bytes(&[
        include_str!("fuzz/resources.json"),
        include_str!("fuzz/config.json"),
        r#"[{"poolid":"production-pool","comment":"People [moxxie v1 {\"id\":\"x\",\"rev\":7} 0123456789abcdef] more"}]"#,
        r#"[{"storage":"transfer","type":"nfs","content":"backup","server":"10.200.0.5","export":"/srv/transfer","digest":"ab"}]"#,
        r#"[{"storage":"ceph","type":"rbd","content":"images","active":1,"enabled":1,"shared":1,"avail":100,"total":"200","used":100}]"#,
        r#"[{"volid":"ceph:vm-100-disk-0","size":4294967296,"format":"raw","content":"images","vmid":"100","notes":"moxxie x"}]"#,
        r#"{"status":"running","vmid":100,"name":"web","qmpstatus":"running","ha":{"managed":1,"state":"started"},"uptime":12}"#,
        r#"{"status":"stopped","exitstatus":"WARNINGS: 2","upid":"UPID:n1:000A:00B:65A0:vzdump:100:root@pam:","type":"vzdump"}"#,
        r#"[{"n":1,"t":"INFO: status = stopped"},{"n":2,"t":"progress 50% (read 2.0 GiB)"}]"#,
        r#"[{"key":"memory","value":"2048","pending":"4096"},{"key":"net1","value":"x","delete":1}]"#,
        r#"[{"name":"before","snaptime":1700000000,"description":"d"},{"name":"current","running":1}]"#,
        r#"[{"iface":"vmbr0","type":"bridge","active":1,"cidr":"10.0.0.10/16"}]"#,
        r#"{"sid":"vm:100","state":"started","group":"g","max_restart":1,"type":"vm","digest":"aa"}"#,
        r#"{"version":"9.1.9","release":"9.1","repoid":"abcdef"}"#,
    ]);
    fuzz("replies", &corpus, |input| {
        let one = is::<proxmox::VmStatus>(input)
            | is::<proxmox::TaskStatus>(input)
            | is::<proxmox::HaResource>(input)
            | is::<proxmox::Version>(input)
            | is::<proxmox::NodeStatus>(input)
            | is::<proxmox::VmConfig>(input);
        let many = is::<Vec<proxmox::Resource>>(input)
            | is::<Vec<proxmox::Pool>>(input)
            | is::<Vec<proxmox::StorageDefinition>>(input)
            | is::<Vec<proxmox::Storage>>(input)
            | is::<Vec<proxmox::Volume>>(input)
            | is::<Vec<proxmox::LogLine>>(input)
            | is::<Vec<proxmox::PendingValue>>(input)
            | is::<Vec<proxmox::Snapshot>>(input)
            | is::<Vec<proxmox::TaskInfo>>(input)
            | is::<Vec<proxmox::NetworkInterface>>(input)
            | is::<Vec<proxmox::HaService>>(input);
        if let Ok(config) = serde_json::from_slice::<proxmox::VmConfig>(input) {
            read_config(&config);
        }
        if let Ok(values) = serde_json::from_slice::<Vec<proxmox::PendingValue>>(input) {
            let config = proxmox::VmConfig::merged(&values);
            read_config(&config);
            read_config(&config.without(&values));
        }
        one | many
    });
}

/// Everything that is made of a configuration.
fn read_config(config: &proxmox::VmConfig) {
    let _ = (config.name(), config.cores(), config.sockets(), config.memory_mib(), config.cpu_type(), config.tags());
    let _ = (config.onboot(), config.protection(), config.template(), config.lock(), config.bios(), config.machine());
    let _ = (config.uuid(), config.agent(), config.boot(), config.unused(), config.state_disks());
    for disk in config.disks().into_values() {
        let _ = (
            disk.storage(),
            disk.volume_name(),
            disk.size_bytes(),
            disk.is_cdrom(),
            disk.is_cloudinit(),
            disk.backup(),
        );
    }
    for nic in config.nics().into_values() {
        let _ = (nic.mac(), nic.bridge(), nic.tag(), nic.firewall(), nic.link_down());
    }
    assert!(config.host_ties().len() <= config.raw().len());
}

#[test]
fn texts_of_proxmox_ve() {
    let corpus = bytes(&[
        "ceph-pool:vm-100-disk-0,size=32G,ssd=1,discard=on,backup=0,iothread=1",
        "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=120,firewall=1,link_down=0",
        "enabled=1,fstrim_cloned_disks=1",
        "order=scsi0;ide2;net0",
        "uuid=7fa193eb-c1bf-4bb8-8351-fe742f245f74,manufacturer=TW94eGll,base64=1",
        "UPID:ws1:0003D2B4:0178F3F9:65A12B34:qmrestore:100:app@pve!app:",
        "INFO:  42% (13.4 GiB of 32.0 GiB) in 1m 3s, read: 210.0 MiB/s",
        "name: web-1\nmemory: 2048\nscsi0: ceph:vm-100-disk-0,size=8G\nnet0: virtio,bridge=vmbr0\n[snap]\nmemory: 1\n",
        "A1:B2:C3:D4:E5:F6:A1:B2:C3:D4:E5:F6:A1:B2:C3:D4:E5:F6:A1:B2:C3:D4:E5:F6:A1:B2:C3:D4:E5:F6:A1:B2",
        "8GiB",
        "500Mbps",
        "1h30m",
        "web-12.example.net",
        "scsi30",
        "team/a/b",
    ]);
    fuzz("texts", &corpus, |input| {
        let text = String::from_utf8_lossy(input);
        let text = text.as_ref();
        read_config(&proxmox::VmConfig::from_conf(text));
        let _ = (proxmox::parse_size(text), proxmox::progress_percent(text));
        let _ = text.parse::<proxmox::DiskSpec>().map(|disk| disk.to_string().parse::<proxmox::DiskSpec>());
        let _ = text.parse::<proxmox::NicSpec>().map(|nic| nic.to_string().parse::<proxmox::NicSpec>());
        let _ = (text.parse::<proxmox::Upid>().map(|upid| upid.vmid()), text.parse::<proxmox::Fingerprint>());
        let _ = federation::block::read_notes(text);
        if let Ok(size) = text.parse::<federation::Bytes>() {
            assert_eq!(size.to_string().parse::<federation::Bytes>().ok(), Some(size), "{text}");
        }
        if let Ok(span) = text.parse::<federation::Span>() {
            assert_eq!(span.to_string().parse::<federation::Span>().ok(), Some(span), "{text}");
        }
        let _ = (text.parse::<federation::VmName>().map(|name| name.family()), text.parse::<federation::Slot>());
        let _ = (text.parse::<federation::PoolName>(), text.parse::<federation::units::Bandwidth>());
        true
    });
}
