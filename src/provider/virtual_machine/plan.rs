//! Owns PlanResourceChange of a virtual machine (design.md §5).
use federation::ClusterName;
use federation::model::{MacPolicy, NicRequest};
use federation::placement::{Current, Reason, Refusal, Request};
use operations::DiskSpec;
use protocol::{AttributePath, Diagnostics, PlanRequest, PlanResponse, Severity, Value};

use super::{mapped, model, node, planned::planned, preview, restart};
use crate::failures::contradiction;
use crate::placing::{Pinned, Ready, Walk};
use crate::private::{Private, disk_path};
use crate::proposals::Proposal;
use crate::values::text;

/// Where a machine is planned to be.
struct Place {
    cluster: Value,
    placement: Value,
    planned_private: Vec<u8>,
}

/// Plans a create, an update with or without a move, or a destroy. `ready` is `None` while the provider block holds values
/// that are not known yet.
pub(crate) async fn plan(ready: Option<&Ready>, req: PlanRequest, diags: &mut Diagnostics) -> PlanResponse {
    if req.config.is_null() && req.proposed_new_state.is_null() {
        return destroy(&req, diags);
    }
    let place =
        if req.prior_state.is_null() { create(ready, &req, diags).await } else { update(ready, &req, diags).await };
    let moving = !req.prior_state.is_null() && place.cluster != *req.prior_state.attr("cluster");
    let mut state = planned(&req.config, &req.prior_state, place.cluster, place.placement, moving);
    node::plan(&req, moving, &mut state);
    if moving {
        give_another_vmid(&req, &mut state, diags);
        give_other_macs(ready, &req, &mut state);
        if let Some(ready) = ready.filter(|ready| ready.walk(req.client, &req.planned_private) == Walk::Plan) {
            preview::preview(ready, &req, &state, diags).await;
        }
    }
    let private = Private::read(&req.prior_private);
    nobody_wants_back(&req.config, &private, &mut state);
    if !ready.is_some_and(|ready| ready.parent.destroys()) {
        model::fresh(&req.config, &req.prior_state, &private, diags);
    }
    mapped::check(&req.config, &req.prior_state, &private, moving, diags);
    if !req.prior_state.is_null() {
        restart::announce(&state, &req.prior_state, &private, diags);
        Impossible { prior: &req.prior_state, private, moving }.report(&state, diags);
    }
    PlanResponse { planned_state: state, requires_replace: Vec::new(), planned_private: place.planned_private }
}

/// What somebody took out of the machine, where no slots are configured, is no difference.
fn nobody_wants_back(config: &Value, private: &Private, state: &mut Value) {
    for name in ["disks", "network_devices"].into_iter().filter(|name| config.attr(name).is_null()) {
        if let Some(had) = state.attr(name).as_map() {
            let left = had.iter().filter(|(slot, _)| !private.missing.contains(*slot));
            let left = Value::map(left.map(|(slot, one)| (slot.clone(), one.clone())));
            state.set_attr(name, left);
        }
    }
}

fn destroy(req: &PlanRequest, diags: &mut Diagnostics) -> PlanResponse {
    let copies = req.prior_state.attr("retired_copies").as_list().unwrap_or_default();
    if !copies.is_empty() {
        let place = |copy: &Value| {
            let vmid = copy.attr("vmid").as_i64().map(|vmid| vmid.to_string()).unwrap_or_default();
            format!("{}/{vmid}", text(copy, "cluster").unwrap_or_default())
        };
        let places: Vec<String> = copies.iter().map(place).collect();
        diags.warning(
            "Retired copies go with the machine",
            format!("{}: {}", model::called(&req.prior_state), places.join(", ")),
        );
    }
    PlanResponse { planned_private: req.prior_private.clone(), ..PlanResponse::default() }
}

/// What is asked of placement, before a cluster is known.
fn ask(req: &PlanRequest, current: Option<Current>) -> model::Requested {
    let undecided = planned(&req.config, &req.prior_state, Value::unknown(), Value::unknown(), false);
    let pin = req.config.attr("cluster").as_str();
    let mut request = model::request(&undecided, pin, current)?;
    let private = Private::read(&req.prior_private);
    request.node = node::wish(&req.config, &req.prior_state, &private, pin.unwrap_or_default());
    Ok(request)
}

/// Plans a new machine. Where everything is to be destroyed, what can't be created must not be in the way: the CLI plans as
/// usual before it does that, and an error there would end it.
async fn create(ready: Option<&Ready>, req: &PlanRequest, diags: &mut Diagnostics) -> Place {
    let mut found = Diagnostics::new();
    let place = place_new(ready, req, &mut found).await;
    let destroys = ready.is_some_and(|ready| ready.parent.destroys());
    diags.extend(found.into_iter().map(|mut diagnostic| {
        if destroys {
            diagnostic.severity = Severity::Warning;
        }
        diagnostic
    }));
    place
}

async fn place_new(ready: Option<&Ready>, req: &PlanRequest, diags: &mut Diagnostics) -> Place {
    let pin = req.config.attr("cluster");
    if pin.is_unknown() {
        return unknown(&["cluster".to_owned()], diags);
    }
    let request = match ask(req, None) {
        Ok(request) => request,
        Err(inputs) if pin.is_null() => return unknown(&inputs, diags),
        Err(_) => return pinned_to(pin),
    };
    let Some(ready) = ready else {
        return if pin.is_null() { unknown(&["provider configuration".to_owned()], diags) } else { pinned_to(pin) };
    };
    if let Some(inputs) = ready.unknown_inputs(&request).await {
        return if pin.is_null() { unknown(&inputs, diags) } else { pinned_to(pin) };
    }
    if unknown_names(ready, &request, diags).await {
        return Place { cluster: Value::unknown(), placement: Value::unknown(), planned_private: Vec::new() };
    }
    if request.location.is_some() && request.pin.is_none() && !ready.is_geographic(&request).await {
        preference(&request, diags);
    }
    let walk = ready.walk(req.client, &req.planned_private);
    decide(ready, req, &request, false, walk, diags).await
}

async fn update(ready: Option<&Ready>, req: &PlanRequest, diags: &mut Diagnostics) -> Place {
    let prior = &req.prior_state;
    let stay = || Place {
        cluster: prior.attr("cluster").clone(),
        placement: prior.attr("placement").clone(),
        planned_private: req.prior_private.clone(),
    };
    let pin = req.config.attr("cluster");
    if pin.is_unknown() {
        return unknown(&["cluster".to_owned()], diags);
    }
    // Where the configuration repeats what this cluster made of a network, another one would contradict it.
    let repeated = mapped::is_repeated(&req.config);
    let proposal = proposal(req).filter(|_| !repeated);
    if repeated && Private::read(&req.prior_private).lost.is_some() {
        let name = model::called(prior);
        diags.warning_at(
            AttributePath::new("network_devices"),
            format!("Virtual machine {name} can't be recovered as it is configured"),
            "Its configuration repeats the bridge and VLAN of the lost cluster beside the `network` that they come from: take them out.",
        );
    }
    if pin.as_str().is_some() {
        return to_pin(ready, req, proposal, diags);
    }
    // Not pinned: only the user's own edit of what decides where it is can move it.
    let edit = edit(req);
    if edit == Edit::None {
        // What Read found is all that counts: the clusters, or the clock, may say something else by now.
        return match proposal {
            Some(proposal) => Place {
                cluster: proposal.to.into(),
                placement: proposal.placement.into(),
                planned_private: req.prior_private.clone(),
            },
            None => stay(),
        };
    }
    let current = current(prior);
    let request = match ask(req, current.clone()) {
        Ok(request) => request,
        Err(inputs) if req.config.attr("pool").is_unknown() => return unknown(&inputs, diags),
        Err(_) => return stay(),
    };
    let Some(ready) = ready else { return stay() };
    if let Some(inputs) = ready.unknown_inputs(&request).await {
        return unknown(&inputs, diags);
    }
    if unknown_names(ready, &request, diags).await {
        return stay();
    }
    if edit == Edit::Location && !ready.is_geographic(&request).await {
        preference(&request, diags);
        return stay();
    }
    let walk = ready.walk(req.client, &req.planned_private);
    decide(ready, req, &request, edit == Edit::Location, walk, diags).await
}

/// Plans a machine that is pinned: it is where the pin says, or can't be.
fn to_pin(ready: Option<&Ready>, req: &PlanRequest, proposal: Option<Proposal>, diags: &mut Diagnostics) -> Place {
    let (prior, pin) = (&req.prior_state, req.config.attr("cluster"));
    let name = pin.as_str().unwrap_or_default();
    if let Some(proposal) = proposal.filter(|proposal| proposal.to != name) {
        stays_pinned(prior, &proposal, diags);
    }
    let known = ready.is_none_or(|ready| ready.federation().clusters.contains_key(name));
    let moves = prior.attr("cluster").as_str() != Some(name);
    if moves && !known {
        no_such_cluster(name, diags);
    } else if moves && let Some(ready) = ready {
        forbidden(ready, req, name, diags);
    }
    let placement = if moves { pinned_to(pin).placement } else { prior.attr("placement").clone() };
    Place { cluster: pin.clone(), placement, planned_private: req.prior_private.clone() }
}

/// What of a configuration that decides where an unpinned machine is differs from what was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// Nothing.
    None,
    /// Its pool, or what it asks of its cluster: it stays where that may be.
    Residence,
    /// Where it should be: it goes where that is nearest.
    Location,
}

fn edit(req: &PlanRequest) -> Edit {
    let differs = |name: &str| req.config.attr(name) != req.prior_state.attr(name);
    if ["pool", "tier", "needs"].into_iter().any(differs) {
        return Edit::Residence;
    }
    // What is written for the first time after an import describes the machine; it doesn't move it.
    let imported = Private::read(&req.prior_private).imported;
    let named = req.config.attr("location");
    if differs("location") && !named.is_null() && !imported { Edit::Location } else { Edit::None }
}

/// Says that a location moves nothing in its pool.
fn preference(request: &Request, diags: &mut Diagnostics) {
    let pool = request.pool.as_ref().map_or("its pool", |pool| pool.as_str());
    diags.warning_at(
        AttributePath::new("location"),
        format!("The location of virtual machine {} is a preference", request.name),
        format!(
            "The strategy of {pool} is not \"geographic\": a cluster that lies there counts double when the machine is placed, nothing \
             more. To have it there, pin it with `cluster`, or give the pool strategy = \"geographic\"."
        ),
    );
}

/// Says where a pin contradicts what is written elsewhere: the pool's rules, the cluster's VLANs. Apply would refuse it each time.
fn forbidden(ready: &Ready, req: &PlanRequest, pin: &str, diags: &mut Diagnostics) {
    let (Ok(request), Ok(cluster)) = (ask(req, current(&req.prior_state)), ClusterName::new(pin)) else { return };
    let destroys = ready.parent.destroys();
    for reason in federation::placement::forbidden(&ready.written().federation, &request, &cluster) {
        let at = match &reason {
            Reason::VlanOutOfRange { slot, .. } => {
                AttributePath::new("network_devices").key(slot.as_str()).attribute("vlan")
            }
            _ => AttributePath::new("cluster"),
        };
        let what = format!("Virtual machine {} may not be on {pin}", request.name);
        let detail = format!("{reason}. To have it there: {}.", reason.relaxation());
        // Where everything is to be destroyed, nothing is to be in the way.
        if destroys { diags.warning_at(at, what, detail) } else { diags.error_at(at, what, detail) }
    }
}

/// The move that the last Read proposed, where it is about this pool and the cluster in state.
fn proposal(req: &PlanRequest) -> Option<Proposal> {
    let holds = |proposal: &Proposal| {
        req.prior_state.attr("pool").as_str() == Some(&proposal.pool)
            && req.prior_state.attr("cluster").as_str() == Some(&proposal.from)
    };
    Private::read(&req.prior_private).proposal.filter(holds)
}

fn stays_pinned(prior: &Value, proposal: &Proposal, diags: &mut Diagnostics) {
    diags.warning_at(
        AttributePath::new("cluster"),
        format!("Virtual machine {} is pinned, and should leave", model::called(prior)),
        format!(
            "Its pool would move it from {} to {} ({}). A pin is moved by its own configuration alone: change `cluster`.",
            proposal.from, proposal.to, proposal.placement
        ),
    );
}

fn current(prior: &Value) -> Option<Current> {
    let cluster = ClusterName::new(prior.attr("cluster").as_str()?).ok()?;
    Some(Current { cluster, vmid: u32::try_from(prior.attr("vmid").as_u64()?).ok()? })
}

/// `anew`: what ranks clusters was edited, so that it is no reason to stay that its cluster will do.
async fn decide(
    ready: &Ready,
    req: &PlanRequest,
    request: &Request,
    anew: bool,
    walk: Walk,
    diags: &mut Diagnostics,
) -> Place {
    if request.pin.is_some() && walk == Walk::Apply {
        // What was pinned stays pinned, whatever the facts say: refusing is apply's work.
        return pinned_to(req.config.attr("cluster"));
    }
    match ready.place(request, anew, walk, req.client, &req.planned_private, diags).await {
        Ok(_) if request.pin.is_some() => pinned_to(req.config.attr("cluster")),
        Ok(pinned) => Place {
            cluster: pinned.cluster.as_str().into(),
            placement: pinned.placement.as_str().into(),
            planned_private: encode(req, pinned),
        },
        Err(refusal) => {
            refused(request, &refusal, diags);
            // The error may become a warning (a destroy), and then what is configured is what is planned.
            if request.pin.is_some() {
                return pinned_to(req.config.attr("cluster"));
            }
            Place { cluster: Value::unknown(), placement: Value::unknown(), planned_private: Vec::new() }
        }
    }
}

/// The decision beside what is stored already.
fn encode(req: &PlanRequest, pinned: Pinned) -> Vec<u8> {
    Private { pinned: Some(pinned), ..Private::read(&req.prior_private) }.write()
}

fn pinned_to(pin: &Value) -> Place {
    let placement = format!("pinned to {}", pin.as_str().unwrap_or_default());
    Place { cluster: pin.clone(), placement: placement.into(), planned_private: Vec::new() }
}

fn unknown(inputs: &[String], diags: &mut Diagnostics) -> Place {
    diags.warning(
        "The cluster is decided at apply",
        format!("It depends on what is not known yet: {}.", inputs.join(", ")),
    );
    Place { cluster: Value::unknown(), placement: Value::unknown(), planned_private: Vec::new() }
}

fn refused(request: &Request, refusal: &Refusal, diags: &mut Diagnostics) {
    let attribute = if request.pin.is_some() { "cluster" } else { "pool" };
    diags.error_at(
        AttributePath::new(attribute),
        format!("No cluster can take virtual machine {}", request.name),
        refusal.to_string(),
    );
}

/// Reports a pool or cluster that the federation doesn't have, and where the file contradicts the pool's record.
async fn unknown_names(ready: &Ready, request: &Request, diags: &mut Diagnostics) -> bool {
    let before = diags.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let rules = ready.rules().await;
    for difference in request.pool.as_ref().and_then(|pool| rules.differences.get(pool)).into_iter().flatten() {
        contradiction(difference, diags);
    }
    for cluster in ready.candidates(request).await {
        for difference in rules.cluster_differences.get(&cluster).into_iter().flatten() {
            contradiction(difference, diags);
        }
    }
    if let Some(pool) = request.pool.as_ref().filter(|pool| !rules.federation.pools.contains_key(*pool)) {
        ready.asked(request, &rules);
        let known: Vec<&str> = rules.federation.pools.keys().map(|name| name.as_str()).collect();
        diags.error_at(
            AttributePath::new("pool"),
            "No such resource pool",
            format!(
                "{pool} is neither in the federation file, nor enrolled on a cluster that answers, nor planned before this \
                 machine: a moxxie_resource_pool of this configuration is referred to as \
                 moxxie_resource_pool.<label>.name. Known: {}.",
                known.join(", ")
            ),
        );
    }
    if let Some(name) = request.pin.as_ref().filter(|name| !ready.federation().clusters.contains_key(*name)) {
        no_such_cluster(name.as_str(), diags);
    }
    diags.iter().filter(|diagnostic| diagnostic.is_error()).count() > before
}

fn no_such_cluster(name: &str, diags: &mut Diagnostics) {
    diags.error_at(
        AttributePath::new("cluster"),
        "No such cluster",
        format!(
            "{name} is not a cluster of this federation: neither in `clusters` of the provider block nor in the file."
        ),
    );
}

/// A move keeps its VMID, unless the refresh found another guest with it on the target.
fn give_another_vmid(req: &PlanRequest, state: &mut Value, diags: &mut Diagnostics) {
    let Some(target) = text(state, "cluster") else { return };
    if !req.config.attr("vmid").is_null() || !Private::read(&req.prior_private).vmid_taken.contains(&target) {
        return;
    }
    let vmid = req.prior_state.attr("vmid").as_i64().unwrap_or_default();
    diags.warning_at(
        AttributePath::new("vmid"),
        format!("Virtual machine {} gets another VMID", model::called(state)),
        format!(
            "Another guest has VMID {vmid} on {target}. Give clusters disjoint `vmid_range`s, and moves keep theirs."
        ),
    );
    state.set_attr("vmid", Value::unknown());
}

/// A move keeps MAC addresses, unless the provider block declares the network there to take new ones alone; then those that are not
/// configured are made up.
fn give_other_macs(ready: Option<&Ready>, req: &PlanRequest, state: &mut Value) {
    let target = state.attr("cluster").as_str().and_then(|name| ClusterName::new(name).ok());
    let clusters = ready.map(|ready| &ready.federation().clusters);
    let Some(facts) = target.and_then(|target| clusters?.get(&target)) else { return };
    let Some(devices) = state.attr("network_devices").as_map() else { return };
    let new = |slot: &String, device: &Value| {
        let wish = NicRequest { network: text(device, "network"), bridge: text(device, "bridge"), vlan: None };
        let configured = req.config.attr("network_devices").attr(slot).attr("mac");
        configured.is_null() && facts.resolve_network(&wish).is_some_and(|on| on.macs == MacPolicy::New)
    };
    let devices: Vec<(String, Value)> = devices
        .iter()
        .map(|(slot, device)| {
            let device = device.clone();
            (slot.clone(), if new(slot, &device) { device.with_attr("mac", Value::unknown()) } else { device })
        })
        .collect();
    state.set_attr("network_devices", Value::map(devices));
}

/// What nothing can carry out. An error where the user's own edit asks for it; a warning where somebody else's change made the
/// difference, because an error would be in the way of everything else, `destroy` included. Nothing ever requires replacement.
struct Impossible<'a> {
    prior: &'a Value,
    private: Private,
    moving: bool,
}

impl Impossible<'_> {
    fn report(&self, planned: &Value, diags: &mut Diagnostics) {
        if !self.moving && differs(planned.attr("vmid"), self.prior.attr("vmid")) {
            let what = "A VMID can't change in place";
            let how = "It can change together with `cluster`; or replace the machine with -replace.";
            self.say("vmid", AttributePath::new("vmid"), planned.attr("vmid"), what, how.to_owned(), diags);
        }
        for (slot, disk) in planned.attr("disks").as_map().into_iter().flatten() {
            self.disk(slot, disk, diags);
        }
    }

    fn disk(&self, slot: &str, disk: &Value, diags: &mut Diagnostics) {
        let had = self.prior.attr("disks").attr(slot);
        if had.is_null() {
            return;
        }
        let at = |name: &str| AttributePath::new("disks").key(slot).attribute(name);
        let size = |disk: &Value| disk.attr("size").as_str().and_then(|size| size.parse::<federation::Bytes>().ok());
        if let (Some(new), Some(old)) = (size(disk), size(had))
            && new < old
        {
            let how = format!("{slot} has {old} and the configuration says {new}. Proxmox VE can't shrink a disk.");
            self.say(&disk_path(slot, "size"), at("size"), disk.attr("size"), "A disk can't shrink", how, diags);
        }
        // The volume's name tells whether it is a file: nothing else can have a format.
        let files = had.attr("volume").as_str().is_none_or(|volume| DiskSpec::new(volume).format().is_some());
        let stays = !self.moving && disk.attr("storage") == had.attr("storage");
        if let Some(format) = disk.attr("format").as_str().filter(|format| stays && !files && *format != "raw")
            && disk.attr("format") != had.attr("format")
        {
            let volume = text(had, "volume").unwrap_or_default();
            let how =
                format!("{slot} is {volume}, which is no file: only images in files have a format. Leave it out.");
            diags.error_at(at("format"), format!("A disk can't be {format} on its storage"), how);
        }
    }

    fn say(&self, path: &str, at: AttributePath, planned: &Value, what: &str, how: String, diags: &mut Diagnostics) {
        if self.private.is_drift(path, planned) {
            let left = "Somebody changed it in Proxmox VE. Apply leaves it as it is: write what is there in the configuration.";
            diags.warning_at(at, what, format!("{how} {left}"));
        } else {
            diags.error_at(at, what, how);
        }
    }
}

fn differs(planned: &Value, prior: &Value) -> bool {
    planned.is_known() && prior.is_known() && !planned.is_null() && !prior.is_null() && planned != prior
}
