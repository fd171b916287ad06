//! Credentials on the wire: API tokens, tickets, CSRF (proxmox-ve.md §1.1).

use serde_json::{Value, json};

use crate::acl::{Auth, Token};
use crate::error::{Answer, ApiError, Body};
use crate::http::{Call, Incoming};
use crate::state::{Cluster, State};
use crate::util::{percent_decode, uuid};

const TICKET_SECONDS: i64 = 7200;

/// Who sent the request, or why nobody did.
pub(crate) fn identify(st: &State, cluster: &str, request: &Incoming, path: &str) -> Result<Auth, ApiError> {
    let c = st.cluster(cluster);
    let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok());
    let authorization = header("authorization").unwrap_or_default();
    if path == "/access/ticket" {
        // Nobody is asked who they are here, but a token is noticed (and refused later).
        let id = authorization.strip_prefix("PVEAPIToken=").and_then(|token| token.split('=').next());
        let named = id.and_then(|id| id.split_once('!'));
        return Ok(named
            .map(|(user, token)| Auth { user: user.to_owned(), token: Some(token.to_owned()) })
            .unwrap_or_default());
    }
    let cookie = header("cookie")
        .and_then(|all| all.split(';').find_map(|one| one.trim().strip_prefix("PVEAuthCookie=")))
        .or_else(|| authorization.strip_prefix("PVEAuthCookie="));
    if let Some(ticket) = cookie {
        return by_ticket(c, st.seconds(), &percent_decode(ticket, false), request);
    }
    by_header(c, authorization)
}

/// Who an `Authorization: PVEAPIToken=…` is.
pub(crate) fn by_header(c: &Cluster, authorization: &str) -> Result<Auth, ApiError> {
    let token = authorization.strip_prefix("PVEAPIToken").and_then(|rest| rest.strip_prefix(['=', ' ']));
    match token {
        Some(token) => by_token(c, &percent_decode(token.split(';').next().unwrap_or_default(), false)),
        None => Err(ApiError::new(401, "No ticket")),
    }
}

fn by_token(c: &Cluster, text: &str) -> Result<Auth, ApiError> {
    let fail = |old: String| Err(ApiError::new(401, if c.is_9() { "Authentication failed!".to_owned() } else { old }));
    let Some((id, secret)) = text.split_once('=') else { return fail("invalid token value!".to_owned()) };
    let Some((user, name)) = id.split_once('!') else { return fail("invalid token value!".to_owned()) };
    match c.access.tokens.get(id) {
        None => fail(format!("no such token '{name}' for user '{user}'")),
        Some(token) if token.secret != secret => fail("invalid token value!".to_owned()),
        Some(_) => Ok(Auth { user: user.to_owned(), token: Some(name.to_owned()) }),
    }
}

fn by_ticket(c: &Cluster, now: i64, ticket: &str, request: &Incoming) -> Result<Auth, ApiError> {
    let known = c.access.tickets.get(ticket).filter(|(_, _, at)| now - at <= TICKET_SECONDS);
    let Some((user, csrf, _)) = known else {
        let text = if c.is_9() { "Authentication failed!" } else { "permission denied - invalid PVE ticket" };
        return Err(ApiError::new(401, text));
    };
    let sent = request.headers.get("csrfpreventiontoken").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if request.method != "GET" && sent != csrf {
        return Err(ApiError::new(401, "Permission denied - invalid csrf token"));
    }
    Ok(Auth { user: user.clone(), token: None })
}

/// `GET /access/ticket`: a dummy.
pub(crate) fn no_ticket(_call: &mut Call<'_>) -> Answer {
    Ok(Value::Null.into())
}

/// `POST /access/ticket`
pub(crate) fn ticket(call: &mut Call<'_>) -> Answer {
    let name = call.param("username").to_owned();
    let name = match (name.contains('@'), call.get("realm")) {
        (false, Some(realm)) => format!("{name}@{realm}"),
        _ => name,
    };
    let password = call.param("password").to_owned();
    let now = call.st.seconds();
    let access = &call.c().access;
    let renewed =
        access.tickets.get(&password).is_some_and(|(user, _, at)| *user == name && now - at <= TICKET_SECONDS);
    let known = access.users.get(&name).is_some_and(|known| known.as_ref() == Some(&password));
    if !known && !renewed {
        return Err(ApiError { body: Body::Json, ..ApiError::new(401, "authentication failure") });
    }
    let signature = call.st.fresh_uuid("ticket").replace('-', "");
    let ticket = format!("PVE:{name}:{now:08X}::{signature}");
    let csrf = format!("{now:08X}:{signature}");
    call.cm().access.tickets.insert(ticket.clone(), (name.clone(), csrf.clone(), now));
    let auth = Auth { user: name.clone(), token: None };
    let mut data = json!({"username": name, "ticket": ticket, "CSRFPreventionToken": csrf, "cap": {}});
    if let Some(corosync) = call.c().corosync.clone().filter(|_| call.c().has(&auth, "/", &["Sys.Audit"])) {
        data["clustername"] = json!(corosync);
    }
    Ok(data.into())
}

/// `GET /access/acl`: only paths where the caller may change rights, unless he may audit them all. Who allocates an object may
/// change the rights to it (proxmox-ve.md §18.31).
pub(crate) fn acl(call: &mut Call<'_>) -> Answer {
    let all = call.may("/access", &["Sys.Audit"]);
    let rules = call.c().access.acl.iter();
    let rules = rules.filter(|rule| all || call.may_any(&rule.path, &changers(&rule.path)));
    let entry = |rule: &crate::acl::Rule| {
        let kind = if rule.subject.contains('!') { "token" } else { "user" };
        json!({
            "path": rule.path, "ugid": rule.subject, "type": kind, "roleid": rule.role,
            "propagate": i32::from(rule.propagate),
        })
    };
    Ok(json!(rules.map(entry).collect::<Vec<_>>()).into())
}

/// Each of these lets its holder change the rights on a path.
fn changers(path: &str) -> Vec<&'static str> {
    let owns = [("/storage/", "Datastore.Allocate"), ("/vms/", "VM.Allocate"), ("/pool/", "Pool.Allocate")];
    let owns = owns.into_iter().filter(|(below, _)| path.starts_with(below)).map(|(_, privilege)| privilege);
    std::iter::once("Permissions.Modify").chain(owns).collect()
}

/// `GET /access/permissions`
pub(crate) fn permissions(call: &mut Call<'_>) -> Answer {
    let whose = match call.get("userid") {
        Some(id) if *id != call.auth.id() => {
            let (user, token) = match id.split_once('!') {
                Some((user, token)) => (user, Some(token.to_owned())),
                None => (id, None),
            };
            let own = user == call.auth.user;
            let auth = Auth { user: user.to_owned(), token };
            if !own {
                call.need("/access", &["Sys.Audit"])?;
            }
            auth
        }
        _ => call.auth.clone(),
    };
    let c = call.c();
    let paths = match call.get("path") {
        Some(path) => vec![path.to_owned()],
        None => all_paths(c),
    };
    let mut out = serde_json::Map::new();
    for path in paths {
        let held = c.privileges(&whose, &path);
        if !held.is_empty() {
            let held: serde_json::Map<_, _> =
                held.into_iter().map(|(privilege, down)| (privilege, json!(i32::from(down)))).collect();
            out.insert(path, Value::Object(held));
        }
    }
    Ok(Value::Object(out).into())
}

/// What PVE dumps when no path is asked for: fixed roots, everything with a rule, all guests, pools, storages.
fn all_paths(c: &Cluster) -> Vec<String> {
    let fixed =
        ["/", "/access", "/access/groups", "/access/realm", "/mapping", "/nodes", "/pool", "/sdn", "/storage", "/vms"];
    let mut paths: Vec<String> = fixed.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(c.access.acl.iter().map(|rule| rule.path.clone()));
    paths.extend(c.vms.keys().map(|vmid| format!("/vms/{vmid}")));
    paths.extend(c.pools.keys().map(|pool| format!("/pool/{pool}")));
    paths.extend(c.storages.keys().map(|storage| format!("/storage/{storage}")));
    paths.extend(c.nodes.keys().map(|node| format!("/nodes/{node}")));
    paths.sort();
    paths.dedup();
    paths
}

fn token_id(call: &Call<'_>) -> String {
    format!("{}!{}", call.param("userid"), call.param("tokenid"))
}

/// `GET /access/users/{userid}/token`
pub(crate) fn tokens(call: &mut Call<'_>) -> Answer {
    let prefix = format!("{}!", call.param("userid"));
    let list: Vec<_> = call
        .c()
        .access
        .tokens
        .iter()
        .filter_map(|(id, token)| Some((id.strip_prefix(&prefix)?, token)))
        .map(|(id, token)| json!({"tokenid": id, "privsep": i32::from(token.privsep), "expire": 0}))
        .collect();
    Ok(json!(list).into())
}

/// `GET /access/users/{userid}/token/{tokenid}`
pub(crate) fn token(call: &mut Call<'_>) -> Answer {
    match call.c().access.tokens.get(&token_id(call)) {
        Some(token) => Ok(json!({"privsep": i32::from(token.privsep), "expire": 0}).into()),
        None => Err(no_such_token(call)),
    }
}

fn no_such_token(call: &Call<'_>) -> ApiError {
    ApiError::die(format!("no such token '{}' for user '{}'", call.param("tokenid"), call.param("userid")))
}

/// `POST /access/users/{userid}/token/{tokenid}`
pub(crate) fn add_token(call: &mut Call<'_>) -> Answer {
    let id = token_id(call);
    if call.c().access.tokens.contains_key(&id) {
        return Err(ApiError::param("tokenid", "Token already exists."));
    }
    let privsep = call.get("privsep") != Some("0");
    let secret = uuid(call.st.fresh("token"), &id);
    call.cm().access.tokens.insert(id.clone(), Token { secret: secret.clone(), privsep });
    Ok(json!({"full-tokenid": id, "value": secret, "info": {"privsep": i32::from(privsep)}}).into())
}

/// `DELETE /access/users/{userid}/token/{tokenid}`
pub(crate) fn remove_token(call: &mut Call<'_>) -> Answer {
    let id = token_id(call);
    if call.cm().access.tokens.remove(&id).is_none() {
        return Err(no_such_token(call));
    }
    call.cm().access.acl.retain(|rule| rule.subject != id);
    Ok(Value::Null.into())
}
