//! From bytes to a call and back: decoding, order of checks, envelope (proxmox-ve.md §1.3, §2).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::acl::Auth;
use crate::error::{Answer, ApiError, Body};
use crate::faults::{Action, Hook, Matched, Passage};
use crate::state::{Cluster, State};
use crate::table::{Endpoint, table};
use crate::tasks::Sabotage;
use crate::util::percent_decode;

/// A request as it came.
pub(crate) struct Incoming {
    pub(crate) method: String,
    /// Raw path, with prefix.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Node the listener belongs to, if it belongs to one.
    pub(crate) node: Option<String>,
}

/// An answer to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) close: bool,
    pub(crate) protected: bool,
    pub(crate) date: i64,
    /// Real time to wait before it is sent (wall pace only).
    pub(crate) delay: Duration,
}

/// What the connection does.
pub(crate) enum Verdict {
    Send(Outgoing),
    Drop,
    Hang,
}

/// A call a handler works on.
pub(crate) struct Call<'a> {
    pub(crate) st: &'a mut State,
    pub(crate) cluster: String,
    pub(crate) auth: Auth,
    pub(crate) params: BTreeMap<String, String>,
    /// The node that answers.
    pub(crate) entry: String,
}

pub(crate) type Handler = fn(&mut Call<'_>) -> Answer;

impl Call<'_> {
    pub(crate) fn c(&self) -> &Cluster {
        self.st.cluster(&self.cluster)
    }

    pub(crate) fn cm(&mut self) -> &mut Cluster {
        self.st.cluster_mut(&self.cluster)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// A parameter that validation made sure of.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("1")
    }

    pub(crate) fn vmid(&self) -> u32 {
        self.param("vmid").parse().unwrap_or(0)
    }

    pub(crate) fn node(&self) -> String {
        self.param("node").to_owned()
    }

    pub(crate) fn user(&self) -> String {
        self.auth.id()
    }

    pub(crate) fn need(&self, path: &str, wanted: &[&str]) -> Result<(), ApiError> {
        self.c().need(&self.auth, path, wanted)
    }

    pub(crate) fn may(&self, path: &str, wanted: &[&str]) -> bool {
        self.c().has(&self.auth, path, wanted)
    }

    pub(crate) fn may_any(&self, path: &str, wanted: &[&str]) -> bool {
        self.c().has_any(&self.auth, path, wanted)
    }
}

struct Routed {
    endpoint: &'static Endpoint,
    handler: Handler,
    uri: BTreeMap<String, String>,
}

/// Finds the call; `path` has been decoded part by part.
fn route(method: &str, parts: &[String], nine: bool) -> Option<Routed> {
    for endpoint in table().endpoints.iter().filter(|e| e.method == method && (nine || !e.since9)) {
        let pattern: Vec<_> = endpoint.path.split('/').skip(1).collect();
        let mut uri = BTreeMap::new();
        let mut ok = true;
        for (place, want) in pattern.iter().enumerate() {
            let name = want.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            match (name, parts.get(place)) {
                (Some("volume"), Some(_)) => {
                    uri.insert("volume".to_owned(), parts[place..].join("/"));
                }
                (Some(name), Some(part)) => {
                    uri.insert(name.to_owned(), part.clone());
                }
                (None, Some(part)) if part == want => {}
                _ => ok = false,
            }
        }
        let swallows = pattern.last() == Some(&"{volume}");
        if ok && (parts.len() == pattern.len() || swallows && parts.len() > pattern.len()) {
            let handler = crate::routes::handler(&endpoint.method, &endpoint.path)?;
            return Some(Routed { endpoint, handler, uri });
        }
    }
    None
}

/// Form data the way PVE reads it: pairs end at `&` and `;`, a second `=` cuts the value (§2.3).
fn form(text: &str, into: &mut BTreeMap<String, String>) {
    for pair in text.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let mut halves = pair.split('=');
        let key = percent_decode(halves.next().unwrap_or_default(), true);
        let Some(value) = halves.next().map(|value| percent_decode(value, true)) else { continue };
        if key == "_dc" {
            continue;
        }
        into.entry(key)
            .and_modify(|old| {
                old.push('\0');
                old.push_str(&value);
            })
            .or_insert(value);
    }
}

fn json_body(body: &[u8], into: &mut BTreeMap<String, String>) -> Result<(), ApiError> {
    let parsed: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::plain(500, format!("malformed JSON string, {error}")))?;
    let Value::Object(map) = parsed else { return Err(ApiError::plain(500, "unexpected JSON value")) };
    for (key, value) in map {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(flag) => String::from(if flag { "1" } else { "0" }),
            Value::Number(number) => number.to_string(),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join("\0"),
            _ => {
                return Err(ApiError::die(format!("unable to parse value of '{key}' - got undefined value")));
            }
        };
        into.insert(key, text);
    }
    Ok(())
}

/// Parameters of query and body; the query wins.
fn decode(request: &Incoming) -> Result<BTreeMap<String, String>, ApiError> {
    let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if header("transfer-encoding").contains("chunked") {
        return Err(ApiError::plain(501, "chunked transfer encoding not supported"));
    }
    if request.body.len() > 512 * 1024 {
        return Err(ApiError::plain(501, "for data too large"));
    }
    let mut params = BTreeMap::new();
    if !request.body.is_empty() {
        if request.method == "GET" || request.method == "DELETE" {
            return Err(ApiError::plain(501, format!("Unexpected content for method '{}'", request.method)));
        }
        let kind = header("content-type").split(';').next().unwrap_or_default().trim().to_lowercase();
        match kind.as_str() {
            "application/x-www-form-urlencoded" => form(&String::from_utf8_lossy(&request.body), &mut params),
            "application/json" => json_body(&request.body, &mut params)?,
            _ => return Err(ApiError::plain(506, format!("Unsupported content type '{kind}'"))),
        }
    }
    let mut query = BTreeMap::new();
    form(&request.query, &mut query);
    params.extend(query);
    Ok(params)
}

/// How far looking moves stepped time. Reads that clients wait on move it further (documented in fidelity.md).
fn step_of(method: &str, path: &str) -> Duration {
    let waits = method == "GET"
        && (path.ends_with("/status/current")
            || path.ends_with("/content")
            || path.ends_with("/status")
            || path.starts_with("/cluster/"));
    Duration::from_millis(if waits { 250 } else { 5 })
}

/// The callbacks a request sets off, to be called without the lock.
pub(crate) fn hooks(st: &mut State, cluster: &str, request: &Incoming) -> Option<(Matched, Vec<Hook>)> {
    let raw = request.path.strip_prefix("/api2/json").unwrap_or(&request.path);
    let path = percent_decode(raw, false);
    let matched = Matched { cluster: cluster.to_owned(), method: request.method.clone(), path };
    let hooks = st.faults.hooks(&matched, &decode(request).unwrap_or_default());
    (!hooks.is_empty()).then_some((matched, hooks))
}

/// One request, from its headers to what the connection does.
pub(crate) fn serve(st: &mut State, cluster: &str, request: &Incoming) -> Verdict {
    let raw = request.path.strip_prefix("/api2/json").unwrap_or(&request.path);
    let parts: Vec<String> =
        raw.split('/').filter(|part| !part.is_empty()).map(|part| percent_decode(part, false)).collect();
    let path = format!("/{}", parts.join("/"));
    st.event();
    st.look(step_of(&request.method, &path));
    let c = st.cluster(cluster);
    let dead = match &request.node {
        Some(node) => c.nodes.get(node).is_none_or(|facts| !facts.online),
        None => c.entry().is_none(),
    };
    if dead {
        // Nobody is there to answer, or to count the call; looking again takes a client its time.
        st.look(Duration::from_secs(3));
        return Verdict::Drop;
    }
    let decoded = decode(request);
    let params = decoded.as_ref().cloned().unwrap_or_default();
    let auth = crate::auth::identify(st, cluster, request, &path);
    let who = auth.as_ref().map(Auth::id).unwrap_or_default();
    let now = st.now();
    let sequence = st.log.open(cluster, &request.method, &path, &params, &who, now);
    let matched = Matched { cluster: cluster.to_owned(), method: request.method.clone(), path: path.clone() };
    let after = match st.faults.pass(&matched, sequence) {
        Passage::HoldBefore => return Verdict::Hang,
        Passage::HoldAfter => true,
        Passage::Free => false,
    };
    let mut verdict = None;
    for action in st.faults.matching(&matched, &params) {
        match action {
            Action::Refuse(status, text) => {
                let answer = render(st, Err(ApiError::new(status, text)), false);
                st.log.close(sequence, answer.status);
                return Verdict::Send(answer);
            }
            Action::Hang { executed: false } => return Verdict::Hang,
            Action::DropBefore => return Verdict::Drop,
            Action::Hang { executed: true } => verdict = Some(Verdict::Hang),
            Action::DropAnswer => verdict = Some(Verdict::Drop),
            Action::FailTask { message, late } => st.faults.sabotage(Some(Sabotage { message, late })),
            Action::FillStorage(storage) => st.fill_storage(cluster, &storage),
            Action::LoseQuorum => st.cluster_mut(cluster).quorate = false,
            Action::KillNode(node) => st.node_down(cluster, &node),
            Action::RebootNode(node) => st.node_reboot(cluster, &node),
            // Called before, without the lock.
            Action::Callback(_) => {}
        }
    }
    let mut protected = false;
    let answer = auth.and_then(|auth| {
        let params = decoded?;
        dispatch(st, cluster, request, auth, params, &parts, &mut protected)
    });
    st.faults.sabotage(None);
    let unauthorised = answer.as_ref().is_err_and(|error| error.code == 401);
    if unauthorised && st.clock.is_stepped() {
        // The three seconds of a failed login pass on the clusters' clock (§1.1).
        st.look(Duration::from_secs(3));
    }
    let outgoing = render(st, answer, protected);
    if after {
        st.faults.tell(&matched, sequence);
        return Verdict::Hang;
    }
    if let Some(verdict) = verdict {
        return verdict;
    }
    st.log.close(sequence, outgoing.status);
    Verdict::Send(outgoing)
}

/// Route, conflict, permission, node, schema, handler: in PVE's order (§1.3).
fn dispatch(
    st: &mut State,
    cluster: &str,
    request: &Incoming,
    auth: Auth,
    mut params: BTreeMap<String, String>,
    parts: &[String],
    protected: &mut bool,
) -> Answer {
    if !request.path.starts_with("/api2/json") {
        return Err(ApiError::plain(501, "no such uri"));
    }
    if !["GET", "POST", "PUT", "DELETE"].contains(&request.method.as_str()) {
        return Err(ApiError::plain(501, format!("method '{}' not available", request.method)));
    }
    let c = st.cluster(cluster);
    let Some(Routed { endpoint, handler, uri }) = route(&request.method, parts, c.is_9()) else {
        let text = format!("Method '{} /{}' not implemented", request.method, parts.join("/"));
        return Err(ApiError { body: Body::JsonBare, ..ApiError::new(501, text) });
    };
    *protected = endpoint.protected;
    for (name, value) in uri {
        let conflict = params.insert(name.clone(), value.clone()).is_some_and(|other| other != value);
        if conflict {
            return Err(ApiError::param(
                &name,
                "duplicate parameter (already defined in URI) with conflicting values!",
            ));
        }
    }
    permit(c, endpoint, &format!("/{}", parts.join("/")), &auth, &params)?;
    let entry = request.node.clone().or_else(|| c.entry().map(str::to_owned)).unwrap_or_default();
    if let Some(name) = endpoint.proxyto.as_ref() {
        if params.get(name).is_some_and(|node| node == "localhost") {
            params.insert(name.clone(), entry.clone());
        }
        let node = params.get(name).cloned().unwrap_or_default();
        match c.nodes.get(&node) {
            None => {
                return Err(ApiError::die(format!(
                    "hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
                )));
            }
            Some(facts) if !facts.online => {
                // Finding that out takes a while.
                st.look(Duration::from_secs(3));
                return Err(ApiError::new(595, "No route to host"));
            }
            Some(_) => {}
        }
    }
    let errors = endpoint.validate(&params, st.cluster(cluster).is_9());
    if !errors.is_empty() {
        return Err(ApiError::params(errors));
    }
    handler(&mut Call { st, cluster: cluster.to_owned(), auth, params, entry })
}

fn permit(
    cluster: &Cluster,
    endpoint: &Endpoint,
    path: &str,
    auth: &Auth,
    params: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    if auth.token.is_some() && !endpoint.allowtoken {
        let place = format!("URI '{path}' not available with API token, need proper ticket.\n");
        return Err(ApiError::forbid(&place));
    }
    if auth.is_root() {
        return Ok(());
    }
    match &endpoint.permissions {
        None => Err(ApiError::forbid("user != root@pam")),
        Some(permissions) if permissions.user.is_some() => Ok(()),
        Some(permissions) => match &permissions.check {
            Some(check) => cluster.check(auth, check, params),
            None => Ok(()),
        },
    }
}

fn render(st: &State, answer: Answer, protected: bool) -> Outgoing {
    let date = st.seconds();
    let mut out = Outgoing {
        status: 200,
        reason: "OK".to_owned(),
        content_type: "application/json;charset=UTF-8",
        body: Vec::new(),
        close: protected,
        protected,
        date,
        delay: Duration::ZERO,
    };
    match answer {
        Ok(reply) => {
            let mut envelope = json!({"data": reply.data});
            if let Some(total) = reply.total {
                envelope["total"] = json!(total);
            }
            out.body = envelope.to_string().into_bytes();
        }
        Err(error) => {
            out.status = error.code;
            out.reason = error.message.lines().next().unwrap_or_default().to_owned();
            out.close = true;
            out.protected = false;
            if error.code == 401 && !st.clock.is_stepped() {
                out.delay = st.clock.real(Duration::from_secs(3));
            }
            match error.body {
                Body::Empty => out.content_type = "",
                Body::Plain => {
                    out.content_type = "text/plain";
                    out.body = error.message.into_bytes();
                }
                Body::Json | Body::JsonBare => {
                    let end = if error.body == Body::Json { "\n" } else { "" };
                    let mut envelope = json!({"data": null, "message": format!("{}{end}", error.message)});
                    if !error.errors.is_empty() {
                        let errors: BTreeMap<_, _> =
                            error.errors.iter().map(|(key, text)| (key, format!("{text}\n"))).collect();
                        envelope["errors"] = json!(errors);
                    }
                    out.body = envelope.to_string().into_bytes();
                }
            }
        }
    }
    out
}
