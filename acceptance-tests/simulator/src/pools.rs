//! Pools: nested, with comments, created atomically (proxmox-ve.md §10.3, §17).

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::http::Call;
use crate::state::Pool;
use crate::util::split_list;

fn no_such(pool: &str) -> ApiError {
    ApiError::die(format!("pool '{pool}' does not exist"))
}

fn need_write(call: &Call<'_>) -> Result<(), ApiError> {
    if call.c().quorate {
        return Ok(());
    }
    Err(ApiError::die("cluster not ready - no quorum?"))
}

fn members(call: &Call<'_>, pool: &Pool, kind: Option<&str>) -> Vec<Value> {
    let c = call.c();
    let guests = pool.vms.iter().filter_map(|vmid| c.vms.get(vmid)).filter(|_| kind.is_none_or(|k| k == "qemu"));
    let mut out: Vec<_> = guests.map(|vm| crate::reads::guest_entry(c, vm, call.st.now())).collect();
    for storage in pool.storages.iter().filter(|_| kind.is_none_or(|k| k == "storage")) {
        for node in c.nodes.keys() {
            out.push(
                json!({"id": format!("storage/{node}/{storage}"), "type": "storage", "storage": storage, "node": node}),
            );
        }
    }
    out
}

fn entry(name: &str, pool: &Pool) -> Value {
    let mut out = json!({"poolid": name});
    if !pool.comment.is_empty() {
        out["comment"] = json!(pool.comment);
    }
    out
}

/// `GET /pools`
pub(crate) fn list(call: &mut Call<'_>) -> Answer {
    let c = call.c();
    if let Some(name) = call.get("poolid") {
        // The right to audit is asked for and its answer ignored (§16).
        let pool = c.pools.get(name).ok_or_else(|| no_such(name))?;
        let mut out = entry(name, pool);
        out["members"] = json!(members(call, pool, call.get("type")));
        return Ok(json!([out]).into());
    }
    let seen = c.pools.iter().filter(|(name, _)| call.may(&format!("/pool/{name}"), &["Pool.Audit"]));
    Ok(json!(seen.map(|(name, pool)| entry(name, pool)).collect::<Vec<_>>()).into())
}

/// `GET /pools/{poolid}` (deprecated; no nested names)
pub(crate) fn one(call: &mut Call<'_>) -> Answer {
    let name = call.param("poolid");
    let pool = call.c().pools.get(name).ok_or_else(|| no_such(name))?;
    let mut out = json!({"members": members(call, pool, call.get("type"))});
    if !pool.comment.is_empty() {
        out["comment"] = json!(pool.comment);
    }
    Ok(out.into())
}

/// `POST /pools`: an atomic create.
pub(crate) fn create(call: &mut Call<'_>) -> Answer {
    need_write(call)?;
    let name = call.param("poolid").to_owned();
    let comment = call.get("comment").unwrap_or_default().to_owned();
    let fail = |text: String| Err(ApiError::die(format!("create pool failed: {text}")));
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return fail("pool name must start with a letter".to_owned());
    }
    if call.c().pools.contains_key(&name) {
        return fail(format!("pool '{name}' already exists"));
    }
    if let Some((parent, _)) = name.rsplit_once('/').filter(|(parent, _)| !call.c().pools.contains_key(*parent)) {
        return fail(format!("parent '{parent}' of pool '{name}' does not exist"));
    }
    call.cm().pools.insert(name, Pool { comment, ..Pool::default() });
    Ok(Value::Null.into())
}

/// `PUT /pools` and `PUT /pools/{poolid}`
pub(crate) fn update(call: &mut Call<'_>) -> Answer {
    need_write(call)?;
    let name = call.param("poolid").to_owned();
    let fail = |text: String| Err(ApiError::die(format!("update pools failed: {text}")));
    if !call.c().pools.contains_key(&name) {
        return fail(format!("pool '{name}' does not exist"));
    }
    let vms: Vec<u32> = split_list(call.get("vms").unwrap_or_default()).filter_map(|id| id.parse().ok()).collect();
    let storages: Vec<String> = split_list(call.get("storage").unwrap_or_default()).map(str::to_owned).collect();
    let (delete, moving) = (call.flag("delete"), call.flag("allow-move"));
    for vmid in &vms {
        // Nobody asks whether the guest exists (§17.c14).
        if !call.may_any(&format!("/vms/{vmid}"), &["VM.Allocate", "Permissions.Modify"]) {
            return Err(ApiError::forbid(&format!("/vms/{vmid}, VM.Allocate|Permissions.Modify")));
        }
        let now = call.c().pool_of(*vmid).map(str::to_owned);
        match now {
            Some(now) if delete && now != name => return fail(format!("VM {vmid} is not a pool member")),
            None if delete => return fail(format!("VM {vmid} is not a pool member")),
            Some(now) if !delete && now == name => return fail(format!("VM {vmid} is already a pool member")),
            Some(now) if !delete && !moving => {
                return fail(format!("VM {vmid} belongs already to pool '{now}' and 'allow-move' is not set"));
            }
            _ => {}
        }
    }
    for storage in &storages {
        if !call.may(&format!("/storage/{storage}"), &["Datastore.Allocate"]) {
            return Err(ApiError::forbid(&format!("/storage/{storage}, Datastore.Allocate")));
        }
    }
    let comment = call.get("comment").map(str::to_owned);
    let pools = &mut call.cm().pools;
    for vmid in &vms {
        pools.values_mut().for_each(|pool| {
            pool.vms.remove(vmid);
        });
    }
    if let Some(pool) = pools.get_mut(&name) {
        if delete {
            pool.storages.retain(|storage| !storages.contains(storage));
        } else {
            pool.vms.extend(vms);
            pool.storages.extend(storages);
        }
        if let Some(comment) = comment {
            pool.comment = comment;
        }
    }
    Ok(Value::Null.into())
}

/// `DELETE /pools` and `DELETE /pools/{poolid}`
pub(crate) fn remove(call: &mut Call<'_>) -> Answer {
    need_write(call)?;
    let name = call.param("poolid").to_owned();
    let pools = &call.c().pools;
    let fail = |text: String| Err(ApiError::die(format!("delete pool failed: {text}")));
    let Some(pool) = pools.get(&name) else { return fail(format!("pool '{name}' does not exist")) };
    let child = pools.keys().find(|other| other.starts_with(&format!("{name}/")));
    let inside = pool
        .vms
        .iter()
        .next()
        .map(|vmid| format!("VM {vmid}"))
        .or_else(|| child.map(|child| format!("pool '{child}'")))
        .or_else(|| pool.storages.iter().next().map(|storage| format!("storage '{storage}'")));
    if let Some(inside) = inside {
        return fail(format!("pool '{name}' is not empty (contains {inside})"));
    }
    let c = call.cm();
    c.pools.remove(&name);
    c.access.forget_pool(&name);
    Ok(Value::Null.into())
}
