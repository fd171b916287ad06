//! The storage calls: index, status, content (proxmox-ve.md §8, §17).

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::State;
use crate::storage::{Place, StorageDef, named_format, owner_of, split_volid};
use crate::tasks::Once;

const SEE: [&str; 2] = ["Datastore.Audit", "Datastore.AllocateSpace"];

fn definition(name: &str, def: &StorageDef) -> Value {
    let spec = &def.spec;
    let mut out = json!({
        "storage": name,
        "type": spec.kind,
        "content": def.content.iter().cloned().collect::<Vec<_>>().join(","),
        "digest": crate::util::sha1_hex(&format!("{spec:?}")),
        "shared": i32::from(def.is_shared()),
    });
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            out[key] = json!(value);
        }
    };
    put("server", spec.server.clone());
    put("export", spec.export.clone());
    put("nodes", spec.nodes.as_ref().map(|nodes| nodes.join(",")));
    put("prune-backups", spec.prune_backups.clone());
    put("path", def.is_file_based().then(|| def.mount(name)));
    put("pool", (spec.kind == "rbd" || spec.kind == "zfspool").then(|| name.to_owned()));
    put("vgname", (spec.kind == "lvm" || spec.kind == "lvmthin").then(|| "pve".to_owned()));
    if spec.disabled {
        out["disable"] = json!(1);
    }
    out
}

/// `GET /storage`
pub(crate) fn index(call: &mut Call<'_>) -> Answer {
    let wanted = call.get("type").map(str::to_owned);
    let list: Vec<_> = call
        .c()
        .storages
        .iter()
        .filter(|(name, def)| {
            wanted.as_ref().is_none_or(|kind| def.spec.kind == *kind) && call.may_any(&format!("/storage/{name}"), &SEE)
        })
        .map(|(name, def)| definition(name, def))
        .collect();
    Ok(json!(list).into())
}

/// `GET /storage/{storage}`
pub(crate) fn one(call: &mut Call<'_>) -> Answer {
    let name = call.param("storage").to_owned();
    let def = call.c().storage(&name)?;
    Ok(definition(&name, def).into())
}

/// Fields of `/nodes/N/storage` and its `status`.
pub(crate) fn status_fields(st: &State, cluster: &str, node: &str, name: &str, def: &StorageDef) -> Value {
    let store = st.store(&Place { cluster, node, storage: name });
    let (used, active) = store.map_or((0, false), |store| (store.used(), !store.offline && !def.spec.disabled));
    let (total, used) = if active { (def.capacity, used) } else { (0, 0) };
    json!({
        "type": def.spec.kind,
        "content": def.content.iter().cloned().collect::<Vec<_>>().join(","),
        "active": i32::from(active),
        "enabled": i32::from(!def.spec.disabled),
        "shared": i32::from(def.is_shared()),
        "total": total,
        "used": used,
        "avail": total - used,
        "used_fraction": if total == 0 { 0.0 } else { used as f64 / total as f64 },
    })
}

/// `GET /nodes/{node}/storage`
pub(crate) fn on_node(call: &mut Call<'_>) -> Answer {
    let node = call.node();
    let mut list = Vec::new();
    for (name, def) in &call.c().storages {
        let content = call.get("content").is_none_or(|c| c.split(',').any(|c| def.content.contains(c)));
        let named = call.get("storage").is_none_or(|only| only == name);
        let enabled = !call.flag("enabled") || !def.spec.disabled;
        if content && named && enabled && def.on(&node) && call.may_any(&format!("/storage/{name}"), &SEE) {
            let mut entry = status_fields(call.st, &call.cluster, &node, name, def);
            entry["storage"] = json!(name);
            list.push(entry);
        }
    }
    Ok(json!(list).into())
}

/// `GET /nodes/{node}/storage/{storage}/status`
pub(crate) fn status(call: &mut Call<'_>) -> Answer {
    let (node, name) = (call.node(), call.param("storage").to_owned());
    match call.c().storages.get(&name).filter(|def| def.on(&node)) {
        Some(def) => Ok(status_fields(call.st, &call.cluster, &node, &name, def).into()),
        None => Err(ApiError::param("storage", "No such storage.")),
    }
}

fn online(call: &Call<'_>, node: &str, storage: &str) -> Result<(), ApiError> {
    call.c().usable(storage, node, None)?;
    match call.st.store(&Place { cluster: &call.cluster, node, storage }) {
        Some(store) if !store.offline => Ok(()),
        _ => Err(ApiError::die(format!("storage '{storage}' is not online"))),
    }
}

/// When an archive was made: its file's name, read as the local time of the node that lists it (proxmox-ve.md §18, A9 of what was
/// seen). Another node's zone gives another time.
fn named_time(name: &str, utc_offset: i64) -> Option<i64> {
    let (_, named) = name.split_once("vzdump-qemu-")?;
    let (_, time) = named.split_once('-')?;
    let parts: Vec<i64> = time.get(..19)?.split(['_', '-']).map_while(|part| part.parse().ok()).collect();
    let [year, month, day, hour, minute, second] = parts[..] else { return None };
    Some(crate::util::seconds_of(year, month, day) + hour * 3600 + minute * 60 + second - utc_offset * 60)
}

/// `vma.zst` of `backup/vzdump-qemu-100-….vma.zst`.
fn archive_format(name: &str) -> String {
    name.find(".vma").map_or("vma", |place| &name[place + 1..]).to_owned()
}

/// `GET /nodes/{node}/storage/{storage}/content`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let (node, storage) = (call.node(), call.param("storage").to_owned());
    online(call, &node, &storage)?;
    let kind = call.get("content").map(str::to_owned);
    let vmid = call.number("vmid");
    let wanted = |content: &str, owner: u32| {
        kind.as_ref().is_none_or(|kind| kind == content) && vmid.is_none_or(|vmid| vmid == i64::from(owner))
    };
    let Some(store) = call.st.store(&Place { cluster: &call.cluster, node: &node, storage: &storage }) else {
        return Ok(json!([]).into());
    };
    let def = call.c().storage(&storage)?;
    let mut out = Vec::new();
    let volumes = store.volumes.iter().filter(|(_, v)| def.content.contains("images") && wanted("images", v.owner));
    for (name, volume) in volumes {
        let volid = format!("{storage}:{name}");
        if call.c().need_volume(&call.auth, &storage, false, Some(volume.owner), None, &volid).is_ok() {
            out.push(json!({
                "volid": volid, "vmid": volume.owner, "size": volume.logical, "used": volume.logical,
                "format": named_format(&volid).unwrap_or("raw"), "content": "images", "ctime": volume.created / 1000,
            }));
        }
    }
    let archives = store.archives.iter().filter(|(_, a)| def.content.contains("backup") && wanted("backup", a.vmid));
    for (name, archive) in archives {
        let volid = format!("{storage}:{name}");
        if call.c().need_volume(&call.auth, &storage, true, Some(archive.vmid), None, &volid).is_ok() {
            let ctime = named_time(name, call.c().utc_offset(&node)).unwrap_or(archive.ctime);
            let mut entry = json!({
                "volid": volid, "vmid": archive.vmid, "size": archive.size, "ctime": ctime,
                "format": archive_format(name), "content": "backup", "subtype": "qemu",
            });
            if archive.protected {
                entry["protected"] = json!(1);
            }
            if let Some(line) = archive.notes.lines().next() {
                entry["notes"] = json!(line);
            }
            out.push(entry);
        }
    }
    Ok(json!(out).into())
}

/// Volid of the path's `{volume}`, which may leave the storage out.
fn volid(call: &Call<'_>) -> Result<(String, String), ApiError> {
    let (storage, volume) = (call.param("storage").to_owned(), call.param("volume"));
    match split_volid(volume) {
        Some((named, _)) if named != storage => Err(ApiError::param("storage", "storage ID missmatch")),
        Some(_) => Ok((storage.clone(), volume.to_owned())),
        None => Ok((storage.clone(), format!("{storage}:{volume}"))),
    }
}

fn missing(volid: &str) -> ApiError {
    ApiError::die(format!("volume '{volid}' does not exist"))
}

/// What `qemu-img info` makes of a file that is no image: a raw one, its size rounded up to whole sectors, and the blocks that it
/// takes (§18.1). The listing has the exact size and the real format.
fn seen_as_raw(size: u64) -> (u64, u64) {
    (size.next_multiple_of(512), size.next_multiple_of(4096))
}

/// `GET …/content/{volume}`
pub(crate) fn attributes(call: &mut Call<'_>) -> Answer {
    let node = call.node();
    let (storage, volid) = volid(call)?;
    let backup = volid.contains(":backup/");
    call.c().need_volume(&call.auth, &storage, backup, owner_of(&volid), None, &volid)?;
    online(call, &node, &storage)?;
    let def = call.c().storage(&storage)?;
    if let Some(archive) = call.st.archive(&call.cluster, &node, &volid) {
        let file = volid.rsplit('/').next().unwrap_or_default();
        let (size, used) = seen_as_raw(archive.size);
        let mut out = json!({
            "path": format!("{}/dump/{file}", def.mount(&storage)),
            "size": size, "used": used, "format": "raw", "protected": i32::from(archive.protected),
        });
        if !archive.notes.is_empty() {
            out["notes"] = json!(archive.notes);
        }
        return Ok(out.into());
    }
    if call.st.has_snippet(&call.cluster, &node, &volid) {
        let path = format!("{}/{}", def.mount(&storage), volid.split_once(':').map_or("", |(_, name)| name));
        let (size, used) = seen_as_raw(100);
        return Ok(json!({ "path": path, "size": size, "used": used, "format": "raw" }).into());
    }
    match call.st.volume(&call.cluster, &node, &volid) {
        Some(volume) => Ok(json!({
            "path": def.path_of(&storage, volid.split_once(':').map_or("", |(_, name)| name)),
            "size": volume.logical, "used": volume.logical, "format": named_format(&volid).unwrap_or("raw"),
        })
        .into()),
        None => Err(missing(&volid)),
    }
}

/// `PUT …/content/{volume}`: notes and protection of an archive.
pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    let node = call.node();
    let (storage, volid) = volid(call)?;
    call.c().need_volume(&call.auth, &storage, true, owner_of(&volid), None, &volid)?;
    online(call, &node, &storage)?;
    let notes = call.get("notes").map(str::to_owned);
    let protected = call.get("protected").map(|flag| flag == "1");
    let Some((key, name)) = call.st.locate(&call.cluster, &node, &volid) else { return Err(missing(&volid)) };
    let Some(archive) = call.st.stores.get_mut(&key).and_then(|store| store.archives.get_mut(name)) else {
        return Err(missing(&volid));
    };
    if let Some(notes) = notes {
        archive.notes = notes;
    }
    if let Some(protected) = protected {
        archive.protected = protected;
    }
    crate::backup::write_side_files(archive);
    Ok(Value::Null.into())
}

/// `DELETE …/content/{volume}`: a task, whose refusals are the task's (§17.c5).
pub(crate) fn remove(call: &mut Call<'_>) -> Answer {
    let node = call.node();
    let (storage, volid) = volid(call)?;
    let owner = owner_of(&volid);
    let backup = volid.contains(":backup/");
    match owner.filter(|_| backup) {
        Some(owner) => {
            call.need(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
            call.need(&format!("/vms/{owner}"), &["VM.Backup"])?;
        }
        None => call.need(&format!("/storage/{storage}"), &["Datastore.Allocate"])?,
    }
    online(call, &node, &storage)?;
    let (cluster, user) = (call.cluster.clone(), call.user());
    let id = owner.map(|id| id.to_string()).unwrap_or_default();
    let place = node.clone();
    let work = Once(Some(move |st: &mut State, at: &crate::tasks::At| {
        let (key, name) = st.locate(&at.cluster, &place, &volid).ok_or_else(|| missing(&volid))?;
        let name = name.to_owned();
        let store = st.stores.get_mut(&key).ok_or_else(|| missing(&volid))?;
        if let Some(archive) = store.archives.get(&name) {
            if archive.protected {
                return Err(ApiError::die(format!("cannot remove protected volume '{name}' on '{storage}'")));
            }
            crate::backup::remove_files(archive);
            store.archives.remove(&name);
        } else if !st.free_volume(&at.cluster, &place, &volid) {
            return Err(missing(&volid));
        }
        st.say(at, format!("Removed volume '{volid}'"));
        Ok(())
    }));
    let upid = call.st.spawn(
        &cluster,
        crate::tasks::New {
            node: &node,
            kind: "imgdel",
            id: &format!("{id}@{}", call.params["storage"]),
            user: &user,
            delay_ms: 100,
        },
        Box::new(work),
    );
    Ok(json!(upid).into())
}
